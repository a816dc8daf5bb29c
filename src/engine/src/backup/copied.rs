//! What the copy of the store adds to a backup.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fieldseal_store::{CopyError, CopyPart, CopyReader, Import, RawEntry};

use super::error::BackupError;
use super::manifest::Manifest;

/// A copy that has come further than the backup.
pub(super) struct UsableCopy {
    path: PathBuf,
    /// Where it ends.
    pub(super) revision: u64,
    /// Whether its last write is torn or damaged.
    pub(super) is_torn: bool,
}

impl UsableCopy {
    /// Reads it to its end. `None` if the backup has everything that is in it.
    pub(super) fn look(path: &Path, manifest: &Manifest) -> Result<Option<Self>, BackupError> {
        let mut reader = CopyReader::open(path)?;
        let owner = reader.owner();
        if owner.installation.to_string() != manifest.installation {
            return Err(BackupError::Copy(CopyError::Foreign {
                place: path.display().to_string(),
                found: format!("the installation {}", owner.installation),
                expected: format!("that of the backup, {}", manifest.installation),
            }));
        }
        let mut newest = 0;
        while let Some(part) = reader.part()? {
            match part {
                CopyPart::Base(_) => {}
                CopyPart::BaseEnd { revision, .. } | CopyPart::Group { revision, .. } => {
                    newest = revision;
                }
            }
        }
        let is_torn = reader.is_torn();
        let is_newer = newest > manifest.revision && owner.incarnation >= manifest.incarnation;
        Ok(is_newer.then(|| Self { path: path.to_owned(), revision: newest, is_torn }))
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
