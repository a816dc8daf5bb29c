//! `subject` and `changes`: what is listed one by one.

use fieldseal_api::v1;

use super::asked::Asked;
use super::counts::sums;
use super::report::Cell;
use super::{READS, WRITES, bare, noted};
use crate::arguments::{ChangesQuestion, SubjectQuestion};
use crate::audit::{call_count, outcome};
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn subject(question: SubjectQuestion, output: &Output) -> Result<(), Failure> {
    let mut asked = Asked::new(question.ask).await?;
    let actions = READS.into_iter().chain(WRITES).map(str::to_owned);
    let query = v1::AuditEventQuery {
        partition: question.partition,
        table: question.table.unwrap_or_default(),
        row: question.row,
        actions: actions.collect(),
        ..asked.query()
    };
    let (events, next) = asked.events(&query).await?;
    let found = asked.all_groups(&query, &[]).await?;
    let rows = events.iter().flat_map(|event| event.items.iter().map(|item| access(event, item)));
    let report = asked
        .report()
        .columns(&[
            "time",
            "event",
            "principal",
            "end_user_token",
            "action",
            "key",
            "table",
            "column",
            "row_token",
            "purpose",
            "ticket",
            "rule",
            "outcome",
            "cause",
            "call_count",
        ])
        .rows(rows.collect::<Vec<_>>())
        .redacted(found.redacted, "nobody knows whom they were about, and they are not listed")
        .remark(
            "encrypts are listed where the key records them, refused ones always; the name that \
             was asked for is in no record, only its token",
        );
    sums(report, &found.total).next(next).show(output)
}

fn access(event: &v1::AuditEvent, item: &v1::AuditEventItem) -> Vec<Cell> {
    let text = |text: &str| Cell::Text(text.to_owned());
    vec![
        Cell::Time(event.event_time),
        text(number(event)),
        text(&event.principal),
        Cell::Token(event.end_user_token.clone()),
        text(&event.action),
        text(&bare(&item.key)),
        text(&item.table),
        text(&item.column),
        Cell::Token(item.row_token.clone()),
        text(&event.purpose),
        text(&event.ticket),
        text(&item.policy_rule),
        text(&outcome(item.outcome())),
        text(&item.error_reason),
        Cell::Number(call_count(event, item)),
    ]
}

pub(super) async fn changes(question: ChangesQuestion, output: &Output) -> Result<(), Failure> {
    let mut asked = Asked::new(question.ask).await?;
    let query = v1::AuditEventQuery {
        administration_only: true,
        omit_log_reads: question.without_reads,
        ..asked.query()
    };
    let (events, next) = asked.events(&query).await?;
    let found = asked.all_groups(&query, &[]).await?;
    let rows =
        (1..).zip(&events).map(|(at, event)| change(event, events.get(at..).unwrap_or_default()));
    let report = asked
        .report()
        .columns(&[
            "time",
            "event",
            "kind",
            "principal",
            "action",
            "key",
            "purpose",
            "ticket",
            "rule",
            "outcome",
            "call_count",
            "note",
        ])
        .rows(rows.collect::<Vec<_>>());
    report
        .redacted(found.redacted, "their tickets are not shown")
        .total("event_count", Cell::Number(found.total.event_count))
        .total("first_time", Cell::Time(found.total.first_time))
        .total("last_time", Cell::Time(found.total.last_time))
        .next(next)
        .show(output)
}

fn change(event: &v1::AuditEvent, earlier: &[v1::AuditEvent]) -> Vec<Cell> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let key = event.items.first().map(|item| match item.key_version.as_str() {
        "" => bare(&item.key),
        version => bare(version).replace("/versions/", "/"),
    });
    vec![
        Cell::Time(event.event_time),
        text(number(event)),
        text(&event.kind),
        text(&event.principal),
        text(&event.action),
        text(&key.unwrap_or_default()),
        text(&event.purpose),
        text(&event.ticket),
        text(&event.policy_rule),
        text(&outcome(event.outcome())),
        Cell::Number(event.call_count),
        noted::note(event, earlier),
    ]
}

/// The last part of `logs/{log}/events/{index}`.
fn number(event: &v1::AuditEvent) -> &str {
    event.name.rsplit('/').next().unwrap_or_default()
}
