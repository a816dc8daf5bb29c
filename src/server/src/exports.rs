//! Handing the log on as it grows, each target by a task of its own. Calls never wait for it: it reads what
//! is on disk already, and one that hangs or fails only falls behind.

mod connector;
mod file;
mod messages;
mod otlp;

use std::time::Duration;

use fieldseal_engine::{Engine, ExportFeed, ExportTarget};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::ExportSettings;
use crate::transport::TlsError;
pub(crate) use connector::Connector;
use file::LineFile;
use otlp::Collector;

/// Between two looks at a log whose end was reached: each costs some syncs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After the first failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long the last records of the log may take when the sidecar stops.
const LAST: Duration = Duration::from_secs(10);

/// The tasks, one for each target.
pub(crate) struct Exports {
    tasks: JoinSet<()>,
    ending: CancellationToken,
}

/// How to reach the collector, if there is one to reach.
///
/// # Errors
/// If the authorities that issue its certificate cannot be used.
pub(crate) fn collector(settings: &ExportSettings) -> Result<Connector, TlsError> {
    Connector::new(settings.otlp_ca.as_deref())
}

impl Exports {
    /// Begins to hand on. Files leave so many bytes of their file system free.
    pub(crate) fn start(engine: &Engine, reserve_bytes: u64, connector: Connector) -> Self {
        let (mut tasks, ending) = (JoinSet::new(), CancellationToken::new());
        for feed in engine.export_feeds() {
            let sink = match feed.target() {
                ExportTarget::File(path) => Sink::File(LineFile::new(path.clone(), reserve_bytes)),
                ExportTarget::Otlp { endpoint, .. } => {
                    // It was parsed when the configuration was read.
                    let uri = endpoint.parse().unwrap_or_default();
                    Sink::Otlp(Collector::new(uri, connector.clone()))
                }
            };
            tasks.spawn(hand_on(feed, sink, ending.clone()));
        }
        Self { tasks, ending }
    }

    /// Hands on what there still is, once the log is closed. What takes too long is left for the next
    /// start.
    pub(crate) async fn end(mut self) {
        self.ending.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(LAST, all).await.is_err() {
            tracing::warn!(event = "audit_export_unfinished", "the next start hands on the rest");
        }
    }
}

/// Ends once it is ending and everything was handed on, or failed.
async fn hand_on(mut feed: ExportFeed, mut sink: Sink, ending: CancellationToken) {
    let mut pause = Pause::default();
    loop {
        let next_look = Instant::now() + LOOK_EVERY;
        let Some((stepped, same, done)) = sink.step(feed).await else { return };
        (feed, sink) = (stepped, same);
        let is_ending = ending.is_cancelled();
        match done {
            Ok(more) => {
                pause.over(&mut feed);
                match more {
                    true => {}
                    false if is_ending => return,
                    false => {
                        tokio::select! {
                            () = async { feed.grown().await; sleep_until(next_look).await } => {}
                            () = ending.cancelled() => {}
                        }
                    }
                }
            }
            Err(trouble) => {
                let again_in = pause.longer(&mut feed, trouble);
                if is_ending {
                    return;
                }
                tokio::select! {
                    () = sleep(again_in) => {}
                    () = ending.cancelled() => {}
                }
            }
        }
    }
}

enum Sink {
    File(LineFile),
    Otlp(Collector),
}

impl Sink {
    /// Hands on the next records; whether there may be more. `None` if the runtime ends.
    async fn step(self, feed: ExportFeed) -> Option<(ExportFeed, Self, Result<bool, Trouble>)> {
        match self {
            Self::File(file) => {
                let ((feed, file), done) =
                    beside((feed, file), |(feed, file)| file.step(feed)).await?;
                Some((feed, Self::File(file), done.map_err(Trouble::from)))
            }
            Self::Otlp(mut collector) => {
                let (feed, done) = collector.step(feed).await?;
                Some((feed, Self::Otlp(collector), done))
            }
        }
    }
}

/// Does something that blocks; `None` if the runtime ends before.
async fn beside<T: Send + 'static, R: Send + 'static>(
    mut with: T,
    work: impl FnOnce(&mut T) -> R + Send + 'static,
) -> Option<(T, R)> {
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&mut with);
        (with, done)
    });
    done.await.ok()
}

/// Why records were not handed on.
struct Trouble {
    why: String,
    /// It is not tried again before.
    not_before: Duration,
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self { why, not_before: Duration::ZERO }
    }
}

/// How long to wait after a failure, and what is said of it.
#[derive(Default)]
struct Pause(Option<Duration>);

impl Pause {
    /// It failed, perhaps again.
    fn longer(&mut self, feed: &mut ExportFeed, trouble: Trouble) -> Duration {
        let Trouble { why, not_before } = trouble;
        let pause = self.0.map_or(FIRST_PAUSE, |before| (before * 2).min(LONGEST_PAUSE));
        let pause = pause.max(not_before);
        let (target, again_in_seconds) = (feed.target().kind(), pause.as_secs());
        tracing::error!(event = "audit_export_failed", target, error = why, again_in_seconds);
        feed.failed(why);
        *self.0.insert(pause)
    }

    /// It did not fail.
    fn over(&mut self, feed: &mut ExportFeed) {
        if self.0.take().is_some() {
            let target = feed.target().kind();
            tracing::info!(event = "audit_export_ok", target, "the log is handed on again");
            feed.goes_well();
        }
    }
}
