//! Creating and rotating keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind, Receipt};
use fieldseal_crypto::Kek;
use fieldseal_crypto::wrap::KekId;
use fieldseal_model::{
    AccessReason, Action, KeyName, KeyVersion, KeyVersionState, RequestId, Timestamp, VersionNumber,
};
use fieldseal_policy::Permit;
use fieldseal_store::Txn;
use prost::Message;

use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::ledger::Committed;
use crate::records::{
    KEY, KeyRecord, NewVersionAnswer, PRIMARY, PrimaryRecord, VERSION, VersionRecord,
};
use crate::registry::{KeySnapshot, KeyView, MAX_KEYS, VersionCell, VersionFacts, etag};
use crate::request::{Answered, Asked, NewRequest, digest};

/// A change that an operator asks for.
#[derive(Debug, Clone)]
pub struct KeyChange {
    /// The key.
    pub key: KeyName,
    /// The etag the key must still have; empty if any will do. `CreateKey` has none.
    pub etag: String,
    /// The caller's id for this request.
    pub request_id: Option<RequestId>,
    /// Check everything, change nothing.
    pub validate_only: bool,
    /// Why.
    pub reason: AccessReason,
}

/// What a change came to.
pub struct Changed {
    /// The key afterwards.
    pub key: KeyView,
    /// The primary version that this change made.
    pub primary: VersionNumber,
    /// The primary version before; `None` for a new key.
    pub previous: Option<VersionNumber>,
    /// The etag that this change made.
    pub etag: String,
    /// The audit record's receipt; `None` when nothing was changed, or when the same request id
    /// had its answer before.
    pub receipt: Option<Receipt>,
}

impl Keys {
    /// Creates a key with its first version.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyExists`, `RequestIdReused`, `TooMany`, or trouble of journal and store.
    pub async fn create(&self, permit: &Permit, change: KeyChange) -> Result<Changed, KeyError> {
        self.change(permit, Action::CreateKey, change).await
    }

    /// Makes a new primary version. The next seal of every partition makes a data key under it.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, `EtagMismatch`, `RequestIdReused`, `TooMany`, or trouble of
    /// journal and store.
    pub async fn rotate(&self, permit: &Permit, change: KeyChange) -> Result<Changed, KeyError> {
        self.change(permit, Action::RotateKey, change).await
    }

    async fn change(
        &self,
        permit: &Permit,
        action: Action,
        change: KeyChange,
    ) -> Result<Changed, KeyError> {
        if !permit.covers_key(action, &change.key) {
            return Err(KeyError::NotPermitted);
        }
        let (inner, permit) = (Arc::clone(&self.inner), permit.clone());
        self.inner.finish(async move { inner.change(&permit, action, change).await }).await
    }
}

impl Inner {
    async fn change(
        &self,
        permit: &Permit,
        action: Action,
        change: KeyChange,
    ) -> Result<Changed, KeyError> {
        // A change before this one may wait for the log to come back: nobody need queue for that.
        self.ledger.ready()?;
        let _one_at_a_time = self.changes.lock().await;
        let request = match self.asked(permit, change.request_id.as_ref(), change.digest()).await? {
            Asked::Before(answered) => return self.repeated(&answered),
            Asked::New(request) => request,
        };
        self.ledger.ready()?;
        let before = match action {
            Action::CreateKey => {
                self.check_new(&change.key)?;
                None
            }
            _ => Some(self.check_etag(&change)?),
        };
        let number = before.as_ref().map_or(Ok(VersionNumber::FIRST), |s| s.next_number())?;
        if change.validate_only {
            return self.unchanged(&change, before, number);
        }
        let made = self.make_version(&change.key, number)?;
        let (committed, cell) =
            self.write(permit, &change, before.as_deref(), made, request).await?;
        Ok(self.publish(change, before.as_deref(), cell, committed))
    }

    fn check_new(&self, name: &KeyName) -> Result<(), KeyError> {
        if self.registry.key(name).is_ok() {
            return Err(KeyError::KeyExists);
        }
        if self.registry.len() >= MAX_KEYS {
            return Err(KeyError::TooMany { what: "keys", limit: MAX_KEYS });
        }
        Ok(())
    }

    pub(crate) fn check_etag(&self, change: &KeyChange) -> Result<Arc<KeySnapshot>, KeyError> {
        let snapshot = self.registry.key(&change.key)?;
        if !change.etag.is_empty() && change.etag != etag(snapshot.revision) {
            return Err(KeyError::EtagMismatch);
        }
        Ok(snapshot)
    }

    fn unchanged(
        &self,
        change: &KeyChange,
        before: Option<Arc<KeySnapshot>>,
        number: VersionNumber,
    ) -> Result<Changed, KeyError> {
        let key = before.as_ref().map(|s| s.view()).unwrap_or_else(|| KeyView {
            name: change.key.clone(),
            created_at: self.clock.now(),
            primary: number,
            versions: Vec::new(),
            etag: String::new(),
        });
        let previous = before.as_ref().map(|s| s.primary.version.number);
        Ok(Changed { etag: key.etag.clone(), key, primary: number, previous, receipt: None })
    }

    fn make_version(&self, key: &KeyName, number: VersionNumber) -> Result<NewVersion, KeyError> {
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
        };
        Ok(NewVersion { number, kek, created_at, record })
    }

    async fn write(
        &self,
        permit: &Permit,
        change: &KeyChange,
        before: Option<&KeySnapshot>,
        made: NewVersion,
        request: NewRequest,
    ) -> Result<(Committed, VersionCell), KeyError> {
        let name = change.key.as_str().as_bytes();
        let key = self.store.path(KEY, &[name]);
        let primary = self.store.path(PRIMARY, &[name]);
        let version = self.store.path(VERSION, &[name, &made.number.get().to_be_bytes()]);
        let kind = if before.is_some() { Kind::KeyRotated } else { Kind::KeyCreated };
        let by = ChangedBy::Caller(permit, &change.reason);
        let event = ChangeEvent::new(by, made.created_at, kind, Some(&change.key))
            .version(made.number.get());
        let pointer =
            PrimaryRecord { key: change.key.as_str().to_owned(), version: made.number.get() };
        let answer = NewVersionAnswer {
            key: change.key.as_str().to_owned(),
            version: made.number.get(),
            previous: before.map_or(0, |s| s.primary.version.number.get()),
        };
        let settings = KeyRecord {
            name: change.key.as_str().to_owned(),
            created_at: made.created_at.unix_nanos(),
        };
        let record = made.record.encode_to_vec();
        let fill = |txn: Txn| {
            let txn = match before {
                Some(snapshot) => txn.at(primary.clone(), snapshot.primary_revision),
                None => txn
                    .absent(key.clone())
                    .absent(primary.clone())
                    .put(key, settings.encode_to_vec()),
            };
            let txn = txn
                .absent(version.clone())
                .put(version, record)
                .put(primary, pointer.encode_to_vec());
            request.answer(txn, made.created_at, &answer)
        };
        let committed = self.ledger.commit(event, fill).await?;
        let version = KeyVersion { key: change.key.clone(), number: made.number };
        let kek = Some(Arc::new(made.kek));
        let facts = VersionFacts { revision: committed.revision, record: made.record, kek };
        let cell = VersionCell::new(version, facts)?;
        Ok((committed, cell))
    }

    /// Makes the change visible: the next request sees it.
    fn publish(
        &self,
        change: KeyChange,
        before: Option<&KeySnapshot>,
        cell: VersionCell,
        committed: Committed,
    ) -> Changed {
        let (created_at, primary) = (cell.created_at, cell.version.number);
        let cell = Arc::new(cell);
        let mut versions = before.map_or_else(BTreeMap::new, |s| s.versions.clone());
        versions.insert(primary, Arc::clone(&cell));
        let snapshot = KeySnapshot {
            name: change.key,
            created_at: before.map_or(created_at, |s| s.created_at),
            primary: cell,
            primary_revision: committed.revision,
            revision: committed.revision,
            versions,
        };
        let key = snapshot.view();
        self.registry.put(snapshot);
        Changed {
            etag: key.etag.clone(),
            key,
            primary,
            previous: before.map(|s| s.primary.version.number),
            receipt: Some(committed.receipt),
        }
    }

    /// The answer that the same request had before.
    fn repeated(&self, answered: &Answered) -> Result<Changed, KeyError> {
        let answer: NewVersionAnswer = answered.decode()?;
        let name = KeyName::parse(&answer.key).map_err(|_| KeyError::Corrupt("a request's key"))?;
        let primary = VersionNumber::new(answer.version)
            .ok_or(KeyError::Corrupt("a request's key version"))?;
        Ok(Changed {
            key: self.registry.key(&name)?.view(),
            primary,
            previous: VersionNumber::new(answer.previous),
            etag: etag(answered.revision),
            receipt: None,
        })
    }
}

struct NewVersion {
    number: VersionNumber,
    kek: Kek,
    created_at: Timestamp,
    record: VersionRecord,
}

impl KeyChange {
    /// Of everything that it asks for.
    fn digest(&self) -> [u8; 32] {
        digest(&[
            self.key.as_str().as_bytes(),
            self.etag.as_bytes(),
            self.reason.purpose.as_str().as_bytes(),
            self.reason.ticket.as_str().as_bytes(),
        ])
    }

    /// The same of a rewrap.
    pub(crate) fn rewrap_digest(&self, max_per_second: u32) -> [u8; 32] {
        digest(&[&self.digest(), &max_per_second.to_be_bytes()])
    }
}
