//! A part of a segment in memory, so that what stands next to each other is read at once.

use super::{Segment, read_into};
use crate::error::JournalError;

/// Bytes of one segment, from some place on. One window is for one segment.
pub(crate) struct Window {
    /// How many are read at a time; a longer frame is read whole.
    size: usize,
    from: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// One that reads so many bytes at a time.
    pub(crate) const fn new(size: usize) -> Self {
        Self { size, from: 0, bytes: Vec::new() }
    }

    /// The bytes from `offset` on, `wanted` of them or as many as the file has.
    pub(super) fn read(
        &mut self,
        segment: &Segment,
        offset: u64,
        wanted: usize,
    ) -> Result<&[u8], JournalError> {
        let left = usize::try_from(segment.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        if self.have(offset, wanted).is_none() {
            self.bytes.resize(left.min(self.size.max(wanted)), 0);
            self.from = offset;
            if let Err(error) = read_into(segment, offset, &mut self.bytes) {
                self.forget();
                return Err(error);
            }
        }
        Ok(self.have(offset, wanted).unwrap_or_default())
    }

    /// Reads everything anew from here on: the file may have changed.
    pub(crate) fn forget(&mut self) {
        self.bytes.clear();
    }

    fn have(&self, offset: u64, wanted: usize) -> Option<&[u8]> {
        let at = usize::try_from(offset.checked_sub(self.from)?).ok()?;
        self.bytes.get(at..at.checked_add(wanted)?)
    }
}
