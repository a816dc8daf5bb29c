//! What can go wrong with the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the journal did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// There is no log.
    #[error("{} holds no audit log", .0.display())]
    NotInitialized(PathBuf),
    /// There is a log already.
    #[error("{} holds an audit log already", .0.display())]
    Exists(PathBuf),
    /// Another process writes this log.
    #[error("{} is in use by process {holder}; stop it first", .directory.display())]
    Locked {
        /// The log's directory.
        directory: PathBuf,
        /// The process that holds it.
        holder: String,
    },
    /// A newer program wrote this log.
    #[error("{} has format {format}, and this program knows formats up to 1; use a newer program",
        .file.display())]
    FormatNewer {
        /// The segment.
        file: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The log was signed by another key, or names another origin.
    #[error("{} belongs to another installation or instance: {what}", .file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What differs.
        what: String,
    },
    /// The log is this installation's, under another name of the instance.
    #[error(
        "audit.instance was {was:?}, and is {is:?} now; a log keeps the name that it was made with"
    )]
    Renamed {
        /// The name in the log.
        was: String,
        /// The name in the settings.
        is: String,
    },
    /// The log was altered or damaged where it had been synced.
    #[error("{} is damaged at byte {offset}: {what}; keep the files as they are", .file.display())]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// No space, or the file is gone; it comes back by itself.
    #[error("the audit log cannot be written now: no space, or its file is missing")]
    Unavailable,
    /// Too many records wait.
    #[error("the audit log's queue is full; try again in a moment")]
    QueueFull,
    /// The event did not say as many values as were withheld, or came out of order.
    #[error("an event does not match what it should release")]
    Inconsistent,
    /// The journal is closed.
    #[error("the audit log is closed")]
    Closed,
    /// A write or a sync failed; nothing is written any more until a restart.
    #[error("the audit log is broken: {0}")]
    Broken(Arc<str>),
    /// Another redaction, or an archiving, has not ended.
    #[error("a redaction or an archiving of the audit log runs already")]
    RedactionRuns,
    /// It is on record what is erased, and not all of it is.
    #[error("a redaction is on record and not finished: {0}")]
    RedactionUnfinished(Arc<str>),
    /// What is asked needs records that are in the archive.
    #[error("the records before {0} are archived: copy their segments back beside the log's")]
    Archived(u64),
    /// The operating system said no.
    #[error("cannot {what} {}: {error}", .file.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        file: PathBuf,
        /// Its answer.
        error: Arc<str>,
    },
    /// The operating system has no randomness.
    #[error("the operating system gave no randomness")]
    Random,
}

impl JournalError {
    pub(crate) fn io(what: &'static str, file: &Path, error: &std::io::Error) -> Self {
        Self::Io { what, file: file.to_owned(), error: error.to_string().into() }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, what: &'static str) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, what }
    }
}

/// Whether records can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// They can.
    Ok,
    /// There is no space for the next segment. It comes back by itself when there is.
    NoSpace,
    /// The open segment was removed or replaced. It comes back by itself if the file does.
    Missing,
    /// A write or a sync failed. Only a restart helps.
    Broken(Arc<str>),
}

/// Why a query was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The page token is none of ours, or belongs to another query.
    #[error("the page token does not belong to this query; start again without one")]
    PageToken,
    /// A summary would hold more groups or partitions than it may.
    #[error("the summary has too many groups or partitions")]
    TooLarge,
    /// A tree or a record of it that the log does not have.
    #[error("the log has {0} records; proofs and counts are about records that it has")]
    BeyondLog(u64),
    /// A tree that was never signed.
    #[error(
        "no checkpoint was ever signed at this size; take the tree size of a receipt or a checkpoint"
    )]
    NoCheckpoint,
    /// A record that is in an archive, or a tree that ended there.
    #[error(
        "the records before {0} are archived; the archive proves them: `audit check-receipt --log DIR` with \
         its directory, or `audit verify --archive DIR` with the checkpoint"
    )]
    Archived(u64),
    /// Whoever asked does not wait any more.
    #[error("nobody waits for this summary")]
    Abandoned,
    /// The log cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Unreadable(Arc<str>),
}
