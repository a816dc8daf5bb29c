//! `audit list`: who read what. (`audit verify` has a file of its own.)

pub(crate) mod export;
pub(crate) mod tail;

use fieldseal_api::v1;
use fieldseal_client::AuditClient;
use fieldseal_model::hex;
use serde_json::{Map, Value, json};

use crate::arguments::{AuditListArguments, FilterArguments, Outcome};
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::keys::number;
use crate::output::{Output, Table, counted, note, shortened};
use crate::pages::Pages;
use crate::times;

/// Events on a page; the sidecar gives no more at a time.
const PAGE: u32 = 1000;
/// Digits of a token or digest that are shown: enough to tell rows apart. JSON has them all.
const TOKEN_DIGITS: usize = 12;
/// Columns of a note that are shown. JSON has all of it.
const NOTE_COLUMNS: usize = 72;

/// What a line of an event says.
const HEADER: [&str; 10] =
    ["TIME", "EVENT", "WHO", "WHAT", "KEY", "FIELD", "ROW TOKEN", "WHY", "RULE", "OUTCOME"];

/// Events of the log, whether there are more that match, and how many match in all (-1: not
/// counted).
pub(crate) struct Listed {
    pub(crate) events: Vec<v1::AuditEvent>,
    pub(crate) more: bool,
    pub(crate) total: i64,
}

/// Runs `audit list`.
pub(crate) async fn list(arguments: AuditListArguments, output: &Output) -> Result<(), Failure> {
    let mut client = connection::connect().await?.audit();
    let listed = query(&mut client, &arguments).await?;
    output.show(
        || {
            json!({
                "audit_events": listed.events.iter().map(event_json).collect::<Vec<_>>(),
                "more": listed.more,
                "total_size": listed.total,
            })
        },
        || {
            let shown = counted(listed.events.len() as u64, "event");
            format!("{}{shown}", table(&listed.events, arguments.items).text())
        },
    )?;
    if listed.more {
        note("more match; raise --limit or narrow the query");
    }
    Ok(())
}

/// Asks for events, page by page up to the limit, and for one more to know whether there is one.
pub(crate) async fn query(
    client: &mut AuditClient,
    arguments: &AuditListArguments,
) -> Result<Listed, Failure> {
    let query = wire_query(arguments)?;
    let order = if arguments.oldest_first { "event_time" } else { "event_time desc" };
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut listed = Listed { events: Vec::new(), more: false, total: -1 };
    let mut pages = Pages::default();
    let mut next = Some(String::new());
    while let Some(page_token) = next {
        let wanted = limit.saturating_add(1).saturating_sub(listed.events.len());
        let page_size = u32::try_from(wanted).unwrap_or(PAGE).min(PAGE);
        let request = v1::QueryAuditEventsRequest {
            parent: String::new(),
            query: Some(query.clone()),
            page_size: i32::try_from(page_size).unwrap_or(i32::MAX),
            page_token,
            order_by: order.to_owned(),
            include_items: arguments.items,
            matching_items_only: false,
            reason: None,
        };
        let page = client.query_audit_events(request).await.map_err(|s| failure(&s))?.into_inner();
        listed.total = page.total_size;
        listed.events.extend(page.audit_events);
        if listed.events.len() > limit {
            listed.events.truncate(limit);
            listed.more = true;
            break;
        }
        next = pages.next(page.next_page_token)?;
    }
    Ok(listed)
}

fn wire_query(arguments: &AuditListArguments) -> Result<v1::AuditEventQuery, Failure> {
    let time = |text: &Option<String>| text.as_deref().map(times::parse).transpose();
    Ok(v1::AuditEventQuery {
        start_time: time(&arguments.since)?,
        end_time: time(&arguments.until)?,
        purposes: arguments.purpose.clone(),
        tickets: arguments.ticket.clone(),
        ..narrowed(&arguments.filter)
    })
}

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
pub(crate) fn table(events: &[v1::AuditEvent], items: bool) -> Table {
    let mut table = Table::new(&HEADER);
    events.iter().flat_map(|event| lines(event, items)).for_each(|line| table.row(line));
    table
}

/// The lines of an event: one, or one for each item.
fn lines(event: &v1::AuditEvent, items: bool) -> Vec<[String; 10]> {
    if items && !event.items.is_empty() {
        return event.items.iter().map(|item| line(event, std::slice::from_ref(item))).collect();
    }
    vec![line(event, &event.items)]
}

/// A line for these items together: what all have, and where they differ each once.
fn line(event: &v1::AuditEvent, items: &[v1::AuditEventItem]) -> [String; 10] {
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
        times::shown(event.event_time.as_ref()),
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

fn event_json(event: &v1::AuditEvent) -> Value {
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
    json!({
        "name": event.name, "event_time": times::json(event.event_time.as_ref()),
        "kind": event.kind, "principal": event.principal, "action": event.action,
        "end_user_token": event.end_user_token,
        "call_count": event.call_count, "first_time": times::json(event.first_time.as_ref()),
        "outcome": outcome(event.outcome()), "purpose": event.purpose, "ticket": event.ticket,
        "policy_rule": event.policy_rule, "item_count": event.item_count,
        "items": event.items.iter().map(item).collect::<Vec<_>>(),
        "leaf_hash": leaf, "note": event.note, "policy_digest": event.policy_digest,
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
        let text = table(&[decrypt()], false).text();
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
        let one = table(std::slice::from_ref(&batch), false).text();
        assert_eq!(one.lines().count(), 2);
        assert!(one.contains("Decrypt ×2") && one.contains("PARTIAL"), "{one}");
        assert!(!one.contains("0123456789ab"), "a token of one item is not the batch's: {one}");
        batch.items[1].column = "phone".into();
        batch.items[1].key_version = "keys/pii/versions/1".into();
        let both = table(std::slice::from_ref(&batch), false).text();
        assert!(both.contains("pii/2,pii/1  users.email,users.phone"), "{both}");
        let each = table(&[batch], true).text();
        assert_eq!(each.lines().count(), 3);
    }
}
