//! Finishing a rotation: rewraps, and what is left under which version.

use fieldseal_keys::{KeyChange, RewrapJob, RewrapStarted, RotationStatus};
use fieldseal_model::{Action, KeyName};

use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::Refusal;

impl Engine {
    /// Starts to move a key's data keys under its primary version, at most so many a second (0: no
    /// limit).
    ///
    /// # Errors
    /// Denied, not found, an old etag, a rewrap that runs, request id reused, or trouble of journal
    /// and store.
    pub async fn start_rewrap(
        &self,
        caller: &Caller,
        change: KeyChange,
        max_per_second: u32,
    ) -> Result<RewrapStarted, Refusal> {
        let permit = self.permit_change(caller, Action::RewrapDataKeys, &change).await?;
        let reason = change.reason.clone();
        let result = self.inner.keys.start_rewrap(&permit, change, max_per_second).await;
        self.changed(caller, &permit, &reason, result).await
    }

    /// Cancels a key's rewrap.
    ///
    /// # Errors
    /// Denied, not found, an old etag, no rewrap that runs, request id reused, or trouble of journal
    /// and store.
    pub async fn cancel_rewrap(
        &self,
        caller: &Caller,
        change: KeyChange,
    ) -> Result<RewrapStarted, Refusal> {
        let permit = self.permit_change(caller, Action::CancelRewrapJob, &change).await?;
        let reason = change.reason.clone();
        let result = self.inner.keys.cancel_rewrap(&permit, change).await;
        self.changed(caller, &permit, &reason, result).await
    }

    /// A key's newest rewrap.
    ///
    /// # Errors
    /// Denied, not found, or the store's trouble.
    pub async fn rewrap_job(&self, caller: &Caller, key: &KeyName) -> Result<RewrapJob, Refusal> {
        let permit = self.permit_read(caller, Action::GetRewrapJob, Some(key)).await?;
        Ok(self.inner.keys.rewrap_job(&permit, key).await?)
    }

    /// How far a key's rotation is.
    ///
    /// # Errors
    /// Denied, not found, or the store's trouble.
    pub async fn rotation_status(
        &self,
        caller: &Caller,
        key: &KeyName,
    ) -> Result<RotationStatus, Refusal> {
        let permit = self.permit_read(caller, Action::GetRotationStatus, Some(key)).await?;
        Ok(self.inner.keys.rotation(&permit, key).await?)
    }
}
