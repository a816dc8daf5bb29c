//! The calls of operators about partitions.

use fieldseal_keys::{PartitionChange, PartitionChanged, PartitionStep, PartitionView};
use fieldseal_model::{AccessReason, Action, KeyName, Partition};
use fieldseal_policy::{Denial, Permit, Request};

use crate::call::Caller;
use crate::engine::Engine;
use crate::receipts::ShredReceipt;
use crate::refusal::Refusal;

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
        self.change_partition(caller, PartitionStep::Shred, change).await
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
        self.change_partition(caller, PartitionStep::Restore, change).await
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
        self.change_partition(caller, PartitionStep::Reopen, change).await
    }

    /// A partition and, once it was erased, a signed receipt of that, or why there is none yet.
    ///
    /// # Errors
    /// Denied, nothing there, or trouble of journal and store.
    pub async fn partition(
        &self,
        caller: &Caller,
        key: &KeyName,
        partition: &Partition,
    ) -> Result<(PartitionView, ShredReceipt), Refusal> {
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

    async fn change_partition(
        &self,
        caller: &Caller,
        step: PartitionStep,
        change: PartitionChange,
    ) -> Result<PartitionChanged, Refusal> {
        self.journal_ready()?;
        let (action, reason) = (step.action(), change.reason.clone());
        let PartitionChange { key, partition, .. } = &change;
        let permit = match self.decide_partition(caller, action, key, partition, &reason) {
            Ok(permit) => permit,
            Err(denial) => {
                return Err(self.denied(caller, action, Some(key), &reason, &denial).await);
            }
        };
        let result = self.inner.keys.change_partition(&permit, step, change).await;
        self.changed(caller, &permit, &reason, result).await
    }

    pub(crate) fn decide_partition(
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
}
