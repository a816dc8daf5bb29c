//! A data key in memory, and the check that it is the one a caller may use.

use std::fmt;
use std::sync::Arc;

use fieldseal_crypto::DataKey;
use fieldseal_crypto::field::FieldKey;
use fieldseal_model::{
    Action, Field, KeyId, KeyName, KeyVersion, Partition, Timestamp, VersionNumber,
};
use fieldseal_policy::Permit;

use crate::cache::PartitionOf;
use crate::error::KeyError;
use crate::opening::{OpenCause, OpeningKey};
use crate::partitions::PartitionCell;
use crate::registry::VersionCell;

/// An unwrapped data key. It is wiped when the last user lets go of it.
pub(crate) struct DataKeyEntry {
    pub(crate) key_id: KeyId,
    pub(crate) key: KeyName,
    pub(crate) partition: Partition,
    pub(crate) created_at: Timestamp,
    pub(crate) loaded_at: Timestamp,
    pub(crate) version: Arc<VersionCell>,
    /// Shared by the data keys of the same partition.
    pub(crate) cell: Arc<PartitionCell>,
    /// The version under which it was made: another one if it was moved since.
    pub(crate) made_under: VersionNumber,
    pub(crate) data_key: DataKey,
}

/// Why a data key cannot be used, and whose it is.
pub struct Unusable {
    /// Why.
    pub error: KeyError,
    /// Whose it is, if it is there.
    pub owner: Option<Owner>,
}

impl fmt::Debug for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Whose a data key is.
pub struct Owner(pub(crate) PartitionOf);

impl Owner {
    /// The true cause, if the data key is another key's or another partition's than a caller states.
    /// How that one stands is not the caller's affair.
    #[must_use]
    pub fn other_than(&self, key: &KeyName, partition: &Partition) -> Option<OpenCause> {
        if self.0.key != *key {
            return Some(OpenCause::OtherKey);
        }
        (self.0.partition != *partition).then_some(OpenCause::OtherPartition)
    }
}

/// A data key that was looked up. It can do nothing without a `Permit`.
#[derive(Clone)]
pub struct DataKeyHandle(pub(crate) Arc<DataKeyEntry>);

impl DataKeyHandle {
    /// The key version that wraps it.
    #[must_use]
    pub fn key_version(&self) -> &KeyVersion {
        &self.0.version.version
    }

    /// The key version's name, `keys/{key}/versions/{n}`.
    #[must_use]
    pub fn version_name(&self) -> &Arc<str> {
        &self.0.version.name
    }

    /// Makes it ready to open values of this field and partition.
    ///
    /// # Errors
    /// The true cause, for the audit record: the permit does not cover this, the data key belongs
    /// to another key or partition, or its version or partition may not be used.
    pub fn opening<'a>(
        &'a self,
        permit: &Permit,
        action: Action,
        field: &Field,
        partition: &Partition,
    ) -> Result<OpeningKey<'a>, OpenCause> {
        if !permit.covers(action, field, partition) {
            return Err(OpenCause::NotPermitted);
        }
        let entry = &*self.0;
        if entry.key != field.key {
            return Err(OpenCause::OtherKey);
        }
        if entry.partition != *partition {
            return Err(OpenCause::OtherPartition);
        }
        if !entry.cell.is_open() {
            return Err(OpenCause::PartitionShredded);
        }
        match entry.version.usable() {
            Ok(_) => {}
            Err(KeyError::VersionDestroyed) => return Err(OpenCause::VersionDestroyed),
            Err(_) => return Err(OpenCause::VersionDisabled),
        }
        let key = FieldKey::new(&entry.data_key, entry.key_id, field, partition);
        Ok(OpeningKey { key, version: &entry.version, partition: &entry.cell })
    }
}
