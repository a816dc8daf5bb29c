//! The root key, encrypted to a recovery recipient (age-encryption.org/v1, X25519, armored). The
//! plaintext is the 32 bytes as they are, so that the ordinary `age` program opens it too.

use age::secrecy::ExposeSecret as _;
use age::x25519::{Identity, Recipient};
use fieldseal_crypto::RootKey;
use zeroize::Zeroizing;

use super::error::KeyringError;

/// A new identity and its recipient.
pub(super) fn generate() -> (String, Zeroizing<String>) {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    (recipient, Zeroizing::new(identity.to_string().expose_secret().to_owned()))
}

pub(super) fn seal(recipient: &str, root: &RootKey) -> Result<String, KeyringError> {
    let recipient: Recipient = recipient.parse().map_err(|_| KeyringError::Recipient)?;
    age::encrypt_and_armor(&recipient, root.expose()).map_err(|_| KeyringError::Recipient)
}

/// The age identity in the text of its file, the first line that is neither empty nor a comment;
/// `None` if that is none.
#[must_use]
pub fn age_identity(text: &str) -> Option<Identity> {
    text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'))?.parse().ok()
}

/// Opens the wrapper with the text of an identity file.
pub(super) fn open(text: &str, wrapped: &str, recipient: &str) -> Result<RootKey, KeyringError> {
    let refused = |what: &str| {
        KeyringError::Identity(format!("{what}, and the keyring was encrypted to {recipient}"))
    };
    let identity = age_identity(text).ok_or_else(|| refused("it is no age identity"))?;
    let opened = age::decrypt(&identity, wrapped.as_bytes())
        .map_err(|_| refused(&format!("it is that of {}", identity.to_public())))?;
    let mut opened = Zeroizing::new(opened);
    let bytes = opened.as_mut_slice().try_into();
    Ok(RootKey::from_bytes(bytes.map_err(|_| refused("it opens something else"))?))
}
