//! Counting from an index alone, where it knows everything that is asked.

use fieldseal_model::Timestamp;

use super::event::{self, Read, action, one_rule};
use super::summary::{GroupKey, Grouping, Part, Subject, hour};
use super::{Query, Tallies};
use crate::error::QueryError;
use crate::index::{Count, Kind, Row, Shape};
use crate::record::{Outcome, RecordVerdict};

/// Whether an index knows what this is about. It knows no row, no whole token of a partition, and not
/// which purpose, ticket, end user or certificate belongs to which record. Why something was refused stands in
/// its verdict; why it failed, it does not know.
pub(super) fn is_known(query: &Query, groupings: &[Grouping]) -> bool {
    let is_refused = query.outcomes == [Outcome::Denied];
    let Query { purposes, tickets, end_user, certificate, partition, row, .. } = query;
    purposes.is_empty()
        && tickets.is_empty()
        && end_user.is_none()
        && certificate.is_none()
        && partition.is_none()
        && row.is_none()
        && !groupings.iter().any(|by| matches!(by, Grouping::Partition | Grouping::Row))
        && (is_refused || !groupings.contains(&Grouping::Cause))
}

/// What is counted of one segment. Nothing of it counts before all of it was read.
pub(super) struct Counter<'a> {
    query: &'a Query,
    groupings: &'a [Grouping],
    kinds: Vec<Option<Counted>>,
    parts: Vec<(GroupKey, Part)>,
}

/// The items of a kind that is wanted.
struct Counted {
    key: GroupKey,
    is_item: bool,
    is_split: bool,
    /// The record that was counted last.
    record: Option<u32>,
    part: Part,
}

impl<'a> Counter<'a> {
    pub(super) fn new(query: &'a Query, groupings: &'a [Grouping]) -> Self {
        Self { query, groupings, kinds: Vec::new(), parts: Vec::new() }
    }

    /// Adds everything to the groups.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(super) fn finish(self, tallies: &mut Tallies<'_>) -> Result<(), QueryError> {
        let Self { kinds, mut parts, .. } = self;
        let rest = kinds.into_iter().flatten().map(|kind| (kind.key, kind.part));
        parts.extend(rest.filter(|(_, part)| !part.is_empty()));
        tallies.next_segment();
        parts.into_iter().try_for_each(|(key, part)| tallies.merge(key, &part))
    }

    fn counted(&self, shapes: &[Shape], kind: &Kind) -> Option<Counted> {
        let record = &shapes.get(kind.shape as usize)?.record;
        event::record_fits(self.query, record).then_some(())?;
        let outcome = Outcome::from_code(kind.outcome);
        let none = RecordVerdict::default();
        let of = record.verdicts.get(kind.verdict as usize).unwrap_or(&none);
        let rule = if kind.is_item { of.rule.clone() } else { one_rule(&record.verdicts) };
        if kind.is_item {
            let outcomes = &self.query.outcomes;
            let ended = outcomes.is_empty() || outcome.is_some_and(|o| outcomes.contains(&o));
            let item = Read::default();
            let fits = event::item_fits(self.query, &item, Some(of), kind.key_version);
            (ended && fits).then_some(())?;
        } else {
            let any = self.query.outcomes.is_empty() && !event::filters_items(self.query);
            any.then_some(())?;
        }
        let subject = Subject {
            time: Timestamp::default(),
            principal: &record.principal,
            action: action(record),
            key: &of.key,
            key_version: if kind.is_item { kind.key_version } else { 0 },
            table: &of.table,
            column: &of.column,
            outcome,
            rule: &rule,
            partition: &[],
            row: &[],
            cause: &of.cause,
        };
        Some(Counted {
            key: GroupKey::of(&subject, self.groupings),
            is_item: kind.is_item,
            is_split: kind.is_split,
            record: None,
            part: Part::default(),
        })
    }
}

impl Count for Counter<'_> {
    fn wanted(&mut self, shapes: &[Shape], kinds: &[Kind]) -> Vec<bool> {
        self.kinds = kinds.iter().map(|kind| self.counted(shapes, kind)).collect();
        self.kinds.iter().map(Option::is_some).collect()
    }

    fn row(&mut self, place: usize, row: Row) {
        let Some(Some(kind)) = self.kinds.get_mut(place) else { return };
        let time = Timestamp::from_unix_nanos(row.time);
        if self.query.start.is_some_and(|start| time < start)
            || self.query.end.is_some_and(|end| time >= end)
        {
            return;
        }
        if self.groupings.contains(&Grouping::Hour) && kind.key.hour != hour(time) {
            let part = std::mem::take(&mut kind.part);
            if !part.is_empty() {
                self.parts.push((kind.key.clone(), part));
            }
            kind.key.hour = hour(time);
        }
        let part = &mut kind.part;
        part.add(time, if kind.is_item { row.items } else { 0 }, row.partition);
        if kind.record.replace(row.record) != Some(row.record) {
            if kind.is_split {
                part.split.push(row.record);
            } else {
                part.events += 1;
            }
        }
    }
}
