//! The loop that does by itself what is due: rotations by schedule, and what ends with a window.

use std::sync::{Arc, Weak};
use std::time::Duration;

use fieldseal_store::StoreError;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::engine::{Engine, Inner};

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(30);

/// The running loop. Dropping it ends it, too.
#[derive(Default)]
pub(crate) struct Jobs {
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Jobs {
    /// Starts the loop of an engine that serves.
    pub(crate) fn start(engine: &Engine) {
        let jobs = &engine.inner.jobs;
        let task = tokio::spawn(run(Arc::downgrade(&engine.inner), jobs.stop.subscribe()));
        *jobs.task.lock() = Some(task);
    }

    /// Ends the loop; false if there is none. A change that it has begun is finished by a task of
    /// its own.
    pub(crate) async fn stop(&self) -> bool {
        self.stop.send_replace(true);
        let task = self.task.lock().take();
        let Some(task) = task else { return false };
        if task.await.is_err() {
            tracing::error!(event = "job_failed", job = "all", "the loop of jobs failed");
        }
        true
    }
}

impl Engine {
    /// Does now what is due. By itself that is looked at every 30 seconds, and after what makes it
    /// due earlier.
    pub async fn run_due(&self) {
        self.inner.keys.run_due().await;
        if let Err(error) = self.leave_the_files().await {
            tracing::error!(event = "job_failed", job = "rewrite", %error, "tried again later");
        }
    }

    /// What was erased leaves the generations and the store's own files. The store says that it is
    /// due until both is done.
    async fn leave_the_files(&self) -> Result<(), StoreError> {
        if !self.inner.store.is_rewrite_due() {
            return Ok(());
        }
        self.renew_generations().await?;
        self.inner.store.rewrite().await?;
        tracing::info!(event = "store_rewritten", "nothing that was erased is in its files");
        Ok(())
    }
}

async fn run(engine: Weak<Inner>, mut stopped: watch::Receiver<bool>) {
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let keys = inner.keys.clone();
        let turn = async {
            Engine { inner }.run_due().await;
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
