//! Handing the log on as it grows (docs/export.md): how far each target came, whether that is a place in
//! this log, and how it goes. What a target is given, the server knows.

mod trouble;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{Event, Follower, Journal, PageLimit, QueryError};
use fieldseal_model::{Timestamp, hex};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::engine::Engine;
use crate::outside;
pub use trouble::{directory_of, directory_trouble, file_trouble};

/// The version of a cursor's form.
const VERSION: u32 = 1;

/// Where the log is handed on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportTarget {
    /// A file of lines. Its cursor is beside it, with `.cursor` behind its name.
    File(PathBuf),
    /// A collector of OpenTelemetry.
    Otlp {
        /// Its address, `https://HOST:PORT`, or `http://` on this machine.
        endpoint: String,
        /// Who issued its certificate, in PEM form.
        ca: Option<PathBuf>,
        /// The cursor.
        cursor: PathBuf,
    },
}

impl ExportTarget {
    /// `file` or `otlp`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Otlp { .. } => "otlp",
        }
    }

    /// What is read and handed on at a time. Collectors take 4 MiB, and lines are a few times as long as
    /// their records.
    const fn batch(&self) -> PageLimit {
        match self {
            Self::File(_) => PageLimit { events: 4_000, bytes: 4 * 1024 * 1024 },
            Self::Otlp { .. } => PageLimit { events: 500, bytes: 512 * 1024 },
        }
    }

    /// As messages name it.
    fn place(&self) -> String {
        match self {
            Self::File(path) => format!("{} (audit.export_file)", path.display()),
            Self::Otlp { endpoint, .. } => format!("{endpoint} (audit.export_otlp)"),
        }
    }

    fn cursor(&self) -> PathBuf {
        match self {
            Self::File(path) => {
                let mut name = path.as_os_str().to_owned();
                name.push(".cursor");
                name.into()
            }
            Self::Otlp { cursor, .. } => cursor.clone(),
        }
    }

    /// Where it came to, in a log of this origin with so many records.
    pub(crate) fn resume(&self, origin: &str, records: u64) -> Result<Cursor, ExportError> {
        let place = self.place();
        let cursor = match Cursor::read(&self.cursor()) {
            Ok(Some(cursor)) => cursor,
            Ok(None) if self.has_something() => return Err(ExportError::NoCursor { place }),
            Ok(None) => Cursor::new(origin),
            Err(why) => return Err(ExportError::Unreadable { place, why }),
        };
        if cursor.origin != origin {
            let origin = cursor.origin;
            return Err(ExportError::Foreign { place, origin });
        }
        if cursor.next > records {
            return Err(ExportError::Beyond { place, next: cursor.next, records });
        }
        Ok(cursor)
    }

    fn has_something(&self) -> bool {
        match self {
            Self::File(path) => {
                path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() > 0)
            }
            Self::Otlp { .. } => false,
        }
    }

    /// Why nothing can be handed on there, as far as looking at it shows.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::File(path) => {
                let in_directory = match directory_of(path).metadata() {
                    Ok(found) => directory_trouble(&found).map(str::to_owned),
                    Err(error) => Some(format!("{}: {error}", directory_of(path).display())),
                };
                in_directory.or_else(|| match path.symlink_metadata() {
                    Ok(found) => file_trouble(&found).map(str::to_owned),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => Some(error.to_string()),
                })
            }
            Self::Otlp { ca, .. } => {
                let error = std::fs::File::open(ca.as_ref()?).err()?;
                Some(format!("audit.export_otlp_ca cannot be read: {error}"))
            }
        }
    }
}

/// Why a sidecar is not started with an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The cursor cannot be read.
    #[error("the cursor of the export to {place} cannot be read: {why}")]
    Unreadable {
        /// The target.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// There is none, and something was exported.
    #[error(
        "{place} has something in it, and no cursor beside it says of which log and how far: move the file \
         away, and all records are exported into a new one"
    )]
    NoCursor {
        /// The target.
        place: String,
    },
    /// It is of another log.
    #[error(
        "the cursor of the export to {place} is of another log, {origin}: name a target of its own, or \
         move the cursor away, and its file, and all records are exported anew"
    )]
    Foreign {
        /// The target.
        place: String,
        /// That log.
        origin: String,
    },
    /// The log does not reach it.
    #[error(
        "{next} records were exported to {place}, and the log has {records}: its end was cut off, or an \
         older copy of it was put back"
    )]
    Beyond {
        /// The target.
        place: String,
        /// The next record.
        next: u64,
        /// How many there are.
        records: u64,
    },
    /// The log has another record there.
    #[error(
        "{next} records were exported to {place}, and the last of them is not the one that the log has: an \
         older copy of it was put back, and went on from there"
    )]
    Other {
        /// The target.
        place: String,
        /// The next record.
        next: u64,
    },
}

impl ExportError {
    /// The stable name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "AUDIT_EXPORT_CURSOR_UNREADABLE",
            Self::NoCursor { .. } => "AUDIT_EXPORT_CURSOR_MISSING",
            Self::Foreign { .. } => "AUDIT_EXPORT_CURSOR_FOREIGN",
            Self::Beyond { .. } => "AUDIT_LOG_BEHIND_EXPORT",
            Self::Other { .. } => "AUDIT_LOG_NOT_AS_EXPORTED",
        }
    }
}

/// How far a target came, on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cursor {
    version: u32,
    /// The log's origin.
    origin: String,
    /// The next record: every one before it was handed on.
    next: u64,
    /// The leaf hash of the record before, in hexadecimal; empty if there is none.
    previous: String,
    /// Of a file: up to where it is synced.
    file: Option<FilePlace>,
}

/// Which file it is, and how much of it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePlace {
    /// Bytes that are written and synced. What is behind them was not finished.
    pub bytes: u64,
    /// `st_ino`. That of the device is not kept: it may be another after every restart of the machine.
    pub inode: u64,
}

impl FilePlace {
    /// A file as it is now.
    #[must_use]
    pub fn of(found: &Metadata) -> Self {
        Self { bytes: found.len(), inode: found.ino() }
    }

    /// Whether a file that is found now is this one, with all that counts of it.
    #[must_use]
    pub const fn is_in(&self, found: &Self) -> bool {
        self.inode == found.inode && self.bytes <= found.bytes
    }
}

impl Cursor {
    /// The next record.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    fn new(origin: &str) -> Self {
        let (origin, previous) = (origin.to_owned(), String::new());
        Self { version: VERSION, origin, next: 0, previous, file: None }
    }

    fn read(path: &Path) -> Result<Option<Self>, String> {
        let text = match outside::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| error.to_string())?,
        };
        let cursor: Self = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        match cursor.version {
            VERSION => Ok(Some(cursor)),
            other => Err(format!("it has the form of version {other}, and this program knows 1")),
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        outside::replace(path, &format!("{}\n", serde_json::to_string(self)?))
    }
}

/// How handing on to a target goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportState {
    /// `file` or `otlp`.
    pub kind: &'static str,
    /// How many records were handed on.
    pub exported: u64,
    /// Records behind them.
    pub behind: u64,
    /// How old the oldest of these is, as far as it was read.
    pub behind_for: Duration,
    /// Why the last attempt failed; `None` if it did not.
    pub failure: Option<String>,
    /// Records that the target took and threw away, since the start.
    pub rejected: u64,
}

struct Progress {
    cursor: Cursor,
    /// When the oldest record that is not handed on was made, if it was looked at.
    oldest: Option<Timestamp>,
    failure: Option<String>,
    rejected: u64,
}

/// A target, and what is known of it.
pub(crate) struct Export {
    target: ExportTarget,
    progress: Mutex<Progress>,
}

/// Where a target goes on, if the log of so many records is the one that it was given so far.
fn fitting(target: &ExportTarget, journal: &Journal, records: u64) -> Result<Cursor, ExportError> {
    let cursor = target.resume(journal.origin(), records)?;
    if let Some(last) = cursor.next.checked_sub(1) {
        let one = PageLimit { events: 1, ..PageLimit::default() };
        // What cannot be read is said when it is to be handed on.
        let found = journal.follow_all(last).read(one, records).unwrap_or_default();
        // One that is archived is not there.
        let other =
            |event: &Event| event.index == last && hex::encode(&event.leaf_hash) != cursor.previous;
        if found.first().is_some_and(other) {
            let (place, next) = (target.place(), cursor.next);
            return Err(ExportError::Other { place, next });
        }
    }
    Ok(cursor)
}

impl Export {
    /// Where it goes on, in the log of a journal that was just opened.
    pub(crate) fn begin(target: &ExportTarget, journal: &Journal) -> Result<Self, ExportError> {
        let cursor = fitting(target, journal, journal.checkpoint().tree_size)?;
        let progress = Mutex::new(Progress { cursor, oldest: None, failure: None, rejected: 0 });
        Ok(Self { target: target.clone(), progress })
    }

    fn state(&self, records: u64, now: Timestamp) -> ExportState {
        let progress = self.progress.lock();
        let exported = progress.cursor.next;
        let behind = records.saturating_sub(exported);
        let oldest = progress.oldest.filter(|_| behind > 0);
        ExportState {
            kind: self.target.kind(),
            exported,
            behind,
            behind_for: oldest.map(|oldest| now.since(oldest)).unwrap_or_default(),
            failure: progress.failure.clone(),
            rejected: progress.rejected,
        }
    }
}

/// The end of what was read last.
struct End {
    next: u64,
    previous: String,
    at: Timestamp,
}

/// The log for one target, from where that came to. Nothing that is done with it is on record: the target
/// stands in the operator's configuration, and it would never come to an end.
pub struct ExportFeed {
    engine: Engine,
    export: Arc<Export>,
    follower: Follower,
    grown: watch::Receiver<u64>,
    end: Option<End>,
}

impl Engine {
    /// One feed for each target.
    #[must_use]
    pub fn export_feeds(&self) -> Vec<ExportFeed> {
        let feed = |export: &Arc<Export>| {
            let (journal, next) = (&self.inner.journal, export.progress.lock().cursor.next);
            ExportFeed {
                engine: self.clone(),
                export: Arc::clone(export),
                follower: journal.follow_all(next),
                grown: journal.grown(),
                end: None,
            }
        };
        self.inner.exports.iter().map(feed).collect()
    }

    /// How handing on goes, for each target.
    #[must_use]
    pub fn export_states(&self) -> Vec<ExportState> {
        let (records, now) = (*self.inner.journal.grown().borrow(), self.inner.clock.now());
        self.inner.exports.iter().map(|export| export.state(records, now)).collect()
    }
}

impl ExportFeed {
    /// Where it goes.
    #[must_use]
    pub fn target(&self) -> &ExportTarget {
        &self.export.target
    }

    /// The instance that names the log.
    #[must_use]
    pub fn log(&self) -> &str {
        self.engine.inner.journal.log()
    }

    /// The log's origin: no other installation or instance has the same.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.engine.inner.journal.origin()
    }

    /// The file that the cursor speaks of.
    #[must_use]
    pub fn file(&self) -> Option<FilePlace> {
        self.export.progress.lock().cursor.file
    }

    /// Waits until there is something to read.
    pub async fn grown(&mut self) {
        let next = self.follower.position();
        // The sender lives as long as the engine, which is held here.
        drop(self.grown.wait_for(|records| *records > next).await);
    }

    /// The next records, in their order; none if all were read. Blocks.
    ///
    /// # Errors
    /// As [`Follower::read`].
    pub fn read(&mut self) -> Result<Vec<Event>, QueryError> {
        let records = *self.grown.borrow_and_update();
        let events = self.follower.read(self.export.target.batch(), records)?;
        if let Some(first) = events.first() {
            self.export.progress.lock().oldest = Some(first.time);
        }
        self.end = events.last().map(|last| End {
            next: self.follower.position(),
            previous: hex::encode(&last.leaf_hash),
            at: last.time,
        });
        Ok(events)
    }

    /// What was read last has arrived: the cursor is behind it, on disk. Blocks.
    ///
    /// # Errors
    /// If the cursor cannot be written: begin again with [`ExportFeed::resume`].
    pub fn delivered(&mut self, file: Option<FilePlace>) -> io::Result<()> {
        let Some(end) = self.end.take() else { return Ok(()) };
        let mut cursor = self.export.progress.lock().cursor.clone();
        (cursor.next, cursor.previous, cursor.file) = (end.next, end.previous, file);
        cursor.write(&self.export.target.cursor())?;
        let is_all = end.next >= *self.grown.borrow();
        let mut progress = self.export.progress.lock();
        progress.cursor = cursor;
        progress.oldest = (!is_all).then_some(end.at);
        Ok(())
    }

    /// It goes on in this file: said on disk before anything is written into it. Blocks.
    ///
    /// # Errors
    /// If the cursor cannot be written.
    pub fn goes_on_in(&mut self, file: FilePlace) -> io::Result<()> {
        let mut cursor = self.export.progress.lock().cursor.clone();
        cursor.file = Some(file);
        cursor.write(&self.export.target.cursor())?;
        self.export.progress.lock().cursor = cursor;
        Ok(())
    }

    /// So many records arrived, and the target does not keep them.
    pub fn rejected(&mut self, records: u64) {
        let mut progress = self.export.progress.lock();
        progress.rejected = progress.rejected.saturating_add(records);
    }

    /// It goes well.
    pub fn goes_well(&mut self) {
        self.export.progress.lock().failure = None;
    }

    /// What was read last has not arrived, or nobody knows; for people, why.
    pub fn failed(&mut self, why: String) {
        self.export.progress.lock().failure = Some(why);
    }

    /// Begins again where the cursor on disk is. Blocks.
    ///
    /// # Errors
    /// As at a start.
    pub fn resume(&mut self) -> Result<(), ExportError> {
        let journal = &self.engine.inner.journal;
        let records = *self.grown.borrow_and_update();
        let cursor = fitting(&self.export.target, journal, records)?;
        self.follower = journal.follow_all(cursor.next);
        self.end = None;
        self.export.progress.lock().cursor = cursor;
        Ok(())
    }
}
