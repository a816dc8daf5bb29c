//! Which RPC is which action: the table that a test compares with the service descriptors.

use fieldseal_model::Action;

/// Every RPC of `fieldseal.v1` with the action that policy decides.
pub const ACTIONS: &[(&str, &str, Action)] = &[
    ("EncryptionService", "Encrypt", Action::Encrypt),
    ("EncryptionService", "Decrypt", Action::Decrypt),
    ("EncryptionService", "BatchEncrypt", Action::BatchEncrypt),
    ("EncryptionService", "BatchDecrypt", Action::BatchDecrypt),
    ("KeyService", "CreateKey", Action::CreateKey),
    ("KeyService", "GetKey", Action::GetKey),
    ("KeyService", "ListKeys", Action::ListKeys),
    ("KeyService", "RotateKey", Action::RotateKey),
    ("KeyService", "UpdateKey", Action::UpdateKey),
    ("KeyService", "EnableKeyVersion", Action::EnableKeyVersion),
    ("KeyService", "DisableKeyVersion", Action::DisableKeyVersion),
    ("KeyService", "ScheduleDestroyKeyVersion", Action::ScheduleDestroyKeyVersion),
    ("KeyService", "RestoreKeyVersion", Action::RestoreKeyVersion),
    ("KeyService", "ShredPartition", Action::ShredPartition),
    ("KeyService", "RestorePartition", Action::RestorePartition),
    ("KeyService", "ReopenPartition", Action::ReopenPartition),
    ("KeyService", "GetPartition", Action::GetPartition),
    ("KeyService", "RewrapDataKeys", Action::RewrapDataKeys),
    ("KeyService", "GetRewrapJob", Action::GetRewrapJob),
    ("KeyService", "CancelRewrapJob", Action::CancelRewrapJob),
    ("KeyService", "GetRotationStatus", Action::GetRotationStatus),
    ("AuditService", "QueryAuditEvents", Action::QueryAuditEvents),
    ("AuditService", "SummarizeAccess", Action::SummarizeAccess),
    ("AuditService", "RedactAuditEvents", Action::RedactAuditEvents),
    ("AuditService", "TailAuditEvents", Action::TailAuditEvents),
    ("AuditService", "GetCheckpoint", Action::GetCheckpoint),
    ("AuditService", "GetInclusionProof", Action::GetInclusionProof),
    ("AuditService", "GetConsistencyProof", Action::GetConsistencyProof),
    ("SystemService", "GetStatus", Action::GetStatus),
    ("SystemService", "ReloadPolicy", Action::ReloadPolicy),
    ("SystemService", "CreateBackup", Action::CreateBackup),
    ("SystemService", "PruneBackups", Action::PruneBackups),
];
