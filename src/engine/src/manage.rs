//! The key calls of operators.

use fieldseal_keys::{
    Changed, KeyChange, KeyError, KeyView, NewKey, SettingsChange, SettingsChanged, StateChange,
    VersionChanged,
};
use fieldseal_model::{AccessReason, Action, KeyName, VersionNumber};
use fieldseal_policy::Permit;

use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};

impl Engine {
    /// Creates a key.
    ///
    /// # Errors
    /// Denied, exists already, request id reused, or trouble of journal and store.
    pub async fn create_key(
        &self,
        caller: &Caller,
        new: impl Into<NewKey>,
    ) -> Result<Changed, Refusal> {
        let new = new.into();
        let permit = self.permit_change(caller, Action::CreateKey, &new.change).await?;
        let reason = new.change.reason.clone();
        let result = self.inner.keys.create(&permit, new).await;
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

    /// Changes settings of a key.
    ///
    /// # Errors
    /// Denied, not found, an old etag, request id reused, or trouble of journal and store.
    pub async fn update_key(
        &self,
        caller: &Caller,
        asked: SettingsChange,
    ) -> Result<SettingsChanged, Refusal> {
        let permit = self.permit_change(caller, Action::UpdateKey, &asked.change).await?;
        let reason = asked.change.reason.clone();
        let result = self.inner.keys.update(&permit, asked).await;
        self.changed(caller, &permit, &reason, result).await
    }

    /// Changes the state of a key version. If it may not be used afterwards, no call opens a value
    /// under it once this has returned.
    ///
    /// # Errors
    /// Denied, not found, an old etag, primary, a state that does not allow it, data keys that
    /// would be lost, request id reused, or trouble of journal and store.
    pub async fn change_key_version(
        &self,
        caller: &Caller,
        change: KeyChange,
        number: VersionNumber,
        what: StateChange,
    ) -> Result<VersionChanged, Refusal> {
        let permit = self.permit_change(caller, what.action(), &change).await?;
        let reason = change.reason.clone();
        let result = self.inner.keys.change_version(&permit, change, number, what).await;
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
            // The request itself is on record, with the reason why it waits.
            Err(KeyError::ApprovalRequired { id, expires_at, receipt: Some(receipt) }) => {
                let error = KeyError::ApprovalRequired { id, expires_at, receipt: None };
                Err(Refusal::recorded(error, &receipt))
            }
            // These say themselves what stands in the log, or that nothing can.
            Err(error @ (KeyError::Unacknowledged | KeyError::Journal(_))) => Err(error.into()),
            Err(error) => {
                let cause = RefusalCause::from(error);
                Err(self.failed(caller, permit, reason, cause).await)
            }
        }
    }
}
