//! Details that records name as erased and that are still there: a redaction is not finished, or the log is a
//! copy from before it was.

use std::path::PathBuf;

use super::{LogKey, VerifyError};
use crate::error::JournalError;
use crate::record::{COMMITMENT_BYTES, DetailParts};
use crate::redaction::{Named, standing};
use crate::segment::{At, Frame, Segment};

/// How many records of these segments have something that is named. Only details that are as they were
/// signed are looked at.
pub(super) fn lingering(
    segments: &[(u64, PathBuf)],
    key: &LogKey,
    said: &Named,
) -> Result<u64, VerifyError> {
    let ends = segments.iter().skip(1).map(|(first, _)| *first).chain([u64::MAX]);
    let mut found = 0;
    for ((first, path), end) in segments.iter().zip(ends) {
        if !said.meets(&(*first..end)) {
            continue;
        }
        match Segment::open(path, &key.key) {
            Ok(segment) => found += in_segment(&segment, said).map_err(VerifyError::Unreadable)?,
            // What is wrong with it was said.
            Err(JournalError::Corrupt { .. }) => {}
            Err(error) => return Err(VerifyError::Unreadable(error)),
        }
    }
    Ok(found)
}

fn in_segment(segment: &Segment, said: &Named) -> Result<u64, JournalError> {
    let (mut offset, mut found) = (segment.start, 0);
    loop {
        let frame = match segment.at(offset)? {
            At::Frame(frame) => *frame,
            At::Nothing => return Ok(found),
            At::Bad(_) => match segment.damaged(offset)? {
                Some(frame) => frame,
                None => return Ok(found),
            },
        };
        // It does not stand where it was written: what follows is no part of the log.
        if frame.head.synced != offset {
            return Ok(found);
        }
        found += in_frame(&frame, said);
        offset = frame.end;
    }
}

fn in_frame(frame: &Frame, said: &Named) -> u64 {
    let records = frame.leaves().zip(frame.details()).zip(frame.head.first..);
    let lingers = |leaf: &[u8], detail: &[u8], index| {
        let commitment = leaf.get(leaf.len().checked_sub(COMMITMENT_BYTES)?..)?;
        standing(commitment, detail).ok().filter(|_| !detail.is_empty())?;
        let mut items = DetailParts::cut(detail)?.items().zip(0..);
        let is_there = items.any(|(item, number)| {
            item.is_some_and(|item| item.message.is_some()) && said.has_item(index, number)
        });
        Some(said.has_whole(index) || is_there)
    };
    let lingering = records.filter(|((leaf, detail), index)| {
        leaf.zip(*detail).and_then(|(leaf, detail)| lingers(leaf, detail, *index)) == Some(true)
    });
    lingering.count() as u64
}
