//! Making a key version: the first of a new key, or the next, which becomes primary.

use std::collections::BTreeMap;
use std::sync::Arc;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind};
use fieldseal_crypto::Kek;
use fieldseal_crypto::wrap::KekId;
use fieldseal_model::{
    KeyName, KeySettings, KeyVersion, KeyVersionState, Timestamp, VersionNumber,
};
use fieldseal_store::Txn;
use prost::Message;

use crate::change::Changed;
use crate::error::KeyError;
use crate::keys::Inner;
use crate::ledger::Committed;
use crate::records::{KEY, NewVersionAnswer, PRIMARY, PrimaryRecord, VERSION, VersionRecord};
use crate::registry::{KeySnapshot, VersionCell, VersionFacts};
use crate::request::NewRequest;
use crate::settings;

/// What a version is made of.
pub(crate) enum NewVersionOf {
    /// A key that does not exist yet.
    Nothing(KeyName, KeySettings),
    /// A key as it is.
    Key(Arc<KeySnapshot>),
}

struct NewVersion {
    number: VersionNumber,
    kek: Kek,
    created_at: Timestamp,
    record: VersionRecord,
}

impl NewVersionOf {
    fn name(&self) -> &KeyName {
        match self {
            Self::Nothing(name, _) => name,
            Self::Key(key) => &key.name,
        }
    }

    fn previous(&self) -> Option<VersionNumber> {
        match self {
            Self::Nothing(..) => None,
            Self::Key(key) => Some(key.primary.version.number),
        }
    }

    /// The new version's number.
    pub(crate) fn number(&self) -> Result<VersionNumber, KeyError> {
        match self {
            Self::Nothing(..) => Ok(VersionNumber::FIRST),
            Self::Key(key) => key.next_number(),
        }
    }
}

impl Inner {
    /// Makes the version, in store and log, and makes it visible: the next request sees it. Whoever
    /// calls this holds the lock of changes.
    pub(crate) async fn make_version(
        &self,
        by: ChangedBy<'_>,
        of: NewVersionOf,
        number: VersionNumber,
        request: Option<NewRequest>,
    ) -> Result<Changed, KeyError> {
        let made = self.new_version(of.name(), number)?;
        let (committed, cell) = self.write(by, &of, made, request).await?;
        Ok(self.publish(of, cell, committed))
    }

    fn new_version(&self, key: &KeyName, number: VersionNumber) -> Result<NewVersion, KeyError> {
        let kek = Kek::generate()?;
        let id = KekId { installation: self.keyring.installation(), key, version: number };
        let wrapped = self.keyring.wrap_kek(&id, &kek)?;
        let created_at = self.clock.now();
        let record = VersionRecord {
            key: key.as_str().to_owned(),
            version: number.get(),
            state: KeyVersionState::Enabled.code().into(),
            created_at: created_at.unix_nanos(),
            wrapped: wrapped.to_vec(),
            ..VersionRecord::default()
        };
        Ok(NewVersion { number, kek, created_at, record })
    }

    async fn write(
        &self,
        by: ChangedBy<'_>,
        of: &NewVersionOf,
        made: NewVersion,
        request: Option<NewRequest>,
    ) -> Result<(Committed, VersionCell), KeyError> {
        let (name, number) = (of.name(), made.number.get());
        let path = name.as_str().as_bytes();
        let key = self.store.path(KEY, &[path]);
        let primary = self.store.path(PRIMARY, &[path]);
        let version = self.store.path(VERSION, &[path, &number.to_be_bytes()]);
        let kind = match of {
            NewVersionOf::Nothing(..) => Kind::KeyCreated,
            NewVersionOf::Key(_) => Kind::KeyRotated,
        };
        let event = ChangeEvent::new(by, made.created_at, kind, Some(name)).version(number);
        let key_name = || name.as_str().to_owned();
        let pointer = PrimaryRecord { key: key_name(), version: number };
        let answer = NewVersionAnswer {
            key: key_name(),
            version: number,
            previous: of.previous().map_or(0, VersionNumber::get),
        };
        let record = made.record.encode_to_vec();
        let fill = |txn: Txn| {
            let txn = match of {
                NewVersionOf::Key(before) => txn.at(primary.clone(), before.primary_revision),
                NewVersionOf::Nothing(_, settings) => {
                    let settings = settings::record(name, made.created_at, settings);
                    txn.absent(key.clone())
                        .absent(primary.clone())
                        .put(key, settings.encode_to_vec())
                }
            };
            let txn = txn
                .absent(version.clone())
                .put(version, record)
                .put(primary, pointer.encode_to_vec());
            match request {
                None => txn,
                Some(request) => request.answer(txn, made.created_at, &answer),
            }
        };
        let committed = self.ledger.commit(event, fill).await?;
        let version = KeyVersion { key: name.clone(), number: made.number };
        let kek = Some(Arc::new(made.kek));
        let facts = VersionFacts { revision: committed.revision, record: made.record, kek };
        let cell = VersionCell::new(version, facts)?;
        Ok((committed, cell))
    }

    fn publish(&self, of: NewVersionOf, cell: VersionCell, committed: Committed) -> Changed {
        let (previous, primary) = (of.previous(), cell.version.number);
        let cell = Arc::new(cell);
        let revision = committed.revision;
        let mut snapshot = match of {
            NewVersionOf::Key(before) => KeySnapshot::clone(&before),
            NewVersionOf::Nothing(name, settings) => KeySnapshot {
                name,
                created_at: cell.created_at,
                primary: Arc::clone(&cell),
                primary_revision: revision,
                settings: Arc::new(settings),
                settings_revision: revision,
                revision,
                versions: BTreeMap::new(),
            },
        };
        snapshot.versions.insert(primary, Arc::clone(&cell));
        snapshot.primary = cell;
        snapshot.primary_revision = revision;
        snapshot.revision = revision;
        let key = self.view(&snapshot);
        self.registry.put(snapshot);
        let etag = key.etag.clone();
        Changed { etag, key, primary, previous, receipt: Some(committed.receipt) }
    }
}
