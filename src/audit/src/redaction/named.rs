//! Which details of a log it is about: whole ones, and items of others.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::record::{Kind, Outcome, Record, Redaction};
use crate::redaction::Standing;

/// Most entries that one record has.
const MAX_ENTRIES: usize = 512;

/// Numbers, as ranges of which no two touch: where each begins, and where it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Set(BTreeMap<u128, u128>);

impl Set {
    fn add(&mut self, range: Range<u128>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        if let Some((before, its_end)) = self.0.range(..=start).next_back()
            && *its_end >= start
        {
            (start, end) = (*before, end.max(*its_end));
        }
        while let Some((touched, its_end)) = self.0.range(start..=end).next() {
            let touched = *touched;
            end = end.max(*its_end);
            self.0.remove(&touched);
        }
        self.0.insert(start, end);
    }

    fn covers(&self, range: &Range<u128>) -> bool {
        let before = self.0.range(..=range.start).next_back();
        before.is_some_and(|(_, its_end)| *its_end >= range.end)
    }

    fn ranges(&self) -> impl Iterator<Item = Range<u128>> {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    fn meets(&self, range: &Range<u128>) -> bool {
        self.covers(&(range.start..range.start + 1)) || self.0.range(range.clone()).next().is_some()
    }
}

/// Details that are named, or that are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Records.
    whole: Set,
    /// `record << 32 | item`.
    items: Set,
}

/// The items of these numbers of a record.
fn of_record(record: u64, items: Range<u32>) -> Range<u128> {
    let at = |item: u32| u128::from(record) << 32 | u128::from(item);
    at(items.start)..at(items.end)
}

impl Named {
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.0.is_empty() && self.items.0.is_empty()
    }

    /// The whole details of these records.
    pub(crate) fn add_whole(&mut self, records: Range<u64>) {
        self.whole.add(records.start.into()..records.end.into());
    }

    pub(crate) fn add_item(&mut self, record: u64, item: u32) {
        self.items.add(of_record(record, item..item.saturating_add(1)));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        other.whole.ranges().for_each(|range| self.whole.add(range));
        other.items.ranges().for_each(|range| self.items.add(range));
    }

    /// What is not there of a record's detail.
    pub(crate) fn add_standing(&mut self, record: u64, standing: &Standing) {
        match standing {
            Standing::Whole => {}
            Standing::Gone => self.add_whole(record..record.saturating_add(1)),
            Standing::Without(items) => {
                items.iter().for_each(|item| self.add_item(record, *item));
            }
        }
    }

    /// What this record of the log names, if it is one that names any. It speaks of the records before
    /// it only.
    pub(crate) fn add_record(&mut self, index: u64, record: &Record) {
        if Kind::from_code(record.kind) != Some(Kind::DetailsRedacted)
            || Outcome::from_code(record.outcome) != Some(Outcome::Ok)
        {
            return;
        }
        for entry in &record.redactions {
            let Some(end) = entry.first.checked_add(entry.count).filter(|end| *end <= index) else {
                continue;
            };
            let items = entry.item..entry.item.saturating_add(entry.item_count);
            match (entry.item_count, entry.count) {
                (0, _) => self.add_whole(entry.first..end),
                (_, 1) => self.items.add(of_record(entry.first, items)),
                _ => {}
            }
        }
    }

    /// The records that this record of the log says are archived. It speaks of the records before it
    /// only.
    pub(crate) fn add_archived(&mut self, index: u64, record: &Record) {
        if Kind::from_code(record.kind) != Some(Kind::SegmentsArchived)
            || Outcome::from_code(record.outcome) != Some(Outcome::Ok)
        {
            return;
        }
        for segment in &record.archived {
            let end = segment.first.checked_add(segment.count).filter(|end| *end <= index);
            self.add_whole(segment.first..end.unwrap_or_default());
        }
    }

    /// How many of the first records are named without a gap.
    pub(crate) fn prefix(&self) -> u64 {
        self.whole.0.get(&0).map_or(0, |end| *end as u64)
    }

    pub(crate) fn has_whole(&self, record: u64) -> bool {
        let record = u128::from(record);
        self.whole.covers(&(record..record + 1))
    }

    pub(crate) fn has_item(&self, record: u64, item: u32) -> bool {
        self.has_whole(record)
            || self.items.covers(&of_record(record, item..item.saturating_add(1)))
    }

    /// Whether what is not there of a detail is named.
    pub(crate) fn allows(&self, record: u64, standing: &Standing) -> bool {
        match standing {
            Standing::Whole => true,
            Standing::Gone => self.has_whole(record),
            Standing::Without(items) => items.iter().all(|item| self.has_item(record, *item)),
        }
    }

    /// Whether everything of the other one is named here too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let record = |range: &Range<u128>| (range.start >> 32) as u64;
        other.whole.ranges().all(|range| self.whole.covers(&range))
            && other.items.ranges().all(|range| {
                self.items.covers(&range)
                    || self.has_whole(record(&range))
                    || single_items(&range).all(|(of, item)| self.has_item(of, item))
            })
    }

    /// Whether it is about any of these records.
    pub(crate) fn meets(&self, records: &Range<u64>) -> bool {
        let items = of_record(records.start, 0..0).start..of_record(records.end, 0..0).start;
        self.whole.meets(&(records.start.into()..records.end.into())) || self.items.meets(&items)
    }

    /// The entries of the records that name it, as many as one record has in each part.
    pub(crate) fn entries(&self) -> Vec<Vec<Redaction>> {
        let whole = self.whole.ranges().map(|range| Redaction {
            first: range.start as u64,
            count: (range.end - range.start) as u64,
            ..Redaction::default()
        });
        let items = self.items.ranges().map(|range| Redaction {
            first: (range.start >> 32) as u64,
            count: 1,
            item: range.start as u32,
            item_count: (range.end - range.start) as u32,
        });
        let mut all: Vec<Redaction> = whole.chain(items).collect();
        all.sort_unstable_by_key(|entry| (entry.first, entry.item));
        all.chunks(MAX_ENTRIES).map(<[Redaction]>::to_vec).collect()
    }
}

/// The items of a range one by one.
fn single_items(range: &Range<u128>) -> impl Iterator<Item = (u64, u32)> + use<> {
    range.clone().map(|number| ((number >> 32) as u64, number as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(ranges: &[(u64, u64)]) -> Named {
        let mut named = Named::default();
        ranges.iter().for_each(|(first, end)| named.add_whole(*first..*end));
        named
    }

    #[test]
    fn ranges_that_touch_become_one_whatever_their_order() {
        let all = [(5, 6), (1, 3), (3, 5), (9, 12), (8, 10), (2, 4), (20, 20)];
        let named = whole(&all);
        assert_eq!(named, whole(&[(1, 6), (8, 12)]));
        assert_eq!(named.whole.ranges().collect::<Vec<_>>(), [1..6, 8..12]);
        for record in 0..25 {
            let is_in = all.iter().any(|(first, end)| (*first..*end).contains(&record));
            assert_eq!(named.has_whole(record), is_in, "{record}");
            assert_eq!(named.meets(&(record..record + 1)), is_in, "{record}");
        }
        assert!(named.meets(&(6..9)) && !named.meets(&(6..8)) && !named.meets(&(12..40)));
    }

    #[test]
    fn an_item_is_named_by_itself_or_with_its_record() {
        let mut named = whole(&[(7, 8)]);
        named.add_item(3, 2);
        named.add_item(3, 3);
        assert!(named.has_item(3, 2) && named.has_item(7, 90));
        assert!(!named.has_item(3, 1) && !named.has_item(3, 4) && !named.has_item(4, 2));
        assert!(!named.has_whole(3));
        assert!(named.allows(3, &Standing::Without(vec![2, 3])));
        assert!(!named.allows(3, &Standing::Without(vec![1, 2])));
        assert!(!named.allows(3, &Standing::Gone) && named.allows(7, &Standing::Gone));
        assert!(named.meets(&(3..4)) && !named.meets(&(4..7)));
        let mut gone = Named::default();
        gone.add_standing(3, &Standing::Without(vec![3]));
        gone.add_standing(7, &Standing::Without(vec![0, 1]));
        assert!(named.covers(&gone));
        gone.add_standing(3, &Standing::Without(vec![4]));
        assert!(!named.covers(&gone));
    }

    #[test]
    fn what_is_said_in_records_is_read_back_and_never_speaks_of_what_comes_later() {
        let mut named = whole(&[(0, 9)]);
        (0..1000).for_each(|at| named.add_whole(10 + 2 * at..11 + 2 * at));
        (0..40).for_each(|at| named.add_item(9, at));
        named.add_item(9, 50);
        let parts = named.entries();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [512, 491]);
        let record = |redactions: Vec<Redaction>, kind: Kind, outcome: Outcome| {
            let (kind, outcome) = (kind.code(), outcome.code());
            Record { kind, outcome, redactions, ..Record::default() }
        };
        let mut read = Named::default();
        for part in &parts {
            read.add_record(5000, &record(part.clone(), Kind::DetailsRedacted, Outcome::Ok));
        }
        assert_eq!(read, named);
        let mut none = Named::default();
        let one = vec![Redaction { first: 8, count: 2, ..Redaction::default() }];
        none.add_record(9, &record(one.clone(), Kind::DetailsRedacted, Outcome::Ok));
        none.add_record(20, &record(one.clone(), Kind::DetailsRedacted, Outcome::Failed));
        none.add_record(20, &record(one.clone(), Kind::Call, Outcome::Ok));
        assert!(none.is_empty());
        none.add_record(10, &record(one, Kind::DetailsRedacted, Outcome::Ok));
        assert_eq!(none, whole(&[(8, 10)]));
    }
}
