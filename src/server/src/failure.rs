//! Why the sidecar did not start or ended by itself, and what kind of trouble that is.

use std::net::SocketAddr;

use fieldseal_audit::JournalError;
use fieldseal_engine::{AnchorError, BootError, CopyError, ExportError};
use fieldseal_keys::keyring::KeyringError;
use fieldseal_store::StoreError;

use crate::transport::TlsError;

/// Why the sidecar did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The keyring or its root provider.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Policy, store, audit log or keys.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be used.
    #[error("cannot listen on {address} ({setting}): {error}")]
    Listen {
        /// The setting that states it.
        setting: &'static str,
        /// The address of the configuration.
        address: SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The address file cannot be written.
    #[error("cannot write {} ({setting}): {error}", path.display())]
    AddressFile {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The installation has a store on disk, which `state.backend` passes over.
    #[error("state.backend is \"memory\", and {} holds a store: its keys would not be there, and the \
        log would tell of changes that the store has not", .0.display())]
    Backend(std::path::PathBuf),
    /// Reflection cannot be offered.
    #[error("cannot offer reflection: {0}")]
    Reflection(String),
    /// The audit log cannot be written any more: the process ends, and its supervisor starts it
    /// again.
    #[error("{0}")]
    Audit(JournalError),
    /// The store cannot be written any more: the process ends, and its supervisor starts it again.
    #[error("the store is broken: {0}")]
    Store(String),
    /// The database contradicts itself: the process ends, and no restart helps.
    #[error("the store is damaged: {0}; `fieldseal doctor` says what to do")]
    Damaged(String),
}

/// What kind of trouble a [`ServeError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServeErrorKind {
    /// The configuration, the policy or a file that it names cannot be used.
    Usage,
    /// There is no installation.
    NotFound,
    /// It cannot be served now.
    Unavailable,
    /// Something else holds what is needed.
    Conflict,
    /// No space.
    Full,
    /// Store, log or keyring are damaged.
    Corrupt,
    /// Anything else.
    Internal,
}

impl ServeError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ServeErrorKind {
        self.classify().0
    }

    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.classify().1
    }

    fn classify(&self) -> (ServeErrorKind, &'static str) {
        use ServeErrorKind as K;
        match self {
            Self::Keyring(error) => keyring_kind(error),
            Self::Boot(error) => boot_kind(error),
            Self::Audit(error) => journal_kind(error),
            Self::Store(why) if is_full(why) => (K::Full, "STORE_FULL"),
            Self::Store(_) => (K::Unavailable, "STORE_BROKEN"),
            Self::Damaged(_) => (K::Corrupt, "STORE_CORRUPT"),
            Self::Tls(_) => (K::Usage, "TLS_INVALID"),
            Self::Listen { .. } => (K::Conflict, "ADDRESS_UNAVAILABLE"),
            Self::AddressFile { .. } => (K::Usage, "ADDRESS_FILE_UNWRITABLE"),
            Self::Backend(_) => (K::Usage, "STATE_BACKEND_WRONG"),
            Self::Reflection(_) => (K::Internal, "INTERNAL"),
        }
    }
}

/// ENOSPC, as store and log pass it on.
fn is_full(why: &str) -> bool {
    why.contains("No space left")
}

/// What kind of trouble keeps an installation from being made or started, and its stable reason.
#[must_use]
pub fn boot_kind(error: &BootError) -> (ServeErrorKind, &'static str) {
    match error {
        BootError::Keyring(error) => keyring_kind(error),
        BootError::Policy(_) => (ServeErrorKind::Usage, "POLICY_INVALID"),
        BootError::Store(error) => store_kind(error),
        BootError::Audit(error) => journal_kind(error),
        BootError::Keys(error) => keys_kind(error),
        BootError::Copy(error) => (copy_kind(error), error.reason()),
        BootError::Anchor(error) => (anchor_kind(error), error.reason()),
        BootError::Export(error) => (export_kind(error), error.reason()),
        _ => (ServeErrorKind::Internal, "INTERNAL"),
    }
}

fn anchor_kind(error: &AnchorError) -> ServeErrorKind {
    match error {
        AnchorError::Unreadable { .. } => ServeErrorKind::Unavailable,
        AnchorError::Foreign { .. } => ServeErrorKind::Conflict,
        _ => ServeErrorKind::Corrupt,
    }
}

fn export_kind(error: &ExportError) -> ServeErrorKind {
    match error {
        ExportError::Unreadable { .. } => ServeErrorKind::Unavailable,
        ExportError::NoCursor { .. } | ExportError::Foreign { .. } => ServeErrorKind::Conflict,
        _ => ServeErrorKind::Corrupt,
    }
}

fn copy_kind(error: &CopyError) -> ServeErrorKind {
    match error {
        CopyError::Foreign { .. } | CopyError::Newer { .. } => ServeErrorKind::Conflict,
        CopyError::Altered { .. } => ServeErrorKind::Corrupt,
        _ => ServeErrorKind::Unavailable,
    }
}

/// What kind of trouble a keyring is in, and its stable reason.
#[must_use]
pub fn keyring_kind(error: &KeyringError) -> (ServeErrorKind, &'static str) {
    use ServeErrorKind as K;
    match error {
        KeyringError::Expected { error, .. } => keyring_kind(error),
        KeyringError::NotInitialized(_) => (K::NotFound, "STORE_NOT_INITIALIZED"),
        KeyringError::Exists(_) => (K::Conflict, "INSTALLATION_EXISTS"),
        KeyringError::FormatNewer { .. } => (K::Usage, "FORMAT_NEWER"),
        KeyringError::Corrupt { .. } => (K::Corrupt, "KEYRING_CORRUPT"),
        KeyringError::WrongProvider { .. } | KeyringError::WrongRootKey => {
            (K::Usage, "ROOT_KEY_WRONG")
        }
        KeyringError::Unsafe { .. } => (K::Usage, "ROOT_KEY_UNSAFE"),
        KeyringError::Weak(_) | KeyringError::Different => (K::Usage, "PASSPHRASE_REFUSED"),
        KeyringError::Recipient => (K::Usage, "RECIPIENT_INVALID"),
        KeyringError::WrongRecipient { .. } => (K::Usage, "RECIPIENT_WRONG"),
        KeyringError::Identity(_) => (K::Usage, "IDENTITY_WRONG"),
        KeyringError::Io { .. } | KeyringError::Missing(_) => (K::Usage, "ROOT_KEY_UNREADABLE"),
        KeyringError::ProviderDown(_) => (K::Unavailable, "ROOT_PROVIDER_UNAVAILABLE"),
        KeyringError::ProviderBroken(_) => (K::Usage, "ROOT_PROVIDER_BROKEN"),
        KeyringError::RotationPending => (K::Conflict, "ROOT_ROTATION_PENDING"),
        _ => (K::Internal, "INTERNAL"),
    }
}

fn store_kind(error: &StoreError) -> (ServeErrorKind, &'static str) {
    use ServeErrorKind as K;
    match error {
        StoreError::NotInitialized(_) => (K::NotFound, "STORE_NOT_INITIALIZED"),
        StoreError::AlreadyInitialized(_) => (K::Conflict, "INSTALLATION_EXISTS"),
        StoreError::Locked { .. } => (K::Conflict, "STORE_LOCKED"),
        StoreError::FormatNewer { .. } => (K::Usage, "FORMAT_NEWER"),
        StoreError::Corrupt(_) => (K::Corrupt, "STORE_CORRUPT"),
        StoreError::Io(why) if is_full(why) => (K::Full, "STORE_FULL"),
        _ => (K::Unavailable, "STORE_UNAVAILABLE"),
    }
}

fn journal_kind(error: &JournalError) -> (ServeErrorKind, &'static str) {
    use ServeErrorKind as K;
    match error {
        JournalError::NotInitialized(_) => (K::NotFound, "AUDIT_LOG_NOT_INITIALIZED"),
        JournalError::Exists(_) => (K::Conflict, "INSTALLATION_EXISTS"),
        JournalError::Locked { .. } => (K::Conflict, "AUDIT_LOG_LOCKED"),
        JournalError::FormatNewer { .. } => (K::Usage, "FORMAT_NEWER"),
        JournalError::Renamed { .. } => (K::Usage, "AUDIT_INSTANCE_WRONG"),
        JournalError::Foreign { .. } => (K::Corrupt, "AUDIT_LOG_FOREIGN"),
        JournalError::Corrupt { .. } => (K::Corrupt, "AUDIT_LOG_CORRUPT"),
        JournalError::Unavailable => (K::Full, "AUDIT_LOG_NO_SPACE"),
        JournalError::Io { error: why, .. } | JournalError::Broken(why) if is_full(why) => {
            (K::Full, "AUDIT_LOG_NO_SPACE")
        }
        _ => (K::Unavailable, "AUDIT_UNAVAILABLE"),
    }
}

fn keys_kind(error: &fieldseal_keys::KeyError) -> (ServeErrorKind, &'static str) {
    use fieldseal_keys::KeyError;
    match error {
        KeyError::Keyring(error) => keyring_kind(error),
        KeyError::Store(error) => store_kind(error),
        KeyError::Journal(error) => journal_kind(error),
        KeyError::Corrupt(_) => (ServeErrorKind::Corrupt, "STORE_CORRUPT"),
        KeyError::Mismatch(found) => (ServeErrorKind::Corrupt, found.relation.reason()),
        _ => (ServeErrorKind::Unavailable, "STORE_UNAVAILABLE"),
    }
}
