//! An installation whose test hands the events from the store to the ledger.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::path::PathBuf;
use std::sync::Arc;

use fieldseal_audit::{Identity, Journal};
use fieldseal_crypto::ServiceKeyKind;
use fieldseal_crypto::record::{AnchorKey, PathKey, StorageKey};
use fieldseal_crypto::signing::LogSigningKey;
use fieldseal_keys::keyring::{self, FileProvider, Keyring, Recovery};
use fieldseal_keys::{KeyChange, Keys, Ledger, Settings};
use fieldseal_model::{
    AccessReason, Action, Column, ExtraContext, Field, KeyName, ManualClock, Partition, Principal,
    Table, Timestamp,
};
use fieldseal_policy::{Permit, Policy, Request, Role};
use fieldseal_store::{BackendSettings, MemoryDisk, OutboxEntry, Secrets, Store};
use tokio::sync::mpsc;

/// When it begins.
pub(crate) const START_NANOS: i64 = 1_700_000_000_000_000_000;

/// An installation at rest: keyring and log in a directory, the store on a disk in memory.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: Arc<ManualClock>,
}

/// One that runs.
pub(crate) struct Running {
    pub(crate) keys: Keys,
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    /// Events of the store that are not yet handed to the ledger.
    pub(crate) events: mpsc::UnboundedReceiver<OutboxEntry>,
    pub(crate) to_ledger: mpsc::UnboundedSender<OutboxEntry>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = FileProvider::create(&dir.path().join("root.key")).unwrap();
        let path = dir.path().join("keyring.json");
        keyring::create(&path, &provider, Recovery::Generate).unwrap();
        let clock = ManualClock::at(Timestamp::from_unix_nanos(START_NANOS));
        let place = Self { dir, disk: MemoryDisk::default(), clock: Arc::new(clock) };
        Journal::create(&place.audit(), &place.identity()).unwrap();
        place
    }

    pub(crate) fn audit(&self) -> fieldseal_audit::Settings {
        let directory = self.dir.path().join("audit");
        fieldseal_audit::Settings {
            directory,
            segment_bytes: 256 * 1024,
            reserve_bytes: 0,
            group: None,
        }
    }

    /// The file of the log's first segment.
    pub(crate) fn segment(&self) -> PathBuf {
        self.audit().directory.join(format!("segment-{:020}.log", 0))
    }

    fn keyring(&self) -> Keyring {
        let state = self.dir.path().join("state");
        let provider = FileProvider::open(&self.dir.path().join("root.key"), &state, false);
        keyring::open(&self.dir.path().join("keyring.json"), &provider.unwrap()).unwrap()
    }

    pub(crate) fn identity(&self) -> Identity {
        let keyring = self.keyring();
        let seed = keyring.service(ServiceKeyKind::LogSigning).unwrap();
        Identity {
            installation: keyring.installation(),
            instance: "main".to_owned(),
            signing: LogSigningKey::new(seed),
        }
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::open(self.audit(), self.identity(), self.clock.clone()).unwrap().0
    }

    pub(crate) fn store(&self, outbox: mpsc::UnboundedSender<OutboxEntry>) -> Store {
        let keyring = self.keyring();
        let service = |kind| keyring.service(kind).unwrap();
        let secrets = || Secrets {
            installation: keyring.installation(),
            storage: StorageKey::new(service(ServiceKeyKind::Storage)),
            path: PathKey::new(service(ServiceKeyKind::Path)),
            anchor: AnchorKey::new(service(ServiceKeyKind::Anchor)),
        };
        let mut settings =
            fieldseal_store::Settings::on(BackendSettings::Memory(self.disk.clone()));
        settings.reserve_bytes = 0;
        Store::open(settings.clone(), secrets(), outbox.clone())
            .or_else(|_| Store::create(settings, secrets(), outbox))
            .unwrap()
    }

    pub(crate) async fn start(&self) -> Running {
        let (outbox, events) = mpsc::unbounded_channel();
        let (to_ledger, entries) = mpsc::unbounded_channel();
        let (store, journal) = (self.store(outbox), self.journal());
        Ledger::check(&store, &journal).await.unwrap();
        let ledger = Ledger::start(store.clone(), journal.clone(), entries).await.unwrap();
        let (settings, keyring, clock) = (Settings::default(), self.keyring(), self.clock.clone());
        let keys = Keys::open(settings, store.clone(), ledger, keyring, clock).await.unwrap();
        Running { keys, store, journal, events, to_ledger }
    }
}

impl Running {
    /// Runs `work` to its end while events go to the ledger.
    pub(crate) async fn with_relay<T>(&mut self, work: impl Future<Output = T>) -> T {
        let (events, to_ledger) = (&mut self.events, &self.to_ledger);
        let relay = async {
            while let Some(entry) = events.recv().await {
                to_ledger.send(entry).unwrap();
            }
        };
        tokio::select! {
            done = work => done,
            () = relay => unreachable!("the store is open"),
        }
    }

    /// The process is killed: nothing of it goes on.
    pub(crate) async fn kill(self) {
        let Self { keys, store, journal, events, to_ledger } = self;
        drop((events, to_ledger));
        store.close().await;
        drop(keys);
        journal.close().await.unwrap();
    }
}

/// The field of which all values are.
pub(crate) fn field() -> Field {
    Field {
        key: KeyName::parse("pii").unwrap(),
        table: Table::parse("users").unwrap(),
        column: Column::parse("email").unwrap(),
        extra: ExtraContext::default(),
    }
}

/// A change of its key that asks for nothing more.
pub(crate) fn change() -> KeyChange {
    KeyChange {
        key: field().key,
        etag: String::new(),
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}

/// A permit for its key and this partition, of somebody who may do everything.
pub(crate) fn permit(action: Action, partition: &Partition) -> Permit {
    let (anybody, field) = (Principal::parse("spiffe://test/anybody").unwrap(), field());
    let members = [(Role::Operator, anybody.clone()), (Role::App, anybody.clone())];
    let policy = Policy::from_texts(fieldseal_policy::default_files(&members)).unwrap();
    let sealing = action == Action::Encrypt;
    let decided = policy.decide(&Request {
        principal: &anybody,
        action,
        key: Some(&field.key),
        partition: partition.class(),
        table: sealing.then_some(&field.table),
        column: sealing.then_some(&field.column),
        reason: &AccessReason::default(),
    });
    decided.unwrap()
}
