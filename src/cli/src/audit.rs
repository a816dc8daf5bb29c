//! Events, one a line: `audit list`, `tail` and `export`.

pub(crate) mod export;
mod list;
pub(crate) mod tail;

use fieldseal_api::v1;
use fieldseal_model::hex;
use serde_json::{Map, Value, json};

use crate::arguments::{FilterArguments, Outcome};
use crate::keys::number;
use crate::output::{Table, shortened};
use crate::questions::Zone;
use crate::times;
pub(crate) use list::{query, run as list};

/// Events on a page; the sidecar gives no more at a time.
const PAGE: u32 = 1000;
/// Digits of a token or digest that are shown: enough to tell rows apart. JSON has them all.
const TOKEN_DIGITS: usize = 12;
/// Columns of a note that are shown. JSON has all of it.
const NOTE_COLUMNS: usize = 72;

/// What a line of an event says.
const HEADER: [&str; 10] =
    ["TIME", "EVENT", "WHO", "WHAT", "KEY", "FIELD", "ROW TOKEN", "WHY", "RULE", "OUTCOME"];

/// A query that is narrowed so.
fn narrowed(filter: &FilterArguments) -> v1::AuditEventQuery {
    let outcome = |outcome: &Outcome| match outcome {
        Outcome::Ok => v1::AuditOutcome::Ok,
        Outcome::Denied => v1::AuditOutcome::Denied,
        Outcome::Failed => v1::AuditOutcome::Failed,
        Outcome::Partial => v1::AuditOutcome::Partial,
    };
    v1::AuditEventQuery {
        principals: filter.principal.clone(),
        actions: filter.action.clone(),
        keys: filter.key.iter().map(|k| format!("keys/{k}")).collect(),
        table: filter.table.clone().unwrap_or_default(),
        column: filter.column.clone().unwrap_or_default(),
        partition: filter.partition.clone(),
        row: filter.row.clone(),
        outcomes: filter.outcome.iter().map(|o| outcome(o).into()).collect(),
        end_user_issuer: filter.end_user.first().cloned().unwrap_or_default(),
        end_user_subject: filter.end_user.get(1).cloned().unwrap_or_default(),
        certificate: filter.certificate.wire(),
        ..Default::default()
    }
}

/// Events, one a line; with `items` every item of a batch has a line of its own.
pub(crate) fn table(events: &[v1::AuditEvent], items: bool, zone: Zone) -> Table {
    let mut table = Table::new(&HEADER);
    let lines = events.iter().flat_map(|event| lines(event, items, zone));
    lines.for_each(|line| table.row(line));
    table
}

/// The lines of an event: one, or one for each item.
fn lines(event: &v1::AuditEvent, items: bool, zone: Zone) -> Vec<[String; 10]> {
    if items && !event.items.is_empty() {
        let alone = event.items.iter().map(std::slice::from_ref);
        return alone.map(|item| line(event, item, zone)).collect();
    }
    vec![line(event, &event.items, zone)]
}

/// A line for these items together: what all have, and where they differ each once.
fn line(event: &v1::AuditEvent, items: &[v1::AuditEventItem], zone: Zone) -> [String; 10] {
    let what = match event.action.as_str() {
        _ if !matches!(event.kind.as_str(), "" | "CALL") => event.kind.clone(),
        "" => event.kind.clone(),
        action if event.item_count <= 1 => action.to_owned(),
        action => format!("{action} ×{}", event.item_count),
    };
    let alone = match items {
        [only] => Some(only),
        _ => None,
    };
    let rule = match each_once(items, |i| i.policy_rule.clone()) {
        none if none.is_empty() => event.policy_rule.clone(),
        rule => rule,
    };
    [
        event.event_time.as_ref().map(|at| zone.show(at)).unwrap_or_default(),
        event.name.rsplit('/').next().unwrap_or_default().to_owned(),
        event.principal.clone(),
        what,
        each_once(items, key),
        each_once(items, field),
        alone.map(|i| token(&i.row_token)).unwrap_or_default(),
        why(event),
        if rule.is_empty() { "-".to_owned() } else { rule },
        ended(event, alone),
    ]
}

/// What the items say, each once, in their order.
fn each_once(items: &[v1::AuditEventItem], say: fn(&v1::AuditEventItem) -> String) -> String {
    let mut said: Vec<String> = Vec::new();
    for text in items.iter().map(say).filter(|text| !text.is_empty()) {
        if !said.contains(&text) {
            said.push(text);
        }
    }
    said.join(",")
}

/// `customers.email`: table and column.
fn field(item: &v1::AuditEventItem) -> String {
    match (item.table.as_str(), item.column.as_str()) {
        ("", "") => String::new(),
        // A question can be about a table as a whole.
        (table, "") => table.to_owned(),
        (table, column) => format!("{table}.{column}"),
    }
}

/// `customer-pii/2`: the key and the version that was reached.
fn key(item: &v1::AuditEventItem) -> String {
    let name = item.key.strip_prefix("keys/").unwrap_or(&item.key);
    match number(&item.key_version) {
        none if none.is_empty() => name.to_owned(),
        version => format!("{name}/{version}"),
    }
}

fn token(token: &str) -> String {
    token.chars().take(TOKEN_DIGITS).collect()
}

fn why(event: &v1::AuditEvent) -> String {
    match (event.purpose.as_str(), event.ticket.as_str()) {
        ("", "") => "-".to_owned(),
        (purpose, "") => purpose.to_owned(),
        ("", ticket) => ticket.to_owned(),
        (purpose, ticket) => format!("{purpose} {ticket}"),
    }
}

fn ended(event: &v1::AuditEvent, item: Option<&v1::AuditEventItem>) -> String {
    if event.kind == "POLICY_RELOADED" {
        return match event.policy_digest.as_str() {
            "" => format!(
                "FAILED {}",
                shortened(event.note.lines().next().unwrap_or_default(), NOTE_COLUMNS)
            ),
            now => format!("OK {} → {}", token(&event.previous_policy_digest), token(now)),
        };
    }
    let how = match item {
        Some(item) if item.redacted => format!("{} REDACTED", outcome(item.outcome())),
        Some(item) if item.error_reason.is_empty() => outcome(item.outcome()),
        Some(item) => format!("{} {}", outcome(item.outcome()), item.error_reason),
        None => outcome(event.outcome()),
    };
    match item.map_or(event.call_count, |item| call_count(event, item)) {
        0 | 1 => how,
        calls => format!("{how} ×{calls}"),
    }
}

/// In how many calls an item was: in one, or in some of the refusals that were counted.
pub(crate) fn call_count(event: &v1::AuditEvent, item: &v1::AuditEventItem) -> i64 {
    if item.call_count > 0 { item.call_count } else { event.call_count }
}

/// `OK`, `DENIED`, `FAILED` or `PARTIAL`.
pub(crate) fn outcome(outcome: v1::AuditOutcome) -> String {
    let name = outcome.as_str_name();
    name.strip_prefix("AUDIT_OUTCOME_").unwrap_or(name).to_owned()
}

fn event_json(event: &v1::AuditEvent, zone: Zone) -> Value {
    let leaf = hex::encode(&event.leaf_hash);
    let item = |item: &v1::AuditEventItem| {
        json!({
            "key": item.key, "key_version": item.key_version, "table": item.table,
            "column": item.column, "partition_token": item.partition_token,
            "row_token": item.row_token, "outcome": outcome(item.outcome()),
            "error_reason": item.error_reason, "policy_rule": item.policy_rule,
            "call_count": call_count(event, item),
            "redacted": item.redacted,
        })
    };
    let settings = event.key_settings.iter().map(|set| (set.name.clone(), json!(set.value)));
    json!({
        "name": event.name, "event_time": zone.json(event.event_time.as_ref()),
        "kind": event.kind, "principal": event.principal, "action": event.action,
        "end_user_token": event.end_user_token,
        "call_count": event.call_count, "first_time": zone.json(event.first_time.as_ref()),
        "outcome": outcome(event.outcome()), "purpose": event.purpose, "ticket": event.ticket,
        "policy_rule": event.policy_rule, "item_count": event.item_count,
        "items": event.items.iter().map(item).collect::<Vec<_>>(),
        "leaf_hash": leaf, "note": event.note,
        "key_settings": settings.collect::<serde_json::Map<_, _>>(), "policy_digest": event.policy_digest,
        "previous_policy_digest": event.previous_policy_digest, "redacted": event.redacted,
        "certificate": event.certificate, "settings_digest": event.settings_digest,
        "settings": event.settings.iter().map(setting).collect::<Map<_, _>>(),
        "certificates": event.certificates.iter().map(certificate).collect::<Vec<_>>(),
    })
}

fn setting(setting: &v1::ProcessSetting) -> (String, Value) {
    (setting.name.clone(), json!(setting.value))
}

fn certificate(certificate: &v1::ProcessCertificate) -> Value {
    json!({
        "usage": certificate.usage, "fingerprint": certificate.fingerprint,
        "expires": times::day(certificate.expire_time.unwrap_or_default().seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decrypt() -> v1::AuditEvent {
        let item = v1::AuditEventItem {
            key: "keys/pii".into(),
            key_version: "keys/pii/versions/2".into(),
            table: "users".into(),
            column: "email".into(),
            row_token: "0123456789abcdef0123456789abcdef".into(),
            outcome: v1::AuditOutcome::Failed.into(),
            error_reason: "TAG_MISMATCH".into(),
            policy_rule: "app-decrypt".into(),
            ..Default::default()
        };
        v1::AuditEvent {
            name: "logs/main/events/7".into(),
            action: "Decrypt".into(),
            principal: "dns:app".into(),
            outcome: v1::AuditOutcome::Failed.into(),
            purpose: "support".into(),
            ticket: "CASE-1".into(),
            item_count: 1,
            items: vec![item],
            ..Default::default()
        }
    }

    #[test]
    fn a_line_says_who_what_why_by_which_rule_and_how_it_ended() {
        let text = table(&[decrypt()], false, Zone::Utc).text();
        let line = text.lines().nth(1).unwrap_or_default();
        for part in [
            "7      dns:app  Decrypt  pii/2  users.email  0123456789ab  support CASE-1  app-decrypt",
            "FAILED TAG_MISMATCH",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn a_batch_is_one_line_or_one_for_each_item() {
        let mut batch = decrypt();
        batch.items.push(v1::AuditEventItem {
            outcome: v1::AuditOutcome::Ok.into(),
            ..batch.items[0].clone()
        });
        batch.items[1].error_reason.clear();
        batch.item_count = 2;
        batch.outcome = v1::AuditOutcome::Partial.into();
        let one = table(std::slice::from_ref(&batch), false, Zone::Utc).text();
        assert_eq!(one.lines().count(), 2);
        assert!(one.contains("Decrypt ×2") && one.contains("PARTIAL"), "{one}");
        assert!(!one.contains("0123456789ab"), "a token of one item is not the batch's: {one}");
        batch.items[1].column = "phone".into();
        batch.items[1].key_version = "keys/pii/versions/1".into();
        let both = table(std::slice::from_ref(&batch), false, Zone::Utc).text();
        assert!(both.contains("pii/2,pii/1  users.email,users.phone"), "{both}");
        let each = table(&[batch], true, Zone::Utc).text();
        assert_eq!(each.lines().count(), 3);
        // What is about a table as a whole.
        let mut table_only = decrypt();
        table_only.items[0].column.clear();
        let shown = table(&[table_only], false, Zone::Utc).text();
        assert!(shown.contains("  users  ") && !shown.contains("users."), "{shown}");
    }
}
