//! `audit list`: who read what. (`audit verify` has a file of its own.)

use fieldseal_api::v1;
use fieldseal_client::AuditClient;
use serde_json::{Value, json};

use crate::arguments::{AuditListArguments, Outcome};
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::keys::number;
use crate::output::{Output, Table, counted};
use crate::times;

/// Events on a page; the sidecar gives no more at a time.
const PAGE: u32 = 1000;
/// Digits of a token that are shown: enough to tell rows apart. JSON has them all.
const TOKEN_DIGITS: usize = 12;

/// Events of the log, and how many match in all (-1: not counted).
pub(crate) struct Listed {
    pub(crate) events: Vec<v1::AuditEvent>,
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
                "total_size": listed.total,
            })
        },
        || {
            let shown = listed.events.len() as u64;
            let foot = match u64::try_from(listed.total) {
                Ok(total) if total > shown => {
                    format!("{shown} of {}; --limit shows more", counted(total, "event"))
                }
                _ => counted(shown, "event"),
            };
            format!("{}{foot}", table(&listed.events, arguments.items).text())
        },
    )
}

/// Asks for events, page by page up to the limit.
pub(crate) async fn query(
    client: &mut AuditClient,
    arguments: &AuditListArguments,
) -> Result<Listed, Failure> {
    let query = wire_query(arguments)?;
    let order = if arguments.oldest_first { "event_time" } else { "event_time desc" };
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut listed = Listed { events: Vec::new(), total: -1 };
    let mut page_token = String::new();
    loop {
        let wanted = limit.saturating_sub(listed.events.len());
        if wanted == 0 {
            return Ok(listed);
        }
        let page_size = u32::try_from(wanted).unwrap_or(PAGE).min(PAGE);
        let request = v1::QueryAuditEventsRequest {
            parent: String::new(),
            query: Some(query.clone()),
            page_size: i32::try_from(page_size).unwrap_or(i32::MAX),
            page_token,
            order_by: order.to_owned(),
            include_items: arguments.items,
            reason: None,
        };
        let page = client.query_audit_events(request).await.map_err(|s| failure(&s))?.into_inner();
        listed.total = page.total_size;
        listed.events.extend(page.audit_events.into_iter().take(wanted));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(listed);
        }
    }
}

fn wire_query(arguments: &AuditListArguments) -> Result<v1::AuditEventQuery, Failure> {
    let time = |text: &Option<String>| text.as_deref().map(times::parse).transpose();
    let outcome = |outcome: &Outcome| match outcome {
        Outcome::Ok => v1::AuditOutcome::Ok,
        Outcome::Denied => v1::AuditOutcome::Denied,
        Outcome::Failed => v1::AuditOutcome::Failed,
        Outcome::Partial => v1::AuditOutcome::Partial,
    };
    Ok(v1::AuditEventQuery {
        start_time: time(&arguments.since)?,
        end_time: time(&arguments.until)?,
        principals: arguments.principal.clone(),
        actions: arguments.action.clone(),
        keys: arguments.key.iter().map(|k| format!("keys/{k}")).collect(),
        table: arguments.table.clone().unwrap_or_default(),
        column: arguments.column.clone().unwrap_or_default(),
        partition: arguments.partition.clone(),
        row: arguments.row.clone(),
        outcomes: arguments.outcome.iter().map(|o| outcome(o).into()).collect(),
        purposes: arguments.purpose.clone(),
        tickets: arguments.ticket.clone(),
    })
}

/// Events, one a line; with `items` every item of a batch has a line of its own.
pub(crate) fn table(events: &[v1::AuditEvent], items: bool) -> Table {
    let mut table = Table::new(&[
        "TIME",
        "EVENT",
        "WHO",
        "WHAT",
        "KEY",
        "FIELD",
        "ROW TOKEN",
        "WHY",
        "RULE",
        "OUTCOME",
    ]);
    for event in events {
        let lines: Vec<Option<&v1::AuditEventItem>> = match event.items.as_slice() {
            [] => vec![None],
            many if items => many.iter().map(Some).collect(),
            [first, ..] => vec![Some(first)],
        };
        for item in lines {
            table.row(line(event, item, items));
        }
    }
    table
}

fn line(event: &v1::AuditEvent, item: Option<&v1::AuditEventItem>, items: bool) -> [String; 10] {
    let alone = event.item_count <= 1;
    let what = match event.action.as_str() {
        _ if !matches!(event.kind.as_str(), "" | "CALL") => event.kind.clone(),
        "" => event.kind.clone(),
        action if alone => action.to_owned(),
        action => format!("{action} ×{}", event.item_count),
    };
    let of = |get: fn(&v1::AuditEventItem) -> String| item.map(get).unwrap_or_default();
    let field = of(|i| match (i.table.as_str(), i.column.as_str()) {
        ("", "") => String::new(),
        (table, column) => format!("{table}.{column}"),
    });
    let row = if alone || items { of(|i| token(&i.row_token)) } else { String::new() };
    let rule = match of(|i| i.policy_rule.clone()) {
        none if none.is_empty() => event.policy_rule.clone(),
        rule => rule,
    };
    [
        times::shown(event.event_time.as_ref()),
        event.name.rsplit('/').next().unwrap_or_default().to_owned(),
        event.principal.clone(),
        what,
        of(key),
        field,
        row,
        why(event),
        if rule.is_empty() { "-".to_owned() } else { rule },
        ended(event, item.filter(|_| alone || items)),
    ]
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
    match item {
        Some(item) if item.error_reason.is_empty() => outcome(item.outcome()),
        Some(item) => format!("{} {}", outcome(item.outcome()), item.error_reason),
        None => outcome(event.outcome()),
    }
}

fn outcome(outcome: v1::AuditOutcome) -> String {
    let name = outcome.as_str_name();
    name.strip_prefix("AUDIT_OUTCOME_").unwrap_or(name).to_owned()
}

fn event_json(event: &v1::AuditEvent) -> Value {
    let leaf: String = event.leaf_hash.iter().map(|b| format!("{b:02x}")).collect();
    let item = |item: &v1::AuditEventItem| {
        json!({
            "key": item.key, "key_version": item.key_version, "table": item.table,
            "column": item.column, "partition_token": item.partition_token,
            "row_token": item.row_token, "outcome": outcome(item.outcome()),
            "error_reason": item.error_reason, "policy_rule": item.policy_rule,
        })
    };
    json!({
        "name": event.name, "event_time": times::json(event.event_time.as_ref()),
        "kind": event.kind, "principal": event.principal, "action": event.action,
        "outcome": outcome(event.outcome()), "purpose": event.purpose, "ticket": event.ticket,
        "policy_rule": event.policy_rule, "item_count": event.item_count,
        "items": event.items.iter().map(item).collect::<Vec<_>>(),
        "leaf_hash": leaf,
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
        let each = table(&[batch], true).text();
        assert_eq!(each.lines().count(), 3);
    }
}
