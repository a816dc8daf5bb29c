//! The proofs: what may not leave yet, and what may because it is on record.

use std::sync::Arc;

/// A value that must not leave before its record is on disk. It has no accessor, no `Debug` and no
/// `Clone`; [`crate::Journal::commit`] is the only way out. Dropping it drops the value, which
/// wipes itself.
pub struct Withheld<T> {
    value: T,
    count: usize,
}

impl<T> Withheld<T> {
    /// Withholds a value in which so many opened values are. The event that releases it must say
    /// of exactly as many items that they are OK.
    #[must_use]
    pub fn new(value: T, count: usize) -> Self {
        Self { value, count }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// INVARIANT: called in one place, where the receipt is.
    pub(crate) fn release(self, receipt: Receipt) -> Recorded<T> {
        Recorded { value: self.value, receipt }
    }
}

/// A value whose record is on disk. Made only by [`crate::Journal::commit`].
pub struct Recorded<T> {
    value: T,
    receipt: Receipt,
}

impl<T> Recorded<T> {
    /// The value and the proof that it is on record.
    #[must_use]
    pub fn into_parts(self) -> (T, Receipt) {
        (self.value, self.receipt)
    }
}

/// The proof that a record is on disk: its place in the log and its hash. Made only by the journal,
/// after the sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    log: Arc<str>,
    index: u64,
    leaf_hash: [u8; 32],
    tree_size: u64,
}

impl Receipt {
    pub(crate) fn new(log: Arc<str>, index: u64, leaf_hash: [u8; 32], tree_size: u64) -> Self {
        Self { log, index, leaf_hash, tree_size }
    }

    /// The instance that names the log, as in `logs/{log}`.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// The record's place, from 0.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The record's RFC 6962 leaf hash.
    #[must_use]
    pub fn leaf_hash(&self) -> &[u8; 32] {
        &self.leaf_hash
    }

    /// How many records the log had when this one was on disk: a checkpoint of at least this size
    /// covers it.
    #[must_use]
    pub fn tree_size(&self) -> u64 {
        self.tree_size
    }
}
