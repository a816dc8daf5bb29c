//! The yardsticks: what the sidecar does, beside what the same machine does without it.
//!
//! **For:** `ratios`, which runs the shipped binary against a bare echo and a durable echo in the
//! same minutes on the same machine, with the same messages and the same TLS; `keys`, which fills an
//! installation with very many data keys and measures what that costs; `audit`, which does the same
//! with very many records of the audit log.
//! **May use:** `client`, `api`, `model`, and the listener of `server` for the echoes; `audit`,
//! `policy` and `crypto` to write a log faster than callers could.
//! **Must hold:** the echoes and their log are frozen; a call that fails fails the run; every
//! process that was started is gone when this one ends.

mod audit;
mod bars;
mod certificates;
mod durable;
mod echo;
mod error;
mod keys;
mod load;
mod process;
mod ratios;
mod sidecar;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::error::BenchError;

/// A quick allocator for the load and the echoes, so that they are no easy yardsticks. The sidecar
/// brings its own, which wipes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a sidecar against a gRPC echo.
#[derive(Debug, Parser)]
#[command(name = "fieldseal-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the shipped binary and both echoes round by round, and compare them
    Ratios(RatiosArguments),
    /// Fill an installation with data keys, and measure start, memory, cold decrypts and a rewrap
    Keys(KeysArguments),
    /// Fill an audit log, and measure its index and the questions to it
    Audit(AuditArguments),
    /// Open a store's database with sled alone (`keys` starts it)
    SledAlone {
        /// The store's directory
        dir: PathBuf,
    },
    /// The bare echo, until standard input ends (`ratios` starts it)
    Echo(EchoArguments),
    /// The durable echo, until standard input ends (`ratios` starts it)
    DurableEcho(EchoArguments),
}

#[derive(Debug, Args)]
struct RatiosArguments {
    /// Print one JSON line a bar, and one with statistics
    #[arg(long)]
    json: bool,
    /// How often each server is measured; the median counts, and fewer than 5 are no result
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each measurement takes, in seconds
    #[arg(long, value_name = "S", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Where all logs are written; its file system is what is measured [default: beside the binary]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only the loads whose name holds this text, for a profile: "BatchDecrypt", "1 caller"
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Measure this binary instead of building the shipped one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct KeysArguments {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// How many data keys, each of a partition of its own
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(10_000..))]
    count: u64,
    /// Where the installation is; one that an earlier run filled is used again
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Measure this binary instead of building the shipped one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Only fill it
    #[arg(long)]
    only_fill: bool,
}

#[derive(Debug, Args)]
struct AuditArguments {
    /// Print one JSON document in one line
    #[arg(long)]
    json: bool,
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 10_000_000,
        value_parser = clap::value_parser!(u64).range(500_000..))]
    records: u64,
    /// Where the log is; one that an earlier run filled is used again
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct EchoArguments {
    /// Where the log is made
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the certificates are
    #[arg(long, value_name = "DIR")]
    tls: PathBuf,
    /// Where the address is written
    #[arg(long, value_name = "PATH")]
    address_file: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::from)
        .and_then(|runtime| runtime.block_on(run(arguments.command)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is gone.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), BenchError> {
    match command {
        Command::Ratios(arguments) => {
            let plan = ratios::Plan {
                rounds: arguments.rounds,
                measured: Duration::from_secs(arguments.seconds.into()),
                dir: arguments.dir,
                only: arguments.only,
                binary: arguments.binary,
            };
            // What was started is killed when the run is dropped.
            let report = tokio::select! {
                report = ratios::run(&plan) => report?,
                _ = tokio::signal::ctrl_c() => return Err(BenchError::Interrupted),
            };
            let text = if arguments.json { report.json() } else { report.table() };
            std::io::stdout().write_all(text.as_bytes())?;
            std::io::stderr().write_all(report.notes().as_bytes())?;
            Ok(())
        }
        Command::Keys(arguments) => {
            let measured = tokio::select! {
                measured = keys::run(&arguments) => measured?,
                _ = tokio::signal::ctrl_c() => return Err(BenchError::Interrupted),
            };
            std::io::stdout().write_all(measured.as_bytes())?;
            Ok(())
        }
        Command::Audit(arguments) => {
            let measured = tokio::select! {
                measured = audit::run(&arguments) => measured?,
                _ = tokio::signal::ctrl_c() => return Err(BenchError::Interrupted),
            };
            std::io::stdout().write_all(measured.as_bytes())?;
            Ok(())
        }
        Command::SledAlone { dir } => keys::sled_alone(&dir),
        Command::Echo(a) => echo::run(false, &a.dir, &a.tls, &a.address_file).await,
        Command::DurableEcho(a) => echo::run(true, &a.dir, &a.tls, &a.address_file).await,
    }
}
