//! Keys, their versions, data keys and partitions; sealing and opening under them.
//!
//! **For:** creating and rotating keys, finding or making the data key of a partition, sealing, and
//! opening into [`fieldseal_audit::Withheld`]. The keyring lives here too.
//! **May use:** `audit`, `crypto`, `store`, `policy`, `model`. No gRPC.
//! **Must hold:** nothing opens without a `Permit` that covers it, and what was opened has no way
//! out but the journal. A change of keys is in the store and in the audit log, or it is not
//! acknowledged. A version's state is looked at on every use.

pub mod anchor;
mod approvals;
mod backups;
mod cache;
mod census;
mod change;
mod counts;
mod data_key;
mod due;
mod eras;
mod erasing;
mod error;
pub mod keyring;
mod keys;
mod ledger;
mod new_version;
mod opening;
mod partition_view;
mod partitions;
pub mod program;
mod records;
mod registry;
mod repair;
mod replay;
mod request;
mod rewrap;
pub mod root;
mod scrub;
mod sealing;
mod seen;
mod settings;
mod shredding;
mod unlogged;
mod usage;
mod version_state;
mod view;

pub use anchor::{Mismatch, Relation};
pub use approvals::{
    Approval, ApprovalState, Approving, Decided, LogSubject, OfLog, PENDING_OF_ONE,
};
pub use backups::{Incarnation, KnownBackup};
pub use census::{RotationStatus, Totals, Verdict, VersionStatus};
pub use change::{Changed, KeyChange, NewKey};
pub use data_key::{DataKeyHandle, Owner, Unusable};
pub use eras::CallGuard;
pub use error::KeyError;
pub use keys::{Keys, Settings, Statistics};
pub use ledger::Ledger;
pub use opening::{OpenCause, Opened, OpenedValue, Opening, OpeningKey};
pub use partition_view::{Erased, PartitionView};
pub use records::{DATA_KEY_CLASS, PartitionState};
pub use registry::{KeyView, VersionView};
pub use repair::raise_seals;
pub use replay::{Replay, Replayed};
pub use rewrap::{LeftBehind, RewrapJob, RewrapStarted, RewrapState};
pub use scrub::{Class, Damage, ScrubReport, scrub};
pub use sealing::{Sealer, SealingKey};
pub use settings::{CallRules, SettingsChange, SettingsChanged, settings_told};
pub use shredding::{PartitionChange, PartitionChanged, PartitionStep};
pub use usage::Day;
pub use version_state::{StateChange, VersionChanged};
