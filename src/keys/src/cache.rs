//! The data-key cache: bounded, expiring, and one load at a time for each key id.

use std::sync::Arc;
use std::time::Duration;

use fieldseal_model::{KeyId, KeyName, Partition, Timestamp};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use crate::data_key::DataKeyEntry;
use crate::sealing::SealSlot;

/// Names a partition of a key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PartitionOf {
    pub(crate) key: KeyName,
    pub(crate) partition: Partition,
}

/// [`PartitionOf`] without owning it, so that a look-up copies nothing. It must hash alike: field
/// by field, in the same order.
#[derive(Hash)]
pub(crate) struct PartitionRef<'a> {
    pub(crate) key: &'a KeyName,
    pub(crate) partition: &'a Partition,
}

impl Equivalent<PartitionOf> for PartitionRef<'_> {
    fn equivalent(&self, other: &PartitionOf) -> bool {
        *self.key == other.key && *self.partition == other.partition
    }
}

/// Unwrapped data keys by id, and the newest data key of each partition.
pub(crate) struct DataKeyCache {
    by_id: Cache<KeyId, Arc<DataKeyEntry>>,
    newest: Cache<PartitionOf, Arc<SealSlot>>,
    lifetime: Duration,
}

impl DataKeyCache {
    /// At most `capacity` entries of each kind, each for at most `lifetime`.
    pub(crate) fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { by_id: Cache::new(capacity), newest: Cache::new(capacity), lifetime }
    }

    pub(crate) fn fresh(&self, entry: &DataKeyEntry, now: Timestamp) -> bool {
        now.since(entry.loaded_at) < self.lifetime
    }

    pub(crate) fn by_id(&self, id: KeyId, now: Timestamp) -> Option<Arc<DataKeyEntry>> {
        let entry = self.by_id.get(&id)?;
        if self.fresh(&entry, now) {
            return Some(entry);
        }
        self.by_id.remove(&id);
        None
    }

    /// Forgets the entry of this id.
    pub(crate) fn forget(&self, id: KeyId) {
        self.by_id.remove(&id);
    }

    /// Forgets every data key for which `keep` is false.
    pub(crate) fn retain(&self, keep: impl Fn(&DataKeyEntry) -> bool) {
        self.by_id.retain(|_, entry| keep(entry));
        self.newest.retain(|_, slot| keep(slot.entry()));
    }

    /// Forgets which data key is the newest of a partition.
    pub(crate) fn forget_newest(&self, of: &PartitionOf) {
        self.newest.remove(of);
    }

    /// The entry of this id; `load` runs at most once at a time for each id.
    pub(crate) async fn load<E>(
        &self,
        id: KeyId,
        load: impl Future<Output = Result<Arc<DataKeyEntry>, E>>,
    ) -> Result<Arc<DataKeyEntry>, E> {
        self.by_id.get_or_insert_async(&id, load).await
    }

    pub(crate) fn insert(&self, entry: &Arc<DataKeyEntry>) {
        self.by_id.insert(entry.key_id, Arc::clone(entry));
    }

    pub(crate) fn newest(&self, of: &PartitionRef<'_>) -> Option<Arc<SealSlot>> {
        self.newest.get(of)
    }

    pub(crate) fn put_newest(&self, of: PartitionOf, slot: Arc<SealSlot>) {
        self.newest.insert(of, slot);
    }

    /// How many data keys are held.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Look-ups that found their data key, and those that did not.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (self.by_id.hits(), self.by_id.misses())
    }
}
