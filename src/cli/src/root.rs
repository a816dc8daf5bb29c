//! `root`: the root key of a stopped installation, and who wraps it.

mod rewrap;

use fieldseal_keys::keyring::EnvProvider;
use fieldseal_server::Config;
use fieldseal_server::config::{ROOT_VARIABLE, RootSettings};

use crate::arguments::{Command, RootCommand};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Runs `root`.
pub(crate) async fn run(command: RootCommand, output: &Output) -> Result<(), Failure> {
    match command {
        RootCommand::Rewrap(arguments) => rewrap::run(arguments, output).await,
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
        Command::Init(arguments) => (None, Some(&arguments.provider)),
        Command::Root(RootCommand::Rewrap(arguments)) => {
            (Some(&arguments.config), Some(&arguments.provider))
        }
        _ => (None, None),
    };
    // What is wrong with it is told when the command reads it.
    let stated = config.and_then(|file| Config::load(file).ok()).and_then(|config| {
        match config.root {
            RootSettings::Env { variable } => Some(variable),
            _ => None,
        }
    });
    let made = made.filter(|made| made.root_provider == crate::arguments::Provider::Env);
    let made = made.map(|made| made.root_variable.clone().unwrap_or(ROOT_VARIABLE.to_owned()));
    stated.into_iter().chain(made).collect()
}
