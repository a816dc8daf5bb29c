//! Doing again, on a store that is put back from a backup, what the log tells of later: so that
//! nothing comes back that was disabled, destroyed or shredded.

mod partitions;

use std::collections::BTreeSet;

use fieldseal_audit::{Change, Kind as Recorded};
use fieldseal_model::KeyVersionState;
use fieldseal_store::{Import, Path};
use prost::Message;

use crate::error::KeyError;
use crate::records::{
    CLOCK, ClockRecord, DATA_KEY, KEY, KeyRecord, VERSION, VersionRecord, decode,
};

/// What was done again, and what is not there any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Changes of state that were applied.
    pub applied: u64,
    /// Data keys that were removed, because their partition was shredded.
    pub shredded: u64,
    /// Data keys that were made later: what was sealed under them does not open.
    pub lost_data_keys: u64,
    /// Key versions that were made later.
    pub lost_versions: u64,
    /// Keys that were made later.
    pub lost_keys: BTreeSet<String>,
    /// Keys whose settings were changed when the log did not hold them yet: they are the backup's.
    pub unknown_settings: BTreeSet<String>,
}

/// Applies changes in the order of the log.
#[derive(Default)]
pub struct Replay {
    replayed: Replayed,
    partitions: partitions::Known,
}

impl Replay {
    /// What was done.
    #[must_use]
    pub fn finish(self) -> Replayed {
        self.replayed
    }

    /// Applies one change that is later than the store.
    ///
    /// # Errors
    /// If a record does not open or cannot be written.
    pub fn apply(&mut self, import: &mut Import, change: &Change) -> Result<(), KeyError> {
        let to = match change.kind {
            Some(Recorded::KeyCreated | Recorded::KeyRotated) => {
                return self.version_made(import, change);
            }
            Some(Recorded::DataKeyCreated) => return self.data_key_made(import, change),
            Some(Recorded::KeyUpdated) => return self.settings_become(import, change),
            Some(Recorded::PartitionShredded) => {
                let was_there = partitions::shred(&mut self.partitions, import, change)?;
                self.replayed.applied += u64::from(was_there);
                return Ok(());
            }
            Some(Recorded::PartitionRestored) => {
                let was_there = partitions::restore(&mut self.partitions, import, change)?;
                self.replayed.applied += u64::from(was_there);
                return Ok(());
            }
            Some(Recorded::PartitionReopened) => {
                let was_there = partitions::reopen(&mut self.partitions, import, change)?;
                self.replayed.applied += u64::from(was_there);
                return Ok(());
            }
            Some(Recorded::PartitionErased) => {
                let gone = partitions::erase(&mut self.partitions, import, change)?;
                self.replayed.applied += u64::from(gone > 0);
                self.replayed.shredded += gone;
                return Ok(());
            }
            Some(Recorded::VersionEnabled) => KeyVersionState::Enabled,
            Some(Recorded::VersionDisabled | Recorded::VersionRestored) => {
                KeyVersionState::Disabled
            }
            Some(Recorded::VersionDestroyScheduled) => KeyVersionState::DestroyScheduled,
            Some(Recorded::VersionDestroyed) => KeyVersionState::Destroyed,
            _ => return Ok(()),
        };
        self.version_becomes(import, change, to)
    }

    /// A key's settings are what they were set to. Its name and its age stay.
    fn settings_become(&mut self, import: &mut Import, change: &Change) -> Result<(), KeyError> {
        let path = import.path(KEY, &[change.key.as_bytes()]);
        let Some(found) = import.open(&path)? else { return Ok(()) };
        let before: KeyRecord = decode("a key's record", &found.value)?;
        if change.settings.is_empty() {
            self.replayed.unknown_settings.insert(change.key.clone());
            return Ok(());
        }
        let settings: KeyRecord = decode("settings in the audit log", &change.settings)?;
        let after = KeyRecord { name: before.name, created_at: before.created_at, ..settings };
        crate::settings::of_record(&after)?;
        import.seal(&path, change.revision, &after.encode_to_vec())?;
        self.replayed.applied += 1;
        Ok(())
    }

    fn version_becomes(
        &mut self,
        import: &mut Import,
        change: &Change,
        to: KeyVersionState,
    ) -> Result<(), KeyError> {
        let path = version_path(import, change);
        let Some(found) = import.open(&path)? else { return Ok(()) };
        let mut record: VersionRecord = decode("a key version's record", &found.value)?;
        if to != KeyVersionState::Destroyed && record.wrapped.is_empty() {
            // It was made after the backup, so only its tombstone is here: that is final.
            return Ok(());
        }
        record.state = to.code().into();
        (record.destroy_due_nanos, record.data_keys_lost) = (0, 0);
        match to {
            KeyVersionState::DestroyScheduled => {
                // How much of its window had passed, only the lost store knew: it begins anew, because
                // it may last longer and never shorter.
                let window = window_of(import, &change.key)?;
                record.destroy_due_nanos = seen(import)?.saturating_add(window);
                record.data_keys_lost = change.count;
            }
            KeyVersionState::Destroyed => {
                record.wrapped.clear();
                record.destroyed_at = change.time.unix_nanos();
                import.erased();
            }
            KeyVersionState::Enabled | KeyVersionState::Disabled => {}
        }
        import.seal(&path, change.revision, &record.encode_to_vec())?;
        self.replayed.applied += 1;
        Ok(())
    }

    /// A version that is not in the backup leaves its tombstone: its number is never used again.
    fn version_made(&mut self, import: &mut Import, change: &Change) -> Result<(), KeyError> {
        let key = import.path(KEY, &[change.key.as_bytes()]);
        if import.open(&key)?.is_none() {
            self.replayed.lost_keys.insert(change.key.clone());
            return Ok(());
        }
        let path = version_path(import, change);
        if import.open(&path)?.is_some() {
            return Ok(());
        }
        let tombstone = VersionRecord {
            key: change.key.clone(),
            version: change.key_version,
            state: KeyVersionState::Destroyed.code().into(),
            destroyed_at: change.time.unix_nanos(),
            created_at: change.time.unix_nanos(),
            ..VersionRecord::default()
        };
        import.seal(&path, change.revision, &tombstone.encode_to_vec())?;
        self.replayed.lost_versions += 1;
        Ok(())
    }

    fn data_key_made(&mut self, import: &mut Import, change: &Change) -> Result<(), KeyError> {
        let Some(id) = change.key_id else { return Ok(()) };
        let path = import.path(DATA_KEY, &[&id]);
        if import.open(&path)?.is_none() {
            self.replayed.lost_data_keys += 1;
        }
        Ok(())
    }
}

/// How much time the installation has seen pass, in nanoseconds.
fn seen(import: &Import) -> Result<u64, KeyError> {
    let Some(found) = import.open(&import.path(CLOCK, &[]))? else { return Ok(0) };
    let record: ClockRecord = decode("the record of time seen", &found.value)?;
    Ok(record.seen_nanos)
}

/// The window between the schedule of a destruction and its end, in nanoseconds.
fn window_of(import: &Import, key: &str) -> Result<u64, KeyError> {
    let found = import.open(&import.path(KEY, &[key.as_bytes()]))?;
    let found = found.ok_or(KeyError::Corrupt("a version of no key"))?;
    let record: KeyRecord = decode("a key's record", &found.value)?;
    Ok(record.destroy_window_seconds.saturating_mul(1_000_000_000))
}

fn version_path(import: &Import, change: &Change) -> Path {
    import.path(VERSION, &[change.key.as_bytes(), &change.key_version.to_be_bytes()])
}
