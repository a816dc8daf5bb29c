//! A change counts when its record is on disk: not before, and not never.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::path::PathBuf;
use std::sync::Arc;

use fieldseal_audit::{Health, Identity, Journal, JournalError};
use fieldseal_crypto::ServiceKeyKind;
use fieldseal_crypto::record::{AnchorKey, PathKey, StorageKey};
use fieldseal_crypto::signing::LogSigningKey;
use fieldseal_keys::keyring::{self, FileProvider, Keyring, Recovery};
use fieldseal_keys::{Changed, KeyChange, KeyError, Keys, Ledger, NewKey, Relation, Settings};
use fieldseal_model::{
    AccessReason, Action, Column, ExtraContext, Field, KeyName, KeySettings, ManualClock,
    Partition, PartitionClass, Principal, SEAL_BLOCK, Table, Timestamp,
};
use fieldseal_policy::{Permit, Policy, Request, Role};
use fieldseal_store::{BackendSettings, MemoryDisk, OutboxEntry, Secrets, Store};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// An installation whose test hands the events from the store to the ledger.
struct Place {
    dir: tempfile::TempDir,
    disk: MemoryDisk,
    clock: Arc<ManualClock>,
}

struct Running {
    keys: Keys,
    journal: Journal,
    from_store: mpsc::UnboundedReceiver<OutboxEntry>,
    to_ledger: mpsc::UnboundedSender<OutboxEntry>,
}

impl Place {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = FileProvider::create(&dir.path().join("root.key")).unwrap();
        let path = dir.path().join("keyring.json");
        keyring::create(&path, &provider, Recovery::Generate).unwrap();
        let clock = ManualClock::at(Timestamp::from_unix_nanos(1_700_000_000_000_000_000));
        let place = Self { dir, disk: MemoryDisk::default(), clock: Arc::new(clock) };
        Journal::create(&place.audit(), &place.identity()).unwrap();
        place
    }

    fn audit(&self) -> fieldseal_audit::Settings {
        let directory = self.dir.path().join("audit");
        fieldseal_audit::Settings { directory, segment_bytes: 64 * 1024, reserve_bytes: 0 }
    }

    fn keyring(&self) -> Keyring {
        let state = self.dir.path().join("state");
        let provider = FileProvider::open(&self.dir.path().join("root.key"), &state, false);
        keyring::open(&self.dir.path().join("keyring.json"), &provider.unwrap()).unwrap()
    }

    fn identity(&self) -> Identity {
        let keyring = self.keyring();
        let seed = keyring.service(ServiceKeyKind::LogSigning).unwrap();
        Identity {
            installation: keyring.installation(),
            instance: "main".to_owned(),
            signing: LogSigningKey::new(seed),
        }
    }

    fn journal(&self) -> Journal {
        Journal::open(self.audit(), self.identity(), self.clock.clone()).unwrap().0
    }

    fn store(&self, outbox: mpsc::UnboundedSender<OutboxEntry>) -> Store {
        let keyring = self.keyring();
        let secrets = || Secrets {
            installation: keyring.installation(),
            storage: StorageKey::new(keyring.service(ServiceKeyKind::Storage).unwrap()),
            path: PathKey::new(keyring.service(ServiceKeyKind::Path).unwrap()),
            anchor: AnchorKey::new(keyring.service(ServiceKeyKind::Anchor).unwrap()),
        };
        let mut settings =
            fieldseal_store::Settings::on(BackendSettings::Memory(self.disk.clone()));
        settings.reserve_bytes = 0;
        Store::open(settings.clone(), secrets(), outbox.clone())
            .or_else(|_| Store::create(settings, secrets(), outbox))
            .unwrap()
    }

    async fn start(&self) -> Running {
        let (outbox, from_store) = mpsc::unbounded_channel();
        let (to_ledger, entries) = mpsc::unbounded_channel();
        let (store, journal) = (self.store(outbox), self.journal());
        Ledger::check(&store, &journal).await.unwrap();
        let ledger = Ledger::start(store.clone(), journal.clone(), entries).await.unwrap();
        let (settings, keyring) = (Settings::default(), self.keyring());
        let keys = Keys::open(settings, store, ledger, keyring, self.clock.clone()).await.unwrap();
        Running { keys, journal, from_store, to_ledger }
    }

    fn segment(&self) -> PathBuf {
        self.audit().directory.join(format!("segment-{:020}.log", 0))
    }
}

impl Running {
    /// Asks for a key `pii` and gives the event that the store made of it.
    async fn create(&mut self) -> (JoinHandle<Result<Changed, KeyError>>, OutboxEntry) {
        let keys = self.keys.clone();
        let asked = async move { keys.create(&permit(Action::CreateKey), change()).await };
        let created = tokio::spawn(asked);
        (created, self.from_store.recv().await.unwrap())
    }

    fn exists(&self) -> bool {
        self.keys.exists(&change().key)
    }
}

fn change() -> KeyChange {
    KeyChange {
        key: KeyName::parse("pii").unwrap(),
        etag: String::new(),
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}

fn permit(action: Action) -> Permit {
    let ops = Principal::parse("spiffe://test/ops").unwrap();
    let members = [(Role::Operator, ops.clone())];
    let policy = Policy::from_texts(fieldseal_policy::default_files(&members)).unwrap();
    let decided = policy.decide(&Request {
        principal: &ops,
        action,
        key: Some(&change().key),
        partition: PartitionClass::Default,
        table: None,
        column: None,
        reason: &AccessReason::default(),
    });
    decided.unwrap()
}

#[tokio::test]
async fn a_change_that_finds_the_log_gone_changes_nothing() {
    let place = Place::new().await;
    let mut running = place.start().await;
    let away = place.dir.path().join("away");
    std::fs::rename(place.segment(), &away).unwrap();
    // Nobody noticed before: this change is the first to look.
    assert_eq!(running.journal.health(), Health::Ok);
    let refused = running.keys.create(&permit(Action::CreateKey), change()).await.err();
    assert!(matches!(refused, Some(KeyError::Journal(JournalError::Unavailable))), "{refused:?}");
    assert!(running.from_store.try_recv().is_err(), "the store was not touched");
    let mut health = running.journal.watch();
    std::fs::rename(&away, place.segment()).unwrap();
    health.wait_for(|health| *health == Health::Ok).await.unwrap();
    let (created, event) = running.create().await;
    running.to_ledger.send(event).unwrap();
    assert!(created.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_change_waits_for_a_log_that_goes_away_and_is_visible_when_its_record_is_written() {
    let place = Place::new().await;
    let mut running = place.start().await;
    let (created, event) = running.create().await;
    let away = place.dir.path().join("away");
    std::fs::rename(place.segment(), &away).unwrap();
    let mut health = running.journal.watch();
    running.to_ledger.send(event).unwrap();
    health.wait_for(|health| *health == Health::Missing).await.unwrap();
    assert!(!created.is_finished() && !running.exists());
    // Nobody queues behind it for that long.
    let refused = running.keys.create(&permit(Action::CreateKey), change()).await.err();
    assert!(matches!(refused, Some(KeyError::Journal(_))), "{refused:?}");
    std::fs::rename(&away, place.segment()).unwrap();
    let changed = created.await.unwrap().unwrap();
    assert!(changed.receipt.is_some());
    assert!(running.exists());
    let rotating = tokio::spawn({
        let keys = running.keys.clone();
        async move { keys.rotate(&permit(Action::RotateKey), change()).await }
    });
    running.to_ledger.send(running.from_store.recv().await.unwrap()).unwrap();
    assert_eq!(rotating.await.unwrap().unwrap().primary.get(), 2);
}

#[tokio::test]
async fn a_change_without_a_record_at_the_end_is_not_acknowledged_and_counts_at_the_next_start() {
    let place = Place::new().await;
    let mut running = place.start().await;
    let (created, event) = running.create().await;
    running.journal.close().await.unwrap();
    running.to_ledger.send(event).unwrap();
    let ended = created.await.unwrap().err();
    assert!(matches!(ended, Some(KeyError::Unacknowledged)), "{ended:?}");
    assert!(!running.exists());
    drop(running);
    let running = place.start().await;
    assert!(running.exists());
    assert_eq!(running.journal.revision(), 1);
}

#[tokio::test]
async fn a_store_or_a_log_of_another_time_is_refused() {
    let place = Place::new().await;
    let mut running = place.start().await;
    let (created, event) = running.create().await;
    running.to_ledger.send(event).unwrap();
    created.await.unwrap().unwrap();
    // The relay empties the outbox after its answer; it ends when it has done that.
    let Running { keys, journal, from_store, to_ledger } = running;
    drop((from_store, to_ledger));
    keys.finished().await;
    journal.close().await.unwrap();
    drop((keys, journal));
    let check = || async {
        let (store, journal) = (place.store(mpsc::unbounded_channel().0), place.journal());
        match Ledger::check(&store, &journal).await {
            Err(KeyError::Mismatch(found)) => found,
            other => panic!("{other:?}"),
        }
    };
    // An empty log beside the store: its outbox was emptied long ago.
    let (audit, kept) = (place.audit().directory, place.dir.path().join("kept"));
    std::fs::rename(&audit, &kept).unwrap();
    Journal::create(&place.audit(), &place.identity()).unwrap();
    let found = check().await;
    assert_eq!((found.relation, found.store.revision), (Relation::LogBehind, 1));
    std::fs::remove_dir_all(&audit).unwrap();
    std::fs::rename(&kept, &audit).unwrap();
    // An empty store beside the log.
    let newer = Place { disk: MemoryDisk::default(), ..place };
    let (store, journal) = (newer.store(mpsc::unbounded_channel().0), newer.journal());
    let refused = Ledger::check(&store, &journal).await.err();
    let Some(KeyError::Mismatch(found)) = refused else { panic!("{refused:?}") };
    assert_eq!((found.relation, found.store.revision), (Relation::StoreBehind, 0));
}

#[tokio::test]
async fn a_data_key_seals_as_many_values_as_its_key_says() {
    let place = Place::new().await;
    let Running { keys, mut from_store, to_ledger, .. } = place.start().await;
    tokio::spawn(async move {
        while let Some(event) = from_store.recv().await {
            to_ledger.send(event).unwrap();
        }
    });
    let mut settings = KeySettings::default();
    settings.set_seal_limit(2 * SEAL_BLOCK).unwrap();
    let new = NewKey { change: change(), settings };
    keys.create(&permit(Action::CreateKey), new).await.unwrap();
    let app = Principal::parse("spiffe://test/app").unwrap();
    let policy = fieldseal_policy::default_files(&[(Role::App, app.clone())]);
    let policy = Policy::from_texts(policy).unwrap();
    let field = Field {
        key: change().key,
        table: Table::parse("users").unwrap(),
        column: Column::parse("email").unwrap(),
        extra: ExtraContext::default(),
    };
    let (reason, partition) = (AccessReason::default(), Partition::default());
    let permit = policy.decide(&Request {
        principal: &app,
        action: Action::Encrypt,
        key: Some(&field.key),
        partition: PartitionClass::Default,
        table: Some(&field.table),
        column: Some(&field.column),
        reason: &reason,
    });
    let permit = permit.unwrap();
    // A first block, a second one, and the first seal that is one too many.
    for (count, data_keys) in [(SEAL_BLOCK, 1), (SEAL_BLOCK - 1, 1), (1, 1), (1, 2)] {
        let count = u32::try_from(count).unwrap();
        keys.sealer(&permit, Action::Encrypt, &reason, &field, &partition, count).await.unwrap();
        assert_eq!(keys.statistics().data_keys_made, data_keys);
    }
}
