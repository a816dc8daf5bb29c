//! The tables of the summary.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use fieldseal_audit::{Started, StartedCertificate};
use fieldseal_model::{Timestamp, hex};

use super::facts::{Access, Change, Configured, InForce, Place, Refusal, Span, Tally};
use super::html::{Cell, table};
use super::inventory::{self, Inventory};
use super::policies::{self, Files};
use crate::keys::{number, state};
use crate::times;

/// The most rows of a table; `records.csv` has everything.
const MOST_ROWS: usize = 60;
/// The most rows of the table of starts: one has some twenty.
const MOST_STARTED: usize = 120;

/// A moment to the second.
pub(super) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    let (whole, _) = text.split_once('.').unwrap_or((&text, ""));
    whole.replace('T', " ")
}

fn first_and_last(span: &Span) -> [Cell; 2] {
    let shown = |at: Option<Timestamp>| Cell::word(at.map(moment).unwrap_or_default());
    [shown(span.times.map(|t| t.0)), shown(span.times.map(|t| t.1))]
}

/// The rows with the largest counts, and how many are left.
fn largest<K: Ord, V>(tally: &Tally<K, V>, count: impl Fn(&V) -> u64) -> (Vec<(&K, &V)>, u64) {
    let counted: &BTreeMap<K, V> = &tally.counted;
    let mut rows: Vec<_> = counted.iter().collect();
    rows.sort_by_key(|(_, value)| Reverse(count(value)));
    let more = rows.len().saturating_sub(MOST_ROWS) as u64;
    rows.truncate(MOST_ROWS);
    (rows, more.saturating_add(tally.others))
}

pub(super) fn access(tally: &Tally<Place, Access>) -> String {
    let all = |a: &Access| (a.read.count, a.refused.saturating_add(a.failed), a.sealed);
    let order = |a: &Access| {
        let (read, not, sealed) = all(a);
        read.saturating_mul(2).saturating_add(not).saturating_add(sealed)
    };
    let (rows, more) = largest(tally, order);
    let row = |((who, key, table, column), access): (&Place, &Access)| {
        let field = match (table.as_str(), column.as_str()) {
            ("", "") => String::new(),
            (table, column) => format!("{table}.{column}"),
        };
        let mut row = vec![Cell::name(who), Cell::name(field), Cell::name(key)];
        row.push(Cell::Number(access.read.count));
        row.extend([access.refused, access.failed, access.sealed].map(Cell::Number));
        row.extend(first_and_last(&access.read));
        row
    };
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    let columns = [
        "Caller",
        "Field",
        "Key",
        "#Read",
        "#Refused",
        "#Failed",
        "#Sealed",
        "First read",
        "Last read",
    ];
    table(&columns, &rows, more, "Nobody asked for a field in this time.")
}

pub(super) fn purposes(tally: &Tally<String, Span>) -> String {
    let (rows, more) = largest(tally, |span| span.count);
    let row = |(purpose, span): (&String, &Span)| {
        let purpose = if purpose.is_empty() { "none was stated" } else { purpose };
        let mut row = vec![Cell::Text(purpose.to_owned()), Cell::Number(span.count)];
        row.extend(first_and_last(span));
        row
    };
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    table(&["Purpose as stated", "#Calls", "First", "Last"], &rows, more, "There was no decrypt.")
}

pub(super) fn refusals(tally: &Tally<Refusal, Span>) -> String {
    let (rows, more) = largest(tally, |span| span.count);
    let row = |((rule, cause, who, action), span): (&Refusal, &Span)| {
        let mut row =
            vec![Cell::name(rule), Cell::name(cause), Cell::name(who), Cell::word(action)];
        row.push(Cell::Number(span.count));
        row.extend(first_and_last(span));
        row
    };
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    let columns = ["Rule", "Cause", "Caller", "Action", "#Calls", "First", "Last"];
    table(&columns, &rows, more, "No call was refused in this time.")
}

pub(super) fn changes(changes: &[Change], count: u64) -> String {
    let row = |change: &Change| {
        vec![
            Cell::Number(change.index),
            Cell::word(moment(change.time)),
            Cell::word(change.what.as_str()),
            Cell::name(change.who.as_str()),
            Cell::Text(change.about.clone()),
            Cell::Text(change.why.clone()),
            Cell::word(change.outcome.as_str()),
        ]
    };
    let rows: Vec<_> = changes.iter().map(row).collect();
    let more = count.saturating_sub(rows.len() as u64);
    let columns = ["#Record", "Time", "What", "Who", "About", "Why", "Outcome"];
    table(&columns, &rows, more, "Nothing was changed in this time.")
}

pub(super) fn readers(tally: &Tally<(String, String), Span>) -> String {
    let (rows, more) = largest(tally, |span| span.count);
    let row = |((who, action), span): (&(String, String), &Span)| {
        let mut row = vec![Cell::name(who), Cell::word(action), Cell::Number(span.count)];
        row.extend(first_and_last(span));
        row
    };
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    let columns = ["Caller", "Question", "#Times", "First", "Last"];
    table(&columns, &rows, more, "Nobody asked the log anything in this time.")
}

pub(super) fn in_force(policies: &[InForce], files: &[Files]) -> String {
    let row = |policy: &InForce| {
        let there = policies::is_included(files, policy);
        vec![
            Cell::Number(policy.record),
            Cell::word(moment(policy.time)),
            Cell::word(policy.kind.as_str()),
            Cell::name(hex::encode(&policy.digest)),
            Cell::Text(if there { "in policies/" } else { "not included" }.to_owned()),
        ]
    };
    let shown = policies.iter().take(MOST_ROWS).map(row).collect::<Vec<_>>();
    let more = policies.len().saturating_sub(shown.len()) as u64;
    let columns = ["#From record", "Time", "By", "Digest (SHA-256)", "Files"];
    table(&columns, &shown, more, "No record in this archive names a policy.")
}

/// Of the first start everything, of each other one what is not as before.
pub(super) fn configured(starts: &[Configured]) -> String {
    let before = std::iter::once(None).chain(starts.iter().map(Some));
    let rows = starts.iter().zip(before).flat_map(|(start, before)| {
        let row = |(what, value): (String, String)| {
            let record = Cell::Number(start.record);
            vec![record, Cell::word(moment(start.time)), Cell::Text(what), Cell::name(value)]
        };
        let said = differs(&start.started, before.map(|before| &before.started));
        said.into_iter().map(row).collect::<Vec<_>>()
    });
    let mut rows: Vec<_> = rows.collect();
    let more = rows.len().saturating_sub(MOST_STARTED) as u64;
    rows.truncate(MOST_STARTED);
    let columns = ["#From record", "Time", "What", "Value"];
    table(&columns, &rows, more, "No start in this archive says with what.")
        .replace("more in records.csv", "more in records.bin")
}

fn differs(now: &Started, before: Option<&Started>) -> Vec<(String, String)> {
    let nothing = Started::default();
    let before = before.unwrap_or(&nothing);
    let certificate = |prefix: &str, one: &StartedCertificate| {
        let value = format!("{} until {}", hex::encode(&one.sha256), times::day(one.not_after));
        (format!("{prefix}{}", one.usage), value)
    };
    let mut said = Vec::new();
    if now.settings_digest != before.settings_digest {
        said.push(("all settings (SHA-256)".to_owned(), hex::encode(&now.settings_digest)));
    }
    said.extend(now.settings.iter().filter(|told| !before.settings.contains(told)).cloned());
    let added = now.certificates.iter().filter(|one| !before.certificates.contains(one));
    said.extend(added.map(|one| certificate("", one)));
    let gone = before.certificates.iter().filter(|one| !now.certificates.contains(one));
    said.extend(gone.map(|one| certificate("no more ", one)));
    said
}

pub(super) fn keys(inventory: &Inventory) -> String {
    let row = |key: &fieldseal_api::v1::Key| {
        let mut labels: Vec<_> = key.labels.iter().filter(|(name, _)| *name != "owner").collect();
        labels.sort();
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let versions = key.versions.iter();
        let versions = versions.map(|v| format!("{} {}", number(&v.name), state(v).to_lowercase()));
        let age = inventory.age(key).map(|days| days.unsigned_abs());
        vec![
            Cell::name(key.name.strip_prefix("keys/").unwrap_or(&key.name)),
            Cell::Text(key.labels.get("owner").cloned().unwrap_or_default()),
            Cell::Text(labels.join(", ")),
            Cell::Text(inventory::algorithm(key)),
            Cell::name(number(&key.primary_version)),
            age.map_or(Cell::name(""), Cell::Number),
            Cell::Text(versions.collect::<Vec<_>>().join(", ")),
        ]
    };
    let rows: Vec<_> = inventory.keys.iter().take(MOST_ROWS).map(row).collect();
    let more = inventory.keys.len().saturating_sub(rows.len()) as u64;
    let columns = ["Key", "Owner", "Labels", "Algorithm", "Primary", "#Age, days", "Versions"];
    table(&columns, &rows, more, "There is no key.").replace("records.csv", "keys.json")
}
