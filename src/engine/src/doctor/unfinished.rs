//! A repair that was cut off after its record: the store that it made only has to take the place.

use std::fs;
use std::path::{Path, PathBuf};

use fieldseal_audit::verify::{Change, Examined};
use fieldseal_audit::{Kind, LastChange};
use fieldseal_store::{Position, Secrets, StoreError};

/// Where a repair makes the new store: beside the one in use.
#[must_use]
pub fn place(store: &Path) -> PathBuf {
    store.with_file_name("store.rebuilt")
}

/// A repair whose store is whole, on record, and not in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// The revision of the store that it made.
    pub revision: u64,
    /// The index of its record in the log.
    pub record: u64,
}

/// Looks for one, in a copy that is made in `scratch` and removed again. The newest change of the log
/// must be the repair, and the store that it made must be where that change left it.
pub(super) async fn look(
    store: &Path,
    scratch: &Path,
    secrets: Secrets,
    log: &Examined,
    newest: Option<&Change>,
) -> Result<Option<Unfinished>, StoreError> {
    let (Some(last), Some(newest), rebuilt) = (log.last_change, newest, place(store)) else {
        return Ok(None);
    };
    if newest.kind != Some(Kind::Repaired) || !rebuilt.exists() {
        return Ok(None);
    }
    let copied = scratch.join("rebuilt");
    fs::create_dir(&copied)?;
    let position = position(&rebuilt, &copied, secrets).await;
    fs::remove_dir_all(&copied)?;
    let LastChange { revision, anchor, index } = last;
    let is_whole = position? == Some(Position { revision, anchor });
    Ok(is_whole.then_some(Unfinished { revision, record: index }))
}

/// Where it is in its history; `None` if it is not whole.
async fn position(
    rebuilt: &Path,
    copied: &Path,
    secrets: Secrets,
) -> Result<Option<Position>, StoreError> {
    let opened = fieldseal_store::copy_files(rebuilt, copied);
    match opened.and_then(|()| super::open(copied, secrets)) {
        Ok(store) => {
            let position = store.opened_position();
            store.close().await;
            Ok(Some(position))
        }
        Err(locked @ StoreError::Locked { .. }) => Err(locked),
        Err(_) => Ok(None),
    }
}
