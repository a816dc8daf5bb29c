//! `policy who-can`: everybody who may do something, and what a call must state besides.

use fieldseal_model::{Column, KeyName, PrincipalKind, Table as DbTable, hex};
use fieldseal_policy::{Callers, Grant, Policy, Question, Subject};
use serde_json::{Value, json};

use super::{invalid, source};
use crate::arguments::WhoCanArguments;
use crate::failure::Failure;
use crate::output::{self, Output, Table, note};
use crate::questions::csv_cell;

/// What no file of the policy says.
const REMARK: &str = "a key can want a purpose, a ticket or an end user of its own: \
                      fieldseal key show KEY";
const COLUMNS: [&str; 6] = ["who", "roles", "calls", "key", "rule", "only_with"];

/// Runs `policy who-can`.
pub(super) fn run(arguments: &WhoCanArguments, output: &Output) -> Result<(), Failure> {
    let (settings, kind) = source(&arguments.source)?;
    let policy = Policy::load(&settings).map_err(|e| invalid(&e))?;
    let question = question(arguments, &policy, kind)?;
    let grants = policy.who_can(&question);
    let about_keys =
        question.actions.iter().any(|action| Subject::of(*action) != Subject::Installation);
    let remark = about_keys.then_some(REMARK);
    if output.is_csv() {
        let rows = grants.iter().flat_map(|grant| rows(grant, ""));
        let lines = rows.map(|row| row.map(|cell| csv_cell(&cell)).join(","));
        let lines: Vec<String> = std::iter::once(COLUMNS.join(",")).chain(lines).collect();
        output::bytes(format!("{}\n", lines.join("\n")).as_bytes())?;
    } else {
        output.show(|| answer_json(&policy, &grants, remark), || text(&grants))?;
    }
    if !output.is_json() {
        remark.iter().for_each(|remark| note(remark));
        let digest = hex::encode(&policy.digest());
        note(&format!("these files are policy {digest}; fieldseal status names the one in force"));
    }
    Ok(())
}

fn question(
    arguments: &WhoCanArguments,
    policy: &Policy,
    kind: Option<PrincipalKind>,
) -> Result<Question, Failure> {
    let mut actions = policy.actions_of(&arguments.action);
    if actions.is_empty() {
        let what = format!("{} is neither a call nor a group of calls", arguments.action);
        return Err(Failure::usage("ACTION_UNKNOWN", what)
            .advise("a call is written as in the log (Decrypt), a group as in rules (decrypt)"));
    }
    let fits = |about: Subject| match (&arguments.field, &arguments.key) {
        (Some(_), _) => about == Subject::Column,
        (None, Some(_)) => matches!(about, Subject::Key | Subject::Partition),
        (None, None) => about != Subject::Column,
    };
    actions.retain(|action| fits(Subject::of(*action)));
    if actions.is_empty() {
        let what = match (&arguments.field, &arguments.key) {
            (Some(_), _) => "is not about a column; leave TABLE.COLUMN away",
            (None, Some(_)) => "is not about a key alone",
            (None, None) => "is about one column: state TABLE.COLUMN",
        };
        return Err(Failure::usage("SUBJECT_INVALID", format!("{} {what}", arguments.action)));
    }
    let field = match &arguments.field {
        Some((table, column)) => Some((DbTable::parse(table)?, Column::parse(column)?)),
        None => None,
    };
    let key = arguments.key.as_deref().map(KeyName::parse).transpose()?;
    Ok(Question { actions, key, field, kind })
}

/// A row for each caller. `any` stands for every key that the conditions allow.
fn rows(grant: &Grant, any: &str) -> Vec<[String; 6]> {
    let callers = match &grant.callers {
        Callers::Named(callers) => callers.iter().map(ToString::to_string).collect(),
        Callers::Others(kind) => vec![others(*kind)],
    };
    let actions: Vec<_> = grant.actions.iter().map(|action| action.as_str()).collect();
    let about_keys =
        grant.actions.iter().any(|action| Subject::of(*action) != Subject::Installation);
    let any = if about_keys { any } else { "" };
    let key = grant.key.as_ref().map_or_else(|| any.to_owned(), |key| key.as_str().to_owned());
    let wanted = grant.conditions.iter().map(|condition| match condition.rule == grant.rule {
        true => condition.text.clone(),
        false => format!("{} ({})", condition.text, condition.rule),
    });
    let (roles, actions) = (grant.roles.join(" "), actions.join(" "));
    let wanted = wanted.collect::<Vec<_>>().join("; ");
    let row = |who| {
        [who, roles.clone(), actions.clone(), key.clone(), grant.rule.clone(), wanted.clone()]
    };
    callers.into_iter().map(row).collect()
}

fn others(kind: PrincipalKind) -> String {
    match kind {
        PrincipalKind::Local => "any user of this machine".to_owned(),
        kind => format!("any other {} caller", kind.prefix()),
    }
}

fn text(grants: &[Grant]) -> String {
    if grants.is_empty() {
        return "nobody".to_owned();
    }
    let mut table = Table::new(&["WHO", "ROLES", "CALLS", "KEY", "RULE", "ONLY WITH"]);
    for row in grants.iter().flat_map(|grant| rows(grant, "any")) {
        table.row(row.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }
    table.text()
}

fn answer_json(policy: &Policy, grants: &[Grant], remark: Option<&str>) -> Value {
    let grant = |grant: &Grant| {
        let (callers, others) = match &grant.callers {
            Callers::Named(callers) => (callers.iter().map(ToString::to_string).collect(), None),
            Callers::Others(kind) => (Vec::new(), Some(kind.prefix())),
        };
        let conditions = grant.conditions.iter().map(|condition| {
            json!({ "text": condition.text, "cedar": condition.cedar, "rule": condition.rule })
        });
        let actions: Vec<_> = grant.actions.iter().map(|action| action.as_str()).collect();
        json!({
            "callers": callers, "any_other_of_kind": others, "roles": grant.roles,
            "calls": actions, "key": grant.key.as_ref().map(|key| key.as_str()),
            "rule": grant.rule, "only_with": conditions.collect::<Vec<_>>(),
        })
    };
    json!({
        "policy_digest": hex::encode(&policy.digest()),
        "rows": grants.iter().map(grant).collect::<Vec<_>>(),
        "remarks": remark.into_iter().collect::<Vec<_>>(),
    })
}
