//! Making, starting and stopping an installation.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fieldseal_audit::{
    Checkpoint, Identity, Journal, JournalError, OpenReport, Query, Started, SystemEvent,
};
use fieldseal_crypto::ServiceKeyKind;
use fieldseal_crypto::record::{AnchorKey, PathKey, StorageKey};
use fieldseal_crypto::signing::LogSigningKey;
use fieldseal_identity::Shown;
use fieldseal_keys::keyring::{Keyring, KeyringError};
use fieldseal_keys::{Incarnation, KeyError, Keys, Ledger};
use fieldseal_model::{Clock, Timestamp};
use fieldseal_policy::{Policy, PolicyErrors};
use fieldseal_store::{
    COPIED_KEYRING, CopyError, CopyOwner, CopyTarget, OutboxEntry, Secrets, Store, StoreError,
};
use tokio::sync::mpsc;

use crate::backup::Backups;
use crate::counting::Counting;
use crate::engine::{Engine, Inner};
use crate::export::{Export, ExportError, ExportTarget};
use crate::jobs::Jobs;
use crate::observe::Queries;
use crate::outside::{Anchor, AnchorError, AnchorTarget};
use crate::policy::ActivePolicy;
use crate::retention::{Retaining, Retention};
use crate::tail::Tails;
use crate::upkeep::{self, Kept};
use crate::volume::Places;

/// Where the data keys are kept.
#[derive(Debug, Clone)]
pub enum StoreBackend {
    /// sled, in this directory.
    Sled(PathBuf),
    /// In memory: everything is gone when the process ends.
    Memory,
}

/// Everything an engine is started with, apart from its secrets.
#[derive(Clone)]
pub struct Settings {
    /// The data keys.
    pub store: StoreBackend,
    /// Free bytes below which the store takes no writes.
    pub reserve_bytes: u64,
    /// The audit log.
    pub audit: fieldseal_audit::Settings,
    /// Names this instance in the log's origin.
    pub instance: String,
    /// The policy files.
    pub policy: fieldseal_policy::Settings,
    /// The keys.
    pub keys: fieldseal_keys::Settings,
    /// Where everything that is written is copied first, if anywhere.
    pub copy: Option<CopyTarget>,
    /// Backups, if there are any.
    pub backup: Option<crate::backup::Settings>,
    /// Where checkpoints of the log are posted to.
    pub anchors: Vec<AnchorTarget>,
    /// How long refusals that are alike are counted; zero records each by itself.
    pub refusal_window: Duration,
    /// Where the log is handed on to as it grows.
    pub exports: Vec<ExportTarget>,
    /// What becomes of the log as it grows old.
    pub retention: Retention,
    /// What the record of the start says of settings and certificates.
    pub started: Started,
}

impl Settings {
    /// Where the generations of the store are: beside it.
    #[must_use]
    pub fn generations(&self) -> PathBuf {
        match &self.store {
            StoreBackend::Sled(directory) => directory.with_file_name("generations"),
            StoreBackend::Memory => PathBuf::new(),
        }
    }
}

impl StoreBackend {
    /// The keyring as it stands beside the store: what it wraps opens a copy that is younger than
    /// every backup.
    fn keyring(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Sled(directory) => {
                Ok(Some(std::fs::read(directory.with_file_name(COPIED_KEYRING))?))
            }
            Self::Memory => Ok(None),
        }
    }
}

/// Why an installation did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] PolicyErrors),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] JournalError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The copy of the store.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The log does not go on from the checkpoint that was posted last, or nobody can say.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// What was exported is not of this log, or nobody can say.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// What an installation is started for.
#[derive(Clone, Copy)]
pub(crate) enum For {
    /// Everything.
    Serving,
    /// Recording that a store was put back: it is not the one that the log goes on from, and its
    /// first change says so.
    Restoring,
    /// Opening values of a damaged installation. Nothing is changed, and what waits in the outbox
    /// goes on waiting.
    Recovery,
}

/// What knows of the log outside of it.
#[derive(Default)]
pub(crate) struct Elsewhere {
    /// Where checkpoints are posted to.
    anchors: Vec<Arc<Anchor>>,
    /// Where the log is handed on to.
    targets: Vec<ExportTarget>,
    /// The same, once it is known where each goes on.
    exports: Vec<Arc<Export>>,
    /// When the newest record was made that the log had before this start.
    newest: Option<Timestamp>,
}

impl Elsewhere {
    /// Whether a log that was just opened goes on from all of it.
    fn check(&mut self, journal: &Journal, settings: &Settings) -> Result<(), BootError> {
        for anchor in &self.anchors {
            anchor.check(journal, &settings.audit.directory)?;
        }
        for target in &self.targets {
            self.exports.push(Arc::new(Export::begin(target, journal)?));
        }
        let size = journal.checkpoint().tree_size;
        let found = journal.reader().query(&Query::default(), 1, size, "");
        self.newest = found.ok().and_then(|page| page.events.first().map(|event| event.time));
        Ok(())
    }
}

/// An installation at rest.
pub struct Installation {
    settings: Settings,
    pub(crate) keyring: Keyring,
}

impl Installation {
    /// Puts settings and an opened keyring together.
    #[must_use]
    pub fn new(settings: Settings, keyring: Keyring) -> Self {
        Self { settings, keyring }
    }

    /// Makes the empty store and the empty audit log. `init` does this once; starting never does.
    ///
    /// # Errors
    /// If one of them exists already or cannot be written.
    pub async fn create(&self) -> Result<(), BootError> {
        Journal::create(&self.settings.audit, &self.identity()?)?;
        if let StoreBackend::Sled(_) = self.settings.store {
            let (outbox, _nobody) = mpsc::unbounded_channel();
            let store = Store::create(self.store_settings(), self.store_secrets()?, outbox)?;
            store.close().await;
        }
        Ok(())
    }

    /// Starts: policy, store, journal, what waits in the outbox, keys. The start is on record
    /// before the engine answers anything.
    ///
    /// # Errors
    /// The first thing that is wrong, by name.
    pub async fn start(self, clock: Arc<dyn Clock>) -> Result<Engine, BootError> {
        let policy = Policy::load(&self.settings.policy)?;
        self.start_for(For::Serving, policy, clock).await
    }

    /// Opens store and log, sees that they fit, and records the start.
    pub(crate) async fn begin(
        &self,
        purpose: For,
        elsewhere: &mut Elsewhere,
        policy_digest: [u8; 32],
        clock: &Arc<dyn Clock>,
    ) -> Result<(Store, Journal, Ledger), BootError> {
        let (outbox, entries) = mpsc::unbounded_channel();
        let (store, journal) = self.open(outbox, clock)?;
        let consistent = match self.settings.store {
            StoreBackend::Sled(_) => Ledger::check(&store, &journal).await,
            // It begins anew with every process, where the log has come to.
            StoreBackend::Memory => Ok(()),
        };
        match (&purpose, &consistent) {
            (_, Ok(())) => {}
            (For::Serving, Err(_)) => consistent?,
            // What a recovery is for may be just this.
            (For::Restoring, Err(error)) => tracing::info!(%error, "as a restore leaves it"),
            (For::Recovery, Err(error)) => tracing::warn!(%error, "recovering all the same"),
        }
        elsewhere.check(&journal, &self.settings)?;
        // What an anchor speaks against is evidence, and only what serves is compared with anchors.
        if let For::Serving = purpose {
            journal.finish_redaction();
        }
        let version = match self.keyring.recipient() {
            "" => env!("CARGO_PKG_VERSION").to_owned(),
            recipient => format!("{}, recoverable by {recipient}", env!("CARGO_PKG_VERSION")),
        };
        let start = SystemEvent::start(clock.now(), &version, policy_digest);
        journal.record_system(start.with(&self.settings.started)).await?;
        let ledger = match purpose {
            For::Serving | For::Restoring => {
                Ledger::start(store.clone(), journal.clone(), entries).await?
            }
            For::Recovery => Ledger::idle(store.clone(), journal.clone()),
        };
        Ok((store, journal, ledger))
    }

    pub(crate) async fn start_for(
        self,
        purpose: For,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> Result<Engine, BootError> {
        let mut elsewhere = self.elsewhere(purpose);
        let (store, journal, ledger) =
            self.begin(purpose, &mut elsewhere, policy.digest(), &clock).await?;
        let now = clock.now();
        let generations = upkeep::generations(&self.settings);
        let places = Places::of(&self.settings);
        let keys =
            Keys::open(self.settings.keys, store.clone(), ledger, self.keyring, Arc::clone(&clock))
                .await?;
        if let Some(target) = self.settings.copy.clone() {
            let Incarnation { number, id } = keys.incarnation().await?;
            let installation = keys.installation();
            let owner = CopyOwner { installation, incarnation: number, life: id };
            let keyring = self.settings.store.keyring()?;
            store.copy_to(target, owner, keyring).await?;
        }
        let newest = keys.known_backups().await?.last().map(|backup| backup.created_at);
        let in_memory = matches!(self.settings.store, StoreBackend::Memory);
        let nothing_at_risk = in_memory || self.settings.copy.is_some();
        let retaining = Retaining::new(self.settings.retention, elsewhere.newest, clock.steady());
        let inner = Inner {
            backups: Backups::new(self.settings.backup, newest, nothing_at_risk),
            policy: ActivePolicy::new(self.settings.policy, policy),
            keys,
            jobs: Jobs::default(),
            counting: Counting::default(),
            journal,
            store,
            clock,
            generations,
            places,
            upkeep: Kept::default(),
            shown: Shown::default(),
            queries: Queries::default(),
            anchors: elsewhere.anchors,
            exports: elsewhere.exports,
            retaining,
            tails: Tails::default(),
            started_at: now,
            sealed: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        };
        let engine = Engine { inner: Arc::new(inner) };
        if !nothing_at_risk {
            tokio::spawn(engine.clone().find_risk(newest));
        }
        if let For::Serving = purpose {
            engine.inner.keys.resume_rewraps().await?;
            Jobs::start(&engine);
            Counting::start(&engine, self.settings.refusal_window);
        }
        Ok(engine)
    }

    /// What else knows of the log, and is looked at before anything is recorded.
    fn elsewhere(&self, purpose: For) -> Elsewhere {
        match purpose {
            For::Serving => {
                let targets = self.settings.anchors.iter();
                let log = &self.settings.audit.directory;
                let anchors = targets.map(|target| Arc::new(Anchor::new(target.clone(), log)));
                let targets = self.settings.exports.clone();
                Elsewhere { anchors: anchors.collect(), targets, ..Elsewhere::default() }
            }
            // What they are for may be just what would be refused.
            For::Restoring | For::Recovery => Elsewhere::default(),
        }
    }

    /// Opens store and log. A store in memory begins where the log has come to: every revision has
    /// one record in a log.
    fn open(
        &self,
        outbox: mpsc::UnboundedSender<OutboxEntry>,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Store, Journal), BootError> {
        let (mut settings, secrets) = (self.store_settings(), self.store_secrets()?);
        let journal = || -> Result<Journal, BootError> {
            let (audit, identity) = (self.settings.audit.clone(), self.identity()?);
            let (journal, report) = Journal::open(audit, identity, Arc::clone(clock))?;
            opened_line(&report);
            Ok(journal)
        };
        match self.settings.store {
            StoreBackend::Sled(_) => {
                let store = Store::open(settings, secrets, outbox)?;
                Ok((store, journal()?))
            }
            StoreBackend::Memory => {
                let journal = journal()?;
                settings.first_revision = journal.revision();
                Ok((Store::create(settings, secrets, outbox)?, journal))
            }
        }
    }

    pub(crate) fn identity(&self) -> Result<Identity, KeyringError> {
        Self::identity_of(&self.keyring, &self.settings.instance)
    }

    pub(crate) fn identity_of(keyring: &Keyring, instance: &str) -> Result<Identity, KeyringError> {
        Ok(Identity {
            installation: keyring.installation(),
            instance: instance.to_owned(),
            signing: LogSigningKey::new(keyring.service(ServiceKeyKind::LogSigning)?),
        })
    }

    pub(crate) fn audit_settings(&self) -> &fieldseal_audit::Settings {
        &self.settings.audit
    }

    pub(crate) fn store_settings(&self) -> fieldseal_store::Settings {
        let mut settings = match &self.settings.store {
            StoreBackend::Sled(dir) => fieldseal_store::Settings::sled(dir.clone()),
            StoreBackend::Memory => fieldseal_store::Settings::memory(),
        };
        settings.reserve_bytes = self.settings.reserve_bytes;
        settings
    }

    pub(crate) fn store_secrets(&self) -> Result<Secrets, KeyringError> {
        Self::secrets_of(&self.keyring)
    }

    pub(crate) fn secrets_of(keyring: &Keyring) -> Result<Secrets, KeyringError> {
        Ok(Secrets {
            installation: keyring.installation(),
            storage: StorageKey::new(keyring.service(ServiceKeyKind::Storage)?),
            path: PathKey::new(keyring.service(ServiceKeyKind::Path)?),
            anchor: AnchorKey::new(keyring.service(ServiceKeyKind::Anchor)?),
        })
    }
}

fn opened_line(report: &OpenReport) {
    let OpenReport { records, unclean, torn_bytes, shortened_from } = *report;
    tracing::info!(
        event = "audit_log_opened",
        records,
        unclean,
        torn_bytes,
        "opened the audit log"
    );
    if let Some(closed) = shortened_from {
        tracing::warn!(
            event = "audit_log_shortened",
            records,
            closed,
            "the audit log has fewer records than when it was last closed: it was cut off or put \
             back; compare it with a checkpoint that was kept elsewhere"
        );
    }
}

impl Engine {
    /// Writes the stop record, signs the last checkpoint and closes journal and store. Calls that
    /// come afterwards are refused.
    ///
    /// # Errors
    /// If the log cannot be closed: the checkpoint before is then the last.
    pub async fn stop(&self) -> Result<Checkpoint, JournalError> {
        if self.inner.jobs.stop().await {
            let keys = &self.inner.keys;
            let ended = async {
                keys.stop_rewraps().await;
                keys.keep_use().await;
                keys.stopping().await;
            };
            self.unless_damaged(ended).await;
        }
        let counted = Counting::stop(self).await;
        let now = self.inner.clock.now();
        let recorded = self.inner.journal.record_system(SystemEvent::stop(now)).await;
        let closed = self.inner.journal.close().await;
        self.inner.store.close().await;
        self.unless_damaged(self.inner.keys.finished()).await;
        counted?;
        recorded?;
        closed
    }

    /// Waits for what waits for the store, unless that answers no more.
    async fn unless_damaged(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            () = self.inner.store.damaged() => {}
        }
    }
}
