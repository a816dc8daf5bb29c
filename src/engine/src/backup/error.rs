//! What can go wrong with a backup.

use std::path::{Path, PathBuf};

use fieldseal_audit::JournalError;
use fieldseal_keys::KeyError;
use fieldseal_keys::keyring::KeyringError;
use fieldseal_store::StoreError;

use crate::boot::BootError;

/// Why a backup was not made, checked or restored. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The configuration names no directory, or nobody to encrypt to.
    #[error("backups are not configured: {0}")]
    NotConfigured(&'static str),
    /// One at a time.
    #[error("another backup is being made; wait until it is done")]
    Running,
    /// There is no such backup.
    #[error("there is no backup {}", .0.display())]
    NotFound(PathBuf),
    /// A newer program wrote it.
    #[error(
        "the backup {name} has format {format}, and this program knows format 1; use a newer \
         program"
    )]
    FormatNewer {
        /// The backup.
        name: String,
        /// Its format.
        format: u32,
    },
    /// It was cut short or altered.
    #[error("the backup {name} was cut short or altered: {what}; use another one")]
    Altered {
        /// The backup.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// It is of another installation than the keyring, log or public key beside it.
    #[error("the backup {name} is of the installation {found}, and {what} is of {expected}")]
    Foreign {
        /// The backup.
        name: String,
        /// Whose it is.
        found: String,
        /// What it was compared with.
        what: &'static str,
        /// Whose that is.
        expected: String,
    },
    /// Nothing that was given opens it.
    #[error(
        "this identity or passphrase does not open the backup {0}; name the one it was made for"
    )]
    IdentityWrong(String),
    /// Not an age recipient.
    #[error("{0:?} is no age recipient; one begins with age1 and is made by `age-keygen`")]
    Recipient(String),
    /// The place to restore to holds something.
    #[error("{} is not empty; a backup is restored into an empty directory only", .0.display())]
    NotEmpty(PathBuf),
    /// A process works on the place to restore to.
    #[error("{} is in use by a running sidecar; nothing is restored over it", .0.display())]
    Living(PathBuf),
    /// Neither the log nor the word that it is lost.
    #[error(
        "without the audit log, keys that were disabled, destroyed or shredded after this backup \
         would come back"
    )]
    WithoutLog,
    /// The log is not the one that was written when the backup was made.
    #[error("the audit log does not belong to this backup: {0}")]
    LogOther(String),
    /// Records of the log that are needed are in its archive.
    #[error(
        "the records before {0} are archived, and this backup or copy needs some of them: copy the archive's \
         segments beside the log's, and restore again"
    )]
    LogArchived(u64),
    /// The copy of the store cannot be used.
    #[error(transparent)]
    Copy(#[from] fieldseal_store::CopyError),
    /// The log that would take the place of the lost one has its name.
    #[error("the new audit log needs another name than the lost one, {0:?}: two logs would be one")]
    LogName(String),
    /// The audit log did not take what the store holds.
    #[error("the audit log does not take the newest changes; try again when it does")]
    LogBehind,
    /// A value that was sealed in a scratch place did not open there.
    #[error("the backup is not good: {0}")]
    Canary(String),
    /// The process ended it.
    #[error("it was cut off")]
    Interrupted,
    /// Too much was changed while it was made.
    #[error("more was changed while the backup was made than is kept for it; try it again later")]
    Overrun,
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {error}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The keyring does not open.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The installation does not open.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Store, log or keys.
    #[error(transparent)]
    Keys(KeyError),
}

impl BackupError {
    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotConfigured(_) => "BACKUP_NOT_CONFIGURED",
            Self::Running => "BACKUP_RUNNING",
            Self::NotFound(_) => "BACKUP_NOT_FOUND",
            Self::FormatNewer { .. } => "FORMAT_NEWER",
            Self::Altered { .. } => "BACKUP_ALTERED",
            Self::Foreign { .. } => "BACKUP_FOREIGN",
            Self::IdentityWrong(_) => "BACKUP_IDENTITY_WRONG",
            Self::Recipient(_) => "RECIPIENT_INVALID",
            Self::NotEmpty(_) => "RESTORE_NOT_EMPTY",
            Self::Living(_) => "RESTORE_LIVING",
            Self::WithoutLog => "RESTORE_WITHOUT_LOG",
            Self::LogOther(_) => "RESTORE_LOG_OTHER",
            Self::LogArchived(_) => "RESTORE_LOG_ARCHIVED",
            Self::Copy(error) => error.reason(),
            Self::LogName(_) => "RESTORE_LOG_NAME",
            Self::LogBehind => "AUDIT_UNAVAILABLE",
            Self::Canary(_) => "BACKUP_ALTERED",
            Self::Interrupted => "INTERNAL",
            Self::Overrun => "BACKUP_OVERRUN",
            Self::Io { error, .. } if is_full(error) => "NO_SPACE",
            Self::Io { .. } => "BACKUP_UNREADABLE",
            Self::Keyring(_) | Self::Boot(_) | Self::Keys(_) => "INTERNAL",
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path, error: std::io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), error }
    }

    pub(super) fn altered(name: &str, what: impl Into<String>) -> Self {
        Self::Altered { name: name.to_owned(), what: what.into() }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted => Self::Overrun,
            other => Self::Boot(other.into()),
        }
    }
}

impl From<JournalError> for BackupError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Archived(first) => Self::LogArchived(first),
            other => Self::Boot(other.into()),
        }
    }
}

impl From<KeyError> for BackupError {
    fn from(error: KeyError) -> Self {
        Self::Keys(error)
    }
}
