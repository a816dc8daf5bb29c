//! Looking only at the records that an index names.

use super::super::event;
use super::Search;
use crate::index::Candidates;
use crate::segment::{At, Frame, Segment};

impl Search<'_> {
    /// Looks at the candidates of a segment of which `known` is the end. Where the index turns out
    /// to be of no use, this ends: the position is where it came to, and the search goes on from
    /// there without it.
    pub(super) fn indexed(&mut self, segment: &Segment, known: u64, candidates: Candidates) {
        let first = segment.head.first;
        // Records that are missing before or after the segment are no business of its index.
        let follows =
            if self.query.oldest_first { self.position >= first } else { self.position <= known };
        let mut candidates = Some(candidates).filter(|_| follows);
        while let Some(known_places) = &mut candidates
            && !self.is_over()
        {
            let Some(index) = self.candidate(known_places, known) else {
                self.position = if self.query.oldest_first { known } else { first };
                return;
            };
            let frame = known_places.frame(index).and_then(|offset| segment.at(offset).ok());
            let looked = match frame {
                Some(At::Frame(frame)) => self.frame_of(&frame, index, known, known_places),
                _ => None,
            };
            if looked.is_none() {
                candidates = None;
            }
        }
    }

    fn candidate(&self, candidates: &Candidates, known: u64) -> Option<u64> {
        if self.query.oldest_first {
            candidates.next(self.position).filter(|index| *index < known)
        } else {
            candidates.previous(self.position)
        }
    }

    /// Looks at the candidates in a frame, of which `index` is the first to come.
    fn frame_of(
        &mut self,
        frame: &Frame,
        mut index: u64,
        known: u64,
        candidates: &Candidates,
    ) -> Option<()> {
        let records: Option<Vec<_>> =
            frame.leaves().zip(frame.details()).map(|(leaf, detail)| leaf.zip(detail)).collect();
        let records = records.filter(|found| found.len() as u64 == u64::from(frame.head.count))?;
        let place = |index: u64| usize::try_from(index.checked_sub(frame.head.first)?).ok();
        // An index that is wrong about the frame must not lead here for ever.
        records.get(place(index)?)?;
        while let Some((leaf, detail)) = place(index).and_then(|at| records.get(at)) {
            let found = event::find(self.query, index, leaf, detail)?;
            self.position = if self.query.oldest_first { index } else { index.checked_add(1)? };
            self.look_at(index, found);
            match self.candidate(candidates, known) {
                Some(next) if !self.is_over() => index = next,
                _ => break,
            }
        }
        Some(())
    }
}
