//! The loop that does by itself what is due: rotations by schedule, and what ends with a window.

use std::time::Duration;

use fieldseal_keys::Keys;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(30);

/// The running loop. Dropping it ends it, too.
#[derive(Default)]
pub(crate) struct Jobs {
    stop: Option<watch::Sender<bool>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Jobs {
    pub(crate) fn start(keys: Keys) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(keys, stopped));
        Self { stop: Some(stop), task: Mutex::new(Some(task)) }
    }

    /// Ends the loop; false if there is none. A change that it has begun is finished by a task of
    /// its own.
    pub(crate) async fn stop(&self) -> bool {
        if let Some(stop) = &self.stop {
            stop.send_replace(true);
        }
        let task = self.task.lock().take();
        let Some(task) = task else { return false };
        if task.await.is_err() {
            tracing::error!(event = "job_failed", job = "all", "the loop of jobs failed");
        }
        true
    }
}

async fn run(keys: Keys, mut stopped: watch::Receiver<bool>) {
    loop {
        let turn = async {
            keys.run_due().await;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = keys.woken() => {}
            }
        };
        tokio::select! {
            // An error: the engine is gone.
            _ = stopped.wait_for(|stop| *stop) => return,
            () = turn => {}
        }
    }
}
