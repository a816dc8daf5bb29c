//! The one repair that is safe: an older state of the same store takes the store's place, and goes on
//! where the log is. What it does not have is known, because the log tells of every change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fieldseal_audit::verify::Change;
use fieldseal_audit::{ChangeEvent, ChangedBy, Journal, Kind, LastChange, Receipt, Relayed};
use fieldseal_keys::keyring::Keyring;
use fieldseal_keys::raise_seals;
use fieldseal_model::{AccessReason, Action, Clock, PartitionClass, Principal};
use fieldseal_policy::{Permit, Policy, Request};
use fieldseal_store::{Generations, Import, RawEntry, Secrets, Store, StoreError, Txn};
use tokio::sync::mpsc;

use super::Diagnosis;
use super::unfinished::{self, Unfinished};
use crate::boot::{BootError, Installation, Settings, StoreBackend};

/// Bytes of what is overwritten while a store is read: nobody writes.
const KEPT_BYTES: usize = 1024;

/// What takes the store's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The store as it is, which is older than its log.
    Store,
    /// A generation.
    Generation(u64),
    /// The copy of the store.
    Copy,
    /// The store that a repair had made and recorded when it was cut off.
    Rebuilt,
}

/// How far a repair has come. What is done stays done if it is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The new store is made, beside the old one.
    Made,
    /// Its record is in the log.
    Recorded,
    /// The old store has another name.
    MovedAway,
    /// The new one has its place.
    InPlace,
}

/// What the log tells of and the source has not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// The revision of the source.
    pub revision: u64,
    /// The log's newest.
    pub log_revision: u64,
    /// Data keys: what they sealed does not open any more.
    pub data_keys: u64,
    /// Every kind of change, and how many of it.
    pub changes: BTreeMap<&'static str, u64>,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Repaired {
    /// What is lost.
    pub lost: Lost,
    /// Where the store before was put; `None` if there was none.
    pub kept: Option<PathBuf>,
    /// The log that has its record, as in `logs/{log}`.
    pub log: String,
    /// The index of that record.
    pub record: u64,
}

/// Why a repair is not possible. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The log is not whole.
    #[error("the audit log is damaged itself, and without it nobody knows what would be lost")]
    Log,
    /// There is nothing readable to take.
    #[error("{0}")]
    Source(String),
    /// The log does not know it.
    #[error(
        "the audit log does not tell of revision {0} with these contents: it is not from this log's \
         past"
    )]
    Stranger(u64),
    /// More would be undone than data keys.
    #[error("it would undo {0}, which no repair may do: restore a backup")]
    Undoes(String),
    /// The copy of the store has what would be lost, and the next start would write over it.
    #[error(
        "the copy in {} is at revision {revision}: it has what this would lose, and the next start \
         would write over it; let the copy take the place, or move it away first", .place.display()
    )]
    CopyIsNewer {
        /// Where the copy is.
        place: PathBuf,
        /// Its revision.
        revision: u64,
    },
    /// What cannot be opened or written.
    #[error(transparent)]
    Boot(#[from] BootError),
}

impl From<StoreError> for RepairError {
    fn from(error: StoreError) -> Self {
        Self::Boot(error.into())
    }
}

/// Changes that may be missing afterwards: no state of a key, a version or a partition.
const MAY_BE_LOST: &[Kind] = &[
    Kind::DataKeyCreated,
    Kind::SealsReserved,
    Kind::RewrapStarted,
    Kind::DataKeysRewrapped,
    Kind::RewrapEnded,
    Kind::VersionUsed,
    Kind::ClockTicked,
    Kind::BackupCreated,
    Kind::BackupPruned,
    Kind::Repaired,
];

impl Diagnosis {
    /// What would be lost with this source.
    ///
    /// # Errors
    /// Why it cannot take the store's place.
    pub fn lost(&self, source: Source) -> Result<Lost, RepairError> {
        if let Some(Unfinished { revision, .. }) = self.unfinished {
            // Whatever is named: that repair is on record, and only its end is missing.
            return Ok(Lost { revision, log_revision: revision, ..Lost::default() });
        }
        let log = self.log.as_ref().map_err(|_| RepairError::Log)?;
        let (revision, anchor) = self.position(source)?;
        let newest = log.last_change.map_or(0, |newest| newest.revision);
        let known = |change: &Change| (change.revision, change.anchor) == (revision, anchor);
        if revision > 0 && !self.changes.iter().any(known) {
            return Err(RepairError::Stranger(revision));
        }
        if source != Source::Copy
            && let Some(Ok(copy)) = &self.copy
            && copy.revision > revision
        {
            let (place, revision) = (copy.place.clone(), copy.revision);
            return Err(RepairError::CopyIsNewer { place, revision });
        }
        let mut lost = Lost { revision, log_revision: newest, ..Lost::default() };
        let mut undone = BTreeMap::<&'static str, u64>::new();
        for change in self.changes.iter().filter(|change| change.revision > revision) {
            let name = change.kind.map_or("CHANGE", Kind::as_str);
            *lost.changes.entry(name).or_default() += 1;
            if change.kind == Some(Kind::DataKeyCreated) {
                lost.data_keys += 1;
            }
            if !change.kind.is_some_and(|kind| MAY_BE_LOST.contains(&kind)) {
                *undone.entry(name).or_default() += 1;
            }
        }
        if undone.is_empty() {
            return Ok(lost);
        }
        let undone = undone.iter().map(|(name, count)| format!("{count} × {name}"));
        Err(RepairError::Undoes(undone.collect::<Vec<_>>().join(", ")))
    }

    fn position(&self, source: Source) -> Result<(u64, [u8; 32]), RepairError> {
        let unreadable = |why: &dyn std::fmt::Display| RepairError::Source(why.to_string());
        match source {
            Source::Store => {
                let found = self.store.as_ref().map_err(|e| unreadable(e))?;
                if found.report.findings() > 0 {
                    return Err(RepairError::Source(format!(
                        "the store is damaged itself: {}",
                        found.report
                    )));
                }
                Ok((found.position.revision, found.position.anchor))
            }
            Source::Rebuilt => Err(RepairError::Source("no repair was cut off".to_owned())),
            Source::Copy => {
                let none = || RepairError::Source("no copy is configured".to_owned());
                let found = self.copy.as_ref().ok_or_else(none)?;
                let found = found.as_ref().map_err(|e| unreadable(e))?;
                Ok((found.revision, found.anchor))
            }
            Source::Generation(number) => {
                let found = self.generations.iter().find(|(of, _)| *of == number);
                let (_, found) = found.ok_or_else(|| {
                    RepairError::Source(format!("there is no generation {number}"))
                })?;
                let found = found.as_ref().map_err(|e| unreadable(e))?;
                Ok((found.revision, found.anchor))
            }
        }
    }
}

/// Puts the source in the store's place. The new store is made beside the old one; its record is in
/// the log before it takes the place, and the old one is kept under another name. `scratch` holds the
/// copy that `found` was made of. A repair that was cut off after its record is finished instead,
/// whatever `source` is: its store is the only one that the log goes on from. `done` hears of every
/// step.
///
/// # Errors
/// [`RepairError`].
pub async fn repair(
    settings: &Settings,
    keyring: &Arc<Keyring>,
    clock: Arc<dyn Clock>,
    local: &Principal,
    (found, scratch): (&Diagnosis, &Path),
    source: Source,
    mut done: impl FnMut(Step),
) -> Result<Repaired, RepairError> {
    let lost = found.lost(source)?;
    let StoreBackend::Sled(directory) = &settings.store else { return Err(RepairError::Log) };
    if let Some(Unfinished { record, .. }) = found.unfinished {
        let kept = put_in_place(directory, lost.log_revision, done).map_err(StoreError::from)?;
        return Ok(Repaired { lost, kept, log: settings.instance.clone(), record });
    }
    let permit = permit(local)?;
    let secrets = || Installation::secrets_of(keyring).map_err(BootError::from);
    let rebuilt = unfinished::place(directory);
    // What an earlier attempt left: it came to no record, or another change is the log's newest.
    match fs::remove_dir_all(&rebuilt) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::from(e).into());
        }
        _ => {}
    }
    let mut made = fieldseal_store::Settings::sled(rebuilt.clone());
    made.reserve_bytes = settings.reserve_bytes;
    let mut import = Import::begin(&made, secrets()?)?;
    match source {
        Source::Store => fill_from_store(&mut import, scratch, secrets()?).await?,
        Source::Copy => {
            let Some(Ok(copy)) = &found.copy else { return Err(RepairError::Log) };
            super::copied::fill(&mut import, copy).map_err(BootError::from)?;
        }
        Source::Rebuilt => return Err(RepairError::Log),
        Source::Generation(number) => {
            let all = Generations::new(settings.generations());
            all.read(number, &secrets()?, |entry: RawEntry| import.put(entry))?;
        }
    }
    for change in found.changes.iter().filter(|change| change.revision > lost.revision) {
        if let (Some(Kind::SealsReserved), Some(id)) = (change.kind, change.key_id) {
            raise_seals(&mut import, id, lost.log_revision).map_err(BootError::from)?;
        }
    }
    // Whether what was erased has left the files, the store that is replaced knew: it and generations
    // from before may still hold it.
    import.erased();
    import.finish(lost.log_revision)?;
    done(Step::Made);
    let receipt = record(settings, keyring, clock, &permit, &lost, made).await?;
    done(Step::Recorded);
    let kept = put_in_place(directory, lost.log_revision, done).map_err(StoreError::from)?;
    let (log, record) = (receipt.log().to_owned(), receipt.index());
    Ok(Repaired { lost, kept, log, record })
}

fn permit(local: &Principal) -> Result<Permit, RepairError> {
    // The built-in rules, not the installation's, as for `recover`.
    let policy = Policy::from_texts(fieldseal_policy::default_files(&[]));
    let policy = policy.map_err(BootError::from)?;
    let decided = policy.decide(&Request {
        principal: local,
        action: Action::Repair,
        key: None,
        partition: PartitionClass::Default,
        table: None,
        column: None,
        reason: &AccessReason::default(),
    });
    decided.map_err(|_| RepairError::Source("only a local user may repair".to_owned()))
}

async fn fill_from_store(
    import: &mut Import,
    scratch: &Path,
    secrets: Secrets,
) -> Result<(), RepairError> {
    let store = super::open(scratch, secrets)?;
    let mut snapshot = store.snapshot(KEPT_BYTES).await?;
    while let Some(page) = snapshot.page()? {
        for entry in page {
            import.put(entry)?;
        }
    }
    drop(snapshot);
    store.close().await;
    Ok(())
}

/// The repair is a change like every other: it has a revision, an anchor and a record.
async fn record(
    settings: &Settings,
    keyring: &Arc<Keyring>,
    clock: Arc<dyn Clock>,
    permit: &Permit,
    lost: &Lost,
    made: fieldseal_store::Settings,
) -> Result<Receipt, RepairError> {
    let secrets = Installation::secrets_of(keyring).map_err(BootError::from)?;
    let (outbox, mut entries) = mpsc::unbounded_channel();
    let store = Store::open(made, secrets, outbox)?;
    let identity = Installation::identity_of(keyring, &settings.instance);
    let identity = identity.map_err(BootError::from)?;
    let opened = Journal::open(settings.audit.clone(), identity, Arc::clone(&clock));
    let (journal, _) = opened.map_err(BootError::from)?;
    // Looked at again: nobody wrote since, and a torn end is settled now.
    if journal.last_change().map_or(0, |LastChange { revision, .. }| revision) != lost.log_revision
    {
        return Err(RepairError::Log);
    }
    let Lost { revision, log_revision, data_keys, .. } = *lost;
    let note = format!("revision {revision} took the place of {log_revision}");
    let by = ChangedBy::Caller(permit, &AccessReason::default());
    let event = ChangeEvent::new(by, clock.now(), Kind::Repaired, None);
    let event = event.count(data_keys).note(&note);
    let txn = Txn::new(Box::new(move |revision, anchor| event.encode(revision, anchor)));
    let committed = store.txn(txn).await;
    let revision = committed.map_err(|error| StoreError::Io(error.to_string()))?;
    let entry = entries.recv().await.ok_or(StoreError::Closed)?;
    let relayed = journal.relay(&entry.bytes).await.map_err(BootError::from)?;
    store.outbox_done(revision).await?;
    store.close().await;
    journal.close().await.map_err(BootError::from)?;
    match relayed {
        Relayed::Recorded(receipt) => Ok(receipt),
        Relayed::Already => Err(RepairError::Log),
    }
}

/// Both names change, and the directory is synced: a crash in between leaves a state that a start
/// refuses by name, and that the next repair finishes.
fn put_in_place(
    directory: &Path,
    revision: u64,
    mut done: impl FnMut(Step),
) -> std::io::Result<Option<PathBuf>> {
    let free = |number: &u32| {
        let name = format!("store.replaced-{revision}-{number}");
        let path = directory.with_file_name(name);
        (!path.exists()).then_some(path)
    };
    let kept = (1_u32..).find_map(|number| free(&number)).filter(|_| directory.exists());
    if let Some(kept) = &kept {
        fs::rename(directory, kept)?;
    }
    done(Step::MovedAway);
    fs::rename(unfinished::place(directory), directory)?;
    if let Some(parent) = directory.parent() {
        fs::File::open(parent)?.sync_all()?;
    }
    done(Step::InPlace);
    Ok(kept)
}
