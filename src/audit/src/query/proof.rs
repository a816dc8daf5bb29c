//! Proofs for callers who keep receipts and checkpoints, made while the log is written.

use std::ops::Range;

use fieldseal_crypto::signing::LogPublicKey;

use super::Reader;
use crate::checkpoint::{self, Remembered};
use crate::consistency::{self, Consistency};
use crate::error::{JournalError, QueryError};
use crate::inclusion::{self, Inclusion};
use crate::merkle::Hash;
use crate::subtrees::Subtrees;

impl Reader {
    /// The leaf hash of a record and the proof that it is in the tree of the first `size` records,
    /// with the checkpoint that was signed of that tree. `known` is how many records the log has.
    ///
    /// # Errors
    /// `BeyondLog` if the log has not so many records, or the tree not this one; `NoCheckpoint` if
    /// nothing was signed at that size; `Unreadable` if what is read does not lead to what was signed.
    pub fn inclusion(
        &self,
        index: u64,
        size: u64,
        known: u64,
    ) -> Result<(Hash, Inclusion), QueryError> {
        if index >= size || size > known {
            return Err(QueryError::BeyondLog(known));
        }
        let _reading = self.files.read();
        self.not_archived(index)?;
        let (mut trees, root, checkpoint) = self.signed(size)?;
        let own = trees.root(index..index.saturating_add(1)).map_err(unreadable)?;
        let path = path(&mut trees, inclusion::subtrees(index, size))?;
        if inclusion::root_of_path(&own, index, size, &path) != Some(root) {
            return Err(self.altered());
        }
        Ok((own, Inclusion { index, path, checkpoint }))
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
        let _reading = self.files.read();
        self.not_archived(old)?;
        let (mut trees, root, checkpoint) = self.signed(size)?;
        let then = trees.root(0..old).map_err(unreadable)?;
        let path = path(&mut trees, consistency::subtrees(old, size))?;
        let (then, now) = (Remembered { size: old, root: then }, Remembered { size, root });
        if !consistency::extends(&then, &now, &path) {
            return Err(self.altered());
        }
        Ok(Consistency { path, checkpoint })
    }

    /// Refuses what only an archive can prove.
    fn not_archived(&self, record: u64) -> Result<(), QueryError> {
        let first = self.first()?;
        if record < first { Err(QueryError::Archived(first)) } else { Ok(()) }
    }

    /// The tree of the first `size` records: its root and its signed note.
    fn signed(&self, size: u64) -> Result<(Subtrees<'_>, Hash, String), QueryError> {
        let mut trees = Subtrees::new(&self.directory, &self.key, size).map_err(unreadable)?;
        let signed = trees.signed().map_err(unreadable)?;
        let (root, signature) = signed.ok_or(QueryError::NoCheckpoint)?;
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
