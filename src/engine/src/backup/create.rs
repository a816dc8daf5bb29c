//! Making a backup while everything goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{ChangedBy, Checkpoint, Receipt};
use fieldseal_keys::KnownBackup;
use fieldseal_model::{AccessReason, Action, Timestamp};
use fieldseal_policy::Permit;
use fieldseal_store::Snapshot;

use super::error::BackupError;
use super::manifest::{FORMAT, LABEL, Manifest, hex};
use super::stream::Header;
use super::writing::{self, Staged};
use super::{BackupState, Settings, retention};
use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};

/// Bytes that are kept of what is overwritten while a backup is made.
const KEPT_BYTES: usize = 64 * 1024 * 1024;
/// How long the log may take to hold what the store holds already, and how often that is looked at.
const RELAY_TIME: Duration = Duration::from_secs(10);
const RELAY_LOOK: Duration = Duration::from_millis(5);

/// A backup that was made.
pub struct Made {
    /// What it holds.
    pub manifest: Manifest,
    /// The encrypted file; the manifest is beside it.
    pub path: PathBuf,
    /// The proof that it is on record.
    pub receipt: Receipt,
}

/// Who wants a backup, or that those go that are over.
pub(super) enum By {
    Caller(Permit, AccessReason),
    /// The schedule of the configuration.
    Schedule,
}

impl By {
    /// Who did this action of backups.
    pub(super) fn changed(&self, action: Action) -> ChangedBy<'_> {
        match self {
            Self::Caller(permit, reason) => ChangedBy::Caller(permit, reason),
            Self::Schedule => ChangedBy::Itself(action, "schedule"),
        }
    }
}

impl Engine {
    /// Makes a backup in the directory of the configuration. It goes on when its caller goes away.
    ///
    /// # Errors
    /// Denied, not configured, another one is being made, or what could not be written.
    pub async fn create_backup(
        &self,
        caller: &Caller,
        reason: &AccessReason,
    ) -> Result<Made, Refusal> {
        self.journal_ready()?;
        let action = Action::CreateBackup;
        let permit = match self.decide_key(caller, action, None, reason) {
            Ok(permit) => permit,
            Err(denial) => return Err(self.denied(caller, action, None, reason, &denial).await),
        };
        let by = By::Caller(permit.clone(), reason.clone());
        match self.back_up(by).await {
            Ok(made) => Ok(made),
            Err(error) => {
                let cause = RefusalCause::from(error);
                Err(self.failed(caller, &permit, reason, cause).await)
            }
        }
    }

    /// The same for the schedule.
    ///
    /// # Errors
    /// As [`Engine::create_backup`], but never denied.
    pub async fn create_scheduled_backup(&self) -> Result<Made, BackupError> {
        self.back_up(By::Schedule).await
    }

    /// Whether the newest backup is at least so old, or there is none.
    #[must_use]
    pub fn backup_is_due(&self, every: Duration) -> bool {
        let newest = self.inner.backups.state().newest;
        newest.is_none_or(|newest| self.inner.clock.now().since(newest) >= every)
    }

    /// How backups go, for the process itself.
    #[must_use]
    pub fn backup_state(&self) -> BackupState {
        self.inner.backups.state()
    }

    pub(super) async fn back_up(&self, by: By) -> Result<Made, BackupError> {
        let engine = self.clone();
        let made = tokio::spawn(async move { engine.back_up_now(&by).await }).await;
        let made = made.unwrap_or(Err(BackupError::Interrupted));
        let mut state = self.inner.backups.state.lock();
        match &made {
            Ok(made) => {
                state.newest = Some(made.manifest.created_at());
                state.failed = None;
            }
            // The one that is being made says itself how it ends.
            Err(BackupError::Running) => {}
            Err(error) => {
                tracing::error!(event = "backup_failed", reason = error.reason(), %error);
                state.failed = Some(error.reason());
            }
        }
        made
    }

    async fn back_up_now(&self, by: &By) -> Result<Made, BackupError> {
        let backups = &self.inner.backups;
        let none = BackupError::NotConfigured(
            "set backup.directory and backup.recipients, and start the sidecar again",
        );
        let settings = backups.settings.clone().ok_or(none)?;
        let _turn = backups.turn.try_lock().map_err(|_| BackupError::Running)?;
        let directory = settings.directory.clone();
        let (earlier, _) = blocking(move || {
            writing::prepare(&directory)?;
            super::list(&directory)
        })
        .await?;
        let keyring = std::fs::read(&settings.keyring);
        let keyring = keyring.map_err(|e| BackupError::io("read", &settings.keyring, e))?;
        let now = self.inner.clock.now();
        let made_before = self.inner.keys.statistics().data_keys_made;
        let snapshot = self.inner.store.snapshot(KEPT_BYTES).await?;
        self.recorded_up_to(snapshot.revision()).await?;
        let checkpoint = self.inner.journal.checkpoint();
        let mut manifest = self.draft(&settings, now, &snapshot, &checkpoint, &earlier).await?;
        let staged = stage(&settings, &manifest, keyring, snapshot).await?;
        manifest.records = staged.counts.records;
        manifest.data_keys = staged.counts.data_keys;
        manifest.file_bytes = staged.bytes;
        manifest.file_sha256 = hex(&staged.sha256);
        let parts = manifest.parts();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        manifest.signature = hex(&self.inner.journal.sign_statement(LABEL, &parts));
        let made = self.publish((by, now), manifest, staged, &earlier).await?;
        backups.risk.backed_up(made_before);
        Ok(made)
    }

    /// Everything of the manifest that is known before the file is.
    async fn draft(
        &self,
        settings: &Settings,
        now: Timestamp,
        snapshot: &Snapshot,
        checkpoint: &Checkpoint,
        earlier: &[Manifest],
    ) -> Result<Manifest, BackupError> {
        let installation = self.inner.keys.installation().to_string();
        let earlier: Vec<Manifest> =
            earlier.iter().filter(|one| one.installation == installation).cloned().collect();
        let incarnation = self.inner.keys.incarnation().await?;
        let (class, expires) = retention::class(now, &earlier, settings.keep);
        let seconds = |at: Timestamp| at.unix_nanos().div_euclid(1_000_000_000);
        Ok(Manifest {
            format: FORMAT,
            name: name(now, snapshot.revision()),
            installation,
            incarnation: incarnation.number,
            life: hex(&incarnation.id),
            revision: snapshot.revision(),
            anchor: hex(&snapshot.anchor()),
            records: 0,
            data_keys: 0,
            created_unix: seconds(now),
            expires_unix: seconds(expires),
            class,
            log_origin: self.inner.journal.origin().to_owned(),
            log_size: checkpoint.tree_size,
            log_root: hex(&checkpoint.root),
            file_bytes: 0,
            file_sha256: String::new(),
            signature: String::new(),
        })
    }

    /// Makes the backup known, and then gives it its name: there is none that is not known.
    async fn publish(
        &self,
        (by, now): (&By, Timestamp),
        manifest: Manifest,
        staged: Staged,
        there: &[Manifest],
    ) -> Result<Made, BackupError> {
        let known = KnownBackup {
            name: manifest.name.clone(),
            revision: manifest.revision,
            created_at: now,
            expires_at: manifest.expires_at(),
        };
        // One that was moved away may be put back: it is known until its time is over.
        let known_before = self.inner.keys.known_backups().await?.into_iter();
        let is_over = |one: &KnownBackup| {
            one.expires_at <= now && there.iter().all(|other| other.name != one.name)
        };
        let gone: Vec<String> = known_before.filter(is_over).map(|one| one.name).collect();
        let note = format!(
            "{} of revision {}, SHA-256 {}",
            manifest.name, manifest.revision, manifest.file_sha256
        );
        let receipt = self
            .inner
            .keys
            .backup_made(by.changed(Action::CreateBackup), &known, &gone, &note)
            .await?;
        let (path, manifest) = blocking(move || {
            let path = staged.place()?;
            manifest.write(path.parent().unwrap_or(&path))?;
            Ok((path, manifest))
        })
        .await?;
        tracing::info!(
            event = "backup_created",
            name = manifest.name,
            revision = manifest.revision,
            bytes = manifest.file_bytes,
            "a backup was made"
        );
        Ok(Made { manifest, path, receipt })
    }

    /// Waits until the log has every change up to this revision: the log of the manifest's moment
    /// explains the whole backup.
    async fn recorded_up_to(&self, revision: u64) -> Result<(), BackupError> {
        let recorded = async {
            while self.inner.journal.revision() < revision {
                tokio::time::sleep(RELAY_LOOK).await;
            }
        };
        let waited = tokio::time::timeout(RELAY_TIME, recorded).await;
        waited.map_err(|_| BackupError::LogBehind)
    }
}

async fn stage(
    settings: &Settings,
    manifest: &Manifest,
    keyring: Vec<u8>,
    snapshot: Snapshot,
) -> Result<Staged, BackupError> {
    let header = Header {
        installation: manifest.installation.clone(),
        incarnation: manifest.incarnation,
        revision: manifest.revision,
        anchor: manifest.anchor.clone(),
    };
    let (settings, name) = (settings.clone(), manifest.name.clone());
    blocking(move || {
        let Settings { directory, recipients, .. } = &settings;
        writing::write(directory, &name, recipients, &header, &keyring, snapshot)
    })
    .await
}

/// Sorts as the backups were made, and says when.
fn name(now: Timestamp, revision: u64) -> String {
    let moment = now.to_string();
    let seconds = moment.split('.').next().unwrap_or_default().replace(['-', ':'], "");
    format!("{seconds}Z-{revision}")
}

/// Leaves the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(BackupError::Interrupted))
}

impl From<BackupError> for RefusalCause {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Keys(error) => error.into(),
            BackupError::LogBehind => Self::AuditUnavailable,
            other => Self::Backup(Arc::new(other)),
        }
    }
}
