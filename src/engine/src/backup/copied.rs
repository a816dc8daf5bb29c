//! What the copy of the store adds to a backup.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fieldseal_audit::verify::LogKey;
use fieldseal_keys::keyring;
use fieldseal_store::{CopyError, CopyPart, CopyReader, Import, RawEntry};

use super::error::BackupError;
use super::manifest::{Manifest, hex};

/// A copy that has come further than the backup.
pub(super) struct UsableCopy {
    path: PathBuf,
    /// Where it ends.
    pub(super) revision: u64,
    /// Whether its last write is torn or damaged.
    pub(super) is_torn: bool,
    /// Every moment of which it has the sum of the whole store.
    moments: BTreeMap<u64, [u8; 32]>,
    /// The revisions of which it has an event.
    events: BTreeSet<u64>,
}

impl UsableCopy {
    /// Reads it to its end. `None` if the backup has everything that is in it.
    pub(super) fn look(path: &Path, manifest: &Manifest) -> Result<Option<Self>, BackupError> {
        let mut reader = CopyReader::open(path)?;
        let owner = reader.owner();
        if owner.installation.to_string() != manifest.installation {
            let found = format!("the installation {}", owner.installation);
            let expected = format!("that of the backup, {}", manifest.installation);
            return Err(foreign(path, &found, &expected));
        }
        if owner.incarnation == manifest.incarnation && hex(&owner.life) != manifest.life {
            return Err(foreign(path, "another life of this installation", "that of the backup"));
        }
        let (mut moments, mut events) = (BTreeMap::new(), BTreeSet::new());
        let mut event = |entry: &RawEntry| -> Result<(), BackupError> {
            if entry.is_event() {
                events.insert(entry.revision()?);
            }
            Ok(())
        };
        while let Some(part) = reader.part()? {
            match part {
                CopyPart::Base(entries) => entries.iter().try_for_each(&mut event)?,
                CopyPart::BaseEnd { revision, anchor } => {
                    moments.insert(revision, anchor);
                }
                CopyPart::Group { revision, anchor, writes } => {
                    moments.insert(revision, anchor);
                    for (path, stored) in writes {
                        stored.map_or(Ok(()), |stored| event(&RawEntry { path, stored }))?;
                    }
                }
            }
        }
        let revision = moments.keys().next_back().copied().unwrap_or_default();
        let is_torn = reader.is_torn();
        let is_newer = revision > manifest.revision && owner.incarnation >= manifest.incarnation;
        let path = path.to_owned();
        Ok(is_newer.then_some(Self { path, revision, is_torn, moments, events }))
    }

    /// The keyring beside it, if it is in a directory: it may be younger than the backup's, and opens
    /// what a rotation of the root key has wrapped anew.
    pub(super) fn keyring(&self, manifest: &Manifest) -> Result<Option<Vec<u8>>, BackupError> {
        let path = self.path.join(fieldseal_store::COPIED_KEYRING);
        if !self.path.is_dir() || !path.exists() {
            return Ok(None);
        }
        if keyring::installation(&path)?.to_string() != manifest.installation {
            return Err(foreign(&path, "another installation", "that of the backup"));
        }
        fs::read(&path).map(Some).map_err(|e| BackupError::io("read", &path, e))
    }

    /// Whether it tells the history of the log, which has everything up to `recorded`: the newest sum
    /// of the copy up to there is the log's too, and what is later waits in the copy for the log. What
    /// the log has had since it had `size` records must be at hand.
    pub(super) fn belongs_to(
        &self,
        log: &Path,
        key: &LogKey,
        recorded: u64,
        size: u64,
    ) -> Result<(), BackupError> {
        let shared = self.moments.range(1..=recorded).next_back();
        let mut is_in_log = shared.is_none();
        let read = fieldseal_audit::changes(log, key, size, |change| {
            is_in_log |= shared.is_some_and(|(revision, anchor)| {
                change.revision == *revision && change.anchor.as_slice() == anchor.as_slice()
            });
        });
        read?;
        let mut later = recorded.saturating_add(1)..=self.revision;
        match is_in_log && later.all(|revision| self.events.contains(&revision)) {
            true => Ok(()),
            false => Err(foreign(&self.path, "another history of this installation", "the log's")),
        }
    }

    /// Puts all of it in, and holds it against its sum after every group. Events that the log has not
    /// (it has those up to `recorded`) wait for it again.
    pub(super) fn import(
        &self,
        import: &mut Import,
        recorded: Option<u64>,
    ) -> Result<(), BackupError> {
        let altered = || {
            BackupError::Copy(CopyError::Altered {
                place: self.path.display().to_string(),
                what: "the sum of its records is not the one that was written with them".to_owned(),
            })
        };
        let mut reader = CopyReader::open(&self.path)?;
        let mut events = BTreeMap::new();
        while let Some(part) = reader.part()? {
            match part {
                CopyPart::Base(entries) => {
                    for entry in entries {
                        put(import, &mut events, entry)?;
                    }
                }
                CopyPart::BaseEnd { anchor, .. } => {
                    if import.anchor() != anchor {
                        return Err(altered());
                    }
                }
                CopyPart::Group { anchor, writes, .. } => {
                    for (path, stored) in writes {
                        match stored {
                            Some(stored) => put(import, &mut events, RawEntry { path, stored })?,
                            None => import.remove(path)?,
                        }
                    }
                    if import.anchor() != anchor {
                        return Err(altered());
                    }
                }
            }
        }
        for (revision, event) in events {
            if recorded.is_some_and(|recorded| revision > recorded) {
                import.put_event(event)?;
            }
        }
        Ok(())
    }
}

fn foreign(path: &Path, found: &str, expected: &str) -> BackupError {
    BackupError::Copy(CopyError::Foreign {
        place: path.display().to_string(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    })
}

fn put(
    import: &mut Import,
    events: &mut BTreeMap<u64, RawEntry>,
    entry: RawEntry,
) -> Result<(), BackupError> {
    if entry.is_event() {
        events.insert(entry.revision()?, entry);
        return Ok(());
    }
    Ok(import.put(entry)?)
}
