//! Writes one frame at a time at the end of the open segment.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::queue::{Batch, Written};
use super::space::{self, Lock};
use super::{Settings, Shared};
use crate::checkpoint;
use crate::error::{Health, JournalError};
use crate::merkle::{Frontier, Hash};
use crate::record::LastChange;
use crate::segment::{self, FORMAT, FrameHead, SegmentHead};

/// Bytes of a frame that a change of keys needs, and more.
const ROOM_BYTES: u64 = 4096;

/// The segment that is written to.
pub(super) struct OpenSegment {
    pub file: File,
    pub path: PathBuf,
    /// Device and inode: a file put in its place is another.
    pub identity: (u64, u64),
    pub first: u64,
    /// Where the next frame goes. Everything before is on disk.
    pub end: u64,
    pub len: u64,
}

impl OpenSegment {
    pub(super) fn open(path: PathBuf, first: u64, end: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Self::of(file, path, first, end)
    }

    fn of(file: File, path: PathBuf, first: u64, end: u64) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { len: metadata.len(), file, path, identity, first, end })
    }

    /// True while the name still leads to this file.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity)
    }
}

pub(super) struct Writer {
    pub segment: OpenSegment,
    pub frontier: Frontier,
    /// The hash over what was signed in the open segment, if this process began it.
    pub checkpoints: Option<Hash>,
    /// The newest change in the log.
    pub newest: Option<LastChange>,
    /// The zeroed file of the next segment, being made.
    pub spare: Option<JoinHandle<Result<PathBuf, JournalError>>>,
    pub buffer: Vec<u8>,
    pub broken: Option<Arc<str>>,
    /// A task looks whether the log can be written again.
    pub watched: bool,
    pub lock: Lock,
}

impl Writer {
    /// Writes a batch as one frame and syncs it.
    pub(super) fn write(&mut self, shared: &Shared, batch: &Batch) -> Written {
        if let Some(why) = &self.broken {
            return Err(JournalError::Broken(Arc::clone(why)));
        }
        if !self.segment.is_in_place() {
            shared.set_health(Health::Missing);
            return Err(JournalError::Unavailable);
        }
        let first = self.frontier.size();
        let mut frontier = self.frontier.clone();
        batch.hashes.iter().for_each(|hash| frontier.append(*hash));
        let root = frontier.root();
        let body = checkpoint::body(&shared.origin, frontier.size(), &root);
        let signature = shared.signing.sign(body.as_bytes());
        self.make_room(shared, batch)?;
        self.frame(batch, first, root, &signature);
        let began = Instant::now();
        if let Err(error) = self.put() {
            return Err(self.failed(shared, &error));
        }
        let (took, bytes) = (began.elapsed(), self.buffer.len());
        shared.statistics.lock().synced(took, batch.hashes.len(), bytes);
        self.segment.end = self.segment.end.saturating_add(self.buffer.len() as u64);
        if let Some(newest) = batch.newest {
            let index = first.saturating_add(newest.index);
            self.newest = Some(LastChange { index, ..newest });
        }
        self.frontier = frontier;
        let tree_size = self.frontier.size();
        let chained = |hash| segment::chained(&hash, tree_size, &root, &signature);
        self.checkpoints = self.checkpoints.map(chained);
        *shared.published.write() = super::Published { tree_size, root, signature };
        shared.grown.send_replace(tree_size);
        shared.set_health(Health::Ok);
        if self.spare.is_none() && self.segment.end > self.segment.len / 4 {
            self.spare = space::prepare(shared).ok();
        }
        Ok((first, tree_size))
    }

    fn frame(&mut self, batch: &Batch, first: u64, root: [u8; 32], signature: &[u8; 64]) {
        let head = FrameHead {
            first,
            count: u32::try_from(batch.hashes.len()).unwrap_or(u32::MAX),
            root: root.to_vec(),
            synced: self.segment.end,
        };
        let out = &mut self.buffer;
        segment::encode_frame(out, &head, signature, &batch.leaves, &batch.details);
    }

    /// One write and one sync. A sync is never tried again: after a failure nobody knows what is on
    /// disk.
    fn put(&self) -> io::Result<()> {
        self.segment.file.write_all_at(&self.buffer, self.segment.end)?;
        self.segment.file.sync_data()
    }

    fn failed(&mut self, shared: &Shared, error: &io::Error) -> JournalError {
        self.give_up(shared, &format!("{}: {error}", self.segment.path.display()))
    }

    /// Writes nothing any more.
    pub(super) fn give_up(&mut self, shared: &Shared, why: &str) -> JournalError {
        tracing::error!(event = "audit_log_broken", error = why, "the audit log is given up");
        let why: Arc<str> = why.into();
        self.broken = Some(Arc::clone(&why));
        shared.set_health(Health::Broken(Arc::clone(&why)));
        JournalError::Broken(why)
    }

    /// Whether the next record could be written.
    pub(super) fn look(&mut self, shared: &Shared) -> Health {
        let health = match &self.broken {
            Some(why) => Health::Broken(Arc::clone(why)),
            None if !self.segment.is_in_place() => Health::Missing,
            None if self.has_room(shared) => Health::Ok,
            None => Health::NoSpace,
        };
        shared.set_health(health.clone());
        health
    }

    /// A record fits into this segment, or there is or can be a next one.
    fn has_room(&self, shared: &Shared) -> bool {
        self.segment.end.saturating_add(ROOM_BYTES) <= self.segment.len
            || self.spare.is_some()
            || space::has_space(&shared.settings, &*shared.space, shared.settings.segment_bytes)
                .unwrap_or(false)
    }

    /// Begins a new segment if the frame does not fit into this one.
    fn make_room(&mut self, shared: &Shared, batch: &Batch) -> Result<(), JournalError> {
        let frame = (batch.leaves.len() + batch.details.len() + 256) as u64;
        if self.segment.end.saturating_add(frame) <= self.segment.len {
            return Ok(());
        }
        self.next_segment(shared, frame, None)
    }

    /// Begins a new segment, in this zeroed file if there is one, if this one has records: nothing is written
    /// into it any more.
    pub(super) fn roll(
        &mut self,
        shared: &Shared,
        made: Option<PathBuf>,
    ) -> Result<(), JournalError> {
        if let Some(why) = &self.broken {
            return Err(JournalError::Broken(Arc::clone(why)));
        }
        if !self.segment.is_in_place() {
            shared.set_health(Health::Missing);
            return Err(JournalError::Unavailable);
        }
        if self.segment.first == self.frontier.size() {
            return Ok(());
        }
        self.next_segment(shared, 0, made)
    }

    fn next_segment(
        &mut self,
        shared: &Shared,
        frame: u64,
        made: Option<PathBuf>,
    ) -> Result<(), JournalError> {
        let begun = self.begin_segment(shared, frame, made);
        begun.map_err(|error| match error {
            JournalError::Unavailable => {
                shared.set_health(Health::NoSpace);
                error
            }
            other => self.give_up(shared, &other.to_string()),
        })
    }

    fn begin_segment(
        &mut self,
        shared: &Shared,
        frame: u64,
        made: Option<PathBuf>,
    ) -> Result<(), JournalError> {
        let settings = &shared.settings;
        let wanted = settings.segment_bytes.max(frame.saturating_add(8 * 1024));
        let spare = match (made, &mut self.spare) {
            (Some(made), _) => made,
            (None, spare) => match spare.take().map(JoinHandle::join) {
                Some(Ok(Ok(spare))) if wanted == settings.segment_bytes => spare,
                _ => space::zeroed(settings, &*shared.space, (space::SPARE, wanted))?,
            },
        };
        let head = SegmentHead {
            format: FORMAT,
            origin: shared.origin.to_string(),
            first: self.frontier.size(),
            peaks: self.frontier.peaks().iter().map(|p| p.to_vec()).collect(),
            revision: self.newest.map_or(0, |newest| newest.revision),
            time: shared.clock.now().unix_nanos(),
            previous: self.segment.first,
            anchor: self.newest.map_or_else(Vec::new, |newest| newest.anchor.to_vec()),
            changed: self.newest.map_or(0, |newest| newest.index),
            checkpoints: self.checkpoints.map_or_else(Vec::new, |hash| hash.to_vec()),
        };
        let sign = |message: &[u8]| shared.signing.sign(message);
        let next = begin(&self.lock, settings, &spare, &head, sign)?;
        let old = std::mem::replace(&mut self.segment, next);
        self.checkpoints = Some(Hash::default());
        // The zeroes after the last frame are not needed any more. If this fails they just stay.
        if let Err(error) = old.file.set_len(old.end) {
            tracing::warn!(%error, "cannot shorten a full segment of the audit log");
        }
        shared.indexes.rolled();
        Ok(())
    }
}

/// Turns a zeroed file into the segment of this head: on disk under its name when this returns.
pub(super) fn begin(
    lock: &Lock,
    settings: &Settings,
    spare: &Path,
    head: &SegmentHead,
    sign: impl Fn(&[u8]) -> [u8; 64],
) -> Result<OpenSegment, JournalError> {
    let path = settings.directory.join(segment::file_name(head.first));
    let failed = |e: &io::Error| JournalError::io("begin", &path, e);
    let header = segment::encode_header(head, sign);
    let file = match OpenOptions::new().read(true).write(true).open(spare) {
        // No file descriptor or memory is left for the moment, and nothing has happened yet.
        Err(e) if is_shortage(&e) => return Err(JournalError::Unavailable),
        other => other.map_err(|e| failed(&e))?,
    };
    file.write_all_at(&header, 0).and_then(|()| file.sync_all()).map_err(|e| failed(&e))?;
    rename_new(spare, &path).map_err(|e| failed(&e))?;
    lock.sync_directory().map_err(|e| failed(&e))?;
    let end = header.len() as u64;
    OpenSegment::of(file, path.clone(), head.first, end).map_err(|e| failed(&e))
}

/// Renames a file, never over one that is there.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot do both at once. The directory is locked, so looking first does.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match to.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::rename(from, to),
            Err(error) => Err(error),
            Ok(_) => Err(Errno::EXIST.into()),
        },
        other => Ok(other?),
    }
}

/// Whether the operating system has too little of something that comes back.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// A file that must not exist yet, for its owner alone.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
