//! Receipts of erasures: written to a file, and checked with the log's public key alone.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use fieldseal_api::v1;
use fieldseal_audit::verify;
use fieldseal_engine::{SHRED_RECEIPT, commitment};
use fieldseal_model::{Partition, hex};
use serde_json::Value;

use crate::arguments::CheckReceiptArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table};

/// Most bytes of a receipt.
const MAX_BYTES: u64 = 1024 * 1024;

/// Whether there is a receipt, or why not.
pub(super) fn said(state: v1::ShredReceiptState) -> &'static str {
    match state {
        v1::ShredReceiptState::Signed => "there is one: --receipt PATH writes it",
        v1::ShredReceiptState::StorePending => "not yet: the store is still to be written anew",
        v1::ShredReceiptState::CopyPending => {
            "not yet: the copy of the store is away, or still to be begun anew"
        }
        v1::ShredReceiptState::NotInLog => {
            "none: no segment that is here has the record of the erasure"
        }
        v1::ShredReceiptState::NotErased => "none: the partition is not erased",
        v1::ShredReceiptState::Unspecified => "unknown",
    }
}

/// Writes a receipt to a new file.
pub(super) fn write(path: &Path, found: &v1::GetPartitionResponse) -> Result<(), Failure> {
    let receipt = &found.shred_receipt;
    if receipt.is_empty() {
        let state = found.shred_receipt_state();
        let advice = match state {
            v1::ShredReceiptState::NotInLog => {
                "put the segments back that were moved out of the audit log's directory; if that log \
                 is lost, there will be no receipt"
            }
            v1::ShredReceiptState::NotErased => {
                "shred it with `fieldseal key shred`; ask again when its window is over"
            }
            _ => {
                "ask again later; `fieldseal status` and the sidecar's log lines say what holds it up"
            }
        };
        let what = format!("there is no receipt: {}", said(state));
        return Err(Failure::new(Exit::NotFound, "RECEIPT_NOT_FOUND", what).advise(advice));
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(receipt.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        let failure = Failure::io("cannot write", path, &error);
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                failure.advise("name another file: a receipt is written to a new one only")
            }
            _ => failure,
        }
    })
}

/// Runs `key check-receipt`.
pub(super) fn check(arguments: &CheckReceiptArguments, output: &Output) -> Result<(), Failure> {
    let key = read(&arguments.public_key)?;
    let key = verify::public_key(&key)
        .map_err(|error| Failure::usage("PUBLIC_KEY_INVALID", error.to_string()))?;
    let file = read(&arguments.file)?;
    let document: Value = serde_json::from_str(&file).map_err(|_| no_receipt())?;
    let text = |value: &Value, name: &str| -> Result<String, Failure> {
        value.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(no_receipt)
    };
    let (signed, signature) = (text(&document, "receipt")?, text(&document, "signature")?);
    let signature = hex::decode(&signature).and_then(|bytes| bytes.try_into().ok());
    let signature: [u8; 64] = signature.ok_or_else(no_receipt)?;
    if !key.verify_statement(SHRED_RECEIPT, &[signed.as_bytes()], &signature) {
        return Err(wrong("the log of this public key did not sign this receipt"));
    }
    let statement: Value = serde_json::from_str(&signed).map_err(|_| no_receipt())?;
    if text(&statement, "statement")? != SHRED_RECEIPT
        || text(&statement, "origin")? != key.origin()
    {
        return Err(no_receipt());
    }
    let r = hex::decode(&text(&statement, "r")?).ok_or_else(no_receipt)?;
    let stated = hex::decode(&text(&statement, "partition_sha256")?).ok_or_else(no_receipt)?;
    if stated != commitment(&r, &Partition::parse(&arguments.partition)?) {
        return Err(wrong("this receipt is about another partition"));
    }
    output.show(|| statement.clone(), || shown(&statement))
}

fn shown(statement: &Value) -> String {
    let mut table = Table::bare();
    table.row(["verified", "the log's key signed it, and it is about this partition"]);
    let rows = [
        ("key", "key"),
        ("erased", "erased_at"),
        ("data keys", "data_keys"),
        ("log", "origin"),
        ("record", "record"),
        ("issued", "issued_at"),
    ];
    for (what, name) in rows {
        let value = match statement.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        table.row([what, &value]);
    }
    for id in statement.get("data_key_ids").and_then(Value::as_array).into_iter().flatten() {
        table.row(["data key", id.as_str().unwrap_or_default()]);
    }
    for backup in statement.get("backups").and_then(Value::as_array).into_iter().flatten() {
        let part = |name| backup.get(name).and_then(Value::as_str).unwrap_or_default();
        let kept = format!("{}, kept until {}", part("name"), part("expires_at"));
        table.row(["still in backup", &kept]);
    }
    let not_covered = statement.get("not_covered").and_then(Value::as_str).unwrap_or_default();
    format!("{}\n{not_covered}", table.text())
}

fn read(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| Failure::io("cannot read", path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn no_receipt() -> Failure {
    Failure::usage("RECEIPT_INVALID", "this file is no receipt of an erasure")
}

fn wrong(what: &str) -> Failure {
    Failure::new(Exit::Tampered, "RECEIPT_WRONG", what)
}
