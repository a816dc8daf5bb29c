//! What is allowed in a policy and is hardly meant.

use fieldseal_model::PrincipalKind;

use crate::cedar::{Rules, Written, check_schema_file};
use crate::defaults::{MEMBERS_FILE, SCHEMA_FILE};
use crate::errors::{Problem, Source};
use crate::members::Members;

/// What is hardly meant, sorted by file and line. `kind`: what the sidecar takes callers' names from.
pub(crate) fn warnings(
    sources: &[Source],
    rules: &Rules,
    kind: Option<PrincipalKind>,
) -> Vec<Problem> {
    let mut found: Vec<Problem> = rules.written().filter_map(|rule| open_to_all(&rule)).collect();
    if let Some(file) = sources.iter().find(|source| source.name == MEMBERS_FILE) {
        let members = Members::parse(file, &mut Vec::new());
        found.extend(roles_of_nobody(file, &members));
        if let Some(kind) = kind {
            found.extend(named_otherwise(file, &members, kind));
        }
    }
    let schema = sources.iter().find(|source| source.name == SCHEMA_FILE);
    found.extend(schema.and_then(check_schema_file));
    found.sort();
    found
}

/// A permit for every principal, without any condition.
fn open_to_all(rule: &Written<'_>) -> Option<Problem> {
    let part = |name: &str| rule.json.get(name);
    let anybody = part("principal")?.get("op")? == "All";
    let always = part("conditions")?.as_array()?.is_empty();
    (rule.permits && anybody && always).then(|| Problem {
        file: rule.file.to_owned(),
        line: rule.line,
        column: 1,
        message: format!(
            "{} permits this to every caller that has a certificate; name a role if that is not meant",
            rule.name
        ),
    })
}

fn roles_of_nobody(file: &Source, members: &Members) -> Vec<Problem> {
    let has = |role: &String| members.by_principal.values().any(|roles| roles.contains(role));
    let nobody = members.roles.iter().filter(|(role, _)| !has(role));
    nobody
        .map(|(role, span)| file.problem_at(span.start, format!("nobody has the role {role}")))
        .collect()
}

/// Members whom no certificate can name. An offline command does not come with one.
fn named_otherwise(file: &Source, members: &Members, kind: PrincipalKind) -> Vec<Problem> {
    let prefix = kind.prefix();
    let other = members.mentions.iter().filter(|(principal, _)| {
        let stated = principal.as_str().split_once(':').map(|(stated, _)| stated);
        !matches!(stated, Some("local")) && stated != Some(prefix)
    });
    other
        .map(|(principal, at)| {
            let message = format!(
                "tls.principal takes the names of callers of kind {prefix}, so nobody is {principal}"
            );
            file.problem_at(*at, message)
        })
        .collect()
}
