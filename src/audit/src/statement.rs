//! What the log's key signs beside the log: statements that name what they are about, so that none
//! can be taken for another, for a segment's header or for a checkpoint.

use fieldseal_crypto::pae;
use fieldseal_crypto::signing::LogPublicKey;

use crate::verify::LogKey;

/// `PAE("fieldseal/v1/statement", label, origin, part…)`.
pub(crate) fn message(label: &str, origin: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut all: Vec<&[u8]> = vec![b"fieldseal/v1/statement", label.as_bytes(), origin.as_bytes()];
    all.extend_from_slice(parts);
    pae::encode(&all)
}

impl LogKey {
    /// The key of this log.
    #[must_use]
    pub fn new(origin: String, key: LogPublicKey) -> Self {
        Self { origin, key }
    }

    /// The log that it signs for.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether this log's key signed this statement.
    #[must_use]
    pub fn verify_statement(&self, label: &str, parts: &[&[u8]], signature: &[u8; 64]) -> bool {
        self.key.verify(&message(label, &self.origin, parts), signature).is_ok()
    }
}
