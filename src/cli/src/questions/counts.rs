//! `principal`, `field`, `volume` and `denials`: what is counted.

use std::collections::HashMap;

use fieldseal_api::v1::{self, AccessGrouping as By, AuditOutcome};
use prost_types::Timestamp;

use super::asked::{Asked, Groups};
use super::names::Names;
use super::report::{Cell, Report};
use super::{READS, bare};
use crate::arguments::{DenialsQuestion, FieldQuestion, PrincipalQuestion, VolumeQuestion};
use crate::audit::outcome;
use crate::failure::Failure;
use crate::output::Output;

/// How long somebody counts as new who reads a field.
const NEW_SECONDS: i64 = 7 * 24 * 3600;

pub(super) async fn principal(question: PrincipalQuestion, output: &Output) -> Result<(), Failure> {
    let mut asked = Asked::new(question.ask).await?;
    let names = Names { principal: Some(question.principal.clone()), ..Names::default() };
    let query = v1::AuditEventQuery { principals: vec![question.principal], ..asked.query() };
    let by = [By::Action, By::Key, By::Table, By::Column, By::Outcome];
    let found = asked.groups(&query, &by).await?;
    let ended = asked.all_groups(&query, &[By::Outcome]).await?.groups;
    let unnamed = asked.unnamed(&found, names).await?;
    let of = |outcome: AuditOutcome| {
        let counted = ended.iter().filter(|group| group.outcome() == outcome);
        Cell::Number(counted.map(|group| group.event_count).sum())
    };
    let rows = found.groups.iter().map(|group| {
        let named = [&group.action, &bare(&group.key), &group.table, &group.column]
            .map(|text| Cell::Text(text.clone()));
        let ended = Cell::Text(outcome(group.outcome()));
        named.into_iter().chain([ended]).chain(counts(group)).collect()
    });
    let report = asked
        .report()
        .columns(&[
            "action",
            "key",
            "table",
            "column",
            "outcome",
            "field_count",
            "event_count",
            "partition_count",
            "first_time",
            "last_time",
        ])
        .rows(rows)
        .redacted(
            found.redacted,
            "their partitions are not counted, and fields of batches may be without key and column",
        );
    totals(report, &found)
        .remarks(unnamed)
        .total("denied_count", of(AuditOutcome::Denied))
        .total("failed_count", of(AuditOutcome::Failed))
        .next(found.next)
        .show(output)
}

pub(super) async fn field(question: FieldQuestion, output: &Output) -> Result<(), Failure> {
    let mut asked = Asked::new(question.ask).await?;
    let (table, column) = question.field;
    let field = Some((table.clone(), column.clone()));
    let names = Names { field, key: question.key.clone(), ..Names::default() };
    let query = v1::AuditEventQuery {
        table,
        column,
        keys: question.key.iter().map(|key| format!("keys/{key}")).collect(),
        ..reads(asked.query())
    };
    let found = asked.groups(&query, &[By::Principal]).await?;
    // Whoever reads it now may have read it before the range begins.
    let ever = v1::AuditEventQuery { start_time: None, ..query };
    let ever = asked.all_groups(&ever, &[By::Principal]).await?;
    let unnamed = asked.unnamed(&found, names).await?;
    let week = Timestamp { seconds: asked.until().seconds - NEW_SECONDS, nanos: 0 };
    let first: HashMap<&str, Option<Timestamp>> =
        ever.groups.iter().map(|group| (group.principal.as_str(), group.first_time)).collect();
    let is_new = |group: &v1::AccessGroup| {
        let first = first.get(group.principal.as_str()).copied().flatten();
        first.is_some_and(|first| first.seconds >= week.seconds)
    };
    let rows = found.groups.iter().map(|group| {
        let who = [Cell::Text(group.principal.clone())];
        who.into_iter().chain(counts(group)).chain([Cell::Flag(is_new(group))]).collect()
    });
    let report = asked
        .report()
        .columns(&[
            "principal",
            "field_count",
            "event_count",
            "partition_count",
            "first_time",
            "last_time",
            "new",
        ])
        .rows(rows)
        .redacted(
            found.redacted,
            "their partitions are not counted, and fields of batches may be missing",
        );
    let begins = asked.begins().time.as_ref();
    let reaches = begins.is_some_and(|begins| begins.seconds <= week.seconds);
    let new = format!("new: nothing was read before {}", asked.zone.show(&week));
    let reach = match begins {
        Some(begins) if !reaches => format!(
            "; the log begins at {}, and who read before that is not known",
            asked.zone.show(begins)
        ),
        _ => String::new(),
    };
    totals(report, &found).remark(new + &reach).remarks(unnamed).next(found.next).show(output)
}

pub(super) async fn volume(question: VolumeQuestion, output: &Output) -> Result<(), Failure> {
    let mut asked = Asked::new(question.ask).await?;
    let names = Names {
        principal: question.principal.clone(),
        field: question.field.clone(),
        ..Names::default()
    };
    let (table, column) = question.field.unwrap_or_default();
    let principals = question.principal.into_iter().collect();
    let query = v1::AuditEventQuery { table, column, principals, ..reads(asked.query()) };
    let by = [By::Hour, By::Principal, By::Table, By::Column];
    let found = asked.groups(&query, &by).await?;
    let unnamed = asked.unnamed(&found, names).await?;
    let rows = found.groups.iter().map(|group| {
        vec![
            Cell::Time(group.hour),
            Cell::Text(group.principal.clone()),
            Cell::Text(field_name(group)),
            Cell::Number(group.field_count),
        ]
    });
    let report = asked.report().columns(&["hour", "principal", "field", "field_count"]).rows(rows);
    let so = "fields of batches may be missing, or be without their column";
    let report = report.redacted(found.redacted, so);
    totals(report.drawn(3), &found).remarks(unnamed).next(found.next).show(output)
}

pub(super) async fn denials(question: DenialsQuestion, output: &Output) -> Result<(), Failure> {
    let mut asked = Asked::new(question.ask).await?;
    let names = Names { principal: question.principal.clone(), ..Names::default() };
    let query = v1::AuditEventQuery {
        principals: question.principal.into_iter().collect(),
        outcomes: vec![AuditOutcome::Denied.into()],
        ..asked.query()
    };
    let by = [By::Principal, By::Action, By::Key, By::Table, By::Column, By::Rule, By::Cause];
    let found = asked.groups(&query, &by).await?;
    let unnamed = asked.unnamed(&found, names).await?;
    let rows = found.groups.iter().map(|group| {
        let named = [
            &group.policy_rule,
            &group.error_reason,
            &group.principal,
            &group.action,
            &bare(&group.key),
            &field_name(group),
        ];
        let named = named.map(|text| Cell::Text(text.clone()));
        named.into_iter().chain(counts(group)).collect()
    });
    let report = asked
        .report()
        .columns(&[
            "rule",
            "cause",
            "principal",
            "action",
            "key",
            "field",
            "field_count",
            "event_count",
            "partition_count",
            "first_time",
            "last_time",
        ])
        .rows(rows)
        .remark(
            "NO_RULE: no rule permitted it, and none forbade it by name; END_USER_…: the token of the \
             end user was refused before policy was asked",
        )
        .redacted(found.redacted, "their partitions are not counted")
        .remarks(unnamed);
    totals(report, &found).next(found.next).show(output)
}

/// Decrypts that were done.
pub(super) fn reads(query: v1::AuditEventQuery) -> v1::AuditEventQuery {
    v1::AuditEventQuery {
        actions: READS.map(str::to_owned).to_vec(),
        outcomes: vec![AuditOutcome::Ok.into()],
        ..query
    }
}

/// `users.iban`: table and column.
fn field_name(group: &v1::AccessGroup) -> String {
    match (group.table.as_str(), group.column.as_str()) {
        ("", "") => String::new(),
        (table, "") => table.to_owned(),
        (table, column) => format!("{table}.{column}"),
    }
}

/// Fields, events, partitions, first, last.
pub(super) fn counts(group: &v1::AccessGroup) -> [Cell; 5] {
    [
        Cell::Number(group.field_count),
        Cell::Number(group.event_count),
        Cell::Number(group.partition_count),
        Cell::Time(group.first_time),
        Cell::Time(group.last_time),
    ]
}

/// What all pages come to.
pub(super) fn totals(report: Report, found: &Groups) -> Report {
    sums(report.total("row_count", Cell::Number(found.count)), &found.total)
}

/// What was counted without any grouping.
pub(super) fn sums(report: Report, total: &v1::AccessGroup) -> Report {
    let names = ["field_count", "event_count", "partition_count", "first_time", "last_time"];
    let cells = names.into_iter().zip(counts(total));
    cells.fold(report, |report, (name, cell)| report.total(name, cell))
}
