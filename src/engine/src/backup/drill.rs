//! Trying a backup out: restored to a scratch place, started there, and every key opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldseal_audit::{Identity, Journal, JournalError, Kind, SystemEvent};
use fieldseal_crypto::{ContentType, field::Header};
use fieldseal_keys::keyring::{Keyring, KeyringError};
use fieldseal_keys::root::Checked;
use fieldseal_model::{
    AccessReason, Action, Clock, Column, ExtraContext, Field, KeyName, Partition, Principal, Row,
    Table,
};
use fieldseal_policy::Role;

use super::access::Unlock;
use super::error::BackupError;
use super::manifest::Manifest;
use super::offline;
use super::restore::{LogSource, Restore, restore};
use crate::boot::{For, Installation, Settings, StoreBackend};
use crate::call::{
    Caller, DecryptCall, DecryptItem, EncryptCall, EncryptItem, PlainInput, SealedInput,
};
use crate::engine::Engine;
use crate::retention::Retention;

/// The log of a scratch place.
const INSTANCE: &str = "drill";
/// What is sealed and opened.
const CANARY: &[u8] = b"canary";

/// What to try out, and where.
pub struct Drill {
    /// The backup.
    pub backup: PathBuf,
    /// What opens it.
    pub unlock: Unlock,
    /// A private directory that is removed afterwards.
    pub scratch: PathBuf,
    /// The engine's settings of the installation itself.
    pub settings: Settings,
    /// Who does it.
    pub local: Principal,
}

/// A backup that was tried out.
pub struct Drilled {
    /// The backup.
    pub manifest: Manifest,
    /// What opened, and what did not.
    pub checked: Checked,
    /// The keys under which a canary was sealed and opened.
    pub canaries: Vec<KeyName>,
    /// How long it took from the first byte to a started engine.
    pub took: Duration,
    /// Whether the drill is in the log of the installation: not while a sidecar has it.
    pub recorded: bool,
}

/// Restores a backup into the scratch place, starts an engine on it, and opens everything. `open`
/// opens the keyring in the directory that it is given.
///
/// # Errors
/// What keeps it from being restored or started.
pub async fn drill(
    plan: Drill,
    clock: Arc<dyn Clock>,
    open: impl AsyncFn(&Path) -> Result<Keyring, KeyringError>,
) -> Result<Drilled, BackupError> {
    let began = Instant::now();
    let into = plan.scratch.join("state");
    let settings = scratch_settings(&plan.settings, &into);
    let restoring = Restore {
        backup: plan.backup,
        unlock: plan.unlock,
        log: LogSource::Lost { instance: INSTANCE.to_owned(), key: None },
        copy: None,
        into: into.clone(),
        settings: settings.clone(),
        local: plan.local.clone(),
    };
    let manifest = restore(restoring, Arc::clone(&clock), &open).await?.manifest;
    let installation = Installation::new(settings, open(&into).await?);
    let roles = [(Role::App, plan.local.clone())];
    let own = Installation::new(plan.settings.clone(), open(&into).await?);
    let engine = offline::begin_for(For::Serving, &roles, installation, Arc::clone(&clock)).await?;
    let took = began.elapsed();
    let looked = look(&engine, &plan.local).await;
    let permit =
        offline::permit(&engine, plan.local, Action::BackupDrill, &AccessReason::default())?;
    offline::stop(&engine).await;
    drop(engine);
    let (checked, canaries) = looked?;
    let note = format!(
        "{}: {} key versions and {} data keys open, {} do not",
        manifest.name, checked.key_versions, checked.data_keys, checked.broken
    );
    let ended = if checked.broken == 0 { Ok(note.as_str()) } else { Err(note.as_str()) };
    let event =
        SystemEvent::offline(clock.now(), Kind::BackupDrilled, &permit, ended, checked.data_keys);
    let recorded = record(&plan.settings.audit, own.identity()?, clock, event).await?;
    Ok(Drilled { manifest, checked, canaries, took, recorded })
}

fn scratch_settings(settings: &Settings, into: &Path) -> Settings {
    let mut scratch = settings.clone();
    scratch.store = StoreBackend::Sled(into.join("store"));
    scratch.audit.directory = into.join("audit");
    scratch.instance = INSTANCE.to_owned();
    scratch.backup = None;
    scratch.copy = None;
    // Those of the log that is in use.
    (scratch.anchors, scratch.exports) = (Vec::new(), Vec::new());
    (scratch.retention, scratch.audit.group) = (Retention::default(), None);
    scratch
}

/// Opens every key, and seals and opens a value under each that is enabled.
async fn look(engine: &Engine, local: &Principal) -> Result<(Checked, Vec<KeyName>), BackupError> {
    let checked = engine.inner.keys.check().await?;
    let caller = Caller { principal: local.clone() };
    let mut canaries = Vec::new();
    for key in engine.inner.keys.enabled() {
        canary(engine, &caller, &key).await.ok_or_else(|| {
            BackupError::Canary(format!("a canary under keys/{key} does not open"))
        })?;
        canaries.push(key);
    }
    Ok((checked, canaries))
}

/// Seals a value and opens it again; `None` if it does not come back.
async fn canary(engine: &Engine, caller: &Caller, key: &KeyName) -> Option<()> {
    let of = Field {
        key: key.clone(),
        table: Table::parse("fieldseal").ok()?,
        column: Column::parse("canary").ok()?,
        extra: ExtraContext::default(),
    };
    let plain = PlainInput {
        partition: Partition::parse("").ok()?,
        row: Row::parse(String::new()).ok()?,
        content: ContentType::Bytes,
        value: CANARY.into(),
        allow_sealed: false,
    };
    let call = EncryptCall {
        fields: vec![of.clone()],
        items: vec![EncryptItem { field: 0, input: Ok(plain) }],
        reason: AccessReason::default(),
    };
    let sealed = engine.encrypt(caller, Action::Encrypt, call).await.ok()?;
    let range = sealed.items.into_iter().next()?.ok()?.range;
    let ciphertext = bytes::Bytes::from(sealed.buffer).slice(range);
    let input = SealedInput {
        partition: Partition::parse("").ok()?,
        row: Row::parse(String::new()).ok()?,
        key_id: Header::parse(&ciphertext).ok()?.key_id,
        ciphertext,
    };
    let call = DecryptCall {
        fields: vec![of],
        items: vec![DecryptItem { field: 0, input: Ok(input) }],
        reason: AccessReason::default(),
    };
    let opened = engine.decrypt(caller, Action::Decrypt, call).await.ok()?;
    let range = opened.items.first()?.as_ref().ok()?.range.clone();
    (opened.buffer.get(range)? == CANARY).then_some(())
}

/// Records the drill in the log of the installation itself, if no sidecar has it. False if one has.
async fn record(
    settings: &fieldseal_audit::Settings,
    identity: Identity,
    clock: Arc<dyn Clock>,
    event: SystemEvent,
) -> Result<bool, BackupError> {
    let failed = |e: JournalError| BackupError::Boot(e.into());
    match Journal::open(settings.clone(), identity, clock) {
        Ok((journal, _)) => {
            journal.record_system(event).await.map_err(failed)?;
            journal.close().await.map_err(failed)?;
            Ok(true)
        }
        // A drill needs no installation: the backup may be all that is left.
        Err(JournalError::Locked { .. } | JournalError::NotInitialized(_)) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}
