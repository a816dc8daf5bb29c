//! Creating and rotating keys, and what all changes of keys share.

use std::sync::Arc;

use fieldseal_audit::{ChangedBy, Receipt};
use fieldseal_model::{
    AccessReason, Action, KeyName, KeySettings, RequestId, Timestamp, VersionNumber,
};
use fieldseal_policy::Permit;
use prost::Message;

use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::new_version::NewVersionOf;
use crate::records::NewVersionAnswer;
use crate::registry::{KeySnapshot, KeyView, MAX_KEYS, etag};
use crate::request::{Answered, Asked, digest};
use crate::settings;

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

impl KeyChange {
    /// Of everything that it asks for.
    pub(crate) fn digest(&self) -> [u8; 32] {
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

/// A key that an operator asks for.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its name, why, and the rest.
    pub change: KeyChange,
    /// Its settings.
    pub settings: KeySettings,
}

/// With the default settings.
impl From<KeyChange> for NewKey {
    fn from(change: KeyChange) -> Self {
        Self { change, settings: KeySettings::default() }
    }
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
    pub async fn create(
        &self,
        permit: &Permit,
        new: impl Into<NewKey>,
    ) -> Result<Changed, KeyError> {
        let NewKey { change, settings } = new.into();
        if !permit.covers_key(Action::CreateKey, &change.key) {
            return Err(KeyError::NotPermitted);
        }
        let (inner, permit) = (Arc::clone(&self.inner), permit.clone());
        self.inner.finish(async move { inner.change(&permit, Some(settings), change).await }).await
    }

    /// Makes a new primary version. The next seal of every partition makes a data key under it.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, `EtagMismatch`, `RequestIdReused`, `TooMany`, or trouble of
    /// journal and store.
    pub async fn rotate(&self, permit: &Permit, change: KeyChange) -> Result<Changed, KeyError> {
        if !permit.covers_key(Action::RotateKey, &change.key) {
            return Err(KeyError::NotPermitted);
        }
        let (inner, permit) = (Arc::clone(&self.inner), permit.clone());
        self.inner.finish(async move { inner.change(&permit, None, change).await }).await
    }
}

impl Inner {
    /// Creates the key, if there are settings for it, or rotates it.
    async fn change(
        &self,
        permit: &Permit,
        settings: Option<KeySettings>,
        change: KeyChange,
    ) -> Result<Changed, KeyError> {
        // A change before this one may wait for the log to come back: nobody need queue for that.
        self.ledger.ready()?;
        let _one_at_a_time = self.changes.lock().await;
        let values = settings.as_ref();
        let values = values.map(|s| settings::record(&change.key, Timestamp::default(), s));
        let values = values.map(|record| record.encode_to_vec()).unwrap_or_default();
        let digest = digest(&[&change.digest(), &values]);
        let request = match self.asked(permit, change.request_id.as_ref(), digest).await? {
            Asked::Before(answered) => return self.repeated(&answered),
            Asked::New(request) => request,
        };
        self.ledger.ready()?;
        let of = match settings {
            Some(settings) => {
                self.check_new(&change.key)?;
                NewVersionOf::Nothing(change.key.clone(), settings)
            }
            None => NewVersionOf::Key(self.check_etag(&change)?),
        };
        let number = of.number()?;
        if change.validate_only {
            return Ok(self.unchanged(&of, number));
        }
        let by = ChangedBy::Caller(permit, &change.reason);
        self.make_version(by, of, number, Some(request)).await
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

    fn unchanged(&self, of: &NewVersionOf, number: VersionNumber) -> Changed {
        let (key, previous) = match of {
            NewVersionOf::Key(key) => (self.view(key), Some(key.primary.version.number)),
            NewVersionOf::Nothing(name, settings) => {
                let view = KeyView {
                    name: name.clone(),
                    created_at: self.clock.now(),
                    primary: number,
                    versions: Vec::new(),
                    etag: String::new(),
                    settings: settings.clone(),
                    next_rotation: None,
                };
                (view, None)
            }
        };
        Changed { etag: key.etag.clone(), key, primary: number, previous, receipt: None }
    }

    /// The answer that the same request had before.
    fn repeated(&self, answered: &Answered) -> Result<Changed, KeyError> {
        let answer: NewVersionAnswer = answered.decode()?;
        let name = KeyName::parse(&answer.key).map_err(|_| KeyError::Corrupt("a request's key"))?;
        let primary = VersionNumber::new(answer.version)
            .ok_or(KeyError::Corrupt("a request's key version"))?;
        Ok(Changed {
            key: self.view(&*self.registry.key(&name)?),
            primary,
            previous: VersionNumber::new(answer.previous),
            etag: etag(answered.revision),
            receipt: None,
        })
    }
}
