//! Refusals that are alike are counted for a while (`audit.refusal_window_seconds`), and recorded together
//! when that is over, and at the stop.

use std::sync::{Arc, Weak};
use std::time::Duration;

use fieldseal_audit::JournalError;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::engine::{Engine, Inner};

/// How often it is looked which windows are over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The loop that looks. Dropping it ends it, too.
#[derive(Default)]
pub(crate) struct Counting {
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Counting {
    /// Counts from now on.
    pub(crate) fn start(engine: &Engine, window: Duration) {
        let inner = &engine.inner;
        inner.journal.count_refusals(window);
        if !window.is_zero() {
            let stopped = inner.counting.stop.subscribe();
            let task = tokio::spawn(run(Arc::downgrade(inner), stopped));
            *inner.counting.task.lock() = Some(task);
        }
    }

    /// Records what was counted, and counts no more.
    pub(crate) async fn stop(engine: &Engine) -> Result<(), JournalError> {
        let inner = &engine.inner;
        inner.counting.stop.send_replace(true);
        let task = inner.counting.task.lock().take();
        if let Some(task) = task {
            // It is never cut off within a record.
            drop(task.await);
        }
        inner.journal.record_counted(true).await
    }
}

async fn run(engine: Weak<Inner>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            // An error: the engine is gone.
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let Some(inner) = engine.upgrade() else { return };
        if let Err(error) = inner.journal.record_counted(false).await {
            tracing::warn!(event = "refusals_not_recorded", %error, "tried again in a second");
        }
    }
}
