//! Log lines about refused connections, so few that nobody can fill a disk with them.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
const LINES_PER_WINDOW: u32 = 20;

/// Writes at most 20 lines a second; the first line of a later second says how many are missing.
pub(super) struct RefusalLog {
    window: Mutex<Window>,
}

struct Window {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl RefusalLog {
    pub(super) fn new() -> Self {
        let window = Window { began: Instant::now(), lines: 0, left_out: 0 };
        Self { window: Mutex::new(window) }
    }

    pub(super) fn line(&self, peer: SocketAddr, reason: &dyn std::fmt::Display) {
        if let Some(left_out) = self.admit(Instant::now()) {
            tracing::warn!(event = "connection_refused", %peer, %reason, left_out);
        }
    }

    /// `None` if this line is one too many, else how many were left out before it.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.began) >= WINDOW {
            window.began = now;
            window.lines = 0;
        }
        if window.lines >= LINES_PER_WINDOW {
            window.left_out = window.left_out.saturating_add(1);
            return None;
        }
        window.lines = window.lines.saturating_add(1);
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_and_the_missing_ones_are_counted() {
        let log = RefusalLog::new();
        let start = Instant::now();
        let written = (0..50).filter(|_| log.admit(start).is_some()).count();
        assert_eq!(written, 20);
        assert_eq!(log.admit(start + WINDOW * 2), Some(30));
        assert_eq!(log.admit(start + WINDOW * 2), Some(0));
    }
}
