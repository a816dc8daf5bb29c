//! What the sidecar does by itself to the audit log as it grows old: its oldest part moves to the
//! archive. It is done beside the calls, at the lowest priority, and what fails is tried again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{Archivable, ArchivePlace, ChangedBy};
use fieldseal_model::{Action, Timestamp};
use parking_lot::Mutex;

use crate::archive::{CommandArchive, cause};
use crate::engine::Engine;
use crate::refusal::RefusalCause;

/// How often it is looked whether something is due.
const EVERY: Duration = Duration::from_secs(3600);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(600);
/// The rule of what is done because it is time.
const SCHEDULE: &str = "schedule";

/// Where the oldest part of the log moves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveTarget {
    /// A directory. It is made where there is none; the one above it must be there.
    Directory(PathBuf),
    /// A program: `put NAME` keeps its standard input under this name, in place of what was there, and ends
    /// with 0 once it is kept; `get NAME` writes what is kept, or nothing. Its path is the first word, its
    /// first arguments are the others; it has 10 minutes for a file.
    Command(Vec<String>),
}

impl ArchiveTarget {
    pub(crate) fn place(&self) -> ArchivePlace {
        match self {
            Self::Directory(path) => ArchivePlace::Directory(path.clone()),
            Self::Command(words) => ArchivePlace::Store(Arc::new(CommandArchive::new(words))),
        }
    }
}

/// What becomes of the log as it grows old.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// Where the oldest part of it moves to, if anywhere.
    pub archive: Option<ArchiveTarget>,
    /// It moves by itself once it is so old; zero: only when somebody asks.
    pub at_hand: Duration,
}

/// What is done by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetentionJob {
    /// Segments move to the archive.
    Archive,
}

impl RetentionJob {
    const ALL: [Self; 1] = [Self::Archive];

    /// The name, as it stands in the status, in metrics and in log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "archive",
        }
    }
}

/// How it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionState {
    /// What is done.
    pub job: RetentionJob,
    /// Why it is not done at all; `None` if it is.
    pub off: Option<&'static str>,
    /// What is older than this is due.
    pub before: Option<Timestamp>,
    /// Segments that were due at the last run and are not done: it failed, or an anchor or an export needs
    /// them first.
    pub due: u64,
    /// When it was looked last; `None` if it was not yet.
    pub last: Option<Timestamp>,
    /// When it is looked next.
    pub next: Option<Timestamp>,
    /// The reason why the last run failed; `None` if it did not.
    pub failure: Option<&'static str>,
}

#[derive(Clone, Copy, Default)]
struct Ran {
    due: u64,
    last: Option<Timestamp>,
    next: Option<Timestamp>,
    failure: Option<&'static str>,
}

/// What an engine is to do, and how that goes.
pub(crate) struct Retaining {
    pub(crate) settings: Retention,
    archive: Mutex<Ran>,
    /// One run at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Retaining {
    pub(crate) fn new(settings: Retention) -> Self {
        Self { settings, archive: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    fn ran(&self, job: RetentionJob) -> &Mutex<Ran> {
        match job {
            RetentionJob::Archive => &self.archive,
        }
    }

    fn off(&self, job: RetentionJob) -> Option<&'static str> {
        let Retention { archive, at_hand } = &self.settings;
        match job {
            RetentionJob::Archive if archive.is_none() => {
                Some("no archive is configured (audit.archive_directory, audit.archive_command)")
            }
            RetentionJob::Archive => at_hand.is_zero().then_some("audit.at_hand_days is 0"),
        }
    }

    fn before(&self, job: RetentionJob, now: Timestamp) -> Timestamp {
        match job {
            RetentionJob::Archive => now.minus(self.settings.at_hand),
        }
    }
}

impl Engine {
    /// Does now what is due, and says after what time it should be looked again. What fails is in a log
    /// line and in the status.
    pub async fn retain(&self) -> Duration {
        let engine = self.clone();
        // It goes on when whoever waits for it goes away.
        tokio::spawn(async move { engine.retain_now().await }).await.unwrap_or(AGAIN)
    }

    async fn retain_now(&self) -> Duration {
        let retaining = &self.inner.retaining;
        let _turn = retaining.turn.lock().await;
        let mut wait = EVERY;
        for job in RetentionJob::ALL {
            if retaining.off(job).is_some() {
                continue;
            }
            let (now, mut due) = (self.inner.clock.now(), 0);
            let done = match job {
                RetentionJob::Archive => self.archive_by_schedule(now, &mut due).await,
            };
            let failure = done.as_ref().err().map(RefusalCause::reason);
            if let Err(error) = done {
                wait = AGAIN;
                let (job, reason) = (job.as_str(), error.reason());
                tracing::error!(event = "audit_retention_failed", job, reason, %error, "tried again later");
            }
            let next = Some(now.plus(if failure.is_some() { AGAIN } else { EVERY }));
            *retaining.ran(job).lock() = Ran { due, last: Some(now), next, failure };
        }
        wait
    }

    async fn archive_by_schedule(&self, now: Timestamp, due: &mut u64) -> Result<(), RefusalCause> {
        let retaining = &self.inner.retaining;
        let Some(target) = &retaining.settings.archive else { return Ok(()) };
        let before = retaining.before(RetentionJob::Archive, now);
        let all = Archivable { before, most: u64::MAX, to: target.place() };
        let (journal, what) = (self.inner.journal.clone(), all.clone());
        let found = tokio::task::spawn_blocking(move || journal.would_archive(&what)).await;
        let found = found.map_err(|_| RefusalCause::Internal("an archiving was cut off"))?;
        *due = found.map_err(cause)?.segments;
        let what = Archivable { most: self.settled_elsewhere(), ..all };
        let by = ChangedBy::Itself(Action::ArchiveAuditEvents, SCHEDULE);
        let done = self.inner.journal.archive(&what, by, now, |_| {}).await;
        let (archived, _) = done.map_err(cause)?;
        *due = due.saturating_sub(archived.segments);
        if archived.segments > 0 {
            let (segments, end) = (archived.segments, archived.end);
            tracing::info!(event = "audit_archived", segments, end, "moved to the archive");
        }
        Ok(())
    }

    /// How it goes, for each thing that is done by itself.
    #[must_use]
    pub fn retention_states(&self) -> Vec<RetentionState> {
        let (retaining, now) = (&self.inner.retaining, self.inner.clock.now());
        let state = |job| {
            let (off, ran) = (retaining.off(job), *retaining.ran(job).lock());
            let before = off.is_none().then(|| retaining.before(job, now));
            let Ran { due, last, next, failure } = ran;
            RetentionState { job, off, before, due, last, next, failure }
        };
        RetentionJob::ALL.into_iter().map(state).collect()
    }
}
