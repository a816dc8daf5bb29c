//! Archiving: the oldest segments move to another directory, whole and with what proves them, after a
//! record that names them; the tree goes on from the header of the first segment that stays
//! (docs/audit-log.md).

mod copy;
mod mark;

use std::path::PathBuf;

use fieldseal_model::Timestamp;

pub(crate) use copy::{Archive, digest};
pub(crate) use mark::{mark, marked};

/// What is to be archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archivable {
    /// Only segments whose records were all made before.
    pub before: Timestamp,
    /// At most so many of the oldest records.
    pub most: u64,
    /// The archive's directory.
    pub to: PathBuf,
}

/// How much is archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Archived {
    /// The first record.
    pub first: u64,
    /// The record behind the last one: every one before it is archived now.
    pub end: u64,
    /// Segments that move.
    pub segments: u64,
    /// Bytes that move.
    pub bytes: u64,
    /// Records that say so, the newest last.
    pub said_by: u64,
}

/// How far archiving has come. Whatever ends it there, every segment stands whole in one of the two
/// places, or in both; the next archiving goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveStep {
    /// A segment stands in the archive under another name.
    Written,
    /// A segment is whole in the archive.
    Copied,
    /// Records name what is archived.
    Recorded,
    /// A mark says that the log may begin later.
    Marked,
    /// A segment is in the archive only.
    Removed,
}
