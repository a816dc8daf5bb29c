//! HKDF-Expand-SHA256 (RFC 5869) with a label, a salt and a context: suite 1's derivation.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The label of the encryption key.
const KEY_LABEL: &[u8; 4] = b"fs1k";
/// The label of the commitment.
const COMMITMENT_LABEL: &[u8; 4] = b"fs1c";
/// Bytes of a salt.
pub(crate) const SALT_BYTES: usize = 16;
/// Bytes of a commitment.
pub(crate) const COMMITMENT_BYTES: usize = 32;

/// A pseudorandom key that is ready to expand: HMAC's two key blocks are hashed once.
pub(crate) struct Expander(Hkdf<Sha256>);

impl Expander {
    /// `prk` is uniformly random, so HKDF-Extract is not needed (RFC 5869, section 3.3).
    pub(crate) fn new(prk: &[u8; 32]) -> Self {
        // 32 bytes are a hash's length, which is the only thing that is checked.
        Self(Hkdf::from_prk(prk).unwrap_or_else(|_| Hkdf::new(None, prk)))
    }

    /// The encryption key of one message.
    pub(crate) fn key(&self, salt: &[u8; SALT_BYTES], ctx: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        self.expand(KEY_LABEL, salt, ctx, &mut key);
        key
    }

    /// The commitment of one message: public.
    pub(crate) fn commitment(
        &self,
        salt: &[u8; SALT_BYTES],
        ctx: &[u8; 32],
    ) -> [u8; COMMITMENT_BYTES] {
        let mut commitment = [0; COMMITMENT_BYTES];
        self.expand(COMMITMENT_LABEL, salt, ctx, &mut commitment);
        commitment
    }

    /// The info has 52 bytes, so that inner and outer hash take one block each.
    fn expand(&self, label: &[u8; 4], salt: &[u8; 16], ctx: &[u8; 32], out: &mut [u8; 32]) {
        // 32 bytes are one block of output; HKDF refuses only more than 255.
        let expanded = self.0.expand_multi_info(&[label, salt, ctx], out);
        debug_assert!(expanded.is_ok());
    }
}
