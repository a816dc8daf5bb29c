//! `audit list`: who read what.

use fieldseal_api::v1;
use fieldseal_client::AuditClient;
use prost_types::Timestamp;
use serde_json::json;

use super::{PAGE, call_count, each_once, event_json, key, narrowed, outcome, table};
use crate::arguments::AuditListArguments;
use crate::beginning::Beginning;
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::output::{Output, bytes, counted, note};
use crate::pages::Pages;
use crate::questions::{Zone, csv_cell, redaction};

/// What a line of CSV says.
const CSV: &str = "time,event,kind,principal,end_user_token,action,item_count,key,table,column,\
                   partition_token,row_token,purpose,ticket,rule,outcome,cause,call_count,redacted,note";

/// Events of the log, where to go on if more match, and where the log begins.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) events: Vec<v1::AuditEvent>,
    next: String,
    begins: Beginning,
    /// Of a list that detail narrows: how many events could have matched before theirs was erased.
    redacted: Option<i64>,
}

/// Runs `audit list`.
pub(crate) async fn run(arguments: AuditListArguments, output: &Output) -> Result<(), Failure> {
    let mut client = connection::connect().await?.audit();
    let mut listed = query(&mut client, &arguments).await?;
    let zone = Zone::new(arguments.local);
    let (since, until) = range(&arguments)?;
    let items = arguments.items;
    listed.redacted = redacted(&mut client, wire_query(&arguments)?).await?;
    let remarks = remarks(&listed, &arguments, since.as_ref());
    if output.is_csv() {
        bytes(csv(&listed.events, items, zone).as_bytes())?;
        note(&zone.range(since.as_ref(), until.as_ref()));
    } else {
        let text = || {
            let shown = counted(listed.events.len() as u64, "event");
            let range = zone.range(since.as_ref(), until.as_ref());
            format!("{}{shown}; {range}", table(&listed.events, items, zone).text())
        };
        let json = || {
            let time = |at: &Option<Timestamp>| at.as_ref().map(|at| zone.show(at));
            let events = listed.events.iter().map(|event| event_json(event, zone));
            let mut shown = json!({
                "time_zone": zone.name(), "since": time(&since), "until": time(&until),
                "audit_events": events.collect::<Vec<_>>(), "more": !listed.next.is_empty(),
                "next_page_token": listed.next, "redacted_event_count": listed.redacted,
                "remarks": remarks,
            });
            if let Some(shown) = shown.as_object_mut() {
                shown.extend(listed.begins.json(since.as_ref(), |at| zone.show(at)));
            }
            shown
        };
        output.show(json, text)?;
    }
    if !output.is_json() {
        remarks.iter().for_each(|remark| note(remark));
        if !listed.next.is_empty() {
            let next = &listed.next;
            note(&format!("more match; go on with --page-token {next}, or narrow the query"));
        }
    }
    Ok(())
}

fn remarks(
    listed: &Listed,
    arguments: &AuditListArguments,
    since: Option<&Timestamp>,
) -> Vec<String> {
    let zone = Zone::new(arguments.local);
    // The newest ones that were asked for may all be here.
    let reaches = arguments.oldest_first || listed.next.is_empty();
    let archived =
        (listed.begins.cuts(since) && reaches).then(|| listed.begins.remark(|at| zone.show(at)));
    let so = "whether they belong here nobody knows, and some are not listed";
    archived.into_iter().chain(redaction(listed.redacted.unwrap_or(0), so)).collect()
}

/// Asks for events, page by page up to the limit.
pub(crate) async fn query(
    client: &mut AuditClient,
    arguments: &AuditListArguments,
) -> Result<Listed, Failure> {
    let query = wire_query(arguments)?;
    let order = if arguments.oldest_first { "event_time" } else { "event_time desc" };
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut listed = Listed::default();
    let mut pages = Pages::default();
    let mut next = Some(arguments.page_token.clone());
    while let Some(page_token) = next {
        let wanted = limit.saturating_sub(listed.events.len());
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
        listed.begins = Beginning { index: page.log_first_index, time: page.log_start_time };
        listed.events.extend(page.audit_events);
        listed.next.clone_from(&page.next_page_token);
        next = pages.next(page.next_page_token)?.filter(|_| listed.events.len() < limit);
    }
    Ok(listed)
}

/// How many events could have matched before their detail was erased; `None` if nothing that is asked for
/// stands in a detail, so that each is listed, or if it may not be counted.
async fn redacted(
    client: &mut AuditClient,
    query: v1::AuditEventQuery,
) -> Result<Option<i64>, Failure> {
    let is_detail = query.partition.is_some()
        || query.row.is_some()
        || !(query.end_user_subject.is_empty() && query.tickets.is_empty())
        || !(query.keys.is_empty() && query.table.is_empty() && query.column.is_empty());
    if !is_detail {
        return Ok(None);
    }
    let request = v1::SummarizeAccessRequest { query: Some(query), ..Default::default() };
    match client.summarize_access(request).await {
        Ok(counted) => Ok(Some(counted.into_inner().redacted_event_count)),
        Err(status) if status.code() == tonic::Code::PermissionDenied => Ok(None),
        Err(status) => Err(failure(&status)),
    }
}

type Range = (Option<Timestamp>, Option<Timestamp>);

fn range(arguments: &AuditListArguments) -> Result<Range, Failure> {
    let zone = Zone::new(arguments.local);
    let since = arguments.since.as_deref().map(|text| zone.since(text)).transpose()?;
    let until = arguments.until.as_deref().map(|text| zone.until(text)).transpose()?;
    Ok((since, until))
}

fn wire_query(arguments: &AuditListArguments) -> Result<v1::AuditEventQuery, Failure> {
    let (start_time, end_time) = range(arguments)?;
    Ok(v1::AuditEventQuery {
        start_time,
        end_time,
        purposes: arguments.purpose.clone(),
        tickets: arguments.ticket.clone(),
        ..narrowed(&arguments.filter)
    })
}

/// Events as CSV; with `items` every item of a batch has a line of its own.
fn csv(events: &[v1::AuditEvent], items: bool, zone: Zone) -> String {
    let mut text = format!("{CSV}\n");
    for event in events {
        let parts: Vec<&[v1::AuditEventItem]> = match items && !event.items.is_empty() {
            true => event.items.iter().map(std::slice::from_ref).collect(),
            false => vec![&event.items],
        };
        for part in parts {
            let cells: Vec<String> = cells(event, part, zone).iter().map(|c| csv_cell(c)).collect();
            text.push_str(&format!("{}\n", cells.join(",")));
        }
    }
    text
}

fn cells(event: &v1::AuditEvent, items: &[v1::AuditEventItem], zone: Zone) -> [String; 20] {
    let (ended, calls) = match items {
        [only] => (only.outcome(), call_count(event, only)),
        _ => (event.outcome(), event.call_count),
    };
    let rule = match each_once(items, |item| item.policy_rule.clone()) {
        none if none.is_empty() => event.policy_rule.clone(),
        rule => rule,
    };
    let redacted = event.redacted || items.iter().any(|item| item.redacted);
    [
        event.event_time.as_ref().map(|at| zone.show(at)).unwrap_or_default(),
        event.name.rsplit('/').next().unwrap_or_default().to_owned(),
        event.kind.clone(),
        event.principal.clone(),
        event.end_user_token.clone(),
        event.action.clone(),
        event.item_count.to_string(),
        each_once(items, key),
        each_once(items, |item| item.table.clone()),
        each_once(items, |item| item.column.clone()),
        each_once(items, |item| item.partition_token.clone()),
        each_once(items, |item| item.row_token.clone()),
        event.purpose.clone(),
        event.ticket.clone(),
        rule,
        outcome(ended),
        each_once(items, |item| item.error_reason.clone()),
        calls.to_string(),
        redacted.to_string(),
        event.note.clone(),
    ]
}
