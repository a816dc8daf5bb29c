//! Archiving of a log that is open: the order in which it is done.
//!
//! Every segment is on disk in the archive, and was read back, before a record names it; the record is
//! on disk before the mark that lets the log begin later; and the mark before the first segment goes.
//! They go the oldest first, so that what stays is the end of the log at every moment.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fieldseal_model::Timestamp;

use super::leisure::reading;
use super::redact::{Held, blocking, is_under_way};
use super::{Journal, Shared};
use crate::archive::{self, Archivable, Archive, ArchiveStep, Archived};
use crate::checkpoint;
use crate::error::JournalError;
use crate::event::{ChangedBy, SystemEvent};
use crate::proofs::Receipt;
use crate::record::ArchivedSegment;
use crate::segment::{self, Segment};
use crate::subtrees::Subtrees;

/// Most segments that one record names.
const MAX_SEGMENTS: usize = 256;

/// Segments that are to move, in their order.
type Moving = Vec<(PathBuf, ArchivedSegment)>;

impl Journal {
    /// What would be archived.
    ///
    /// # Errors
    /// Trouble with the files.
    pub fn would_archive(&self, what: &Archivable) -> Result<Archived, JournalError> {
        Ok(amount(&self.shared.to_archive(what)?))
    }

    /// Moves the oldest segments to an archive. The receipt is that of the last of the records that name
    /// them; there is none if there is nothing to move. `step` hears how far it has come. Poll it to its
    /// end.
    ///
    /// # Errors
    /// `RedactionRuns` if a redaction or another archiving has not ended; `RedactionUnfinished` if a
    /// redaction must be finished first; `Corrupt` if the log does not verify; `Unavailable` without space;
    /// `Foreign` if something else stands in the archive; trouble with the files. No segment is lost: what
    /// did not move stays where it is.
    pub async fn archive<'a>(
        &self,
        what: &Archivable,
        by: impl Into<ChangedBy<'a>>,
        at: Timestamp,
        step: impl Fn(ArchiveStep) + Send + Sync + 'static,
    ) -> Result<(Archived, Option<Receipt>), JournalError> {
        let held = self.hold()?;
        self.archive_held(held, what, by, at, step).await
    }

    /// [`Self::archive`] once nothing else runs.
    ///
    /// # Errors
    /// As of `archive`.
    pub async fn archive_held<'a>(
        &self,
        held: Held,
        what: &Archivable,
        by: impl Into<ChangedBy<'a>>,
        at: Timestamp,
        step: impl Fn(ArchiveStep) + Send + Sync + 'static,
    ) -> Result<(Archived, Option<Receipt>), JournalError> {
        let shared = Arc::clone(&self.shared);
        if is_under_way(&shared.settings.directory) {
            let what = "nothing is archived before that";
            return Err(JournalError::RedactionUnfinished(what.into()));
        }
        let (what, step, by) = (what.clone(), Arc::new(step), by.into());
        let copying = Arc::clone(&step);
        let copied = reading(by, move || shared.copy(&what, &*copying)).await?;
        let mut archived = amount(&copied);
        let mut receipt = None;
        for part in copied.chunks(MAX_SEGMENTS) {
            let part: Vec<_> = part.iter().map(|(_, segment)| segment.clone()).collect();
            let event = SystemEvent::segments_archived(at, by, &part);
            receipt = Some(self.record_system(event.agreed(&held.agreed)).await?);
            archived.said_by += 1;
        }
        if receipt.is_some() {
            step(ArchiveStep::Recorded);
            let shared = Arc::clone(&self.shared);
            blocking(move || shared.remove(&copied, archived.end, &*step)).await?;
        }
        Ok((archived, receipt))
    }
}

fn amount(moving: &Moving) -> Archived {
    let segments = || moving.iter().map(|(_, segment)| segment);
    Archived {
        first: segments().next().map_or(0, |segment| segment.first),
        end: segments().next_back().map_or(0, |last| last.first.saturating_add(last.count)),
        segments: moving.len() as u64,
        bytes: segments().map(|segment| segment.bytes).sum(),
        said_by: 0,
    }
}

impl Shared {
    /// The segments that go. Each begins where the one before ends, and the open one stays.
    fn to_archive(&self, what: &Archivable) -> Result<Moving, JournalError> {
        let key = self.signing.public();
        let segments = segment::list(&self.settings.directory)?;
        let mut moving = Vec::new();
        for pair in segments.windows(2) {
            let [(first, path), (next, behind)] = pair else { break };
            let _reading = self.files.read();
            // Its records were made before the next segment was begun.
            let begun = Segment::open(behind, &key)?.head.time;
            if Timestamp::from_unix_nanos(begun) > what.before || *next > what.most {
                break;
            }
            let failed = |e| JournalError::io("read", path, &e);
            let bytes = path.metadata().map_err(failed)?.len();
            let count = next.saturating_sub(*first);
            let segment = ArchivedSegment { first: *first, count, bytes, sha256: Vec::new() };
            moving.push((path.clone(), segment));
        }
        Ok(moving)
    }

    /// Copies what goes into the archive. Nothing of a log that does not verify is archived.
    fn copy(&self, what: &Archivable, step: &dyn Fn(ArchiveStep)) -> Result<Moving, JournalError> {
        let mut moving = self.to_archive(what)?;
        let Archived { end, bytes, .. } = amount(&moving);
        if moving.is_empty() {
            return Ok(moving);
        }
        self.survey(None)?;
        let (directory, key) = (&self.settings.directory, self.log_key());
        let public_key = format!("{}\n", checkpoint::verifier_key(key.origin(), &key.key));
        let of = (directory.as_path(), self.settings.group);
        let archive = Archive::open(&what.to, of, (&key.key, &public_key))?;
        if let Some(to) = archive.directory() {
            let free = self.space.free_bytes(to);
            let free = free.map_err(|e| JournalError::io("look at", to, &e))?;
            if free < bytes.saturating_add(self.settings.reserve_bytes) {
                return Err(JournalError::Unavailable);
            }
        }
        for (path, segment) in &mut moving {
            let failed = |e| JournalError::io("read", path, &e);
            segment.sha256 = archive::digest(path).map_err(failed)?.to_vec();
            let digest = segment.sha256.as_slice().try_into();
            let digest = digest.map_err(|_| JournalError::Inconsistent)?;
            archive.add(path, &digest, &|| step(ArchiveStep::Written))?;
            step(ArchiveStep::Copied);
        }
        archive.end(&self.note_of(directory, end)?)?;
        Ok(moving)
    }

    /// The checkpoint that was signed of the first `size` records.
    fn note_of(&self, directory: &Path, size: u64) -> Result<String, JournalError> {
        let key = self.log_key();
        let _reading = self.files.read();
        let signed = Subtrees::new(directory, &key.key, size)?.signed()?;
        let gone = || JournalError::corrupt(directory, 0, "a segment does not end with a frame");
        let (root, signature) = signed.ok_or_else(gone)?;
        let body = checkpoint::body(key.origin(), size, &root);
        Ok(checkpoint::note(key.origin(), &body, &key.key, &signature))
    }

    /// Lets the log begin with record `end`, and removes what is in the archive.
    fn remove(
        &self,
        moving: &Moving,
        end: u64,
        step: &dyn Fn(ArchiveStep),
    ) -> Result<(), JournalError> {
        let directory = &self.settings.directory;
        let origin = &self.origin;
        let sign = |label: &str, parts: &[&[u8]]| {
            self.signing.sign(&crate::statement::message(label, origin, parts))
        };
        let marked = archive::mark(directory, end, self.settings.group, sign);
        marked.map_err(|e| JournalError::io("mark", directory, &e))?;
        self.archived.fetch_max(end, Ordering::AcqRel);
        step(ArchiveStep::Marked);
        for (path, segment) in moving {
            let failed = |e: std::io::Error| JournalError::io("remove", path, &e);
            let _alone = self.files.write();
            self.indexes.forget(segment.first).map_err(failed)?;
            std::fs::remove_file(path).map_err(failed)?;
            File::open(directory).and_then(|d| d.sync_all()).map_err(failed)?;
            step(ArchiveStep::Removed);
        }
        Ok(())
    }
}
