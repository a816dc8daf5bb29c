//! A record of an excerpt as its readers see it: every text and number that stands in it.

use fieldseal_model::Timestamp;
use prost::Message as _;

use crate::event::Started;
use crate::record::{COMMITMENT_BYTES, DetailHead, DetailParts, Record, RecordItem};

/// What is there of a record's detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detail {
    /// It never had one.
    None,
    /// All of it.
    Whole,
    /// It is there without some of its items: they were redacted.
    Partly,
    /// It had one, and that is not there: it was redacted.
    Gone,
}

/// A record, read back, with numbers as they stand in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub index: u64,
    /// The number of its [`crate::Kind`].
    pub kind: u32,
    /// When the call began.
    pub time: Timestamp,
    /// Who called; empty for the process itself.
    pub principal: String,
    /// The certificate that the caller showed: the beginning of its SHA-256; empty if there was none.
    pub certificate: Vec<u8>,
    /// The number of what was called; 0 for the process itself.
    pub action: u32,
    /// The number of its [`crate::Outcome`].
    pub outcome: u32,
    /// As stated.
    pub purpose: String,
    /// As stated; empty if the detail is not there.
    pub ticket: String,
    /// The end user's token; empty if none was shown.
    pub end_user: Vec<u8>,
    /// What stands in its note.
    pub note: String,
    /// Of a start and a reload: the digest of the policy that decides from here on.
    pub policy_digest: Vec<u8>,
    /// Of a reload: that of the one before.
    pub previous_policy_digest: Vec<u8>,
    /// Of a start: what the process was started with.
    pub started: Started,
    /// Of a change of data keys: how many.
    pub count: u64,
    /// What it is about: its items or, without any, its decisions. Empty for what is about no field.
    pub fields: Vec<Field>,
    /// What is there of its detail.
    pub detail: Detail,
}

/// An item of a record, or a decision of one without items. Of an item that was redacted only its number
/// is there, and the outcome is 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Field {
    /// Which item, from 0; `None` for a decision.
    pub item: Option<u32>,
    /// The key's bare name as stated.
    pub key: String,
    /// The key version that was reached or changed, or 0.
    pub key_version: u32,
    /// As stated.
    pub table: String,
    /// As stated.
    pub column: String,
    /// The row's token; empty if none was stated.
    pub row: Vec<u8>,
    /// The partition's token; empty for the default partition.
    pub partition: Vec<u8>,
    /// The number of how it ended.
    pub outcome: u32,
    /// The rule that decided.
    pub rule: String,
    /// The reason of a failure, or the cause of a denial.
    pub cause: String,
}

/// Reads a record; `None` if the bytes are none.
pub(super) fn read(index: u64, leaf: &[u8], detail: &[u8]) -> Option<Entry> {
    let (public, commitment) = leaf.split_at_checked(leaf.len().checked_sub(COMMITMENT_BYTES)?)?;
    let record = Record::decode(public).ok()?;
    let had_one = commitment.iter().any(|byte| *byte != 0);
    let parts = if detail.is_empty() { None } else { Some(DetailParts::cut(detail)?) };
    let head = parts.as_ref().map(|parts| DetailHead::decode(parts.head)).transpose().ok()?;
    let head = head.unwrap_or_default();
    let items = parts.iter().flat_map(DetailParts::items);
    // The inner `None`: it was redacted.
    let items = items.map(|item| item?.message.map(RecordItem::decode).transpose().ok());
    let items = items.collect::<Option<Vec<_>>>()?;
    let is_whole = items.iter().all(Option::is_some);
    Some(Entry {
        index,
        kind: record.kind,
        time: Timestamp::from_unix_nanos(record.time),
        fields: fields(&record, &head, items),
        action: record.action,
        outcome: record.outcome,
        started: Started::of(&record),
        certificate: record.certificate,
        principal: record.principal,
        purpose: record.purpose,
        ticket: head.ticket,
        end_user: head.end_user,
        note: record.note,
        policy_digest: record.policy_digest,
        previous_policy_digest: record.previous_policy_digest,
        count: record.count,
        detail: match (had_one, parts.is_some(), is_whole) {
            (false, ..) => Detail::None,
            (true, true, true) => Detail::Whole,
            (true, true, false) => Detail::Partly,
            (true, false, _) => Detail::Gone,
        },
    })
}

fn fields(record: &Record, head: &DetailHead, items: Vec<Option<RecordItem>>) -> Vec<Field> {
    let decided = |at: u32| {
        let verdict = record.verdicts.get(at as usize).cloned().unwrap_or_default();
        Field {
            key: verdict.key,
            key_version: record.key_version,
            table: verdict.table,
            column: verdict.column,
            partition: head.partition.clone(),
            outcome: record.outcome,
            rule: verdict.rule,
            cause: verdict.cause,
            ..Field::default()
        }
    };
    if items.is_empty() {
        return (0..record.verdicts.len()).map(|at| decided(at as u32)).collect();
    }
    let field = |(at, item): (usize, Option<RecordItem>)| {
        let number = u32::try_from(at).ok();
        let Some(item) = item else { return Field { item: number, ..Field::default() } };
        let mut field = decided(item.verdict);
        field.item = number;
        field.key_version = item.key_version.max(record.key_version);
        field.row = item.row;
        if head.partition.is_empty() {
            field.partition = item.partition;
        }
        if item.outcome != 0 {
            field.outcome = item.outcome;
        }
        if !item.cause.is_empty() {
            field.cause = item.cause;
        }
        field
    };
    items.into_iter().enumerate().map(field).collect()
}
