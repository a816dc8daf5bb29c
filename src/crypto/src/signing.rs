//! The log's signatures: Ed25519 (RFC 8032).

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use fieldseal_memory::SecretBox;
use sha2::{Digest, Sha512};
use zeroize::Zeroize;

use crate::keys::ServiceKey;

/// Signs the log. The seed is a service key. What RFC 8032 (section 5.1.5, step 1) makes of it stays
/// in a key page; a signature borrows it for as long as it takes.
pub struct LogSigningKey {
    expanded: SecretBox<64>,
    public: VerifyingKey,
}

impl LogSigningKey {
    /// The key of this seed.
    #[must_use]
    pub fn new(seed: ServiceKey) -> Self {
        let public = SigningKey::from_bytes(seed.bytes()).verifying_key();
        let expanded = SecretBox::build(|to| {
            let mut hash = Sha512::digest(seed.bytes());
            to.copy_from_slice(&hash);
            hash.zeroize();
        });
        Self { expanded, public }
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let key = ExpandedSecretKey::from_bytes(self.expanded.expose());
        raw_sign::<Sha512>(&key, message, &self.public).to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> LogPublicKey {
        LogPublicKey(self.public.to_bytes())
    }
}

/// The public half of the log's key: 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPublicKey([u8; 32]);

/// A signature does not verify, or the public key is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct SignatureError;

impl LogPublicKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Verifies a signature strictly (no small-order keys, canonical encodings).
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        let signature = Signature::from_bytes(signature);
        key.verify_strict(message, &signature).map_err(|_| SignatureError)
    }
}
