//! One group while it is counted.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use fieldseal_model::Timestamp;

use super::super::event::{Event, EventItem};
use super::Counts;
use crate::index::partition;

/// The beginnings of tokens, which are as good as random already.
pub(super) type Partitions = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// Takes a number for its own hash.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Accesses of one segment that belong to one group.
#[derive(Default)]
pub(in crate::query) struct Part {
    fields: u64,
    /// Events that have no items elsewhere.
    pub(in crate::query) events: u64,
    /// Places in the segment of events that may have items in other parts too.
    pub(in crate::query) split: Vec<u32>,
    range: Option<(Timestamp, Timestamp)>,
    partitions: Vec<u64>,
}

impl Part {
    pub(in crate::query) fn is_empty(&self) -> bool {
        self.range.is_none()
    }

    /// Takes items of one event and one partition.
    pub(in crate::query) fn add(&mut self, time: Timestamp, items: u32, partition: Option<u64>) {
        self.fields += u64::from(items);
        let (first, last) = self.range.unwrap_or((time, time));
        self.range = Some((first.min(time), last.max(time)));
        self.partitions.extend(partition);
    }
}

/// A group while it is counted.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// The event that was counted last.
    event: Option<u64>,
    pub(super) partitions: Partitions,
}

impl Tally {
    /// Counts an item, or an event that has none; how many partitions are new.
    pub(super) fn add(&mut self, event: &Event, item: &EventItem) -> usize {
        let counts = &mut self.counts;
        // Refusals that were counted: each item stands for some of the calls, or each for all of them.
        let calls = if item.calls > 0 { item.calls } else { event.calls };
        counts.fields += if event.items.is_empty() { 0 } else { calls };
        let is_new = self.event.replace(event.index) != Some(event.index);
        if is_new || item.calls > 0 {
            counts.events += calls;
        }
        self.range(event.first, event.time);
        self.partitions(partition(&item.partition))
    }

    /// Counts a part; how many partitions are new. `split` knows the events with items in several.
    pub(super) fn merge(
        &mut self,
        part: &Part,
        split: &mut HashSet<(u64, u32)>,
        group: u64,
    ) -> usize {
        let new = part.split.iter().filter(|record| split.insert((group, **record)));
        self.counts.events += part.events + new.count() as u64;
        self.counts.fields += part.fields;
        if let Some((first, last)) = part.range {
            self.range(first, last);
        }
        self.partitions(part.partitions.iter().copied())
    }

    fn range(&mut self, first: Timestamp, last: Timestamp) {
        let counts = &mut self.counts;
        counts.first = Some(counts.first.map_or(first, |earliest| earliest.min(first)));
        counts.last = counts.last.max(Some(last));
    }

    fn partitions(&mut self, found: impl IntoIterator<Item = u64>) -> usize {
        let before = self.partitions.len();
        self.partitions.extend(found);
        self.counts.partitions = self.partitions.len() as u64;
        self.partitions.len() - before
    }
}
