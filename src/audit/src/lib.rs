//! The audit log: who did what to which field, why, by which rule and with which outcome.
//!
//! **For:** recording every decrypt before its plaintext leaves, every change of keys, every start
//! and stop; finding records again; proving that none was altered (docs/audit-log.md).
//! **May use:** `crypto`, `policy`, `model`. It never sees the store.
//! **Must hold:** a [`Withheld`] value comes out only with its [`Receipt`], and a receipt exists
//! only for a record that is on disk; frames are released in the order of the log; an error of a
//! sync is final; no plaintext and no raw row or partition is ever in a record.

mod access;
mod archive;
mod changes;
mod checkpoint;
mod consistency;
mod error;
mod event;
mod excerpt;
mod inclusion;
mod index;
mod journal;
pub mod merkle;
mod proofs;
mod query;
mod record;
mod redaction;
mod segment;
mod statement;
mod subtrees;
mod tiles;
pub mod verify;
mod wire;

pub use archive::{Archivable, ArchiveContent, ArchivePlace, ArchiveStep, ArchiveStore, Archived};
pub use changes::{Change, changes};
pub use checkpoint::Checkpoint;
pub use error::{Health, JournalError, QueryError};
pub use event::{
    CallEvent, ChangeEvent, ChangedBy, Item, ItemOutcome, Started, StartedCertificate, SystemEvent,
    Verdict, VerdictIndex,
};
pub use index::Indexed;
pub use journal::{
    Distribution, FreeSpace, Held, Identity, Journal, Measures, OpenReport, Relayed, Settings,
    StatVfs, Statistics, Written,
};
pub use proofs::{Receipt, Recorded, Withheld};
pub use query::{
    Beginning, Counts, Event, EventItem, Follower, GroupKey, Grouping, Page, PageLimit, Query,
    Reader, Summary,
};
pub use record::{Kind, LastChange, Outcome};
pub use redaction::{Aged, RecordClass, Redactable, Redacted, Step};
