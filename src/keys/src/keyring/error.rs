//! What can go wrong with a keyring.

use std::path::{Path, PathBuf};

use fieldseal_crypto::random::RandomError;

use super::document::Wrapping;

/// Why a keyring was not made or opened. No message holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// There is no keyring.
    #[error("{} does not exist", .0.display())]
    NotInitialized(PathBuf),
    /// There is a file already.
    #[error("{} exists already; a keyring is never made over another", .0.display())]
    Exists(PathBuf),
    /// A newer program wrote it.
    #[error(
        "{} has format {format}, and this program knows format 1; use a newer program",
        .file.display()
    )]
    FormatNewer {
        /// The keyring.
        file: PathBuf,
        /// Its format.
        format: u64,
    },
    /// It does not parse, or its parts do not belong together.
    #[error("{} is damaged: {what}; put a backup of it back", .file.display())]
    Corrupt {
        /// The keyring.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Another root provider wrapped the root key.
    #[error(
        "{} was wrapped by the root provider {wanted}, and the configuration names {given}",
        .file.display()
    )]
    WrongProvider {
        /// The keyring.
        file: PathBuf,
        /// Who wrapped it.
        wanted: String,
        /// Who was asked.
        given: String,
    },
    /// The root provider does not open the root key.
    #[error(
        "the root provider does not open the root key: it and the keyring do not belong together"
    )]
    WrongRootKey,
    /// What the root provider needs is not there.
    #[error("{0}")]
    Missing(String),
    /// A passphrase for a new key is too short.
    #[error("a passphrase has at least {0} bytes; take one that nobody can guess")]
    Weak(usize),
    /// A passphrase was typed differently the second time.
    #[error("the passphrases differ")]
    Different,
    /// Argon2id could not be computed.
    #[error("cannot make a key of the passphrase: {0}")]
    Derivation(String),
    /// The program of the root provider cannot say now. Trying again may help.
    #[error("the root provider does not answer: {0}")]
    ProviderDown(String),
    /// The program of the root provider answers something that is none. Trying again does not help.
    #[error("the root provider is broken: {0}")]
    ProviderBroken(String),
    /// The root provider cannot be used, and this keyring needs it.
    #[error("{error}; the keyring was wrapped by the root provider {expected}")]
    Expected {
        /// Who wrapped it.
        expected: String,
        /// What is wrong.
        error: Box<KeyringError>,
    },
    /// The keyring can be recovered by somebody else than the configuration says.
    #[error(
        "{} can be recovered by {found}, and the configuration (root.recovery_recipient) says {wanted}",
        .file.display()
    )]
    WrongRecipient {
        /// The keyring.
        file: PathBuf,
        /// Who it is in the configuration.
        wanted: String,
        /// Who it is in the keyring.
        found: String,
    },
    /// A rotation of the root key has begun and is not finished.
    #[error("a rotation of the root key is not finished; finish it with `fieldseal root rotate`")]
    RotationPending,
    /// A root key file that others could read or replace.
    #[error("{} {what}", .file.display())]
    Unsafe {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Not an age recipient.
    #[error("the recovery recipient is none; it begins with age1 and is made by `age-keygen`")]
    Recipient,
    /// Not an age identity, or that of another recipient.
    #[error("the recovery identity does not open this keyring: {0}")]
    Identity(String),
    /// The operating system has no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The operating system said no.
    #[error("cannot {what} {}: {error}", .file.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        file: PathBuf,
        /// Its answer.
        error: std::io::Error,
    },
}

impl KeyringError {
    /// Says who wrapped the keyring beside what is wrong.
    #[must_use]
    pub fn expecting(self, expected: &Wrapping) -> Self {
        Self::Expected { expected: expected.to_string(), error: Box::new(self) }
    }

    pub(super) fn io(what: &'static str, file: &Path, error: std::io::Error) -> Self {
        Self::Io { what, file: file.to_owned(), error }
    }

    pub(super) fn corrupt(file: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), what: what.into() }
    }

    pub(super) fn unsafe_file(file: &Path, what: impl Into<String>) -> Self {
        Self::Unsafe { file: file.to_owned(), what: what.into() }
    }
}
