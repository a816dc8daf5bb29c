//! What the process does by itself when its time has come.

use std::sync::Arc;
use std::time::Duration;

use fieldseal_model::KeyVersionState;

use crate::error::KeyError;
use crate::keys::{Inner, Keys};

/// How long a stop waits for the last record of the clock.
const LAST_TICK: Duration = Duration::from_secs(5);

impl Keys {
    /// Does everything that is due, one after the other, and never twice at the same time. What
    /// fails is a log line, and due again the next time.
    pub async fn run_due(&self) {
        let _one_at_a_time = self.inner.due.lock().await;
        let inner = Arc::clone(&self.inner);
        self.job("clock", async move { inner.tick().await }).await;
        let inner = Arc::clone(&self.inner);
        self.job("erase", async move { inner.erase_due().await }).await;
        self.keep_use().await;
    }

    /// Waits until something may be due earlier than expected.
    pub async fn woken(&self) {
        self.inner.wake.notified().await;
    }

    /// Stores what must not be lost with the process: before journal and store are closed.
    pub async fn stopping(&self) {
        let inner = Arc::clone(&self.inner);
        let job = self.job("clock", async move { inner.last_tick().await });
        // A log that has just gone away must not keep the process from stopping.
        if tokio::time::timeout(LAST_TICK, job).await.is_err() {
            tracing::error!(event = "job_failed", job = "clock", "the audit log does not answer");
        }
    }

    /// Runs one job to its end even if whoever waits for it goes away.
    async fn job(
        &self,
        job: &'static str,
        work: impl Future<Output = Result<(), KeyError>> + Send + 'static,
    ) {
        if let Err(error) = self.inner.finish(work).await {
            tracing::error!(event = "job_failed", job, %error, "tried again later");
        }
    }
}

impl Inner {
    /// Whether a window is open that the installation's clock will end.
    pub(crate) fn is_waiting(&self) -> bool {
        let scheduled = |state| state == KeyVersionState::DestroyScheduled;
        self.registry.any_version(|version| scheduled(version.state()))
            || self.partitions.waiting_count() > 0
    }
}
