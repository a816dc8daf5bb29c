//! Proofs that a record is in the log and that the log only grew.

use fieldseal_audit::verify::{Consistency, Inclusion};
use fieldseal_audit::{Query, Reader};
use fieldseal_model::{AccessReason, Action};

use crate::call::Caller;
use crate::engine::Engine;
use crate::observe::AuditQuery;
use crate::refusal::Refusal;

/// A record, its leaf hash and its path to the root of a tree.
pub struct InclusionProof {
    /// The record's RFC 6962 leaf hash.
    pub leaf_hash: [u8; 32],
    /// The path, and the checkpoint that was signed of the tree.
    pub proof: Inclusion,
    /// How many records the tree has.
    pub tree_size: u64,
    /// The instance that names the log.
    pub log: String,
}

/// That a tree is the beginning of a longer one.
pub struct ConsistencyProof {
    /// The path, and the checkpoint that was signed of the longer tree.
    pub proof: Consistency,
    /// How many records the longer tree has.
    pub tree_size: u64,
    /// The instance that names the log.
    pub log: String,
}

impl Engine {
    /// The proof that a record is in the tree of the first `size` records; `None` is the newest tree.
    /// That it was asked for is on record, with how it ended, before the answer leaves.
    ///
    /// # Errors
    /// As [`Engine::query_audit`]; a record or a size that the log does not have; a size at which
    /// nothing was signed.
    pub async fn inclusion_proof(
        &self,
        caller: &Caller,
        log: String,
        index: u64,
        size: Option<u64>,
        reason: &AccessReason,
    ) -> Result<InclusionProof, Refusal> {
        let read = move |reader: &Reader, _: &Query, known| {
            let tree_size = size.unwrap_or(known);
            reader.inclusion(index, tree_size, known).map(|found| (found, tree_size))
        };
        let action = Action::GetInclusionProof;
        let query = AuditQuery { log, ..AuditQuery::default() };
        let (found, _) = self.read_log(caller, action, query, reason, read).await?;
        let ((leaf_hash, proof), tree_size) = found;
        let log = self.inner.journal.log().to_owned();
        Ok(InclusionProof { leaf_hash, proof, tree_size, log })
    }

    /// The proof that the tree of the first `size` records, or the newest one, begins with that of the
    /// first `old`. It is on record as the other is.
    ///
    /// # Errors
    /// As [`Engine::inclusion_proof`].
    pub async fn consistency_proof(
        &self,
        caller: &Caller,
        log: String,
        old: u64,
        size: Option<u64>,
        reason: &AccessReason,
    ) -> Result<ConsistencyProof, Refusal> {
        let read = move |reader: &Reader, _: &Query, known| {
            let tree_size = size.unwrap_or(known);
            reader.consistency(old, tree_size, known).map(|found| (found, tree_size))
        };
        let action = Action::GetConsistencyProof;
        let query = AuditQuery { log, ..AuditQuery::default() };
        let (found, _) = self.read_log(caller, action, query, reason, read).await?;
        let (proof, tree_size) = found;
        let log = self.inner.journal.log().to_owned();
        Ok(ConsistencyProof { proof, tree_size, log })
    }
}
