//! Opening: values go from a ciphertext into memory that has no way out but the journal.

use fieldseal_audit::Withheld;
use fieldseal_crypto::ContentType;
use fieldseal_crypto::field::{FieldKey, OpenFailure};
use fieldseal_model::{KeyVersionState, Row, Timestamp};
use zeroize::Zeroizing;

use crate::partitions::PartitionCell;
use crate::registry::VersionCell;

/// Why a value did not open: the true cause, which only the audit log may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenCause {
    /// The permit does not cover the field or the partition.
    NotPermitted,
    /// The data key belongs to another key.
    OtherKey,
    /// The data key belongs to another partition.
    OtherPartition,
    /// No data key has this id.
    DataKeyNotFound,
    /// The key version is disabled or waits for its destruction.
    VersionDisabled,
    /// The key version is destroyed.
    VersionDestroyed,
    /// The partition is shredded.
    PartitionShredded,
    /// The cryptography said no: another context, altered bytes or another data key.
    Crypto(OpenFailure),
}

impl OpenCause {
    /// The stable name, as it stands in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPermitted => "NOT_PERMITTED",
            Self::OtherKey => "OTHER_KEY",
            Self::OtherPartition => "OTHER_PARTITION",
            Self::DataKeyNotFound => "DATA_KEY_NOT_FOUND",
            Self::VersionDisabled => "KEY_VERSION_DISABLED",
            Self::VersionDestroyed => "KEY_VERSION_DESTROYED",
            Self::PartitionShredded => "PARTITION_SHREDDED",
            Self::Crypto(failure) => failure.as_str(),
        }
    }
}

/// A data key that a permit allows to open the values of one field and partition.
pub struct OpeningKey<'a> {
    pub(crate) key: FieldKey<'a>,
    pub(crate) version: &'a VersionCell,
    pub(crate) partition: &'a PartitionCell,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    content: ContentType,
}

/// Values being opened, in one buffer. It has no accessor: [`Opening::into_withheld`] is its only
/// use, and the journal the only way on from there.
pub struct Opening {
    buffer: Zeroizing<Vec<u8>>,
    spans: Vec<Option<Span>>,
    opened: usize,
    at: Timestamp,
}

impl Opening {
    /// Room for `items` values of `bytes` bytes together, which are opened at this moment.
    #[must_use]
    pub fn with_capacity(items: usize, bytes: usize, at: Timestamp) -> Self {
        let buffer = Zeroizing::new(Vec::with_capacity(bytes));
        Self { buffer, spans: Vec::with_capacity(items), opened: 0, at }
    }

    /// Opens the next value. If it fails, its place stays empty.
    ///
    /// # Errors
    /// The true cause.
    pub fn open(
        &mut self,
        key: &OpeningKey<'_>,
        row: &Row,
        ciphertext: &[u8],
    ) -> Result<(), OpenCause> {
        let start = self.buffer.len();
        let opened = match key.version.state() {
            _ if !key.partition.is_open() => Err(OpenCause::PartitionShredded),
            KeyVersionState::Enabled => {
                key.key.open(row, ciphertext, &mut self.buffer).map_err(OpenCause::Crypto)
            }
            KeyVersionState::Destroyed => Err(OpenCause::VersionDestroyed),
            _ => Err(OpenCause::VersionDisabled),
        };
        match opened {
            Ok(content) => {
                key.version.used.opened(self.at);
                self.spans.push(Some(Span { start, end: self.buffer.len(), content }));
                self.opened += 1;
                Ok(())
            }
            Err(cause) => {
                self.skip();
                Err(cause)
            }
        }
    }

    /// Leaves the next place empty: the item was refused before it came here.
    pub fn skip(&mut self) {
        self.spans.push(None);
    }

    /// Hands everything to the proof that only the journal can undo.
    #[must_use]
    pub fn into_withheld(self) -> Withheld<Opened> {
        let opened = self.opened;
        Withheld::new(Opened { buffer: self.buffer, spans: self.spans }, opened)
    }
}

/// Opened values, in the order of the call. Wiped when dropped.
pub struct Opened {
    buffer: Zeroizing<Vec<u8>>,
    spans: Vec<Option<Span>>,
}

/// Where one opened value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedValue {
    /// Bytes or text.
    pub content: ContentType,
    /// Its place in the buffer.
    pub range: std::ops::Range<usize>,
}

impl Opened {
    /// The buffer and, for each item, where its value stands in it (`None`: it did not open).
    #[must_use]
    pub fn into_parts(self) -> (Zeroizing<Vec<u8>>, Vec<Option<OpenedValue>>) {
        let values = self
            .spans
            .iter()
            .map(|span| span.map(|s| OpenedValue { content: s.content, range: s.start..s.end }));
        let values = values.collect();
        (self.buffer, values)
    }
}
