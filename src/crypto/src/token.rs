//! Tokens: what the audit log holds in place of a row or a partition.
//!
//! The first 16 bytes of HMAC-SHA256 (RFC 2104) under the token key over
//! `PAE("partition", partition)` or `PAE("row", table, row)`. Whoever knows the row can find its
//! records with the sidecar's help; nothing turns a token back.

use fieldseal_model::{Partition, Row, Table};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::keys::ServiceKey;
use crate::pae::le32;

/// Bytes of a token.
pub const TOKEN_BYTES: usize = 16;

/// Makes tokens.
pub struct TokenKey(ServiceKey);

impl TokenKey {
    /// Makes tokens with this service key.
    #[must_use]
    pub fn new(key: ServiceKey) -> Self {
        Self(key)
    }

    /// The token of a partition.
    #[must_use]
    pub fn partition(&self, partition: &Partition) -> [u8; TOKEN_BYTES] {
        let mut mac = mac(&self.0);
        update(&mut mac, 2, &[b"partition", partition.as_str().as_bytes()]);
        first_half(mac)
    }

    /// The token of a row.
    #[must_use]
    pub fn row(&self, table: &Table, row: &Row) -> [u8; TOKEN_BYTES] {
        RowTokens::new(self, table).token(row)
    }
}

/// Makes the tokens of one table's rows: what they share is hashed once.
pub struct RowTokens(Hmac<Sha256>);

impl RowTokens {
    /// Makes tokens for the rows of `table`.
    #[must_use]
    pub fn new(key: &TokenKey, table: &Table) -> Self {
        let mut mac = mac(&key.0);
        update(&mut mac, 3, &[b"row", table.as_str().as_bytes()]);
        Self(mac)
    }

    /// The token of a row.
    #[must_use]
    pub fn token(&self, row: &Row) -> [u8; TOKEN_BYTES] {
        let mut mac = self.0.clone();
        mac.update(&le32(row.as_str().len()));
        mac.update(row.as_str().as_bytes());
        first_half(mac)
    }
}

pub(crate) fn mac(key: &ServiceKey) -> Hmac<Sha256> {
    // HMAC fills a key up to the block size with zeroes (RFC 2104, section 2).
    let mut block = Zeroizing::new([0; 64]);
    block.split_at_mut(32).0.copy_from_slice(key.bytes());
    <Hmac<Sha256> as KeyInit>::new((&*block).into())
}

/// The beginning of a PAE of `count` parts.
pub(crate) fn update(mac: &mut Hmac<Sha256>, count: usize, parts: &[&[u8]]) {
    mac.update(&le32(count));
    for part in parts {
        mac.update(&le32(part.len()));
        mac.update(part);
    }
}

pub(crate) fn first_half(mac: Hmac<Sha256>) -> [u8; TOKEN_BYTES] {
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    let mut half = [0; TOKEN_BYTES];
    half.copy_from_slice(full.split_at(TOKEN_BYTES).0);
    half
}
