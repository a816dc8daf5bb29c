//! Partitions that were shredded, restored or erased after a backup. The log knows their data keys, and
//! those know their partition.

use std::collections::{BTreeSet, HashMap};

use fieldseal_audit::Change;
use fieldseal_store::{Import, Path};
use prost::Message;

use super::seen;
use crate::erasing::deltas;
use crate::error::KeyError;
use crate::records::{
    COUNTS, CountsRecord, DATA_KEY, DataKeyFacts, ErasedRecord, PARTITION, PartitionRecord,
    PartitionState, SHREDDING, ShreddingRecord, decode,
};
use crate::shredding::{IDS_IN_A_RECORD, LONGEST_WINDOW};

/// Data keys by which a change of the log knows its partition, though they are not in the store: they
/// were erased, or made after the backup.
#[derive(Default)]
pub(super) struct Known {
    by_id: HashMap<[u8; 8], Names>,
    /// The partitions that were erased before the backup are among them.
    is_complete: bool,
}

/// The names of a key and of a partition under it.
type Names = (String, String);

/// A partition of the store that is being made.
struct Found {
    path: Path,
    pending: Path,
    record: PartitionRecord,
    /// The revision of its record.
    revision: u64,
}

impl Known {
    /// The partition of a change; `None` if the store never had it: then nothing of it can open.
    fn find(&mut self, import: &mut Import, change: &Change) -> Result<Option<Found>, KeyError> {
        let Some(names) = self.names(import, change)? else { return Ok(None) };
        let parts = [names.0.as_bytes(), names.1.as_bytes()];
        let (path, pending) = (import.path(PARTITION, &parts), import.path(SHREDDING, &parts));
        let found = import.open(&path)?.ok_or(KeyError::Corrupt("a data key of no partition"))?;
        let record = decode("a partition's record", &found.value)?;
        for id in &change.key_ids {
            self.by_id.insert(*id, names.clone());
        }
        Ok(Some(Found { path, pending, record, revision: found.revision }))
    }

    fn names(&mut self, import: &mut Import, change: &Change) -> Result<Option<Names>, KeyError> {
        for id in &change.key_ids {
            if let Some(found) = import.open(&import.path(DATA_KEY, &[id]))? {
                let facts = DataKeyFacts::decode(&found.value)?;
                let names = (facts.key.as_str().to_owned(), facts.partition.as_str().to_owned());
                return Ok(Some(names));
            }
        }
        let mut ids = change.key_ids.iter().chain(&change.erased_key_id);
        if let Some(names) = ids.find_map(|id| self.by_id.get(id)) {
            return Ok(Some(names.clone()));
        }
        let Some(id) = change.erased_key_id.filter(|_| !self.is_complete) else { return Ok(None) };
        import.each(PARTITION, |found| {
            // The scrub of the store that is made finds one that is damaged.
            let Ok(record) = PartitionRecord::decode(found.value.as_slice()) else { return };
            if let Some(id) = record.erased_before() {
                self.by_id.insert(*id.as_bytes(), (record.key, record.partition));
            }
        })?;
        self.is_complete = true;
        Ok(self.by_id.get(&id).cloned())
    }
}

impl Found {
    fn seal(&self, import: &mut Import, revision: u64) -> Result<(), KeyError> {
        Ok(import.seal(&self.path, revision, &self.record.encode_to_vec())?)
    }

    /// Its data keys, the newest first.
    fn chain(&self, import: &Import) -> Result<Vec<DataKeyFacts>, KeyError> {
        let (mut chain, mut next) = (Vec::<DataKeyFacts>::new(), self.record.newest()?);
        while let Some(id) = next {
            let path = import.path(DATA_KEY, &[id.as_bytes()]);
            let found = import.open(&path)?;
            let found = found.ok_or(KeyError::Corrupt("a partition whose data key is gone"))?;
            let facts = DataKeyFacts::of(&found)?;
            if chain.last().is_some_and(|newer| newer.generation <= facts.generation) {
                return Err(KeyError::Corrupt("the order of a partition's data keys"));
            }
            next = facts.previous;
            chain.push(facts);
        }
        Ok(chain)
    }
}

/// Nothing of it opens, and its data keys go once its window is over. How long that was, and how much
/// of it had passed, only the lost store knew: it gets the longest one, because it may last longer and
/// never shorter than whoever shredded it was told.
/// Where all of its data keys are younger than the backup, it is erased: there is nothing to wait for.
pub(super) fn shred(
    known: &mut Known,
    import: &mut Import,
    change: &Change,
) -> Result<bool, KeyError> {
    let Some(mut found) = known.find(import, change)? else { return Ok(false) };
    if found.record.newest()?.is_none() {
        found.lost(change);
        found.seal(import, change.revision)?;
        return Ok(true);
    }
    if found.record.state()? != PartitionState::Open {
        return Ok(true);
    }
    let window = u64::try_from(LONGEST_WINDOW.as_nanos()).unwrap_or(u64::MAX);
    found.record.state = PartitionState::Shredding.code();
    found.record.shredded_at = change.time.unix_nanos();
    found.record.due = seen(import)?.saturating_add(window);
    let pending = ShreddingRecord {
        key: found.record.key.clone(),
        partition: found.record.partition.clone(),
        due: found.record.due,
        restored: false,
    };
    import.seal(&found.pending, change.revision, &pending.encode_to_vec())?;
    found.seal(import, change.revision)?;
    Ok(true)
}

/// It opens again. What the log says of it has been said by then.
pub(super) fn restore(
    known: &mut Known,
    import: &mut Import,
    change: &Change,
) -> Result<bool, KeyError> {
    let Some(mut found) = known.find(import, change)? else { return Ok(false) };
    // The log tells of it of a partition that waits only. One that is erased lost its data keys.
    found.record.state = PartitionState::Open.code();
    (found.record.shredded_at, found.record.due, found.record.unlogged) = (0, 0, 0);
    import.remove_record(&found.pending)?;
    found.seal(import, change.revision)?;
    Ok(true)
}

/// It takes new values, as [`crate::Keys::reopen_partition`] leaves it.
pub(super) fn reopen(
    known: &mut Known,
    import: &mut Import,
    change: &Change,
) -> Result<bool, KeyError> {
    let Some(mut found) = known.find(import, change)? else { return Ok(false) };
    if found.record.state()? == PartitionState::Erased {
        found.record.state = PartitionState::Open.code();
        if let Some(erased) = &mut found.record.erased {
            erased.revision = found.revision;
        }
        found.seal(import, change.revision)?;
    }
    Ok(true)
}

/// These data keys are gone; returns how many were there.
pub(super) fn erase(
    known: &mut Known,
    import: &mut Import,
    change: &Change,
) -> Result<u64, KeyError> {
    let Some(mut found) = known.find(import, change)? else { return Ok(0) };
    if found.record.newest()?.is_none() {
        found.lost(change);
        found.seal(import, change.revision)?;
        return Ok(0);
    }
    let ids: BTreeSet<[u8; 8]> = change.key_ids.iter().copied().collect();
    let chain = found.chain(import)?;
    let (gone, left): (Vec<_>, Vec<_>) =
        chain.into_iter().partition(|facts| ids.contains(facts.key_id.as_bytes()));
    for facts in &gone {
        import.remove_record(&import.path(DATA_KEY, &[facts.key_id.as_bytes()]))?;
    }
    import.erased();
    for (version, delta) in deltas(&gone, &left) {
        let number = version.get().to_be_bytes();
        let path = import.path(COUNTS, &[found.record.key.as_bytes(), &number]);
        let counts = import.open(&path)?;
        let counts = counts.ok_or(KeyError::Corrupt("a key version without its counts"))?;
        let before: CountsRecord = decode("the counts of a key version", &counts.value)?;
        let add = |to: u64, by: i64| {
            to.checked_add_signed(by).ok_or(KeyError::Corrupt("the counts of a key version"))
        };
        let after = CountsRecord {
            data_keys: add(before.data_keys, delta.data_keys)?,
            partitions: add(before.partitions, delta.partitions)?,
            reserved: add(before.reserved, delta.reserved)?,
            ..before
        };
        import.seal(&path, change.revision, &after.encode_to_vec())?;
    }
    found.after(change, &gone, &left);
    if left.is_empty() {
        import.remove_record(&found.pending)?;
    }
    found.seal(import, change.revision)?;
    Ok(gone.len() as u64)
}

impl Found {
    /// Its record if the data keys that a change names never were in the backup.
    fn lost(&mut self, change: &Change) {
        let record = &mut self.record;
        let goes_on = record.state == PartitionState::Erased.code();
        let mut erased: ErasedRecord = record.erased.take().filter(|_| goes_on).unwrap_or_default();
        let is_new = |id: &&[u8; 8]| !erased.key_ids.as_chunks::<8>().0.contains(id);
        let ids: Vec<[u8; 8]> = change.key_ids.iter().filter(is_new).copied().collect();
        erased.at = change.time.unix_nanos();
        erased.data_keys = erased.data_keys.saturating_add(ids.len() as u64);
        erased.oldest = ids.last().map_or(erased.oldest, |id| id.to_vec());
        erased.key_ids.extend(ids.iter().flatten());
        erased.key_ids.truncate(IDS_IN_A_RECORD * 8);
        record.erased = Some(erased);
        record.state = PartitionState::Erased.code();
        (record.shredded_at, record.due, record.unlogged) = (0, 0, 0);
    }

    /// Its record once these data keys are gone.
    fn after(&mut self, change: &Change, gone: &[DataKeyFacts], left: &[DataKeyFacts]) {
        let record = &mut self.record;
        let goes_on = record.state == PartitionState::Erasing.code();
        let mut erased: ErasedRecord = record.erased.take().filter(|_| goes_on).unwrap_or_default();
        erased.at = change.time.unix_nanos();
        erased.data_keys = erased.data_keys.saturating_add(gone.len() as u64);
        erased.key_ids.extend(gone.iter().flat_map(|facts| *facts.key_id.as_bytes()));
        erased.key_ids.truncate(IDS_IN_A_RECORD * 8);
        if let Some(oldest) = left.last().or(gone.last()) {
            erased.oldest = oldest.key_id.as_bytes().to_vec();
        }
        record.erased = Some(erased);
        match left.first() {
            Some(next) => {
                record.key_id = next.key_id.as_bytes().to_vec();
                record.state = PartitionState::Erasing.code();
            }
            None => {
                record.key_id = Vec::new();
                record.state = PartitionState::Erased.code();
                (record.shredded_at, record.due) = (0, 0);
            }
        }
    }
}
