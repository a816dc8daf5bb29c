//! Looking at a stopped installation without changing anything, and the one repair that is safe.

mod copied;
mod repair;
mod unfinished;

use std::path::Path;
use std::sync::Arc;

use fieldseal_audit::verify::{self, Change, Examined, LogKey, Remembered, VerifyError};
use fieldseal_audit::{Journal, LastChange};
use fieldseal_keys::anchor::{self, Mismatch};
use fieldseal_keys::keyring::Keyring;
use fieldseal_keys::{ScrubReport, scrub};
use fieldseal_store::{
    CopyError, CopyTarget, Generation, Generations, OutboxEntry, Position, Store, StoreError,
};
use tokio::sync::mpsc;

use crate::backup::{self, BackupError, Manifest};
use crate::boot::{BootError, Installation, Settings, StoreBackend};
use crate::export::{ExportError, ExportTarget};
use crate::outside::AnchorError;

pub use copied::CopyFound;
pub use repair::{Lost, RepairError, Repaired, Source, Step, repair};
pub use unfinished::{Unfinished, place as place_of_repair};

/// A store that opens.
pub struct StoreFound {
    /// Where it is in its history.
    pub position: Position,
    /// What waits for the log.
    pub outbox: Vec<OutboxEntry>,
    /// Every record of it.
    pub report: ScrubReport,
}

/// What was found. Everything in it was read, and nothing written.
pub struct Diagnosis {
    /// The store; that of one in memory is never there.
    pub store: Result<StoreFound, StoreError>,
    /// The log.
    pub log: Result<Examined, VerifyError>,
    /// Why it does not go on from the checkpoints that were posted, place by place.
    pub anchors: Vec<AnchorError>,
    /// Where the log is handed on to, and how many records were, if that fits the log.
    pub exports: Vec<(ExportTarget, Result<u64, ExportError>)>,
    /// Every change that the log tells of, the oldest first.
    pub changes: Vec<Change>,
    /// Whether both tell of the same changes, if both can be read.
    pub relation: Option<Result<(), Mismatch>>,
    /// A repair that was cut off: its store waits beside the one that is in the place.
    pub unfinished: Option<Unfinished>,
    /// The generations, the oldest first, each read to its end.
    pub generations: Vec<(u64, Result<Generation, StoreError>)>,
    /// The copy of the store, if it is in a directory, read to its end.
    pub copy: Option<Result<CopyFound, CopyError>>,
    /// It is on the volume of the store: both are lost together.
    pub copy_shares_volume: bool,
    /// A redaction of the log began and did not end.
    pub redaction_unfinished: bool,
    /// The backups, the oldest first, each with its signature and its hash checked.
    pub backups: Vec<Result<Manifest, BackupError>>,
}

impl Diagnosis {
    /// The newest change in the log.
    #[must_use]
    pub fn last_change(&self) -> Option<LastChange> {
        self.log.as_ref().ok().and_then(|log| log.last_change)
    }
}

/// Looks at a stopped installation. It works on a copy of the store, which it makes in `scratch`, an
/// empty directory.
///
/// # Errors
/// If the installation is running, or its store is in memory.
pub async fn examine(
    settings: &Settings,
    keyring: &Arc<Keyring>,
    scratch: &Path,
) -> Result<Diagnosis, BootError> {
    let StoreBackend::Sled(directory) = &settings.store else {
        return Err(StoreError::NotInitialized("memory".into()).into());
    };
    let log_directory = &settings.audit.directory;
    if log_directory.exists() {
        Journal::check_unused(log_directory)?;
    }
    let secrets = || Installation::secrets_of(keyring);
    let mut changes = Vec::new();
    let key = LogKey::of(&Installation::identity_of(keyring, &settings.instance)?);
    let log = verify::examine(log_directory, &key, |_| {}, |change| changes.push(change));
    let mut unfinished = None;
    if let Ok(log) = &log {
        let newest = changes.last();
        unfinished = unfinished::look(directory, scratch, secrets()?, log, newest).await?;
    }
    let store = match fieldseal_store::copy_files(directory, scratch) {
        Err(locked @ StoreError::Locked { .. }) => return Err(locked.into()),
        Err(error) => Err(error),
        Ok(()) => look(scratch, secrets()?, keyring).await,
    };
    let relation = match (&store, &log) {
        (Ok(store), Ok(log)) => {
            Some(anchor::compare(store.position, &store.outbox, log.last_change))
        }
        _ => None,
    };
    // What fits the log already needs no other store.
    let unfinished = unfinished.filter(|_| !matches!(relation, Some(Ok(()))));
    let mut generations = Vec::new();
    let all = Generations::new(settings.generations());
    for number in all.numbers().map_err(StoreError::from)? {
        generations.push((number, all.read(number, &secrets()?, |_| Ok(()))));
    }
    let copy = match &settings.copy {
        Some(CopyTarget::Directory(directory)) => {
            Some(copied::look(directory, keyring.installation()))
        }
        Some(CopyTarget::Command(_)) | None => None,
    };
    let anchors = log.as_ref().map(|log| anchors(settings, &key, log)).unwrap_or_default();
    let exports = log.as_ref().map(|log| exports(settings, &key, log)).unwrap_or_default();
    let backups = settings.backup.as_ref();
    let backups = backups.map(|backup| backups_of(&backup.directory, &key)).unwrap_or_default();
    Ok(Diagnosis {
        store,
        log,
        anchors,
        exports,
        changes,
        relation,
        unfinished,
        generations,
        copy,
        copy_shares_volume: settings.copy_shares_volume(),
        redaction_unfinished: Journal::left_redaction_unfinished(log_directory),
        backups,
    })
}

fn anchors(settings: &Settings, key: &LogKey, log: &Examined) -> Vec<AnchorError> {
    let now = Remembered { size: log.verified.records, root: log.verified.root };
    let directory = &settings.audit.directory;
    let compared = settings.anchors.iter().map(|target| target.compare(directory, key, &now));
    compared.filter_map(Result::err).collect()
}

fn exports(
    settings: &Settings,
    key: &LogKey,
    log: &Examined,
) -> Vec<(ExportTarget, Result<u64, ExportError>)> {
    let resumed = settings.exports.iter().map(|target| {
        let cursor = target.resume(key.origin(), log.verified.records);
        (target.clone(), cursor.map(|cursor| cursor.next()))
    });
    resumed.collect()
}

fn backups_of(directory: &Path, key: &LogKey) -> Vec<Result<Manifest, BackupError>> {
    let (found, wrong) = match backup::list(directory) {
        Ok(found) => found,
        // None was made yet.
        Err(BackupError::NotFound(_)) => return Vec::new(),
        Err(error) => return vec![Err(error)],
    };
    let checked = found.into_iter().map(|manifest| {
        let verified = backup::verify(&directory.join(&manifest.name), key, None)?;
        Ok(verified.manifest)
    });
    checked.chain(wrong.into_iter().map(Err)).collect()
}

/// Opens the copy and reads all of it.
async fn look(
    scratch: &Path,
    secrets: fieldseal_store::Secrets,
    keyring: &Arc<Keyring>,
) -> Result<StoreFound, StoreError> {
    let store = open(scratch, secrets)?;
    let (position, outbox) = (store.opened_position(), store.outbox().await?);
    let report = scrub(&store, keyring, 0).await;
    store.close().await;
    Ok(StoreFound { position, outbox, report: report? })
}

fn open(directory: &Path, secrets: fieldseal_store::Secrets) -> Result<Store, StoreError> {
    let mut settings = fieldseal_store::Settings::sled(directory.to_owned());
    settings.reserve_bytes = 0;
    Store::open(settings, secrets, mpsc::unbounded_channel().0)
}
