//! The calls of operators about partitions.

use fieldseal_keys::{KeyError, PartitionChange, PartitionChanged, PartitionView};
use fieldseal_model::{AccessReason, Action, KeyName, Partition};
use fieldseal_policy::{Denial, Permit, Request};

use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};

impl Engine {
    /// Shreds a partition: nothing of it opens or is sealed by a call that begins after this
    /// returned.
    ///
    /// # Errors
    /// Denied, nothing there, another state, a window that is too short or too long, request id
    /// reused, or trouble of journal and store.
    pub async fn shred_partition(
        &self,
        caller: &Caller,
        change: PartitionChange,
    ) -> Result<PartitionChanged, Refusal> {
        let permit = self.permit_partition(caller, Action::ShredPartition, &change).await?;
        let reason = change.reason.clone();
        let result = self.inner.keys.shred_partition(&permit, change).await;
        self.partition_changed(caller, &permit, &reason, result).await
    }

    /// Takes a shred back.
    ///
    /// # Errors
    /// As [`Engine::shred_partition`].
    pub async fn restore_partition(
        &self,
        caller: &Caller,
        change: PartitionChange,
    ) -> Result<PartitionChanged, Refusal> {
        let permit = self.permit_partition(caller, Action::RestorePartition, &change).await?;
        let reason = change.reason.clone();
        let result = self.inner.keys.restore_partition(&permit, change).await;
        self.partition_changed(caller, &permit, &reason, result).await
    }

    /// Lets an erased partition take new values.
    ///
    /// # Errors
    /// As [`Engine::shred_partition`].
    pub async fn reopen_partition(
        &self,
        caller: &Caller,
        change: PartitionChange,
    ) -> Result<PartitionChanged, Refusal> {
        let permit = self.permit_partition(caller, Action::ReopenPartition, &change).await?;
        let reason = change.reason.clone();
        let result = self.inner.keys.reopen_partition(&permit, change).await;
        self.partition_changed(caller, &permit, &reason, result).await
    }

    /// A partition and, once it was erased, a signed receipt of that.
    ///
    /// # Errors
    /// Denied, nothing there, or trouble of journal and store.
    pub async fn partition(
        &self,
        caller: &Caller,
        key: &KeyName,
        partition: &Partition,
    ) -> Result<(PartitionView, Option<String>), Refusal> {
        let (action, reason) = (Action::GetPartition, AccessReason::default());
        let permit = match self.decide_partition(caller, action, key, partition, &reason) {
            Ok(permit) => permit,
            Err(denial) => {
                return Err(self.denied(caller, action, Some(key), &reason, &denial).await);
            }
        };
        let view = self.inner.keys.view_partition(&permit, key, partition).await?;
        let receipt = self.shred_receipt(&view).await?;
        Ok((view, receipt))
    }

    async fn permit_partition(
        &self,
        caller: &Caller,
        action: Action,
        change: &PartitionChange,
    ) -> Result<Permit, Refusal> {
        self.journal_ready()?;
        let PartitionChange { key, partition, reason, .. } = change;
        match self.decide_partition(caller, action, key, partition, reason) {
            Ok(permit) => Ok(permit),
            Err(denial) => Err(self.denied(caller, action, Some(key), reason, &denial).await),
        }
    }

    fn decide_partition(
        &self,
        caller: &Caller,
        action: Action,
        key: &KeyName,
        partition: &Partition,
        reason: &AccessReason,
    ) -> Result<Permit, Denial> {
        self.inner.policy.newest().decide(&Request {
            principal: &caller.principal,
            action,
            key: Some(key),
            partition: partition.class(),
            table: None,
            column: None,
            reason,
        })
    }

    async fn partition_changed(
        &self,
        caller: &Caller,
        permit: &Permit,
        reason: &AccessReason,
        result: Result<PartitionChanged, KeyError>,
    ) -> Result<PartitionChanged, Refusal> {
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
