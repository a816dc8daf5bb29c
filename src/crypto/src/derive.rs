//! HKDF-Expand-SHA256 (RFC 5869) with a label, a salt and a context: suite 1's derivation.

use zeroize::Zeroizing;

use crate::short::{Short, ShortHmac};

/// The label of the encryption key.
const KEY_LABEL: &[u8; 4] = b"fs1k";
/// The label of the commitment.
const COMMITMENT_LABEL: &[u8; 4] = b"fs1c";
/// Bytes of a salt.
pub(crate) const SALT_BYTES: usize = 16;
/// Bytes of a commitment.
pub(crate) const COMMITMENT_BYTES: usize = 32;

/// Label, salt, context and counter. An info that did not fit would bind nothing.
const INFO_BYTES: usize = 4 + SALT_BYTES + 32 + 1;
const _: () = assert!(INFO_BYTES <= Short::<2>::MAX_BYTES, "the info must fit");

/// A pseudorandom key that is ready to expand: HMAC's two key blocks are hashed once.
///
/// One block of output is `HMAC(prk, info | 0x01)`. The info has 52 bytes, so that the inner and the
/// outer hash take one compression each. A test holds it against the `hkdf` crate.
pub(crate) struct Expander(ShortHmac);

impl Expander {
    /// `prk` is uniformly random, so HKDF-Extract is not needed (RFC 5869, section 3.3).
    pub(crate) fn new(prk: &[u8; 32]) -> Self {
        Self(ShortHmac::new(prk))
    }

    /// The encryption key of one message.
    pub(crate) fn key(&self, salt: &[u8; SALT_BYTES], ctx: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        self.expand(KEY_LABEL, salt, ctx)
    }

    /// The commitment of one message: public.
    pub(crate) fn commitment(
        &self,
        salt: &[u8; SALT_BYTES],
        ctx: &[u8; 32],
    ) -> [u8; COMMITMENT_BYTES] {
        *self.expand(COMMITMENT_LABEL, salt, ctx)
    }

    fn expand(&self, label: &[u8; 4], salt: &[u8; 16], ctx: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        let info = Short::of(&[label, salt, ctx, &[1]]);
        self.0.mac(info.unwrap_or_else(Short::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_hkdf_expand() {
        for n in 0..=255_u8 {
            let (prk, salt, ctx) = ([n; 32], [n ^ 0x55; SALT_BYTES], [n.wrapping_mul(7); 32]);
            let hkdf = hkdf::Hkdf::<sha2::Sha256>::from_prk(&prk).unwrap();
            let expander = Expander::new(&prk);
            for (label, found) in [
                (KEY_LABEL, *expander.key(&salt, &ctx)),
                (COMMITMENT_LABEL, expander.commitment(&salt, &ctx)),
            ] {
                let mut expected = [0; 32];
                hkdf.expand_multi_info(&[label, &salt, &ctx], &mut expected).unwrap();
                assert_eq!(found, expected);
            }
        }
    }
}
