//! Archiving: the oldest segments move to another place, whole and with what proves them, after a
//! record that names them; the tree goes on from the header of the first segment that stays
//! (docs/audit-log.md).

mod copy;
mod mark;
mod stored;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fieldseal_crypto::signing::LogPublicKey;
use fieldseal_model::Timestamp;

use crate::error::JournalError;
use copy::Directory;
pub(crate) use copy::digest;
pub(crate) use mark::{mark, marked};
use stored::Stored;

/// What is to be archived.
#[derive(Clone)]
pub struct Archivable {
    /// Only segments whose records were all made before.
    pub before: Timestamp,
    /// At most so many of the oldest records.
    pub most: u64,
    /// Where they move to.
    pub to: ArchivePlace,
}

/// Where an archive is.
#[derive(Clone)]
pub enum ArchivePlace {
    /// In a directory. It is a log by itself.
    Directory(PathBuf),
    /// Somewhere that keeps files by their names.
    Store(Arc<dyn ArchiveStore>),
}

/// Keeps the files of an archive by their names. It blocks.
pub trait ArchiveStore: Send + Sync {
    /// SHA-256 over what is kept under a name; `None` if nothing is. What has more than `most` bytes may
    /// be an error.
    ///
    /// # Errors
    /// It cannot be asked, in words.
    fn kept(&self, name: &str, most: u64) -> Result<Option<[u8; 32]>, String>;

    /// Keeps this under a name, in place of what was there.
    ///
    /// # Errors
    /// It could not, in words.
    fn keep(&self, name: &str, content: ArchiveContent<'_>) -> Result<(), String>;
}

/// What is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveContent<'a> {
    /// This file's.
    File(&'a Path),
    /// A short text.
    Text(&'a str),
}

/// An archive that is open.
pub(crate) enum Archive<'a> {
    Directory(Directory<'a>),
    Store(Stored<'a>),
}

impl<'a> Archive<'a> {
    /// Opens the archive of a log with this directory and public key, or makes it where there is none; the
    /// group that may read the log may read it too.
    ///
    /// # Errors
    /// `Foreign` if it is another log's, or the log itself; trouble with the files, or the store.
    pub(crate) fn open(
        place: &'a ArchivePlace,
        log: (&Path, Option<u32>),
        key: (&'a LogPublicKey, &str),
    ) -> Result<Self, JournalError> {
        match place {
            ArchivePlace::Directory(path) => Directory::open(path, log, key).map(Self::Directory),
            ArchivePlace::Store(store) => Stored::open(&**store, key.1).map(Self::Store),
        }
    }

    /// The directory, if it is one.
    pub(crate) fn directory(&self) -> Option<&'a Path> {
        match self {
            Self::Directory(directory) => Some(directory.path()),
            Self::Store(_) => None,
        }
    }

    /// Puts a file of the log into the archive: kept, and read back, when this returns. One that is
    /// there already stays, if it is the same. `written` is called before it was read back or has its name.
    ///
    /// # Errors
    /// `Foreign` if another one is there; trouble with the files, or the store.
    pub(crate) fn add(
        &self,
        path: &Path,
        digest: &[u8; 32],
        written: &dyn Fn(),
    ) -> Result<(), JournalError> {
        match self {
            Self::Directory(directory) => directory.add(path, digest, written),
            Self::Store(store) => store.add(path, digest, written),
        }
    }

    /// Writes the checkpoint that ends the archive.
    pub(crate) fn end(&self, note: &str) -> Result<(), JournalError> {
        match self {
            Self::Directory(directory) => directory.end(note),
            Self::Store(store) => store.end(note),
        }
    }
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
