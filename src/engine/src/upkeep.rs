//! What goes on beside the calls: the scrub of the store, and its generations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use fieldseal_audit::SystemEvent;
use fieldseal_keys::ScrubReport;
use fieldseal_model::Timestamp;
use fieldseal_store::{Generation, Generations, Store, StoreError};
use parking_lot::Mutex;

use crate::engine::Engine;

/// Generations that are kept.
const KEPT: usize = 3;
/// Bytes of what is overwritten while one is written that are kept for it.
const KEPT_BYTES: usize = 32 * 1024 * 1024;
/// How long until what was given up because too much was written is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// How often what is done. `None`: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// The scrub; the first is right after the start.
    pub scrub_every: Option<Duration>,
    /// A generation; the first is right after the start, if there is none or the newest is older.
    pub generation_every: Option<Duration>,
}

/// What the scrub says of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScrubState {
    /// None is finished since the start.
    Pending,
    /// The last one found nothing.
    Clean(Scrubbed),
    /// The last one found something.
    Damaged(Scrubbed),
}

/// A scrub that is finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// When it was.
    pub at: Timestamp,
    /// What it found.
    pub report: Arc<ScrubReport>,
}

#[derive(Clone, Copy)]
enum Work {
    Scrub,
    Generation,
}

/// What an engine remembers of its upkeep.
#[derive(Default)]
pub(crate) struct Kept {
    scrubbed: Mutex<Option<Scrubbed>>,
    scrubs: AtomicU64,
    /// One pass over the whole store after the other.
    turn: tokio::sync::Mutex<()>,
}

impl Engine {
    /// What the scrub says of the store.
    #[must_use]
    pub fn scrub_state(&self) -> ScrubState {
        match self.inner.upkeep.scrubbed.lock().clone() {
            None => ScrubState::Pending,
            Some(scrubbed) if scrubbed.report.findings() == 0 => ScrubState::Clean(scrubbed),
            Some(scrubbed) => ScrubState::Damaged(scrubbed),
        }
    }

    /// How many scrubs were finished since the start.
    #[must_use]
    pub fn scrubs(&self) -> u64 {
        self.inner.upkeep.scrubs.load(Ordering::Relaxed)
    }

    /// Whether a scrub found more than what belongs to single values.
    #[must_use]
    pub fn is_unreliable(&self) -> bool {
        self.inner.upkeep.scrubbed.lock().as_ref().is_some_and(|last| last.report.is_serious())
    }

    /// Opens and checks every record of the store. What it finds is an audit record, a log line and
    /// a state, never a panic.
    ///
    /// # Errors
    /// If it could not come to its end.
    pub async fn scrub(&self) -> Result<Scrubbed, StoreError> {
        let _turn = self.inner.upkeep.turn.lock().await;
        let began = Instant::now();
        let report = Arc::new(self.inner.keys.scrub().await?);
        let at = self.inner.clock.now();
        let (findings, seconds) = (report.findings(), began.elapsed().as_secs_f64());
        let (records, data_keys) = (report.records, report.data_keys);
        if findings == 0 {
            tracing::info!(
                event = "store_scrubbed",
                records,
                data_keys,
                seconds,
                "every record of the store is whole"
            );
        } else {
            let found = report.to_string();
            tracing::error!(
                event = "scrub_found",
                findings,
                found,
                records,
                data_keys,
                seconds,
                "the store is damaged; `fieldseal doctor` says more"
            );
            let event = SystemEvent::scrub_found(at, findings, &found);
            if let Err(error) = self.inner.journal.record_system(event).await {
                tracing::error!(%error, "what the scrub found is not on record");
            }
        }
        let scrubbed = Scrubbed { at, report };
        *self.inner.upkeep.scrubbed.lock() = Some(scrubbed.clone());
        self.inner.upkeep.scrubs.fetch_add(1, Ordering::Relaxed);
        Ok(scrubbed)
    }

    /// Writes a generation of the store as it is now, reads it again, and keeps the newest three. A
    /// store in memory has none.
    ///
    /// # Errors
    /// If it could not be written or does not read back: those before are still there.
    pub async fn make_generation(&self) -> Result<Option<Generation>, StoreError> {
        self.make_and_keep(KEPT).await
    }

    /// The same, and removes all older ones: they hold what was erased.
    ///
    /// # Errors
    /// As [`Engine::make_generation`]. Then the older ones are still there.
    pub async fn renew_generations(&self) -> Result<Option<Generation>, StoreError> {
        self.make_and_keep(1).await
    }

    async fn make_and_keep(&self, newest: usize) -> Result<Option<Generation>, StoreError> {
        let Some(all) = self.inner.generations.clone() else { return Ok(None) };
        let _turn = self.inner.upkeep.turn.lock().await;
        let at = self.inner.clock.now().unix_nanos();
        make_and_keep(all, &self.inner.store, at, newest).await.map(Some)
    }

    /// When the newest generation was made, if there is one.
    #[must_use]
    pub fn newest_generation(&self) -> Option<SystemTime> {
        self.inner.generations.as_ref().and_then(|all| all.newest_time().ok().flatten())
    }

    /// Scrubs and makes generations for as long as it is polled.
    pub async fn keep_up(&self, upkeep: Upkeep) {
        let first = self.until_next_generation(upkeep.generation_every);
        tokio::join!(
            self.every(upkeep.scrub_every, Duration::ZERO, Work::Scrub),
            self.every(upkeep.generation_every, first, Work::Generation),
        );
    }

    fn until_next_generation(&self, every: Option<Duration>) -> Duration {
        let age = self.newest_generation().and_then(|made| made.elapsed().ok());
        age.and_then(|age| every?.checked_sub(age)).unwrap_or_default()
    }

    async fn every(&self, period: Option<Duration>, mut wait: Duration, work: Work) {
        let Some(period) = period else { return };
        loop {
            tokio::time::sleep(wait).await;
            let done = match work {
                Work::Scrub => self.scrub().await.map(drop),
                Work::Generation => self.make_generation().await.map(drop),
            };
            wait = match done {
                Ok(()) => period,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(event = "upkeep_failed", %error, "it is tried again");
                    AGAIN.min(period)
                }
            };
        }
    }
}

/// Writes a generation of the store as it is now, and keeps the newest so many.
///
/// # Errors
/// As [`Engine::make_generation`].
pub(crate) async fn make_and_keep(
    all: Generations,
    store: &Store,
    at: i64,
    newest: usize,
) -> Result<Generation, StoreError> {
    let snapshot = store.snapshot(KEPT_BYTES).await?;
    let work = move || {
        let made = all.make(snapshot, at)?;
        all.keep(newest)?;
        Ok::<_, StoreError>(made)
    };
    let made = tokio::task::spawn_blocking(work).await;
    let unfinished = || StoreError::Corrupt("a generation was not finished".to_owned());
    let made = made.map_err(|_| unfinished())??;
    let Generation { number, revision, entries, .. } = made;
    tracing::info!(
        event = "generation_made",
        number,
        revision,
        records = entries,
        "wrote a generation of the store"
    );
    Ok(made)
}

/// The generations of a store on disk.
pub(crate) fn generations(settings: &crate::boot::Settings) -> Option<Generations> {
    match settings.store {
        crate::boot::StoreBackend::Sled(_) => Some(Generations::new(settings.generations())),
        crate::boot::StoreBackend::Memory => None,
    }
}
