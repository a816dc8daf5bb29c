//! The `fieldseal` command.
//!
//! **For:** people at a terminal and scripts: showing the whole job once, making and running an
//! installation, every call of the wire, verifying the log.
//! **May use:** every floor below; what runs against a sidecar goes through `client`.
//! **Must hold:** no plaintext, key or token is ever an argument; results go to standard output and
//! everything else to standard error; the exit code says what kind of trouble it was.

mod address;
mod anchor;
mod approvals;
mod arguments;
mod audit;
mod backup;
mod beginning;
mod certificates;
mod config;
mod confirm;
mod connection;
mod csv;
mod dev;
mod doctor;
mod extending;
mod failure;
mod health;
mod init;
mod installation;
mod keys;
mod manual;
mod output;
mod pack;
mod pages;
mod policy;
mod questions;
mod quickstart;
mod recover;
mod root;
mod serve;
mod signals;
mod status;
mod tiles;
mod times;
mod values;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::runtime::Runtime;

use arguments::{Arguments, Command, OutputForm, PolicyCommand};
use failure::{Exit, Failure};
use output::Output;

/// How long threads that block may go on once the command has ended.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let mut line: Vec<OsString> = std::env::args_os().collect();
    if line.len() <= 1 {
        match dev::stands_for_dev(std::env::var_os(dev::VARIABLE).as_deref()) {
            Ok(false) => {}
            Ok(true) => line = vec!["fieldseal".into(), "dev".into()],
            Err(failure) => return failed(&failure, &Output::new(OutputForm::default())),
        }
    }
    let arguments = match Arguments::try_parse_from(line) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let output = Output::new(arguments.output);
    // The runtime has threads, so this comes first.
    if let Err(failure) = root::take_variables(&arguments.command) {
        return failed(&failure, &output);
    }
    let ended = fieldseal_server::runtime()
        .map_err(|e| Failure::new(Exit::Internal, "IO_ERROR", format!("no runtime: {e}")))
        .and_then(|runtime| run_on(runtime, run(arguments.command, &output)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure, &output),
    }
}

/// Runs to the end, and leaves a thread behind that hangs in a file system which has gone away.
fn run_on<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let ended = runtime.block_on(work);
    runtime.shutdown_timeout(LEFT_BEHIND);
    ended
}

fn failed(failure: &Failure, output: &Output) -> ExitCode {
    // Whoever reads `… | head` has seen enough and wants no error.
    if failure.reason() != output::CLOSED {
        output.error(failure);
    }
    ExitCode::from(failure.exit() as u8)
}

/// Help and version are answers; everything else is a mistake in the command line.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    match (error.use_stderr(), printed) {
        (false, Ok(())) => ExitCode::SUCCESS,
        (false, Err(e)) => ExitCode::from(output::unwritten(&e).exit() as u8),
        _ => ExitCode::from(Exit::Usage as u8),
    }
}

async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    let in_rows = match &command {
        Command::Audit(question) => question.has_csv(),
        Command::Policy(question) => matches!(question, PolicyCommand::WhoCan(_)),
        _ => false,
    };
    if output.is_csv() && !in_rows {
        let what = "this command has no CSV form";
        return Err(Failure::usage("OUTPUT_FORM_UNSUPPORTED", what)
            .advise(
                "`audit list`, `subject`, `principal`, `field`, `breach`, `volume`, `denials` and `changes` have \
                 one, and `policy who-can`",
            ));
    }
    match command {
        Command::Quickstart(arguments) => quickstart::run(arguments, output).await,
        Command::Dev(arguments) => dev::run(arguments, output).await,
        Command::Init(arguments) => init::run(arguments, output).await,
        Command::Serve(arguments) => serve::command(arguments).await,
        Command::Config(command) => config::run(command, output),
        Command::Recover(arguments) => recover::run(arguments, output).await,
        Command::Root(command) => root::run(command, output).await,
        Command::Doctor(arguments) => doctor::run(arguments, output).await,
        Command::Key(command) => keys::run(command, output).await,
        Command::Approval(command) => approvals::run(command, output).await,
        Command::Encrypt(arguments) => values::encrypt(arguments, output).await,
        Command::Decrypt(arguments) => values::decrypt(arguments, output).await,
        Command::Csv(command) => csv::run(command, output).await,
        Command::Audit(command) => questions::run(command, output).await,
        Command::Backup(command) => backup::run(command, output).await,
        Command::Policy(command) => policy::run(command, output).await,
        Command::Status => status::run(output).await,
        Command::Health(arguments) => health::run(arguments, output).await,
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::man(&arguments, output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_does_not_hold_the_exit() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (begins, began) = std::sync::mpsc::channel();
        let runtime = fieldseal_server::runtime().unwrap();
        let ended = run_on(runtime, async move {
            tokio::task::spawn_blocking(move || {
                begins.send(()).unwrap();
                held.recv()
            });
            began.recv().unwrap();
            7
        });
        assert_eq!(ended, 7);
        // It hung until now.
        drop(release);
    }
}
