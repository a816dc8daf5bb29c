//! Reading the partitions of a key, each with all of its data keys.

use std::collections::BTreeMap;

use fieldseal_model::{KeyId, KeyName, Partition, VersionNumber};
use fieldseal_store::{Path, Versioned};

use crate::error::KeyError;
use crate::keys::Inner;
use crate::records::{DATA_KEY, DataKeyFacts, PARTITION, PartitionRecord, decode, key_id};

const WHAT: &str = "a partition's record";

/// A partition with all of its data keys, the newest first.
pub(super) struct Chain {
    pub(super) partition: Partition,
    /// Of the partition's record.
    pub(super) revision: u64,
    pub(super) record: PartitionRecord,
    pub(super) data_keys: Vec<DataKeyFacts>,
}

impl Chain {
    /// How many of its data keys each version wraps.
    pub(super) fn by_version(&self) -> BTreeMap<VersionNumber, usize> {
        let mut counts = BTreeMap::new();
        for data_key in &self.data_keys {
            *counts.entry(data_key.version).or_default() += 1;
        }
        counts
    }
}

/// Some partitions of a key.
pub(super) struct Page {
    pub(super) partitions: Vec<Partition>,
    found: Vec<Versioned>,
    /// False if no partition follows.
    pub(super) is_full: bool,
}

impl Inner {
    fn path_of(&self, key: &KeyName, partition: &Partition) -> Path {
        let parts = [key.as_str().as_bytes(), partition.as_str().as_bytes()];
        self.store.path(PARTITION, &parts)
    }

    /// The next partitions of a key, in the order of their hidden names.
    pub(super) async fn partitions(
        &self,
        key: &KeyName,
        after: Option<&Partition>,
        limit: usize,
    ) -> Result<Page, KeyError> {
        let prefix = self.store.prefix(PARTITION, &[key.as_str().as_bytes()]);
        let after = after.map(|partition| self.path_of(key, partition));
        let page = self.store.range(&prefix, after.as_ref(), limit).await?;
        let found: Vec<_> = page.entries.into_iter().map(|(_, value)| value).collect();
        let mut partitions = Vec::with_capacity(found.len());
        for value in &found {
            let record: PartitionRecord = decode(WHAT, &value.value)?;
            let name = Partition::parse(&record.partition).map_err(|_| KeyError::Corrupt(WHAT))?;
            partitions.push(name);
        }
        Ok(Page { partitions, found, is_full: page.next.is_some() })
    }

    /// The data keys of a page's partitions.
    pub(super) async fn chains(&self, key: &KeyName, page: Page) -> Result<Vec<Chain>, KeyError> {
        self.follow(key, page.partitions.into_iter().zip(page.found)).await
    }

    /// These partitions as they are now; one that is gone is left out.
    pub(super) async fn chains_of(
        &self,
        key: &KeyName,
        partitions: Vec<Partition>,
    ) -> Result<Vec<Chain>, KeyError> {
        let paths = partitions.iter().map(|partition| self.path_of(key, partition)).collect();
        let found = self.store.get_many(paths).await?;
        let there = partitions.into_iter().zip(found);
        self.follow(key, there.filter_map(|(partition, found)| Some((partition, found?)))).await
    }

    /// Follows every partition from its newest data key to its first, all of them together.
    async fn follow(
        &self,
        key: &KeyName,
        partitions: impl Iterator<Item = (Partition, Versioned)>,
    ) -> Result<Vec<Chain>, KeyError> {
        let mut chains = Vec::new();
        let mut next: Vec<(usize, KeyId)> = Vec::new();
        for (partition, found) in partitions {
            let record: PartitionRecord = decode(WHAT, &found.value)?;
            if record.key != key.as_str() || record.partition != partition.as_str() {
                return Err(KeyError::Corrupt(WHAT));
            }
            // Without a data key there is nothing to follow.
            if let Some(newest) = key_id(&record.key_id) {
                next.push((chains.len(), newest));
            }
            let (revision, data_keys) = (found.revision, Vec::new());
            chains.push(Chain { partition, revision, record, data_keys });
        }
        while !next.is_empty() {
            let path = |(_, id): &(usize, KeyId)| self.store.path(DATA_KEY, &[id.as_bytes()]);
            let found = self.store.get_many(next.iter().map(path).collect()).await?;
            let mut after = Vec::new();
            for ((place, id), found) in next.into_iter().zip(found) {
                let Some(chain) = chains.get_mut(place) else { continue };
                // Gone since the partition was read: whoever removed it wrote the partition too,
                // and what is made of this is refused.
                let Some(found) = found else { continue };
                let facts = DataKeyFacts::of(&found)?;
                if facts.key_id != id || facts.key != *key || facts.partition != chain.partition {
                    return Err(KeyError::Corrupt("a data key of another partition"));
                }
                if let Some(previous) = facts.previous {
                    after.push((place, previous));
                }
                chain.data_keys.push(facts);
            }
            next = after;
        }
        Ok(chains)
    }
}
