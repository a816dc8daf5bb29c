//! What a count does not know, because detail was erased.

use std::sync::atomic::{AtomicBool, Ordering};

use super::event::Event;
use super::search::Search;
use super::{Query, Reader};
use crate::error::JournalError;
use crate::segment::Segment;

/// Counts the records that could have matched before their detail was erased.
pub(super) struct Erased<'a> {
    query: Query,
    records: Result<u64, JournalError>,
    abandoned: &'a AtomicBool,
}

impl<'a> Erased<'a> {
    pub(super) fn new(query: &Query, abandoned: &'a AtomicBool) -> Self {
        let query = Query { erased_only: true, ..query.clone() };
        Self { query, records: Ok(0), abandoned }
    }

    /// Counts those of a segment. `Some(false)` if that is of no use; otherwise the segment is still to be
    /// read.
    pub(super) fn count(
        &mut self,
        reader: &Reader,
        segment: &Segment,
        known: u64,
        next: Option<u64>,
    ) -> Option<bool> {
        let mut found = 0_u64;
        let mut each = |event: Option<Event>| {
            found += u64::from(event.is_some());
            !self.abandoned.load(Ordering::Relaxed)
        };
        let mut search = Search::through(&self.query, known, &mut each);
        search.begin(segment.head.first);
        let indexes = reader.indexes.as_ref();
        let candidates = indexes.and_then(|all| all.candidates(segment, known, next, &self.query));
        let read = search.segment(segment, known, candidates);
        let records = std::mem::replace(&mut self.records, Ok(0));
        self.records = read.and(records).map(|before| before + found);
        self.records.is_err().then_some(false)
    }

    /// How many there are in all.
    pub(super) fn finish(self) -> Result<u64, JournalError> {
        self.records
    }
}
