//! From a configuration to a running sidecar, and back into nothing.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fieldseal_api::v1::audit_service_server::AuditServiceServer;
use fieldseal_api::v1::encryption_service_server::EncryptionServiceServer;
use fieldseal_api::v1::key_service_server::KeyServiceServer;
use fieldseal_api::v1::system_service_server::SystemServiceServer;
use fieldseal_audit::{Health, Journal, JournalError, Started};
use fieldseal_engine::backup::Recipients;
use fieldseal_engine::{Engine, Installation, StoreBackend, StoreHealth, Upkeep};
use fieldseal_keys::keyring::{Keyring, KeyringError};
use fieldseal_memory::Protection;
use fieldseal_model::{InstallationId, SystemClock};
use fieldseal_service::{AuditHandler, EncryptionHandler, KeyHandler, SystemHandler, WireLimits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::address_file::AddressFile;
use crate::backups;
use crate::calls::LimitedServices;
use crate::config::{Backend, Config};
use crate::exports::{self, Exports};
use crate::failure::ServeError;
use crate::health::{Readiness, with_health, with_reflection};
use crate::issuer_keys;
use crate::listening::{BACKLOG, bind, unheard};
use crate::probes::{Observer, Probing, Serving};
use crate::root::open_patiently;
use crate::services::Services;
use crate::telemetry::CHECKPOINTS;
use crate::transport::{self, Tls, TlsSettings};

/// Files that are open beside the connections, and more.
const OTHER_FILES: u64 = 128;
/// How often the store's space is looked at for readiness.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The engine's settings of a configuration.
#[must_use]
pub fn engine_settings(config: &Config) -> fieldseal_engine::Settings {
    let store = match config.state.backend {
        Backend::Sled => StoreBackend::Sled(config.state.store()),
        Backend::Memory => StoreBackend::Memory,
    };
    fieldseal_engine::Settings {
        store,
        reserve_bytes: config.audit.reserve_bytes,
        audit: fieldseal_audit::Settings {
            directory: config.state.audit(),
            segment_bytes: config.audit.segment_bytes,
            reserve_bytes: config.audit.reserve_bytes,
            group: config.audit.group,
        },
        instance: config.audit.instance.clone(),
        policy: fieldseal_policy::Settings { dir: config.policy_directory.clone() },
        keys: fieldseal_keys::Settings {
            cached_data_keys: config.cached_data_keys,
            shred_window: config.shred_window,
            shred_window_least: config.shred_window_least,
            approving: config.approving,
            ..fieldseal_keys::Settings::default()
        },
        copy: config.copy.clone(),
        backup: backup_settings(config),
        anchors: config.audit.anchors.iter().cloned().chain(config.audit.anchor.target()).collect(),
        refusal_window: config.audit.refusal_window,
        exports: config.audit.export.targets(&config.state.audit()),
        retention: config.audit.retention.clone(),
        started: Started {
            settings_digest: config.told.digest.to_vec(),
            settings: config.told.settings.clone(),
            certificates: Vec::new(),
        },
    }
}

/// Backups as the configuration has them; `None` if it names no directory or nobody to open them.
fn backup_settings(config: &Config) -> Option<fieldseal_engine::backup::Settings> {
    let directory = config.backup.directory.clone()?;
    let recipients = config.backup.recipients.iter().map(String::as_str);
    Some(fieldseal_engine::backup::Settings {
        directory,
        // Each of them was checked when it was read, so what is missing is all of them.
        recipients: Recipients::parse(recipients).ok()?,
        keep: config.backup.keep,
        keyring: config.state.keyring(),
    })
}

/// An installation of this configuration and keyring, at rest.
#[must_use]
pub fn installation(config: &Config, keyring: Keyring) -> Installation {
    Installation::new(engine_settings(config), keyring)
}

/// Runs the sidecar until `stop` is ready, then drains, records the stop and signs the last
/// checkpoint. It is ready, and says so, only when it can serve. Whenever `reload` is ready, it reads
/// its policy again.
///
/// # Errors
/// What keeps it from starting, before it listens; `Audit` if the log broke while it ran.
pub async fn run(
    config: Config,
    stop: impl Future<Output = ()>,
    reload: impl AsyncFnMut(),
) -> Result<(), ServeError> {
    raise_file_limit(config.listener.connections);
    let path = config.state.keyring();
    if is_missing(&path) {
        return Err(KeyringError::NotInitialized(path).into());
    }
    check_backend(&config)?;
    let mut stop = pin!(stop);
    let tls = Tls::new(&TlsSettings::from_files(
        &config.tls.certificate,
        &config.tls.private_key,
        &config.tls.client_ca,
        config.tls.principal,
    )?)?;
    tls.say();
    tls.warn_if_not_valid();
    let collector = exports::collector(&config.audit.export)?;
    let readiness = Readiness::new();
    // Nothing is recorded by a start that finds its address taken.
    let bound = async {
        let socket = bind(config.server.listen)?;
        Ok((socket, Probing::start(&config.probes, &readiness).await?))
    };
    let (socket, probing) = bound.await.map_err(|error| in_use_or(error, &config))?;
    let observer = probing.observer();
    let opened = tokio::select! {
        () = stop.as_mut() => return Ok(()),
        opened = open_patiently(&config, || observer.waits_for_root()) => opened,
    };
    let keyring = opened?;
    let installation = keyring.installation();
    if keyring.is_rotating() {
        tracing::warn!(
            event = "root_rotation_unfinished",
            "a rotation of the root key has begun and is not finished: both root keys are in use \
             until the sidecar is stopped and `fieldseal root rotate` ends it"
        );
    }
    let mut settings = engine_settings(&config);
    settings.started.certificates = tls.started();
    let engine = Installation::new(settings, keyring).start(Arc::new(SystemClock)).await?;
    if engine.copy_shares_volume() {
        tracing::warn!(
            event = "store_copy_shares_volume",
            "the copy of the store (store.copy) is on the volume of the state directory: whatever \
             takes that takes the copy too"
        );
    }
    // Without them a start goes on: only calls that show an end user need them.
    issuer_keys::fetch_due(&engine, issuer_keys::DEADLINE).await;
    let exports = Exports::start(&engine, config.audit.reserve_bytes, collector);
    let watchers = (&readiness, observer);
    let served = serve(&config, (socket, tls), &engine, installation, watchers, stop, reload).await;
    let stopped = engine.stop().await;
    exports.end().await;
    if let Ok(checkpoint) = &stopped {
        checkpoint_line(checkpoint);
        engine.post_checkpoint().await;
    }
    served?;
    let missing = *engine.audit_health().borrow() == Health::Missing;
    stopped.map(|_| ()).map_err(|error| ServeError::Audit(unclosed(error, missing)))
}

/// Why the log could not be closed: one that cannot be written for the moment has no space, unless
/// its file is gone.
fn unclosed(error: JournalError, missing: bool) -> JournalError {
    match error {
        JournalError::Unavailable if missing => JournalError::Broken(
            "its open segment was removed or replaced; put it back before the next start".into(),
        ),
        other => other,
    }
}

/// Every connection is a file, and a log that may open none cannot go on. The usual soft limit of
/// 1,024 is older than that; the hard one is what the operator means.
fn raise_file_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let wanted = OTHER_FILES.saturating_add(connections as u64);
    if current.is_some_and(|files| files < wanted) {
        tracing::warn!(
            event = "few_files",
            limit = current,
            wanted,
            "the process may not have a file for every connection; raise RLIMIT_NOFILE or lower \
             limits.connections"
        );
    }
}

/// A second process on the same state finds its address taken first; what it is told is why.
fn in_use_or(error: ServeError, config: &Config) -> ServeError {
    match Journal::check_unused(&config.state.audit()) {
        Err(locked @ JournalError::Locked { .. }) => ServeError::Boot(locked.into()),
        _ => error,
    }
}

/// A log that goes on over a store in memory leaves the store on disk behind it for good, and a
/// rotation of the root key would not see its keys.
///
/// # Errors
/// `Backend` if the store is on disk and the configuration says memory.
pub fn check_backend(config: &Config) -> Result<(), ServeError> {
    let store = config.state.store();
    match config.state.backend {
        Backend::Memory if !is_missing(&store) => Err(ServeError::Backend(store)),
        Backend::Memory | Backend::Sled => Ok(()),
    }
}

/// Only what is not there is missing: what cannot be looked at is opened, and says why not.
fn is_missing(path: &Path) -> bool {
    path.metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

async fn serve(
    config: &Config,
    (socket, tls): (TcpSocket, Tls),
    engine: &Engine,
    installation: InstallationId,
    (readiness, observer): (&Readiness, &Observer),
    stop: impl Future<Output = ()>,
    reload: impl AsyncFnMut(),
) -> Result<(), ServeError> {
    let failed = |error| unheard(config.server.listen, error);
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let certificates = tls.times();
    let services = services(config, engine, installation, readiness).await?;
    let ending = CancellationToken::new();
    let limited = LimitedServices::new(services, config.calls.clone());
    observer.serving(Serving { engine: engine.clone(), calls: limited.clone(), certificates });
    let ended = ending.clone().cancelled_owned();
    let serving = transport::serve(listener, tls, config.listener.clone(), limited, ended);
    let file = config.server.address_file.as_deref();
    readiness.set(engine.can_serve());
    let file =
        file.map(|path| AddressFile::of("server.address_file", path, address)).transpose()?;
    tracing::info!(event = "ready", %address, %installation, "ready");
    let upkeep = tokio::spawn(keep_up(engine.clone(), config.upkeep));
    let watching = watch(engine, readiness, observer, config.audit.checkpoint_every);
    let mut broken = None;
    let stopping = async {
        tokio::select! {
            () = stop => tracing::info!(event = "stopping", "stopping"),
            error = watching => broken = Some(error),
            () = reload_policy(engine, reload) => {}
            () = backups::scheduled(engine, config.backup.every) => {}
            () = backups::watch_risk(engine) => {}
            () = retain(engine) => {}
            () = post(engine, config.audit.checkpoint_every) => {}
            () = issuer_keys::keep(engine) => {}
        }
        upkeep.abort();
        observer.stopping();
        readiness.set(false);
        drop(file);
        ending.cancel();
    };
    let (drained, ()) = tokio::join!(serving, stopping);
    tracing::info!(event = "drained", cut_off = drained.cut_off, "drained");
    broken.map_or(Ok(()), Err)
}

async fn services(
    config: &Config,
    engine: &Engine,
    installation: InstallationId,
    readiness: &Readiness,
) -> Result<Services, ServeError> {
    let limits =
        WireLimits { batch_items: config.batch_items, message_bytes: config.message_bytes };
    let bytes = config.message_bytes;
    let locked = || fieldseal_memory::protection() == Protection::Locked;
    macro_rules! limited {
        ($server:ident, $handler:expr) => {
            $server::new($handler).max_decoding_message_size(bytes).max_encoding_message_size(bytes)
        };
    }
    let encryption = EncryptionHandler::new(engine.clone(), limits);
    let system = SystemHandler::new(engine.clone(), installation, locked);
    let services = Services::new()
        .with(limited!(EncryptionServiceServer, encryption))
        .with(limited!(KeyServiceServer, KeyHandler::new(engine.clone(), limits)))
        .with(limited!(AuditServiceServer, AuditHandler::new(engine.clone(), limits)))
        .with(limited!(SystemServiceServer, system));
    let services = with_health(services, readiness.watch()).await;
    if !config.server.reflection {
        return Ok(services);
    }
    with_reflection(services, fieldseal_api::FILE_DESCRIPTOR_SET)
        .map_err(|error| ServeError::Reflection(error.to_string()))
}

async fn keep_up(engine: Engine, upkeep: Upkeep) {
    engine.keep_up(upkeep).await;
}

/// Reads the policy again whenever it is asked to. The engine says in a log line how that ended.
async fn reload_policy(engine: &Engine, mut asked: impl AsyncFnMut()) {
    loop {
        asked().await;
        drop(engine.reload_policy_by_signal().await);
    }
}

/// Keeps readiness true to the health of store and log, and sends the newest checkpoint to the log
/// lines from time to time. Ends when the log or the store is broken for good.
async fn watch(
    engine: &Engine,
    readiness: &Readiness,
    observer: &Observer,
    checkpoint_every: Duration,
) -> ServeError {
    let mut audit = engine.audit_health();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut checkpoints = tokio::time::interval(checkpoint_every);
    checkpoints.reset();
    let mut locked = true;
    loop {
        // More keys, more pages: the first that is not locked may come at any time.
        if locked && fieldseal_memory::protection() == Protection::Unlocked {
            locked = false;
            tracing::warn!(
                event = "keys_not_locked",
                "key pages are not locked in memory; raise RLIMIT_MEMLOCK so that keys are never \
                 swapped out"
            );
        }
        let broken = match &*audit.borrow_and_update() {
            Health::Broken(why) => Some(Arc::clone(why)),
            _ => None,
        };
        if let Some(why) = broken {
            return ServeError::Audit(JournalError::Broken(why));
        }
        match engine.store_health() {
            StoreHealth::Broken(why) => return ServeError::Store(why),
            StoreHealth::Damaged(why) => return ServeError::Damaged(why),
            _ => {}
        }
        readiness.set(engine.can_serve());
        observer.look();
        tokio::select! {
            changed = audit.changed() => if changed.is_err() {
                return ServeError::Audit(JournalError::Closed);
            },
            _ = looks.tick() => {}
            _ = checkpoints.tick() => checkpoint_line(&engine.newest_checkpoint()),
        }
    }
}

/// Does what is due of the log that grows old. Never ends.
async fn retain(engine: &Engine) {
    loop {
        tokio::time::sleep(engine.retain().await).await;
    }
}

/// Posts the newest checkpoint from time to time. Never ends.
async fn post(engine: &Engine, every: Duration) {
    loop {
        engine.post_checkpoint().await;
        tokio::time::sleep(every).await;
    }
}

/// One structured line: whoever collects the log lines holds a checkpoint outside this machine.
fn checkpoint_line(checkpoint: &fieldseal_audit::Checkpoint) {
    tracing::info!(
        target: CHECKPOINTS,
        event = "audit_checkpoint",
        tree_size = checkpoint.tree_size,
        note = checkpoint.note,
        "newest checkpoint of the audit log"
    );
}
