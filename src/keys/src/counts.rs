//! What there is under each key version, counted by the transactions that change it: a census need
//! not look at a single data key.

use fieldseal_model::{KeyName, VersionNumber};
use fieldseal_store::{Path, Store, StoreError, Txn, Update};
use prost::Message;

use crate::error::KeyError;
use crate::records::{COUNTS, CountsRecord, decode};

/// How a transaction changes the counts of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) data_keys: i64,
    pub(crate) partitions: i64,
    pub(crate) reserved: i64,
}

/// The counts of a version and their revision; `None` if nothing was ever made under it.
pub(crate) async fn read(
    store: &Store,
    key: &KeyName,
    version: VersionNumber,
) -> Result<Option<(u64, CountsRecord)>, KeyError> {
    let found = store.get(&path(store, key, version)).await?;
    let Some(found) = found else { return Ok(None) };
    let record: CountsRecord = decode("the counts of a key version", &found.value)?;
    if record.key != key.as_str() || record.version != version.get() {
        return Err(KeyError::Corrupt("the counts of another key version"));
    }
    Ok(Some((found.revision, record)))
}

/// Where the counts of a version stand.
pub(crate) fn path(store: &Store, key: &KeyName, version: VersionNumber) -> Path {
    store.path(COUNTS, &[key.as_str().as_bytes(), &version.get().to_be_bytes()])
}

/// Adds `delta` to the counts of a version, in the same transaction.
pub(crate) fn count(
    txn: Txn,
    store: &Store,
    key: &KeyName,
    version: VersionNumber,
    delta: Delta,
) -> Txn {
    let name = key.as_str().to_owned();
    let path = path(store, key, version);
    let update: Update = Box::new(move |found| {
        let corrupt = || StoreError::Corrupt("the counts of a key version".to_owned());
        let before = match found {
            Some(bytes) => CountsRecord::decode(bytes).map_err(|_| corrupt())?,
            None => CountsRecord { key: name, version: version.get(), ..Default::default() },
        };
        let add = |to: u64, by: i64| to.checked_add_signed(by).ok_or_else(corrupt);
        let after = CountsRecord {
            data_keys: add(before.data_keys, delta.data_keys)?,
            partitions: add(before.partitions, delta.partitions)?,
            reserved: add(before.reserved, delta.reserved)?,
            ..before
        };
        Ok(after.encode_to_vec())
    });
    txn.update(path, update)
}
