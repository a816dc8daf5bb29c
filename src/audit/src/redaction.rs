//! Redaction: personal detail of records is erased, after a record that names what goes; the tree, which
//! covers no details, stays as it is (docs/audit-log.md).

mod aged;
mod erase;
mod erased;
mod named;
mod plan;
mod rewrite;
mod standing;

use fieldseal_model::Timestamp;

pub use aged::{Aged, RecordClass};
pub(crate) use erase::{erase, tidy};
pub(crate) use named::Named;
pub(crate) use plan::{Survey, survey};
pub(crate) use rewrite::{Rewriting, probe, rewrite, room};
pub(crate) use standing::{NO_DETAIL, Standing, standing};

/// What is to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redactable {
    /// Every field of one person or tenant.
    Partition {
        /// The partition's token.
        token: [u8; 16],
        /// Only of calls that began before; `None` for all.
        until: Option<Timestamp>,
    },
    /// Every field of one row.
    Row {
        /// The row's token.
        token: [u8; 16],
        /// Only of calls that began before; `None` for all.
        until: Option<Timestamp>,
    },
    /// The whole detail of every call behind which one end user stands, or of a question about one.
    EndUser {
        /// The end user's token.
        token: [u8; 16],
        /// Only of calls that began before; `None` for all.
        until: Option<Timestamp>,
    },
    /// The whole detail of every call that began before.
    Before(Timestamp),
    /// The whole detail of every record of the first `most` that is over.
    Aged {
        /// What is over.
        aged: Aged,
        /// Only of so many of the oldest records.
        most: u64,
    },
    /// Under a key, every field of a partition whose data keys under that key are gone, as far as it was
    /// recorded before that; among the first `most` records.
    Erased {
        /// Only of so many of the oldest records.
        most: u64,
    },
}

/// How much a redaction erases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Redacted {
    /// Records that lose their detail or a part of it.
    pub records: u64,
    /// Fields (items of these records) that go.
    pub items: u64,
    /// Records that say so, the newest last.
    pub said_by: u64,
    /// Records whose detail would go as well, but that somebody elsewhere needs first.
    pub held: u64,
}

/// How far a redaction has come. Whatever ends it there, the next start or the next redaction goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// It is noted that a redaction is under way.
    Noted,
    /// A record names what goes.
    Recorded,
    /// A segment was written anew, under another name.
    Written,
    /// The old segment has a second name.
    Linked,
    /// The new segment is in the place of the old one.
    Renamed,
    /// The old one's bytes are overwritten.
    Overwritten,
    /// Everything is done.
    Done,
}
