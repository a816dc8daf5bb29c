//! `members.toml`: who has which role.
//!
//! ```toml
//! app = [
//!     "spiffe://fieldseal.local/app",
//! ]
//! ```

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use fieldseal_model::Principal;
use toml::de::{DeTable, DeValue};

use crate::defaults::MEMBERS_FILE;
use crate::errors::{Problem, Source, whole_file};

/// Most memberships in one file.
const MAX_MEMBERS: usize = 10_000;
/// Most bytes in the name of a role or a rule.
pub(crate) const MAX_NAME_BYTES: usize = 64;

/// Roles and who has them.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// True if the file could not be read to its end, so that roles may be missing here.
    pub(crate) partial: bool,
    /// Every principal with the place of each mention.
    pub(crate) mentions: Vec<(Principal, usize)>,
    /// Every role of the file, with its place.
    pub(crate) roles: BTreeMap<String, Range<usize>>,
    /// The roles of each principal, in the order of their names.
    pub(crate) by_principal: HashMap<Principal, Vec<String>>,
}

/// Rules name roles, and there is no file that says who has them.
pub(crate) fn missing(sources: &[Source]) -> Problem {
    let beside = sources.first().map_or(MEMBERS_FILE, |source| source.shown.as_str());
    let shown = Path::new(beside).with_file_name(MEMBERS_FILE).display().to_string();
    whole_file(
        &shown,
        "the file is missing, and rules name roles; put it back, or write it with one line \
         role = [\"caller\"] for each role",
    )
}

impl Members {
    /// Parses the file and reports everything that is wrong with it.
    pub(crate) fn parse(source: &Source, problems: &mut Vec<Problem>) -> Self {
        let mut members = Self::default();
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        problems.extend(errors.iter().map(|e| source.problem(e.span(), e.message())));
        if !errors.is_empty() {
            members.partial = true;
            return members;
        }
        let mut count = 0_usize;
        for (role, value) in table.get_ref() {
            let name = role.get_ref().as_ref();
            if !is_name(name) {
                let message = "a role's name is 1 to 64 characters of a-z, 0-9 and -, \
                               beginning with a letter";
                problems.push(source.problem_at(role.span().start, message));
            }
            members.roles.insert(name.to_owned(), role.span());
            let DeValue::Array(items) = value.get_ref() else {
                let message = format!("{name} must be a list of principals in double quotes");
                problems.push(source.problem_at(value.span().start, message));
                continue;
            };
            for item in items.iter() {
                count += 1;
                let at = item.span().start;
                match members.add(name, item.get_ref()) {
                    Ok(principal) => members.mentions.push((principal, at)),
                    Err(message) => problems.push(source.problem_at(at, message)),
                }
            }
        }
        if count > MAX_MEMBERS {
            let message = format!("{count} members, and at most {MAX_MEMBERS} are allowed");
            problems.push(source.problem(None, message));
        }
        members
    }

    fn add(&mut self, role: &str, item: &DeValue<'_>) -> Result<Principal, String> {
        let text = item.as_str().ok_or("a member is a principal in double quotes")?;
        let principal = Principal::parse(text).map_err(|e| e.to_string())?;
        let roles = self.by_principal.entry(principal.clone()).or_default();
        if roles.iter().any(|r| r == role) {
            return Err(format!("this principal is in {role} already; remove one of the lines"));
        }
        roles.push(role.to_owned());
        Ok(principal)
    }
}

/// `[a-z][a-z0-9-]{0,63}`: the names of roles and rules, so that both stand in logs as they are.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Members, Vec<String>) {
        let shown = "members.toml".to_owned();
        let source = Source { name: shown.clone(), shown, text: text.to_owned() };
        let mut problems = Vec::new();
        let members = Members::parse(&source, &mut problems);
        (members, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_bad_line_is_reported_with_its_place() {
        let (_, problems) = parse(
            "app = [\n  \"spiffe://d/app\",\n  \"app\",\n  7,\n  \"spiffe://d/app\",\n]\n\
             Ops = []\naudit = \"dns:a\"\n",
        );
        let places: Vec<_> = problems.iter().map(|p| p.split(' ').next()).collect();
        assert_eq!(
            places,
            [
                "members.toml:7:1:",
                "members.toml:3:3:",
                "members.toml:4:3:",
                "members.toml:5:3:",
                "members.toml:8:9:"
            ]
            .map(Some),
            "{problems:#?}"
        );
    }

    #[test]
    fn broken_toml_is_reported_with_its_line() {
        let (members, problems) = parse("app = [\"dns:a\"]\napp = []\n= 3\n");
        assert!(members.by_principal.is_empty());
        assert!(problems.iter().any(|p| p.starts_with("members.toml:2:")), "{problems:#?}");
        assert!(problems.iter().any(|p| p.starts_with("members.toml:3:")), "{problems:#?}");
    }

    #[test]
    fn a_principal_may_have_several_roles() {
        let (members, problems) = parse("b = [\"dns:x\"]\na = [\"dns:x\", \"dns:y\"]\n");
        assert!(problems.is_empty(), "{problems:#?}");
        let x = Principal::parse("dns:x").ok().and_then(|p| members.by_principal.get(&p).cloned());
        assert_eq!(x.as_deref(), Some(["a".to_owned(), "b".to_owned()].as_slice()));
    }
}
