//! What the header of the next segment says of the signatures in a segment.
//!
//! That header is signed and has a hash over the checkpoints of all frames before it: number of records, root
//! and signature. It is there only if one process made them all, so that each signature was made by the
//! key, and none was read from a file. Where the hash is that of the frames that stand here, each of their
//! signatures is known to be good without being verified by itself.

use std::path::PathBuf;

use crate::error::JournalError;
use crate::merkle::Hash;
use crate::segment::{self, Segment, Window};

use super::LogKey;

/// Bytes that are read at a time of frames whose records are passed over.
const READ: usize = 4096;

/// Where the last frame of a segment begins, if the segment behind it says of all its frames that they were
/// signed. `None`: each signature is to be verified by itself.
///
/// # Errors
/// A segment that cannot be read.
pub(super) fn last(
    segment: &Segment,
    next: Option<&(u64, PathBuf)>,
    key: &LogKey,
) -> Result<Option<u64>, JournalError> {
    let Some((number, path)) = next else { return Ok(None) };
    // Whatever is wrong with it is said when it is read itself.
    let Ok(Segment { head, .. }) = Segment::open(path, &key.key) else { return Ok(None) };
    let follows =
        head.origin == key.origin && head.first == *number && head.previous == segment.head.first;
    if !follows || head.checkpoints.is_empty() {
        return Ok(None);
    }
    let mut window = Window::new(READ);
    let (mut hash, mut size, mut offset, mut last) =
        (Hash::default(), segment.head.first, segment.start, None);
    while size < head.first
        && let Some((frame, signature, end)) = segment.skip_in(&mut window, offset)?
        && frame.first == size
    {
        size = size.saturating_add(frame.count.into());
        hash = segment::chained(&hash, size, &frame.root, &signature);
        last = Some(offset);
        offset = end;
    }
    Ok(last.filter(|_| size == head.first && head.checkpoints == hash))
}
