//! Finding records again, in the files themselves: no index that could disagree with the log.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldseal_crypto::sha256;
use fieldseal_crypto::signing::LogPublicKey;
use fieldseal_model::{Action, Timestamp};
use prost::Message as _;

use crate::error::{JournalError, QueryError};
use crate::merkle::{self, Hash};
use crate::record::{
    COMMITMENT_BYTES, DetailHead, DetailParts, Kind, Outcome, Record, RecordItem, RecordVerdict,
};
use crate::segment::{self, At, Frame, Segment};

/// Records that one page looks at, at most: a page may be short and not be the last.
const MAX_LOOKED_AT: usize = 200_000;

/// What to look for. Lists are OR, fields are AND; what is empty or `None` does not filter. Key,
/// table, column, partition and row must be those of one and the same item.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Inclusive.
    pub start: Option<Timestamp>,
    /// Exclusive.
    pub end: Option<Timestamp>,
    /// Typed names.
    pub principals: Vec<String>,
    /// What was called.
    pub actions: Vec<Action>,
    /// Bare key names.
    pub keys: Vec<String>,
    /// The table.
    pub table: Option<String>,
    /// The column.
    pub column: Option<String>,
    /// The partition's token; `Some(None)` is the default partition.
    pub partition: Option<Option<[u8; 16]>>,
    /// The row's token.
    pub row: Option<[u8; 16]>,
    /// Of the event or of one of its items.
    pub outcomes: Vec<Outcome>,
    /// Purposes as stated.
    pub purposes: Vec<String>,
    /// Tickets as stated.
    pub tickets: Vec<String>,
    /// The oldest first instead of the newest.
    pub oldest_first: bool,
}

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
    /// The rule that decided, if one decided everything.
    pub rule: String,
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
}

/// Some events, and where to go on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// For the next page; `None` after the last.
    pub next: Option<String>,
    /// All pages show the log as it was when it had so many records.
    pub tree_size: u64,
}

/// Reads a log that may be written to meanwhile. Blocks: call it where that is allowed.
pub struct Reader {
    directory: PathBuf,
    key: LogPublicKey,
    log: Arc<str>,
}

/// What an opaque page token holds.
#[derive(Clone, PartialEq, prost::Message)]
struct Token {
    #[prost(uint64, tag = "1")]
    tree_size: u64,
    /// The next record to look at is this one (oldest first) or the one before (newest first).
    #[prost(uint64, tag = "2")]
    position: u64,
    #[prost(bytes = "vec", tag = "3")]
    query: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(directory: PathBuf, key: LogPublicKey, log: Arc<str>) -> Self {
        Self { directory, key, log }
    }

    /// The instance that names the log.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Events that match, at most `limit` of them, of the first `tree_size` records of the log.
    ///
    /// # Errors
    /// `PageToken` if the token belongs to another query; `Unreadable`.
    pub fn query(
        &self,
        query: &Query,
        limit: usize,
        tree_size: u64,
        page_token: &str,
    ) -> Result<Page, QueryError> {
        let digest = sha256(&[format!("{query:?}").as_bytes()]);
        let token = match page_token {
            "" => {
                let position = if query.oldest_first { 0 } else { tree_size };
                Token { tree_size, position, query: digest.to_vec() }
            }
            text => parse_token(text, &digest, tree_size)?,
        };
        let mut search = Search {
            query,
            limit,
            size: token.tree_size,
            position: token.position,
            looked_at: 0,
            events: Vec::new(),
        };
        self.run(&mut search).map_err(|e| QueryError::Unreadable(e.to_string().into()))?;
        let done = search.position == if query.oldest_first { search.size } else { 0 };
        let next = (!done).then(|| {
            let token = Token { position: search.position, ..token.clone() };
            URL_SAFE_NO_PAD.encode(token.encode_to_vec())
        });
        Ok(Page { events: search.events, next, tree_size: token.tree_size })
    }

    fn run(&self, search: &mut Search<'_>) -> Result<(), JournalError> {
        let segments = segment::list(&self.directory)?;
        let ends = segments.iter().skip(1).map(|(first, _)| *first).chain([u64::MAX]);
        let mut parts: Vec<_> = segments.iter().zip(ends).collect();
        if !search.query.oldest_first {
            parts.reverse();
        }
        for ((first, path), end) in parts {
            if search.is_over() {
                break;
            }
            let outside = if search.query.oldest_first {
                search.position >= end
            } else {
                search.position <= *first
            };
            if !outside {
                search.segment(&Segment::open(path, &self.key)?)?;
            }
        }
        Ok(())
    }
}

fn parse_token(text: &str, digest: &[u8; 32], size: u64) -> Result<Token, QueryError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| QueryError::PageToken)?;
    let token = Token::decode(bytes.as_slice()).map_err(|_| QueryError::PageToken)?;
    let legal =
        token.query == digest && token.position <= token.tree_size && token.tree_size <= size;
    legal.then_some(token).ok_or(QueryError::PageToken)
}

struct Search<'a> {
    query: &'a Query,
    limit: usize,
    size: u64,
    position: u64,
    looked_at: usize,
    events: Vec<Event>,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        let done =
            if self.query.oldest_first { self.position >= self.size } else { self.position == 0 };
        done || self.events.len() >= self.limit || self.looked_at >= MAX_LOOKED_AT
    }

    fn segment(&mut self, segment: &Segment) -> Result<(), JournalError> {
        let mut frames = Vec::new();
        let mut offset = segment.start;
        while let Some((head, end)) = segment.skip(offset)? {
            if head.first >= self.size {
                break;
            }
            frames.push((head.first, offset));
            offset = end;
        }
        if !self.query.oldest_first {
            frames.reverse();
        }
        for (first, offset) in frames {
            if self.is_over() {
                break;
            }
            let past = !self.query.oldest_first && first >= self.position;
            if past {
                continue;
            }
            match segment.at(offset)? {
                At::Frame(frame) => self.frame(segment, &frame)?,
                _ => {
                    return Err(JournalError::corrupt(&segment.path, offset, "a frame is damaged"));
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, segment: &Segment, frame: &Frame) -> Result<(), JournalError> {
        let cut = || JournalError::corrupt(&segment.path, frame.offset, "a record is cut off");
        let records =
            frame.leaves().zip(frame.details()).enumerate().map(|(at, parts)| match parts {
                (Some(leaf), Some(detail)) => Ok((frame.head.first + at as u64, leaf, detail)),
                _ => Err(cut()),
            });
        let mut records = records.collect::<Result<Vec<_>, _>>()?;
        if !self.query.oldest_first {
            records.reverse();
        }
        for (index, leaf, detail) in records {
            let turn = if self.query.oldest_first {
                index >= self.position && index < self.size
            } else {
                index < self.position
            };
            if !turn {
                continue;
            }
            if self.is_over() {
                break;
            }
            self.looked_at += 1;
            self.position = if self.query.oldest_first { index + 1 } else { index };
            let event = read(index, leaf, detail).ok_or_else(cut)?;
            if matches(self.query, &event) {
                self.events.push(event);
            }
        }
        Ok(())
    }
}

/// Reads a record back; `None` if it is none.
pub(crate) fn read(index: u64, leaf: &[u8], detail: &[u8]) -> Option<Event> {
    let public = leaf.get(..leaf.len().checked_sub(COMMITMENT_BYTES)?)?;
    let record = Record::decode(public).ok()?;
    let (head, items) = match detail {
        [] => (DetailHead::default(), Vec::new()),
        _ => {
            let parts = DetailParts::cut(detail)?;
            let items = parts.items().map(|item| RecordItem::decode(item?.1).ok());
            let head = DetailHead::decode(parts.head).ok()?;
            let mut items = items.collect::<Option<Vec<_>>>()?;
            if !head.partition.is_empty() {
                items.iter_mut().for_each(|item| item.partition.clone_from(&head.partition));
            }
            (head, items)
        }
    };
    let rule = one_rule(&record.verdicts);
    let items = match (items.is_empty(), record.verdicts.first()) {
        // A change: what it was about stands in its verdict.
        (true, Some(verdict)) => vec![item(&RecordItem::default(), Some(verdict), &record)],
        _ => {
            let verdict = |i: &RecordItem| record.verdicts.get(i.verdict as usize);
            items.iter().map(|i| item(i, verdict(i), &record)).collect()
        }
    };
    Some(Event {
        index,
        kind: Kind::from_code(record.kind),
        time: Timestamp::from_unix_nanos(record.time),
        principal: record.principal,
        action: u8::try_from(record.action).ok().and_then(Action::from_code),
        outcome: Outcome::from_code(record.outcome),
        purpose: record.purpose,
        ticket: head.ticket,
        rule,
        item_count: record.item_count,
        items,
        leaf_hash: merkle::leaf_hash(leaf),
    })
}

fn item(item: &RecordItem, verdict: Option<&RecordVerdict>, record: &Record) -> EventItem {
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

fn matches(query: &Query, event: &Event) -> bool {
    let any =
        |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|w| w == found);
    let action =
        query.actions.is_empty() || event.action.is_some_and(|a| query.actions.contains(&a));
    let in_time = query.start.is_none_or(|start| event.time >= start)
        && query.end.is_none_or(|end| event.time < end);
    in_time
        && action
        && any(&query.principals, &event.principal)
        && any(&query.purposes, &event.purpose)
        && any(&query.tickets, &event.ticket)
        && items_match(query, event)
}

fn items_match(query: &Query, event: &Event) -> bool {
    let wants_item = !query.keys.is_empty()
        || query.table.is_some()
        || query.column.is_some()
        || query.partition.is_some()
        || query.row.is_some();
    let ended = |outcome: Option<Outcome>| outcome.is_some_and(|o| query.outcomes.contains(&o));
    let outcome = query.outcomes.is_empty() || ended(event.outcome);
    if !wants_item {
        return outcome || event.items.iter().any(|item| ended(item.outcome));
    }
    event.items.iter().any(|item| fits(query, item) && (outcome || ended(item.outcome)))
}

fn fits(query: &Query, item: &EventItem) -> bool {
    (query.keys.is_empty() || query.keys.contains(&item.key))
        && query.table.as_ref().is_none_or(|table| *table == item.table)
        && query.column.as_ref().is_none_or(|column| *column == item.column)
        && query
            .partition
            .as_ref()
            .is_none_or(|p| p.as_ref().map_or(&[][..], |t| t) == item.partition)
        && query.row.as_ref().is_none_or(|row| row[..] == item.row)
}
