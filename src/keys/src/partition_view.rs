//! What an operator sees of a partition, and what a caller with a permit may know of it.

use std::time::Duration;

use fieldseal_model::{Action, KeyId, KeyName, Partition, Timestamp};
use fieldseal_policy::Permit;

use crate::cache::PartitionOf;
use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::records::{DataKeyFacts, PartitionRecord, PartitionState};
use crate::sealing::PartitionFound;

/// What an operator sees of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// The key.
    pub key: KeyName,
    /// The partition.
    pub partition: Partition,
    /// What can be done with it.
    pub state: PartitionState,
    /// How many data keys it has.
    pub data_keys: u64,
    /// When it was shredded, while it waits to be erased.
    pub shredded_at: Option<Timestamp>,
    /// When it is erased, if the process runs until then: a guess on the clock of the day.
    pub due_at: Option<Timestamp>,
    /// The last time that it was erased.
    pub erased: Option<Erased>,
}

/// Data keys that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// When.
    pub at: Timestamp,
    /// How many.
    pub data_keys: u64,
    /// Their ids: the first 512.
    pub key_ids: Vec<KeyId>,
    /// The transaction that removed the last of them.
    pub revision: u64,
    /// True once nothing of them is in the store's files.
    pub left_the_files: bool,
}

impl Keys {
    /// A partition.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, `PartitionNotFound`, or the store's trouble.
    pub async fn view_partition(
        &self,
        permit: &Permit,
        key: &KeyName,
        partition: &Partition,
    ) -> Result<PartitionView, KeyError> {
        if !permit.covers_partition(Action::GetPartition, key, partition) {
            return Err(KeyError::NotPermitted);
        }
        self.inner.registry.key(key)?;
        let of = PartitionOf { key: key.clone(), partition: partition.clone() };
        self.inner.seen_partition(&of).await
    }

    /// True if nothing of this partition opens because it is shredded, or was and is erased: what a
    /// caller with a permit may know in place of `DATA_KEY_NOT_FOUND`.
    ///
    /// # Errors
    /// The store's trouble.
    pub async fn is_shredded(
        &self,
        key: &KeyName,
        partition: &Partition,
    ) -> Result<bool, KeyError> {
        let of = PartitionOf { key: key.clone(), partition: partition.clone() };
        if self.inner.partitions.is_closed(&of) {
            return Ok(true);
        }
        let found = self.inner.partition(&of).await?;
        Ok(found.is_some_and(|f| f.record.erased.is_some() || f.record.state != 0))
    }
}

impl Inner {
    /// A partition as it is. One that is erased between the two reads is not damaged, and is read again.
    pub(crate) async fn seen_partition(&self, of: &PartitionOf) -> Result<PartitionView, KeyError> {
        let mut found = self.partition(of).await?.ok_or(KeyError::PartitionNotFound)?;
        loop {
            let error = match self.chain(of, &found.record).await {
                Ok(chain) => return self.partition_view(of, &found, chain.len() as u64),
                Err(error) => error,
            };
            let now = self.partition(of).await?.ok_or(KeyError::PartitionNotFound)?;
            if now.revision == found.revision {
                return Err(error);
            }
            found = now;
        }
    }

    /// The data keys of a partition, the newest first. Those of one that is being erased may end
    /// early.
    pub(crate) async fn chain(
        &self,
        of: &PartitionOf,
        record: &PartitionRecord,
    ) -> Result<Vec<DataKeyFacts>, KeyError> {
        let (mut chain, mut next) = (Vec::new(), record.newest()?);
        while let Some(id) = next {
            let facts = self.facts(id).await.map_err(|error| match error {
                KeyError::DataKeyNotFound => {
                    KeyError::Corrupt("a partition whose data key is gone")
                }
                other => other,
            })?;
            let is_older =
                chain.last().is_none_or(|f: &DataKeyFacts| f.generation > facts.generation);
            if !is_older || facts.key != of.key || facts.partition != of.partition {
                return Err(KeyError::Corrupt("the order of a partition's data keys"));
            }
            next = facts.previous;
            chain.push(facts);
        }
        Ok(chain)
    }

    pub(crate) fn partition_view(
        &self,
        of: &PartitionOf,
        found: &PartitionFound,
        data_keys: u64,
    ) -> Result<PartitionView, KeyError> {
        let (record, state) = (&found.record, found.record.state()?);
        let pending = matches!(state, PartitionState::Shredding | PartitionState::Erasing);
        let left = Duration::from_nanos(record.due).saturating_sub(self.seen.now());
        Ok(PartitionView {
            key: of.key.clone(),
            partition: of.partition.clone(),
            state,
            data_keys,
            shredded_at: pending.then(|| Timestamp::from_unix_nanos(record.shredded_at)),
            due_at: pending.then(|| self.clock.now().plus(left)),
            erased: self.erased_view(found, state)?,
        })
    }

    fn erased_view(
        &self,
        found: &PartitionFound,
        state: PartitionState,
    ) -> Result<Option<Erased>, KeyError> {
        let Some(erased) = &found.record.erased else { return Ok(None) };
        if state == PartitionState::Erasing {
            return Ok(None);
        }
        let (ids, rest) = erased.key_ids.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(KeyError::Corrupt("the ids of erased data keys"));
        }
        let revision = if erased.revision == 0 { found.revision } else { erased.revision };
        Ok(Some(Erased {
            at: Timestamp::from_unix_nanos(erased.at),
            data_keys: erased.data_keys,
            key_ids: ids.iter().copied().map(KeyId::new).collect(),
            revision,
            left_the_files: self.store.rewritten_at() >= revision,
        }))
    }
}
