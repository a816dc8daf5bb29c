//! The only sequence: permit, operate, record, release.
//!
//! **For:** every call goes through here in the same order, whatever wire it came by; starting and
//! stopping an installation; the offline `recover`.
//! **May use:** `keys`, `audit`, `policy`, `identity`, `store`, `crypto`, `model`. No tonic.
//! **Must hold:** nothing is looked up before policy has said yes; no plaintext and no answer
//! derived from one leaves before its record is durable; without a working journal nothing that
//! would need a record begins.

mod approvals;
mod archive;
pub mod backup;
mod boot;
mod call;
mod call_rules;
mod counting;
mod decrypt;
pub mod doctor;
mod encrypt;
mod end_user;
mod engine;
mod export;
mod gather;
mod gone;
mod jobs;
mod manage;
mod observe;
pub mod offline;
mod outside;
mod partitions;
mod policy;
mod prove;
mod receipts;
mod redact;
mod refusal;
mod retention;
mod rewrap;
mod rulings;
mod summarize;
mod tail;
mod tokens;
mod upkeep;
mod volume;

pub use archive::{ArchiveRequest, Archiving};
pub use boot::{BootError, Installation, Settings, StoreBackend};
pub use call::{
    Caller, DecryptCall, DecryptItem, DecryptReply, EncryptCall, EncryptItem, EncryptReply,
    OpenedItem, PlainInput, SealedInput, SealedItem, Stated,
};
pub use end_user::Assertion;
pub use engine::Engine;
pub use export::{
    ExportError, ExportFeed, ExportState, ExportTarget, FilePlace, directory_of, directory_trouble,
    file_trouble,
};
pub use fieldseal_store::{CopyError, CopyTarget, Health as StoreHealth};
pub use observe::{AuditPage, AuditQuery, Measures, Status};
pub use outside::{AnchorError, AnchorService, AnchorState, AnchorTarget, HttpAnchor};
pub use policy::PolicyReload;
pub use prove::{ConsistencyProof, InclusionProof};
pub use receipts::{SHRED_RECEIPT, ShredReceipt, commitment};
pub use redact::{Redaction, RedactionRequest, RedactionSubject};
pub use refusal::{Refusal, RefusalCause};
pub use retention::{ArchiveTarget, KeptFor, Retention, RetentionJob, RetentionState};
pub use summarize::{AccessPage, AccessQuestion};
pub use tail::AuditTail;
pub use upkeep::{ScrubState, Scrubbed, Upkeep};
