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
mod short;
pub mod signing;
pub mod token;
pub mod wrap;

pub use field::ContentType;
pub use keys::{DataKey, Kek, ProviderKey, RootKey, ServiceKey, ServiceKeyKind};

use std::io;

use sha2::{Digest, Sha256};
use short::Short;

/// SHA-256 (FIPS 180-4) of the parts, one after the other. Use [`pae::encode`] where the borders
/// between them matter.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let len = parts.iter().fold(0_usize, |len, part| len.saturating_add(part.len()));
    if len <= Short::<2>::MAX_BYTES {
        return short::<2>(parts);
    }
    if len <= Short::<4>::MAX_BYTES {
        return short::<4>(parts);
    }
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The same of parts that fit so many blocks together.
fn short<const BLOCKS: usize>(parts: &[&[u8]]) -> [u8; 32] {
    let mut message = Short::<BLOCKS>::new();
    for part in parts {
        // They fit.
        let _ = message.push(part);
    }
    message.hash()
}

/// SHA-256 over everything that is left to read.
///
/// # Errors
/// What reading says.
pub fn sha256_of(reader: &mut impl io::Read) -> io::Result<[u8; 32]> {
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; 256 * 1024]);
    loop {
        let read = reader.read(&mut chunk)?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(chunk.get(..read).unwrap_or_default());
    }
}
