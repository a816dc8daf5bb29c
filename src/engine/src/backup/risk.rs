//! The data keys that a lost disk would take with it: those that are in no backup and in no copy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fieldseal_model::Timestamp;
use parking_lot::Mutex;

use crate::engine::Engine;

/// How long a data key may be at risk before somebody is told, and how often it is told again.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
const AGAIN: Duration = Duration::from_secs(3600);

/// Counts what is at risk.
#[derive(Default)]
pub(crate) struct Risk {
    /// Nothing is at risk: everything is copied first, or lives as long as the process only.
    is_none: bool,
    /// Data keys younger than the newest backup that were there at the start.
    found: AtomicU64,
    /// How many had been made since the start when the newest backup was.
    backed_up: AtomicU64,
    since: Mutex<Since>,
}

#[derive(Default)]
struct Since {
    /// When the oldest of them was made, as far as that is known.
    began: Option<Timestamp>,
    told: Option<Timestamp>,
}

impl Risk {
    pub(super) fn new(is_none: bool) -> Self {
        Self { is_none, ..Self::default() }
    }

    /// What was there at the start.
    pub(crate) fn found(&self, count: u64, oldest: Option<Timestamp>) {
        self.found.fetch_add(count, Ordering::Relaxed);
        let mut since = self.since.lock();
        since.began = since.began.into_iter().chain(oldest).min();
    }

    /// Everything that had been made by then is in a backup now.
    pub(super) fn backed_up(&self, made: u64) {
        self.found.store(0, Ordering::Relaxed);
        self.backed_up.store(made, Ordering::Relaxed);
        *self.since.lock() = Since::default();
    }

    fn count(&self, made: u64) -> u64 {
        if self.is_none {
            return 0;
        }
        let since = made.saturating_sub(self.backed_up.load(Ordering::Relaxed));
        self.found.load(Ordering::Relaxed).saturating_add(since)
    }

    /// Whether to tell of so many now.
    fn is_due(&self, count: u64, now: Timestamp) -> bool {
        let mut since = self.since.lock();
        if count == 0 {
            *since = Since::default();
            return false;
        }
        let began = *since.began.get_or_insert(now);
        let due =
            now.since(began) >= PATIENCE && since.told.is_none_or(|told| now.since(told) >= AGAIN);
        if due {
            since.told = Some(now);
        }
        due
    }
}

impl Engine {
    /// How many data keys are in no backup and in no copy.
    #[must_use]
    pub fn data_keys_at_risk(&self) -> u64 {
        self.inner.backups.risk.count(self.inner.keys.statistics().data_keys_made)
    }

    /// The same, once it is time to warn of them: 15 minutes after the first, and every hour then.
    #[must_use]
    pub fn risk_to_tell(&self) -> Option<u64> {
        let count = self.data_keys_at_risk();
        let due = self.inner.backups.risk.is_due(count, self.inner.clock.now());
        due.then_some(count)
    }

    /// Looks for the data keys that were at risk before this start.
    pub(crate) async fn find_risk(self, newest: Option<Timestamp>) {
        match self.inner.keys.data_keys_since(newest).await {
            Ok((count, oldest)) => self.inner.backups.risk.found(count, oldest),
            Err(error) => tracing::warn!(%error, "the data keys at risk could not be counted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_risk_is_told_after_a_quarter_of_an_hour_and_every_hour_until_it_is_over() {
        let minute =
            |number: u64| Timestamp::from_unix_nanos(0).plus(Duration::from_secs(60 * number));
        let risk = Risk::default();
        let told = |made: u64, minutes: std::ops::Range<u64>| -> Vec<u64> {
            minutes.filter(|n| risk.is_due(risk.count(made), minute(*n))).collect()
        };
        assert!(told(0, 0..100).is_empty());
        assert_eq!(told(3, 100..200), [115, 175]);
        risk.backed_up(3);
        assert!(told(3, 200..300).is_empty());
        assert_eq!(risk.count(5), 2);
        assert_eq!(told(5, 300..330), [315]);
        // After a restart, it counts from when the oldest was made.
        let risk = Risk::default();
        risk.found(7, Some(minute(10)));
        assert!(!risk.is_due(risk.count(0), minute(24)) && risk.is_due(risk.count(0), minute(25)));
        assert_eq!(Risk::new(true).count(9), 0);
    }
}
