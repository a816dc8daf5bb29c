//! One record of a log: the newest checkpoint, and the proof that a record is under it.

use std::path::Path as FilePath;

use crate::error::JournalError;
use crate::inclusion::{self, Inclusion, Path};
use crate::merkle::Hash;

use super::walk::{Found, Walk};
use super::{LogKey, Remembered, VerifyError, note, remembered, segments};

/// The newest checkpoint of a log, as a signed note; `None` if nothing was signed yet. Only the end
/// of the log is read.
///
/// # Errors
/// The first thing that is wrong there, apart from a torn end.
pub fn newest(directory: &FilePath, key: &LogKey) -> Result<Option<String>, VerifyError> {
    let all = segments(directory, key)?;
    let mut from = all.len();
    while let Some(at) = from.checked_sub(1) {
        let (mut progress, mut change) = (|_| {}, |_| {});
        let mut walk = Walk::new(key, None, &mut progress, &mut change);
        walk.begin_anywhere();
        walk.read(all.get(at..).unwrap_or_default())?;
        if let Some(wrong) = walk.ranges.first_wrong() {
            return Err(wrong);
        }
        if let Found { signed: Some(signed), .. } = walk.found {
            return Ok(Some(note(key, &signed)));
        }
        from = at;
    }
    Ok(None)
}

/// The leaf hash of a record and the proof that it is under the newest checkpoint; `None` if the
/// log has no such record. The whole log is read, and nothing in it is believed that the path does not
/// prove.
///
/// # Errors
/// The first thing that is wrong, if the record cannot be proved.
pub fn prove(
    directory: &FilePath,
    key: &LogKey,
    index: u64,
    mut progress: impl FnMut(u64),
) -> Result<Option<(Hash, Inclusion)>, VerifyError> {
    let Some(checkpoint) = newest(directory, key)? else { return Ok(None) };
    let Remembered { size, root } = remembered(&checkpoint, key)?;
    if index >= size {
        return Ok(None);
    }
    let (mut path, mut own) = (Path::new(index, size), None);
    let mut leaf = |at: u64, _: &[u8], hash: &Hash| {
        path.leaf(at, hash);
        own = own.or((at == index).then_some(*hash));
    };
    let (all, mut change) = (segments(directory, key)?, |_| {});
    let mut walk = Walk::new(key, None, &mut progress, &mut change);
    walk.leaf = Some(&mut leaf);
    walk.read(&all)?;
    let wrong = walk.ranges.first_wrong();
    let path = path.hashes();
    match own.filter(|own| inclusion::root_of_path(own, index, size, &path) == Some(root)) {
        Some(own) => Ok(Some((own, Inclusion { index, path, checkpoint }))),
        None => Err(wrong.unwrap_or_else(|| {
            let what = "it changed while it was read";
            VerifyError::Unreadable(JournalError::corrupt(directory, 0, what))
        })),
    }
}

/// The root's size if a proof leads from this leaf to its checkpoint, which this key signed; `None`
/// if it leads elsewhere.
///
/// # Errors
/// `Checkpoint` and `CheckpointForeign`.
pub fn check(leaf: &Hash, proof: &Inclusion, key: &LogKey) -> Result<Option<u64>, VerifyError> {
    let Remembered { size, root } = remembered(&proof.checkpoint, key)?;
    let found = inclusion::root_of_path(leaf, proof.index, size, &proof.path);
    Ok((found == Some(root)).then_some(size))
}
