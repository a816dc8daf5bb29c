//! Tokens: what the audit log holds in place of a row, a partition or an end user.
//!
//! The first 16 bytes of HMAC-SHA256 (RFC 2104) under the token key over
//! `PAE("partition", partition)`, `PAE("row", table, row)` or `PAE("end_user", issuer, subject)`. Whoever knows the row can find its
//! records with the sidecar's help; nothing turns a token back.

use fieldseal_model::{Partition, Row, Table};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::keys::ServiceKey;
use crate::pae::le32;
use crate::short::{Short, ShortHmac};

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

    /// The token of the end user whom `issuer` calls `subject`.
    #[must_use]
    pub fn end_user(&self, issuer: &str, subject: &str) -> [u8; TOKEN_BYTES] {
        let mut mac = mac(&self.0);
        update(&mut mac, 3, &[b"end_user", issuer.as_bytes(), subject.as_bytes()]);
        first_half(mac)
    }

    /// The token of a row.
    #[must_use]
    pub fn row(&self, table: &Table, row: &Row) -> [u8; TOKEN_BYTES] {
        RowTokens::new(self, table).token(row)
    }
}

/// Makes the tokens of one table's rows: what they share is made once.
pub struct RowTokens {
    short: ShortHmac,
    /// `PAE` up to the row, if a short row fits behind it.
    prefix: Option<Short>,
    long: Hmac<Sha256>,
}

impl RowTokens {
    /// Makes tokens for the rows of `table`.
    #[must_use]
    pub fn new(key: &TokenKey, table: &Table) -> Self {
        let parts: [&[u8]; 2] = [b"row", table.as_str().as_bytes()];
        let [row, table] = parts;
        let prefix = Short::of(&[&le32(3), &le32(row.len()), row, &le32(table.len()), table]);
        let mut long = mac(&key.0);
        update(&mut long, 3, &parts);
        Self { short: ShortHmac::new(key.0.bytes()), prefix, long }
    }

    /// The token of a row.
    #[must_use]
    pub fn token(&self, row: &Row) -> [u8; TOKEN_BYTES] {
        let (row, len) = (row.as_str().as_bytes(), le32(row.as_str().len()));
        let short = self.prefix.clone().and_then(|mut message| {
            message.push(&len)?;
            message.push(row)?;
            Some(self.short.mac(message))
        });
        if let Some(full) = short {
            return half(&full);
        }
        let mut mac = self.long.clone();
        mac.update(&len);
        mac.update(row);
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
    half(&mac.finalize().into_bytes().into())
}

fn half(full: &[u8; 32]) -> [u8; TOKEN_BYTES] {
    let mut half = [0; TOKEN_BYTES];
    half.copy_from_slice(full.split_at(TOKEN_BYTES).0);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_row_and_a_long_one_have_the_token_of_the_formula() {
        let key = TokenKey::new(ServiceKey::from_bytes(&mut [7; 32]));
        for table_len in [1, 30, 128] {
            let table = Table::parse(&"t".repeat(table_len)).unwrap();
            let tokens = RowTokens::new(&key, &table);
            for row_len in 1..=300 {
                let row = Row::parse("r".repeat(row_len)).unwrap();
                let mut mac = mac(&key.0);
                update(&mut mac, 3, &[b"row", table.as_str().as_bytes(), row.as_str().as_bytes()]);
                assert_eq!(tokens.token(&row), first_half(mac), "{table_len} {row_len}");
            }
        }
    }
}
