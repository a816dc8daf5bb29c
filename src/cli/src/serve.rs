//! `serve`: the sidecar itself.

use std::path::Path;

use fieldseal_engine::BootError;
use fieldseal_keys::keyring::KeyringError;
use fieldseal_server::config::StateSettings;
use fieldseal_server::{Config, ConfigErrors, ServeError, ServeErrorKind, telemetry};

use crate::arguments::config::ConfigFile;
use crate::failure::{Exit, Failure};
use crate::signals::{ReloadSignal, StopSignals};

/// Runs `serve` until SIGTERM or Ctrl-C. SIGHUP has it read its policy again.
pub(crate) async fn command(arguments: ConfigFile) -> Result<(), Failure> {
    let config = Config::load(&arguments.config).map_err(|e| config_failure(&e))?;
    run(config, StopSignals::listen()?, ReloadSignal::listen()?).await
}

/// Runs a sidecar until a signal stops it. Its log lines go to standard error.
pub(crate) async fn run(
    config: Config,
    mut stop: StopSignals,
    mut reload: ReloadSignal,
) -> Result<(), Failure> {
    telemetry::init(config.log).map_err(|e| Failure::usage("LOG_LEVEL_INVALID", e.to_string()))?;
    let reload = async || reload.received().await;
    let state = config.state.clone();
    let served = fieldseal_server::run(config, stop.received(), reload).await;
    served.map_err(|e| advise_missing(serve_failure(&e), &state))
}

pub(crate) fn config_failure(errors: &ConfigErrors) -> Failure {
    let reason = if errors.is_newer() { "FORMAT_NEWER" } else { "CONFIG_INVALID" };
    Failure::usage(reason, errors.to_string())
}

pub(crate) fn keyring_failure(error: &KeyringError) -> Failure {
    let (kind, reason) = fieldseal_server::keyring_kind(error);
    advised(Failure::new(exit(kind), reason, error.to_string()))
}

/// What to do about a keyring that does not open.
fn advised(failure: Failure) -> Failure {
    match failure.reason() {
        "ROOT_KEY_WRONG" => failure.advise(
            "name the provider and key that wrapped it in [root] of the configuration; if they are \
             lost, `fieldseal root rewrap --identity FILE` wraps the root key with new ones",
        ),
        "IDENTITY_WRONG" => {
            failure.advise("name the file with the identity of that recipient; nothing was changed")
        }
        _ => failure,
    }
}

pub(crate) fn boot_failure(error: &BootError) -> Failure {
    let (kind, reason) = fieldseal_server::boot_kind(error);
    Failure::new(exit(kind), reason, error.to_string())
}

pub(crate) fn serve_failure(error: &ServeError) -> Failure {
    let failure = Failure::new(exit(error.kind()), error.reason(), error.to_string());
    match (error.kind(), error.reason()) {
        (ServeErrorKind::Usage, "STATE_BACKEND_WRONG") => failure.advise(
            "set state.backend (FIELDSEAL_STATE_BACKEND) to \"sled\", or name another \
             state.directory; nothing was changed",
        ),
        (ServeErrorKind::Usage, "AUDIT_INSTANCE_WRONG") => failure.advise(
            "set audit.instance (FIELDSEAL_AUDIT_INSTANCE) back; a second instance needs a state \
             directory of its own",
        ),
        (_, "ADDRESS_UNAVAILABLE") => failure.advise(
            "end what listens there, or set another address of this machine; nothing was changed",
        ),
        (
            ServeErrorKind::Corrupt,
            "STORE_CORRUPT" | "STORE_BEHIND_LOG" | "LOG_BEHIND_STORE" | "STORE_LOG_DIVERGED",
        ) => failure.advise(
            "keep the files as they are; `fieldseal doctor` with the same --config explains what is \
             wrong and what can be done",
        ),
        (ServeErrorKind::Full, _) => failure.advise(
            "free space on the disk of the state directory, and start it again: nothing that was \
             acknowledged is lost",
        ),
        (
            ServeErrorKind::Unavailable,
            "AUDIT_UNAVAILABLE" | "STORE_BROKEN" | "STORE_UNAVAILABLE",
        ) => failure.advise(
            "look at the disk of the state directory, and start it again: what was acknowledged \
                 is on it",
        ),
        _ => advised(failure),
    }
}

/// What to do where something of an installation is missing. A new one made beside what is left of
/// the old one would hide that values are lost.
pub(crate) fn advise_missing(failure: Failure, state: &StateSettings) -> Failure {
    if failure.exit() != Exit::NotFound {
        return failure;
    }
    let rebuilt = fieldseal_engine::doctor::place_of_repair(&state.store());
    if !state.store().exists() && rebuilt.exists() {
        return failure.advise(format!(
            "a repair was cut off, and {} may be the only store there is: leave it where it is; \
             `fieldseal doctor` with the same --config says how the repair is finished",
            rebuilt.display()
        ));
    }
    let holds = |dir: &Path| std::fs::read_dir(dir).is_ok_and(|mut found| found.next().is_some());
    if state.keyring().exists() || holds(&state.store()) || holds(&state.audit()) {
        return failure.advise(
            "other parts of this installation are there: restore it from a backup, or mount the \
             volume that holds it",
        );
    }
    failure.advise(
        "if there was an installation here, restore it from a backup, or mount the volume that \
         holds it; a first one is made with `fieldseal init --dir DIR`",
    )
}

fn exit(kind: ServeErrorKind) -> Exit {
    match kind {
        ServeErrorKind::Usage => Exit::Usage,
        ServeErrorKind::NotFound => Exit::NotFound,
        ServeErrorKind::Unavailable => Exit::Unavailable,
        ServeErrorKind::Conflict => Exit::Conflict,
        ServeErrorKind::Full => Exit::Full,
        ServeErrorKind::Corrupt => Exit::Corrupt,
        ServeErrorKind::Internal => Exit::Internal,
    }
}
