//! Finding the record of a change by the store's revision that it made.

use prost::Message as _;

use super::Reader;
use crate::error::{JournalError, QueryError};
use crate::record::{COMMITMENT_BYTES, Record};
use crate::segment::{self, At, Segment};

impl Reader {
    /// The place of the record that a revision of the store has in the log. The heads of the segments
    /// say in which one it is, so that no other is read. Blocks: call it where that is allowed.
    ///
    /// # Errors
    /// `Unreadable` if a file cannot be read.
    pub fn record_of(&self, revision: u64) -> Result<Option<u64>, QueryError> {
        self.find(revision).map_err(|e| QueryError::Unreadable(e.to_string().into()))
    }

    fn find(&self, revision: u64) -> Result<Option<u64>, JournalError> {
        for (_, path) in segment::list(&self.directory)?.into_iter().rev() {
            let _reading = self.files.read();
            let segment = Segment::open(&path, &self.key)?;
            if segment.head.revision < revision {
                return within(&segment, revision);
            }
        }
        Ok(None)
    }
}

fn within(segment: &Segment, revision: u64) -> Result<Option<u64>, JournalError> {
    let mut offset = segment.start;
    while let At::Frame(frame) = segment.at(offset)? {
        for (index, leaf) in (frame.head.first..).zip(frame.leaves()) {
            let public =
                leaf.and_then(|leaf| leaf.get(..leaf.len().checked_sub(COMMITMENT_BYTES)?));
            let record = public.and_then(|public| Record::decode(public).ok());
            if record.is_some_and(|record| record.revision == revision) {
                return Ok(Some(index));
            }
        }
        offset = frame.end;
    }
    Ok(None)
}
