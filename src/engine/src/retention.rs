//! What the sidecar does by itself to the audit log as it grows old: personal detail whose time is over is
//! erased, and its oldest part moves to the archive. It is done beside the calls, at the lowest priority,
//! and what fails is tried again.

mod running;
mod trusted;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{Aged, ArchivePlace};
use fieldseal_model::Timestamp;
use parking_lot::Mutex;

use crate::archive::CommandArchive;
use crate::engine::Engine;
use trusted::Trusted;

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

/// How long the personal detail of records is kept, by class; zero for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptFor {
    /// Of calls that encrypt or decrypt.
    pub calls: Duration,
    /// Of refusals.
    pub refusals: Duration,
    /// Of questions to the log.
    pub questions: Duration,
    /// Of everything else.
    pub changes: Duration,
}

impl KeptFor {
    /// The times before which it goes.
    fn aged(&self, now: Timestamp) -> Aged {
        let before = |kept: Duration| (!kept.is_zero()).then(|| now.minus(kept));
        Aged {
            calls: before(self.calls),
            refusals: before(self.refusals),
            questions: before(self.questions),
            changes: before(self.changes),
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
    /// How long personal detail is kept.
    pub kept: KeptFor,
    /// Whether what was recorded of a partition goes once its data keys are gone.
    pub redact_shredded: bool,
}

/// What is done by itself, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetentionJob {
    /// Personal detail whose time is over is erased.
    Redact,
    /// That of shredded partitions is erased.
    Shredded,
    /// Segments move to the archive.
    Archive,
}

impl RetentionJob {
    const ALL: [Self; 3] = [Self::Redact, Self::Shredded, Self::Archive];

    /// The name, as it stands in the status, in metrics and in log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redact => "redact",
            Self::Shredded => "redact-shredded",
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
    /// What is older than this is due: of the class that is kept the shortest.
    pub before: Option<Timestamp>,
    /// What was due at the last run and is not done, as far as that came: it failed, or an anchor or an
    /// export needs it first. Segments that are to move, or records with personal detail.
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
    ran: [Mutex<Ran>; RetentionJob::ALL.len()],
    /// One run at a time. Inside: how many partitions waited for their erasure at the last.
    turn: tokio::sync::Mutex<usize>,
    trusted: Mutex<Trusted>,
}

impl Retaining {
    /// With the time of the newest record from before this start, and the steady clock now.
    pub(crate) fn new(settings: Retention, newest: Option<Timestamp>, steady: Duration) -> Self {
        let trusted = Mutex::new(Trusted::new(newest, steady));
        Self { settings, ran: Default::default(), turn: tokio::sync::Mutex::default(), trusted }
    }

    /// The directory that archived segments are in, if it is one.
    pub(crate) fn archive_directory(&self) -> Option<PathBuf> {
        match &self.settings.archive {
            Some(ArchiveTarget::Directory(path)) => Some(path.clone()),
            _ => None,
        }
    }

    fn ran(&self, job: RetentionJob) -> &Mutex<Ran> {
        let [redact, shredded, archive] = &self.ran;
        match job {
            RetentionJob::Redact => redact,
            RetentionJob::Shredded => shredded,
            RetentionJob::Archive => archive,
        }
    }

    fn off(&self, job: RetentionJob) -> Option<&'static str> {
        let Retention { archive, at_hand, kept, redact_shredded } = &self.settings;
        match job {
            RetentionJob::Redact => {
                (*kept == KeptFor::default()).then_some("each of audit.keep_…_days is 0")
            }
            RetentionJob::Shredded => {
                (!redact_shredded).then_some("audit.redact_shredded is false")
            }
            RetentionJob::Archive if archive.is_none() => {
                Some("no archive is configured (audit.archive_directory, audit.archive_command)")
            }
            RetentionJob::Archive => at_hand.is_zero().then_some("audit.at_hand_days is 0"),
        }
    }

    fn before(&self, job: RetentionJob, now: Timestamp) -> Option<Timestamp> {
        match job {
            RetentionJob::Redact => self.settings.kept.aged(now).latest(),
            RetentionJob::Shredded => None,
            RetentionJob::Archive => Some(now.minus(self.settings.at_hand)),
        }
    }
}

impl Engine {
    /// How it goes, for each thing that is done by itself.
    #[must_use]
    pub fn retention_states(&self) -> Vec<RetentionState> {
        let (retaining, now) = (&self.inner.retaining, self.inner.clock.now());
        let state = |job| {
            let (off, ran) = (retaining.off(job), *retaining.ran(job).lock());
            let before = retaining.before(job, now).filter(|_| off.is_none());
            let Ran { due, last, next, failure } = ran;
            RetentionState { job, off, before, due, last, next, failure }
        };
        RetentionJob::ALL.into_iter().map(state).collect()
    }
}
