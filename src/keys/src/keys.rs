//! The floor's front: finds keys and data keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fieldseal_crypto::ServiceKeyKind;
use fieldseal_crypto::token::TokenKey;
use fieldseal_crypto::wrap::{self, DataKeyId};
use fieldseal_model::{Action, Clock, InstallationId, KeyId, KeyName, KeyVersionState};
use fieldseal_policy::Permit;
use fieldseal_store::{Path, Store, StoreError};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::approvals::Approving;
use crate::cache::{DataKeyCache, PartitionOf};
use crate::data_key::{DataKeyEntry, DataKeyHandle, Owner, Unusable};
use crate::eras::{CallGuard, Eras};
use crate::error::KeyError;
use crate::keyring::Keyring;
use crate::ledger::Ledger;
use crate::partitions::PartitionCells;
use crate::records::{DATA_KEY, DataKeyFacts};
use crate::registry::{KeyView, Registry};
use crate::rewrap::Rewraps;
use crate::root::{self, Checked};
use crate::scrub::{Class, ScrubReport};
use crate::seen::Seen;
use crate::shredding;

/// Partitions are made one at a time within each of so many groups.
const STRIPES: usize = 256;
/// Data keys and changes that may be on their way at the same time. They go on when their callers
/// are gone, so the limits of calls do not hold them back.
const UNDERWAY: usize = 4096;

/// How keys are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most data keys in memory, and most partitions whose newest data key is remembered.
    pub cached_data_keys: usize,
    /// How long a data key stays in memory before it is read again.
    pub cache_lifetime: Duration,
    /// How long a shredded partition can be restored, where the caller names no window.
    pub shred_window: Duration,
    /// The shortest window that a caller may name.
    pub shred_window_least: Duration,
    /// What needs a second principal.
    pub approving: Approving,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cached_data_keys: 16_384,
            cache_lifetime: Duration::from_secs(3600),
            shred_window: Duration::from_secs(7 * 24 * 3600),
            shred_window_least: Duration::from_secs(24 * 3600),
            approving: Approving::default(),
        }
    }
}

/// Figures for the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Keys.
    pub keys: usize,
    /// Data keys in memory.
    pub cached_data_keys: usize,
    /// How many data keys can be in memory at most.
    pub cached_data_keys_limit: usize,
    /// Look-ups of data keys that found one in memory.
    pub cache_hits: u64,
    /// Look-ups that did not.
    pub cache_misses: u64,
    /// Data keys made since the start.
    pub data_keys_made: u64,
    /// Shredded partitions whose data keys are still there.
    pub partitions_shredding: usize,
    /// Rewraps that run.
    pub rewraps: usize,
    /// Data keys that rewraps moved since the start.
    pub data_keys_rewrapped: u64,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) tokens: TokenKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    pub(crate) cache: DataKeyCache,
    pub(crate) eras: Eras,
    pub(crate) partitions: PartitionCells,
    /// Rewraps that run.
    pub(crate) rewraps: Rewraps,
    pub(crate) seen: Seen,
    /// The last scrub found that the counts of key versions are wrong.
    pub(crate) doubtful_counts: AtomicBool,
    /// Some request waited for approval when that was looked at last.
    pub(crate) approvals_wait: AtomicBool,
    /// Data keys made since the start.
    pub(crate) made: AtomicU64,
    /// Changes of keys happen one at a time.
    pub(crate) changes: tokio::sync::Mutex<()>,
    pub(crate) stripes: Vec<tokio::sync::Mutex<()>>,
    /// What is due is done one after the other.
    pub(crate) due: tokio::sync::Mutex<()>,
    /// Says that something may be due earlier than expected.
    pub(crate) wake: Notify,
    /// The record up to which the records of requests were looked at.
    pub(crate) requests_up_to: Mutex<Option<Path>>,
    underway: Arc<Semaphore>,
}

/// The keys of an installation. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    pub(crate) inner: Arc<Inner>,
}

impl Keys {
    /// Reads every key and version. Data keys are read when they are used.
    ///
    /// # Errors
    /// If the store cannot be read or contradicts itself or the keyring.
    pub async fn open(
        settings: Settings,
        store: Store,
        ledger: Ledger,
        keyring: Keyring,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyError> {
        let tokens = TokenKey::new(keyring.service(ServiceKeyKind::Token)?);
        let registry = Registry::load(&store, &keyring).await?;
        let partitions = shredding::load(&store).await?;
        let seen = Seen::load(&store, Arc::clone(&clock)).await?;
        let cache = DataKeyCache::new(settings.cached_data_keys, settings.cache_lifetime);
        let stripes = (0..STRIPES).map(|_| tokio::sync::Mutex::default()).collect();
        let changes = tokio::sync::Mutex::default();
        let inner = Inner {
            settings,
            store,
            ledger,
            keyring: Arc::new(keyring),
            tokens,
            clock,
            registry,
            cache,
            eras: Eras::default(),
            partitions,
            rewraps: Rewraps::default(),
            seen,
            doubtful_counts: AtomicBool::new(false),
            approvals_wait: AtomicBool::new(false),
            made: AtomicU64::new(0),
            changes,
            stripes,
            due: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            requests_up_to: Mutex::default(),
            underway: Arc::new(Semaphore::new(UNDERWAY)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Marks the beginning of a call that uses keys. It holds the guard until its answer has left.
    #[must_use]
    pub fn enter(&self) -> CallGuard {
        self.inner.eras.enter()
    }

    /// One key.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`.
    pub fn key(&self, permit: &Permit, name: &KeyName) -> Result<KeyView, KeyError> {
        if !permit.covers_key(Action::GetKey, name) {
            return Err(KeyError::NotPermitted);
        }
        self.inner.registry.key(name).map(|snapshot| self.inner.view(&snapshot))
    }

    /// Every key, by name.
    ///
    /// # Errors
    /// `NotPermitted`.
    pub fn list(&self, permit: &Permit) -> Result<Vec<KeyView>, KeyError> {
        if permit.action() != Action::ListKeys {
            return Err(KeyError::NotPermitted);
        }
        let mut views: Vec<_> =
            self.inner.registry.all().iter().map(|key| self.inner.view(key)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(views)
    }

    /// Opens every KEK and every data key, and changes nothing.
    ///
    /// # Errors
    /// If a record of the store does not open or parse. A key that does not open is counted.
    pub async fn check(&self) -> Result<Checked, KeyError> {
        root::check(&self.inner.store, &self.inner.keyring).await
    }

    /// The keys whose primary version seals and opens, by name.
    #[must_use]
    pub fn enabled(&self) -> Vec<KeyName> {
        let keys = self.inner.registry.all();
        let enabled = keys.iter().filter(|key| key.primary.state() == KeyVersionState::Enabled);
        let mut names: Vec<KeyName> = enabled.map(|key| key.name.clone()).collect();
        names.sort();
        names
    }

    /// The installation's id.
    #[must_use]
    pub fn installation(&self) -> InstallationId {
        self.inner.keyring.installation()
    }

    /// True if a key of this name exists.
    #[must_use]
    pub fn exists(&self, name: &KeyName) -> bool {
        self.inner.registry.key(name).is_ok()
    }

    /// The data key of this id, from memory or from the store.
    ///
    /// # Errors
    /// `DataKeyNotFound`, `VersionDisabled`, `VersionDestroyed`, `PartitionShredded` (of the data
    /// key's own partition), or the store's trouble. Nobody but a caller who states the key and the
    /// partition of the data key may learn which.
    pub async fn data_key(&self, id: KeyId) -> Result<DataKeyHandle, Unusable> {
        self.inner.usable_entry(id).await.map(DataKeyHandle)
    }

    /// The data key of this id if it is in memory.
    #[must_use]
    pub fn cached_data_key(&self, id: KeyId) -> Option<DataKeyHandle> {
        self.inner.remembered(id).map(DataKeyHandle)
    }

    /// What turns rows and partitions into the tokens that stand in the audit log.
    #[must_use]
    pub fn tokens(&self) -> &TokenKey {
        &self.inner.tokens
    }

    /// True if the version under which the data key was made is not the primary one of its key any
    /// more: a rewrap changes nothing about that, because it leaves the ciphertexts as they are.
    #[must_use]
    pub fn is_old(&self, data_key: &DataKeyHandle) -> bool {
        let entry = &*data_key.0;
        let primary = self.inner.registry.key(&entry.key).map(|s| s.primary.version.number);
        primary.is_ok_and(|number| number != entry.made_under)
    }

    /// True if a data key of this id exists here.
    ///
    /// # Errors
    /// The store's trouble.
    pub async fn is_sealed_here(&self, id: KeyId) -> Result<bool, KeyError> {
        match self.inner.entry(id).await {
            Ok(_)
            | Err(
                KeyError::VersionDisabled
                | KeyError::VersionDestroyed
                | KeyError::PartitionShredded,
            ) => Ok(true),
            Err(KeyError::DataKeyNotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Checks every record of the store, with half of the time left to others.
    ///
    /// # Errors
    /// As [`crate::scrub`].
    pub async fn scrub(&self) -> Result<ScrubReport, StoreError> {
        let report = crate::scrub(&self.inner.store, &self.inner.keyring, 1).await?;
        let doubtful = report.has(Class::Counts);
        self.inner.doubtful_counts.store(doubtful, Ordering::Release);
        Ok(report)
    }

    /// Lets go of the store, once that is closed.
    pub async fn finished(&self) {
        self.inner.ledger.finished().await;
    }

    /// Figures for the status.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (cache_hits, cache_misses) = self.inner.cache.hits_and_misses();
        Statistics {
            keys: self.inner.registry.len(),
            cached_data_keys: self.inner.cache.len(),
            cached_data_keys_limit: self.inner.settings.cached_data_keys,
            cache_hits,
            cache_misses,
            data_keys_made: self.inner.made.load(Ordering::Relaxed),
            partitions_shredding: self.inner.partitions.waiting_count(),
            rewraps: self.inner.rewraps.running(),
            data_keys_rewrapped: self.inner.rewraps.moved(),
        }
    }
}

impl Inner {
    /// Runs what is finished even if its caller goes away.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, KeyError>> + Send + 'static,
    ) -> Result<T, KeyError> {
        let place = Arc::clone(&self.underway).try_acquire_owned().map_err(|_| KeyError::Busy)?;
        let task = tokio::spawn(async move {
            let _place = place;
            work.await
        });
        task.await.map_err(|_| KeyError::Stopping)?
    }

    pub(crate) async fn entry(&self, id: KeyId) -> Result<Arc<DataKeyEntry>, KeyError> {
        self.usable_entry(id).await.map_err(|unusable| unusable.error)
    }

    async fn usable_entry(&self, id: KeyId) -> Result<Arc<DataKeyEntry>, Unusable> {
        if let Some(entry) = self.remembered(id) {
            return Ok(entry);
        }
        self.cache.load(id, self.read_entry(id)).await
    }

    /// The entry in memory, if it may be used. One whose version or partition may not be used is read
    /// again: the data key may have moved under another version meanwhile.
    fn remembered(&self, id: KeyId) -> Option<Arc<DataKeyEntry>> {
        let entry = self.cache.by_id(id, self.clock.now())?;
        if entry.version.state() == KeyVersionState::Enabled && entry.cell.is_open() {
            return Some(entry);
        }
        self.cache.forget(id);
        None
    }

    /// A data key's record, checked to be under its own id, and its revision.
    pub(crate) async fn facts(&self, id: KeyId) -> Result<DataKeyFacts, KeyError> {
        let path = self.store.path(DATA_KEY, &[id.as_bytes()]);
        let found = self.store.get(&path).await?.ok_or(KeyError::DataKeyNotFound)?;
        let facts = DataKeyFacts::of(&found)?;
        if facts.key_id != id {
            return Err(KeyError::Corrupt("a data key under another's id"));
        }
        Ok(facts)
    }

    async fn read_entry(&self, id: KeyId) -> Result<Arc<DataKeyEntry>, Unusable> {
        let facts = self.facts(id).await.map_err(|error| Unusable { error, owner: None })?;
        let of = PartitionOf { key: facts.key.clone(), partition: facts.partition.clone() };
        self.unwrapped(facts, &of).map_err(|error| Unusable { error, owner: Some(Owner(of)) })
    }

    fn unwrapped(
        &self,
        facts: DataKeyFacts,
        of: &PartitionOf,
    ) -> Result<Arc<DataKeyEntry>, KeyError> {
        let cell = self.partitions.cell(of.clone());
        if !cell.is_open() {
            return Err(KeyError::PartitionShredded);
        }
        let snapshot = self.registry.key(&facts.key)?;
        let version = snapshot
            .versions
            .get(&facts.version)
            .cloned()
            .ok_or(KeyError::Corrupt("a data key of a version that does not exist"))?;
        let wrapping = DataKeyId {
            installation: self.keyring.installation(),
            key: &facts.key,
            version: facts.version,
            partition: &facts.partition,
            generation: facts.generation,
            key_id: facts.key_id,
        };
        let data_key = wrap::unwrap_data_key(&*version.usable()?, &wrapping, &facts.wrapped)
            .map_err(|_| KeyError::Corrupt("a data key that its version does not open"))?;
        Ok(Arc::new(DataKeyEntry {
            key_id: facts.key_id,
            key: facts.key,
            partition: facts.partition,
            created_at: facts.created_at,
            loaded_at: self.clock.now(),
            version,
            cell,
            made_under: facts.made_under,
            data_key,
        }))
    }
}
