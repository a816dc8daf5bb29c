//! The copy of the store (`store.copy`), as it can take the store's place.

use std::path::{Path, PathBuf};

use fieldseal_model::InstallationId;
use fieldseal_store::{CopyError, CopyPart, CopyReader, Import, RawEntry};

/// A copy that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFound {
    /// Its directory.
    pub place: PathBuf,
    /// The revision of the store that it ends with.
    pub revision: u64,
    /// The HMAC over the sum of the whole store then.
    pub anchor: [u8; 32],
    /// Its last write is torn: nobody was told that it happened, unless it was damaged later.
    pub is_torn: bool,
}

/// Reads a copy to its end.
pub(super) fn look(place: &Path, installation: InstallationId) -> Result<CopyFound, CopyError> {
    let mut reader = CopyReader::open(place)?;
    let found = reader.owner().installation;
    if found != installation {
        return Err(CopyError::Foreign {
            place: place.display().to_string(),
            found: format!("the installation {found}"),
            expected: installation.to_string(),
        });
    }
    let mut newest = (0, [0; 32]);
    while let Some(part) = reader.part()? {
        match part {
            CopyPart::Base(_) => {}
            CopyPart::BaseEnd { revision, anchor } | CopyPart::Group { revision, anchor, .. } => {
                newest = (revision, anchor);
            }
        }
    }
    let (revision, anchor) = newest;
    Ok(CopyFound { place: place.to_owned(), revision, anchor, is_torn: reader.is_torn() })
}

/// Puts all records of a copy in, and holds them against their sum.
pub(super) fn fill(import: &mut Import, found: &CopyFound) -> Result<(), CopyError> {
    let altered = || CopyError::Altered {
        place: found.place.display().to_string(),
        what: "its records do not add up to their sum".to_owned(),
    };
    let mut reader = CopyReader::open(&found.place)?;
    while let Some(part) = reader.part()? {
        let writes: Vec<_> = match part {
            CopyPart::BaseEnd { .. } => Vec::new(),
            CopyPart::Base(entries) => {
                entries.into_iter().map(|RawEntry { path, stored }| (path, Some(stored))).collect()
            }
            CopyPart::Group { writes, .. } => writes,
        };
        for (path, stored) in writes {
            match stored {
                Some(stored) => {
                    let entry = RawEntry { path, stored };
                    if !entry.is_event() {
                        import.put(entry)?;
                    }
                }
                None => import.remove(path)?,
            }
        }
    }
    if import.anchor() == found.anchor { Ok(()) } else { Err(altered()) }
}
