//! Going through the records in either order, and knowing where one is missing.

mod indexed;

use super::event::{self, Event};
use super::{PageLimit, Query};
use crate::error::JournalError;
use crate::index::Candidates;
use crate::segment::{At, Frame, Segment};

/// Records that one page looks at, at most: a page may be short and not be the last.
const MAX_LOOKED_AT: usize = 200_000;

/// A query on its way through the first `size` records.
pub(super) struct Search<'a> {
    query: &'a Query,
    limit: PageLimit,
    size: u64,
    /// The next record to look at is this one (oldest first) or the one before (newest first).
    pub(super) position: u64,
    /// The first record that is there: those before it are archived.
    first: u64,
    pub(super) events: Vec<Event>,
    looked_at: usize,
    bytes: usize,
    /// The next event that fits does not fit into this page.
    full: bool,
    /// Sees every record in place of a page, `None` where it does not match, and says whether to go
    /// on.
    each: Option<&'a mut dyn FnMut(Option<Event>) -> bool>,
    stopped: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(query: &'a Query, limit: PageLimit, size: u64, position: u64) -> Self {
        Self {
            query,
            limit,
            size,
            position,
            first: 0,
            events: Vec::new(),
            looked_at: 0,
            bytes: 0,
            full: false,
            each: None,
            stopped: false,
        }
    }

    /// Goes through all records, the oldest first, whatever their number; the query must be so.
    pub(super) fn through(
        query: &'a Query,
        size: u64,
        each: &'a mut dyn FnMut(Option<Event>) -> bool,
    ) -> Self {
        let limit = PageLimit { events: usize::MAX, bytes: usize::MAX };
        Self { each: Some(each), ..Self::new(query, limit, size, 0) }
    }

    pub(super) fn oldest_first(&self) -> bool {
        self.query.oldest_first
    }

    pub(super) fn query(&self) -> &Query {
        self.query
    }

    /// Of a segment that ends before the record `end`, the end of what is looked at.
    pub(super) fn known(&self, end: u64) -> u64 {
        self.size.min(end)
    }

    /// The log begins with this record; what was before is archived.
    pub(super) fn begin(&mut self, first: u64) {
        self.first = self.first.max(first);
        if self.query.oldest_first {
            self.position = self.position.max(first);
        }
    }

    /// True after the last record.
    pub(super) fn is_done(&self) -> bool {
        match self.query.oldest_first {
            true => self.position >= self.size,
            false => self.position <= self.first,
        }
    }

    /// True if the page ends here.
    pub(super) fn is_over(&self) -> bool {
        self.is_done() || self.full || self.stopped || self.looked_at >= MAX_LOOKED_AT
    }

    /// Somebody else has gone on up to the record `known`.
    pub(super) fn pass(&mut self, known: u64, goes_on: bool) {
        self.position = known;
        self.stopped = !goes_on;
    }

    /// Whether a part of the log that begins with `first` and ends before `end` is still to come.
    pub(super) fn wants(&self, first: u64, end: u64) -> bool {
        if self.query.oldest_first { self.position < end } else { self.position > first }
    }

    /// Goes through a segment that ends before the record `end`, first to the records that an index
    /// names.
    ///
    /// # Errors
    /// `Corrupt` if a record is damaged or missing that the log is known to have.
    pub(super) fn segment(
        &mut self,
        segment: &Segment,
        end: u64,
        candidates: Option<Candidates>,
    ) -> Result<(), JournalError> {
        let known = self.known(end);
        if let Some(candidates) = candidates {
            self.indexed(segment, known, candidates);
            if self.is_over() || !self.wants(segment.head.first, known) {
                return Ok(());
            }
        }
        let mut frames = Vec::new();
        let (mut offset, mut next) = (segment.start, segment.head.first);
        while next < known {
            let gone = || JournalError::corrupt(&segment.path, offset, "a frame is damaged");
            let (head, after) = segment.skip(offset)?.ok_or_else(gone)?;
            let last = next.checked_add(head.count.into()).filter(|last| *last > next);
            let last = last.filter(|_| head.first == next).ok_or_else(gone)?;
            if self.wants(next, last) {
                frames.push(offset);
            }
            (offset, next) = (after, last);
        }
        if !self.query.oldest_first {
            frames.reverse();
        }
        for offset in frames {
            if self.is_over() {
                break;
            }
            match segment.at(offset)? {
                At::Frame(frame) => self.frame(segment, &frame)?,
                At::Bad(what) => return Err(JournalError::corrupt(&segment.path, offset, what)),
                At::Nothing => {
                    return Err(JournalError::corrupt(&segment.path, offset, "a frame is gone"));
                }
            }
        }
        Ok(())
    }

    /// Looks at those records of a frame whose turn it is.
    pub(super) fn frame(&mut self, segment: &Segment, frame: &Frame) -> Result<(), JournalError> {
        let damaged = |what| JournalError::corrupt(&segment.path, frame.offset, what);
        let records = frame.leaves().zip(frame.details()).zip(frame.head.first..);
        let records = records.map(|((leaf, detail), index)| Some((index, leaf?, detail?)));
        let mut records =
            records.collect::<Option<Vec<_>>>().ok_or_else(|| damaged("a record is cut off"))?;
        if records.len() as u64 != u64::from(frame.head.count) {
            return Err(damaged("a frame has not the records that it counts"));
        }
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
            let place = if self.query.oldest_first { index } else { index + 1 };
            if place != self.position {
                return Err(damaged("the records before or after this frame are missing"));
            }
            let found = event::find(self.query, index, leaf, detail);
            let found = found.ok_or_else(|| damaged("a record cannot be read"))?;
            self.look_at(index, found);
        }
        Ok(())
    }

    /// Takes the event, unless the page is full: then the next page begins with it. A full page goes on until
    /// there is one, so that no page without events follows the last that has some.
    fn look_at(&mut self, index: u64, found: Option<Event>) {
        if let Some(each) = &mut self.each {
            self.stopped = !each(found);
            self.position = index + 1;
            return;
        }
        if let Some(event) = found {
            let bytes = self.bytes.saturating_add(event.bytes());
            let is_full = bytes > self.limit.bytes || self.events.len() >= self.limit.events;
            if is_full && !self.events.is_empty() {
                self.full = true;
                return;
            }
            self.bytes = bytes;
            self.events.push(event);
        }
        self.looked_at += 1;
        self.position = if self.query.oldest_first { index + 1 } else { index };
    }
}
