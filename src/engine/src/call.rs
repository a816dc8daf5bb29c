//! What a call asks for and what it gets, in the floors' own words.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use fieldseal_audit::Receipt;
use fieldseal_crypto::ContentType;
use fieldseal_keys::CallGuard;
use fieldseal_model::{
    AccessReason, Column, Field, KeyId, KeyName, Malformed, Partition, Principal, Row, Table,
};
use zeroize::Zeroizing;

use crate::refusal::Refusal;

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// From the client's certificate.
    pub principal: Principal,
}

/// What is known of a request that cannot be understood as a whole: for its record.
#[derive(Debug, Clone, Default)]
pub struct Stated {
    /// The key.
    pub key: Option<KeyName>,
    /// The table.
    pub table: Option<Table>,
    /// The column.
    pub column: Option<Column>,
    /// Why.
    pub reason: AccessReason,
}

/// Values to open.
pub struct DecryptCall {
    /// What changes per column, given once.
    pub fields: Vec<Field>,
    /// The values.
    pub items: Vec<DecryptItem>,
    /// Why.
    pub reason: AccessReason,
}

/// A value to open, or what is wrong with it.
pub struct DecryptItem {
    /// Which of the call's fields it belongs to.
    pub field: usize,
    /// The value.
    pub input: Result<SealedInput, Malformed>,
}

/// A sealed value as its caller handed it over.
pub struct SealedInput {
    /// The partition, as the caller states it.
    pub partition: Partition,
    /// The row, as the caller states it.
    pub row: Row,
    /// The data key's id in the ciphertext's header.
    pub key_id: KeyId,
    /// The binary ciphertext.
    pub ciphertext: Bytes,
}

/// Opened values. The buffer is wiped when it is dropped.
pub struct DecryptReply {
    /// All values, one after the other.
    pub buffer: Zeroizing<Vec<u8>>,
    /// For each item where its value stands in the buffer, or why there is none.
    pub items: Vec<Result<OpenedItem, Refusal>>,
    /// The proof that the call is on record.
    pub receipt: Receipt,
    /// Dropped when the answer has left: a change of state waits for it.
    pub guard: CallGuard,
}

/// An opened value.
pub struct OpenedItem {
    /// Bytes or text.
    pub content: ContentType,
    /// Its place in the buffer.
    pub range: Range<usize>,
    /// `keys/{key}/versions/{n}`.
    pub key_version: Arc<str>,
    /// True if the version that it was sealed under is not primary any more.
    pub reencrypt_suggested: bool,
}

/// Values to seal.
pub struct EncryptCall {
    /// What changes per column, given once.
    pub fields: Vec<Field>,
    /// The values.
    pub items: Vec<EncryptItem>,
    /// Why.
    pub reason: AccessReason,
}

/// A value to seal, or what is wrong with it.
pub struct EncryptItem {
    /// Which of the call's fields it belongs to.
    pub field: usize,
    /// The value.
    pub input: Result<PlainInput, Malformed>,
}

/// A value to seal.
pub struct PlainInput {
    /// The partition.
    pub partition: Partition,
    /// The row.
    pub row: Row,
    /// Bytes or text.
    pub content: ContentType,
    /// The value.
    pub value: Bytes,
    /// Seal it even though it is sealed already.
    pub allow_sealed: bool,
}

/// Sealed values.
pub struct EncryptReply {
    /// All ciphertexts, one after the other.
    pub buffer: Vec<u8>,
    /// For each item its ciphertext, or why there is none.
    pub items: Vec<Result<SealedItem, Refusal>>,
    /// Dropped when the answer has left: a change of state waits for it.
    pub guard: CallGuard,
}

/// A sealed value.
pub struct SealedItem {
    /// Its place in the buffer.
    pub range: Range<usize>,
    /// `keys/{key}/versions/{n}`.
    pub key_version: Arc<str>,
}
