//! Store records: sealed values, hidden names, and the sum that finds a store gone back in time.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use fieldseal_model::InstallationId;
use hmac::Mac;
use zeroize::Zeroizing;

use crate::keys::ServiceKey;
use crate::pae;
use crate::random::{self, RandomError};
use crate::token;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Bytes that a sealed record is longer than its value.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// A record did not open: altered, moved to another path, or given another revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record does not open")]
pub struct RecordError;

/// Seals store values: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) with a random nonce of 24
/// bytes in front and `PAE(installation, path, le64 revision)` as associated data.
pub struct StorageKey(ServiceKey);

impl StorageKey {
    /// Seals with this service key.
    #[must_use]
    pub fn new(key: ServiceKey) -> Self {
        Self(key)
    }

    /// Seals a value: nonce, ciphertext, tag.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn seal(
        &self,
        installation: InstallationId,
        path: &[u8],
        revision: u64,
        value: &[u8],
    ) -> Result<Vec<u8>, RandomError> {
        let nonce: [u8; NONCE_BYTES] = random::array()?;
        let mut sealed = Vec::with_capacity(OVERHEAD_BYTES + value.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let aad = aad(installation, path, revision);
        let body = InOutBuf::from(sealed.get_mut(NONCE_BYTES..).unwrap_or_default());
        // Only a value of 256 GiB fails to encrypt; it is reported like missing randomness.
        let tag = self.cipher().encrypt_inout_detached(&nonce.into(), &aad, body);
        sealed.extend_from_slice(&tag.map_err(|_| RandomError)?);
        Ok(sealed)
    }

    /// Opens a sealed value.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn open(
        &self,
        installation: InstallationId,
        path: &[u8],
        revision: u64,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, RecordError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(RecordError)?;
        let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(RecordError)?;
        let mut value = Zeroizing::new(body.to_vec());
        let aad = aad(installation, path, revision);
        let buffer = InOutBuf::from(value.as_mut_slice());
        self.cipher()
            .decrypt_inout_detached(nonce.into(), &aad, buffer, tag.into())
            .map_err(|_| RecordError)?;
        Ok(value)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.0.bytes().into())
    }
}

fn aad(installation: InstallationId, path: &[u8], revision: u64) -> Vec<u8> {
    pae::encode(&[installation.as_bytes(), path, &revision.to_le_bytes()])
}

/// Hides the names in paths: the first 16 bytes of HMAC-SHA256 over the PAE of the parts.
pub struct PathKey(ServiceKey);

impl PathKey {
    /// Hides names with this service key.
    #[must_use]
    pub fn new(key: ServiceKey) -> Self {
        Self(key)
    }

    /// The hash of a name made of parts.
    #[must_use]
    pub fn hash(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = token::mac(&self.0);
        token::update(&mut mac, parts.len(), parts);
        token::first_half(mac)
    }
}

/// Sums up the whole store: `acc = Σ HMAC(anchor key, PAE("term", path, le64 revision, value))`
/// modulo 2^256, little endian. The order of records does not matter, and one change costs two
/// terms (AdHash, Bellare and Micciancio 1997, with a keyed function).
pub struct AnchorKey(ServiceKey);

impl AnchorKey {
    /// Sums up with this service key.
    #[must_use]
    pub fn new(key: ServiceKey) -> Self {
        Self(key)
    }

    /// The term of one record.
    #[must_use]
    pub fn term(&self, path: &[u8], revision: u64, value: &[u8]) -> [u8; 32] {
        let mut mac = token::mac(&self.0);
        token::update(&mut mac, 4, &[b"term", path, &revision.to_le_bytes(), value]);
        mac.finalize().into_bytes().into()
    }

    /// What of the sum stands in the log: its HMAC, so that the log says nothing of the store.
    #[must_use]
    pub fn mac(&self, acc: &[u8; 32]) -> [u8; 32] {
        let mut mac = token::mac(&self.0);
        token::update(&mut mac, 2, &[b"anchor", acc]);
        mac.finalize().into_bytes().into()
    }
}

/// `acc + term` modulo 2^256.
pub fn add(acc: &mut [u8; 32], term: &[u8; 32]) {
    let mut carry = 0_u16;
    for (a, t) in acc.iter_mut().zip(term) {
        let sum = u16::from(*a) + u16::from(*t) + carry;
        *a = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
}

/// `acc - term` modulo 2^256.
pub fn subtract(acc: &mut [u8; 32], term: &[u8; 32]) {
    let mut borrow = 0_i16;
    for (a, t) in acc.iter_mut().zip(term) {
        let difference = i16::from(*a) - i16::from(*t) - borrow;
        *a = difference.to_le_bytes()[0];
        borrow = i16::from(difference < 0);
    }
}
