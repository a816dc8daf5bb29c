//! The words of Fieldseal as types that can only be made by parsing.
//!
//! **For:** names, contexts, principals, actions, states and the clock, shared by every floor above.
//! **May use:** nothing of ours. No I/O, no cryptography, no async.
//! **Must hold:** a value of one of these types is always legal (lengths, characters, canonical
//! form), so no floor above checks again. None of them holds a secret.

mod action;
mod allowed;
mod certificate;
mod clock;
mod context;
pub mod hex;
mod malformed;
mod name;
mod principal;
mod reason;
mod row;
mod settings;
mod version;

pub use action::{Action, ActionKind};
pub use allowed::{AllowedPurposes, MAX_ALLOWED, MAX_ALLOWED_BYTES, TicketPatterns};
pub use certificate::CertificateId;
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use context::{Context, ExtraContext, Field, MAX_CONTEXT_BYTES, MAX_EXTRA_PAIRS};
pub use malformed::{Malformed, MalformedReason};
pub use name::{Column, KeyName, PairName, PairValue, Partition, PartitionClass, Table};
pub use principal::{Principal, PrincipalKind};
pub use reason::{AccessReason, EndUser, Purpose, RequestId, Ticket};
pub use row::Row;
pub use settings::{KeySettings, Labels, MAX_LABELS, Required, SEAL_BLOCK, Setting};
pub use version::{InstallationId, KeyId, KeyVersion, KeyVersionState, VersionNumber};
