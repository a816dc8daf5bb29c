//! Moving data keys: transactions of as many partitions as fit.

use std::collections::BTreeMap;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind};
use fieldseal_crypto::wrap::{self, DataKeyId};
use fieldseal_model::{Action, KeyId, KeyVersionState, Partition, VersionNumber};
use fieldseal_store::{StoreError, Txn, Update};
use prost::Message;

use super::record::{JobRecord, WHAT};
use super::run::Run;
use super::scan::Chain;
use crate::counts::{Delta, count};
use crate::error::KeyError;
use crate::records::{DATA_KEY, DataKeyFacts, DataKeyRecord, JOB, PARTITION, VERSION};
use crate::registry::{KeySnapshot, VersionFacts};

/// Operations that a transaction has room for, of which it uses at most 100.
const OPERATIONS: usize = 96;
/// What every transaction has: the target's guard and counts, and the job's record.
const FIXED: usize = 3;
/// What another version to move from adds: its guard and its counts.
const PER_VERSION: usize = 2;
/// What another partition adds: its guard, and its record where that is written.
const PER_PARTITION: usize = 2;
/// What another data key adds: its guard and its record.
const PER_DATA_KEY: usize = 2;
/// Data keys that are wrapped anew before other calls get their turn: some 50 µs.
const SLICE: usize = 8;

/// What one transaction moves.
#[derive(Default)]
pub(super) struct Batch {
    /// How each version's counts change.
    deltas: BTreeMap<VersionNumber, Delta>,
    partitions: Vec<Moved>,
    moved: u64,
}

/// What a transaction changes in one partition.
struct Moved {
    chain: Chain,
    records: Vec<(Guarded, DataKeyRecord)>,
    /// More of its data keys wait.
    is_cut: bool,
}

/// The data key that a record replaces.
#[derive(Clone, Copy)]
struct Guarded {
    id: KeyId,
    revision: u64,
}

/// What became of a batch.
#[derive(Default)]
pub(super) struct Committed {
    pub(super) moved: u64,
    /// Partitions to look at again.
    pub(super) again: Vec<Partition>,
}

impl Batch {
    fn operations(&self) -> usize {
        let data_keys: usize = self.partitions.iter().map(|moved| moved.records.len()).sum();
        // The target has a delta too; it is counted among what is fixed.
        let versions = self.deltas.len().saturating_sub(1);
        let partitions = self.partitions.len();
        FIXED + versions * PER_VERSION + partitions * PER_PARTITION + data_keys * PER_DATA_KEY
    }

    fn has_room_for(&self, data_keys: usize, versions: usize) -> bool {
        let more = versions * PER_VERSION + PER_PARTITION + data_keys * PER_DATA_KEY;
        self.partitions.is_empty() || self.operations() + more <= OPERATIONS
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.partitions.iter().map(|moved| moved.chain.partition.clone()).collect()
    }
}

/// The versions that data keys are moved from and to, as they are now.
pub(super) struct Versions {
    target: VersionFacts,
    sources: BTreeMap<VersionNumber, VersionFacts>,
}

impl Versions {
    /// # Errors
    /// The target's state, if it may not be used.
    pub(super) fn of(snapshot: &KeySnapshot, target: VersionNumber) -> Result<Self, KeyError> {
        let cell = snapshot.versions.get(&target);
        let cell = cell.ok_or(KeyError::Corrupt("a rewrap to a version that does not exist"))?;
        cell.usable()?;
        let sources = snapshot.versions.range(..target);
        let sources = sources.filter(|(_, cell)| cell.state() == KeyVersionState::Enabled);
        Ok(Self {
            target: cell.facts(),
            sources: sources.map(|(number, cell)| (*number, cell.facts())).collect(),
        })
    }
}

impl Run {
    /// Wraps the data keys of these partitions anew, as far as they have to move, and makes
    /// transactions of them: of as many partitions as fit, or of one each.
    pub(super) async fn pack(
        &self,
        chains: Vec<Chain>,
        versions: &Versions,
        alone: bool,
    ) -> Result<Vec<Batch>, KeyError> {
        let (mut batches, mut batch, mut wrapped) = (Vec::new(), Batch::default(), 0usize);
        for chain in chains {
            let mut movable: Vec<_> = chain
                .data_keys
                .iter()
                .filter(|data_key| versions.sources.contains_key(&data_key.version))
                .collect();
            if movable.is_empty() {
                continue;
            }
            // What does not fit into one transaction comes with the next look at the partition.
            let room = OPERATIONS - FIXED - PER_PARTITION;
            let most = room / (PER_DATA_KEY + PER_VERSION);
            let is_cut = movable.len() > most;
            movable.truncate(most);
            let mut records = Vec::with_capacity(movable.len());
            for data_key in movable {
                wrapped += 1;
                if wrapped.is_multiple_of(SLICE) {
                    tokio::task::yield_now().await;
                }
                let guarded = Guarded { id: data_key.key_id, revision: data_key.revision };
                records.push((guarded, self.rewrapped(data_key, versions)?));
            }
            let deltas = deltas(&chain, &records, self.target);
            if alone || !batch.has_room_for(records.len(), deltas.len()) {
                batches.push(std::mem::take(&mut batch));
            }
            for (version, delta) in deltas {
                let sum = batch.deltas.entry(version).or_default();
                sum.data_keys += delta.data_keys;
                sum.partitions += delta.partitions;
                sum.reserved += delta.reserved;
            }
            batch.moved += records.len() as u64;
            batch.partitions.push(Moved { chain, records, is_cut });
        }
        batches.push(batch);
        batches.retain(|batch| !batch.partitions.is_empty());
        Ok(batches)
    }

    fn rewrapped(
        &self,
        data_key: &DataKeyFacts,
        versions: &Versions,
    ) -> Result<DataKeyRecord, KeyError> {
        let id = |version| DataKeyId {
            installation: self.inner.keyring.installation(),
            key: &data_key.key,
            version,
            partition: &data_key.partition,
            generation: data_key.generation,
            key_id: data_key.key_id,
        };
        let from = versions.sources.get(&data_key.version).and_then(|facts| facts.kek.as_deref());
        let (Some(from), Some(to)) = (from, versions.target.kek.as_deref()) else {
            return Err(KeyError::Corrupt("an enabled version without a KEK"));
        };
        let opened = wrap::unwrap_data_key(from, &id(data_key.version), &data_key.wrapped)
            .map_err(|_| KeyError::Corrupt("a data key that its version does not open"))?;
        let wrapped = wrap::wrap_data_key(to, &id(self.target), &opened)?;
        Ok(DataKeyRecord {
            version: self.target.get(),
            made_under: data_key.made_under.get(),
            wrapped: wrapped.to_vec(),
            ..data_key.record()
        })
    }

    /// Commits a batch. Whoever changed one of its partitions or versions first has won: its
    /// partitions are to be looked at again.
    pub(super) async fn commit(
        &self,
        batch: Batch,
        versions: &Versions,
    ) -> Result<Committed, KeyError> {
        let inner = &self.inner;
        let by = ChangedBy::Itself(Action::RewrapDataKeys, "rewrap");
        let event =
            ChangeEvent::new(by, inner.clock.now(), Kind::DataKeysRewrapped, Some(&self.key))
                .version(self.target.get())
                .count(batch.moved);
        let result = inner.ledger.commit(event, |txn| self.fill(txn, &batch, versions)).await;
        match result {
            Ok(_) => {
                // An entry in memory may stay: it asks the state of the version that it was read
                // under, and is read again once that may not be used. Whoever reads it next shall
                // see the new one all the same.
                let records = batch.partitions.iter().flat_map(|moved| &moved.records);
                records.for_each(|(of, _)| inner.cache.forget(of.id));
                let moved = batch.moved;
                let cut = batch.partitions.into_iter().filter(|moved| moved.is_cut);
                Ok(Committed { moved, again: cut.map(|m| m.chain.partition).collect() })
            }
            Err(KeyError::Conflict) => Ok(Committed { moved: 0, again: batch.partitions() }),
            Err(error) => Err(error),
        }
    }

    fn fill(&self, txn: Txn, batch: &Batch, versions: &Versions) -> Txn {
        let store = &self.inner.store;
        let key = self.key.as_str().as_bytes();
        let version =
            |number: VersionNumber| store.path(VERSION, &[key, &number.get().to_be_bytes()]);
        let mut txn = txn.at(version(self.target), versions.target.revision);
        for (number, delta) in &batch.deltas {
            // A version that is disabled in between wins: nothing moves out of it any more.
            if let Some(source) = versions.sources.get(number) {
                txn = txn.at(version(*number), source.revision);
            }
            txn = count(txn, store, &self.key, *number, *delta);
        }
        for Moved { chain, records, .. } in &batch.partitions {
            let partition = store.path(PARTITION, &[key, chain.partition.as_str().as_bytes()]);
            txn = txn.at(partition.clone(), chain.revision);
            // Who counts partitions by a chain is guarded by the newest data key and the partition's
            // record: a move of an older one alone shows there.
            let newest = chain.data_keys.first().map(|data_key| data_key.key_id);
            if !records.iter().any(|(of, _)| Some(of.id) == newest) {
                txn = txn.put(partition, chain.record.encode_to_vec());
            }
            for (of, record) in records {
                let path = store.path(DATA_KEY, &[of.id.as_bytes()]);
                txn = txn.at(path.clone(), of.revision).put(path, record.encode_to_vec());
            }
        }
        txn.update(store.path(JOB, &[key]), self.progress(batch.moved))
    }

    /// Adds to the job's record. Only as long as it is the one that this run began with.
    fn progress(&self, moved: u64) -> Update {
        let (started_at, cursor) = (self.started_at, self.cursor.lock().clone());
        Box::new(move |found| {
            let corrupt = || StoreError::Corrupt(WHAT.to_owned());
            let mut record =
                JobRecord::decode(found.ok_or_else(corrupt)?).map_err(|_| corrupt())?;
            if record.started_at != started_at {
                return Err(corrupt());
            }
            record.moved = record.moved.saturating_add(moved);
            record.cursor = cursor.map(|partition| partition.as_str().to_owned());
            Ok(record.encode_to_vec())
        })
    }
}

/// How the counts change if these data keys of a partition move.
fn deltas(
    chain: &Chain,
    records: &[(Guarded, DataKeyRecord)],
    target: VersionNumber,
) -> BTreeMap<VersionNumber, Delta> {
    let before = chain.by_version();
    let mut deltas: BTreeMap<VersionNumber, Delta> = BTreeMap::new();
    let moved =
        chain.data_keys.iter().filter(|of| records.iter().any(|(moved, _)| moved.id == of.key_id));
    for data_key in moved {
        // At most 2^32 seals a data key.
        let reserved = i64::try_from(data_key.reserved).unwrap_or(i64::MAX);
        let from = deltas.entry(data_key.version).or_default();
        from.data_keys -= 1;
        from.reserved -= reserved;
        let to = deltas.entry(target).or_default();
        to.data_keys += 1;
        to.reserved += reserved;
    }
    for (version, delta) in &mut deltas {
        let had = before.get(version).copied().unwrap_or(0) as i64;
        delta.partitions = i64::from(had + delta.data_keys > 0) - i64::from(had > 0);
    }
    deltas
}
