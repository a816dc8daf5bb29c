//! Why a call, or one item of it, was not answered.

use std::sync::Arc;

use fieldseal_audit::{JournalError, QueryError, Receipt};
use fieldseal_crypto::random::RandomError;
use fieldseal_identity::Refused;
use fieldseal_keys::{KeyError, OpenCause};
use fieldseal_model::{Malformed, MalformedReason};
use fieldseal_store::{StoreError, TxnError};

use crate::backup::BackupError;

/// What a caller is told. The true cause may be another: it stands in the audit record.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What happened.
    pub cause: RefusalCause,
    /// The audit record, `logs/{log}/events/{index}`, where there is one.
    pub event: Option<Arc<str>>,
}

/// What happened, as far as the caller may know.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalCause {
    /// The request cannot be understood.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// No policy rule allows it, or one forbids it.
    #[error(
        "policy does not allow this; the audit record names the caller, and the rule if one forbids it"
    )]
    Denied,
    /// The token of an end user is refused.
    #[error(transparent)]
    EndUser(#[from] Refused),
    /// Another context, altered bytes or another key: never said which.
    #[error(
        "the ciphertext does not open under this key, partition and context; check that table, \
         column, row, partition and extra context are the ones it was sealed with"
    )]
    DecryptionFailed,
    /// Trouble with keys.
    #[error(transparent)]
    Key(Arc<KeyError>),
    /// The journal cannot write, so nothing may be answered.
    #[error(
        "the audit log cannot be written, so nothing is decrypted or changed; the sidecar's operator \
         sees why: no space, or a missing file"
    )]
    AuditUnavailable,
    /// The journal's queue is full.
    #[error("the audit log's queue is full; try again in a moment")]
    AuditBusy,
    /// The log that is asked for is another instance's.
    #[error("this instance has the log {0} and no other")]
    LogNotFound(Arc<str>),
    /// The audit log cannot be read. Which file, stands in the process's own log lines.
    #[error("the audit log cannot be read; the sidecar's own log lines say which file and why")]
    AuditUnreadable,
    /// As many queries of the audit log run as there may be.
    #[error("too many queries of the audit log run at the same time; try again in a moment")]
    QueryBusy,
    /// A proof or a count is asked of records that the log does not have.
    #[error("the log has {0} records; proofs and counts are about records that it has")]
    TreeBeyondLog(u64),
    /// A proof is asked of a tree that was never signed.
    #[error(
        "no checkpoint was ever signed at this size; take the tree size of a receipt or a \
         checkpoint, or none for the newest"
    )]
    CheckpointNotFound,
    /// As many follow the audit log as may.
    #[error(
        "as many callers follow the audit log as may at the same time; try again when one of them has ended"
    )]
    TailBusy,
    /// A summary would hold too much.
    #[error(
        "the summary has too many groups or partitions; ask about a shorter time, or group by less"
    )]
    SummaryTooLarge,
    /// The log has no detail of the kind.
    #[error("the audit log holds no personal detail of the kind; nothing was erased")]
    NothingToRedact,
    /// Another redaction, or an archiving, has not ended.
    #[error("another redaction or archiving of the audit log runs; nothing was changed")]
    RedactionRunning,
    /// It is on record what goes, and not all of it is gone.
    #[error(
        "the redaction is on record and not finished: the next start, or the next redaction, goes on \
         with it; the sidecar's own log lines say what is in its way"
    )]
    RedactionUnfinished,
    /// No archive is configured.
    #[error("no archive is configured (audit.archive_directory, audit.archive_command)")]
    ArchiveNotConfigured,
    /// What is asked needs records that are in the archive.
    #[error(
        "the records before {0} are archived, and the archive is not there, lacks some, or does not lead to \
         what was signed; it is a log by itself"
    )]
    Archived(u64),
    /// The archive cannot be written, or holds something else.
    #[error(
        "the log was not archived to the end, and nothing of it is lost; the sidecar's own log lines say \
         what is in its way"
    )]
    ArchiveUnavailable,
    /// The policy's files are no policy, so the one before stays: what is wrong, with file and line.
    #[error("the files are no policy, so the one before stays:\n{0}")]
    PolicyInvalid(Arc<str>),
    /// Trouble with a backup.
    #[error(transparent)]
    Backup(Arc<BackupError>),
    /// Something inside is wrong.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl RefusalCause {
    /// The stable name, as it stands in `ErrorInfo.reason` and in the audit log.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(what) => what.reason().as_str(),
            Self::Denied => "PERMISSION_DENIED",
            Self::EndUser(refused) => refused.reason(),
            Self::DecryptionFailed => "DECRYPTION_FAILED",
            Self::Key(error) => key_reason(error),
            Self::AuditUnavailable => "AUDIT_UNAVAILABLE",
            Self::AuditBusy => "AUDIT_BUSY",
            Self::LogNotFound(_) => "LOG_NOT_FOUND",
            Self::AuditUnreadable => "AUDIT_UNREADABLE",
            Self::QueryBusy => "QUERY_BUSY",
            Self::TreeBeyondLog(_) => "TREE_BEYOND_LOG",
            Self::CheckpointNotFound => "CHECKPOINT_NOT_FOUND",
            Self::TailBusy => "TAIL_BUSY",
            Self::SummaryTooLarge => "SUMMARY_TOO_LARGE",
            Self::NothingToRedact => "NOTHING_TO_REDACT",
            Self::RedactionRunning => "REDACTION_RUNNING",
            Self::RedactionUnfinished => "REDACTION_UNFINISHED",
            Self::ArchiveNotConfigured => "ARCHIVE_NOT_CONFIGURED",
            Self::Archived(_) => "RECORDS_ARCHIVED",
            Self::ArchiveUnavailable => "ARCHIVE_UNAVAILABLE",
            Self::PolicyInvalid(_) => "POLICY_INVALID",
            Self::Backup(error) => error.reason(),
            Self::Internal(_) => "INTERNAL",
        }
    }
}

fn key_reason(error: &KeyError) -> &'static str {
    match error {
        KeyError::KeyNotFound => "KEY_NOT_FOUND",
        KeyError::KeyExists => "KEY_EXISTS",
        KeyError::TooMany { .. } => "LIMIT_REACHED",
        KeyError::DataKeyNotFound => "DATA_KEY_NOT_FOUND",
        KeyError::VersionDisabled => "KEY_VERSION_DISABLED",
        KeyError::VersionDestroyed => "KEY_VERSION_DESTROYED",
        KeyError::VersionNotFound(_) => "KEY_VERSION_NOT_FOUND",
        KeyError::VersionIsPrimary(_) => "KEY_VERSION_IS_PRIMARY",
        KeyError::VersionStateWrong { .. } => "KEY_VERSION_STATE_WRONG",
        KeyError::DataKeysWouldBeLost { .. } => "DATA_KEYS_WOULD_BE_LOST",
        KeyError::PartitionShredded => "PARTITION_SHREDDED",
        KeyError::PartitionNotFound => "PARTITION_NOT_FOUND",
        KeyError::PartitionState { .. } => "PARTITION_STATE_INVALID",
        KeyError::ShredWindow { .. } => "SHRED_WINDOW_INVALID",
        KeyError::DefaultPartition => "DEFAULT_PARTITION_NOT_MEANT",
        KeyError::ApprovalRequired { .. } => "APPROVAL_REQUIRED",
        KeyError::ApprovalNotFound => "APPROVAL_NOT_FOUND",
        KeyError::ApprovalOwn => "APPROVAL_OWN",
        KeyError::ApprovalClosed { .. } => "APPROVAL_CLOSED",
        KeyError::ApprovalAltered => "APPROVAL_ALTERED",
        KeyError::ApprovalOutdated(_) => "APPROVAL_OUTDATED",
        KeyError::RewrapRunning { .. } => "REWRAP_RUNNING",
        KeyError::RewrapNotFound => "REWRAP_NOT_FOUND",
        KeyError::RewrapNotRunning { .. } => "REWRAP_NOT_RUNNING",
        KeyError::EtagMismatch => "ETAG_MISMATCH",
        KeyError::RequestIdReused => "REQUEST_ID_REUSED",
        KeyError::Conflict | KeyError::Txn(TxnError::Conflict { .. }) => "CONFLICT",
        KeyError::Unacknowledged => "CHANGE_UNACKNOWLEDGED",
        KeyError::Stopping => "STOPPING",
        KeyError::Corrupt(_) => "STORE_CORRUPT",
        KeyError::Store(error) | KeyError::Txn(TxnError::Store(error)) => store_reason(error),
        KeyError::Txn(TxnError::NoSpace) => "STORE_FULL",
        KeyError::Busy | KeyError::Txn(TxnError::Busy) => "STORE_BUSY",
        KeyError::Txn(TxnError::Indeterminate(_)) => "CHANGE_INDETERMINATE",
        KeyError::Txn(TxnError::CopyUnavailable(_)) => "STORE_COPY_UNAVAILABLE",
        // Our own transactions are bounded.
        KeyError::Txn(TxnError::TooLarge { .. }) => "INTERNAL",
        KeyError::Txn(_) => "STORE_UNAVAILABLE",
        _ => "INTERNAL",
    }
}

fn store_reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::Corrupt(_) => "STORE_CORRUPT",
        StoreError::Busy => "STORE_BUSY",
        _ => "STORE_UNAVAILABLE",
    }
}

impl Refusal {
    pub(crate) fn new(cause: impl Into<RefusalCause>) -> Self {
        Self { cause: cause.into(), event: None }
    }

    pub(crate) fn recorded(cause: impl Into<RefusalCause>, receipt: &Receipt) -> Self {
        Self { cause: cause.into(), event: Some(event_name(receipt)) }
    }

    pub(crate) fn at(mut self, event: &Arc<str>) -> Self {
        self.event = Some(Arc::clone(event));
        self
    }
}

/// `logs/{log}/events/{index}`.
pub(crate) fn event_name(receipt: &Receipt) -> Arc<str> {
    format!("logs/{}/events/{}", receipt.log(), receipt.index()).into()
}

impl<T: Into<RefusalCause>> From<T> for Refusal {
    fn from(cause: T) -> Self {
        Self::new(cause)
    }
}

impl From<KeyError> for RefusalCause {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Journal(error) => error.into(),
            other => Self::Key(Arc::new(other)),
        }
    }
}

impl From<JournalError> for RefusalCause {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::QueueFull => Self::AuditBusy,
            JournalError::Inconsistent => Self::Internal("an event did not match its values"),
            _ => Self::AuditUnavailable,
        }
    }
}

impl From<QueryError> for RefusalCause {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::PageToken => {
                Malformed::new(MalformedReason::PageInvalid, error.to_string()).into()
            }
            QueryError::TooLarge => Self::SummaryTooLarge,
            QueryError::BeyondLog(known) => Self::TreeBeyondLog(known),
            QueryError::NoCheckpoint => Self::CheckpointNotFound,
            QueryError::Archived(first) => Self::Archived(first),
            QueryError::Abandoned => Self::Internal("nobody waits for this summary"),
            _ => {
                tracing::error!(%error, "a query of the audit log failed");
                Self::AuditUnreadable
            }
        }
    }
}

impl From<RandomError> for RefusalCause {
    fn from(_: RandomError) -> Self {
        Self::Internal("the operating system has no randomness")
    }
}

/// What a caller with a permit may know of an open that failed.
impl From<OpenCause> for RefusalCause {
    fn from(cause: OpenCause) -> Self {
        match cause {
            OpenCause::DataKeyNotFound => KeyError::DataKeyNotFound.into(),
            OpenCause::VersionDisabled => KeyError::VersionDisabled.into(),
            OpenCause::VersionDestroyed => KeyError::VersionDestroyed.into(),
            OpenCause::PartitionShredded => KeyError::PartitionShredded.into(),
            OpenCause::NotPermitted => Self::Internal("a permit did not cover its call"),
            _ => Self::DecryptionFailed,
        }
    }
}
