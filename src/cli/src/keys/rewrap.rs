//! `key rewrap`: begins it, shows how far it is, cancels it.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use fieldseal_api::v1;
use fieldseal_client::KeyClient;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{event, number, state_name};
use crate::arguments::KeyRewrapArguments;
use crate::connection::{self, failure};
use crate::failure::{Exit, Failure};
use crate::output::{Output, counted, grouped, note};
use crate::signals::StopSignals;
use crate::times;
use crate::values;

/// How often it looks how far the job is.
const LOOK: Duration = Duration::from_millis(250);
/// How often it says so where nobody sees a bar.
const LINE: Duration = Duration::from_secs(5);

/// Runs `key rewrap`.
pub(crate) async fn run(arguments: KeyRewrapArguments, output: &Output) -> Result<(), Failure> {
    let mut client = connection::connect().await?.keys();
    if arguments.cancel {
        return cancel(&mut client, arguments, output).await;
    }
    let name = format!("keys/{}", arguments.change.key);
    if arguments.watch {
        let job = job(&mut client, &name).await?;
        return watch(&mut client, &name, job, None, output).await;
    }
    let request = v1::RewrapDataKeysRequest {
        name: name.clone(),
        etag: arguments.etag,
        request_id: arguments.change.request_id,
        validate_only: arguments.change.validate_only,
        reason: Some(values::reason(&arguments.change.reason)),
        max_per_second: arguments.max_per_second.unwrap_or(0),
    };
    let started = client.rewrap_data_keys(request).await.map_err(|s| failure(&s))?.into_inner();
    let job = started.job.ok_or_else(no_job)?;
    let event = event(started.receipt.as_ref());
    if arguments.change.validate_only {
        return output.show(
            || json!({ "valid": true, "job": job_json(&job) }),
            || {
                let waiting = counted(unsigned(job.remaining_data_keys), "data key");
                let target = number(&job.target_version);
                let what = format!("{waiting} would move under version {target} of {name}");
                format!("{what}{}; nothing was changed", left(&job))
            },
        );
    }
    if arguments.detach {
        return output.show(
            || json!({ "job": job_json(&job), "event": event }),
            || {
                let waiting = counted(unsigned(job.remaining_data_keys), "data key");
                let target = number(&job.target_version);
                format!("{} is moving {waiting} under version {target}", job.name)
            },
        );
    }
    watch(&mut client, &name, job, event, output).await
}

async fn cancel(
    client: &mut KeyClient,
    arguments: KeyRewrapArguments,
    output: &Output,
) -> Result<(), Failure> {
    let request = v1::CancelRewrapJobRequest {
        name: format!("keys/{}/rewrap", arguments.change.key),
        etag: arguments.etag,
        request_id: arguments.change.request_id,
        validate_only: arguments.change.validate_only,
        reason: Some(values::reason(&arguments.change.reason)),
    };
    let cancelled = client.cancel_rewrap_job(request).await.map_err(|s| failure(&s))?.into_inner();
    let job = cancelled.job.ok_or_else(no_job)?;
    if arguments.change.validate_only {
        return output.show(
            || json!({ "valid": true, "job": job_json(&job) }),
            || format!("{} could be cancelled; nothing was changed", job.name),
        );
    }
    output.show(
        || json!({ "job": job_json(&job), "event": event(cancelled.receipt.as_ref()) }),
        || {
            let (moved, waiting) =
                (unsigned(job.moved_data_keys), unsigned(job.remaining_data_keys));
            format!(
                "cancelled {}: {} moved and stay so, {} left",
                job.name,
                counted(moved, "data key"),
                grouped(waiting)
            )
        },
    )
}

/// Shows how far the job is until it is over, or until Ctrl-C: the job goes on then.
async fn watch(
    client: &mut KeyClient,
    name: &str,
    mut job: v1::RewrapJob,
    event: Option<String>,
    output: &Output,
) -> Result<(), Failure> {
    let mut signals = StopSignals::listen()?;
    let mut progress = Progress::begin(name, &job);
    while job.state() == v1::RewrapJobState::Running {
        progress.at(&job);
        let next = async {
            tokio::time::sleep(LOOK).await;
            self::job(client, name).await
        };
        job = tokio::select! {
            next = next => next?,
            () = signals.received() => {
                drop(progress);
                note(&format!(
                    "the rewrap goes on: fieldseal key rewrap {0} --watch shows it again, and \
                     fieldseal key rewrap {0} --cancel ends it",
                    name.strip_prefix("keys/").unwrap_or(name)
                ));
                break;
            }
        };
    }
    ended(&job, event, output)
}

fn ended(job: &v1::RewrapJob, event: Option<String>, output: &Output) -> Result<(), Failure> {
    if job.state() == v1::RewrapJobState::Failed {
        let what = format!("{} failed: {}", job.name, job.failure);
        return Err(Failure::new(Exit::Internal, "REWRAP_FAILED", what)
            .advise("what it has moved stays moved; mend the cause, then begin it again"));
    }
    output.show(
        || json!({ "job": job_json(job), "event": event }),
        || {
            let moved = counted(unsigned(job.moved_data_keys), "data key");
            let waiting = grouped(unsigned(job.remaining_data_keys));
            let target = number(&job.target_version);
            match job.state() {
                v1::RewrapJobState::Done => {
                    format!("moved {moved} under version {target}{}", left(job))
                }
                v1::RewrapJobState::Cancelled => {
                    format!("{} was cancelled: {moved} moved, {waiting} left", job.name)
                }
                _ => format!("{} is running: {moved} moved, {waiting} left", job.name),
            }
        },
    )
}

/// What the job does not move, and why.
fn left(job: &v1::RewrapJob) -> String {
    let left = job.left_behind.iter().map(|left| {
        let (count, state) = (unsigned(left.data_keys), state_name(left.state()));
        let (keys, version) = (counted(count, "data key"), number(&left.version));
        format!("; {keys} left, because version {version} is {state}")
    });
    left.collect()
}

async fn job(client: &mut KeyClient, name: &str) -> Result<v1::RewrapJob, Failure> {
    let request = v1::GetRewrapJobRequest { name: format!("{name}/rewrap") };
    let found = client.get_rewrap_job(request).await.map_err(|s| failure(&s))?.into_inner();
    found.job.ok_or_else(no_job)
}

fn no_job() -> Failure {
    Failure::new(Exit::Internal, "INTERNAL", "the sidecar answered without a job")
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn job_json(job: &v1::RewrapJob) -> Value {
    let state = job.state().as_str_name();
    let left = job.left_behind.iter().map(|left| {
        json!({
            "version": left.version, "state": state_name(left.state()),
            "data_keys": left.data_keys,
        })
    });
    json!({
        "name": job.name,
        "state": state.strip_prefix("REWRAP_JOB_STATE_").unwrap_or(state),
        "target_version": job.target_version,
        "moved_data_keys": job.moved_data_keys,
        "remaining_data_keys": job.remaining_data_keys,
        "left_behind": left.collect::<Vec<_>>(),
        "start_time": times::json(job.start_time.as_ref()),
        "end_time": times::json(job.end_time.as_ref()),
        "max_per_second": job.max_per_second,
        "data_keys_per_second": job.data_keys_per_second,
        "failure": job.failure,
    })
}

/// A bar on a terminal, a line from time to time elsewhere: both on standard error.
enum Progress {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
}

impl Progress {
    fn begin(name: &str, job: &v1::RewrapJob) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: None };
        }
        let bar = ProgressBar::new(total(job));
        let template = "{msg} {bar:40} {human_pos}/{human_len} data keys  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(format!("rewrapping {name}"));
        Self::Bar(bar)
    }

    fn at(&mut self, job: &v1::RewrapJob) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(total(job));
                bar.set_position(unsigned(job.moved_data_keys));
            }
            Self::Lines { last } if last.is_none_or(|last| last.elapsed() >= LINE) => {
                *last = Some(Instant::now());
                let (moved, rate) = (unsigned(job.moved_data_keys), job.data_keys_per_second);
                let (moved, all) = (grouped(moved), grouped(total(job)));
                note(&format!("{moved} of {all} data keys moved, {rate} a second"));
            }
            Self::Lines { .. } => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn total(job: &v1::RewrapJob) -> u64 {
    unsigned(job.moved_data_keys).saturating_add(unsigned(job.remaining_data_keys))
}
