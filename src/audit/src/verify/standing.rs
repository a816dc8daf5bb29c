//! Whether a log goes on from a checkpoint that was kept elsewhere, from its leaves alone.

use std::path::Path;

use crate::error::JournalError;
use crate::merkle::{self, Frontier, Hash};
use crate::segment::{At, Segment};

use super::{Files, LogKey, Remembered, VerifyError, segments};

/// How a log stands to a checkpoint that was kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It begins with the records of the checkpoint, and goes on to what was asked about.
    Extends,
    /// It has fewer records.
    Shorter,
    /// It has others in their place.
    Other,
}

/// How a log that has come to `now` stands to a checkpoint that was kept elsewhere. It reads the leaves
/// from the segment of that checkpoint on; only the headers and the root at `now` are believed.
///
/// # Errors
/// `Unreadable` and `Foreign`; a log whose files are not what was signed is `Other`.
pub fn standing(
    directory: &Path,
    key: &LogKey,
    then: &Remembered,
    now: &Remembered,
) -> Result<Standing, VerifyError> {
    if then.size > now.size {
        return Ok(Standing::Shorter);
    }
    let all = segments(Files::of(directory), key)?;
    let from = all.iter().rposition(|(first, _)| *first <= then.size);
    let mut tree: Option<Frontier> = None;
    let mut root_then = None;
    let reached = |tree: &Option<Frontier>| tree.as_ref().is_some_and(|t| t.size() == now.size);
    for (number, path) in from.and_then(|from| all.get(from..)).unwrap_or_default() {
        if root_then.is_some() && reached(&tree) {
            break;
        }
        let segment = match Segment::open(path, &key.key) {
            Ok(segment) if segment.head.first == *number => segment,
            Ok(_) | Err(JournalError::Corrupt { .. }) => return Ok(Standing::Other),
            Err(other) => return Err(VerifyError::Unreadable(other)),
        };
        let Ok(before) = segment.frontier() else { return Ok(Standing::Other) };
        let tree = tree.get_or_insert_with(|| before.clone());
        if *tree != before {
            return Ok(Standing::Other);
        }
        root_at(tree, then, &mut root_then);
        append(&segment, tree, then, now.size, &mut root_then).map_err(VerifyError::Unreadable)?;
    }
    let root_now = tree.filter(|tree| tree.size() == now.size).map(|tree| tree.root());
    let extends = root_then == Some(then.root) && root_now == Some(now.root);
    Ok(if extends { Standing::Extends } else { Standing::Other })
}

fn root_at(tree: &Frontier, then: &Remembered, root: &mut Option<Hash>) {
    if tree.size() == then.size && root.is_none() {
        *root = Some(tree.root());
    }
}

/// Appends a segment's leaves, as far as they can be read and up to `end`.
fn append(
    segment: &Segment,
    tree: &mut Frontier,
    then: &Remembered,
    end: u64,
    root_then: &mut Option<Hash>,
) -> Result<(), JournalError> {
    let mut offset = segment.start;
    while tree.size() < end
        && let At::Frame(frame) = segment.at(offset)?
    {
        for leaf in frame.leaves() {
            let Some(leaf) = leaf.filter(|_| tree.size() < end) else { return Ok(()) };
            tree.append(merkle::leaf_hash(leaf));
            root_at(tree, then, root_then);
        }
        offset = frame.end;
    }
    Ok(())
}
