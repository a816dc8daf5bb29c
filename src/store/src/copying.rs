//! A copy of a store's files, to look at without touching them.

use std::fs;
use std::path::Path;

use crate::backend::sled::is_made;
use crate::error::StoreError;
use crate::lock::DirectoryLock;

/// Copies the files of a store that no process has open. Opening a database changes its files, so
/// whoever only wants to look opens a copy.
///
/// # Errors
/// `NotInitialized`, `Locked`, or trouble with either directory.
pub fn copy_files(from: &Path, to: &Path) -> Result<(), StoreError> {
    if !is_made(from)? {
        return Err(StoreError::NotInitialized(from.to_owned()));
    }
    let _lock = DirectoryLock::acquire(from)?;
    copy(from, to)
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else if kind.is_file() && entry.file_name() != "lock" {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
