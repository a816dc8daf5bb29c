//! The root key of a stopped installation: drilled, rotated, or wrapped by another root provider.

use std::path::PathBuf;
use std::sync::Arc;

use fieldseal_audit::{ChangedBy, Journal, Kind, SystemEvent};
use fieldseal_keys::keyring::{self, Keyring, KeyringError, Opener, RootProvider};
use fieldseal_keys::root::{self, Checked};
use fieldseal_keys::{KeyError, Ledger};
use fieldseal_model::{AccessReason, Action, Clock, Principal};
use fieldseal_policy::{Permit, Policy, Request};
use fieldseal_store::{Generations, Store, StoreError};
use zeroize::Zeroizing;

use crate::boot::{BootError, Elsewhere, For, Installation, Settings};
use crate::upkeep;

/// Why nothing was done, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The installation did not open, or its keyring, store or log did not take the change.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The built-in rules do not let this user.
    #[error("this user may not do that")]
    Denied,
}

impl From<KeyringError> for RootError {
    fn from(error: KeyringError) -> Self {
        Self::Boot(error.into())
    }
}

impl From<KeyError> for RootError {
    fn from(error: KeyError) -> Self {
        Self::Boot(error.into())
    }
}

/// Which installation, and who does it.
pub struct Task {
    /// How the installation is run.
    pub settings: Settings,
    /// Its opened keyring.
    pub keyring: Keyring,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// `local:<uid>`.
    pub principal: Principal,
}

/// An installation that is open for one command.
struct Opened {
    store: Store,
    journal: Journal,
    ledger: Ledger,
    keyring: Keyring,
    generations: Option<Generations>,
    clock: Arc<dyn Clock>,
    permit: Permit,
}

impl Opened {
    /// Locks the installation and records the start. The built-in rules decide: what is done here
    /// does not depend on policy files, which may be lost.
    async fn begin(task: Task, action: Action, purpose: For) -> Result<Self, RootError> {
        let Task { settings, keyring, clock, principal } = task;
        let policy = Policy::from_texts(fieldseal_policy::default_files(&[]));
        let policy = policy.map_err(BootError::from)?;
        let reason = AccessReason::default();
        let request = Request::installation(&principal, action, &reason);
        let permit = policy.decide(&request).map_err(|_| RootError::Denied)?;
        let generations = upkeep::generations(&settings);
        let installation = Installation::new(settings, keyring);
        let (store, journal, ledger) =
            installation.begin(purpose, &mut Elsewhere::default(), policy.digest(), &clock).await?;
        let keyring = installation.keyring;
        Ok(Self { store, journal, ledger, keyring, generations, clock, permit })
    }

    async fn record(
        &self,
        kind: Kind,
        ended: Result<&str, &str>,
        count: u64,
    ) -> Result<(), RootError> {
        let event = SystemEvent::offline(self.clock.now(), kind, &self.permit, ended, count);
        self.journal.record_system(event).await.map_err(BootError::from)?;
        Ok(())
    }

    /// Generations hold the KEKs as they were wrapped before: one of the store as it is now takes
    /// their place, where there are any.
    async fn renew_generations(&self) -> Result<(), RootError> {
        let Some(all) = self.generations.clone() else { return Ok(()) };
        let numbers = all.numbers().map_err(|e| BootError::Store(StoreError::Io(e.to_string())))?;
        if !numbers.is_empty() {
            let at = self.clock.now().unix_nanos();
            let made = upkeep::make_and_keep(all, &self.store, at, 1).await;
            made.map_err(BootError::from)?;
        }
        Ok(())
    }

    async fn end(self) -> Result<(), RootError> {
        let stop = SystemEvent::stop(self.clock.now());
        let recorded = self.journal.record_system(stop).await;
        let closed = self.journal.close().await;
        self.store.close().await;
        self.ledger.finished().await;
        recorded.and(closed.map(drop)).map_err(BootError::from)?;
        Ok(())
    }
}

/// Opens every KEK and every data key, and changes nothing but the audit log.
///
/// # Errors
/// If the installation does not open; keys that do not open are counted.
pub async fn drill(task: Task) -> Result<Checked, RootError> {
    let opened = Opened::begin(task, Action::RootDrill, For::Recovery).await?;
    let checked = root::check(&opened.store, &opened.keyring).await;
    let recipient = opened.keyring.recipient();
    let (ended, count) = match &checked {
        Ok(checked) => {
            let note = format!(
                "{recipient} opens {} key versions and {} data keys; {} do not open",
                checked.key_versions, checked.data_keys, checked.broken
            );
            let ended = if checked.broken == 0 { Ok(note) } else { Err(note) };
            (ended, checked.data_keys)
        }
        Err(error) => (Err(error.to_string()), 0),
    };
    let ended = ended.as_ref().map(String::as_str).map_err(String::as_str);
    opened.record(Kind::RootDrilled, ended, count).await?;
    opened.end().await?;
    Ok(checked?)
}

/// How far a rotation of the root key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RotationStep {
    /// The installation is locked, and the beginning is on record.
    Opened,
    /// The keyring holds both root keys.
    Begun,
    /// So many KEKs were wrapped by the new one.
    Rewrapped(u64),
    /// The new one wraps every KEK, which is on record.
    Complete,
    /// The keyring holds the new one only.
    Finished,
}

/// A rotation of the root key that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Key versions whose KEK the new root key wraps.
    pub key_versions: u64,
    /// True if an earlier attempt had begun it.
    pub resumed: bool,
    /// Who can recover the new root key.
    pub recipient: String,
}

/// Puts a new root key in the place of the old one: a second root key into the keyring, every KEK
/// from the old to the new, the old one out of the keyring. A process that ends anywhere in between
/// leaves an installation that serves, and the next call goes on where it was.
///
/// `at` hears of every step, and only then does it go on.
///
/// # Errors
/// What kept it from beginning or from coming to its end.
pub async fn rotate(
    task: Task,
    path: PathBuf,
    provider: Arc<dyn RootProvider>,
    mut at: impl FnMut(RotationStep),
) -> Result<Rotated, RootError> {
    const KIND: Kind = Kind::RootRotated;
    let mut opened = Opened::begin(task, Action::RootRotate, For::Serving).await?;
    let recipient = opened.keyring.recipient().to_owned();
    let resumed = opened.keyring.is_rotating();
    // What the keyring does not open now, no other root key ever opens.
    if !root::is_whole(&opened.store, &opened.keyring).await? {
        return Err(KeyError::Corrupt("a KEK that the root key does not open").into());
    }
    let verb = if resumed { "goes on" } else { "begins" };
    let note = format!("the rotation of the root key {verb}; recoverable by {recipient}");
    opened.record(KIND, Ok(&note), 0).await?;
    at(RotationStep::Opened);
    let begun = {
        let (path, provider, recipient) = (path.clone(), Arc::clone(&provider), recipient.clone());
        blocking(move || keyring::begin_rotation(&path, &*provider, &recipient)).await
    };
    opened.keyring = begun?;
    at(RotationStep::Begun);
    let reason = AccessReason::default();
    let by = ChangedBy::Caller(&opened.permit, &reason);
    let Opened { store, ledger, keyring, clock, .. } = &opened;
    let step = |done| at(RotationStep::Rewrapped(done));
    let key_versions = root::rewrap(store, ledger, keyring, by, &**clock, step).await?;
    if !root::is_rewrapped(store, keyring).await? {
        return Err(KeyError::Corrupt("a KEK that the new root key does not open").into());
    }
    opened.renew_generations().await?;
    if opened.store.is_rewrite_due() {
        // The root key before opens nothing that is left in the store's files.
        opened.store.rewrite().await.map_err(BootError::from)?;
    }
    let note = format!("the new root key wraps every key version; recoverable by {recipient}");
    opened.record(KIND, Ok(&note), key_versions).await?;
    at(RotationStep::Complete);
    blocking(move || keyring::finish_rotation(&path, &*provider)).await?;
    at(RotationStep::Finished);
    opened.end().await?;
    Ok(Rotated { key_versions, resumed, recipient })
}

/// What opens the keyring whose root key moves to another provider.
pub enum RootOpener {
    /// The root provider so far.
    Provider(Arc<dyn RootProvider>),
    /// The text of the recovery identity, for an installation that lost its root provider's key.
    Identity(Zeroizing<String>),
}

/// Where a root key moves to.
pub struct Move {
    /// The keyring's file.
    pub path: PathBuf,
    /// What opens it.
    pub by: RootOpener,
    /// The root provider that wraps the root key from then on.
    pub to: Arc<dyn RootProvider>,
    /// Another recovery recipient, if there is one.
    pub recipient: Option<String>,
}

/// Wraps the same root key with another root provider. It is on record before it happens.
///
/// # Errors
/// What kept it from happening; the keyring is as it was then.
pub async fn rewrap(task: Task, to: Move) -> Result<(), RootError> {
    let opened = Opened::begin(task, Action::RootRewrap, For::Serving).await?;
    let from = keyring::wrapping(&to.path)?;
    let recipient = to.recipient.as_deref().unwrap_or(opened.keyring.recipient());
    let by = match to.by {
        RootOpener::Provider(_) => "its root provider",
        RootOpener::Identity(_) => "the recovery identity",
    };
    let (name, id) = (to.to.name(), to.to.id());
    let note = format!("from {from}, opened with {by}, to {name} {id}; recoverable by {recipient}");
    opened.record(Kind::RootRewrapped, Ok(&note), 0).await?;
    let moved = blocking(move || {
        let by = match &to.by {
            RootOpener::Provider(provider) => Opener::Provider(&**provider),
            RootOpener::Identity(identity) => Opener::Identity(identity),
        };
        keyring::rewrap(&to.path, by, &*to.to, to.recipient.as_deref()).map(drop)
    });
    let moved = moved.await;
    if let Err(error) = &moved {
        opened.record(Kind::RootRewrapped, Err(&error.to_string()), 0).await?;
    }
    opened.end().await?;
    Ok(moved?)
}

/// Runs what waits for a file or a program.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyringError> + Send + 'static,
) -> Result<T, KeyringError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|_| Err(KeyringError::ProviderBroken("its thread failed".to_owned())))
}
