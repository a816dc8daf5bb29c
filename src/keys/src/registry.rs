//! The keys and their versions, in memory: loaded at start, replaced whole at every change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use fieldseal_crypto::Kek;
use fieldseal_crypto::wrap::KekId;
use fieldseal_model::{
    KeyName, KeySettings, KeyVersion, KeyVersionState, Timestamp, VersionNumber,
};
use fieldseal_store::{Store, Versioned};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::error::KeyError;
use crate::keyring::Keyring;
use crate::records::{
    self, KEY, KeyRecord, PRIMARY, PrimaryRecord, VERSION, VersionRecord, decode,
};
use crate::settings;
use crate::usage::{self, Used};

/// Most keys of an installation.
pub(crate) const MAX_KEYS: usize = 10_000;
/// Most versions of a key.
pub(crate) const MAX_VERSIONS: usize = 10_000;
/// How many records one page of a scan has.
const PAGE: usize = 256;

/// A key version, shared by the registry and by every cached data key under it.
pub(crate) struct VersionCell {
    pub(crate) version: KeyVersion,
    /// `keys/{key}/versions/{n}`, made once because every answer carries it.
    pub(crate) name: Arc<str>,
    pub(crate) created_at: Timestamp,
    /// When it was used last.
    pub(crate) used: Used,
    /// What changes, as a change of state leaves it.
    facts: RwLock<VersionFacts>,
    /// The same state, for every use of a data key.
    state: AtomicU8,
}

/// What changes about a key version.
#[derive(Clone)]
pub(crate) struct VersionFacts {
    /// The revision of its record: guards whatever is made under it.
    pub(crate) revision: u64,
    /// The record as it stands in the store.
    pub(crate) record: VersionRecord,
    /// `None` once it is destroyed. Wiped when the last user lets go of it.
    pub(crate) kek: Option<Arc<Kek>>,
}

impl VersionCell {
    pub(crate) fn new(version: KeyVersion, facts: VersionFacts) -> Result<Self, KeyError> {
        Ok(Self {
            name: version.to_string().into(),
            created_at: Timestamp::from_unix_nanos(facts.record.created_at),
            state: AtomicU8::new(records::state(facts.record.state)?.code()),
            facts: RwLock::new(facts),
            used: Used::default(),
            version,
        })
    }

    /// What changes about it, as it is now.
    pub(crate) fn facts(&self) -> VersionFacts {
        self.facts.read().clone()
    }

    /// A change of it that is in store and log: the next use sees it.
    pub(crate) fn publish(&self, next: VersionFacts) -> Result<(), KeyError> {
        let state = records::state(next.record.state)?;
        // INVARIANT: whoever sees it enabled finds its KEK. A version without one never becomes
        // enabled, and one that becomes destroyed was not enabled before.
        *self.facts.write() = next;
        self.state.store(state.code(), Ordering::Release);
        Ok(())
    }

    /// The revision of its record.
    pub(crate) fn revision(&self) -> u64 {
        self.facts.read().revision
    }

    pub(crate) fn state(&self) -> KeyVersionState {
        // A code that is none is never stored here; if it were, nothing may open.
        KeyVersionState::from_code(self.state.load(Ordering::Acquire))
            .unwrap_or(KeyVersionState::Disabled)
    }

    /// The KEK, if the version may be used.
    pub(crate) fn usable(&self) -> Result<Arc<Kek>, KeyError> {
        match self.state() {
            KeyVersionState::Enabled => {
                let kek = self.facts.read().kek.clone();
                kek.ok_or(KeyError::Corrupt("an enabled version without a KEK"))
            }
            KeyVersionState::Destroyed => Err(KeyError::VersionDestroyed),
            KeyVersionState::Disabled | KeyVersionState::DestroyScheduled => {
                Err(KeyError::VersionDisabled)
            }
        }
    }
}

/// A key as it is at one moment.
#[derive(Clone)]
pub(crate) struct KeySnapshot {
    pub(crate) name: KeyName,
    pub(crate) created_at: Timestamp,
    pub(crate) primary: Arc<VersionCell>,
    /// The revision of the primary pointer: guards whatever must be under the primary version.
    pub(crate) primary_revision: u64,
    pub(crate) settings: Arc<KeySettings>,
    /// The revision of the key's own record, in which its settings stand.
    pub(crate) settings_revision: u64,
    /// The revision of the last change of the key, whatever it changed: the etag.
    pub(crate) revision: u64,
    pub(crate) versions: BTreeMap<VersionNumber, Arc<VersionCell>>,
}

/// What an operator sees of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// The name.
    pub name: KeyName,
    /// When it was created.
    pub created_at: Timestamp,
    /// The version under which new values are sealed.
    pub primary: VersionNumber,
    /// Every version, oldest first.
    pub versions: Vec<VersionView>,
    /// Changes whenever the key changes.
    pub etag: String,
    /// Its settings.
    pub settings: KeySettings,
    /// When the sidecar rotates by itself.
    pub next_rotation: Option<Timestamp>,
}

/// What an operator sees of a key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionView {
    /// The number.
    pub number: VersionNumber,
    /// The state.
    pub state: KeyVersionState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it will be destroyed, if the process runs until then.
    pub destroy_at: Option<Timestamp>,
    /// When it was destroyed.
    pub destroyed_at: Option<Timestamp>,
}

impl KeySnapshot {
    pub(crate) fn next_number(&self) -> Result<VersionNumber, KeyError> {
        let last = self.versions.keys().next_back().copied();
        last.filter(|_| self.versions.len() < MAX_VERSIONS)
            .and_then(VersionNumber::next)
            .ok_or(KeyError::TooMany { what: "versions of a key", limit: MAX_VERSIONS })
    }
}

/// The etag of a revision.
pub(crate) fn etag(revision: u64) -> String {
    format!("{revision:x}")
}

/// All keys.
#[derive(Default)]
pub(crate) struct Registry {
    keys: RwLock<HashMap<KeyName, Arc<KeySnapshot>>>,
    changed: watch::Sender<()>,
}

impl Registry {
    pub(crate) fn key(&self, name: &KeyName) -> Result<Arc<KeySnapshot>, KeyError> {
        self.keys.read().get(name).cloned().ok_or(KeyError::KeyNotFound)
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.read().len()
    }

    pub(crate) fn put(&self, snapshot: KeySnapshot) {
        self.keys.write().insert(snapshot.name.clone(), Arc::new(snapshot));
        self.changed.send_replace(());
    }

    /// Tells of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Every key.
    pub(crate) fn all(&self) -> Vec<Arc<KeySnapshot>> {
        self.keys.read().values().cloned().collect()
    }

    /// Whether there is such a version of any key.
    pub(crate) fn any_version(&self, mut is_one: impl FnMut(&VersionCell) -> bool) -> bool {
        self.all().iter().flat_map(|key| key.versions.values()).any(|version| is_one(version))
    }

    /// Reads every key and version from the store and unwraps the KEKs.
    pub(crate) async fn load(store: &Store, keyring: &Keyring) -> Result<Self, KeyError> {
        let registry = Self::default();
        let mut after = None;
        loop {
            let page = store.range(&store.prefix(KEY, &[]), after.as_ref(), PAGE).await?;
            for (_, value) in &page.entries {
                let record: KeyRecord = decode("a key's record", &value.value)?;
                let name =
                    KeyName::parse(&record.name).map_err(|_| KeyError::Corrupt("a key's name"))?;
                let key = load_key(store, keyring, name, (value.revision, record)).await?;
                registry.put(key);
            }
            after = page.next;
            if after.is_none() {
                return Ok(registry);
            }
        }
    }
}

async fn load_key(
    store: &Store,
    keyring: &Keyring,
    name: KeyName,
    (revision, key): (u64, KeyRecord),
) -> Result<KeySnapshot, KeyError> {
    let mut versions = BTreeMap::new();
    let prefix = store.prefix(VERSION, &[name.as_str().as_bytes()]);
    let add = |found: Versioned| {
        let cell = load_version(keyring, &name, found.revision, &found.value)?;
        versions.insert(cell.version.number, Arc::new(cell));
        Ok(())
    };
    store.each::<KeyError>(&prefix, add).await?;
    usage::load(store, &name, &versions).await?;
    let pointer = store
        .get(&store.path(PRIMARY, &[name.as_str().as_bytes()]))
        .await?
        .ok_or(KeyError::Corrupt("a key without a primary version"))?;
    let record: PrimaryRecord = decode("a key's primary pointer", &pointer.value)?;
    let primary = VersionNumber::new(record.version)
        .filter(|_| record.key == name.as_str())
        .and_then(|number| versions.get(&number).cloned())
        .ok_or(KeyError::Corrupt("a primary pointer that points nowhere"))?;
    let changes = versions.values().map(|cell| cell.revision());
    let last = changes.fold(revision.max(pointer.revision), u64::max);
    Ok(KeySnapshot {
        name,
        created_at: Timestamp::from_unix_nanos(key.created_at),
        primary,
        primary_revision: pointer.revision,
        settings: Arc::new(settings::of_record(&key)?),
        settings_revision: revision,
        revision: last,
        versions,
    })
}

fn load_version(
    keyring: &Keyring,
    name: &KeyName,
    revision: u64,
    bytes: &[u8],
) -> Result<VersionCell, KeyError> {
    let record: VersionRecord = decode("a key version's record", bytes)?;
    let number = VersionNumber::new(record.version)
        .filter(|_| record.key == name.as_str())
        .ok_or(KeyError::Corrupt("a key version of another key"))?;
    let state = records::state(record.state)?;
    let kek = if state == KeyVersionState::Destroyed {
        None
    } else {
        let id = KekId { installation: keyring.installation(), key: name, version: number };
        let kek = keyring
            .unwrap_kek(&id, &record.wrapped)
            .map_err(|_| KeyError::Corrupt("a KEK that the root key does not open"))?;
        Some(Arc::new(kek))
    };
    let version = KeyVersion { key: name.clone(), number };
    VersionCell::new(version, VersionFacts { revision, record, kek })
}
