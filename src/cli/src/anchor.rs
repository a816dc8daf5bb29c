//! `audit anchor` and `audit check-receipt`: what is kept outside the log, and what it proves.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldseal_api::v1;
use fieldseal_audit::verify::{self, Files, Inclusion, LogKey};
use fieldseal_model::hex;
use serde_json::{Value, json};

use crate::arguments::{AuditAnchorArguments, AuditCheckReceiptArguments};
use crate::connection::{self, failure};
use crate::extending;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, grouped, visible};
use crate::verify as verifying;

/// Runs `audit anchor`.
pub(crate) async fn anchor(
    arguments: AuditAnchorArguments,
    output: &Output,
) -> Result<(), Failure> {
    let key = arguments.public_key.as_deref().map(verifying::public_key).transpose()?;
    let note = match (&arguments.log, &key) {
        (Some(log), Some(key)) => {
            verify::newest(log, key).map_err(|e| verifying::failure(&e))?.unwrap_or_default()
        }
        // The arguments do not let that through.
        (Some(_), None) => return Err(Failure::usage("USAGE", "--log needs --public-key")),
        (None, _) => {
            let mut client = connection::connect().await?.audit();
            let request = v1::GetCheckpointRequest::default();
            let reply = client.get_checkpoint(request).await.map_err(|s| failure(&s))?;
            reply.into_inner().checkpoint.unwrap_or_default().note
        }
    };
    let Some(line) = verify::line(&note) else {
        let what = "the log has no checkpoint yet";
        return Err(Failure::new(Exit::NotFound, "CHECKPOINT_NOT_FOUND", what));
    };
    if let Some(key) = &key {
        verify::remembered(&line, key).map_err(|e| verifying::failure(&e))?;
    }
    output.show(|| json!({ "line": line, "note": note }), || line.clone())
}

/// A receipt as a caller kept it.
struct Receipt {
    log: String,
    index: u64,
    leaf_hash: [u8; 32],
    tree_size: u64,
}

/// Runs `audit check-receipt`.
pub(crate) async fn check(
    arguments: &AuditCheckReceiptArguments,
    output: &Output,
) -> Result<(), Failure> {
    let key = verifying::public_key(&arguments.public_key)?;
    let receipt = Receipt::parse(&verifying::read(&arguments.file)?).ok_or_else(no_receipt)?;
    let instance = key.origin().rsplit('/').next().unwrap_or_default();
    if receipt.log.rsplit('/').next() != Some(instance) {
        let (log, origin) = (visible(&receipt.log), key.origin());
        let what = format!("the receipt is of {log}, and the public key is that of {origin}");
        return Err(wrong(&what));
    }
    let (proof, size) = match (&arguments.log, &arguments.proof) {
        (Some(log), _) => from_log(&receipt, log, &arguments.archive, &key)?,
        (None, Some(proof)) => from_proof(&receipt, proof, &key)?,
        (None, None) => from_sidecar(&receipt, &key).await?,
    };
    if let Some(to) = &arguments.save_proof {
        save(to, &proof.text())?;
    }
    let shown = || {
        let mut table = Table::bare();
        table.row(["verified", "the record is in the log as the receipt says"]);
        table.row(["log", key.origin()]);
        table.row(["record", &receipt.index.to_string()]);
        table.row(["leaf hash", &hex::encode(&receipt.leaf_hash)]);
        table.row(["covered by", &format!("a checkpoint of {} records", grouped(size))]);
        table.text()
    };
    let json = || {
        json!({
            "origin": key.origin(), "record": receipt.index, "tree_size": size,
            "leaf_hash": hex::encode(&receipt.leaf_hash), "proof": proof.text(),
        })
    };
    output.show(json, shown)
}

/// Looks for the record in the log itself, and in its archives.
fn from_log(
    receipt: &Receipt,
    log: &Path,
    archives: &[PathBuf],
    key: &LogKey,
) -> Result<(Inclusion, u64), Failure> {
    let bar = verifying::progress();
    let files = Files { directory: log, archives };
    let proved = verify::prove(files, key, receipt.index, |at| bar.set_position(at));
    bar.finish_and_clear();
    let Some((found, proof)) = proved.map_err(|e| verifying::failure(&e))? else {
        return Err(missing(receipt));
    };
    compared(receipt, &found, proof, key)
}

/// Has the running sidecar prove the record; what it says is checked here.
async fn from_sidecar(receipt: &Receipt, key: &LogKey) -> Result<(Inclusion, u64), Failure> {
    match extending::inclusion(receipt.index).await? {
        Some((found, proof)) => compared(receipt, &found, proof, key),
        None => Err(missing(receipt)),
    }
}

/// Compares the record that was found with the receipt, and checks its proof.
fn compared(
    receipt: &Receipt,
    found: &[u8; 32],
    proof: Inclusion,
    key: &LogKey,
) -> Result<(Inclusion, u64), Failure> {
    if *found != receipt.leaf_hash {
        return Err(wrong(&format!("another record stands at {}", receipt.index)));
    }
    let size = verify::check(found, &proof, key).map_err(|e| verifying::failure(&e))?;
    match size {
        Some(size) if size >= receipt.tree_size => Ok((proof, size)),
        Some(_) => Err(missing(receipt)),
        None => Err(wrong("the proof does not lead from this record to the checkpoint")),
    }
}

/// Looks at a proof that somebody made of the log.
fn from_proof(receipt: &Receipt, file: &Path, key: &LogKey) -> Result<(Inclusion, u64), Failure> {
    let proof = Inclusion::parse(&verifying::read(file)?)
        .ok_or_else(|| Failure::usage("PROOF_INVALID", "this file is no C2SP tlog-proof"))?;
    if proof.index != receipt.index {
        let (proved, index) = (proof.index, receipt.index);
        let what = format!("the proof is about record {proved}, and the receipt about {index}");
        return Err(wrong(&what));
    }
    let size = verify::check(&receipt.leaf_hash, &proof, key);
    match size.map_err(|e| verifying::failure(&e))? {
        Some(size) if size >= receipt.tree_size => Ok((proof, size)),
        Some(_) => Err(Failure::usage(
            "CHECKPOINT_OLDER",
            "the proof's checkpoint is older than the receipt: have a newer one made",
        )),
        None => {
            Err(wrong("the checkpoint does not cover this record: another stands in its place"))
        }
    }
}

impl Receipt {
    /// The JSON form of `fieldseal.v1.AuditReceipt`, in the names and encodings that clients write:
    /// numbers as such or as text, the hash in hexadecimal or base64.
    fn parse(text: &str) -> Option<Self> {
        let whole: Value = serde_json::from_str(text).ok()?;
        // What `decrypt --output json` writes holds one.
        let receipt = whole.get("receipt").unwrap_or(&whole);
        let field = |a: &str, b: &str| receipt.get(a).or_else(|| receipt.get(b));
        let number = |value: &Value| match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        let hash = field("leaf_hash", "leafHash")?.as_str()?;
        let hash = hex::decode(hash).or_else(|| STANDARD.decode(hash).ok())?;
        Some(Self {
            log: receipt.get("log")?.as_str()?.to_owned(),
            // Protobuf leaves zero out.
            index: receipt.get("index").map_or(Some(0), number)?,
            leaf_hash: hash.try_into().ok()?,
            tree_size: number(field("tree_size", "treeSize")?)?,
        })
    }
}

fn save(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| Failure::io("cannot write", path, &e))
}

fn no_receipt() -> Failure {
    let what = "this is no receipt: it has log, index, leaf_hash and tree_size, as JSON";
    Failure::usage("RECEIPT_INVALID", what)
}

fn wrong(what: &str) -> Failure {
    Failure::new(Exit::Tampered, "RECEIPT_WRONG", what)
}

fn missing(receipt: &Receipt) -> Failure {
    let size = receipt.tree_size;
    let what = format!("the log has not the {size} records that it had when the receipt was given");
    Failure::new(Exit::Missing, "AUDIT_RECORDS_MISSING", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_each_client_writes_it() {
        let leaf = [0xab; 32];
        let (digits, base64) = (hex::encode(&leaf), STANDARD.encode(leaf));
        for text in [
            format!(r#"{{"log":"logs/main","index":7,"leaf_hash":"{digits}","tree_size":9}}"#),
            format!(r#"{{"log":"logs/main","index":"7","leafHash":"{base64}","treeSize":"9"}}"#),
            format!(
                r#"{{"value":"x","receipt":
                {{"log":"logs/main","index":7,"leaf_hash":"{digits}","tree_size":9}}}}"#
            ),
        ] {
            let read = Receipt::parse(&text).unwrap();
            assert_eq!((read.log.as_str(), read.index, read.tree_size), ("logs/main", 7, 9));
            assert_eq!(read.leaf_hash, leaf);
        }
        let first = format!(r#"{{"log":"logs/main","leafHash":"{base64}","treeSize":"1"}}"#);
        assert_eq!(Receipt::parse(&first).map(|r| r.index), Some(0));
        for bad in
            ["", "{}", &first.replace("leafHash", "hash"), &first.replace("treeSize", "size")]
        {
            assert!(Receipt::parse(bad).is_none(), "{bad}");
        }
    }
}
