//! `GetInclusionProof` and `GetConsistencyProof`: what is asked, and what is answered.

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_engine::{ConsistencyProof, InclusionProof};
use fieldseal_model::{AccessReason, Malformed, MalformedReason};

use super::wire_checkpoint_of;
use crate::parse;

/// What a proof is asked about: a record or an older size, a size (`None`: the newest), and why.
pub(super) struct Asked {
    pub(super) first: u64,
    pub(super) size: Option<u64>,
    pub(super) reason: AccessReason,
}

/// Parses the request of an inclusion proof.
pub(super) fn inclusion(wire: &v1::GetInclusionProofRequest) -> Result<Asked, Malformed> {
    let first = number(wire.index)?;
    let size = wire.tree_size.map(number).transpose()?;
    if size == Some(0) {
        return Err(invalid(
            "a tree of 0 records has no record; leave tree_size out for the newest",
        ));
    }
    if size.is_some_and(|size| first >= size) {
        return Err(invalid("index is less than tree_size: records are counted from 0"));
    }
    Ok(Asked { first, size, reason: parse::reason(wire.reason.as_ref())? })
}

/// Parses the request of a consistency proof.
pub(super) fn consistency(wire: &v1::GetConsistencyProofRequest) -> Result<Asked, Malformed> {
    let first = number(wire.old_tree_size)?;
    let size = wire.tree_size.map(number).transpose()?;
    if first == 0 || size == Some(0) {
        return Err(invalid("a tree of 0 records proves nothing; name the size of a checkpoint"));
    }
    if size.is_some_and(|size| first > size) {
        return Err(invalid("old_tree_size is not more than tree_size"));
    }
    Ok(Asked { first, size, reason: parse::reason(wire.reason.as_ref())? })
}

fn number(number: i64) -> Result<u64, Malformed> {
    u64::try_from(number).map_err(|_| invalid("records and sizes of trees are not negative"))
}

fn invalid(what: &'static str) -> Malformed {
    Malformed::new(MalformedReason::TreeSizeInvalid, what)
}

/// The answer on the wire.
pub(super) fn included(found: InclusionProof) -> v1::GetInclusionProofResponse {
    let InclusionProof { leaf_hash, proof, tree_size, log } = found;
    v1::GetInclusionProofResponse {
        leaf_hash: Bytes::copy_from_slice(&leaf_hash),
        hashes: hashes(&proof.path),
        checkpoint: Some(wire_checkpoint_of(&log, tree_size, proof.checkpoint)),
    }
}

/// The answer on the wire.
pub(super) fn consistent(found: ConsistencyProof) -> v1::GetConsistencyProofResponse {
    let ConsistencyProof { proof, tree_size, log } = found;
    v1::GetConsistencyProofResponse {
        hashes: hashes(&proof.path),
        checkpoint: Some(wire_checkpoint_of(&log, tree_size, proof.checkpoint)),
    }
}

fn hashes(path: &[[u8; 32]]) -> Vec<Bytes> {
    path.iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
}
