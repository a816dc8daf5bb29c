//! Another root key, another root provider, another recovery recipient.
//!
//! A rotation is under way while the keyring holds two root keys, each wrapped by the provider and
//! encrypted to the recipient, with the same service keys under it. Every step replaces the whole
//! file or nothing, so what a killed process leaves is one of the two.

use std::collections::BTreeMap;
use std::path::Path;

use fieldseal_crypto::wrap;
use fieldseal_crypto::{RootKey, ServiceKeyKind};

use super::document::{Document, Wrapping};
use super::error::KeyringError;
use super::provider::RootProvider;
use super::{Keyring, OpenRoot, Opener, opened, wrapped};

/// Puts a second root key into the keyring, if there is none yet, and opens both. What is made from
/// now on is wrapped by the new one.
///
/// The caller has seen `recipient` in an opened keyring and holds the installation's locks.
///
/// # Errors
/// `Corrupt` if the keyring has another recipient now, what opening fails with, or what could not be
/// written.
pub fn begin_rotation(
    path: &Path,
    provider: &dyn RootProvider,
    recipient: &str,
) -> Result<Keyring, KeyringError> {
    let mut document = Document::read(path)?;
    if document.recipient != recipient {
        return Err(KeyringError::corrupt(path, "it was replaced meanwhile"));
    }
    let mut keyring = opened(path, &document, Opener::Provider(provider))?;
    if keyring.pending.is_some() {
        return Ok(keyring);
    }
    let root = RootKey::generate()?;
    let mut services = BTreeMap::new();
    for kind in ServiceKeyKind::ALL {
        let key = keyring.service(kind)?;
        let wrapped = wrap::wrap_service(&root, keyring.installation, kind, &key)?;
        services.insert(kind.as_str(), wrapped.to_vec());
    }
    let open = OpenRoot { root, services };
    let (pending, open) = wrapped(keyring.installation, provider, recipient, open)?;
    document.pending = Some(pending);
    document.replace(path)?;
    keyring.pending = Some(open);
    Ok(keyring)
}

/// Leaves the new root key alone in the keyring. The caller has seen that it wraps every KEK.
///
/// # Errors
/// What opening fails with, or what could not be written. Without a rotation nothing happens.
pub fn finish_rotation(path: &Path, provider: &dyn RootProvider) -> Result<Keyring, KeyringError> {
    let mut document = Document::read(path)?;
    if let Some(pending) = document.pending.take() {
        document.current = pending;
        // What does not open is not left alone.
        let keyring = opened(path, &document, Opener::Provider(provider))?;
        document.replace(path)?;
        return Ok(keyring);
    }
    opened(path, &document, Opener::Provider(provider))
}

/// Wraps the same root key with another provider, and encrypts it to another recipient if one is
/// given.
///
/// # Errors
/// `RotationPending`, `Recipient`, what opening or the new provider fails with, or what could not be
/// written.
pub fn rewrap(
    path: &Path,
    by: Opener<'_>,
    to: &dyn RootProvider,
    recipient: Option<&str>,
) -> Result<Keyring, KeyringError> {
    let mut document = Document::read(path)?;
    if document.pending.is_some() {
        return Err(KeyringError::RotationPending);
    }
    let mut keyring = opened(path, &document, by)?;
    let kept = document.current.recovery.clone();
    let installation = keyring.installation;
    let recipient_now = recipient.unwrap_or(&document.recipient).to_owned();
    let (current, open) = wrapped(installation, to, &recipient_now, keyring.current)?;
    keyring.current = open;
    document.current = current;
    match recipient {
        None => document.current.recovery = kept,
        Some(recipient) => document.recipient = recipient.to_owned(),
    }
    document.wrapping = Wrapping::of(to);
    document.replace(path)?;
    keyring.recipient = document.recipient;
    Ok(keyring)
}
