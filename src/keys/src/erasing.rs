//! Erasing a shredded partition once its window is over: its data keys leave the store. That they
//! leave the files too is the engine's affair.

use std::collections::{BTreeMap, BTreeSet};

use fieldseal_audit::{ChangedBy, Kind};
use fieldseal_model::{Action, KeyId, VersionNumber};
use fieldseal_store::Txn;
use prost::Message;

use crate::cache::PartitionOf;
use crate::counts::{Delta, count};
use crate::error::KeyError;
use crate::keys::Inner;
use crate::records::{DATA_KEY, DataKeyFacts, ErasedRecord, PartitionRecord, PartitionState};
use crate::shredding::IDS_IN_A_RECORD;

/// Data keys that one transaction removes: each may change the counts of a version of its own.
const REMOVED_AT_ONCE: usize = 32;

impl Inner {
    /// Erases every partition whose window is over. First the log gets what it lacks of shreds that
    /// were cut off.
    pub(crate) async fn erase_due(&self) -> Result<(), KeyError> {
        let logged = self.log_what_was_cut_off().await;
        let now = self.seen.now();
        let due = self.partitions.waiting().into_iter().filter(|(_, due)| *due <= now);
        let mut erased = Ok(());
        for (of, _) in due {
            // One that cannot be erased holds up no other.
            erased = erased.and(self.erase(&of).await);
        }
        logged.and(erased)
    }

    /// Removes the data keys of a partition, the newest first. The partition's record names the next
    /// one that is left, so that a crash half way is gone on from.
    async fn erase(&self, of: &PartitionOf) -> Result<(), KeyError> {
        loop {
            let _one_at_a_time = self.changes.lock().await;
            let found = self.partition(of).await?;
            let found =
                found.ok_or(KeyError::Corrupt("a shredded partition without its record"))?;
            let state = found.record.state()?;
            if !matches!(state, PartitionState::Shredding | PartitionState::Erasing) {
                // It was restored meanwhile.
                return Ok(());
            }
            let chain = self.chain(of, &found.record).await?;
            let (batch, left) = chain.split_at(chain.len().min(REMOVED_AT_ONCE));
            let ids: Vec<KeyId> = batch.iter().map(|facts| facts.key_id).collect();
            let oldest = chain.last().map(|facts| facts.key_id);
            let record = self.after(&found.record, state, (&ids, oldest), left);
            let by = ChangedBy::Itself(Action::ShredPartition, "window-over");
            let event = self.partition_event(by, Kind::PartitionErased, of, &ids);
            let fill = |txn: Txn| {
                let path = self.partition_path(of);
                let txn = txn.at(path.clone(), found.revision).put(path, record.encode_to_vec());
                let txn = match left {
                    [] => txn.delete(self.pending_path(of)),
                    _ => txn,
                };
                // One that moved under another version meanwhile is counted there.
                let removed = |txn: Txn, facts: &DataKeyFacts| {
                    let path = self.store.path(DATA_KEY, &[facts.key_id.as_bytes()]);
                    txn.at(path.clone(), facts.revision).delete(path)
                };
                let txn = batch.iter().fold(txn.erasing(), removed);
                let deltas = deltas(batch, left);
                deltas.into_iter().fold(txn, |txn, (version, delta)| {
                    count(txn, &self.store, &of.key, version, delta)
                })
            };
            match self.ledger.commit(event, fill).await {
                Ok(_) => {}
                // A data key moved under another version meanwhile: look again.
                Err(KeyError::Conflict) => continue,
                Err(error) => return Err(error),
            }
            self.forget_partition(of, &ids);
            if left.is_empty() {
                // A call that began before may have read a data key that is gone by now: it has to
                // find the partition closed, or its data key would be remembered as one to use.
                self.eras.turn().await;
                self.forget_partition(of, &ids);
                self.partitions.forget(of);
                return Ok(());
            }
        }
    }

    /// The partition's record once these data keys are gone.
    fn after(
        &self,
        before: &PartitionRecord,
        state: PartitionState,
        (ids, oldest): (&[KeyId], Option<KeyId>),
        left: &[DataKeyFacts],
    ) -> PartitionRecord {
        // What is counted so far counts only while it goes on.
        let so_far = before.erased.clone().filter(|_| state == PartitionState::Erasing);
        let so_far = so_far.unwrap_or_default();
        let mut key_ids = so_far.key_ids;
        key_ids.extend(ids.iter().flat_map(|id| *id.as_bytes()));
        key_ids.truncate(IDS_IN_A_RECORD * 8);
        let erased = ErasedRecord {
            at: self.clock.now().unix_nanos(),
            data_keys: so_far.data_keys.saturating_add(ids.len() as u64),
            key_ids,
            revision: 0,
            oldest: oldest.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
        };
        let next = left.first().map(|facts| facts.key_id);
        let state = if next.is_some() { PartitionState::Erasing } else { PartitionState::Erased };
        let is_over = next.is_none();
        PartitionRecord {
            key_id: next.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            state: state.code(),
            shredded_at: if is_over { 0 } else { before.shredded_at },
            due: if is_over { 0 } else { before.due },
            erased: Some(erased),
            // The erasure names them.
            unlogged: 0,
            ..before.clone()
        }
    }
}

/// How the counts of each version change.
pub(crate) fn deltas(
    batch: &[DataKeyFacts],
    left: &[DataKeyFacts],
) -> BTreeMap<VersionNumber, Delta> {
    let still_there: BTreeSet<VersionNumber> = left.iter().map(|facts| facts.version).collect();
    let mut deltas = BTreeMap::<VersionNumber, Delta>::new();
    for facts in batch {
        let delta = deltas.entry(facts.version).or_default();
        delta.data_keys -= 1;
        delta.reserved -= i64::try_from(facts.reserved).unwrap_or(i64::MAX);
        delta.partitions = if still_there.contains(&facts.version) { 0 } else { -1 };
    }
    deltas
}
