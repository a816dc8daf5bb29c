//! Handing the log on as it grows, each target by a task of its own. Calls never wait for it: it reads what
//! is on disk already, and one that hangs or fails only falls behind.

mod file;

use std::time::Duration;

use fieldseal_engine::{Engine, ExportFeed, ExportTarget};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use file::LineFile;

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

impl Exports {
    /// Begins to hand on. Files leave so many bytes of their file system free.
    pub(crate) fn start(engine: &Engine, reserve_bytes: u64) -> Self {
        let (mut tasks, ending) = (JoinSet::new(), CancellationToken::new());
        for feed in engine.export_feeds() {
            let ExportTarget::File(path) = feed.target();
            let file = LineFile::new(path.clone(), reserve_bytes);
            tasks.spawn(hand_on(feed, file, ending.clone()));
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
async fn hand_on(mut feed: ExportFeed, mut file: LineFile, ending: CancellationToken) {
    let mut pause = Pause::default();
    loop {
        let next_look = Instant::now() + LOOK_EVERY;
        let step = tokio::task::spawn_blocking(move || {
            let done = file.step(&mut feed);
            (feed, file, done)
        });
        // Cut off only with the runtime.
        let Ok((stepped, same, done)) = step.await else { return };
        (feed, file) = (stepped, same);
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
            Err(why) => {
                let again_in = pause.longer(&mut feed, why);
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

/// How long to wait after a failure, and what is said of it.
#[derive(Default)]
struct Pause(Option<Duration>);

impl Pause {
    /// It failed, perhaps again.
    fn longer(&mut self, feed: &mut ExportFeed, why: String) -> Duration {
        let pause = self.0.map_or(FIRST_PAUSE, |before| (before * 2).min(LONGEST_PAUSE));
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
