//! Redaction of a log that is open: the order in which it is done.
//!
//! A note beside the log says that one is under way, from before the record that names what goes until
//! the last byte is erased. So a start knows whether it has something to finish without reading the log.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fieldseal_model::Timestamp;
use tokio::sync::OwnedMutexGuard;

use super::leisure::reading;
use super::settle::create;
use super::{Journal, Shared, space};
use crate::error::JournalError;
use crate::event::{ChangedBy, SystemEvent};
use crate::proofs::Receipt;
use crate::record::Redaction;
use crate::redaction::{
    Named, Redactable, Redacted, Rewriting, Step, Survey, probe, rewrite, room, survey, tidy,
};
use crate::segment::{self, Segment};

/// Says that a redaction is under way.
const UNDER_WAY: &str = "redacting";

/// That no other redaction or archiving begins, for as long as it is kept.
pub struct Held {
    _alone: OwnedMutexGuard<()>,
    pub(super) agreed: String,
}

impl Held {
    /// Notes, for the records of what is done with it, the request that a second principal agreed to.
    #[must_use]
    pub fn agreed(self, note: String) -> Self {
        Self { agreed: note, ..self }
    }
}

impl Journal {
    /// What a redaction would erase. It reads the whole log: blocks for as long as that takes.
    ///
    /// # Errors
    /// `RedactionRuns` if one has not ended: it would meet segments that are being replaced; `Corrupt` if
    /// the log does not verify; trouble with the files.
    pub fn would_redact(&self, what: &Redactable) -> Result<Redacted, JournalError> {
        let _running = self.shared.redacting.try_lock().map_err(|_| JournalError::RedactionRuns)?;
        Ok(self.shared.survey(Some(what))?.redacted)
    }

    /// Erases personal detail: records name what goes, then the segments are written anew without it.
    /// The receipt is that of the last of these records; there is none if nothing of the kind is there.
    /// `step` hears how far it has come. Poll it to its end.
    ///
    /// # Errors
    /// `RedactionRuns` if another one has not ended; `Corrupt` if the log does not verify;
    /// `Unavailable` without space. Nothing has been erased then. `RedactionUnfinished` once it is on
    /// record: the next start or the next redaction goes on with it.
    pub async fn redact<'a>(
        &self,
        what: &Redactable,
        by: impl Into<ChangedBy<'a>>,
        at: Timestamp,
        step: impl Fn(Step) + Send + Sync + 'static,
    ) -> Result<(Redacted, Option<Receipt>), JournalError> {
        let held = self.hold()?;
        self.redact_held(held, what, by, at, step).await
    }

    /// Keeps every other redaction and archiving from beginning.
    ///
    /// # Errors
    /// `RedactionRuns` if one has not ended.
    pub fn hold(&self) -> Result<Held, JournalError> {
        let alone = Arc::clone(&self.shared.redacting).try_lock_owned();
        let alone = alone.map_err(|_| JournalError::RedactionRuns)?;
        Ok(Held { _alone: alone, agreed: String::new() })
    }

    /// [`Self::redact`] once nothing else runs.
    ///
    /// # Errors
    /// As of `redact`.
    pub async fn redact_held<'a>(
        &self,
        held: Held,
        what: &Redactable,
        by: impl Into<ChangedBy<'a>>,
        at: Timestamp,
        step: impl Fn(Step) + Send + Sync + 'static,
    ) -> Result<(Redacted, Option<Receipt>), JournalError> {
        let shared = Arc::clone(&self.shared);
        let (what, step, agreed) = (*what, Arc::new(step), held.agreed.as_str());
        let by = by.into();
        // Segments of an earlier one that did not end are written anew as well.
        let is_under_way = is_under_way(&shared.settings.directory);
        let begun = reading(by, move || shared.begin_redaction(&what)).await?;
        let Survey { mut said, wanted, mut redacted } = begun;
        let shared = Arc::clone(&self.shared);
        if wanted.is_empty() {
            if is_under_way {
                blocking(move || shared.finish_redaction(&said, None, &*step)).await?;
            }
            return Ok((redacted, None));
        }
        step(Step::Noted);
        let mut receipt = None;
        for entries in wanted.entries() {
            let named = self.name(by, at, (&entries, agreed)).await;
            // From the first record on what it names counts as erased.
            let is_begun = redacted.said_by > 0;
            receipt = Some(named.map_err(|e| if is_begun { unfinished(&e) } else { e })?);
            redacted.said_by += 1;
        }
        step(Step::Recorded);
        said.add(&wanted);
        let now = Some(wanted).filter(|_| !is_under_way);
        let finish = move || shared.finish_redaction(&said, now.as_ref(), &*step);
        blocking(finish).await.map_err(|e| unfinished(&e))?;
        Ok((redacted, receipt))
    }

    async fn name(
        &self,
        by: ChangedBy<'_>,
        at: Timestamp,
        (entries, agreed): (&[Redaction], &str),
    ) -> Result<Receipt, JournalError> {
        let event = SystemEvent::details_redacted(at, by, entries);
        self.record_system(event.agreed(agreed)).await
    }

    /// When the log's oldest segment that is here was begun: none of its records is older.
    ///
    /// # Errors
    /// Trouble with the files.
    pub fn oldest_segment(&self) -> Result<Option<Timestamp>, JournalError> {
        let _reading = self.shared.files.read();
        let segments = segment::list(&self.shared.settings.directory)?;
        let Some((_, path)) = segments.first() else { return Ok(None) };
        let head = Segment::open(path, &self.shared.signing.public())?.head;
        Ok(Some(Timestamp::from_unix_nanos(head.time)))
    }

    /// Whether a redaction began that did not end, and none runs.
    #[must_use]
    pub fn has_unfinished_redaction(&self) -> bool {
        let shared = &self.shared;
        shared.redacting.try_lock().is_ok() && is_under_way(&shared.settings.directory)
    }

    /// Whether a redaction of the log in this directory, which nobody writes, began and did not end.
    #[must_use]
    pub fn left_redaction_unfinished(directory: &Path) -> bool {
        is_under_way(directory)
    }

    /// Finishes what a process that was killed had begun, if it had. Call it once nothing speaks against
    /// the log any more: it blocks, and what it erases is gone.
    pub fn finish_redaction(&self) {
        let shared = &self.shared;
        if !is_under_way(&shared.settings.directory) {
            return;
        }
        let finished = shared
            .survey(None)
            .and_then(|survey| shared.finish_redaction(&survey.said, None, &|_| {}));
        match finished {
            Ok(()) => tracing::info!(
                event = "audit_redaction_finished",
                "a redaction that had begun before this start is finished, as far as records name it; whoever had \
                 no answer asks for it again"
            ),
            Err(error) => tracing::error!(event = "audit_redaction_unfinished", %error,
                "a redaction of the audit log is on record and not finished"),
        }
    }
}

fn unfinished(error: &JournalError) -> JournalError {
    JournalError::RedactionUnfinished(error.to_string().into())
}

pub(super) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let ended = tokio::task::spawn_blocking(run).await;
    ended.unwrap_or(Err(JournalError::Closed))
}

pub(super) fn is_under_way(directory: &Path) -> bool {
    directory.join(UNDER_WAY).symlink_metadata().is_ok()
}

fn note(directory: &Path) -> io::Result<()> {
    create(&directory.join(UNDER_WAY))?.sync_all()?;
    File::open(directory)?.sync_all()
}

fn remove_note(directory: &Path) -> io::Result<()> {
    match std::fs::remove_file(directory.join(UNDER_WAY)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    File::open(directory)?.sync_all()
}

impl Shared {
    pub(super) fn survey(&self, what: Option<&Redactable>) -> Result<Survey, JournalError> {
        let size = self.published.read().tree_size;
        survey(&self.settings.directory, &self.log_key(), size, what)
    }

    /// Finds what goes, and makes sure that everything of it stands in segments that get no more
    /// records. Nothing is on record yet, so that all of this may fail.
    fn begin_redaction(&self, what: &Redactable) -> Result<Survey, JournalError> {
        let found = self.survey(Some(what))?;
        if found.wanted.is_empty() {
            return Ok(found);
        }
        let directory = &self.settings.directory;
        let is_wanted = |first: u64| found.wanted.meets(&(first..u64::MAX));
        let (first, mut longest) = {
            let writer = self.writer.lock();
            (writer.segment.first, writer.segment.end)
        };
        // One after the other is written anew, the open one too; and the next one is begun.
        let begun = if is_wanted(first) { self.settings.segment_bytes } else { 0 };
        longest = if is_wanted(first) { longest } else { 0 };
        for (path, _) in self.closed(&found.wanted)? {
            let len = path.metadata().map_err(|e| JournalError::io("read", &path, &e))?.len();
            longest = longest.max(len);
        }
        if !self.has_space(room(longest).saturating_add(begun)) {
            return Err(JournalError::Unavailable);
        }
        self.roll(&is_wanted)?;
        note(directory)
            .and_then(|()| probe(directory))
            .map_err(|e| JournalError::io("prepare a redaction in", directory, &e))?;
        Ok(found)
    }

    fn has_space(&self, bytes: u64) -> bool {
        space::has_space(&self.settings, &*self.space, bytes).unwrap_or(false)
    }

    /// The segments with something that is named and without the open one, and the record behind each.
    fn closed(&self, named: &Named) -> Result<Vec<(PathBuf, u64)>, JournalError> {
        let segments = segment::list(&self.settings.directory)?;
        let pairs = segments.windows(2).filter_map(|pair| {
            let [(first, path), (next, _)] = pair else { return None };
            named.meets(&(*first..*next)).then(|| (path.clone(), *next))
        });
        Ok(pairs.collect())
    }

    /// Erases what the log says is erased: of all segments with something of the kind, or of those with
    /// what is named now.
    fn finish_redaction(
        &self,
        said: &Named,
        now: Option<&Named>,
        step: &dyn Fn(Step),
    ) -> Result<(), JournalError> {
        let directory = &self.settings.directory;
        let failed = |e: io::Error| JournalError::io("tidy", directory, &e);
        tidy(directory, &segment::list(directory)?).map_err(failed)?;
        let key = self.log_key();
        let with = Rewriting {
            directory,
            key: &key,
            named: said,
            has_space: &|bytes| self.has_space(bytes),
            forget: &|first| self.indexes.forget(first),
            files: &self.files,
            group: self.settings.group,
            step,
        };
        for (path, next) in self.closed(now.unwrap_or(said))? {
            rewrite(&with, &path, next)?;
        }
        self.indexes.rolled();
        remove_note(directory).map_err(failed)?;
        step(Step::Done);
        Ok(())
    }
}
