//! Removing the backups that are over.

use std::fs;
use std::io;
use std::path::Path;

use fieldseal_audit::verify::LogKey;
use fieldseal_model::Timestamp;

use super::create::blocking;
use super::error::BackupError;
use super::manifest::{Manifest, sync_directory};
use super::retention;
use crate::engine::Engine;

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// The backups that are over.
    pub removed: Vec<Manifest>,
    /// Those that stay.
    pub kept: Vec<Manifest>,
    /// What in the directory is no backup of this installation, or was altered. It is left alone.
    pub passed_over: Vec<String>,
}

/// Removes the backups of a directory whose time is over, but never the newest. Only those that this
/// log's key signed.
///
/// # Errors
/// If the directory or a file cannot be read or removed.
pub fn prune(
    directory: &Path,
    key: &LogKey,
    now: Timestamp,
    dry_run: bool,
) -> Result<Pruned, BackupError> {
    let pruned = look(directory, key, now)?;
    if !dry_run {
        remove(directory, &pruned.removed)?;
    }
    Ok(pruned)
}

/// What is over, and what is not.
fn look(directory: &Path, key: &LogKey, now: Timestamp) -> Result<Pruned, BackupError> {
    let (found, wrong) = super::list(directory)?;
    let mut passed_over: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let mut own = Vec::new();
    for manifest in found {
        match manifest.check(key) {
            Ok(()) => own.push(manifest),
            Err(error) => passed_over.push(error.to_string()),
        }
    }
    let removed: Vec<Manifest> = retention::expired(&own, now).into_iter().cloned().collect();
    own.retain(|one| !removed.contains(one));
    Ok(Pruned { removed, kept: own, passed_over })
}

fn remove(directory: &Path, over: &[Manifest]) -> Result<(), BackupError> {
    for manifest in over {
        // The manifest last: what is left of a backup is still known for one.
        for ending in ["age", "json"] {
            let path = directory.join(format!("{}.{ending}", manifest.name));
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(BackupError::io("remove", &path, e));
                }
                _ => {}
            }
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    sync_directory(directory)
}

impl Engine {
    /// Removes the backups of the configured directory whose time is over. Each is on record before
    /// it goes: what cannot be recorded stays.
    ///
    /// # Errors
    /// As [`prune`], and the trouble of journal and store.
    pub async fn prune_backups(&self) -> Result<(), BackupError> {
        let Some(settings) = self.inner.backups.settings.clone() else { return Ok(()) };
        if !settings.directory.exists() {
            return Ok(());
        }
        let (key, now) = (self.inner.journal.public_key(), self.inner.clock.now());
        let directory = settings.directory.clone();
        let over = blocking(move || look(&directory, &key, now)).await?.removed;
        for manifest in &over {
            self.inner.keys.backup_over(&manifest.name).await?;
        }
        let going = over.clone();
        blocking(move || remove(&settings.directory, &going)).await?;
        for manifest in &over {
            tracing::info!(event = "backup_pruned", name = manifest.name, "a backup was over");
        }
        Ok(())
    }
}
