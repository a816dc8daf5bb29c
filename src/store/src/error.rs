//! What can go wrong with a store.

use std::path::PathBuf;

/// The store cannot be opened or read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory has no store. Starting never makes one.
    #[error("there is no store in {}", .0.display())]
    NotInitialized(PathBuf),
    /// The directory has a store already.
    #[error("there is a store in {} already", .0.display())]
    AlreadyInitialized(PathBuf),
    /// Another process has the directory open.
    #[error("the store in {} is in use by process {holder}", .directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The process, as far as it said who it is.
        holder: String,
    },
    /// The store was written by a newer version.
    #[error(
        "the store has format {found}, and this version knows formats up to {known}; run the \
         newer version"
    )]
    FormatNewer {
        /// The store's format.
        found: u32,
        /// The newest known format.
        known: u32,
    },
    /// A record was altered, moved, or cut.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// Reading or writing failed.
    #[error("the store's disk failed: {0}")]
    Io(String),
    /// Too many changes wait; nothing was written.
    #[error("too many changes wait for the store; try again in a moment")]
    Busy,
    /// A snapshot was given up.
    #[error(
        "more was changed while the snapshot was read than is kept for it; try again when less is \
         written"
    )]
    Compacted,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::InvalidData => Self::Corrupt(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

/// A transaction did not happen, or may not have.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TxnError {
    /// A guard did not hold; nothing was written.
    #[error("another change came first")]
    Conflict {
        /// Which of the transaction's guards, counted from 0.
        guard: usize,
    },
    /// The transaction passes a limit; nothing was written.
    #[error("a transaction has at most {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Too little space is left; nothing was written. Decrypts go on.
    #[error(
        "the store's disk has too little space left; free some, and writes go on by themselves"
    )]
    NoSpace,
    /// The store's files were removed or replaced; nothing was written. Decrypts go on.
    #[error(
        "the store's files were removed or replaced; put them back, and writes go on by themselves"
    )]
    Missing,
    /// Too many transactions wait; nothing was written.
    #[error("too many changes wait for the store; try again in a moment")]
    Busy,
    /// The disk failed while this was written: it may have happened or not. Only reading it after a
    /// restart tells; before that, a read may show what the disk then does not have.
    #[error("the store's disk failed; it is not known whether the change happened: {0}")]
    Indeterminate(String),
    /// The store took no more writes after an error of its disk.
    #[error("the store takes no writes after an error of its disk: {0}")]
    Broken(String),
    /// The copy of the store cannot be written; nothing was written here either.
    #[error(
        "the copy of the store cannot be written, so nothing is changed here either; changes go on \
         by themselves when it can: {0}"
    )]
    CopyUnavailable(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A record that the transaction replaces does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
}
