//! Putting an installation back from a backup, so that what happened later is not forgotten.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fieldseal_audit::verify::{self, LogKey};
use fieldseal_audit::{ChangedBy, Journal, JournalError, Receipt};
use fieldseal_keys::keyring::{Keyring, KeyringError};
use fieldseal_keys::{Replay, Replayed};
use fieldseal_model::{AccessReason, Action, Clock, Principal};
use fieldseal_store::Import;

use super::access::Unlock;
use super::copied::UsableCopy;
use super::create::blocking;
use super::error::BackupError;
use super::manifest::{Manifest, create, hex, sync_directory};
use super::offline;
use super::reading::{Opened, check_file};
use crate::boot::{For, Installation, Settings};

/// The keyring comes to its place last: without it nothing takes the directory for an installation.
const KEYRING: &str = "keyring.json";
const STAGE: &str = "restoring";

/// Where what happened after the backup stands.
#[derive(Clone)]
pub enum LogSource {
    /// In the audit log that survived, in this directory.
    Surviving(PathBuf),
    /// Nowhere: it is lost.
    Lost {
        /// The new log has this instance in its origin.
        instance: String,
        /// The lost log's public key, kept elsewhere: it says whose the backup is. Nothing in the
        /// backup does, once anybody's keyring opens. `None` for a place that is thrown away.
        key: Option<LogKey>,
    },
}

/// What to restore, and where.
pub struct Restore {
    /// The backup: either of its files, or their name without an ending.
    pub backup: PathBuf,
    /// What opens it.
    pub unlock: Unlock,
    /// The audit log.
    pub log: LogSource,
    /// The copy of the store: its file or its directory.
    pub copy: Option<PathBuf>,
    /// The new state directory: empty, or not there yet.
    pub into: PathBuf,
    /// The engine's settings. Store and log are in `into`.
    pub settings: Settings,
    /// Who does it.
    pub local: Principal,
}

/// What the copy of the store added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The revision that it had come to.
    pub revision: u64,
    /// Whether its last write is torn, as when the disk was lost, or damaged.
    pub is_torn: bool,
}

/// An installation that was put back.
pub struct Restored {
    /// The backup.
    pub manifest: Manifest,
    /// What the copy added, if it was used.
    pub copied: Option<Copied>,
    /// What was done again, and what is lost.
    pub replayed: Replayed,
    /// The revision of the store that it goes on from.
    pub revision: u64,
    /// Which life of the installation begins.
    pub incarnation: u64,
    /// The proof that the restore is on record.
    pub receipt: Receipt,
}

/// Restores a backup into an empty directory. `open` opens the keyring in the directory that it is
/// given.
///
/// # Errors
/// What keeps it from being restored; the directory is as empty as it was then.
pub async fn restore(
    plan: Restore,
    clock: Arc<dyn Clock>,
    open: impl AsyncFnOnce(&Path) -> Result<Keyring, KeyringError>,
) -> Result<Restored, BackupError> {
    let undo = claim(&plan.into)?;
    let (plan, backup, copy) = blocking(move || {
        let (backup, copy) = unpack(&plan)?;
        Ok((plan, backup, copy))
    })
    .await?;
    let manifest = backup.manifest.clone();
    let keyring = open(&plan.into.join(STAGE)).await?;
    let Restore { into, local, settings, log, .. } = plan;
    let installation = Installation::new(settings.clone(), keyring);
    let work_clock = Arc::clone(&clock);
    let (installation, filled) = blocking(move || {
        let from = Sources { log: &log, copy: copy.as_ref() };
        let filled = fill(&installation, &settings, from, backup, work_clock)?;
        Ok((installation, filled))
    })
    .await?;
    let Filled { copied, replayed, revision } = filled;
    let engine = offline::begin_for(For::Restoring, &[], installation, clock).await?;
    let reason = AccessReason::default();
    let recorded = async {
        let permit = offline::permit(&engine, local, Action::RestoreBackup, &reason)?;
        let note = format!("from {} of revision {}", manifest.name, manifest.revision);
        let by = ChangedBy::Caller(&permit, &reason);
        let receipt = engine.inner.keys.restored(by, &note).await?;
        Ok::<_, BackupError>((receipt, engine.inner.keys.incarnation().await?.number))
    };
    let recorded = recorded.await;
    offline::stop(&engine).await;
    drop(engine);
    let (receipt, incarnation) = recorded?;
    let (staged, keyring) = (into.join(STAGE).join(KEYRING), into.join(KEYRING));
    fs::rename(&staged, &keyring).map_err(|e| BackupError::io("name", &keyring, e))?;
    fs::remove_dir(into.join(STAGE)).map_err(|e| BackupError::io("remove", &into, e))?;
    sync_directory(&into)?;
    undo.keep();
    Ok(Restored { manifest, copied, replayed, revision, incarnation, receipt })
}

/// Checks the backup, opens it, looks at the copy, and puts the keyring of the one that is used where
/// nothing takes it for an installation's.
fn unpack(plan: &Restore) -> Result<(Opened, Option<UsableCopy>), BackupError> {
    let manifest = Manifest::read(&plan.backup)?;
    if let LogSource::Lost { instance, key } = &plan.log {
        if manifest.log_origin.rsplit('/').next() == Some(instance) {
            return Err(BackupError::LogName(instance.clone()));
        }
        key.as_ref().map_or(Ok(()), |key| manifest.check(key))?;
    }
    check_file(&plan.backup, &manifest)?;
    let backup = Opened::open(&plan.backup, manifest, &plan.unlock)?;
    let stage = plan.into.join(STAGE);
    let made = DirBuilder::new().mode(0o700).create(&stage);
    made.map_err(|e| BackupError::io("make", &stage, e))?;
    let copy = plan.copy.as_deref();
    let copy = copy.map(|path| UsableCopy::look(path, &backup.manifest)).transpose()?.flatten();
    let keyring = copy.as_ref().map(|copy| copy.keyring(&backup.manifest)).transpose()?.flatten();
    write_new(&stage.join(KEYRING), keyring.as_ref().unwrap_or(&backup.keyring))?;
    Ok((backup, copy))
}

/// Where everything but the backup comes from.
#[derive(Clone, Copy)]
struct Sources<'a> {
    log: &'a LogSource,
    copy: Option<&'a UsableCopy>,
}

struct Filled {
    copied: Option<Copied>,
    replayed: Replayed,
    revision: u64,
}

/// Puts log and store in their places. Nothing of it counts before the keyring has its own.
fn fill(
    installation: &Installation,
    settings: &Settings,
    from: Sources<'_>,
    mut backup: Opened,
    clock: Arc<dyn Clock>,
) -> Result<Filled, BackupError> {
    let manifest = backup.manifest.clone();
    manifest.check(&of_log(installation, &manifest)?)?;
    let directory = &settings.audit.directory;
    let log = match from.log {
        LogSource::Surviving(from) => {
            take_log(from, directory)?;
            Some(settle_log(installation, clock)?)
        }
        LogSource::Lost { .. } => None,
    };
    let secrets = installation.store_secrets().map_err(BackupError::Keyring)?;
    let mut import = Import::begin(&installation.store_settings(), secrets)?;
    let recorded = log.as_ref().map(|(_, recorded)| *recorded);
    if let (Some(copy), Some((key, recorded))) = (from.copy, &log) {
        copy.belongs_to(directory, key, *recorded, manifest.log_size)?;
    }
    let copied = match from.copy {
        Some(copy) => {
            copy.import(&mut import, recorded)?;
            // The backup is read to its end all the same: it is whole, or it is refused.
            while backup.entries()?.is_some() {}
            Some(Copied { revision: copy.revision, is_torn: copy.is_torn })
        }
        None => {
            put_all(&mut import, &mut backup)?;
            None
        }
    };
    let covered = copied.map_or(manifest.revision, |copied| copied.revision);
    let (replayed, revision) = match &log {
        Some((key, _)) => {
            self::replay(Replay::default(), &mut import, directory, key, (&manifest, covered))?
        }
        None => {
            let identity = installation.identity()?;
            Journal::create_after(&settings.audit, &identity, covered, import.anchor())
                .map_err(|e| BackupError::Boot(e.into()))?;
            (Replayed::default(), covered)
        }
    };
    import.finish(revision)?;
    Ok(Filled { copied, replayed, revision })
}

fn put_all(import: &mut Import, backup: &mut Opened) -> Result<(), BackupError> {
    while let Some(entries) = backup.entries()? {
        for entry in entries {
            import.put(entry)?;
        }
    }
    let manifest = &backup.manifest;
    if hex(&import.anchor()) != manifest.anchor {
        let what = "the sum of its records is not the one that was signed";
        return Err(BackupError::altered(&manifest.name, what));
    }
    Ok(())
}

/// The public key of the log of which the manifest speaks: the keyring's, so that whoever made the
/// backup held the root key.
fn of_log(installation: &Installation, manifest: &Manifest) -> Result<LogKey, BackupError> {
    let identity = installation.identity()?;
    if identity.installation.to_string() != manifest.installation {
        return Err(BackupError::altered(&manifest.name, "its keyring is another installation's"));
    }
    Ok(LogKey::new(manifest.log_origin.clone(), identity.signing.public()))
}

/// Copies the files of the log that survived.
fn take_log(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |e: io::Error| BackupError::io("copy", from, e);
    if let Err(locked @ JournalError::Locked { .. }) = Journal::check_unused(from) {
        return Err(BackupError::Boot(locked.into()));
    }
    DirBuilder::new().mode(0o700).create(to).map_err(|e| BackupError::io("make", to, e))?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if !entry.file_type().map_err(failed)?.is_file() || name == "lock" {
            continue;
        }
        let target = to.join(&name);
        let mut file = create(&target).map_err(|e| BackupError::io("write", &target, e))?;
        let copied = File::open(entry.path()).and_then(|mut from| io::copy(&mut from, &mut file));
        copied.and_then(|_| file.sync_all()).map_err(|e| BackupError::io("copy", &target, e))?;
    }
    sync_directory(to)
}

/// Opens the log once, which cuts off a torn end, and verifies every byte of it. Returns its key and
/// the newest revision of the store that it tells of.
fn settle_log(
    installation: &Installation,
    clock: Arc<dyn Clock>,
) -> Result<(LogKey, u64), BackupError> {
    let settings = installation.audit_settings();
    let opened = Journal::open(settings.clone(), installation.identity()?, clock);
    let (journal, _) = opened.map_err(|e| BackupError::Boot(e.into()))?;
    let (key, recorded) = (journal.public_key(), journal.revision());
    // This thread may block; closed in order, the next start has nothing to settle.
    let closed = tokio::runtime::Handle::current().block_on(journal.close());
    closed.map_err(|e| BackupError::Boot(e.into()))?;
    drop(journal);
    match verify::log(&settings.directory, &key, |_| {}) {
        Ok(_) => Ok((key, recorded)),
        Err(error) => Err(BackupError::LogOther(error.to_string())),
    }
}

/// Does again what the log tells of after the revision that is covered; returns the revision to go on
/// from.
fn replay(
    mut replay: Replay,
    import: &mut Import,
    log: &Path,
    key: &LogKey,
    (manifest, covered): (&Manifest, u64),
) -> Result<(Replayed, u64), BackupError> {
    let mut newest = 0;
    let mut trouble = None;
    let root = fieldseal_audit::changes(log, key, manifest.log_size, |change| {
        newest = newest.max(change.revision);
        if change.revision > covered && trouble.is_none() {
            trouble = replay.apply(import, &change).err();
        }
    });
    let root = root?;
    if let Some(error) = trouble {
        return Err(error.into());
    }
    match root {
        Some(root) if hex(&root) == manifest.log_root => {}
        Some(_) => {
            let what = "it is another one than when the backup was made";
            return Err(BackupError::LogOther(what.to_owned()));
        }
        None => {
            let what = format!(
                "it has fewer records than the {} it had when the backup was made",
                manifest.log_size
            );
            return Err(BackupError::LogOther(what));
        }
    }
    Ok((replay.finish(), newest.max(covered)))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let failed = |e: io::Error| BackupError::io("write", path, e);
    let mut file = create(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// The directory, empty; what is made in it goes away unless it is kept.
fn claim(into: &Path) -> Result<Undo, BackupError> {
    let failed = |e: io::Error| BackupError::io("use", into, e);
    if into.join("audit").exists()
        && let Err(JournalError::Locked { .. }) = Journal::check_unused(&into.join("audit"))
    {
        return Err(BackupError::Living(into.to_owned()));
    }
    let was_there = into.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(into).map_err(failed)?;
    let mut entries = fs::read_dir(into).map_err(failed)?;
    // A file system's own directory does not make a volume full.
    if entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != "lost+found")) {
        return Err(BackupError::NotEmpty(into.to_owned()));
    }
    Ok(Undo { into: into.to_owned(), was_there, kept: false })
}

struct Undo {
    into: PathBuf,
    was_there: bool,
    kept: bool,
}

impl Undo {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The error that brought us here is the one to tell.
        let _unless_gone = fs::remove_file(self.into.join(KEYRING));
        for name in [STAGE, "store", "audit", "audit-index"] {
            let _unless_gone = fs::remove_dir_all(self.into.join(name));
        }
        if !self.was_there {
            let _unless_gone = fs::remove_dir(&self.into);
        }
    }
}
