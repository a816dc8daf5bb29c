//! The key calls of operators.

use fieldseal_keys::{Changed, KeyChange, KeyError, KeyView};
use fieldseal_model::{AccessReason, Action, KeyName};
use fieldseal_policy::Permit;

use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};

impl Engine {
    /// Creates a key.
    ///
    /// # Errors
    /// Denied, exists already, request id reused, or trouble of journal and store.
    pub async fn create_key(&self, caller: &Caller, change: KeyChange) -> Result<Changed, Refusal> {
        let permit = self.permit_change(caller, Action::CreateKey, &change).await?;
        let reason = change.reason.clone();
        let result = self.inner.keys.create(&permit, change).await;
        self.changed(caller, &permit, &reason, result).await
    }

    /// Rotates a key.
    ///
    /// # Errors
    /// Denied, not found, an old etag, request id reused, or trouble of journal and store.
    pub async fn rotate_key(&self, caller: &Caller, change: KeyChange) -> Result<Changed, Refusal> {
        let permit = self.permit_change(caller, Action::RotateKey, &change).await?;
        let reason = change.reason.clone();
        let result = self.inner.keys.rotate(&permit, change).await;
        self.changed(caller, &permit, &reason, result).await
    }

    /// One key.
    ///
    /// # Errors
    /// Denied or not found.
    pub async fn key(&self, caller: &Caller, name: &KeyName) -> Result<KeyView, Refusal> {
        let permit = self.permit_read(caller, Action::GetKey, Some(name)).await?;
        Ok(self.inner.keys.key(&permit, name)?)
    }

    /// Every key, by name.
    ///
    /// # Errors
    /// Denied.
    pub async fn keys(&self, caller: &Caller) -> Result<Vec<KeyView>, Refusal> {
        let permit = self.permit_read(caller, Action::ListKeys, None).await?;
        Ok(self.inner.keys.list(&permit)?)
    }

    pub(crate) async fn permit_change(
        &self,
        caller: &Caller,
        action: Action,
        change: &KeyChange,
    ) -> Result<Permit, Refusal> {
        self.journal_ready()?;
        match self.decide_key(caller, action, Some(&change.key), &change.reason) {
            Ok(permit) => Ok(permit),
            Err(denial) => {
                let (key, reason) = (Some(&change.key), &change.reason);
                Err(self.denied(caller, action, key, reason, &denial).await)
            }
        }
    }

    /// A permit to read; a refused read is recorded, an allowed one is not.
    pub(crate) async fn permit_read(
        &self,
        caller: &Caller,
        action: Action,
        key: Option<&KeyName>,
    ) -> Result<Permit, Refusal> {
        let reason = AccessReason::default();
        match self.decide_key(caller, action, key, &reason) {
            Ok(permit) => Ok(permit),
            Err(denial) => Err(self.denied(caller, action, key, &reason, &denial).await),
        }
    }

    pub(crate) async fn changed<T>(
        &self,
        caller: &Caller,
        permit: &Permit,
        reason: &AccessReason,
        result: Result<T, KeyError>,
    ) -> Result<T, Refusal> {
        match result {
            Ok(changed) => Ok(changed),
            // These say themselves what stands in the log, or that nothing can.
            Err(error @ (KeyError::Unacknowledged | KeyError::Journal(_))) => Err(error.into()),
            Err(error) => {
                let cause = RefusalCause::from(error);
                Err(self.failed(caller, permit, reason, cause).await)
            }
        }
    }
}
