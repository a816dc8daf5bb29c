//! Rewrapping: the data keys of a key move under its primary version, so that older versions can be
//! destroyed. Ciphertexts stay as they are.
//!
//! A rewrap is a job with a record of its own, `keys/{key}/rewrap`. Its target is the version that
//! is primary when it begins. It moves what enabled versions before the target wrap, is taken up
//! again by the next start if the process ends, and is complete when a scan is over and the counts
//! of all these versions are zero. What a disabled version wraps is left: moving it would make it
//! readable again.

mod moves;
mod record;
mod run;
mod scan;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind, Receipt};
use fieldseal_model::{Action, KeyName, KeyVersionState, Timestamp, VersionNumber};
use fieldseal_policy::Permit;
use fieldseal_store::{Txn, Versioned};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::change::KeyChange;
use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::records::{JOB, PRIMARY, decode};
use crate::registry::KeySnapshot;
use crate::request::{Asked, NewRequest};
use record::JobRecord;
use run::Run;

/// How long a stop waits for what is on its way. The next start takes the rewrap up in any case.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How a rewrap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RewrapState {
    /// It was only asked what it would do.
    NotStarted,
    /// It runs.
    Running,
    /// Every data key that it had to move is under the target.
    Done,
    /// Somebody cancelled it. What it had moved stays moved.
    Cancelled,
    /// It could not be finished.
    Failed,
}

impl RewrapState {
    /// The name, as it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "NOT_STARTED",
            Self::Running => "RUNNING",
            Self::Done => "DONE",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }
}

impl fmt::Display for RewrapState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Data keys that a rewrap does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftBehind {
    /// The version that wraps them.
    pub version: VersionNumber,
    /// Its state: the reason.
    pub state: KeyVersionState,
    /// How many there are.
    pub data_keys: u64,
}

/// A rewrap as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrapJob {
    /// The key.
    pub key: KeyName,
    /// How it is.
    pub state: RewrapState,
    /// The version that the data keys move under.
    pub target: VersionNumber,
    /// Data keys moved so far.
    pub moved: u64,
    /// Data keys that wait, by the counts of the versions.
    pub remaining: u64,
    /// Data keys that are left where they are.
    pub left: Vec<LeftBehind>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// At most so many data keys a second; 0 is no limit.
    pub max_per_second: u32,
    /// Data keys a second since this process took it up; 0 if it does not run.
    pub per_second: u64,
    /// Why it failed, in words.
    pub failure: String,
}

/// What starting or cancelling a rewrap came to.
pub struct RewrapStarted {
    /// The rewrap.
    pub job: RewrapJob,
    /// The audit record's receipt; `None` when nothing was changed, or when the same request id
    /// had its answer before.
    pub receipt: Option<Receipt>,
}

/// The rewraps that run in this process.
#[derive(Default)]
pub(crate) struct Rewraps {
    running: Mutex<HashMap<KeyName, Running>>,
    /// Data keys moved since the start.
    moved: AtomicU64,
}

struct Running {
    stop: watch::Sender<bool>,
    moved: Arc<AtomicU64>,
    since: Instant,
    task: JoinHandle<()>,
}

impl Rewraps {
    pub(crate) fn running(&self) -> usize {
        self.running.lock().len()
    }

    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn take(&self, key: &KeyName) -> Option<Running> {
        self.running.lock().remove(key)
    }

    /// Takes out a run that is over; not the one that was begun since.
    fn forget(&self, key: &KeyName, moved: &Arc<AtomicU64>) {
        let mut running = self.running.lock();
        if running.get(key).is_some_and(|found| Arc::ptr_eq(&found.moved, moved)) {
            running.remove(key);
        }
    }

    fn per_second(&self, key: &KeyName) -> u64 {
        let running = self.running.lock();
        let Some(running) = running.get(key) else { return 0 };
        let millis = running.since.elapsed().as_millis().max(1);
        let moved = u128::from(running.moved.load(Ordering::Relaxed));
        u64::try_from(moved.saturating_mul(1000).checked_div(millis).unwrap_or(0)).unwrap_or(0)
    }
}

impl Running {
    /// Has it stop after what is on its way, and waits for that.
    async fn stop(self) {
        self.stop.send_replace(true);
        if self.task.await.is_err() {
            tracing::error!(event = "rewrap_failed", "a rewrap ended in a panic");
        }
    }
}

impl Keys {
    /// Starts to move the data keys of a key under its primary version, at most so many a second
    /// (0: no limit). It goes on by itself.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, `EtagMismatch`, `RewrapRunning`, `RequestIdReused`, or trouble
    /// of journal and store.
    pub async fn start_rewrap(
        &self,
        permit: &Permit,
        change: KeyChange,
        max_per_second: u32,
    ) -> Result<RewrapStarted, KeyError> {
        if !permit.covers_key(Action::RewrapDataKeys, &change.key) {
            return Err(KeyError::NotPermitted);
        }
        let (inner, permit) = (Arc::clone(&self.inner), permit.clone());
        self.inner
            .finish(async move { inner.start_rewrap(&permit, change, max_per_second).await })
            .await
    }

    /// The newest rewrap of a key.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, `RewrapNotFound`, the store's trouble.
    pub async fn rewrap_job(&self, permit: &Permit, key: &KeyName) -> Result<RewrapJob, KeyError> {
        if !permit.covers_key(Action::GetRewrapJob, key) {
            return Err(KeyError::NotPermitted);
        }
        let snapshot = self.inner.registry.key(key)?;
        let found = self.inner.job(key).await?.ok_or(KeyError::RewrapNotFound)?;
        self.inner.job_view(&snapshot, &found.record).await
    }

    /// Ends a rewrap before it is complete. What it had moved stays moved.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, `RewrapNotFound`, `RewrapNotRunning`, or trouble of journal
    /// and store.
    pub async fn cancel_rewrap(
        &self,
        permit: &Permit,
        change: KeyChange,
    ) -> Result<RewrapStarted, KeyError> {
        if !permit.covers_key(Action::CancelRewrapJob, &change.key) {
            return Err(KeyError::NotPermitted);
        }
        let (inner, permit) = (Arc::clone(&self.inner), permit.clone());
        self.inner.finish(async move { inner.cancel_rewrap(&permit, change).await }).await
    }

    /// Takes up the rewraps that the last process did not finish.
    ///
    /// # Errors
    /// The store's trouble.
    pub async fn resume_rewraps(&self) -> Result<(), KeyError> {
        let store = &self.inner.store;
        let resume = |found: Versioned| {
            let record: JobRecord = decode(record::WHAT, &found.value)?;
            if record.state()? == RewrapState::Running {
                tracing::info!(event = "rewrap_resumed", key = record.key, "a rewrap goes on");
                self.inner.run(&record)?;
            }
            Ok(())
        };
        store.each(&store.prefix(JOB, &[]), resume).await
    }

    /// Stops the rewraps of this process. The next start takes them up.
    pub async fn stop_rewraps(&self) {
        let running: Vec<_> = self.inner.rewraps.running.lock().drain().collect();
        let stopping = running.into_iter().map(|(_, running)| running.stop());
        let stopped = futures_util::future::join_all(stopping);
        if tokio::time::timeout(STOP_PATIENCE, stopped).await.is_err() {
            tracing::warn!("a rewrap is left as it is; the next start takes it up");
        }
    }
}

/// A job as the store has it.
pub(crate) struct FoundJob {
    pub(crate) revision: u64,
    pub(crate) record: JobRecord,
}

impl Inner {
    pub(crate) async fn job(&self, key: &KeyName) -> Result<Option<FoundJob>, KeyError> {
        let path = self.store.path(JOB, &[key.as_str().as_bytes()]);
        let Some(found) = self.store.get(&path).await? else { return Ok(None) };
        let record: JobRecord = decode(record::WHAT, &found.value)?;
        if record.key != key.as_str() {
            return Err(KeyError::Corrupt(record::WHAT));
        }
        Ok(Some(FoundJob { revision: found.revision, record }))
    }

    /// The job with what the counts say now; of one that is over, with what was left then.
    async fn job_view(
        &self,
        snapshot: &KeySnapshot,
        record: &JobRecord,
    ) -> Result<RewrapJob, KeyError> {
        let mut job = record.view()?;
        if matches!(job.state, RewrapState::Running | RewrapState::NotStarted) {
            (job.remaining, job.left) = self.waiting(snapshot, job.target).await?;
            job.per_second = self.rewraps.per_second(&snapshot.name);
        }
        Ok(job)
    }

    /// How many data keys wait for a rewrap to this version, and which are left where they are.
    pub(crate) async fn waiting(
        &self,
        snapshot: &KeySnapshot,
        target: VersionNumber,
    ) -> Result<(u64, Vec<LeftBehind>), KeyError> {
        let totals = self.totals(&snapshot.name).await?;
        let (mut remaining, mut left) = (0u64, Vec::new());
        for (number, totals) in totals.range(..target) {
            let cell = snapshot.versions.get(number);
            let cell = cell.ok_or(KeyError::Corrupt("counts of a version that does not exist"))?;
            match (totals.data_keys, cell.state()) {
                (0, _) => {}
                (data_keys, KeyVersionState::Enabled) => {
                    remaining = remaining.saturating_add(data_keys);
                }
                (data_keys, state) => left.push(LeftBehind { version: *number, state, data_keys }),
            }
        }
        Ok((remaining, left))
    }

    async fn start_rewrap(
        self: &Arc<Self>,
        permit: &Permit,
        change: KeyChange,
        max_per_second: u32,
    ) -> Result<RewrapStarted, KeyError> {
        self.ledger.ready()?;
        let _one_at_a_time = self.changes.lock().await;
        let digest = change.rewrap_digest(max_per_second);
        let request = match self.asked(permit, change.request_id.as_ref(), digest).await? {
            Asked::Before(_) => return self.repeated_rewrap(&change.key).await,
            Asked::New(request) => request,
        };
        let snapshot = self.check_etag(&change)?;
        let before = self.job(&change.key).await?;
        if let Some(found) = &before
            && found.record.state()? == RewrapState::Running
        {
            let started_at = Timestamp::from_unix_nanos(found.record.started_at);
            return Err(KeyError::RewrapRunning { key: change.key, started_at });
        }
        let target = snapshot.primary.version.number;
        snapshot.primary.usable()?;
        let mut record =
            JobRecord::new(&change.key, target, self.clock.now(), max_per_second, permit);
        if change.validate_only {
            record.set_state(RewrapState::NotStarted);
            let job = self.job_view(&snapshot, &record).await?;
            return Ok(RewrapStarted { job, receipt: None });
        }
        let job = self.job_view(&snapshot, &record).await?;
        let by = ChangedBy::Caller(permit, &change.reason);
        let at = Timestamp::from_unix_nanos(record.started_at);
        let event = ChangeEvent::new(by, at, Kind::RewrapStarted, Some(&change.key))
            .version(target.get())
            .count(job.remaining);
        let fill = |txn: Txn| {
            let key = change.key.as_str().as_bytes();
            let path = self.store.path(JOB, &[key]);
            let txn = match &before {
                None => txn.absent(path.clone()),
                Some(found) => txn.at(path.clone(), found.revision),
            };
            let txn = txn
                .at(self.store.path(PRIMARY, &[key]), snapshot.primary_revision)
                .put(path, record.encode_to_vec());
            request.answer(txn, at, &())
        };
        let committed = self.ledger.commit(event, fill).await?;
        self.run(&record)?;
        Ok(RewrapStarted { job, receipt: Some(committed.receipt) })
    }

    /// Lets the job go on in a task of its own.
    fn run(self: &Arc<Self>, record: &JobRecord) -> Result<(), KeyError> {
        let key = record.key()?;
        let (stop, stopped) = watch::channel(false);
        let moved = Arc::<AtomicU64>::default();
        let run = Run::new(Arc::clone(self), record, Arc::clone(&moved), stopped)?;
        // The task takes itself out at its end: not before it is in.
        let mut running = self.rewraps.running.lock();
        let task = tokio::spawn(run.run_to_end());
        running.insert(key, Running { stop, moved, since: Instant::now(), task });
        Ok(())
    }

    async fn cancel_rewrap(
        self: &Arc<Self>,
        permit: &Permit,
        change: KeyChange,
    ) -> Result<RewrapStarted, KeyError> {
        self.ledger.ready()?;
        let _one_at_a_time = self.changes.lock().await;
        let digest = change.rewrap_digest(0);
        let request = match self.asked(permit, change.request_id.as_ref(), digest).await? {
            Asked::Before(_) => return self.repeated_rewrap(&change.key).await,
            Asked::New(request) => request,
        };
        let snapshot = self.check_etag(&change)?;
        let found = self.running_job(&change.key).await?;
        if change.validate_only {
            let job = self.job_view(&snapshot, &found.record).await?;
            return Ok(RewrapStarted { job, receipt: None });
        }
        if let Some(running) = self.rewraps.take(&change.key) {
            running.stop().await;
        }
        // It may have come to its end meanwhile.
        let found = self.running_job(&change.key).await?;
        let by = ChangedBy::Caller(permit, &change.reason);
        match self.end_job(&found, by, RewrapState::Cancelled, "", Some(request)).await {
            Ok((job, receipt)) => Ok(RewrapStarted { job, receipt: Some(receipt) }),
            Err(error) => {
                // It was not cancelled, so it goes on.
                self.run(&found.record)?;
                Err(error)
            }
        }
    }

    /// The answer to a request that was answered before: the job as it is now.
    async fn repeated_rewrap(&self, key: &KeyName) -> Result<RewrapStarted, KeyError> {
        let snapshot = self.registry.key(key)?;
        let found = self.job(key).await?.ok_or(KeyError::RewrapNotFound)?;
        let job = self.job_view(&snapshot, &found.record).await?;
        Ok(RewrapStarted { job, receipt: None })
    }

    async fn running_job(&self, key: &KeyName) -> Result<FoundJob, KeyError> {
        let found = self.job(key).await?.ok_or(KeyError::RewrapNotFound)?;
        match found.record.state()? {
            RewrapState::Running => Ok(found),
            state => Err(KeyError::RewrapNotRunning { state }),
        }
    }

    /// Writes that a job is over, with what is left.
    pub(crate) async fn end_job(
        &self,
        found: &FoundJob,
        by: ChangedBy<'_>,
        state: RewrapState,
        why: &str,
        request: Option<NewRequest>,
    ) -> Result<(RewrapJob, Receipt), KeyError> {
        let key = found.record.key()?;
        let snapshot = self.registry.key(&key)?;
        let target = found.record.target()?;
        let (remaining, left) = self.waiting(&snapshot, target).await?;
        let mut record = found.record.clone();
        let now = self.clock.now();
        record.end(state, now, remaining, &left, why);
        let event = ChangeEvent::new(by, now, Kind::RewrapEnded, Some(&key))
            .version(target.get())
            .count(record.moved)
            .note(&record.ending());
        let fill = |txn: Txn| {
            let path = self.store.path(JOB, &[key.as_str().as_bytes()]);
            let txn = txn.at(path.clone(), found.revision).put(path, record.encode_to_vec());
            match request {
                Some(request) => request.answer(txn, now, &()),
                None => txn,
            }
        };
        let committed = self.ledger.commit(event, fill).await?;
        Ok((record.view()?, committed.receipt))
    }
}
