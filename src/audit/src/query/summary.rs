//! Counting accesses: who read which field how often, in how many partitions, from when to when.

mod tally;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher as _;

use fieldseal_model::{Action, Timestamp};

use super::Beginning;
use super::event::{Event, EventItem};
use crate::error::QueryError;
use crate::record::Outcome;
pub(super) use tally::Part;
use tally::Tally;

/// Groups that one summary counts at most, and distinct partitions in the groups of a page together.
const MAX_GROUPS: usize = 1_000_000;
const MAX_PARTITIONS: usize = 4_000_000;
const HOUR_NANOS: i64 = 3_600_000_000_000;

/// What accesses can be grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// The hour in which the call began, UTC.
    Hour,
    /// Who called.
    Principal,
    /// What was called.
    Action,
    /// The key.
    Key,
    /// The key version that was reached.
    KeyVersion,
    /// The table.
    Table,
    /// The column.
    Column,
    /// How it ended.
    Outcome,
    /// The rule that decided.
    Rule,
    /// The partition's token.
    Partition,
    /// The row's token.
    Row,
    /// Why it was refused or failed.
    Cause,
}

/// What the accesses of a group have in common; the rest is empty. Groups are in this order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct GroupKey {
    /// Seconds since 1970 when the hour begins.
    #[prost(sint64, tag = "1")]
    pub hour: i64,
    /// Typed.
    #[prost(string, tag = "2")]
    pub principal: String,
    #[prost(uint32, tag = "3")]
    action: u32,
    /// The bare name.
    #[prost(string, tag = "4")]
    pub key: String,
    /// 0 if none was reached.
    #[prost(uint32, tag = "5")]
    pub key_version: u32,
    /// As stated.
    #[prost(string, tag = "6")]
    pub table: String,
    /// As stated.
    #[prost(string, tag = "7")]
    pub column: String,
    #[prost(uint32, tag = "8")]
    outcome: u32,
    /// The rule's `@id`.
    #[prost(string, tag = "9")]
    pub rule: String,
    /// The token; empty for the default partition.
    #[prost(bytes = "vec", tag = "10")]
    pub partition: Vec<u8>,
    /// The token; empty if no row was stated.
    #[prost(bytes = "vec", tag = "11")]
    pub row: Vec<u8>,
    /// The reason's name; empty if it was done.
    #[prost(string, tag = "12")]
    pub cause: String,
}

impl GroupKey {
    /// What was called.
    #[must_use]
    pub fn called(&self) -> Option<Action> {
        u8::try_from(self.action).ok().and_then(Action::from_code)
    }

    /// How it ended.
    #[must_use]
    pub fn ended(&self) -> Option<Outcome> {
        Outcome::from_code(self.outcome)
    }

    pub(super) fn of(subject: &Subject<'_>, groupings: &[Grouping]) -> Self {
        let mut key = Self::default();
        for grouping in groupings {
            match grouping {
                Grouping::Hour => key.hour = hour(subject.time),
                Grouping::Principal => subject.principal.clone_into(&mut key.principal),
                Grouping::Action => key.action = subject.action.map_or(0, |a| a.code().into()),
                Grouping::Key => subject.key.clone_into(&mut key.key),
                Grouping::KeyVersion => {
                    subject.key.clone_into(&mut key.key);
                    key.key_version = subject.key_version;
                }
                Grouping::Table => subject.table.clone_into(&mut key.table),
                Grouping::Column => subject.column.clone_into(&mut key.column),
                Grouping::Outcome => key.outcome = subject.outcome.map_or(0, Outcome::code),
                Grouping::Rule => subject.rule.clone_into(&mut key.rule),
                Grouping::Partition => subject.partition.clone_into(&mut key.partition),
                Grouping::Row => subject.row.clone_into(&mut key.row),
                Grouping::Cause => subject.cause.clone_into(&mut key.cause),
            }
        }
        key
    }
}

/// What of an access can be grouped by.
pub(super) struct Subject<'a> {
    pub(super) time: Timestamp,
    pub(super) principal: &'a str,
    pub(super) action: Option<Action>,
    pub(super) key: &'a str,
    pub(super) key_version: u32,
    pub(super) table: &'a str,
    pub(super) column: &'a str,
    pub(super) outcome: Option<Outcome>,
    pub(super) rule: &'a str,
    pub(super) partition: &'a [u8],
    pub(super) row: &'a [u8],
    pub(super) cause: &'a str,
}

impl<'a> Subject<'a> {
    fn of(event: &'a Event, item: &'a EventItem) -> Self {
        Self {
            time: event.time,
            principal: &event.principal,
            action: event.action,
            key: &item.key,
            key_version: item.key_version,
            table: &item.table,
            column: &item.column,
            outcome: item.outcome,
            rule: &item.rule,
            partition: &item.partition,
            row: &item.row,
            cause: &item.cause,
        }
    }
}

pub(super) fn hour(at: Timestamp) -> i64 {
    at.unix_nanos().div_euclid(HOUR_NANOS) * (HOUR_NANOS / 1_000_000_000)
}

/// How many accesses, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Each item of a batch is one; an event without items has none.
    pub fields: u64,
    /// Calls, and other events.
    pub events: u64,
    /// Distinct named partitions.
    pub partitions: u64,
    /// When the first of the calls began.
    pub first: Option<Timestamp>,
    /// When the last of the calls began.
    pub last: Option<Timestamp>,
}

/// A page of groups.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// In the order of their keys.
    pub groups: Vec<(GroupKey, Counts)>,
    /// How many groups there are on all pages.
    pub group_count: usize,
    /// Over everything that matches.
    pub total: Counts,
    /// For the next page; `None` after the last.
    pub next: Option<String>,
    /// All pages count the log as it was when it had so many records.
    pub tree_size: u64,
    /// What is older is archived, and not counted.
    pub begins: Beginning,
    /// Records whose detail was erased, and that could have been counted by all that is left of them.
    pub erased: u64,
}

/// Counts what matches, and keeps the groups of one page: those that come first behind `after`.
pub(super) struct Tallies<'a> {
    groupings: &'a [Grouping],
    limit: usize,
    after: Option<GroupKey>,
    page: BTreeMap<GroupKey, Tally>,
    /// Keyed hashes of every group, on whichever page.
    seen: HashSet<u64>,
    hashes: RandomState,
    total: Tally,
    /// Partitions that the page and the total hold together.
    partitions: usize,
    /// There are groups behind the page.
    more: bool,
    /// Of one segment: events with items in several parts, and the group that counted them.
    split: HashSet<(u64, u32)>,
}

impl<'a> Tallies<'a> {
    pub(super) fn new(groupings: &'a [Grouping], limit: usize, after: Option<GroupKey>) -> Self {
        Self {
            groupings,
            limit: limit.max(1),
            after,
            page: BTreeMap::new(),
            seen: HashSet::new(),
            hashes: RandomState::new(),
            total: Tally::default(),
            partitions: 0,
            more: false,
            split: HashSet::new(),
        }
    }

    /// Parts of another segment follow.
    pub(super) fn next_segment(&mut self) {
        self.split.clear();
    }

    /// Counts a part of a segment that belongs to one group.
    ///
    /// # Errors
    /// `TooLarge` as [`Self::add`].
    pub(super) fn merge(&mut self, key: GroupKey, part: &Part) -> Result<(), QueryError> {
        self.partitions += self.total.merge(part, &mut self.split, 0);
        if !self.groupings.is_empty() {
            // 0 is the total's. Another group with its number is as unlikely as two with the same.
            let group = self.hashes.hash_one(&key).max(1);
            let mut split = std::mem::take(&mut self.split);
            self.group(key, |tally| tally.merge(part, &mut split, group));
            self.split = split;
        }
        self.check()
    }

    fn check(&self) -> Result<(), QueryError> {
        let is_large = self.seen.len() > MAX_GROUPS || self.partitions > MAX_PARTITIONS;
        if is_large { Err(QueryError::TooLarge) } else { Ok(()) }
    }

    /// Counts the items of an event.
    ///
    /// # Errors
    /// `TooLarge` beyond 1,000,000 groups or 4,000,000 partitions.
    pub(super) fn add(&mut self, event: &Event) -> Result<(), QueryError> {
        let none;
        let items = match event.items.as_slice() {
            [] => {
                none = EventItem {
                    outcome: event.outcome,
                    rule: event.rule.clone(),
                    ..EventItem::default()
                };
                std::slice::from_ref(&none)
            }
            items => items,
        };
        for item in items {
            self.partitions += self.total.add(event, item);
            if !self.groupings.is_empty() {
                let key = GroupKey::of(&Subject::of(event, item), self.groupings);
                self.group(key, |tally| tally.add(event, item));
            }
        }
        self.check()
    }

    /// Counts something in a group: `add` does, and says how many partitions are new.
    fn group(&mut self, key: GroupKey, add: impl FnOnce(&mut Tally) -> usize) {
        if let Some(tally) = self.page.get_mut(&key) {
            self.partitions += add(tally);
            return;
        }
        self.seen.insert(self.hashes.hash_one(&key));
        if self.after.as_ref().is_some_and(|after| key <= *after) {
            return;
        }
        // INVARIANT: a group that was dropped comes behind everything on the page for good, because
        // the page only ever loses its last group to one before it.
        if self.page.len() >= self.limit {
            self.more = true;
            match self.page.last_entry() {
                Some(last) if key < *last.key() => {
                    let dropped = last.remove();
                    self.partitions = self.partitions.saturating_sub(dropped.partitions.len());
                }
                _ => return,
            }
        }
        let mut tally = Tally::default();
        self.partitions += add(&mut tally);
        self.page.insert(key, tally);
    }

    /// The page; the key of its last group is where the next one goes on, if there is one.
    pub(super) fn finish(self) -> (Summary, Option<GroupKey>) {
        let last = self.page.last_key_value().filter(|_| self.more).map(|(key, _)| key.clone());
        let groups = self.page.into_iter().map(|(key, tally)| (key, tally.counts)).collect();
        let (group_count, total) = (self.seen.len(), self.total.counts);
        (Summary { groups, group_count, total, ..Summary::default() }, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Started;

    const BY: &[Grouping] = &[Grouping::Principal, Grouping::Column];

    fn event(index: u64, principal: &str, items: &[(&str, u8)]) -> Event {
        let item = |(column, partition): &(&str, u8)| EventItem {
            column: (*column).to_owned(),
            partition: if *partition == 0 { Vec::new() } else { vec![*partition; 16] },
            ..EventItem::default()
        };
        Event {
            index,
            kind: None,
            time: Timestamp::from_unix_nanos(i64::try_from(index).unwrap() * HOUR_NANOS + 1),
            principal: principal.to_owned(),
            certificate: Vec::new(),
            action: Some(Action::Decrypt),
            outcome: Some(Outcome::Ok),
            purpose: String::new(),
            ticket: String::new(),
            end_user: Vec::new(),
            rule: String::new(),
            note: String::new(),
            policy_digest: Vec::new(),
            previous_policy_digest: Vec::new(),
            settings: Vec::new(),
            started: Started::default(),
            data_keys: 0,
            calls: 1,
            first: Timestamp::from_unix_nanos(i64::try_from(index).unwrap() * HOUR_NANOS + 1),
            item_count: u32::try_from(items.len()).unwrap(),
            items: items.iter().map(item).collect(),
            redacted: false,
            leaf_hash: [0; 32],
        }
    }

    /// What a page shows, and whether it is the last one.
    fn page(limit: usize, after: Option<GroupKey>) -> (Summary, Option<GroupKey>) {
        let mut tallies = Tallies::new(BY, limit, after);
        for event in [
            event(3, "dns:b", &[("iban", 1), ("iban", 2), ("email", 2)]),
            event(1, "dns:c", &[("email", 0)]),
            event(5, "dns:a", &[("iban", 1)]),
            event(2, "dns:b", &[("iban", 2)]),
            event(6, "dns:c", &[("email", 0)]),
        ] {
            tallies.add(&event).unwrap();
        }
        tallies.finish()
    }

    #[test]
    fn fields_calls_and_partitions_are_counted_for_each_group_and_in_all() {
        let (summary, next) = page(10, None);
        assert_eq!(next, None);
        let shown: Vec<_> = summary
            .groups
            .iter()
            .map(|(key, c)| {
                let name = format!("{} {}", key.principal, key.column);
                (name, c.fields, c.events, c.partitions)
            })
            .collect();
        let expected = [
            ("dns:a iban", 1, 1, 1),
            ("dns:b email", 1, 1, 1),
            ("dns:b iban", 3, 2, 2),
            ("dns:c email", 2, 2, 0),
        ];
        assert_eq!(shown, expected.map(|(n, f, e, p)| (n.to_owned(), f, e, p)));
        let total = summary.total;
        assert_eq!((total.fields, total.events, total.partitions), (7, 5, 2));
        let hours = |at: Option<Timestamp>| at.map(|at| hour(at) / 3600);
        assert_eq!((hours(total.first), hours(total.last)), (Some(1), Some(6)));
    }

    #[test]
    fn pages_of_any_size_show_every_group_once() {
        let (all, _) = page(10, None);
        for size in 1..=5 {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let (summary, next) = page(size, after);
                assert!(summary.groups.len() <= size);
                assert_eq!((summary.group_count, summary.total), (4, all.total));
                found.extend(summary.groups);
                after = next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, all.groups, "{size}");
        }
    }

    #[test]
    fn hours_before_1970_begin_where_they_begin() {
        assert_eq!(hour(Timestamp::from_unix_nanos(-1)), -3600);
        assert_eq!(hour(Timestamp::from_unix_nanos(HOUR_NANOS - 1)), 0);
        assert_eq!(hour(Timestamp::from_unix_nanos(HOUR_NANOS)), 3600);
    }
}
