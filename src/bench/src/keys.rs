//! Very many data keys: what a start, a look at a cold one, a census and a rewrap cost.

mod fill;
mod samples;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fieldseal_client::{Client, Failure, v1};
use serde_json::json;
use tokio::process::Command;
use tonic::Status;

use crate::error::BenchError;
use crate::load::KEY_ID;
use crate::process::{Server, resident_mb};
use crate::{KeysArguments, certificates, sidecar};
use samples::{Sample, Times};

/// Callers of a measurement, and their connections.
const CALLERS: usize = 16;
const CONNECTIONS: usize = 4;
/// Values whose data keys are in memory.
const WARM: usize = 64;
/// Values that are decrypted once, each under a data key that is not in memory.
const COLD: usize = 20_000;
/// How long decrypts are measured before the rewrap.
const BEFORE: Duration = Duration::from_secs(10);
/// How often the census is asked for.
const CENSUSES: usize = 100;
/// How often the rewrap's progress is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Fills the installation if need be, and measures.
///
/// # Errors
/// If a server does not start, or any call fails.
pub(crate) async fn run(arguments: &KeysArguments) -> Result<String, BenchError> {
    if cfg!(debug_assertions) {
        return Err(BenchError::Unoptimised);
    }
    let binary = match &arguments.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => sidecar::build().await?,
    };
    let dir = std::path::absolute(&arguments.dir)?;
    let tls = dir.join("tls");
    if !tls.is_dir() {
        fs::create_dir_all(&dir)?;
        certificates::make(&tls)?;
        sidecar::make(&binary, &dir, &tls).await?;
    }
    let server = sidecar::serve(&binary, &dir, &tls).await?;
    let samples = fill::fill(&server, &dir, arguments.count).await?;
    server.end().await?;
    if arguments.only_fill {
        return Ok(String::new());
    }
    let alone = alone(&dir).await?;
    // The first start reads the files; what is measured finds them as a restart does.
    let begun = Instant::now();
    let server = sidecar::serve(&binary, &dir, &tls).await?;
    let started = begun.elapsed();
    let connections = connections(&server).await?;
    let rss_at_start = server.resident_mb()?;
    let scrubbed = scrubbed(&connections).await?;
    let rss_after_scrub = server.resident_mb()?;
    let (warm, cold) = cold(&connections, &samples).await?;
    let rss_after_cold = server.resident_mb()?;
    let census = census(&connections).await?;
    let rewrap = rewrap(&connections, &samples).await?;
    let census_after = self::census(&connections).await?;
    let rss_at_end = server.resident_mb()?;
    server.stop().await?;
    let begun = Instant::now();
    let server = sidecar::serve(&binary, &dir, &tls).await?;
    let after_kill = begun.elapsed();
    server.end().await?;
    let report = json!({
        "data_keys": arguments.count,
        "start_to_ready_s": started.as_secs_f64(),
        "start_after_kill_s": after_kill.as_secs_f64(),
        "sled_alone": alone,
        "scrub_s": scrubbed,
        "rss_mb": {
            "start": rss_at_start, "after_scrub": rss_after_scrub, "after_cold": rss_after_cold,
            "end": rss_at_end,
        },
        "decrypt_us": { "warm": warm.json(), "cold": cold.json() },
        "census_ms": { "before": census, "after": census_after },
        "rewrap": rewrap,
    });
    Ok(if arguments.json { format!("{report}\n") } else { format!("{report:#}\n") })
}

/// What sled alone takes for the same files, in a process of its own.
async fn alone(dir: &Path) -> Result<serde_json::Value, BenchError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("sled-alone").arg(dir.join("installation/state/store"));
    let output = command.kill_on_drop(true).output().await?;
    let said = serde_json::from_slice(&output.stdout);
    said.map_err(|_| BenchError::Build(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Opens a store's database as the sidecar does, without the sidecar.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn sled_alone(dir: &Path) -> Result<(), BenchError> {
    let pid = std::process::id();
    let (before, begun) = (resident_mb(pid)?, Instant::now());
    let config = sled::Config::new().path(dir).cache_capacity(16 << 20).flush_every_ms(None);
    let db = config.open().map_err(std::io::Error::other)?;
    let opened = begun.elapsed().as_secs_f64();
    let opened_mb = resident_mb(pid)? - before;
    let begun = Instant::now();
    let records = db.iter().filter(Result::is_ok).count();
    let read = begun.elapsed().as_secs_f64();
    let read_mb = resident_mb(pid)? - before;
    let bytes = fs::metadata(dir.join("db"))?.len();
    let report = json!({
        "records": records, "file_mb": bytes as f64 / 1e6, "open_s": opened,
        "rss_mb": opened_mb, "read_all_s": read, "rss_after_reading_all_mb": read_mb,
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

async fn connections(server: &Server) -> Result<Vec<Client>, BenchError> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(server.connect().await?);
    }
    Ok(connections)
}

/// Waits for the first scrub; seconds.
async fn scrubbed(connections: &[Client]) -> Result<f64, BenchError> {
    let mut client = connections.first().ok_or(BenchError::Interrupted)?.system();
    let begun = Instant::now();
    loop {
        let status = client.get_status(v1::GetStatusRequest {}).await.map_err(|s| failed(&s))?;
        let scrub = status.into_inner().scrub.unwrap_or_default();
        match scrub.state() {
            v1::ScrubState::Clean => return Ok(begun.elapsed().as_secs_f64()),
            v1::ScrubState::Damaged => {
                let what = "the scrub found damage";
                return Err(BenchError::Wrong { server: "fieldseal", what });
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Decrypts values under data keys that are in memory and under ones that are not, in turn.
async fn cold(
    connections: &[Client],
    samples: &Arc<Vec<Sample>>,
) -> Result<(Times, Times), BenchError> {
    let first = connections.first().ok_or(BenchError::Interrupted)?;
    for sample in samples.iter().take(WARM) {
        sample.ask(&mut first.encryption()).await.map_err(|s| failed(&s))?;
    }
    let tasks = connections.iter().cycle().take(CALLERS).enumerate().map(|(caller, client)| {
        let (mut calls, samples) = (client.encryption(), Arc::clone(samples));
        tokio::spawn(async move {
            let (mut warm, mut cold) = (Times::default(), Times::default());
            let mine = samples.iter().skip(WARM).take(COLD).skip(caller).step_by(CALLERS);
            for (turn, never_asked) in mine.enumerate() {
                let known = samples.get((caller * 7 + turn) % WARM);
                if let Some(known) = known {
                    warm.add(known.ask(&mut calls).await?);
                }
                cold.add(never_asked.ask(&mut calls).await?);
            }
            Ok::<_, Status>((warm, cold))
        })
    });
    let (mut warm, mut cold) = (Times::default(), Times::default());
    for task in tasks.collect::<Vec<_>>() {
        let (more_warm, more_cold) = joined(task.await)?;
        warm.extend(more_warm);
        cold.extend(more_cold);
    }
    Ok((warm, cold))
}

/// The slowest of many.
async fn census(connections: &[Client]) -> Result<f64, BenchError> {
    let mut slowest = Duration::ZERO;
    let mut client = connections.first().ok_or(BenchError::Interrupted)?.keys();
    for _ in 0..CENSUSES {
        let request = v1::GetRotationStatusRequest { name: format!("keys/{KEY_ID}") };
        let begun = Instant::now();
        client.get_rotation_status(request).await.map_err(|s| failed(&s))?;
        slowest = slowest.max(begun.elapsed());
    }
    Ok(slowest.as_secs_f64() * 1e3)
}

/// Decrypts without pause, before a rewrap and while one moves every data key.
async fn rewrap(
    connections: &[Client],
    samples: &Arc<Vec<Sample>>,
) -> Result<serde_json::Value, BenchError> {
    let over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(connections.to_vec(), Arc::clone(samples), Arc::clone(&over)));
    tokio::time::sleep(BEFORE).await;
    over.store(true, Ordering::Relaxed);
    let before = joined(load.await)?;

    let mut client = connections.first().ok_or(BenchError::Interrupted)?.keys();
    let name = format!("keys/{KEY_ID}");
    let rotate = v1::RotateKeyRequest { name: name.clone(), ..Default::default() };
    client.rotate_key(rotate).await.map_err(|s| failed(&s))?;
    over.store(false, Ordering::Relaxed);
    let load =
        tokio::spawn(self::load(connections.to_vec(), Arc::clone(samples), Arc::clone(&over)));
    let begun = Instant::now();
    let request = v1::RewrapDataKeysRequest { name: name.clone(), ..Default::default() };
    let started = client.rewrap_data_keys(request).await.map_err(|s| failed(&s))?;
    let mut job = started.into_inner().job.unwrap_or_default();
    while job.state() == v1::RewrapJobState::Running {
        tokio::time::sleep(LOOK).await;
        let request = v1::GetRewrapJobRequest { name: format!("{name}/rewrap") };
        let found = client.get_rewrap_job(request).await.map_err(|s| failed(&s))?;
        job = found.into_inner().job.unwrap_or_default();
    }
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let during = joined(load.await)?;
    if job.state() != v1::RewrapJobState::Done {
        return Err(BenchError::Wrong { server: "fieldseal", what: "the rewrap is not done" });
    }
    Ok(json!({
        "moved": job.moved_data_keys, "seconds": took.as_secs_f64(),
        "before": before.json(), "during": during.json(),
        "before_calls_per_second": before.len() as f64 / BEFORE.as_secs_f64(),
        "during_calls_per_second": during.len() as f64 / took.as_secs_f64(),
    }))
}

async fn load(
    connections: Vec<Client>,
    samples: Arc<Vec<Sample>>,
    over: Arc<AtomicBool>,
) -> Result<Times, Status> {
    let callers = connections.iter().cycle().take(CALLERS).enumerate().map(|(caller, client)| {
        let (mut calls, samples) = (client.encryption(), Arc::clone(&samples));
        let over = Arc::clone(&over);
        tokio::spawn(async move {
            let (mut times, mut turn) = (Times::default(), caller);
            while !over.load(Ordering::Relaxed) {
                if let Some(sample) = samples.get(turn % WARM) {
                    times.add(sample.ask(&mut calls).await?);
                }
                turn += 1;
            }
            Ok::<_, Status>(times)
        })
    });
    let mut times = Times::default();
    for caller in callers.collect::<Vec<_>>() {
        let more = caller.await.unwrap_or_else(|_| Err(Status::internal("no task")))?;
        times.extend(more);
    }
    Ok(times)
}

fn joined<T>(ended: Result<Result<T, Status>, tokio::task::JoinError>) -> Result<T, BenchError> {
    ended.unwrap_or_else(|_| Err(Status::internal("no task"))).map_err(|s| failed(&s))
}

fn failed(status: &Status) -> BenchError {
    BenchError::Call { server: "fieldseal", failure: Box::new(Failure::from(status)) }
}
