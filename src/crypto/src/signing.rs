//! The log's signatures: Ed25519 (RFC 8032).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::keys::ServiceKey;

/// Signs the log. The seed is a service key; the expanded key is made once and wiped on drop.
pub struct LogSigningKey(Box<SigningKey>);

impl LogSigningKey {
    /// The key of this seed.
    #[must_use]
    pub fn new(seed: ServiceKey) -> Self {
        Self(Box::new(SigningKey::from_bytes(seed.bytes())))
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> LogPublicKey {
        LogPublicKey(self.0.verifying_key().to_bytes())
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
