//! When to stop: SIGTERM, or Ctrl-C.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Exit, Failure};

/// The two signals that end a sidecar in good order.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over. From now on they no longer end the process by themselves.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |e: std::io::Error| {
            Failure::new(Exit::Internal, "IO_ERROR", format!("signals cannot be received: {e}"))
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for one of them.
    pub(crate) async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
