//! How fast the audit log grows, and when there is no space for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far the rate looks back.
const WINDOW: Duration = Duration::from_secs(300);
/// How far apart the looks are that it is made of.
const STEP: Duration = Duration::from_secs(5);
/// Ten years: what grows so slowly is never full.
const NEVER: f64 = 315_360_000.0;

/// How many bytes were written by when.
#[derive(Debug, Default)]
pub(super) struct Growth(VecDeque<(Instant, u64)>);

impl Growth {
    /// Looks at the number of bytes that were ever written. Looks that come soon after another are
    /// not kept.
    pub(super) fn look(&mut self, now: Instant, bytes: u64) {
        if self.0.back().is_some_and(|(last, _)| now.saturating_duration_since(*last) < STEP) {
            return;
        }
        self.0.push_back((now, bytes));
        // One look from before the window stays: the rate is over all of it.
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// In how many seconds `room` more bytes are written, at the rate since the oldest look; at most
    /// ten years.
    pub(super) fn seconds_until(&self, now: Instant, bytes: u64, room: u64) -> f64 {
        let Some((then, before)) = self.0.front() else { return NEVER };
        let elapsed = now.saturating_duration_since(*then).as_secs_f64();
        let grown = bytes.saturating_sub(*before) as f64;
        if grown <= 0.0 || elapsed <= 0.0 {
            return NEVER;
        }
        (room as f64 * elapsed / grown).min(NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_rate_is_that_of_the_last_five_minutes() {
        let (mut growth, start) = (Growth::default(), Instant::now());
        assert!(growth.seconds_until(start, 0, 0) >= NEVER);
        // 1,000 bytes a second for an hour, then 10.
        let mut bytes = 0;
        for second in 0..3_600 {
            bytes += 1_000;
            growth.look(start + seconds(second), bytes);
        }
        let until = growth.seconds_until(start + seconds(3_599), bytes, 1_000_000);
        assert!((990.0..1_010.0).contains(&until), "{until}");
        for second in 3_600..4_000 {
            bytes += 10;
            growth.look(start + seconds(second), bytes);
        }
        let until = growth.seconds_until(start + seconds(3_999), bytes, 1_000_000);
        assert!((99_000.0..101_000.0).contains(&until), "{until}");
        assert!(growth.0.len() < 70, "{} looks are kept", growth.0.len());
    }

    #[test]
    fn a_log_that_rests_is_never_full_and_one_without_room_is_now() {
        let (mut growth, start) = (Growth::default(), Instant::now());
        growth.look(start, 500);
        assert!(growth.seconds_until(start + seconds(60), 500, 1) >= NEVER);
        assert!(growth.seconds_until(start + seconds(60), 501, 0) <= 0.0);
        assert!(growth.seconds_until(start + seconds(60), 501, u64::MAX) >= NEVER);
    }
}
