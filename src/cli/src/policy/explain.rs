//! `policy explain`: whether a call is allowed, and by which rule or why not.

use fieldseal_model::{
    AccessReason, Column, EndUser, KeyName, Partition, Purpose, Table as DbTable, Ticket,
};
use fieldseal_policy::{DenialCause, Explanation, NearMiss, Policy, Request, RuleText, Subject};
use serde_json::{Value, json};

use super::{invalid, source};
use crate::arguments::ExplainArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, visible};

/// The subject of a call, parsed.
struct Asked {
    key: Option<KeyName>,
    table: Option<DbTable>,
    column: Option<Column>,
    partition: Partition,
    reason: AccessReason,
}

/// Runs `policy explain`. A refused call ends the command as denied, after it is shown.
pub(super) fn run(arguments: &ExplainArguments, output: &Output) -> Result<(), Failure> {
    let asked = parse(arguments)?;
    let (settings, _) = source(&arguments.source)?;
    let policy = Policy::load(&settings).map_err(|e| invalid(&e))?;
    let found = policy.explain(&Request {
        principal: &arguments.principal,
        action: arguments.action,
        key: asked.key.as_ref(),
        partition: asked.partition.class(),
        table: asked.table.as_ref(),
        column: asked.column.as_ref(),
        reason: &asked.reason,
    });
    output.show(|| explanation_json(&found), || text(arguments, &found))?;
    match &found.decision {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::new(Exit::Denied, "PERMISSION_DENIED", summary(&found))),
    }
}

/// The parts that calls of this action have, neither more nor fewer.
fn parse(arguments: &ExplainArguments) -> Result<Asked, Failure> {
    let action = arguments.action.as_str();
    let (key, table, column) = (&arguments.key, &arguments.table, &arguments.column);
    let stated = [key.is_some(), table.is_some(), column.is_some(), arguments.partition.is_some()];
    let fits = match (Subject::of(arguments.action), stated) {
        (Subject::Column, [true, true, true, _]) => Ok(()),
        (Subject::Column, _) => Err("one column: state --key, --table and --column"),
        (Subject::Partition, [true, false, false, _]) => Ok(()),
        (Subject::Partition, _) => {
            Err("a partition of one key: state --key, and no table or column")
        }
        (Subject::Key, [true, false, false, false]) => Ok(()),
        (Subject::Key, _) => Err("one key: state --key, and no table, column or partition"),
        (Subject::Installation, [false, false, false, false]) => Ok(()),
        (Subject::Installation, _) => {
            Err("the whole installation: state no key, table, column or partition")
        }
    };
    fits.map_err(|what| Failure::usage("SUBJECT_INVALID", format!("{action} is about {what}")))?;
    Ok(Asked {
        key: key.as_deref().map(KeyName::parse).transpose()?,
        table: table.as_deref().map(DbTable::parse).transpose()?,
        column: column.as_deref().map(Column::parse).transpose()?,
        partition: Partition::parse(arguments.partition.as_deref().unwrap_or_default())?,
        reason: AccessReason {
            purpose: Purpose::parse(&arguments.reason.purpose)?,
            ticket: Ticket::parse(&arguments.reason.ticket)?,
            end_user: match arguments.end_user.as_slice() {
                // No record holds it, so that its token is of no use here.
                [issuer, subject] => {
                    Some(EndUser::new(issuer.as_str().into(), subject.as_str().into(), [0; 16]))
                }
                _ => None,
            },
        },
    })
}

/// Why, in one sentence.
fn summary(found: &Explanation) -> String {
    let named = |rule: Option<&str>| rule.unwrap_or("a rule").to_owned();
    match &found.decision {
        Ok(permit) => format!("permitted by {}", permit.rule()),
        Err(denial) => match denial.cause() {
            DenialCause::Forbidden => format!("forbidden by {}", named(denial.rule())),
            DenialCause::NoRule => "no rule permits it".to_owned(),
            DenialCause::EvaluationError => {
                format!("{} cannot be evaluated, and that refuses", named(denial.rule()))
            }
        },
    }
}

fn text(arguments: &ExplainArguments, found: &Explanation) -> String {
    let mut table = Table::bare();
    let word = if found.decision.is_ok() { "ALLOWED" } else { "REFUSED" };
    table.row([word, &summary(found)]);
    let roles = match found.roles.as_slice() {
        [] => "no role in members.toml".to_owned(),
        roles => roles.join(", "),
    };
    table.row(["caller", arguments.principal.as_str()]);
    table.row(["roles", &roles]);
    let mut shown = table.text();
    for rule in &found.rules {
        shown.push_str(&format!("\n{}\n", rule_text(rule)));
        if let Some(error) = &rule.error {
            shown.push_str(&format!("  it cannot be evaluated: {}\n", visible(error)));
        }
    }
    if found.rules.is_empty() {
        shown.push_str(&near_text(arguments, &found.near));
    }
    shown
}

fn near_text(arguments: &ExplainArguments, near: &[NearMiss]) -> String {
    let action = arguments.action.as_str();
    if near.is_empty() {
        return format!("\nno rule permits {action} to anybody\n");
    }
    let mut shown = format!("\nrules that permit {action}, and what does not hold here\n");
    for miss in near {
        shown.push_str(&format!("\n{}\n", rule_text(&miss.rule)));
        for part in &miss.missing {
            shown.push_str(&format!("  does not hold: {}\n", visible(part)));
        }
    }
    shown
}

/// Where the rule stands, and its text.
fn rule_text(rule: &RuleText) -> String {
    let lines: Vec<_> = rule.text.lines().map(|line| format!("  {}", visible(line))).collect();
    format!("{}:{}\n{}", rule.file, rule.line, lines.join("\n"))
}

fn explanation_json(found: &Explanation) -> Value {
    let rule = |rule: &RuleText| {
        json!({
            "name": rule.name, "file": rule.file, "line": rule.line, "text": rule.text,
            "error": rule.error,
        })
    };
    let near = |miss: &NearMiss| json!({ "rule": rule(&miss.rule), "missing": miss.missing });
    let denial = found.decision.as_ref().err();
    json!({
        "allowed": found.decision.is_ok(),
        "rule": match &found.decision {
            Ok(permit) => Some(permit.rule()),
            Err(denial) => denial.rule(),
        },
        "cause": denial.map(|denial| denial.cause().as_str()),
        "roles": found.roles,
        "rules": found.rules.iter().map(rule).collect::<Vec<_>>(),
        "near": found.near.iter().map(near).collect::<Vec<_>>(),
    })
}
