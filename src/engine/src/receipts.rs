//! The receipt of an erasure: a statement signed with the log's key, that anybody who knows the
//! partition and the log's public key can check without the sidecar (docs/shredding.md).

use fieldseal_crypto::{random, sha256};
use fieldseal_keys::{Erased, KnownBackup, PartitionView};
use fieldseal_model::{KeyId, Partition, hex};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::refusal::RefusalCause;

/// What kind of statement it is, for its signature and in its text.
pub const SHRED_RECEIPT: &str = "fieldseal.dev/shred-receipt/v1";
/// What no receipt can say.
const NOT_COVERED: &str = "Copies taken elsewhere are not covered: of the state directory, of its \
    disk, of a snapshot, or of a backup that this installation does not know. See \"Shred a person or \
    tenant\" in docs/operations.md for how to make even those useless.";

/// The receipt of an erasure, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShredReceipt {
    /// The partition was never erased.
    NotErased,
    /// The files of the store may still hold the data keys: it is to be written anew.
    StorePending,
    /// The copy of the store may still hold them: it is away, or to be begun anew.
    CopyPending,
    /// The record of the erasure is in no segment of this log: they were moved away, or the log was
    /// lost and begun anew.
    NotInLog,
    /// A JSON document, made anew and signed.
    Signed(String),
}

impl ShredReceipt {
    /// The document, if there is one.
    #[must_use]
    pub fn signed(self) -> Option<String> {
        match self {
            Self::Signed(document) => Some(document),
            _ => None,
        }
    }
}

impl Engine {
    /// A receipt, made anew, if the partition was erased and nothing of its data keys is in the
    /// store's files.
    pub(crate) async fn shred_receipt(
        &self,
        view: &PartitionView,
    ) -> Result<ShredReceipt, RefusalCause> {
        let Some(erased) = &view.erased else { return Ok(ShredReceipt::NotErased) };
        if !erased.left_the_files {
            return Ok(ShredReceipt::StorePending);
        }
        let store = &self.inner.store;
        if store.is_copied() && store.copy_began_at() < erased.revision {
            return Ok(ShredReceipt::CopyPending);
        }
        let (reader, revision) = (self.inner.journal.reader(), erased.revision);
        let record = tokio::task::spawn_blocking(move || reader.record_of(revision));
        let record = record.await.map_err(|_| RefusalCause::Internal("a query was cut off"))??;
        let Some(record) = record else { return Ok(ShredReceipt::NotInLog) };
        let r: [u8; 16] = random::array()?;
        let known = self.inner.keys.known_backups().await?;
        // One that was made afterwards does not have them.
        let backups =
            known.iter().filter(|backup| backup.revision < erased.revision).map(in_backup);
        let statement = self.statement(view, erased, record, &r, backups.collect()).to_string();
        let signature = self.inner.journal.sign_statement(SHRED_RECEIPT, &[statement.as_bytes()]);
        let receipt = json!({ "receipt": statement, "signature": hex::encode(&signature) });
        Ok(ShredReceipt::Signed(format!("{receipt:#}\n")))
    }

    fn statement(
        &self,
        view: &PartitionView,
        erased: &Erased,
        record: u64,
        r: &[u8],
        backups: Vec<Value>,
    ) -> Value {
        let ids: Vec<String> = erased.key_ids.iter().map(KeyId::to_string).collect();
        json!({
            "statement": SHRED_RECEIPT,
            "origin": self.inner.journal.origin(),
            "record": record,
            "key": view.key.as_str(),
            "r": hex::encode(r),
            "partition_sha256": hex::encode(&commitment(r, &view.partition)),
            "erased_at": erased.at.to_string(),
            "data_keys": erased.data_keys,
            "data_key_ids": ids,
            "data_key_ids_only_in_the_log": erased.data_keys.saturating_sub(ids.len() as u64),
            "issued_at": self.inner.clock.now().to_string(),
            "removed_from": self.removed_from(),
            "backups": backups,
            "not_covered": NOT_COVERED,
        })
    }

    fn removed_from(&self) -> Vec<&'static str> {
        let mut places = vec![
            "the store",
            "the files of the store, which were written anew",
            "the generations of the store, of which only one that was made afterwards is left",
        ];
        if self.inner.store.is_copied() {
            places.push(
                "the copy of the store, which was begun anew; what a program that keeps it holds \
                 from before is not covered",
            );
        }
        places
    }
}

fn in_backup(backup: &KnownBackup) -> Value {
    json!({
        "name": backup.name,
        "created_at": backup.created_at.to_string(),
        "expires_at": backup.expires_at.to_string(),
    })
}

/// `SHA-256(r | partition)`.
#[must_use]
pub fn commitment(r: &[u8], partition: &Partition) -> [u8; 32] {
    sha256(&[r, partition.as_str().as_bytes()])
}
