//! The run: three servers, one after another, round by round.

use std::env;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fieldseal_client::{Client, Failure, v1};
use tokio::process::Command;
use tonic::Status;

use crate::bars::{Bar, LOADS, Load, MOST_CONNECTIONS, Measure, Report, Statistics, median};
use crate::certificates;
use crate::error::BenchError;
use crate::load::{BATCH_ITEMS, Call, Done, KEY_ID, Samples, drive};
use crate::process::Server;
use crate::sidecar;

/// How much longer or shorter a sidecar's reply may be than an echo's: its receipt's two numbers
/// are as long as the log is.
const RECEIPT_SLACK_BYTES: usize = 16;

/// What to run.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) measured: Duration,
    pub(crate) dir: Option<PathBuf>,
    /// Loads whose name does not hold this text are left out.
    pub(crate) only: String,
    pub(crate) binary: Option<PathBuf>,
}

/// A server with its connections, its requests, and what it did so far.
struct Contender {
    server: Server,
    connections: Vec<Client>,
    samples: Arc<Samples>,
    /// One list a load, with one number a round.
    results: [Vec<f64>; LOADS.len()],
    decrypt_cpu_seconds: f64,
    decrypt_calls: u64,
}

/// What the sidecar's journal did while 64 callers decrypted.
#[derive(Default)]
struct Journal {
    syncs: i64,
    records: i64,
    /// One number a round.
    sync_p50_us: Vec<f64>,
    sync_p99_us: Vec<f64>,
}

/// The directory of a run. It is removed when a run is over or given up, and stays after an error,
/// because the logs of the servers are in it.
struct Place {
    dir: PathBuf,
    keep: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tell(&format!("left behind: {}: {error}", self.dir.display()));
        }
    }
}

/// Runs it all.
///
/// # Errors
/// If a server does not start, or any call fails.
pub(crate) async fn run(plan: &Plan) -> Result<Report, BenchError> {
    if cfg!(debug_assertions) {
        return Err(BenchError::Unoptimised);
    }
    let binary = match &plan.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => sidecar::build().await?,
    };
    let own = env::current_exe()?;
    let parent = match &plan.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => own.parent().unwrap_or(Path::new(".")).to_owned(),
    };
    let dir = parent.join(format!("ratios-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let mut place = Place { dir, keep: false };
    let ended = run_in(&place.dir, &own, &binary, plan).await;
    place.keep = ended.is_err();
    ended
}

async fn run_in(dir: &Path, own: &Path, binary: &Path, plan: &Plan) -> Result<Report, BenchError> {
    let tls = dir.join("tls");
    certificates::make(&tls)?;

    let ours = sidecar::start(binary, dir, &tls).await?;
    create_key(&ours).await?;
    let durable = start_echo(own, "durable-echo", dir, &tls).await?;
    let bare = start_echo(own, "echo", dir, &tls).await?;
    let mut contenders =
        [Contender::new(ours).await?, Contender::new(durable).await?, Contender::new(bare).await?];
    same_shapes(&contenders).await?;
    let mut journal = Journal::default();
    for round in 0..plan.rounds {
        tell(&format!("round {} of {}", round + 1, plan.rounds));
        measure(&mut contenders, round, plan, &mut journal).await?;
    }
    let [ours, durable, bare] = &contenders;
    let report = report(ours, durable, bare, (plan.rounds, journal))?;
    for contender in contenders {
        contender.server.stop().await?;
    }
    Ok(report)
}

/// One round: each load on each server. Who comes first changes from round to round.
async fn measure(
    contenders: &mut [Contender; 3],
    round: u32,
    plan: &Plan,
    journal: &mut Journal,
) -> Result<(), BenchError> {
    let first = usize::try_from(round).unwrap_or(0) % 3;
    let wanted = |(_, load): &(usize, &Load)| load.bar.contains(&plan.only);
    for (place, load) in LOADS.iter().enumerate().filter(wanted) {
        for who in [first, (first + 1) % 3, (first + 2) % 3] {
            let Some(contender) = contenders.get_mut(who) else { continue };
            let watched = who == 0 && load.call == Call::Decrypt && load.callers == 64;
            let before = if watched { Some(contender.journal().await?) } else { None };
            contender.take(place, load, plan.measured).await?;
            if let Some(before) = before {
                journal.add(&before, &contender.journal().await?);
            }
        }
    }
    Ok(())
}

impl Contender {
    async fn new(server: Server) -> Result<Self, BenchError> {
        let mut connections = Vec::with_capacity(MOST_CONNECTIONS);
        for _ in 0..MOST_CONNECTIONS {
            connections.push(server.connect().await?);
        }
        let client = server.connect().await?;
        let prepared = Samples::prepare(&client).await;
        let samples = Arc::new(prepared.map_err(|status| failed(&server, &status))?);
        Ok(Self {
            server,
            connections,
            samples,
            results: Default::default(),
            decrypt_cpu_seconds: 0.0,
            decrypt_calls: 0,
        })
    }

    /// Takes one load and keeps its number.
    async fn take(
        &mut self,
        place: usize,
        load: &Load,
        measured: Duration,
    ) -> Result<(), BenchError> {
        let connections = self.connections.get(..load.connections).unwrap_or(&self.connections);
        let warm_up = measured / 5;
        let cpu = self.server.cpu_seconds()?;
        let done =
            drive(connections, &self.samples, load.call, load.callers, warm_up, measured).await;
        let server = self.server.name;
        let Done { calls_per_second, p50_us, calls } =
            done.map_err(|failure| BenchError::Call { server, failure: Box::new(failure) })?;
        if calls_per_second == 0.0 {
            let what = "no call was answered within the measured time";
            return Err(BenchError::Wrong { server, what });
        }
        if load.call == Call::Decrypt {
            self.decrypt_cpu_seconds += self.server.cpu_seconds()? - cpu;
            self.decrypt_calls = self.decrypt_calls.saturating_add(calls);
        }
        let number = match (load.measure, load.call) {
            (Measure::P50, _) => p50_us,
            (Measure::Rate, Call::BatchEncrypt | Call::BatchDecrypt) => {
                calls_per_second * BATCH_ITEMS as f64
            }
            (Measure::Rate, _) => calls_per_second,
        };
        if let Some(results) = self.results.get_mut(place) {
            results.push(number);
        }
        Ok(())
    }

    fn median(&self, place: usize) -> f64 {
        median(self.results.get(place).cloned().unwrap_or_default())
    }

    fn cpu_us_per_call(&self) -> f64 {
        self.decrypt_cpu_seconds * 1e6 / self.decrypt_calls as f64
    }

    /// What the sidecar says about its journal.
    async fn journal(&self) -> Result<v1::JournalStatistics, BenchError> {
        let client = self.server.connect().await?;
        let status = client.system().get_status(v1::GetStatusRequest {}).await;
        let status = status.map_err(|status| failed(&self.server, &status))?.into_inner();
        let what = "its status has no statistics of the journal";
        status.journal.ok_or(BenchError::Wrong { server: self.server.name, what })
    }
}

impl Journal {
    fn add(&mut self, before: &v1::JournalStatistics, after: &v1::JournalStatistics) {
        self.syncs += after.syncs.saturating_sub(before.syncs);
        self.records += after.records.saturating_sub(before.records);
        self.sync_p50_us.push(after.sync_p50_us as f64);
        self.sync_p99_us.push(after.sync_p99_us as f64);
    }
}

fn report(
    ours: &Contender,
    durable: &Contender,
    bare: &Contender,
    (rounds, journal): (u32, Journal),
) -> Result<Report, BenchError> {
    let mut bars: Vec<_> = LOADS
        .iter()
        .enumerate()
        .filter(|(place, _)| ours.results.get(*place).is_some_and(|rounds| !rounds.is_empty()))
        .map(|(place, load)| {
            let [ours, durable, bare] = [ours, durable, bare].map(|who| who.median(place));
            Bar::compared(load, ours, durable, bare)
        })
        .collect();
    bars.push(Bar::resident(ours.server.resident_mb()?));
    let statistics = Statistics {
        rounds,
        sync_p50_us: median(journal.sync_p50_us),
        sync_p99_us: median(journal.sync_p99_us),
        group_size: journal.records as f64 / journal.syncs as f64,
        cpu_us_per_call: ours.cpu_us_per_call(),
        durable_echo_cpu_us_per_call: durable.cpu_us_per_call(),
        bare_echo_cpu_us_per_call: bare.cpu_us_per_call(),
    };
    Ok(Report { bars, statistics })
}

/// This program again, as an echo.
async fn start_echo(
    own: &Path,
    name: &'static str,
    dir: &Path,
    tls: &Path,
) -> Result<Server, BenchError> {
    let address = dir.join(format!("{name}.address"));
    let mut command = Command::new(own);
    command.arg(name).arg("--dir").arg(dir).arg("--tls").arg(tls);
    command.arg("--address-file").arg(&address);
    Server::start(name, command, dir, tls, &address).await
}

async fn create_key(server: &Server) -> Result<(), BenchError> {
    let request = v1::CreateKeyRequest { key_id: KEY_ID.to_owned(), ..Default::default() };
    let created = server.connect().await?.keys().create_key(request).await;
    created.map(drop).map_err(|status| failed(server, &status))
}

/// An echo that answers less than the sidecar would be too easy on itself, and one that answers
/// more too hard.
async fn same_shapes(contenders: &[Contender; 3]) -> Result<(), BenchError> {
    let mut replies = Vec::with_capacity(contenders.len());
    for contender in contenders {
        let client = contender.server.connect().await?;
        let bytes = contender.samples.reply_bytes(&client).await;
        replies.push(bytes.map_err(|status| failed(&contender.server, &status))?);
    }
    let [ours, echoes @ ..] = replies.as_slice() else { return Ok(()) };
    for echo in echoes {
        for ((call, found), expected) in Call::ALL.into_iter().zip(*ours).zip(*echo) {
            if found.abs_diff(expected) > RECEIPT_SLACK_BYTES {
                let (server, call) = ("fieldseal", call.as_str());
                return Err(BenchError::Shape { server, call, found, expected });
            }
        }
    }
    Ok(())
}

fn failed(server: &Server, status: &Status) -> BenchError {
    BenchError::Call { server: server.name, failure: Box::new(Failure::from(status)) }
}

/// For whoever waits at a terminal.
pub(crate) fn tell(text: &str) {
    if io::stderr().is_terminal() {
        // Nothing is left to do if standard error is gone.
        let _ = writeln!(io::stderr(), "{text}");
    }
}
