//! The cryptography, named by its specifications: suite 1, wraps, tokens, records, signatures.
//!
//! **For:** sealing and opening fields (docs/ciphertext.md), wrapping keys, naming rows without
//! showing them, sealing store records, signing the log.
//! **May use:** `memory`, `model`. No I/O but the operating system's random source; no async.
//! **Must hold:** a secret has no `Debug`, `Clone` or `Serialize` and lives in a key page; a failure
//! to open says nothing to a caller; the commitment is compared before the tag is checked; no key
//! is used for two things.

// The compile-fail tests and rustdoc build without our flags, and nothing that they build runs.
#[cfg(not(any(all(poly1305_backend = "soft", chacha20_backend = "soft"), trybuild, doc)))]
compile_error!(
    "build with the flags of .cargo/config.toml: without them short fields cost several times as \
     much. An exported RUSTFLAGS replaces the list in that file"
);

mod derive;
pub mod field;
mod keys;
pub mod pae;
pub mod random;
pub mod record;
pub mod signing;
pub mod token;
pub mod wrap;

pub use field::ContentType;
pub use keys::{DataKey, Kek, ProviderKey, RootKey, ServiceKey, ServiceKeyKind};

use sha2::{Digest, Sha256};

/// SHA-256 (FIPS 180-4) of the parts, one after the other. Use [`pae::encode`] where the borders
/// between them matter.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    if let Some(hash) = short_sha256(parts) {
        return hash;
    }
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// SHA-256 of what fits two blocks, as leaves and nodes of a Merkle tree do: padded in place, without
/// the buffer that a longer message needs. `None` if it is longer.
fn short_sha256(parts: &[&[u8]]) -> Option<[u8; 32]> {
    const INITIAL: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];
    let mut message = [0_u8; 128];
    let mut len = 0_usize;
    for part in parts {
        let end = len.checked_add(part.len())?;
        message.get_mut(len..end)?.copy_from_slice(part);
        len = end;
    }
    // FIPS 180-4, section 5.1.1: one bit, zeroes, and the length in bits in the last 8 bytes.
    let blocks = len.checked_add(9)?.div_ceil(64);
    *message.get_mut(len)? = 0x80;
    let bits = (len as u64).checked_mul(8)?.to_be_bytes();
    message.get_mut(..blocks * 64)?.last_chunk_mut::<8>()?.copy_from_slice(&bits);
    let mut state = INITIAL;
    let (blocks, _) = message.get(..blocks * 64)?.as_chunks::<64>();
    sha2::block_api::compress256(&mut state, blocks);
    let mut hash = [0; 32];
    for (to, word) in hash.chunks_exact_mut(4).zip(state) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_hash_is_the_hash() {
        let message: Vec<u8> = (0..=200).collect();
        for len in 0..=200 {
            let (first, second) = message[..len].split_at(len / 3);
            let expected: [u8; 32] = Sha256::digest(&message[..len]).into();
            assert_eq!(sha256(&[first, second]), expected, "{len} bytes");
            assert_eq!(short_sha256(&[first, second]).is_some(), len <= 119, "{len} bytes");
        }
    }
}
