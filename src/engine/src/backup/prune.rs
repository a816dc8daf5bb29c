//! Removing the backups that are over.

use std::fs;
use std::io;
use std::path::Path;

use fieldseal_audit::Receipt;
use fieldseal_audit::verify::LogKey;
use fieldseal_model::{AccessReason, Action, Timestamp};

use super::create::{By, blocking};
use super::error::BackupError;
use super::manifest::{Manifest, sync_directory};
use super::retention;
use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// The backups that are over.
    pub removed: Vec<Manifest>,
    /// Those that stay.
    pub kept: Vec<Manifest>,
    /// What in the directory is no backup of this installation, or was altered. It is left alone.
    pub passed_over: Vec<String>,
    /// The proof for each that was removed that this is on record; empty where nothing was removed,
    /// and where there is no log.
    pub receipts: Vec<Receipt>,
}

/// Removes the backups of a directory whose time is over, but never the newest. Only those that this
/// log's key signed. It is for a directory without an installation, as of a machine that only keeps
/// backups: nothing is recorded.
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
    let (found, wrong) = super::list(directory).map_err(|error| match error {
        BackupError::NotFound(_) => {
            BackupError::io("read", directory, io::ErrorKind::NotFound.into())
        }
        other => other,
    })?;
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
    Ok(Pruned { removed, kept: own, passed_over, receipts: Vec::new() })
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
    /// Removes the backups of the configured directory whose time is over, or only looks. It goes on
    /// when its caller goes away.
    ///
    /// # Errors
    /// Denied, not configured, a backup is being made, or what cannot be read, removed or recorded.
    pub async fn prune_backups(
        &self,
        caller: &Caller,
        reason: &AccessReason,
        validate_only: bool,
    ) -> Result<Pruned, Refusal> {
        self.journal_ready()?;
        let action = Action::PruneBackups;
        let permit = match self.decide_key(caller, action, None, reason) {
            Ok(permit) => permit,
            Err(denial) => return Err(self.denied(caller, action, None, reason, &denial).await),
        };
        let by = By::Caller(permit.clone(), reason.clone());
        match self.prune_by(by, validate_only).await {
            Ok(pruned) => Ok(pruned),
            Err(error) => {
                let cause = RefusalCause::from(error);
                Err(self.failed(caller, &permit, reason, cause).await)
            }
        }
    }

    /// The same for the schedule. Without a directory there is nothing to remove.
    ///
    /// # Errors
    /// As [`Engine::prune_backups`], but never denied.
    pub async fn prune_by_schedule(&self) -> Result<(), BackupError> {
        let settings = self.inner.backups.settings.as_ref();
        if settings.is_none_or(|settings| !settings.directory.exists()) {
            return Ok(());
        }
        self.prune_by(By::Schedule, false).await.map(drop)
    }

    pub(super) async fn prune_by(
        &self,
        by: By,
        validate_only: bool,
    ) -> Result<Pruned, BackupError> {
        let engine = self.clone();
        let work = async move { engine.prune_now(&by, validate_only).await };
        tokio::spawn(work).await.unwrap_or(Err(BackupError::Interrupted))
    }

    /// Each is on record before it goes: what cannot be recorded stays.
    async fn prune_now(&self, by: &By, validate_only: bool) -> Result<Pruned, BackupError> {
        let none = BackupError::NotConfigured("set backup.directory, and start the sidecar again");
        let directory = self.inner.backups.settings.clone().ok_or(none)?.directory;
        let _turn = self.inner.backups.turn.try_lock().map_err(|_| BackupError::Running)?;
        let (key, now) = (self.inner.journal.public_key(), self.inner.clock.now());
        let of = directory.clone();
        let mut pruned = blocking(move || look(&of, &key, now)).await?;
        if validate_only {
            return Ok(pruned);
        }
        for manifest in &pruned.removed {
            let by = by.changed(Action::PruneBackups);
            pruned.receipts.push(self.inner.keys.backup_over(by, &manifest.name).await?);
        }
        let going = pruned.removed.clone();
        blocking(move || remove(&directory, &going)).await?;
        for manifest in &pruned.removed {
            tracing::info!(event = "backup_pruned", name = manifest.name, "a backup was over");
        }
        Ok(pruned)
    }

    /// The directory of the configuration, if there is one.
    #[must_use]
    pub fn backup_directory(&self) -> Option<&Path> {
        self.inner.backups.settings.as_ref().map(|settings| settings.directory.as_path())
    }
}
