//! A loaded policy.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fieldseal_identity::{File, ISSUERS_FILE, Issuers};
use fieldseal_model::{Action, Principal, PrincipalKind};
use sha2::{Digest, Sha256};

use crate::cache::Decisions;
use crate::cedar::Rules;
use crate::defaults::SCHEMA;
use crate::errors::{PolicyErrors, Problem, Source};
use crate::expected::{self, Tested};
use crate::explain::{self, Explanation};
use crate::lint;
use crate::load::{self, Settings};
use crate::outcome::Outcome;
use crate::permit::{Denial, DenialCause, Permit};
use crate::request::{Asked, Request};
use crate::who_can::{self, Grant, Question};

/// The generation that the next loaded policy gets.
static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);

/// A loaded and checked policy with its decision cache. It never changes: a reload makes another.
pub struct Policy {
    rules: Rules,
    issuers: Issuers,
    decisions: Decisions,
    digest: [u8; 32],
    generation: u64,
}

/// A policy without mistakes, and what in it is hardly meant.
#[derive(Debug)]
pub struct Checked {
    /// The policy.
    pub policy: Policy,
    /// What is allowed and hardly meant, sorted by file and line.
    pub warnings: Vec<Problem>,
}

impl Policy {
    /// Loads the policy of a directory: every `*.cedar` file, `members.toml`, and, if there are any,
    /// `issuers.toml` with its `*.jwks.json` and `schema.cedarschema`.
    ///
    /// # Errors
    /// Everything that is wrong, with file and line: what cannot be read or parsed, what the schema
    /// does not know, rules without a name of their own, roles that only one side knows. The schema
    /// is the one that is built in; the file is a copy for editors.
    pub fn load(settings: &Settings) -> Result<Self, PolicyErrors> {
        load::on_own_stack(|| {
            let mut problems = Vec::new();
            let sources = load::read_dir(&settings.dir, &mut problems)?;
            Self::build(&sources, problems)
        })
    }

    /// The same, for whoever writes it. `kind` is what the sidecar takes callers' names from, if that
    /// is known: members of other kinds are told.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn check(
        settings: &Settings,
        kind: Option<PrincipalKind>,
    ) -> Result<Checked, PolicyErrors> {
        load::on_own_stack(|| {
            let mut problems = Vec::new();
            let sources = load::read_dir(&settings.dir, &mut problems)?;
            let policy = Self::build(&sources, problems)?;
            let warnings = lint::warnings(&sources, &policy.rules, kind);
            Ok(Checked { policy, warnings })
        })
    }

    /// The same, with the files that it was made of: name and text, in the order of the digest.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn load_with_files(
        settings: &Settings,
    ) -> Result<(Self, Vec<(String, String)>), PolicyErrors> {
        load::on_own_stack(|| {
            let mut problems = Vec::new();
            let sources = load::read_dir(&settings.dir, &mut problems)?;
            let policy = Self::build(&sources, problems)?;
            let files = sources.into_iter().map(|source| (source.name, source.text));
            Ok((policy, files.collect()))
        })
    }

    /// Loads a policy from texts, each with its file name: what [`Policy::load`] would find in a
    /// directory, or the answer of [`crate::default_files`].
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn from_texts<N: AsRef<str>, T: Into<String>>(
        files: impl IntoIterator<Item = (N, T)>,
    ) -> Result<Self, PolicyErrors> {
        let mut sources: Vec<Source> = files
            .into_iter()
            .map(|(name, text)| {
                let name = name.as_ref().to_owned();
                Source { shown: name.clone(), name, text: text.into() }
            })
            .collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        load::on_own_stack(|| Self::build(&sources, Vec::new()))
    }

    fn build(sources: &[Source], mut problems: Vec<Problem>) -> Result<Self, PolicyErrors> {
        let rules = Rules::parse(sources, &mut problems);
        let issuers = issuers(sources, &mut problems);
        PolicyErrors::check(problems)?;
        Ok(Self {
            rules: rules?,
            issuers,
            decisions: Decisions::new(),
            digest: digest(sources),
            generation: NEXT_GENERATION.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Decides. What no rule permits is denied, a `forbid` beats every `permit`, and if any rule
    /// cannot be evaluated the answer is a denial whatever the others say.
    ///
    /// # Errors
    /// The denial, with its cause.
    pub fn decide(&self, request: &Request<'_>) -> Result<Permit, Denial> {
        if let Some(decision) = self.decisions.get(request) {
            // INVARIANT: what was decided holds for the caller's name; a record says which certificate.
            let by = request.principal;
            return decision.map(|it| it.asked_by(by)).map_err(|it| it.asked_by(by));
        }
        let decision = self.evaluate(request);
        self.decisions.insert(Asked::new(request), decision.clone());
        decision
    }

    /// Decides without the cache.
    fn evaluate(&self, request: &Request<'_>) -> Result<Permit, Denial> {
        let asked = Asked::new(request);
        let denied = |cause, rule| Err(Denial::new(asked.clone(), cause, rule, self.generation));
        match self.rules.evaluate(request) {
            Outcome::Permitted(rule) => Ok(Permit::new(asked, rule, self.generation)),
            Outcome::Forbidden(rule) => denied(DenialCause::Forbidden, Some(rule)),
            Outcome::NoRule => denied(DenialCause::NoRule, None),
            Outcome::Failed(rule) => denied(DenialCause::EvaluationError, rule),
        }
    }

    /// Decides, and says why. It asks every rule several times: for people, not for every call.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        explain::explain(&self.rules, request, self.evaluate(request))
    }

    /// Everybody who may do what is asked about, as far as rules and members say it: what a call must
    /// state besides stands with each. A key may want a purpose, a ticket or an end user of its own.
    #[must_use]
    pub fn who_can(&self, question: &Question) -> Vec<Grant> {
        who_can::who_can(&self.rules, question)
    }

    /// The actions that a name of a policy stands for: `Decrypt` for one, `decrypt` for its group.
    /// None if there is no such name.
    #[must_use]
    pub fn actions_of(&self, name: &str) -> Vec<Action> {
        who_can::actions_of(&self.rules, name)
    }

    /// Asks everything that a text of expected answers expects. `shown` is its file's name in messages.
    ///
    /// # Errors
    /// Everything that is wrong with the text, with its line: what is no TOML, names that it or the
    /// policy does not know, and calls that cannot be made.
    pub fn test(&self, shown: &str, text: String) -> Result<Vec<Tested>, PolicyErrors> {
        let (name, shown) = (String::new(), shown.to_owned());
        expected::test(self, &Source { name, shown, text })
    }

    /// Whether a rule or `members.toml` names a caller.
    pub(crate) fn names(&self, principal: &Principal) -> bool {
        self.rules.principals().any(|member| member == principal)
            || who_can::named(&self.rules).contains(principal.as_str())
    }

    pub(crate) fn has_rule(&self, name: &str) -> bool {
        self.rules.written().any(|rule| rule.name == name)
    }

    /// SHA-256 over the schema and every file's name and text: the same files, the same digest. The
    /// start record of the audit log holds it.
    #[must_use]
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whose tokens about end users are taken.
    #[must_use]
    pub const fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// How many rules it has.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules.written().count()
    }

    /// The number of this policy in this process: 1 for the first that was loaded, larger for every
    /// later one.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// The issuers of `issuers.toml`; none without that file.
fn issuers(sources: &[Source], problems: &mut Vec<Problem>) -> Issuers {
    let Some(source) = sources.iter().find(|source| source.name == ISSUERS_FILE) else {
        return Issuers::default();
    };
    let files = sources.iter().map(|source| File { name: &source.name, text: &source.text });
    let directory = Path::new(&source.shown).parent().unwrap_or(Path::new(""));
    Issuers::parse(&source.text, &files.collect::<Vec<_>>(), directory).unwrap_or_else(|wrong| {
        problems.extend(wrong.into_iter().map(|w| source.problem_at(w.at, w.message)));
        Issuers::default()
    })
}

fn digest(sources: &[Source]) -> [u8; 32] {
    let files = sources.iter().map(|source| (source.name.as_str(), source.text.as_str()));
    digest_under(SCHEMA, files)
}

/// The digest of these files, in the order of their names, for a program that was built with this schema:
/// an earlier one had another.
pub fn digest_under<'a>(
    schema: &str,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(b"fieldseal/v1/policy");
    part(schema.as_bytes());
    for (name, text) in files {
        part(name.as_bytes());
        part(text.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
