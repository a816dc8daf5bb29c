//! What a caller asks for.

use fieldseal_model::{
    AccessReason, Action, Column, Field, KeyName, Partition, PartitionClass, Principal, Table,
};

/// What a call is about: it decides which parts of a [`Request`] are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One column under one key: key, table and column.
    Column,
    /// One partition under a key: key and partition.
    Partition,
    /// One key.
    Key,
    /// The whole installation: none of them.
    Installation,
}

impl Subject {
    /// What calls of this action are about.
    #[must_use]
    pub const fn of(action: Action) -> Self {
        match action {
            Action::Encrypt
            | Action::Decrypt
            | Action::BatchEncrypt
            | Action::BatchDecrypt
            | Action::Recover => Self::Column,
            Action::CreateKey
            | Action::GetKey
            | Action::RotateKey
            | Action::RewrapDataKeys
            | Action::GetRotationStatus
            | Action::GetRewrapJob
            | Action::CancelRewrapJob
            | Action::UpdateKey
            | Action::EnableKeyVersion
            | Action::DisableKeyVersion
            | Action::ScheduleDestroyKeyVersion
            | Action::RestoreKeyVersion => Self::Key,
            Action::ShredPartition
            | Action::RestorePartition
            | Action::ReopenPartition
            | Action::GetPartition => Self::Partition,
            Action::ListKeys
            | Action::QueryAuditEvents
            | Action::SummarizeAccess
            | Action::RedactAuditEvents
            | Action::ArchiveAuditEvents
            | Action::TailAuditEvents
            | Action::GetCheckpoint
            | Action::GetInclusionProof
            | Action::GetConsistencyProof
            | Action::GetStatus
            | Action::ReloadPolicy
            | Action::CreateBackup
            | Action::PruneBackups
            | Action::ListApprovals
            | Action::ApproveChange
            | Action::RejectChange
            | Action::RestoreBackup
            | Action::BackupDrill
            | Action::RootDrill
            | Action::RootRotate
            | Action::RootRewrap
            | Action::Repair => Self::Installation,
        }
    }
}

/// Everything that a decision depends on, as the caller stated it. Nothing has been looked up yet.
///
/// A call about a column names key, table and column; a call about a key, or a partition under it,
/// names the key; a call about the installation names none of them. Anything else does not fit the action and is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Request<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// What for.
    pub action: Action,
    /// The key.
    pub key: Option<&'a KeyName>,
    /// The class of the partition; for calls without one, `PartitionClass::Default`.
    pub partition: PartitionClass,
    /// The table.
    pub table: Option<&'a Table>,
    /// The column.
    pub column: Option<&'a Column>,
    /// Why, in the caller's words.
    pub reason: &'a AccessReason,
}

impl<'a> Request<'a> {
    /// A request about one column in one partition.
    #[must_use]
    pub fn field(
        principal: &'a Principal,
        action: Action,
        field: &'a Field,
        partition: &Partition,
        reason: &'a AccessReason,
    ) -> Self {
        Self {
            principal,
            action,
            key: Some(&field.key),
            partition: partition.class(),
            table: Some(&field.table),
            column: Some(&field.column),
            reason,
        }
    }

    /// A request about one key.
    #[must_use]
    pub const fn key(
        principal: &'a Principal,
        action: Action,
        key: &'a KeyName,
        reason: &'a AccessReason,
    ) -> Self {
        Self { key: Some(key), ..Self::installation(principal, action, reason) }
    }

    /// A request about the whole installation.
    #[must_use]
    pub const fn installation(
        principal: &'a Principal,
        action: Action,
        reason: &'a AccessReason,
    ) -> Self {
        Self {
            principal,
            action,
            key: None,
            partition: PartitionClass::Default,
            table: None,
            column: None,
            reason,
        }
    }
}

/// A request that owns its parts. They are reference-counted, so this copies no text.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) principal: Principal,
    pub(crate) action: Action,
    pub(crate) key: Option<KeyName>,
    pub(crate) partition: PartitionClass,
    pub(crate) table: Option<Table>,
    pub(crate) column: Option<Column>,
    pub(crate) reason: AccessReason,
}

impl Asked {
    pub(crate) fn new(request: &Request<'_>) -> Self {
        Self {
            principal: request.principal.clone(),
            action: request.action,
            key: request.key.cloned(),
            partition: request.partition,
            table: request.table.cloned(),
            column: request.column.cloned(),
            reason: request.reason.clone(),
        }
    }

    pub(crate) const fn as_request(&self) -> Request<'_> {
        Request {
            principal: &self.principal,
            action: self.action,
            key: self.key.as_ref(),
            partition: self.partition,
            table: self.table.as_ref(),
            column: self.column.as_ref(),
            reason: &self.reason,
        }
    }
}
