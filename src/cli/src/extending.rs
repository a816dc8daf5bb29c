//! `audit check-checkpoint`, and proofs of the running sidecar: nothing that it says is believed
//! before it is checked with the log's public key.

use fieldseal_api::v1;
use fieldseal_audit::verify::{self, Inclusion};
use serde_json::json;

use crate::arguments::AuditCheckCheckpointArguments;
use crate::connection::{self, failure};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, grouped};
use crate::verify as verifying;

/// The sidecar's word for records that its log does not have.
const BEYOND: &str = "TREE_BEYOND_LOG";

/// Runs `audit check-checkpoint`.
pub(crate) async fn check(
    arguments: &AuditCheckCheckpointArguments,
    output: &Output,
) -> Result<(), Failure> {
    let key = verifying::public_key(&arguments.public_key)?;
    let kept = verifying::checkpoint(&arguments.file, &key)?;
    if kept.size == 0 {
        let what = "a checkpoint of no records proves nothing: every log goes on from it";
        return Err(Failure::usage("CHECKPOINT_INVALID", what));
    }
    let mut client = connection::connect().await?.audit();
    let old_tree_size = i64::try_from(kept.size).unwrap_or(i64::MAX);
    let request = v1::GetConsistencyProofRequest { old_tree_size, ..Default::default() };
    let reply = match client.get_consistency_proof(request).await.map_err(|s| failure(&s)) {
        Err(refused) if refused.reason() == BEYOND => return Err(missing(kept.size)),
        other => other?.into_inner(),
    };
    let note = reply.checkpoint.unwrap_or_default().note;
    let newest = verify::remembered(&note, &key).map_err(|e| verifying::failure(&e))?;
    if newest.size < kept.size {
        return Err(missing(kept.size));
    }
    let path = hashes(&reply.hashes).filter(|path| verify::extends(&kept, &newest, path));
    if path.is_none() {
        let what = "the sidecar's log does not go on from this checkpoint: it was written anew, or \
                    the sidecar's proof is none";
        return Err(Failure::new(Exit::Tampered, "AUDIT_LOG_TAMPERED", what)
            .advise("keep the checkpoint and the log's files as they are: they are evidence"));
    }
    let line = verify::line(&note).unwrap_or_default();
    let shown = || {
        let mut table = Table::bare();
        table.row(["verified", "the log goes on from the checkpoint that was kept"]);
        table.row(["log", key.origin()]);
        table.row(["records then", &grouped(kept.size)]);
        table.row(["records now", &grouped(newest.size)]);
        table.row(["newest", &line]);
        table.text()
    };
    let json = || {
        json!({
            "origin": key.origin(), "old_tree_size": kept.size, "tree_size": newest.size,
            "line": line, "note": note,
        })
    };
    output.show(json, shown)
}

/// The leaf hash of a record and its proof, as the running sidecar gives them; `None` if its log has
/// no such record.
pub(crate) async fn inclusion(index: u64) -> Result<Option<([u8; 32], Inclusion)>, Failure> {
    let mut client = connection::connect().await?.audit();
    // Larger than any log: the sidecar says that it has no such record.
    let wire_index = i64::try_from(index).unwrap_or(i64::MAX);
    let request = v1::GetInclusionProofRequest { index: wire_index, ..Default::default() };
    let reply = match client.get_inclusion_proof(request).await.map_err(|s| failure(&s)) {
        Err(refused) if refused.reason() == BEYOND => return Ok(None),
        other => other?.into_inner(),
    };
    let (leaf, path) = (reply.leaf_hash.as_ref().try_into().ok(), hashes(&reply.hashes));
    let checkpoint = reply.checkpoint.unwrap_or_default().note;
    match leaf.zip(path) {
        Some((leaf, path)) => Ok(Some((leaf, Inclusion { index, path, checkpoint }))),
        None => {
            let what = "the sidecar's proof is none: a hash has 32 bytes";
            Err(Failure::new(Exit::Tampered, "AUDIT_LOG_TAMPERED", what))
        }
    }
}

fn hashes(wire: &[bytes::Bytes]) -> Option<Vec<[u8; 32]>> {
    wire.iter().map(|hash| hash.as_ref().try_into().ok()).collect()
}

fn missing(size: u64) -> Failure {
    let what = format!("the sidecar's log has not the {} records of the checkpoint", grouped(size));
    Failure::new(Exit::Missing, "AUDIT_RECORDS_MISSING", what)
        .advise("keep the checkpoint and the log's files as they are: they are evidence")
}
