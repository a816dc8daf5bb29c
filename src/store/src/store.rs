//! The handle on a store: paths, reads, transactions, the outbox.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use fieldseal_crypto::record::{AnchorKey, PathKey, StorageKey};
use fieldseal_model::InstallationId;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use crate::backend::Backend;
use crate::backend::memory::MemoryDisk;
use crate::backend::sled::{SledBackend, is_made};
use crate::committer::{Committer, Order};
use crate::damage::Trouble;
use crate::error::{StoreError, TxnError};
use crate::lock::{DirectoryLock, Hold};
use crate::path::{self, Kind, Path, Prefix};
use crate::rewrite::Rewrites;
use crate::stored::{OUTBOX, open_outbox, open_value};
use crate::txn::Txn;

/// The newest format of a store, and the only one so far.
pub(crate) const FORMAT: u32 = 1;
/// The store's own records begin with 0: no class of record does.
pub(crate) const FORMAT_KEY: &[u8] = b"\0format";
pub(crate) const STATE_KEY: &[u8] = b"\0state";
/// How many entries one read takes.
const PAGE: usize = 512;

/// Where a store keeps its bytes.
#[derive(Clone)]
pub enum BackendSettings {
    /// sled, in this directory.
    Sled(PathBuf),
    /// In memory.
    Memory(MemoryDisk),
}

/// How a store works.
#[derive(Clone)]
pub struct Settings {
    /// Where it keeps its bytes.
    pub backend: BackendSettings,
    /// Free bytes of its disk below which writes are refused.
    pub reserve_bytes: u64,
    /// Most transactions that wait.
    pub queue: usize,
    /// The revision that a store begins with when it is created: 0, or what an audit log that
    /// outlives a store in memory has reached.
    pub first_revision: u64,
}

impl BackendSettings {
    /// The place as an error names it.
    pub(crate) fn place(&self) -> PathBuf {
        match self {
            Self::Sled(directory) => directory.clone(),
            Self::Memory(_) => PathBuf::from("memory"),
        }
    }
}

impl Settings {
    /// sled in this directory: 64 MiB in reserve, 4,096 transactions waiting.
    #[must_use]
    pub fn sled(directory: PathBuf) -> Self {
        Self::on(BackendSettings::Sled(directory))
    }

    /// In memory.
    #[must_use]
    pub fn memory() -> Self {
        Self::on(BackendSettings::Memory(MemoryDisk::default()))
    }

    /// On this backend, with the defaults.
    #[must_use]
    pub fn on(backend: BackendSettings) -> Self {
        Self { backend, reserve_bytes: 64 * 1024 * 1024, queue: 4096, first_revision: 0 }
    }
}

/// The keys that protect a store.
pub struct Secrets {
    /// The installation: a record of another does not open.
    pub installation: InstallationId,
    /// Seals values.
    pub storage: StorageKey,
    /// Hides names.
    pub path: PathKey,
    /// Sums up.
    pub anchor: AnchorKey,
}

/// A record as it was found.
pub struct Versioned {
    /// The transaction that wrote it last.
    pub revision: u64,
    /// The value. Wiped when dropped.
    pub value: Zeroizing<Vec<u8>>,
}

/// A page of records.
pub struct RangePage {
    /// The records, in the order of their paths.
    pub entries: Vec<(Path, Versioned)>,
    /// Where the next page begins (`after`); `None` at the end.
    pub next: Option<Path>,
}

/// An event that waits for the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// The transaction it tells of: its id.
    pub revision: u64,
    /// The HMAC over the sum of the whole store before it.
    pub previous: [u8; 32],
    /// The HMAC over the sum of the whole store after it.
    pub anchor: [u8; 32],
    /// The event, as [`crate::Event`] made it.
    pub bytes: Vec<u8>,
}

/// Whether a store takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ok,
    /// Less than the reserve is free. It comes back by itself.
    NoSpace,
    /// Its files were removed or replaced. It comes back by itself if they do.
    Missing,
    /// A write or a sync failed. Only a restart helps.
    Broken(String),
    /// The database contradicts itself. No restart helps.
    Damaged(String),
}

/// Where a store is in its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last transaction.
    pub revision: u64,
    /// The HMAC over the sum of the whole store after it: another history has another one.
    pub anchor: [u8; 32],
}

/// What a store stands on.
pub(crate) struct Base {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) lock: Hold,
    pub(crate) trouble: Trouble,
}

pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) applying: Arc<RwLock<()>>,
    trouble: Trouble,
    pub(crate) copy_trouble: Arc<RwLock<Option<String>>>,
    pub(crate) is_copied: AtomicBool,
    pub(crate) reserve_bytes: u64,
    opened_at: Position,
    orders: SyncSender<Order>,
    pub(crate) rewrites: Rewrites,
    // Given up when the last handle and the committer are gone: after the backend, so it stands last.
    _lock: Hold,
}

/// A store. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl Store {
    /// Makes an empty store and opens it.
    ///
    /// # Errors
    /// `AlreadyInitialized`, `Locked`, or trouble with the directory.
    pub fn create(
        settings: Settings,
        secrets: Secrets,
        outbox: mpsc::UnboundedSender<OutboxEntry>,
    ) -> Result<Self, StoreError> {
        let base = Self::fresh(&settings)?;
        Self::found(&*base.backend, &secrets, settings.first_revision, &[0; 32])?;
        Self::start(&settings, secrets, outbox, base)
    }

    /// Opens a store that exists.
    ///
    /// # Errors
    /// `NotInitialized`, `Locked`, `FormatNewer`, `Corrupt`, or trouble with the disk.
    pub fn open(
        settings: Settings,
        secrets: Secrets,
        outbox: mpsc::UnboundedSender<OutboxEntry>,
    ) -> Result<Self, StoreError> {
        if let BackendSettings::Sled(directory) = &settings.backend
            && !is_made(directory)?
        {
            return Err(StoreError::NotInitialized(directory.clone()));
        }
        let base = Self::base(&settings)?;
        if let BackendSettings::Memory(_) = &settings.backend
            && base.backend.range(&[], None, 1)?.is_empty()
        {
            return Err(StoreError::NotInitialized(settings.backend.place()));
        }
        Self::start(&settings, secrets, outbox, base)
    }

    pub(crate) fn base(settings: &Settings) -> Result<Base, StoreError> {
        let on_sled = matches!(settings.backend, BackendSettings::Sled(_));
        let trouble = Trouble::new(on_sled);
        let (backend, lock): (Arc<dyn Backend>, Hold) = match &settings.backend {
            BackendSettings::Sled(directory) => {
                let lock = DirectoryLock::acquire(directory)?;
                let backend = SledBackend::open(directory, trouble.clone())?;
                (Arc::new(backend), Some(Arc::new(lock)))
            }
            BackendSettings::Memory(disk) => (Arc::new(disk.clone()), None),
        };
        Ok(Base { backend, lock, trouble })
    }

    pub(crate) fn start(
        settings: &Settings,
        secrets: Secrets,
        outbox: mpsc::UnboundedSender<OutboxEntry>,
        base: Base,
    ) -> Result<Self, StoreError> {
        let Base { backend, lock, trouble } = base;
        let format = backend.get(FORMAT_KEY)?;
        let format = format.ok_or_else(|| StoreError::Corrupt("no format record".into()))?;
        let found = format.as_slice().try_into().map(u32::from_le_bytes);
        let found = found.map_err(|_| StoreError::Corrupt("an unreadable format record".into()))?;
        if found != FORMAT {
            return Err(StoreError::FormatNewer { found, known: FORMAT });
        }
        let state = backend.get(STATE_KEY)?;
        let state = state.ok_or_else(|| StoreError::Corrupt("no state record".into()))?;
        let state = open_value(&secrets, STATE_KEY, &state)?;
        let acc = state.value.as_slice().try_into();
        let acc = acc.map_err(|_| StoreError::Corrupt("an unreadable state record".into()))?;
        let (secrets, applying) = (Arc::new(secrets), Arc::<RwLock<()>>::default());
        let rewrites = Rewrites::load(&*backend, &secrets)?;
        let opened_at = Position { revision: state.revision, anchor: secrets.anchor.mac(&acc) };
        let copy_trouble = Arc::<RwLock<Option<String>>>::default();
        let (orders, queue) = sync_channel(settings.queue);
        let committer = Committer {
            backend: Arc::clone(&backend),
            secrets: Arc::clone(&secrets),
            applying: Arc::clone(&applying),
            outbox,
            pending: pending(&*backend)?,
            revision: state.revision,
            acc,
            reserve_bytes: settings.reserve_bytes,
            broken: None,
            trouble: trouble.clone(),
            space: None,
            snapshots: Vec::new(),
            copy: None,
            copy_trouble: Arc::clone(&copy_trouble),
            rewrites: rewrites.clone(),
            lock: lock.clone(),
        };
        let thread = std::thread::Builder::new().name("store-commit".into());
        thread.spawn(move || committer.run(&queue))?;
        let inner = Inner {
            backend,
            secrets,
            applying,
            trouble,
            copy_trouble,
            is_copied: AtomicBool::new(false),
            reserve_bytes: settings.reserve_bytes,
            opened_at,
            orders,
            rewrites,
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The revision of the last transaction before this store was opened. Its event, and that of
    /// every one before it, is in the audit log or in the outbox.
    #[must_use]
    pub fn opened_at(&self) -> u64 {
        self.inner.opened_at.revision
    }

    /// Where it was then in its history.
    #[must_use]
    pub fn opened_position(&self) -> Position {
        self.inner.opened_at
    }

    /// Whether it takes writes. Reads go on in any case.
    #[must_use]
    pub fn health(&self) -> Health {
        if let Some(trouble) = self.inner.trouble.health() {
            return trouble;
        }
        if !self.inner.backend.is_in_place() {
            return Health::Missing;
        }
        match self.inner.backend.free_bytes() {
            Ok(Some(free)) if free < self.inner.reserve_bytes => Health::NoSpace,
            _ => Health::Ok,
        }
    }

    /// Bytes that its file system has left; `None` where that is not known or does not matter.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        self.inner.backend.free_bytes().ok().flatten()
    }

    /// The path of a record. The names do not show in it.
    #[must_use]
    pub fn path(&self, kind: Kind, parts: &[&[u8]]) -> Path {
        Path(path::encode(kind, parts, |covered| self.inner.secrets.path.hash(covered)))
    }

    /// What the paths of all records with these first parts begin with.
    #[must_use]
    pub fn prefix(&self, kind: Kind, parts: &[&[u8]]) -> Prefix {
        Prefix(self.path(kind, parts).0)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// `Corrupt` for a record that was altered or moved, or the disk's trouble.
    pub async fn get(&self, path: &Path) -> Result<Option<Versioned>, StoreError> {
        let path = path.0.clone();
        self.read(move |inner| {
            let found = inner.backend.get(&path)?;
            found.map(|stored| open_value(&inner.secrets, &path, &stored)).transpose()
        })
        .await
    }

    /// Reads at most `limit` records under `prefix`, beyond `after`.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn range(
        &self,
        prefix: &Prefix,
        after: Option<&Path>,
        limit: usize,
    ) -> Result<RangePage, StoreError> {
        let (prefix, after) = (prefix.0.clone(), after.map(|path| path.0.clone()));
        self.read(move |inner| {
            let found = inner.backend.range(&prefix, after.as_deref(), limit)?;
            let full = found.len() == limit;
            let mut entries = Vec::with_capacity(found.len());
            for (key, stored) in found {
                let value = open_value(&inner.secrets, &key, &stored)?;
                entries.push((Path(key), value));
            }
            let next = entries.last().filter(|_| full).map(|(path, _)| path.clone());
            Ok(RangePage { entries, next })
        })
        .await
    }

    /// Commits a transaction: durable once this returns its revision. A caller that goes away does
    /// not undo it.
    ///
    /// # Errors
    /// [`TxnError`]: except for `Indeterminate`, nothing was written.
    pub async fn txn(&self, txn: Txn) -> Result<u64, TxnError> {
        let (answer, result) = oneshot::channel();
        match self.inner.orders.try_send(Order::Txn(txn, answer)) {
            Ok(()) => result.await.map_err(|_| TxnError::Closed)?,
            Err(TrySendError::Full(_)) => Err(TxnError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(TxnError::Closed),
        }
    }

    /// The events that the journal may not have yet, oldest first.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn outbox(&self) -> Result<Vec<OutboxEntry>, StoreError> {
        self.read(|inner| {
            let mut entries = Vec::new();
            each(&*inner.backend, &[OUTBOX], |key, stored| {
                entries.push(open_outbox(&inner.secrets, key, stored)?);
                Ok(())
            })?;
            Ok(entries)
        })
        .await
    }

    /// Removes the events up to this revision: the journal has them.
    ///
    /// # Errors
    /// `Busy` if too much waits: they stay, and a later call removes them too. `Closed`, or the
    /// trouble of the disk.
    pub async fn outbox_done(&self, up_to: u64) -> Result<(), StoreError> {
        let (answer, result) = oneshot::channel();
        self.order(Order::OutboxDone(up_to, answer))?;
        result.await.map_err(|_| StoreError::Closed)?
    }

    pub(crate) fn order(&self, order: Order) -> Result<(), StoreError> {
        self.inner.orders.try_send(order).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Finishes what waits and takes no more. The directory is free once the last handle is dropped
    /// as well.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        let mut order = Order::Close(answer);
        // The queue may be full for a moment; the committer is emptying it.
        while let Err(TrySendError::Full(again)) = self.inner.orders.try_send(order) {
            order = again;
            tokio::task::yield_now().await;
        }
        tokio::select! {
            _closed_before = closed => {}
            // Its thread may wait for one of the database's that is gone.
            () = self.inner.trouble.damaged() => {}
        }
    }

    /// Returns once the database contradicts itself: whoever waits for the store then may wait in
    /// vain.
    pub async fn damaged(&self) {
        self.inner.trouble.damaged().await;
    }

    /// Reads leave the runtime's threads, and wait out a commit that is not durable yet.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let task = tokio::task::spawn_blocking(move || {
            let _durable = inner.applying.read();
            read(&inner)
        });
        task.await.map_err(|_| StoreError::Corrupt("a read did not finish".into()))?
    }
}

/// Hands every entry under `prefix` to `see`, a page at a time.
pub(crate) fn each(
    backend: &dyn Backend,
    prefix: &[u8],
    mut see: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = backend.range(prefix, after.as_deref(), PAGE)?;
        for (key, stored) in &page {
            see(key, stored)?;
        }
        match page.into_iter().nth(PAGE - 1) {
            Some((last, _)) => after = Some(last),
            None => return Ok(()),
        }
    }
}

fn pending(backend: &dyn Backend) -> Result<BTreeSet<u64>, StoreError> {
    let mut pending = BTreeSet::new();
    each(backend, &[OUTBOX], |key, _| {
        let revision = key.get(1..).and_then(|bytes| bytes.try_into().ok());
        let revision = revision.ok_or_else(|| StoreError::Corrupt("an outbox path".into()))?;
        pending.insert(u64::from_be_bytes(revision));
        Ok(())
    })?;
    Ok(pending)
}
