//! When to stop: Ctrl-C, SIGTERM, and for some commands the end of the terminal. When to read the
//! policy again: SIGHUP, where it does not mean the end.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Exit, Failure};

/// SIGHUP's bit in the masks of /proc (proc_pid_status(5)).
const HANGUP_BIT: u64 = 1;

/// The signals that end a command in good order.
pub(crate) struct StopSignals {
    signals: Vec<Signal>,
}

impl StopSignals {
    /// Takes SIGTERM and Ctrl-C over. From now on they no longer end the process by themselves.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Self::of([SignalKind::terminate(), SignalKind::interrupt()])
    }

    /// The same, and SIGHUP, which a terminal sends when it is closed. Where that is ignored
    /// (`nohup`) it stays ignored.
    pub(crate) fn listen_with_hangup() -> Result<Self, Failure> {
        let mut kinds = vec![SignalKind::terminate(), SignalKind::interrupt()];
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if !hangup_is_ignored(&status) {
            kinds.push(SignalKind::hangup());
        }
        Self::of(kinds)
    }

    fn of(kinds: impl IntoIterator<Item = SignalKind>) -> Result<Self, Failure> {
        let signals = kinds.into_iter().map(signal).collect::<Result<_, _>>();
        let signals = signals.map_err(|e| unheard(&e))?;
        Ok(Self { signals })
    }

    /// Waits for one of them.
    pub(crate) async fn received(&mut self) {
        poll_fn(|context| {
            let mut signals = self.signals.iter_mut();
            if signals.any(|signal| signal.poll_recv(context).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// The signal that has a sidecar read its policy again.
pub(crate) struct ReloadSignal(Option<Signal>);

impl ReloadSignal {
    /// Takes SIGHUP over. From now on it no longer ends the process.
    pub(crate) fn listen() -> Result<Self, Failure> {
        signal(SignalKind::hangup()).map(Some).map(Self).map_err(|e| unheard(&e))
    }

    /// For a command that SIGHUP ends.
    pub(crate) const fn never() -> Self {
        Self(None)
    }

    /// Waits for it. Several that come close together are one.
    pub(crate) async fn received(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                if signal.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
            }
            None => std::future::pending().await,
        }
    }
}

fn unheard(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Internal, "IO_ERROR", format!("signals cannot be received: {error}"))
}

/// A command that one of them ended. `left` says what became of its work.
pub(crate) fn interrupted(left: &str) -> Failure {
    Failure::new(Exit::Interrupted, "INTERRUPTED", format!("interrupted; {left}"))
}

fn hangup_is_ignored(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    mask.is_some_and(|mask| mask & HANGUP_BIT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_seen() {
        assert!(hangup_is_ignored("Name:\tx\nSigIgn:\t0000000000001001\n"));
        assert!(!hangup_is_ignored("Name:\tx\nSigIgn:\t0000000000001000\n"));
        assert!(!hangup_is_ignored(""));
    }
}
