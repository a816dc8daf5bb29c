//! The only sequence: permit, operate, record, release.
//!
//! **For:** every call goes through here in the same order, whatever wire it came by; starting and
//! stopping an installation; the offline `recover`.
//! **May use:** `keys`, `audit`, `policy`, `store`, `crypto`, `model`. No tonic.
//! **Must hold:** nothing is looked up before policy has said yes; no plaintext and no answer
//! derived from one leaves before its record is durable; without a working journal nothing that
//! would need a record begins.

pub mod backup;
mod boot;
mod call;
mod call_rules;
mod decrypt;
pub mod doctor;
mod encrypt;
mod engine;
mod gather;
mod gone;
mod jobs;
mod manage;
mod observe;
pub mod offline;
mod partitions;
mod policy;
mod receipts;
mod redact;
mod refusal;
mod rewrap;
mod rulings;
mod summarize;
mod tokens;
mod upkeep;
mod volume;

pub use boot::{BootError, Installation, Settings, StoreBackend};
pub use call::{
    Caller, DecryptCall, DecryptItem, DecryptReply, EncryptCall, EncryptItem, EncryptReply,
    OpenedItem, PlainInput, SealedInput, SealedItem, Stated,
};
pub use engine::Engine;
pub use fieldseal_store::{CopyError, CopyTarget, Health as StoreHealth};
pub use observe::{AuditPage, AuditQuery, Measures, Status};
pub use policy::PolicyReload;
pub use receipts::{SHRED_RECEIPT, ShredReceipt, commitment};
pub use redact::{Redaction, RedactionRequest, RedactionSubject};
pub use refusal::{Refusal, RefusalCause};
pub use summarize::{AccessPage, AccessQuestion};
pub use upkeep::{ScrubState, Scrubbed, Upkeep};
