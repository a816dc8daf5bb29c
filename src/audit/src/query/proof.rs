//! Proofs for callers who keep receipts and checkpoints, made while the log is written.

use std::ops::Range;
use std::path::PathBuf;

use fieldseal_crypto::signing::LogPublicKey;

use super::Reader;
use crate::checkpoint::{self, Remembered};
use crate::consistency::{self, Consistency};
use crate::error::{JournalError, QueryError};
use crate::inclusion::{self, Inclusion};
use crate::merkle::Hash;
use crate::segment;
use crate::subtrees::Subtrees;

impl Reader {
    /// The leaf hash of a record and the proof that it is in the tree of the first `size` records,
    /// with the checkpoint that was signed of that tree. `known` is how many records the log has.
    ///
    /// # Errors
    /// `BeyondLog` if the log has not so many records, or the tree not this one; `NoCheckpoint` if
    /// nothing was signed at that size; `Unreadable` if what is read does not lead to what was signed;
    /// `Archived` if the record is archived, and the archive does not lead there.
    pub fn inclusion(
        &self,
        index: u64,
        size: u64,
        known: u64,
    ) -> Result<(Hash, Inclusion), QueryError> {
        if index >= size || size > known {
            return Err(QueryError::BeyondLog(known));
        }
        self.prove(index, |segments| {
            let (mut trees, root, checkpoint) = self.signed(segments, size)?;
            let own = trees.root(index..index.saturating_add(1)).map_err(unreadable)?;
            let path = path(&mut trees, inclusion::subtrees(index, size))?;
            if inclusion::root_of_path(&own, index, size, &path) != Some(root) {
                return Err(self.altered());
            }
            Ok((own, Inclusion { index, path, checkpoint }))
        })
    }

    /// The proof that the tree of the first `size` records begins with that of the first `old`, with
    /// the checkpoint that was signed of the longer one.
    ///
    /// # Errors
    /// As [`Reader::inclusion`].
    pub fn consistency(&self, old: u64, size: u64, known: u64) -> Result<Consistency, QueryError> {
        if old == 0 || old > size || size > known {
            return Err(QueryError::BeyondLog(known));
        }
        self.prove(old, |segments| {
            let (mut trees, root, checkpoint) = self.signed(segments, size)?;
            let then = trees.root(0..old).map_err(unreadable)?;
            let path = path(&mut trees, consistency::subtrees(old, size))?;
            let (then, now) = (Remembered { size: old, root: then }, Remembered { size, root });
            if !consistency::extends(&then, &now, &path) {
                return Err(self.altered());
            }
            Ok(Consistency { path, checkpoint })
        })
    }

    /// Makes a proof that needs this record and later ones, from the archive's segments too if it is
    /// archived. What does not come to a proof then is for whoever has the archive to look at.
    fn prove<T>(
        &self,
        record: u64,
        made: impl Fn(Vec<(u64, PathBuf)>) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let _reading = self.files.read();
        let mut segments = segment::list(&self.directory).map_err(unreadable)?;
        let first = segments.first().map_or(0, |(first, _)| self.beginning(*first));
        if record >= first {
            return made(segments);
        }
        let archived = self.archive.as_deref().and_then(|archive| segment::list(archive).ok());
        let mut all = archived.ok_or(QueryError::Archived(first))?;
        all.retain(|(at, _)| *at < first);
        all.append(&mut segments);
        made(all).map_err(|error| match error {
            QueryError::NoCheckpoint => error,
            _ => QueryError::Archived(first),
        })
    }

    /// The tree of the first `size` records: its root and its signed note.
    fn signed(
        &self,
        segments: Vec<(u64, PathBuf)>,
        size: u64,
    ) -> Result<(Subtrees<'_>, Hash, String), QueryError> {
        let mut trees = Subtrees::of(segments, &self.key, size).map_err(unreadable)?;
        let Some((root, signature)) = trees.signed().map_err(unreadable)? else {
            // It is there, or nobody can say what was signed.
            trees.whole(size.saturating_sub(1)).map_err(unreadable)?;
            return Err(QueryError::NoCheckpoint);
        };
        let note = signed_note(&self.origin, size, &root, &self.key, &signature);
        Ok((trees, root, note.ok_or_else(|| self.altered())?))
    }

    fn altered(&self) -> QueryError {
        let what = "its records are not those that were signed";
        unreadable(JournalError::corrupt(&self.directory, 0, what))
    }
}

fn path(trees: &mut Subtrees<'_>, ranges: Vec<Range<u64>>) -> Result<Vec<Hash>, QueryError> {
    ranges.into_iter().map(|range| trees.root(range).map_err(unreadable)).collect()
}

/// A checkpoint as a note; `None` if the signature is not that of the key.
fn signed_note(
    origin: &str,
    size: u64,
    root: &Hash,
    key: &LogPublicKey,
    signature: &[u8; 64],
) -> Option<String> {
    let body = checkpoint::body(origin, size, root);
    key.verify(body.as_bytes(), signature).ok()?;
    Some(checkpoint::note(origin, &body, key, signature))
}

fn unreadable(error: JournalError) -> QueryError {
    QueryError::Unreadable(error.to_string().into())
}
