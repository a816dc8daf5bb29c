//! A transaction: guards, writes, and the event that tells of it.

use crate::error::{StoreError, TxnError};
use crate::path::Path;

/// Most guards and writes of a transaction.
pub(crate) const MAX_OPERATIONS: usize = 100;
/// Most bytes that a transaction writes.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// Most bytes of one value.
pub(crate) const MAX_VALUE_BYTES: usize = 8 * 1024;

/// Makes the event's bytes once the transaction has its revision, from that revision and the HMAC
/// of the sum of the whole store afterwards.
pub type Event = Box<dyn FnOnce(u64, [u8; 32]) -> Vec<u8> + Send>;

pub(crate) enum Guard {
    Absent(Path),
    At(Path, u64),
}

/// Makes a record's new value from the one that stands there when the transaction is applied
/// (`None`: there is none). It runs on the thread that commits, so it must be short.
pub type Update = Box<dyn FnOnce(Option<&[u8]>) -> Result<Vec<u8>, StoreError> + Send>;

pub(crate) enum Write {
    Put(Path, Vec<u8>),
    Update(Path, Update),
    Delete(Path),
}

/// What is written together or not at all.
pub struct Txn {
    pub(crate) guards: Vec<Guard>,
    pub(crate) writes: Vec<Write>,
    pub(crate) erases: bool,
    pub(crate) event: Event,
}

impl Txn {
    /// A transaction that leaves this event in the outbox.
    #[must_use]
    pub fn new(event: Event) -> Self {
        Self { guards: Vec::new(), writes: Vec::new(), erases: false, event }
    }

    /// Only if no record stands at `path`.
    #[must_use]
    pub fn absent(mut self, path: Path) -> Self {
        self.guards.push(Guard::Absent(path));
        self
    }

    /// Only if the record at `path` was last written by the transaction `revision`.
    #[must_use]
    pub fn at(mut self, path: Path, revision: u64) -> Self {
        self.guards.push(Guard::At(path, revision));
        self
    }

    /// Writes a record.
    #[must_use]
    pub fn put(mut self, path: Path, value: Vec<u8>) -> Self {
        self.writes.push(Write::Put(path, value));
        self
    }

    /// Writes what `update` makes of the record that stands there when this is applied. For counts
    /// that many transactions change: a guard would have them refuse each other. An error of
    /// `update` refuses the transaction.
    #[must_use]
    pub fn update(mut self, path: Path, update: Update) -> Self {
        self.writes.push(Write::Update(path, update));
        self
    }

    /// What this replaces or removes must leave the files too, with all that were written before:
    /// [`Store::is_rewrite_due`](crate::Store::is_rewrite_due) says so until that is done.
    #[must_use]
    pub fn erasing(mut self) -> Self {
        self.erases = true;
        self
    }

    /// Removes a record, if there is one.
    #[must_use]
    pub fn delete(mut self, path: Path) -> Self {
        self.writes.push(Write::Delete(path));
        self
    }

    pub(crate) fn check(&self) -> Result<(), TxnError> {
        if self.guards.len() + self.writes.len() > MAX_OPERATIONS {
            return Err(TxnError::TooLarge { what: "operations", limit: MAX_OPERATIONS });
        }
        let sizes = self.writes.iter().map(|write| match write {
            Write::Put(_, value) => value.len(),
            // Checked once it is made.
            Write::Update(..) | Write::Delete(_) => 0,
        });
        for bytes in sizes.clone() {
            check_value(bytes)?;
        }
        if sizes.sum::<usize>() > MAX_BYTES {
            return Err(TxnError::TooLarge { what: "bytes", limit: MAX_BYTES });
        }
        Ok(())
    }
}

pub(crate) fn check_value(bytes: usize) -> Result<(), TxnError> {
    if bytes > MAX_VALUE_BYTES {
        return Err(TxnError::TooLarge { what: "bytes in a value", limit: MAX_VALUE_BYTES });
    }
    Ok(())
}
