//! Ciphertext suite 1 (docs/ciphertext.md): one field, bound to where it belongs.
//!
//! ```text
//! suite 0x01 | key id 8 | salt 16 | commitment 32 | C | tag 16
//! ```

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use fieldseal_model::{Field, KeyId, Malformed, MalformedReason, Partition, Row};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

use crate::derive::{COMMITMENT_BYTES, Expander};
use crate::keys::DataKey;
use crate::pae;

/// The first byte of every ciphertext of this suite.
pub const SUITE: u8 = 0x01;
/// Bytes of a salt.
pub const SALT_BYTES: usize = crate::derive::SALT_BYTES;
/// Bytes that a ciphertext is longer than its value: header 57, content type 1, tag 16.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;

const KEY_ID_BYTES: usize = 8;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES + SALT_BYTES + COMMITMENT_BYTES;
const TAG_BYTES: usize = 16;
const LABEL: &[u8] = b"fieldseal/v1/field";
const TEXT_PREFIX: &[u8] = b"fs1.";
/// The content type's high bit: `0x80 0x00*` follows the value.
const PADDED: u8 = 0x80;
/// A key per message makes the nonce constant (docs/ciphertext.md, "Why the nonce is zero").
const NONCE: [u8; 12] = [0; 12];

/// What kind of value is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ContentType {
    /// Bytes.
    Bytes = 1,
    /// UTF-8 text.
    Text = 2,
}

/// The part of a ciphertext that can be read without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which data key sealed it.
    pub key_id: KeyId,
}

impl Header {
    /// Parses the header of a binary ciphertext.
    ///
    /// # Errors
    /// `CIPHERTEXT_EMPTY`, `CIPHERTEXT_NOT_SEALED` (plain text where a ciphertext is expected),
    /// `CIPHERTEXT_SUITE_UNKNOWN`, `CIPHERTEXT_TRUNCATED`, `TEST_CIPHERTEXT`.
    pub fn parse(ciphertext: &[u8]) -> Result<Self, Malformed> {
        let Some((suite, rest)) = ciphertext.split_first() else {
            return Err(Malformed::new(
                MalformedReason::CiphertextEmpty,
                "the ciphertext is empty; NULLs and empty columns are not sent to decrypt",
            ));
        };
        if *suite != SUITE {
            return Err(not_suite_1(ciphertext));
        }
        if ciphertext.len() < OVERHEAD_BYTES {
            return Err(Malformed::new(
                MalformedReason::CiphertextTruncated,
                format!(
                    "a ciphertext has at least {OVERHEAD_BYTES} bytes, and this one has {}; is the \
                     database column too short?",
                    ciphertext.len()
                ),
            ));
        }
        let id = rest.first_chunk::<KEY_ID_BYTES>().copied().unwrap_or_default();
        let key_id = KeyId::new(id);
        if key_id.is_test() {
            return Err(Malformed::new(
                MalformedReason::TestCiphertext,
                "the ciphertext was made by a test double and opens nowhere else",
            ));
        }
        Ok(Self { key_id })
    }
}

/// Text that was passed where a ciphertext is expected is the commonest mistake, so it is told
/// from a ciphertext of a later suite.
fn not_suite_1(ciphertext: &[u8]) -> Malformed {
    let printable = |b: &u8| *b >= 0x20 || matches!(b, b'\t' | b'\r' | b'\n');
    let looks_like_text =
        std::str::from_utf8(ciphertext).is_ok() && ciphertext.iter().all(printable);
    if looks_like_text {
        return Malformed::new(
            MalformedReason::CiphertextNotSealed,
            "this is plain text, not a ciphertext; was the column ever encrypted?",
        );
    }
    Malformed::new(
        MalformedReason::CiphertextSuiteUnknown,
        "the ciphertext is of a suite that this version does not know, or is no ciphertext",
    )
}

/// Turns the text form (`fs1.` and base64url without padding) into the binary form. Other bytes
/// pass as they are.
///
/// # Errors
/// `CIPHERTEXT_TEXT_INVALID` if what follows `fs1.` is not canonical base64url.
pub fn decode_text(ciphertext: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    let Some(text) = ciphertext.strip_prefix(TEXT_PREFIX) else {
        return Ok(Cow::Borrowed(ciphertext));
    };
    let binary = URL_SAFE_NO_PAD.decode(text).map_err(|_| {
        Malformed::new(
            MalformedReason::CiphertextTextInvalid,
            "what follows fs1. is not base64url without padding; is the column too short?",
        )
    })?;
    Ok(Cow::Owned(binary))
}

/// The text form of a binary ciphertext, for text columns.
#[must_use]
pub fn encode_text(ciphertext: &[u8]) -> String {
    let mut text = String::from("fs1.");
    URL_SAFE_NO_PAD.encode_string(ciphertext, &mut text);
    text
}

/// Why a value did not open: the true cause, for the audit log only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFailure {
    /// Another key, another salt or another context: the commitment is another.
    Commitment,
    /// The content or the tag was altered.
    Tag,
    /// It was sealed by us and is not what suite 1 allows: an unknown type, bad padding, text that
    /// is not UTF-8.
    Content,
}

impl OpenFailure {
    /// The stable name, as it stands in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commitment => "COMMITMENT_MISMATCH",
            Self::Tag => "TAG_MISMATCH",
            Self::Content => "CONTENT_INVALID",
        }
    }
}

/// A data key ready for the rows of one field and partition: what they share is hashed once.
pub struct FieldKey<'a> {
    expander: Expander,
    shared: pae::Hasher,
    key_id: KeyId,
    // The derived state must not outlive the key it came from.
    data_key: std::marker::PhantomData<&'a DataKey>,
}

impl<'a> FieldKey<'a> {
    /// Makes a data key ready.
    #[must_use]
    pub fn new(data_key: &'a DataKey, key_id: KeyId, field: &Field, partition: &Partition) -> Self {
        let mut shared = pae::Hasher::new(7 + 2 * field.extra.pairs().len());
        shared.part(LABEL);
        shared.part(&suite_and_key_id(key_id));
        shared.part(field.key.as_str().as_bytes());
        shared.part(partition.as_str().as_bytes());
        shared.part(field.table.as_str().as_bytes());
        shared.part(field.column.as_str().as_bytes());
        for (name, value) in field.extra.pairs() {
            shared.part(name.as_str().as_bytes());
            shared.part(value.as_str().as_bytes());
        }
        let expander = Expander::new(data_key.bytes());
        Self { expander, shared, key_id, data_key: std::marker::PhantomData }
    }

    /// Seals a value and appends the ciphertext to `out`. The salt must be fresh from the operating
    /// system's random source.
    pub fn seal(
        &self,
        row: &Row,
        salt: &[u8; SALT_BYTES],
        content: ContentType,
        value: &[u8],
        out: &mut Vec<u8>,
    ) {
        let ctx = self.shared.finish_with(row.as_str().as_bytes());
        let header = self.header(salt, &self.expander.commitment(salt, &ctx));
        out.reserve(OVERHEAD_BYTES + value.len());
        out.extend_from_slice(&header);
        let start = out.len();
        out.push(content as u8);
        out.extend_from_slice(value);
        let cipher = ChaCha20Poly1305::new((&*self.expander.key(salt, &ctx)).into());
        let body = InOutBuf::from(out.get_mut(start..).unwrap_or_default());
        match cipher.encrypt_inout_detached(&NONCE.into(), &header, body) {
            Ok(tag) => out.extend_from_slice(&tag),
            // Only a value of 256 GiB fails. Nothing half sealed is left.
            Err(_) => wipe_tail(out, start - HEADER_BYTES),
        }
    }

    /// Opens a ciphertext and appends the value to `out`, whose owner wipes it.
    ///
    /// # Errors
    /// The true cause; `out` is then as it was before.
    pub fn open(
        &self,
        row: &Row,
        ciphertext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ContentType, OpenFailure> {
        let (header, rest) =
            ciphertext.split_first_chunk::<HEADER_BYTES>().ok_or(OpenFailure::Tag)?;
        let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenFailure::Tag)?;
        let (suite_and_id, rest) = header.split_at(1 + KEY_ID_BYTES);
        let (salt, commitment) =
            rest.split_first_chunk::<SALT_BYTES>().ok_or(OpenFailure::Commitment)?;
        let ctx = self.shared.finish_with(row.as_str().as_bytes());
        let expected = self.expander.commitment(salt, &ctx);
        // Suite and key id are no secret; a commitment that nearly fits must not show how nearly.
        if suite_and_id != suite_and_key_id(self.key_id) || !same(commitment, &expected) {
            return Err(OpenFailure::Commitment);
        }
        let start = out.len();
        out.extend_from_slice(body);
        let cipher = ChaCha20Poly1305::new((&*self.expander.key(salt, &ctx)).into());
        let buffer = InOutBuf::from(out.get_mut(start..).unwrap_or_default());
        let opened = cipher.decrypt_inout_detached(&NONCE.into(), header, buffer, tag.into());
        let content = match opened {
            Ok(()) => content(out, start),
            Err(_) => Err(OpenFailure::Tag),
        };
        if content.is_err() {
            wipe_tail(out, start);
        }
        content
    }

    fn header(
        &self,
        salt: &[u8; SALT_BYTES],
        commitment: &[u8; COMMITMENT_BYTES],
    ) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let (suite, rest) = header.split_at_mut(1 + KEY_ID_BYTES);
        let (to_salt, to_commitment) = rest.split_at_mut(SALT_BYTES);
        suite.copy_from_slice(&suite_and_key_id(self.key_id));
        to_salt.copy_from_slice(salt);
        to_commitment.copy_from_slice(commitment);
        header
    }
}

/// In constant time, eight bytes at a time.
fn same(commitment: &[u8], expected: &[u8; COMMITMENT_BYTES]) -> bool {
    let (found, rest) = commitment.as_chunks::<8>();
    let (wanted, _) = expected.as_chunks::<8>();
    let words = found.iter().zip(wanted);
    let equal = words.fold(Choice::from(1), |equal, (a, b)| {
        equal & u64::from_le_bytes(*a).ct_eq(&u64::from_le_bytes(*b))
    });
    rest.is_empty() && found.len() == wanted.len() && bool::from(equal)
}

fn suite_and_key_id(key_id: KeyId) -> [u8; 1 + KEY_ID_BYTES] {
    let mut part = [SUITE; 1 + KEY_ID_BYTES];
    part.split_at_mut(1).1.copy_from_slice(key_id.as_bytes());
    part
}

fn wipe_tail(out: &mut Vec<u8>, start: usize) {
    out.get_mut(start..).unwrap_or_default().zeroize();
    out.truncate(start);
}

/// Reads `type | value | padding` at the end of `out` and leaves only the value.
fn content(out: &mut Vec<u8>, start: usize) -> Result<ContentType, OpenFailure> {
    let body = out.get_mut(start..).unwrap_or_default();
    let (kind, value) = body.split_first().ok_or(OpenFailure::Content)?;
    let content = match kind & !PADDED {
        1 => ContentType::Bytes,
        2 => ContentType::Text,
        _ => return Err(OpenFailure::Content),
    };
    let length = if kind & PADDED == 0 {
        value.len()
    } else {
        // 0x80 0x00*: the last byte that is not zero must be the mark.
        let mark = value.iter().rposition(|b| *b != 0).ok_or(OpenFailure::Content)?;
        if value.get(mark) != Some(&0x80) {
            return Err(OpenFailure::Content);
        }
        mark
    };
    let value = value.get(..length).unwrap_or_default();
    if content == ContentType::Text && std::str::from_utf8(value).is_err() {
        return Err(OpenFailure::Content);
    }
    // The type byte in front and the padding behind go away; what they leave is wiped.
    body.copy_within(1..=length, 0);
    wipe_tail(out, start + length);
    Ok(content)
}
