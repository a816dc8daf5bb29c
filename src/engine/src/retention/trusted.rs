//! Whether the clock is to be believed before anything goes for good because it is old.

use std::time::Duration;

use fieldseal_model::Timestamp;

/// By how much the time of day may be ahead of what the log and the steady clock make of it.
const TOLERATED: Duration = Duration::from_secs(2 * 24 * 3600);
/// After so much time that was seen to pass, one that stays ahead is believed.
const BELIEVED: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the time of day is compared with: the newest record from before this start, and the steady clock since
/// then. A clock that jumps ahead, or a machine that was off for long, is found so. A restart takes the records
/// of the one before as they are.
pub(super) struct Trusted {
    /// A time of day, and the steady clock then.
    known: Option<(Timestamp, Duration)>,
    /// When the time of day was first found to be ahead, on the steady clock.
    ahead_since: Option<Duration>,
}

impl Trusted {
    /// `newest` is when the newest record from before this start was made.
    pub(super) const fn new(newest: Option<Timestamp>, steady: Duration) -> Self {
        let known = match newest {
            Some(newest) => Some((newest, steady)),
            None => None,
        };
        Self { known, ahead_since: None }
    }

    /// Whether it is what it should be by now.
    pub(super) fn is(&mut self, now: Timestamp, steady: Duration) -> bool {
        let Some((then, at)) = self.known else {
            self.known = Some((now, steady));
            return true;
        };
        let expected = then.plus(steady.saturating_sub(at));
        let since = *self.ahead_since.get_or_insert(steady);
        let is_believed =
            now <= expected.plus(TOLERATED) || steady.saturating_sub(since) >= BELIEVED;
        if is_believed {
            self.ahead_since = None;
            // It may go back again; what was seen to pass stays.
            self.known = Some((now.max(expected), steady));
        }
        is_believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_clock_that_is_ahead_is_believed_after_a_week_that_passed() {
        let begun = Timestamp::from_unix_nanos(1_790_000_000_000_000_000);
        let mut trusted = Trusted::new(Some(begun), DAY);
        assert!(trusted.is(begun.plus(DAY), DAY), "off for a day");
        assert!(trusted.is(begun.plus(11 * DAY), 11 * DAY), "ten days that were seen");
        let jump = 700 * DAY;
        assert!(!trusted.is(begun.plus(12 * DAY).plus(jump), 12 * DAY));
        assert!(!trusted.is(begun.plus(18 * DAY).plus(jump), 18 * DAY));
        // It was set right: nothing is remembered of it.
        assert!(trusted.is(begun.plus(19 * DAY), 19 * DAY));
        assert!(!trusted.is(begun.plus(20 * DAY).plus(jump), 20 * DAY));
        assert!(!trusted.is(begun.plus(26 * DAY).plus(jump), 26 * DAY));
        assert!(trusted.is(begun.plus(27 * DAY).plus(jump), 27 * DAY));
        assert!(trusted.is(begun.plus(28 * DAY).plus(jump), 28 * DAY));
    }

    #[test]
    fn one_that_goes_back_and_forth_gains_nothing() {
        let begun = Timestamp::from_unix_nanos(1_790_000_000_000_000_000);
        let mut trusted = Trusted::new(None, DAY);
        assert!(trusted.is(begun, DAY), "the log's first start");
        for day in 2..40 {
            let at = begun.plus(DAY * day);
            let ahead = at.plus(3 * DAY);
            assert!(trusted.is(begun, DAY * day), "behind");
            assert!(!trusted.is(ahead.plus(DAY), DAY * day), "ahead on day {day}");
        }
    }
}
