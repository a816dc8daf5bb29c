//! What an error of `accept` means.

use std::io;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Grows with every error that says that accepting again at once would fail again.
#[derive(Default)]
pub(crate) struct AcceptBackoff {
    pause: Duration,
}

impl AcceptBackoff {
    /// How long to wait before accepting again. `None`: not at all, only this one connection
    /// failed.
    pub(crate) fn after(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        let only_this_one = [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted];
        if only_this_one.contains(&error.kind()) {
            return None;
        }
        // No more descriptors (EMFILE, ENFILE), no memory: it takes a while until some are free.
        self.pause = self.pause.saturating_mul(2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        Some(self.pause)
    }

    pub(crate) fn accepted(&mut self) {
        self.pause = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_descriptors_slow_the_loop_down_and_a_reset_does_not() {
        let mut backoff = AcceptBackoff::default();
        let full = io::Error::from_raw_os_error(24); // EMFILE
        assert_eq!(backoff.after(&full), Some(FIRST_PAUSE));
        assert_eq!(backoff.after(&full), Some(FIRST_PAUSE * 2));
        assert_eq!(backoff.after(&io::ErrorKind::ConnectionReset.into()), None);
        for _ in 0..20 {
            backoff.after(&full);
        }
        assert_eq!(backoff.after(&full), Some(LONGEST_PAUSE));
        backoff.accepted();
        assert_eq!(backoff.after(&full), Some(FIRST_PAUSE));
    }
}
