//! What a monitor may know of the writer: how full, how fast, how much.

use std::time::Duration;

use super::Journal;

/// Upper bounds of the sync times that are told apart, in seconds.
pub(super) const SYNC_SECONDS: [f64; 13] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Upper bounds of the group sizes that are told apart, in records.
pub(super) const GROUP_RECORDS: [f64; 12] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// How often a number fell between two bounds. It needs a place of its own: whoever counts has it
/// to himself.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    bounds: &'static [f64],
    /// One more than bounds: the last is for whatever lies above them.
    counts: Vec<u64>,
    sum: f64,
}

impl Distribution {
    /// Nothing counted yet, between these bounds (each belongs to the numbers below it).
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self::of(bounds, vec![0; bounds.len() + 1], 0.0)
    }

    /// Counts that were taken elsewhere: one for each bound, and one for what lies above the last.
    #[must_use]
    pub const fn of(bounds: &'static [f64], counts: Vec<u64>, sum: f64) -> Self {
        Self { bounds, counts, sum }
    }

    fn count(&mut self, number: f64) {
        let place = self.bounds.partition_point(|bound| *bound < number);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += number;
    }

    /// Each bound with how many numbers lie between the one before and this; the last is infinite.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }

    /// The numbers added up.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// How many numbers.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What was written since the journal was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// How long each sync took, in seconds.
    pub sync_seconds: Distribution,
    /// How many records each group had.
    pub group_records: Distribution,
    /// Bytes of frames.
    pub bytes: u64,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            sync_seconds: Distribution::new(&SYNC_SECONDS),
            group_records: Distribution::new(&GROUP_RECORDS),
            bytes: 0,
        }
    }
}

impl Written {
    pub(super) fn group(&mut self, took: Duration, records: usize, bytes: usize) {
        self.sync_seconds.count(took.as_secs_f64());
        self.group_records.count(records as f64);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

/// How the journal is at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// Records that wait for the writer.
    pub waiting: usize,
    /// How many may wait.
    pub waiting_limit: usize,
    /// What was written.
    pub written: Written,
    /// Bytes that the log's file system has left, if it says so.
    pub free_bytes: Option<u64>,
    /// Free bytes below which no segment is begun.
    pub reserve_bytes: u64,
}

impl Journal {
    /// Bytes of frames that were written since the journal was opened.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.shared.statistics.lock().written().bytes
    }

    /// How the journal is. It holds no lock for longer than it takes to copy a few numbers; asking
    /// for the free space is a system call.
    #[must_use]
    pub fn measures(&self) -> Measures {
        let shared = &self.shared;
        let waiting = shared.queue.lock().waiting_records();
        let written = shared.statistics.lock().written().clone();
        let settings = &shared.settings;
        Measures {
            waiting,
            waiting_limit: super::queue::MAX_WAITING,
            written,
            free_bytes: shared.space.free_bytes(&settings.directory).ok(),
            reserve_bytes: settings.reserve_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_falls_below_the_bound_that_it_reaches() {
        let mut distribution = Distribution::new(&[1.0, 10.0]);
        for number in [0.5, 1.0, 1.5, 10.0, 11.0, 1e9] {
            distribution.count(number);
        }
        assert_eq!(distribution.buckets(), [(1.0, 2), (10.0, 2), (f64::INFINITY, 2)]);
        assert_eq!(distribution.total(), 6);
        assert!((distribution.sum() - 1_000_000_024.0).abs() < 1e-6);
    }

    #[test]
    fn the_bounds_ascend() {
        assert!(SYNC_SECONDS.is_sorted_by(|a, b| a < b));
        assert!(GROUP_RECORDS.is_sorted_by(|a, b| a < b));
    }
}
