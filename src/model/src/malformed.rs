//! What is wrong with an input, in words its sender can act on.

use std::borrow::Cow;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, as it stands in `ErrorInfo.reason` and in the audit log.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// A stable name for a way in which an input can be malformed. The wire's `ErrorInfo.reason` is
    /// [`MalformedReason::as_str`]; messages may change, reasons do not.
    MalformedReason {
        /// A key name is empty, too long or has illegal characters.
        KeyNameInvalid = "KEY_NAME_INVALID";
        /// A resource name is not of the form `keys/{key}` or `keys/{key}/versions/{n}`.
        ResourceNameInvalid = "RESOURCE_NAME_INVALID";
        /// The table is missing, too long or has control characters.
        TableInvalid = "TABLE_INVALID";
        /// The column is missing, too long or has control characters.
        ColumnInvalid = "COLUMN_INVALID";
        /// The partition is too long or has control characters.
        PartitionInvalid = "PARTITION_INVALID";
        /// The row is too long or has control characters.
        RowInvalid = "ROW_INVALID";
        /// The row is a UUID, but not in lower case with hyphens.
        RowNotCanonical = "ROW_NOT_CANONICAL";
        /// The name or the value of an extra context pair is illegal.
        ExtraContextInvalid = "EXTRA_CONTEXT_INVALID";
        /// More than [`crate::MAX_EXTRA_PAIRS`] extra context pairs.
        ExtraContextTooMany = "EXTRA_CONTEXT_TOO_MANY";
        /// An extra context pair's name occurs twice.
        ExtraContextDuplicate = "EXTRA_CONTEXT_DUPLICATE";
        /// The whole context is longer than [`crate::MAX_CONTEXT_BYTES`].
        ContextTooLong = "CONTEXT_TOO_LONG";
        /// The purpose is too long or has control characters.
        PurposeInvalid = "PURPOSE_INVALID";
        /// The ticket is too long or has control characters.
        TicketInvalid = "TICKET_INVALID";
        /// A statement about the end user, where none is taken.
        EndUserAssertionUnsupported = "END_USER_ASSERTION_UNSUPPORTED";
        /// The request id is not a UUID in its canonical form.
        RequestIdInvalid = "REQUEST_ID_INVALID";
        /// The principal's name is empty, too long or has illegal characters.
        PrincipalInvalid = "PRINCIPAL_INVALID";
        /// A value is missing where one is required.
        ValueMissing = "VALUE_MISSING";
        /// A value is longer than the limit.
        ValueTooLong = "VALUE_TOO_LONG";
        /// The ciphertext is empty.
        CiphertextEmpty = "CIPHERTEXT_EMPTY";
        /// The ciphertext is too short to be one.
        CiphertextTruncated = "CIPHERTEXT_TRUNCATED";
        /// The ciphertext's text form is not base64url.
        CiphertextTextInvalid = "CIPHERTEXT_TEXT_INVALID";
        /// The bytes are not a ciphertext of this product.
        CiphertextNotSealed = "CIPHERTEXT_NOT_SEALED";
        /// The ciphertext's suite is not known to this version.
        CiphertextSuiteUnknown = "CIPHERTEXT_SUITE_UNKNOWN";
        /// The ciphertext comes from a test double.
        TestCiphertext = "TEST_CIPHERTEXT";
        /// The plaintext is already sealed by this installation.
        PlaintextAlreadySealed = "PLAINTEXT_ALREADY_SEALED";
        /// A batch has no items or more than allowed.
        BatchSizeInvalid = "BATCH_SIZE_INVALID";
        /// An item's field index points at no field.
        FieldIndexInvalid = "FIELD_INDEX_INVALID";
        /// The reply would be longer than the limit.
        ReplyTooLarge = "REPLY_TOO_LARGE";
        /// A page size or page token is not acceptable.
        PageInvalid = "PAGE_INVALID";
        /// A rate is negative.
        RateInvalid = "RATE_INVALID";
        /// A setting of a key is outside its limits.
        SettingInvalid = "SETTING_INVALID";
        /// A setting of a key cannot be changed once it exists.
        SettingFixed = "SETTING_FIXED";
        /// A label of a key is illegal, or there are too many.
        LabelInvalid = "LABEL_INVALID";
        /// An update mask is empty or names what cannot be set.
        UpdateMaskInvalid = "UPDATE_MASK_INVALID";
        /// The key wants a row, and none is stated.
        RowRequired = "ROW_REQUIRED";
        /// The key wants a partition, and none is stated.
        PartitionRequired = "PARTITION_REQUIRED";
        /// The key wants a purpose, and none is stated.
        PurposeRequired = "PURPOSE_REQUIRED";
        /// The key wants the token of an end user, and none is shown.
        EndUserRequired = "END_USER_REQUIRED";
        /// The key wants a ticket, and none is stated.
        TicketRequired = "TICKET_REQUIRED";
        /// The key does not take this purpose.
        PurposeNotAllowed = "PURPOSE_NOT_ALLOWED";
        /// The ticket has none of the forms that the key takes.
        TicketNotAllowed = "TICKET_NOT_ALLOWED";
        /// A query has a filter that cannot be understood.
        QueryInvalid = "QUERY_INVALID";
        /// A proof is asked of a tree or a record that cannot be.
        TreeSizeInvalid = "TREE_SIZE_INVALID";
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
