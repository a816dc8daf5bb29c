//! The job's way from its beginning, or from where the last process left it, to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fieldseal_audit::{ChangedBy, JournalError};
use fieldseal_model::{Action, KeyName, Partition, VersionNumber};
use fieldseal_store::{StoreError, TxnError};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::RewrapState;
use super::moves::{Batch, Committed, Versions};
use super::record::JobRecord;
use super::scan::{Chain, Page};
use crate::error::KeyError;
use crate::keys::Inner;

/// Partitions that are read, wrapped and committed together. Fewer cost more switches between
/// threads, more hold a processor for longer while callers wait for it.
const WAVE: usize = 256;
/// Waves on their way: one is read and wrapped while the other is written.
const WAVES: usize = 2;
/// Data keys that a wave should not have more of.
const WAVE_DATA_KEYS: usize = 1024;
/// How often the whole is scanned before it counts as failed.
const SCANS: usize = 5;
/// How often a partition that others change too is looked at again within a scan.
const LOOKS: usize = 200;
/// How long it waits when log or store cannot be written.
const PAUSE: Duration = Duration::from_millis(500);

/// A rewrap that runs.
pub(super) struct Run {
    pub(super) inner: Arc<Inner>,
    pub(super) key: KeyName,
    pub(super) target: VersionNumber,
    pub(super) started_at: i64,
    /// The partition up to which everything was looked at.
    pub(super) cursor: Mutex<Option<Partition>>,
    max_per_second: u32,
    moved: Arc<AtomicU64>,
    since: Instant,
    stopped: watch::Receiver<bool>,
}

/// Why a run is over.
enum Over {
    /// It is complete.
    Complete,
    /// It was told to stop, or the process ends: somebody else writes how it ended, or takes it up.
    Stopped,
    /// It cannot go on.
    Failed(String),
}

/// What a wave was: the next one is made accordingly.
struct Wave {
    last: Option<Partition>,
    partitions: usize,
    data_keys: usize,
}

impl Run {
    pub(super) fn new(
        inner: Arc<Inner>,
        record: &JobRecord,
        moved: Arc<AtomicU64>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, KeyError> {
        let cursor = record.cursor.as_deref().map(Partition::parse).transpose();
        let cursor = cursor.map_err(|_| KeyError::Corrupt(super::record::WHAT))?;
        Ok(Self {
            key: record.key()?,
            target: record.target()?,
            started_at: record.started_at,
            cursor: Mutex::new(cursor),
            max_per_second: record.max_per_second,
            moved,
            since: Instant::now(),
            stopped,
            inner,
        })
    }

    /// Runs until it is over, and writes how it ended.
    pub(super) async fn run_to_end(self) {
        let (state, why) = match self.scans().await {
            Ok(Over::Complete) => (RewrapState::Done, String::new()),
            Ok(Over::Failed(why)) => (RewrapState::Failed, why),
            Ok(Over::Stopped) => return,
            Err(error) if is_the_end(&error) => return,
            Err(error) => (RewrapState::Failed, error.to_string()),
        };
        loop {
            match self.end(state, &why).await {
                Ok(()) => break,
                Err(error) if is_the_end(&error) => return,
                Err(error) => {
                    tracing::warn!(%error, "the end of a rewrap is not written yet");
                    if self.pause().await.is_err() {
                        return;
                    }
                }
            }
        }
        self.inner.rewraps.forget(&self.key, &self.moved);
    }

    async fn end(&self, state: RewrapState, why: &str) -> Result<(), KeyError> {
        let Some(found) = self.inner.job(&self.key).await? else { return Ok(()) };
        let by = ChangedBy::Itself(Action::RewrapDataKeys, "rewrap");
        let (job, _) = self.inner.end_job(&found, by, state, why, None).await?;
        let (key, moved) = (self.key.as_str(), job.moved);
        match state {
            RewrapState::Failed => {
                tracing::error!(event = "rewrap_failed", key, moved, why, "a rewrap failed");
            }
            _ => tracing::info!(event = "rewrap_ended", key, moved, "a rewrap is complete"),
        }
        Ok(())
    }

    /// Scans until the counts say that nothing is left. New data keys are made under the primary
    /// version only, guarded by the pointer to it: so whatever the versions before the target wrap
    /// was there when the rewrap began, and once their counts are zero they stay zero.
    async fn scans(&self) -> Result<Over, KeyError> {
        for _ in 0..SCANS {
            if let Some(over) = self.scan().await? {
                return Ok(over);
            }
            *self.cursor.lock() = None;
            let snapshot = self.inner.registry.key(&self.key)?;
            let (remaining, _) = self.inner.waiting(&snapshot, self.target).await?;
            if remaining == 0 {
                return Ok(Over::Complete);
            }
        }
        let snapshot = self.inner.registry.key(&self.key)?;
        let (remaining, _) = self.inner.waiting(&snapshot, self.target).await?;
        Ok(Over::Failed(format!(
            "after {SCANS} scans the counts say that {remaining} data keys are left, and no scan \
             found them"
        )))
    }

    /// Goes through the partitions once, from the cursor on.
    async fn scan(&self) -> Result<Option<Over>, KeyError> {
        let mut waves = FuturesOrdered::<BoxFuture<'_, _>>::new();
        let mut next = Some(self.cursor.lock().clone());
        let (mut size, mut failed) = (self.largest_wave(), None);
        loop {
            while let Some(after) = next.take_if(|_| waves.len() < WAVES) {
                // Told to stop, it begins no other wave.
                let Some(page) = self.next_page(after.as_ref(), size).await? else { break };
                next = page.partitions.last().cloned().filter(|_| page.is_full).map(Some);
                waves.push_back(self.wave(page).boxed());
            }
            // What is on its way comes to its end, whatever happens to another wave.
            match waves.next().await {
                None => break,
                Some(Ok(Some(wave))) => {
                    if failed.is_none() {
                        *self.cursor.lock() = wave.last;
                    }
                    let each = wave.data_keys.checked_div(wave.partitions).unwrap_or(1).max(1);
                    size = (WAVE_DATA_KEYS / each).clamp(1, self.largest_wave());
                }
                Some(Ok(None)) => next = None,
                Some(Err(error)) => {
                    next = None;
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None if *self.stopped.borrow() => Ok(Some(Over::Stopped)),
            None => Ok(None),
        }
    }

    async fn next_page(
        &self,
        after: Option<&Partition>,
        limit: usize,
    ) -> Result<Option<Page>, KeyError> {
        if self.rate().await.is_err() {
            return Ok(None);
        }
        self.patiently(|| self.inner.partitions(&self.key, after, limit)).await
    }

    /// A tenth of a second's worth where there is a limit.
    fn largest_wave(&self) -> usize {
        match self.max_per_second {
            0 => WAVE,
            limit => (limit as usize / 10).clamp(1, WAVE),
        }
    }

    /// Moves what a page's partitions have to move; `None` if it was told to stop.
    async fn wave(&self, page: Page) -> Result<Option<Wave>, KeyError> {
        let (last, partitions) = (page.partitions.last().cloned(), page.partitions.len());
        let names = page.partitions.clone();
        let chains = match self.inner.chains(&self.key, page).await {
            Ok(chains) => chains,
            Err(error) if may_pass(&error) => {
                let again = || self.inner.chains_of(&self.key, names.clone());
                let Some(chains) = self.patiently(again).await? else { return Ok(None) };
                chains
            }
            Err(error) => return Err(error),
        };
        let data_keys = chains.iter().map(|chain| chain.data_keys.len()).sum();
        let mut again = self.moved(chains, false).await?;
        // One by one, because who changes a partition all the time holds up no other.
        for _ in 0..LOOKS {
            if again.is_empty() {
                break;
            }
            if *self.stopped.borrow() {
                return Ok(None);
            }
            let look = || self.inner.chains_of(&self.key, again.clone());
            let Some(chains) = self.patiently(look).await? else { return Ok(None) };
            again = self.moved(chains, true).await?;
        }
        // What is left even now is found by the next scan.
        Ok(Some(Wave { last, partitions, data_keys }))
    }

    /// Commits what these partitions have to move, and gives back what is to be looked at again.
    async fn moved(&self, chains: Vec<Chain>, alone: bool) -> Result<Vec<Partition>, KeyError> {
        let snapshot = self.inner.registry.key(&self.key)?;
        let versions = Versions::of(&snapshot, self.target)?;
        let batches = self.pack(chains, &versions, alone).await?;
        let committing = batches.into_iter().map(|batch| self.commit_patiently(batch, &versions));
        let mut again = Vec::new();
        for committed in join_all(committing).await {
            let Committed { moved, again: more } = committed?;
            self.moved.fetch_add(moved, Ordering::Relaxed);
            self.inner.rewraps.moved.fetch_add(moved, Ordering::Relaxed);
            again.extend(more);
        }
        Ok(again)
    }

    /// Where log or store cannot be written for now, its partitions are looked at again later.
    async fn commit_patiently(
        &self,
        batch: Batch,
        versions: &Versions,
    ) -> Result<Committed, KeyError> {
        let partitions = batch.partitions();
        match self.commit(batch, versions).await {
            Err(error) if may_pass(&error) => {
                tracing::debug!(%error, "a rewrap waits");
                // Told to stop: the caller looks, too.
                let _stopped = self.pause().await;
                Ok(Committed { moved: 0, again: partitions })
            }
            other => other,
        }
    }

    /// Tries again what may pass; `None` if it was told to stop.
    async fn patiently<T, F: Future<Output = Result<T, KeyError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<Option<T>, KeyError> {
        loop {
            match attempt().await {
                Ok(done) => return Ok(Some(done)),
                Err(error) if may_pass(&error) => {
                    if self.pause().await.is_err() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits a moment, or until it was told to stop.
    async fn pause(&self) -> Result<(), Stopped> {
        self.sleep_until(Instant::now() + PAUSE).await
    }

    /// Keeps to the rate.
    async fn rate(&self) -> Result<(), Stopped> {
        let moved = self.moved.load(Ordering::Relaxed);
        let due = match self.max_per_second {
            0 => Duration::ZERO,
            limit => Duration::from_secs_f64(moved as f64 / f64::from(limit)),
        };
        self.sleep_until(self.since + due).await
    }

    async fn sleep_until(&self, at: Instant) -> Result<(), Stopped> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            biased;
            // An error: whoever could stop it is gone, and so is the process.
            _ = stopped.wait_for(|stop| *stop) => Err(Stopped),
            () = tokio::time::sleep_until(at.into()) => Ok(()),
        }
    }
}

/// It was told to stop.
struct Stopped;

/// Trouble that passes by itself or when an operator has done something.
fn may_pass(error: &KeyError) -> bool {
    match error {
        KeyError::Busy | KeyError::Store(StoreError::Busy | StoreError::Io(_)) => true,
        KeyError::Journal(error) => !matches!(error, JournalError::Inconsistent),
        KeyError::Txn(error) => {
            matches!(error, TxnError::Busy | TxnError::NoSpace | TxnError::Missing)
        }
        _ => false,
    }
}

/// The process ends, or cannot write any more until it is started again.
fn is_the_end(error: &KeyError) -> bool {
    match error {
        KeyError::Stopping | KeyError::Unacknowledged | KeyError::Store(StoreError::Closed) => true,
        KeyError::Txn(error) => {
            matches!(error, TxnError::Closed | TxnError::Broken(_) | TxnError::Indeterminate(_))
        }
        _ => false,
    }
}
