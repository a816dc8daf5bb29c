//! What is wrong with an input, in words its sender can act on.

use std::borrow::Cow;

/// A stable name for a way in which an input can be malformed. The wire's `ErrorInfo.reason` is
/// [`MalformedReason::as_str`]; messages may change, reasons do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MalformedReason {
    /// A key name is empty, too long or has illegal characters.
    KeyNameInvalid,
    /// A resource name is not of the form `keys/{key}` or `keys/{key}/versions/{n}`.
    ResourceNameInvalid,
    /// The table is missing, too long or has control characters.
    TableInvalid,
    /// The column is missing, too long or has control characters.
    ColumnInvalid,
    /// The partition is too long or has control characters.
    PartitionInvalid,
    /// The row is too long or has control characters.
    RowInvalid,
    /// The row is a UUID, but not in lower case with hyphens.
    RowNotCanonical,
    /// The name or the value of an extra context pair is illegal.
    ExtraContextInvalid,
    /// More than [`crate::MAX_EXTRA_PAIRS`] extra context pairs.
    ExtraContextTooMany,
    /// An extra context pair's name occurs twice.
    ExtraContextDuplicate,
    /// The whole context is longer than [`crate::MAX_CONTEXT_BYTES`].
    ContextTooLong,
    /// The purpose is too long or has control characters.
    PurposeInvalid,
    /// The ticket is too long or has control characters.
    TicketInvalid,
    /// The request id is not a UUID in its canonical form.
    RequestIdInvalid,
    /// The principal's name is empty, too long or has illegal characters.
    PrincipalInvalid,
    /// A value is missing where one is required.
    ValueMissing,
    /// A value is longer than the limit.
    ValueTooLong,
    /// The ciphertext is empty.
    CiphertextEmpty,
    /// The ciphertext is too short to be one.
    CiphertextTruncated,
    /// The ciphertext's text form is not base64url.
    CiphertextTextInvalid,
    /// The bytes are not a ciphertext of this product.
    CiphertextNotSealed,
    /// The ciphertext's suite is not known to this version.
    CiphertextSuiteUnknown,
    /// The ciphertext comes from a test double.
    TestCiphertext,
    /// The plaintext is already sealed by this installation.
    PlaintextAlreadySealed,
    /// A batch has no items or more than allowed.
    BatchSizeInvalid,
    /// An item's field index points at no field.
    FieldIndexInvalid,
    /// The reply would be longer than the limit.
    ReplyTooLarge,
    /// A page size or page token is not acceptable.
    PageInvalid,
    /// A query has a filter that cannot be understood.
    QueryInvalid,
}

impl MalformedReason {
    /// The stable name, as it stands in `ErrorInfo.reason` and in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyNameInvalid => "KEY_NAME_INVALID",
            Self::ResourceNameInvalid => "RESOURCE_NAME_INVALID",
            Self::TableInvalid => "TABLE_INVALID",
            Self::ColumnInvalid => "COLUMN_INVALID",
            Self::PartitionInvalid => "PARTITION_INVALID",
            Self::RowInvalid => "ROW_INVALID",
            Self::RowNotCanonical => "ROW_NOT_CANONICAL",
            Self::ExtraContextInvalid => "EXTRA_CONTEXT_INVALID",
            Self::ExtraContextTooMany => "EXTRA_CONTEXT_TOO_MANY",
            Self::ExtraContextDuplicate => "EXTRA_CONTEXT_DUPLICATE",
            Self::ContextTooLong => "CONTEXT_TOO_LONG",
            Self::PurposeInvalid => "PURPOSE_INVALID",
            Self::TicketInvalid => "TICKET_INVALID",
            Self::RequestIdInvalid => "REQUEST_ID_INVALID",
            Self::PrincipalInvalid => "PRINCIPAL_INVALID",
            Self::ValueMissing => "VALUE_MISSING",
            Self::ValueTooLong => "VALUE_TOO_LONG",
            Self::CiphertextEmpty => "CIPHERTEXT_EMPTY",
            Self::CiphertextTruncated => "CIPHERTEXT_TRUNCATED",
            Self::CiphertextTextInvalid => "CIPHERTEXT_TEXT_INVALID",
            Self::CiphertextNotSealed => "CIPHERTEXT_NOT_SEALED",
            Self::CiphertextSuiteUnknown => "CIPHERTEXT_SUITE_UNKNOWN",
            Self::TestCiphertext => "TEST_CIPHERTEXT",
            Self::PlaintextAlreadySealed => "PLAINTEXT_ALREADY_SEALED",
            Self::BatchSizeInvalid => "BATCH_SIZE_INVALID",
            Self::FieldIndexInvalid => "FIELD_INDEX_INVALID",
            Self::ReplyTooLarge => "REPLY_TOO_LARGE",
            Self::PageInvalid => "PAGE_INVALID",
            Self::QueryInvalid => "QUERY_INVALID",
        }
    }
}

/// An input that could not be parsed. It never carries the input itself, which may be a secret put
/// into the wrong field: only its name and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    reason: MalformedReason,
    message: Cow<'static, str>,
}

impl Malformed {
    /// A malformed input. `message` says what was expected, in lower case, without a full stop.
    #[must_use]
    pub fn new(reason: MalformedReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The stable reason.
    #[must_use]
    pub const fn reason(&self) -> MalformedReason {
        self.reason
    }

    /// What was expected.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}
