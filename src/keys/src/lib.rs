//! Keys, their versions, data keys and partitions; sealing and opening under them.
//!
//! **For:** creating and rotating keys, finding or making the data key of a partition, sealing, and
//! opening into [`fieldseal_audit::Withheld`]. The keyring lives here too.
//! **May use:** `audit`, `crypto`, `store`, `policy`, `model`. No gRPC.
//! **Must hold:** nothing opens without a `Permit` that covers it, and what was opened has no way
//! out but the journal. A change of keys is in the store and in the audit log, or it is not
//! acknowledged. A version's state is looked at on every use.

pub mod anchor;
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
mod opening;
mod partitions;
mod records;
mod registry;
mod repair;
mod request;
mod rewrap;
pub mod root;
mod scrub;
mod sealing;
mod seen;
mod shredding;
mod usage;

pub use anchor::{Mismatch, Relation};
pub use census::{RotationStatus, Totals, Verdict, VersionStatus};
pub use change::{Changed, KeyChange};
pub use data_key::DataKeyHandle;
pub use eras::CallGuard;
pub use error::KeyError;
pub use keys::{Keys, Settings, Statistics};
pub use ledger::Ledger;
pub use opening::{OpenCause, Opened, OpenedValue, Opening, OpeningKey};
pub use records::PartitionState;
pub use registry::{KeyView, VersionView};
pub use repair::raise_seals;
pub use rewrap::{LeftBehind, RewrapJob, RewrapStarted, RewrapState};
pub use scrub::{Class, Damage, ScrubReport, scrub};
pub use sealing::{Sealer, SealingKey};
pub use shredding::{Erased, PartitionChange, PartitionChanged, PartitionView};
pub use usage::Day;
