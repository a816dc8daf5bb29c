//! `root`: the root key of a stopped installation, and who wraps it.

mod drill;
mod rewrap;
mod rotate;

use std::path::Path;
use std::sync::Arc;

use fieldseal_engine::offline::root::{RootError, Task};
use fieldseal_keys::keyring::{EnvProvider, Keyring};
use fieldseal_model::{Principal, PrincipalKind, SystemClock};
use fieldseal_server::Config;
use fieldseal_server::config::{ROOT_VARIABLE, RootSettings};
use rustix::process::getuid;

use crate::arguments::{Command, RootCommand};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::recover::refuse_other_user;
use crate::serve;
use crate::signals::{StopSignals, interrupted};

/// Runs `root`.
pub(crate) async fn run(command: RootCommand, output: &Output) -> Result<(), Failure> {
    match command {
        RootCommand::Drill(arguments) => drill::run(arguments, output).await,
        RootCommand::Rotate(arguments) => rotate::run(arguments, output).await,
        RootCommand::Rewrap(arguments) => rewrap::run(arguments, output).await,
    }
}

/// The configuration of an installation whose files this user may make anew.
fn config_of(file: &Path) -> Result<Config, Failure> {
    let config = Config::load(file).map_err(|e| serve::config_failure(&e))?;
    refuse_other_user(&config.state.directory, "root")?;
    fieldseal_server::check_backend(&config).map_err(|e| serve::serve_failure(&e))?;
    Ok(config)
}

/// What a command does with an opened keyring, as the local user.
fn task(config: &Config, keyring: Keyring) -> Result<Task, Failure> {
    let user = getuid().as_raw().to_string();
    Ok(Task {
        settings: fieldseal_server::engine_settings(config),
        keyring,
        clock: Arc::new(SystemClock),
        principal: Principal::new(PrincipalKind::Local, &user)?,
    })
}

fn failure(error: &RootError, config: &Config) -> Failure {
    match error {
        RootError::Boot(boot) => {
            let failure = serve::boot_failure(boot);
            match failure.reason() {
                "STORE_LOCKED" | "AUDIT_LOG_LOCKED" => {
                    failure.advise("stop the sidecar first; nothing was changed")
                }
                _ => serve::advise_missing(failure, &config.state),
            }
        }
        _ => Failure::new(Exit::Denied, "PERMISSION_DENIED", error.to_string()),
    }
}

/// Waits for somebody to type a passphrase, or to give up: a signal leaves the terminal as it was.
pub(crate) async fn unless_stopped<T>(asked: impl Future<Output = T>) -> Result<T, Failure> {
    let mut signals = StopSignals::listen_with_hangup()?;
    tokio::select! {
        biased;
        () = signals.received() => Err(interrupted("nothing was changed")),
        answered = asked => Ok(answered),
    }
}

/// Takes the keys of the root provider `env` out of the environment, before there is a second
/// thread.
///
/// # Errors
/// If there is one already.
pub(crate) fn take_variables(command: &Command) -> Result<(), Failure> {
    for variable in variables(command) {
        let taken = fieldseal_memory::take_variable(&variable).map_err(|_| {
            let what = format!("{variable} cannot be taken out of the environment any more");
            Failure::new(Exit::Internal, "INTERNAL", what)
        })?;
        if let Some(text) = taken {
            EnvProvider::keep(&variable, text);
        }
    }
    Ok(())
}

/// Which variables a command reads keys from.
fn variables(command: &Command) -> Vec<String> {
    let (config, made) = match command {
        Command::Serve(file) => (Some(&file.config), None),
        Command::Backup(command) => (command.config(), None),
        Command::Init(arguments) => (None, Some(&arguments.provider)),
        Command::Root(RootCommand::Rotate(arguments)) => (Some(&arguments.config), None),
        Command::Root(RootCommand::Rewrap(arguments)) => {
            (Some(&arguments.config), Some(&arguments.provider))
        }
        _ => (None, None),
    };
    // What is wrong with it is told when the command reads it.
    let stated =
        config.and_then(|file| Config::load(file).ok()).and_then(|config| match config.root {
            RootSettings::Env { variable } => Some(variable),
            _ => None,
        });
    let made = made.filter(|made| made.root_provider == crate::arguments::Provider::Env);
    let made = made.map(|made| made.root_variable.clone().unwrap_or(ROOT_VARIABLE.to_owned()));
    stated.into_iter().chain(made).collect()
}
