//! An installation in a directory of its own, and calls in few words.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fieldseal_audit::{PageLimit, Started};
use fieldseal_crypto::field::Header;
use fieldseal_crypto::record::{AnchorKey, PathKey, StorageKey};
use fieldseal_crypto::{ContentType, ServiceKeyKind};
use fieldseal_engine::{
    AuditQuery, Caller, DecryptCall, DecryptItem, DecryptReply, EncryptCall, EncryptItem, Engine,
    Installation, PlainInput, Refusal, SealedInput, Settings, StoreBackend,
};
use fieldseal_keys::KeyChange;
use fieldseal_keys::keyring::{self, FileProvider, Keyring, Recovery};
use fieldseal_model::{
    AccessReason, Action, Column, ExtraContext, Field, KeyName, ManualClock, Partition, Principal,
    Purpose, Row, Table, Ticket, Timestamp,
};
use fieldseal_policy::Role;
use fieldseal_store::{RawEntry, Secrets, Store};

pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) identity: String,
}

impl Place {
    /// Makes an installation with sled.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = FileProvider::create(&dir.path().join("root.key")).unwrap();
        let path = dir.path().join("keyring.json");
        let made = keyring::create(&path, &provider, Recovery::Generate).unwrap();
        let policy = dir.path().join("policy");
        std::fs::create_dir(&policy).unwrap();
        let members = [
            (Role::App, caller("app").principal),
            (Role::Operator, caller("ops").principal),
            (Role::Operator, caller("ops2").principal),
            (Role::Auditor, caller("auditor").principal),
            (Role::Privacy, caller("privacy").principal),
        ];
        for (name, text) in fieldseal_policy::default_files(&members) {
            std::fs::write(policy.join(name), text).unwrap();
        }
        let clock = ManualClock::at(Timestamp::from_unix_nanos(1_700_000_000_000_000_000));
        let identity = made.identity.unwrap().to_string();
        let place = Self { dir, clock: Arc::new(clock), identity };
        Installation::new(place.settings(), made.keyring).create().await.unwrap();
        place
    }

    pub(crate) fn settings(&self) -> Settings {
        Self::settings_in(self.dir.path())
    }

    /// The settings of an installation in this directory.
    pub(crate) fn settings_in(dir: &Path) -> Settings {
        Settings {
            store: StoreBackend::Sled(dir.join("store")),
            reserve_bytes: 0,
            audit: fieldseal_audit::Settings {
                directory: dir.join("audit"),
                segment_bytes: 256 * 1024,
                reserve_bytes: 0,
                group: None,
            },
            instance: "main".to_owned(),
            policy: fieldseal_policy::Settings { dir: dir.join("policy") },
            keys: fieldseal_keys::Settings { cached_data_keys: 64, ..Default::default() },
            copy: None,
            backup: None,
            anchors: Vec::new(),
            exports: Vec::new(),
            retention: fieldseal_engine::Retention::default(),
            started: Started::default(),
            refusal_window: Duration::ZERO,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn keyring(&self) -> Keyring {
        let state: &Path = &self.path("state");
        let provider = FileProvider::open(&self.path("root.key"), state, false).unwrap();
        keyring::open(&self.path("keyring.json"), &provider).unwrap()
    }

    pub(crate) async fn start(&self) -> Engine {
        let installation = Installation::new(self.settings(), self.keyring());
        installation.start(self.clock.clone()).await.unwrap()
    }

    /// Started, with the key `pii`.
    pub(crate) async fn with_key() -> (Self, Engine) {
        Self::with_key_and(|_| ()).await
    }

    /// The same with other settings.
    pub(crate) async fn with_key_and(other: impl FnOnce(&mut Settings)) -> (Self, Engine) {
        let place = Self::new().await;
        let mut settings = place.settings();
        other(&mut settings);
        let installation = Installation::new(settings, place.keyring());
        let engine = installation.start(place.clock.clone()).await.unwrap();
        engine.create_key(&caller("ops"), change("pii")).await.unwrap();
        (place, engine)
    }
}

pub(crate) fn caller(name: &str) -> Caller {
    Caller { principal: Principal::parse(&format!("spiffe://test/{name}")).unwrap() }
}

pub(crate) fn change(key: &str) -> KeyChange {
    KeyChange {
        key: KeyName::parse(key).unwrap(),
        etag: String::new(),
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}

pub(crate) fn field(key: &str, column: &str) -> Field {
    Field {
        key: KeyName::parse(key).unwrap(),
        table: Table::parse("users").unwrap(),
        column: Column::parse(column).unwrap(),
        extra: ExtraContext::default(),
    }
}

pub(crate) fn plain(partition: &str, row: &str, value: &str) -> EncryptItem {
    let input = PlainInput {
        partition: Partition::parse(partition).unwrap(),
        row: Row::parse(row.to_owned()).unwrap(),
        content: ContentType::Text,
        value: Bytes::copy_from_slice(value.as_bytes()),
        allow_sealed: false,
    };
    EncryptItem { field: 0, input: Ok(input) }
}

/// Seals one value of `users.email`.
pub(crate) async fn seal(
    engine: &Engine,
    partition: &str,
    row: &str,
    value: &str,
) -> Result<(Bytes, String), Refusal> {
    let call = EncryptCall {
        fields: vec![field("pii", "email")],
        items: vec![plain(partition, row, value)],
        reason: AccessReason::default(),
    };
    let reply = engine.encrypt(&caller("app"), Action::Encrypt, call).await?;
    let mut items = reply.items;
    let item = items.pop().unwrap()?;
    Ok((Bytes::from(reply.buffer).slice(item.range), item.key_version.to_string()))
}

pub(crate) fn sealed(partition: &str, row: &str, ciphertext: &Bytes) -> DecryptItem {
    let input = SealedInput {
        partition: Partition::parse(partition).unwrap(),
        row: Row::parse(row.to_owned()).unwrap(),
        key_id: Header::parse(ciphertext).unwrap().key_id,
        ciphertext: ciphertext.clone(),
    };
    DecryptItem { field: 0, input: Ok(input) }
}

pub(crate) fn reason() -> AccessReason {
    AccessReason {
        purpose: Purpose::parse("support").unwrap(),
        ticket: Ticket::parse("CASE-1").unwrap(),
        end_user: None,
    }
}

/// Opens one value.
pub(crate) async fn open_as(
    engine: &Engine,
    who: &str,
    of: Field,
    item: DecryptItem,
) -> Result<String, Refusal> {
    let call = DecryptCall { fields: vec![of], items: vec![item], reason: reason() };
    let reply = engine.decrypt(&caller(who), Action::Decrypt, call).await?;
    let DecryptReply { buffer, mut items, .. } = reply;
    let item = items.pop().unwrap()?;
    Ok(String::from_utf8(buffer[item.range].to_vec()).unwrap())
}

pub(crate) async fn open(
    engine: &Engine,
    partition: &str,
    row: &str,
    ciphertext: &Bytes,
) -> Result<String, Refusal> {
    open_as(engine, "app", field("pii", "email"), sealed(partition, row, ciphertext)).await
}

/// Every event on one page.
pub(crate) const ALL: PageLimit = PageLimit { events: 10_000, bytes: usize::MAX };

pub(crate) async fn events(engine: &Engine, query: AuditQuery) -> Vec<fieldseal_audit::Event> {
    let reason = AccessReason::default();
    let auditor = caller("auditor");
    let found = engine.query_audit(&auditor, query, ALL, String::new(), &reason).await.unwrap();
    found.page.events
}

/// The reason of a refusal, or `OK`.
pub(crate) fn why<T>(result: Result<T, Refusal>) -> &'static str {
    match result {
        Ok(_) => "OK",
        Err(refusal) => refusal.cause.reason(),
    }
}

/// Copies a directory of files.
pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Every stored entry of this kind, while nobody has the store open.
pub(crate) async fn stored(place: &Place, kind: u8) -> Vec<RawEntry> {
    let keyring = place.keyring();
    let service = |kind| keyring.service(kind).unwrap();
    let secrets = Secrets {
        installation: keyring.installation(),
        storage: StorageKey::new(service(ServiceKeyKind::Storage)),
        path: PathKey::new(service(ServiceKeyKind::Path)),
        anchor: AnchorKey::new(service(ServiceKeyKind::Anchor)),
    };
    let settings = fieldseal_store::Settings::sled(place.path("store"));
    let (outbox, _) = tokio::sync::mpsc::unbounded_channel();
    let store = Store::open(settings, secrets, outbox).unwrap();
    let mut snapshot = store.snapshot(1024 * 1024).await.unwrap();
    let mut found = Vec::new();
    while let Some(page) = snapshot.page().unwrap() {
        found.extend(page.into_iter().filter(|entry| entry.kind() == Some(kind)));
    }
    drop(snapshot);
    store.close().await;
    found
}

/// How many of the values are somewhere in the files below.
pub(crate) fn found(directory: &Path, values: &[RawEntry]) -> usize {
    let mut all = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => all.push(std::fs::read(entry.path()).unwrap()),
            }
        }
    }
    let is_there = |value: &&RawEntry| {
        // The sealed bytes: the revision before them is in clear.
        let (sealed, start) = (&value.stored[8..], &value.stored[8..24]);
        all.iter().any(|file| {
            file.windows(start.len())
                .enumerate()
                .any(|(at, window)| window == start && file[at..].starts_with(sealed))
        })
    };
    values.iter().filter(is_there).count()
}
