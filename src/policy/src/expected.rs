//! A file of expected answers: what a policy must say, kept beside it and asked after each change.
//!
//! ```toml
//! [[test]]
//! principal = "spiffe://fieldseal.local/app"
//! action = "Decrypt"
//! key = "customer-pii"
//! table = "users"
//! column = "iban"
//! purpose = "support"
//! expect = "allow"
//! rule = "app-decrypt"
//! ```

use std::ops::Range;

use fieldseal_model::{
    AccessReason, Action, Column, EndUser, KeyName, PartitionClass, Principal, Purpose, Table,
    Ticket,
};
use toml::de::{DeTable, DeValue};

use crate::errors::{PolicyErrors, Problem, Source};
use crate::explain::Explanation;
use crate::policy::Policy;
use crate::request::{Asked, Subject};

/// Longest file of expected answers, in bytes.
pub const MAX_TEST_BYTES: u64 = 1024 * 1024;
/// Most expected answers in one file.
const MAX_TESTS: usize = 10_000;
const NAMES: [&str; 14] = [
    "name",
    "principal",
    "stranger",
    "action",
    "key",
    "table",
    "column",
    "partition",
    "purpose",
    "ticket",
    "end_user_issuer",
    "end_user",
    "expect",
    "rule",
];

/// An answer: allowed or not, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether the call is allowed.
    pub allowed: bool,
    /// The rule. Of an expected answer `None` if any will do. Empty if there is none: no rule permits
    /// it, and none forbids it.
    pub rule: Option<String>,
}

/// One expected answer, and what the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// Its first line in the file, from 1.
    pub line: usize,
    /// Its name; empty if it has none.
    pub name: String,
    /// Who would call.
    pub principal: Principal,
    /// What would be called.
    pub action: Action,
    /// What is expected.
    pub expected: Answer,
    /// What the policy says.
    pub found: Answer,
    /// Whether they are the same.
    pub passed: bool,
}

/// An expected answer as the file has it.
struct Expected {
    line: usize,
    name: String,
    asked: Asked,
    answer: Answer,
}

/// Asks a policy everything that a file expects of it.
///
/// # Errors
/// Everything that is wrong with the file, with its line: what is no TOML, names that it or the
/// policy does not know, and calls that cannot be made.
pub(crate) fn test(policy: &Policy, source: &Source) -> Result<Vec<Tested>, PolicyErrors> {
    let mut problems = Vec::new();
    let expected = parse(policy, source, &mut problems);
    PolicyErrors::check(problems)?;
    Ok(expected.into_iter().map(|expected| tested(policy, expected)).collect())
}

fn tested(policy: &Policy, expected: Expected) -> Tested {
    let Explanation { decision, rules, .. } = policy.explain(&expected.asked.as_request());
    let rule = match &decision {
        Ok(permit) => permit.rule(),
        Err(denial) => denial.rule().unwrap_or_default(),
    };
    // Several rules may decide; any of them is what was expected.
    let by = |wanted: &str| rule == wanted || rules.iter().any(|rule| rule.name == wanted);
    let Expected { line, name, asked, answer } = expected;
    let passed = decision.is_ok() == answer.allowed && answer.rule.as_deref().is_none_or(by);
    let found = Answer { allowed: decision.is_ok(), rule: Some(rule.to_owned()) };
    let (principal, action) = (asked.principal, asked.action);
    Tested { line, name, principal, action, expected: answer, found, passed }
}

fn parse(policy: &Policy, source: &Source, problems: &mut Vec<Problem>) -> Vec<Expected> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    problems.extend(errors.iter().map(|e| source.problem(e.span(), e.message())));
    if !errors.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (name, value) in table.get_ref() {
        let DeValue::Array(tests) = value.get_ref() else {
            let message = "the file is a list of [[test]]";
            problems.push(source.problem_at(name.span().start, message));
            continue;
        };
        if name.get_ref().as_ref() != "test" {
            let message =
                format!("{} is not known; the file is a list of [[test]]", name.get_ref());
            problems.push(source.problem_at(name.span().start, message));
            continue;
        }
        if tests.len() > MAX_TESTS {
            let message = format!("at most {MAX_TESTS} tests are allowed in a file");
            problems.push(source.problem_at(name.span().start, message));
            continue;
        }
        for test in tests.iter() {
            let DeValue::Table(parts) = test.get_ref() else {
                problems.push(source.problem_at(test.span().start, "a test is a table"));
                continue;
            };
            let entry = Entry { policy, source, parts, at: test.span() };
            found.extend(entry.expected(problems));
        }
    }
    if found.is_empty() && problems.is_empty() {
        problems.push(source.problem(None, "there is no [[test]] in it"));
    }
    found
}

/// One `[[test]]`.
struct Entry<'a> {
    policy: &'a Policy,
    source: &'a Source,
    parts: &'a DeTable<'a>,
    at: Range<usize>,
}

impl Entry<'_> {
    fn expected(&self, problems: &mut Vec<Problem>) -> Option<Expected> {
        let before = problems.len();
        for name in self.parts.keys() {
            let known = NAMES.contains(&name.get_ref().as_ref());
            if !known {
                let message =
                    format!("{} is not known; a test has {}", name.get_ref(), NAMES.join(", "));
                problems.push(self.source.problem_at(name.span().start, message));
            }
        }
        let principal = self.principal(problems);
        let action = self.parsed("action", problems, |text| {
            Action::from_name(text).ok_or_else(|| {
                let names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
                format!("an action is one of {}", names.join(", "))
            })
        });
        let key = self.parsed("key", problems, |t| KeyName::parse(t).map_err(|e| e.to_string()));
        let table = self.parsed("table", problems, |t| Table::parse(t).map_err(|e| e.to_string()));
        let column =
            self.parsed("column", problems, |t| Column::parse(t).map_err(|e| e.to_string()));
        let partition = self.parsed("partition", problems, partition);
        let reason = self.reason(problems);
        let answer = self.answer(problems);
        for (name, missing) in [
            ("principal", principal.is_none()),
            ("action", action.is_none()),
            ("expect", answer.is_none()),
        ] {
            if missing && !self.has(name) {
                self.wrong(problems, &format!("the test has no {name}"));
            }
        }
        if let Some(action) = action {
            let stated = ["key", "table", "column", "partition"].map(|part| self.has(part));
            if let Some(what) = misfit(action, stated) {
                self.wrong(problems, &format!("{} is about {what}", action.as_str()));
            }
        }
        if problems.len() > before {
            return None;
        }
        let (principal, action, answer) = (principal?, action?, answer?);
        let partition = partition.unwrap_or(PartitionClass::Default);
        let name = self.parsed("name", problems, |text| Ok(text.to_owned())).unwrap_or_default();
        let asked = Asked { principal, action, key, partition, table, column, reason };
        let line = self.source.problem_at(self.at.start, "").line;
        Some(Expected { line, name, asked, answer })
    }

    /// A caller that the policy knows, unless the test says that it is a stranger: a name with a
    /// slip in it would be refused, and that would be taken for the answer.
    fn principal(&self, problems: &mut Vec<Problem>) -> Option<Principal> {
        let stranger = match self.parts.get("stranger").map(|value| value.get_ref()) {
            None => false,
            Some(DeValue::Boolean(stranger)) => *stranger,
            Some(_) => {
                self.wrong(problems, "stranger is true or false");
                return None;
            }
        };
        self.parsed("principal", problems, |text| {
            let principal = Principal::parse(text).map_err(|e| e.to_string())?;
            match (self.policy.names(&principal), stranger) {
                (true, true) => Err(format!("{principal} is no stranger: the policy names it")),
                (false, false) => Err(format!(
                    "neither members.toml nor a rule names {principal}; if that is meant, say \
                     stranger = true"
                )),
                _ => Ok(principal),
            }
        })
    }

    fn reason(&self, problems: &mut Vec<Problem>) -> AccessReason {
        let purpose =
            self.parsed("purpose", problems, |t| Purpose::parse(t).map_err(|e| e.to_string()));
        let ticket =
            self.parsed("ticket", problems, |t| Ticket::parse(t).map_err(|e| e.to_string()));
        let issuer = self.parsed("end_user_issuer", problems, |text| {
            let known = self.policy.issuers().has(text);
            known.then(|| text.to_owned()).ok_or_else(|| "issuers.toml does not name it".to_owned())
        });
        let subject = self.parsed("end_user", problems, |text| {
            let fits = (1..=EndUser::MAX_BYTES).contains(&text.len());
            fits.then(|| text.to_owned()).ok_or_else(|| "it is too long or empty".to_owned())
        });
        if self.has("end_user") != self.has("end_user_issuer") {
            self.wrong(problems, "an end user is stated as end_user_issuer and end_user, both");
        }
        let end_user = issuer.zip(subject);
        AccessReason {
            purpose: purpose.unwrap_or_default(),
            ticket: ticket.unwrap_or_default(),
            // No record holds it, so that its token is of no use here.
            end_user: end_user.map(|(iss, sub)| EndUser::new(iss.into(), sub.into(), [0; 16])),
        }
    }

    fn answer(&self, problems: &mut Vec<Problem>) -> Option<Answer> {
        let allowed = self.parsed("expect", problems, |text| match text {
            "allow" => Ok(true),
            "deny" => Ok(false),
            _ => Err("it is \"allow\" or \"deny\"".to_owned()),
        });
        let rule = self.parsed("rule", problems, |text| match (text, allowed) {
            ("", Some(false)) => Ok(String::new()),
            ("", _) => Err("only a refusal can be without a rule".to_owned()),
            _ if self.policy.has_rule(text) => Ok(text.to_owned()),
            _ => Err(format!("the policy has no rule {text:?}")),
        });
        Some(Answer { allowed: allowed?, rule })
    }

    /// A text of the entry, if it is there and can be understood.
    fn parsed<T>(
        &self,
        name: &str,
        problems: &mut Vec<Problem>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.parts.get(name)?;
        let text = value.get_ref().as_str().ok_or_else(|| "it is a text in quotes".to_owned());
        match text.and_then(parse) {
            Ok(parsed) => Some(parsed),
            Err(what) => {
                let message = format!("{name}: {what}");
                problems.push(self.source.problem_at(value.span().start, message));
                None
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.parts.contains_key(name)
    }

    fn wrong(&self, problems: &mut Vec<Problem>, message: &str) {
        problems.push(self.source.problem_at(self.at.start, message));
    }
}

fn partition(text: &str) -> Result<PartitionClass, String> {
    match text {
        "default" => Ok(PartitionClass::Default),
        "named" => Ok(PartitionClass::Named),
        _ => Err("it is \"default\" or \"named\": policy never sees which".to_owned()),
    }
}

/// What a test of an action must state, if it states something else. `stated`: key, table, column,
/// partition.
fn misfit(action: Action, stated: [bool; 4]) -> Option<&'static str> {
    match (Subject::of(action), stated) {
        (Subject::Column, [true, true, true, _])
        | (Subject::Partition, [true, false, false, _])
        | (Subject::Key, [true, false, false, false])
        | (Subject::Installation, [false, false, false, false]) => None,
        (Subject::Column, _) => Some("one column: state key, table and column"),
        (Subject::Partition, _) => {
            Some("a partition of one key: state key, and no table or column")
        }
        (Subject::Key, _) => Some("one key: state key, and no table, column or partition"),
        (Subject::Installation, _) => {
            Some("the whole installation: state no key, table, column or partition")
        }
    }
}
