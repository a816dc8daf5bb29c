//! One record of a log: the newest checkpoint, and the proof that a record is under it.

use std::path::{Path as FilePath, PathBuf};

use crate::error::JournalError;
use crate::inclusion::{self, Inclusion, Path};
use crate::merkle::Hash;
use crate::subtrees::Subtrees;

use super::walk::{Found, Walk};
use super::{Files, LogKey, Remembered, VerifyError, note, remembered, segments};

/// The newest checkpoint of a log, as a signed note; `None` if nothing was signed yet. Only the end
/// of the log is read.
///
/// # Errors
/// The first thing that is wrong there, apart from a torn end.
pub fn newest(directory: &FilePath, key: &LogKey) -> Result<Option<String>, VerifyError> {
    let all = segments(Files::of(directory), key)?;
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
    files: Files<'_>,
    key: &LogKey,
    index: u64,
    mut progress: impl FnMut(u64),
) -> Result<Option<(Hash, Inclusion)>, VerifyError> {
    let directory = files.directory;
    let Some(checkpoint) = newest(directory, key)? else { return Ok(None) };
    let Remembered { size, root } = remembered(&checkpoint, key)?;
    if index >= size {
        return Ok(None);
    }
    let all = segments(files, key)?;
    if let Some((first, _)) = all.first().filter(|(first, _)| *first > 0) {
        let first = *first;
        return match index < first {
            true => Err(VerifyError::Archived(first)),
            false => proved_from(all, key, index, Remembered { size, root }, checkpoint).map(Some),
        };
    }
    let (mut path, mut own) = (Path::new(index, size), None);
    let mut leaf = |at: u64, _: &[u8], hash: &Hash| {
        path.leaf(at, hash);
        own = own.or((at == index).then_some(*hash));
    };
    let mut change = |_| {};
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

/// The same where the oldest records are archived: what is before the first segment stands in its header.
fn proved_from(
    all: Vec<(u64, PathBuf)>,
    key: &LogKey,
    index: u64,
    Remembered { size, root }: Remembered,
    checkpoint: String,
) -> Result<(Hash, Inclusion), VerifyError> {
    let mut trees = Subtrees::of(all, &key.key, size).map_err(VerifyError::Unreadable)?;
    let mut of = |range| trees.root(range).map_err(VerifyError::Unreadable);
    let own = of(index..index.saturating_add(1))?;
    let path: Result<Vec<Hash>, _> = inclusion::subtrees(index, size).into_iter().map(of).collect();
    let path = path?;
    if inclusion::root_of_path(&own, index, size, &path) != Some(root) {
        let what = "its records are not those that were signed";
        return Err(VerifyError::Unreadable(JournalError::corrupt(FilePath::new(""), 0, what)));
    }
    Ok((own, Inclusion { index, path, checkpoint }))
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
