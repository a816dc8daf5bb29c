//! Where a tested store lives, and what the tests read and write in it.

use std::path::PathBuf;

use fieldseal_crypto::ServiceKey;
use fieldseal_crypto::record::{AnchorKey, PathKey, StorageKey};
use fieldseal_model::InstallationId;
use fieldseal_store::{
    BackendSettings, Event, Kind, MemoryDisk, OutboxEntry, Path, Secrets, Settings, Store,
    StoreError, Txn,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub(crate) const KEYS: Kind = Kind::new(1);
pub(crate) const OTHERS: Kind = Kind::new(2);
/// The raw path of the format record.
pub(crate) const FORMAT: &[u8] = b"\0format";
/// The raw path of the state record.
pub(crate) const STATE: &[u8] = b"\0state";

/// Where a store is made and reopened, and what lies there while it is closed.
pub(crate) trait Place: Send + Sync {
    fn new() -> Self;
    fn backend(&self) -> BackendSettings;
    fn raw_entries(&self) -> Vec<(Vec<u8>, Vec<u8>)>;
    fn write_raw(&self, key: &[u8], value: &[u8]);
    fn remove_raw(&self, key: &[u8]);

    fn settings(&self) -> Settings {
        // The machine that runs the tests may have little space; only its own tests look at that.
        Settings { reserve_bytes: 0, ..Settings::on(self.backend()) }
    }

    fn create(&self) -> Opened {
        self.try_create().unwrap()
    }

    fn try_create(&self) -> Result<Opened, StoreError> {
        let (sender, outbox) = mpsc::unbounded_channel();
        Store::create(self.settings(), secrets(), sender).map(|store| Opened { store, outbox })
    }

    fn open(&self) -> Opened {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Opened, StoreError> {
        self.try_open_with(secrets())
    }

    fn try_open_with(&self, secrets: Secrets) -> Result<Opened, StoreError> {
        let (sender, outbox) = mpsc::unbounded_channel();
        Store::open(self.settings(), secrets, sender).map(|store| Opened { store, outbox })
    }

    /// Why it does not open.
    fn refusal(&self) -> StoreError {
        self.try_open().err().unwrap()
    }
}

/// A store on sled, in a directory of its own.
pub(crate) struct OnSled(tempfile::TempDir);

impl OnSled {
    pub(crate) fn directory(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn raw(&self) -> sled::Db {
        let config = sled::Config::new().path(self.directory()).flush_every_ms(None);
        // A thread of the handle before may hold the file for some moments.
        let opened = (0..100_000).find_map(|_| match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::yield_now();
                None
            }
            other => Some(other),
        });
        opened.unwrap().unwrap()
    }
}

impl Place for OnSled {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn backend(&self) -> BackendSettings {
        BackendSettings::Sled(self.directory())
    }

    fn raw_entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = self.raw().iter().map(Result::unwrap).map(|(k, v)| (k.to_vec(), v.to_vec()));
        entries.collect()
    }

    fn write_raw(&self, key: &[u8], value: &[u8]) {
        let db = self.raw();
        db.insert(key, value).unwrap();
        db.flush().unwrap();
    }

    fn remove_raw(&self, key: &[u8]) {
        let db = self.raw();
        db.remove(key).unwrap();
        db.flush().unwrap();
    }
}

/// A store in memory.
pub(crate) struct InMemory(Mutex<MemoryDisk>);

impl InMemory {
    pub(crate) fn disk(&self) -> MemoryDisk {
        self.0.lock().clone()
    }
}

impl Place for InMemory {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn backend(&self) -> BackendSettings {
        BackendSettings::Memory(self.disk())
    }

    fn raw_entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.disk().entries()
    }

    fn write_raw(&self, key: &[u8], value: &[u8]) {
        self.disk().tamper(key.to_vec(), value.to_vec());
    }

    fn remove_raw(&self, key: &[u8]) {
        let rest = MemoryDisk::default();
        for (other, value) in self.raw_entries().into_iter().filter(|(other, _)| other != key) {
            rest.tamper(other, value);
        }
        *self.0.lock() = rest;
    }
}

/// An open store and the events that come out of it.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) outbox: mpsc::UnboundedReceiver<OutboxEntry>,
}

impl Opened {
    /// A path of the class that most tests use.
    pub(crate) fn path(&self, parts: &[&str]) -> Path {
        self.path_in(KEYS, parts)
    }

    pub(crate) fn path_in(&self, kind: Kind, parts: &[&str]) -> Path {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.store.path(kind, &parts)
    }

    /// Writes one record.
    pub(crate) async fn put(&self, path: &Path, value: &str) -> u64 {
        let txn = txn().put(path.clone(), value.as_bytes().to_vec());
        self.store.txn(txn).await.unwrap()
    }

    /// A record's value.
    pub(crate) async fn value(&self, path: &Path) -> Option<String> {
        let found = self.store.get(path).await.unwrap();
        found.map(|found| String::from_utf8(found.value.to_vec()).unwrap())
    }

    /// The revision that wrote a record.
    pub(crate) async fn revision(&self, path: &Path) -> Option<u64> {
        self.store.get(path).await.unwrap().map(|found| found.revision)
    }

    /// Counted anew, the sum of the whole store is the one it keeps.
    pub(crate) async fn assert_sums_agree(&self) {
        let sums = self.store.recount().await.unwrap();
        assert_eq!(sums.kept, sums.counted);
    }

    /// The events that came out so far.
    pub(crate) fn drain(&mut self) -> Vec<OutboxEntry> {
        std::iter::from_fn(|| self.outbox.try_recv().ok()).collect()
    }

    /// Closes the store and frees its place.
    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}

/// A transaction whose event is its revision and anchor.
pub(crate) fn txn() -> Txn {
    Txn::new(event())
}

pub(crate) fn event() -> Event {
    Box::new(event_bytes)
}

pub(crate) fn event_bytes(revision: u64, anchor: [u8; 32]) -> Vec<u8> {
    [&revision.to_le_bytes()[..], &anchor].concat()
}

/// The keys of the tested store.
pub(crate) fn secrets() -> Secrets {
    Secrets {
        installation: InstallationId::new([1; 16]),
        storage: StorageKey::new(service_key(2)),
        path: PathKey::new(service_key(3)),
        anchor: anchor_key(),
    }
}

pub(crate) fn anchor_key() -> AnchorKey {
    AnchorKey::new(service_key(4))
}

pub(crate) fn service_key(seed: u8) -> ServiceKey {
    ServiceKey::from_bytes(&mut [seed; 32])
}
