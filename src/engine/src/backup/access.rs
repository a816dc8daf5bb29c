//! Who can open a backup: age recipients, or whoever knows a passphrase.

use std::io::{Read, Write};

use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use fieldseal_keys::keyring::age_identity;
use zeroize::Zeroizing;

use super::error::BackupError;

/// The work of turning a passphrase into a key: N = 2^18 of scrypt (RFC 7914), as the `age` program
/// has it.
const WORK: u8 = 18;
/// The most work that is done for somebody else's file.
const MAX_WORK: u8 = 22;

/// Who will be able to open a backup.
#[derive(Clone)]
pub enum Recipients {
    /// Whoever has the identity of one of these.
    Keys(Vec<x25519::Recipient>),
    /// Whoever knows it.
    Passphrase(SecretString),
}

impl Recipients {
    /// Recipients as text, each beginning with `age1`.
    ///
    /// # Errors
    /// `Recipient` for one that is none, `NotConfigured` if there is none at all.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, BackupError> {
        let parsed = texts.into_iter().map(|text| {
            text.trim().parse().map_err(|_| BackupError::Recipient(text.trim().to_owned()))
        });
        let parsed: Vec<x25519::Recipient> = parsed.collect::<Result<_, _>>()?;
        match parsed.is_empty() {
            true => Err(BackupError::NotConfigured("there is no recipient")),
            false => Ok(Self::Keys(parsed)),
        }
    }

    /// A passphrase.
    #[must_use]
    pub fn passphrase(text: Zeroizing<String>) -> Self {
        Self::Passphrase(SecretString::from(text.as_str()))
    }

    pub(super) fn encrypt<W: Write>(&self, out: W) -> Result<StreamWriter<W>, std::io::Error> {
        let failed = |e: age::EncryptError| std::io::Error::other(e.to_string());
        let encryptor = match self {
            Self::Keys(keys) => {
                Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient))
            }
            Self::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK);
                Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            }
        };
        encryptor.map_err(failed)?.wrap_output(out)
    }
}

/// What opens a backup.
pub enum Unlock {
    /// An age identity.
    Identity(x25519::Identity),
    /// A passphrase.
    Passphrase(SecretString),
}

impl Unlock {
    /// The text of an identity file: comment lines and one identity.
    ///
    /// # Errors
    /// `IdentityWrong` if there is none.
    pub fn identity(text: &str) -> Result<Self, BackupError> {
        let none = || BackupError::IdentityWrong("(the file holds no age identity)".to_owned());
        age_identity(text).map(Self::Identity).ok_or_else(none)
    }

    /// A passphrase.
    #[must_use]
    pub fn passphrase(text: Zeroizing<String>) -> Self {
        Self::Passphrase(SecretString::from(text.as_str()))
    }

    /// Opens the file of the backup `name`.
    pub(super) fn decrypt<R: Read>(
        &self,
        name: &str,
        from: R,
    ) -> Result<StreamReader<R>, BackupError> {
        let refused = |error| match error {
            DecryptError::NoMatchingKeys
            | DecryptError::DecryptionFailed
            | DecryptError::KeyDecryptionFailed => BackupError::IdentityWrong(name.to_owned()),
            other => BackupError::altered(name, other.to_string()),
        };
        let decryptor = Decryptor::new(from).map_err(refused)?;
        let reader = match self {
            Self::Identity(identity) => {
                decryptor.decrypt(std::iter::once(identity as &dyn age::Identity))
            }
            Self::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(MAX_WORK);
                decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
            }
        };
        reader.map_err(refused)
    }
}
