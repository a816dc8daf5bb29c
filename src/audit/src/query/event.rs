//! One record, read back, and whether a query looks for it.

use std::collections::HashMap;

use fieldseal_model::{Action, ActionKind, Timestamp};
use prost::Message as _;

use super::Query;
use crate::event::Started;
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
    /// The certificate that the caller showed: the beginning of its SHA-256; empty if there was none.
    pub certificate: Vec<u8>,
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
    /// Of a change of a key's settings: all of them afterwards, as the floor above wrote them.
    pub settings: Vec<u8>,
    /// Of a start: what the process was started with.
    pub started: Started,
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
    /// The ticket and every item were erased; what is shown of items is what the record says in public.
    pub redacted: bool,
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
    /// Row and partition were erased, and what the item alone said. It is found by none of them.
    pub redacted: bool,
}

impl Event {
    /// What it takes in a message, in bytes: never less than it really does.
    pub(super) fn bytes(&self) -> usize {
        let own = [&self.principal, &self.purpose, &self.ticket, &self.rule, &self.note];
        let own: usize = own.iter().map(|text| text.len()).sum();
        // Digests are shown in hexadecimal.
        let own = own
            + 2 * self.end_user.len()
            + 2 * (self.policy_digest.len() + self.previous_policy_digest.len())
            + 2 * self.certificate.len()
            + self.started.bytes()
            // Each setting has a name, and those that are off take no bytes here.
            + if self.settings.is_empty() { 0 } else { SETTINGS_BYTES + 4 * self.settings.len() };
        EVENT_BYTES + own + self.items.iter().map(EventItem::bytes).sum::<usize>()
    }
}

/// What an event and an item take beside their texts: names of fixed length, tags, lengths.
const EVENT_BYTES: usize = 256;
const ITEM_BYTES: usize = 64;
/// What the names of all settings of a key take, and values of fixed length.
const SETTINGS_BYTES: usize = 1024;

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
    let redacted = parts.is_none() && leaf.iter().rev().take(COMMITMENT_BYTES).any(|b| *b != 0);
    if !call_fits(query, &record, &head, redacted && query.erased_only) {
        return Some(None);
    }
    let each = query.matching_items_only;
    let ended = query.outcomes.is_empty() || !each && is_one_of(&query.outcomes, record.outcome);
    let shown = record.item_count <= 1 || !query.omit_batch_items;
    let filters = query.erased_only || filters_items(query);
    let items = if shown || filters || !ended {
        read_items(&record, &head, parts.as_ref(), redacted)?
    } else {
        Vec::new()
    };
    let of = |item: &Read| record.verdicts.get(item.message.verdict as usize);
    let fits = |item: &Read| {
        if query.erased_only {
            return item.redacted && record.item_count > 0 && could_fit(query, item, &record);
        }
        (ended || is_one_of(&query.outcomes, item.outcome(&record)))
            && item_fits(query, item, of(item), item.version(&record))
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
        redacted,
        leaf_hash: merkle::leaf_hash(leaf),
        started: Started::of(&record),
        certificate: record.certificate,
        principal: record.principal,
        purpose: record.purpose,
        note: record.note,
        settings: record.settings,
        policy_digest: record.policy_digest,
        previous_policy_digest: record.previous_policy_digest,
    }))
}

/// An item as it is read.
#[derive(Default)]
pub(super) struct Read {
    message: RecordItem,
    redacted: bool,
}

impl Read {
    /// Of an item that was erased nobody knows which verdict it had, if there were several.
    fn redacted(record: &Record) -> Self {
        let verdict = if record.verdicts.len() == 1 { 0 } else { u32::MAX };
        Self { message: RecordItem { verdict, ..RecordItem::default() }, redacted: true }
    }

    fn outcome(&self, record: &Record) -> u32 {
        match self.message.outcome {
            0 if self.redacted && record.outcome == Outcome::Partial.code() => 0,
            0 => record.outcome,
            own => own,
        }
    }

    fn version(&self, record: &Record) -> u32 {
        self.message.key_version.max(record.key_version)
    }
}

fn read_items(
    record: &Record,
    head: &DetailHead,
    parts: Option<&DetailParts<'_>>,
    redacted: bool,
) -> Option<Vec<Read>> {
    if redacted && record.item_count > 0 {
        return Some(erased_items(record));
    }
    let read = parts.into_iter().flat_map(DetailParts::items);
    let read = read.map(|item| match item?.message {
        None => Some(Read::redacted(record)),
        Some(message) => {
            let mut message = RecordItem::decode(message).ok()?;
            if !head.partition.is_empty() {
                message.partition.clone_from(&head.partition);
            }
            Some(Read { message, redacted: false })
        }
    });
    let mut items = read.collect::<Option<Vec<_>>>()?;
    if items.is_empty() && !record.verdicts.is_empty() {
        // A change: what it was about stands in its verdict.
        items.push(Read { message: RecordItem::default(), redacted });
    }
    Some(items)
}

/// What is left of the items of a call whose whole detail was erased: as many as there were if all had
/// the same verdict, and otherwise one for each verdict.
fn erased_items(record: &Record) -> Vec<Read> {
    let one =
        |verdict| Read { message: RecordItem { verdict, ..RecordItem::default() }, redacted: true };
    match u32::try_from(record.verdicts.len()) {
        Ok(1) => (0..record.item_count).map(|_| one(0)).collect(),
        Ok(verdicts) => (0..verdicts).map(one).collect(),
        Err(_) => Vec::new(),
    }
}

pub(super) fn action(record: &Record) -> Option<Action> {
    u8::try_from(record.action).ok().and_then(Action::from_code)
}

fn shown_item(item: &Read, verdict: Option<&RecordVerdict>, record: &Record) -> EventItem {
    let verdict = verdict.cloned().unwrap_or_default();
    let Read { message, redacted } = item;
    // A denial's own cause is the policy's business; the item's is the caller's.
    let cause = if message.cause.is_empty() { verdict.cause } else { message.cause.clone() };
    EventItem {
        key: verdict.key,
        key_version: item.version(record),
        table: verdict.table,
        column: verdict.column,
        partition: message.partition.clone(),
        row: message.row.clone(),
        outcome: Outcome::from_code(item.outcome(record)),
        cause,
        rule: verdict.rule,
        redacted: *redacted,
        calls: message.calls,
    }
}

pub(super) fn one_rule(verdicts: &[RecordVerdict]) -> String {
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

/// Whether the call as a whole is one that is looked for; or could be, if its detail was `erased`.
fn call_fits(query: &Query, record: &Record, head: &DetailHead, erased: bool) -> bool {
    let any =
        |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|w| w == found);
    let time = Timestamp::from_unix_nanos(record.time);
    query.start.is_none_or(|start| time >= start)
        && query.end.is_none_or(|end| time < end)
        && record_fits(query, record)
        && any(&query.purposes, &record.purpose)
        && (erased || any(&query.tickets, &head.ticket))
        && (erased || query.end_user.is_none_or(|token| token[..] == head.end_user))
        && query.certificate.is_none_or(|one| one.as_bytes()[..] == record.certificate)
}

/// Whether who called what is what is looked for.
pub(super) fn record_fits(query: &Query, record: &Record) -> bool {
    let Query { principals, actions, .. } = query;
    let called = || action(record).is_some_and(|a| actions.contains(&a));
    (actions.is_empty() || called())
        && (!query.administration_only || is_administration(record))
        && !(query.omit_housekeeping && is_housekeeping(record))
        && !(query.omit_log_reads && reads_the_log(record))
        && (principals.is_empty() || principals.contains(&record.principal))
}

/// Whether a record is about keys, policy, the process or the log itself, not about values.
fn is_administration(record: &Record) -> bool {
    let about_values = |a: Action| matches!(a.kind(), ActionKind::Encrypt | ActionKind::Decrypt);
    let is_call = Kind::from_code(record.kind) == Some(Kind::Call);
    !(is_housekeeping(record) || is_call && action(record).is_some_and(about_values))
}

/// Whether somebody read the log itself, and was not refused.
fn reads_the_log(record: &Record) -> bool {
    let is_read = |action| {
        matches!(
            action,
            Action::QueryAuditEvents
                | Action::SummarizeAccess
                | Action::TailAuditEvents
                | Action::GetInclusionProof
                | Action::GetConsistencyProof
        )
    };
    record.outcome != Outcome::Denied.code() && action(record).is_some_and(is_read)
}

/// Whether the process noted it for itself while it served encrypts and decrypts.
fn is_housekeeping(record: &Record) -> bool {
    matches!(
        Kind::from_code(record.kind),
        Some(Kind::DataKeyCreated | Kind::SealsReserved | Kind::ClockTicked | Kind::VersionUsed)
    )
}

pub(super) fn filters_items(query: &Query) -> bool {
    !query.keys.is_empty()
        || !query.key_versions.is_empty()
        || query.table.is_some()
        || query.column.is_some()
        || query.partition.is_some()
        || query.row.is_some()
}

/// Whether an item that was erased could be one that is looked for: nobody knows its partition, its row and
/// the key version that was reached.
fn could_fit(query: &Query, item: &Read, record: &Record) -> bool {
    let Query { keys, key_versions, table, column, outcomes, .. } = query;
    let outcome = item.outcome(record);
    let ended = outcomes.is_empty() || outcome == 0 || is_one_of(outcomes, outcome);
    let about = |of: &RecordVerdict| {
        (keys.is_empty() || keys.contains(&of.key))
            && (key_versions.is_empty() || key_versions.iter().any(|(key, _)| *key == of.key))
            && table.as_ref().is_none_or(|table| *table == of.table)
            && column.as_ref().is_none_or(|column| *column == of.column)
    };
    // With several verdicts it had any of them.
    let verdicts = &record.verdicts;
    let own = verdicts.get(item.message.verdict as usize);
    ended && own.map_or_else(|| verdicts.iter().any(about), about)
}

pub(super) fn item_fits(
    query: &Query,
    item: &Read,
    verdict: Option<&RecordVerdict>,
    version: u32,
) -> bool {
    // Whose it was is not known any more.
    if item.redacted && (query.partition.is_some() || query.row.is_some()) {
        return false;
    }
    let item = &item.message;
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
