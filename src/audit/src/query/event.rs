//! One record, read back, and whether a query looks for it.

use std::collections::HashMap;

use fieldseal_model::{Action, ActionKind, Timestamp};
use prost::Message as _;

use super::Query;
use crate::merkle::{self, Hash};
use crate::record::{
    COMMITMENT_BYTES, DetailHead, DetailParts, Kind, Outcome, Record, RecordItem, RecordVerdict,
};

/// One record, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place in the log.
    pub index: u64,
    /// What kind of record it is; `None` for one that a newer program wrote.
    pub kind: Option<Kind>,
    /// When the call began.
    pub time: Timestamp,
    /// Who called; empty for the process itself.
    pub principal: String,
    /// What was called; `None` for the process itself.
    pub action: Option<Action>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// As stated.
    pub purpose: String,
    /// As stated.
    pub ticket: String,
    /// The end user's token; empty if none was shown.
    pub end_user: Vec<u8>,
    /// The rule that decided, if one decided everything.
    pub rule: String,
    /// Of a start: the program's version. Of a recovered tail: what was done. Of a policy that was
    /// refused: what is wrong with it.
    pub note: String,
    /// Of a start and of a policy that was reloaded: the digest of the policy that decides then, 32
    /// bytes.
    pub policy_digest: Vec<u8>,
    /// Of a reload: that of the one before, 32 bytes.
    pub previous_policy_digest: Vec<u8>,
    /// Of a change: how many data keys it was about, where it was about data keys.
    pub data_keys: u64,
    /// How many calls it stands for: of refusals that were counted more than one.
    pub calls: u64,
    /// When the first of these calls began; `time` is when the last one did.
    pub first: Timestamp,
    /// How many items the call had.
    pub item_count: u32,
    /// The items.
    pub items: Vec<EventItem>,
    /// RFC 6962.
    pub leaf_hash: Hash,
}

/// One field of a call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventItem {
    /// The bare key name as stated.
    pub key: String,
    /// The version that was reached, or 0.
    pub key_version: u32,
    /// As stated.
    pub table: String,
    /// As stated.
    pub column: String,
    /// The partition's token; empty for the default partition.
    pub partition: Vec<u8>,
    /// The row's token; empty if none was stated.
    pub row: Vec<u8>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The true reason of a failure.
    pub cause: String,
    /// The rule that decided.
    pub rule: String,
    /// Of refusals that were counted: in how many of the calls; 0 if in all of them.
    pub calls: u64,
}

impl Event {
    /// What it takes in a message, in bytes: never less than it really does.
    pub(super) fn bytes(&self) -> usize {
        let own = [&self.principal, &self.purpose, &self.ticket, &self.rule, &self.note];
        let own: usize = own.iter().map(|text| text.len()).sum();
        // Digests are shown in hexadecimal.
        let own = own
            + 2 * self.end_user.len()
            + 2 * (self.policy_digest.len() + self.previous_policy_digest.len());
        EVENT_BYTES + own + self.items.iter().map(EventItem::bytes).sum::<usize>()
    }
}

/// What an event and an item take beside their texts: names of fixed length, tags, lengths.
const EVENT_BYTES: usize = 256;
const ITEM_BYTES: usize = 64;

impl EventItem {
    fn bytes(&self) -> usize {
        let texts = [&self.table, &self.column, &self.cause, &self.rule];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        // Key and version are two names; tokens are shown in hexadecimal.
        ITEM_BYTES + texts + 2 * (self.key.len() + self.partition.len() + self.row.len())
    }
}

/// The record as an event if the query looks for it. The outer `None`: it is no record.
///
/// Items are read only where they are wanted or a filter needs them: a batch has up to thousands.
pub(super) fn find(query: &Query, index: u64, leaf: &[u8], detail: &[u8]) -> Option<Option<Event>> {
    let public = leaf.get(..leaf.len().checked_sub(COMMITMENT_BYTES)?)?;
    let record = Record::decode(public).ok()?;
    let parts = match detail {
        [] => None,
        _ => Some(DetailParts::cut(detail)?),
    };
    let head = parts.as_ref().map(|parts| DetailHead::decode(parts.head)).transpose().ok()?;
    let head = head.unwrap_or_default();
    if !call_fits(query, &record, &head) {
        return Some(None);
    }
    let each = query.matching_items_only;
    let ended = query.outcomes.is_empty() || !each && is_one_of(&query.outcomes, record.outcome);
    let shown = record.item_count <= 1 || !query.omit_batch_items;
    let filters = filters_items(query);
    let items = if shown || filters || !ended {
        read_items(&record, &head, parts.as_ref())?
    } else {
        Vec::new()
    };
    let of = |item: &RecordItem| record.verdicts.get(item.verdict as usize);
    let fits = |item: &RecordItem| {
        let outcome = if item.outcome == 0 { record.outcome } else { item.outcome };
        let version = item.key_version.max(record.key_version);
        (ended || is_one_of(&query.outcomes, outcome)) && item_fits(query, item, of(item), version)
    };
    if (filters || !ended) && !items.iter().any(fits) {
        return Some(None);
    }
    let items = if shown { items } else { Vec::new() };
    let items = items
        .iter()
        .filter(|item| !each || fits(item))
        .map(|item| shown_item(item, of(item), &record))
        .collect();
    Some(Some(Event {
        index,
        kind: Kind::from_code(record.kind),
        time: Timestamp::from_unix_nanos(record.time),
        action: action(&record),
        outcome: Outcome::from_code(record.outcome),
        ticket: head.ticket,
        end_user: head.end_user,
        rule: one_rule(&record.verdicts),
        data_keys: record.count,
        calls: record.calls.max(1),
        first: Timestamp::from_unix_nanos(if record.calls > 0 {
            record.first_time
        } else {
            record.time
        }),
        item_count: record.item_count,
        items,
        leaf_hash: merkle::leaf_hash(leaf),
        principal: record.principal,
        purpose: record.purpose,
        note: record.note,
        policy_digest: record.policy_digest,
        previous_policy_digest: record.previous_policy_digest,
    }))
}

fn read_items(
    record: &Record,
    head: &DetailHead,
    parts: Option<&DetailParts<'_>>,
) -> Option<Vec<RecordItem>> {
    let read = parts.into_iter().flat_map(DetailParts::items);
    let read = read.map(|item| RecordItem::decode(item?.1).ok());
    let mut items = read.collect::<Option<Vec<_>>>()?;
    if !head.partition.is_empty() {
        items.iter_mut().for_each(|item| item.partition.clone_from(&head.partition));
    }
    if items.is_empty() && !record.verdicts.is_empty() {
        // A change: what it was about stands in its verdict.
        items.push(RecordItem::default());
    }
    Some(items)
}

fn action(record: &Record) -> Option<Action> {
    u8::try_from(record.action).ok().and_then(Action::from_code)
}

fn shown_item(item: &RecordItem, verdict: Option<&RecordVerdict>, record: &Record) -> EventItem {
    let verdict = verdict.cloned().unwrap_or_default();
    let outcome = if item.outcome == 0 { record.outcome } else { item.outcome };
    // A denial's own cause is the policy's business; the item's is the caller's.
    let cause = if item.cause.is_empty() { verdict.cause } else { item.cause.clone() };
    EventItem {
        key: verdict.key,
        key_version: item.key_version.max(record.key_version),
        table: verdict.table,
        column: verdict.column,
        partition: item.partition.clone(),
        row: item.row.clone(),
        outcome: Outcome::from_code(outcome),
        cause,
        rule: verdict.rule,
        calls: item.calls,
    }
}

fn one_rule(verdicts: &[RecordVerdict]) -> String {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    verdicts.iter().for_each(|v| *counts.entry(v.rule.as_str()).or_default() += 1);
    match counts.keys().next() {
        Some(rule) if counts.len() == 1 => (*rule).to_owned(),
        _ => String::new(),
    }
}

fn is_one_of(wanted: &[Outcome], code: u32) -> bool {
    Outcome::from_code(code).is_some_and(|outcome| wanted.contains(&outcome))
}

/// Whether the call as a whole is one that is looked for.
fn call_fits(query: &Query, record: &Record, head: &DetailHead) -> bool {
    let any =
        |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|w| w == found);
    let time = Timestamp::from_unix_nanos(record.time);
    let called = || action(record).is_some_and(|a| query.actions.contains(&a));
    query.start.is_none_or(|start| time >= start)
        && query.end.is_none_or(|end| time < end)
        && (query.actions.is_empty() || called())
        && (!query.administration_only || is_administration(record))
        && !(query.omit_housekeeping && is_housekeeping(record))
        && any(&query.principals, &record.principal)
        && any(&query.purposes, &record.purpose)
        && any(&query.tickets, &head.ticket)
        && query.end_user.is_none_or(|token| token[..] == head.end_user)
}

/// Whether a record is about keys, policy, the process or the log itself, not about values.
fn is_administration(record: &Record) -> bool {
    let about_values = |a: Action| matches!(a.kind(), ActionKind::Encrypt | ActionKind::Decrypt);
    let is_call = Kind::from_code(record.kind) == Some(Kind::Call);
    !(is_housekeeping(record) || is_call && action(record).is_some_and(about_values))
}

/// Whether the process noted it for itself while it served encrypts and decrypts.
fn is_housekeeping(record: &Record) -> bool {
    matches!(
        Kind::from_code(record.kind),
        Some(Kind::DataKeyCreated | Kind::SealsReserved | Kind::ClockTicked | Kind::VersionUsed)
    )
}

fn filters_items(query: &Query) -> bool {
    !query.keys.is_empty()
        || !query.key_versions.is_empty()
        || query.table.is_some()
        || query.column.is_some()
        || query.partition.is_some()
        || query.row.is_some()
}

fn item_fits(
    query: &Query,
    item: &RecordItem,
    verdict: Option<&RecordVerdict>,
    version: u32,
) -> bool {
    let none = RecordVerdict::default();
    let of = verdict.unwrap_or(&none);
    let partition = |p: &Option<[u8; 16]>| p.as_ref().map_or(&[][..], |t| t) == item.partition;
    let reached = |wanted: &(String, u32)| wanted.0 == of.key && wanted.1 == version;
    (query.keys.is_empty() || query.keys.contains(&of.key))
        && (query.key_versions.is_empty() || query.key_versions.iter().any(reached))
        && query.table.as_ref().is_none_or(|table| *table == of.table)
        && query.column.as_ref().is_none_or(|column| *column == of.column)
        && query.partition.as_ref().is_none_or(partition)
        && query.row.as_ref().is_none_or(|row| row[..] == item.row)
}
