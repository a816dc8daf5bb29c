//! Where the log begins that is at hand: what is older is archived, and in no answer.

use std::path::Path;

use fieldseal_crypto::signing::LogPublicKey;
use fieldseal_model::Timestamp;
use prost::Message as _;

use super::Reader;
use crate::error::QueryError;
use crate::record::{COMMITMENT_BYTES, Record};
use crate::segment::{self, At, Segment};

/// The first record that is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beginning {
    /// Its number: 0 unless older ones are archived.
    pub index: u64,
    /// When its call began; `None` of a log without records, and if it cannot be read.
    pub time: Option<Timestamp>,
}

impl Reader {
    /// Where the log begins that is at hand. Reads one frame. Blocks: call it where that is allowed.
    ///
    /// # Errors
    /// `Unreadable` if the directory cannot be read.
    pub fn begins(&self) -> Result<Beginning, QueryError> {
        let _reading = self.files.read();
        let segments = segment::list(&self.directory);
        let segments = segments.map_err(|e| QueryError::Unreadable(e.to_string().into()))?;
        let Some((first, path)) = segments.first() else { return Ok(Beginning::default()) };
        Ok(Beginning { index: self.beginning(*first), time: first_time(path, &self.key) })
    }
}

/// When the first call of a segment began.
fn first_time(path: &Path, key: &LogPublicKey) -> Option<Timestamp> {
    let segment = Segment::open(path, key).ok()?;
    let At::Frame(frame) = segment.at(segment.start).ok()? else { return None };
    let leaf = frame.leaves().next().flatten()?;
    let public = leaf.get(..leaf.len().checked_sub(COMMITMENT_BYTES)?)?;
    Record::decode(public).ok().map(|record| Timestamp::from_unix_nanos(record.time))
}
