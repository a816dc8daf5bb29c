//! What a caller may ask for: the closed list that policy, audit log and wire share.

/// What kind of thing an action does. It decides what must be on disk before the answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActionKind {
    /// Yields a plaintext or an answer derived from one: recorded before release.
    Decrypt,
    /// Seals a plaintext: counted, and recorded per call only where the key says so.
    Encrypt,
    /// Changes a key, in one transaction with its record, or the policy, once its record is written.
    Change,
    /// Reads settings, state or the audit log.
    Read,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $code:literal, $kind:ident;)*) => {
        /// An action, one for each RPC that can be allowed or refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $($(#[$doc])* $variant,)* }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name, as it stands in policies and in the log: the RPC's own name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The number that stands in the log. Never reused.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The action of a number in the log.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// What kind of thing it does.
            #[must_use]
            pub const fn kind(self) -> ActionKind {
                match self { $(Self::$variant => ActionKind::$kind,)* }
            }
        }
    };
}

actions! {
    /// `EncryptionService.Encrypt`
    Encrypt = "Encrypt", 1, Encrypt;
    /// `EncryptionService.Decrypt`
    Decrypt = "Decrypt", 2, Decrypt;
    /// `EncryptionService.BatchEncrypt`
    BatchEncrypt = "BatchEncrypt", 3, Encrypt;
    /// `EncryptionService.BatchDecrypt`
    BatchDecrypt = "BatchDecrypt", 4, Decrypt;
    /// `KeyService.CreateKey`
    CreateKey = "CreateKey", 16, Change;
    /// `KeyService.GetKey`
    GetKey = "GetKey", 17, Read;
    /// `KeyService.ListKeys`
    ListKeys = "ListKeys", 18, Read;
    /// `KeyService.RotateKey`
    RotateKey = "RotateKey", 19, Change;
    /// `KeyService.UpdateKey`
    UpdateKey = "UpdateKey", 20, Change;
    /// `KeyService.EnableKeyVersion`
    EnableKeyVersion = "EnableKeyVersion", 21, Change;
    /// `KeyService.DisableKeyVersion`
    DisableKeyVersion = "DisableKeyVersion", 22, Change;
    /// `KeyService.ScheduleDestroyKeyVersion`
    ScheduleDestroyKeyVersion = "ScheduleDestroyKeyVersion", 23, Change;
    /// `KeyService.RestoreKeyVersion`
    RestoreKeyVersion = "RestoreKeyVersion", 24, Change;
    /// `KeyService.ShredPartition`
    ShredPartition = "ShredPartition", 27, Change;
    /// `KeyService.RestorePartition`
    RestorePartition = "RestorePartition", 28, Change;
    /// `KeyService.ReopenPartition`
    ReopenPartition = "ReopenPartition", 31, Change;
    /// `KeyService.RewrapDataKeys`
    RewrapDataKeys = "RewrapDataKeys", 25, Change;
    /// `KeyService.GetRotationStatus`
    GetRotationStatus = "GetRotationStatus", 26, Read;
    /// `KeyService.GetRewrapJob`
    GetRewrapJob = "GetRewrapJob", 29, Read;
    /// `KeyService.CancelRewrapJob`
    CancelRewrapJob = "CancelRewrapJob", 30, Change;
    /// `AuditService.QueryAuditEvents`
    QueryAuditEvents = "QueryAuditEvents", 32, Read;
    /// `AuditService.GetCheckpoint`
    GetCheckpoint = "GetCheckpoint", 33, Read;
    /// `AuditService.SummarizeAccess`
    SummarizeAccess = "SummarizeAccess", 35, Read;
    /// `AuditService.RedactAuditEvents`
    RedactAuditEvents = "RedactAuditEvents", 45, Change;
    /// `AuditService.ArchiveAuditEvents`
    ArchiveAuditEvents = "ArchiveAuditEvents", 46, Change;
    /// `AuditService.GetInclusionProof`
    GetInclusionProof = "GetInclusionProof", 40, Read;
    /// `AuditService.GetConsistencyProof`
    GetConsistencyProof = "GetConsistencyProof", 41, Read;
    /// `AuditService.TailAuditEvents`
    TailAuditEvents = "TailAuditEvents", 52, Read;
    /// `KeyService.GetPartition`
    GetPartition = "GetPartition", 34, Read;
    /// `SystemService.GetStatus`
    GetStatus = "GetStatus", 48, Read;
    /// `SystemService.ReloadPolicy`
    ReloadPolicy = "ReloadPolicy", 49, Change;
    /// `SystemService.CreateBackup`, and `fieldseal backup create` of a stopped installation.
    CreateBackup = "CreateBackup", 50, Change;
    /// `SystemService.PruneBackups`, and `fieldseal backup prune` of a stopped installation.
    PruneBackups = "PruneBackups", 51, Change;
    /// `SystemService.ListApprovals`
    ListApprovals = "ListApprovals", 60, Read;
    /// `SystemService.ApproveChange`
    ApproveChange = "ApproveChange", 61, Change;
    /// `SystemService.RejectChange`
    RejectChange = "RejectChange", 62, Change;
    /// The offline command `fieldseal recover`.
    Recover = "Recover", 64, Decrypt;
    /// The offline command `fieldseal backup restore`.
    RestoreBackup = "RestoreBackup", 68, Change;
    /// The offline command `fieldseal backup drill`.
    BackupDrill = "BackupDrill", 70, Change;
    /// The offline command `fieldseal root drill`.
    RootDrill = "RootDrill", 65, Read;
    /// The offline command `fieldseal root rotate`.
    RootRotate = "RootRotate", 66, Change;
    /// The offline command `fieldseal root rewrap`.
    RootRewrap = "RootRewrap", 67, Change;
    /// The offline command `fieldseal doctor`, when it repairs.
    Repair = "Repair", 69, Change;
}

impl Action {
    /// The action of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| a.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_lead_back() {
        for action in Action::ALL {
            assert_eq!(Action::from_code(action.code()), Some(*action));
            assert_eq!(Action::from_name(action.as_str()), Some(*action));
        }
        assert_eq!(Action::from_code(0), None);
    }
}
