//! What one principal takes of the process: its calls, and the bytes of their requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the connections of one principal share. It goes with every request of theirs.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) calls: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
}

/// Of everything that callers share one principal leaves the others an eighth.
pub(crate) const fn share(most: usize) -> usize {
    most.saturating_sub(most / 8)
}

/// Bytes of requests that are on their way or being handled, in the whole process.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    most: usize,
}

/// What one call holds of it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    usage: Arc<Usage>,
    bytes: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most }
    }
}

impl Held {
    pub(crate) fn nothing(budget: &Arc<Budget>, usage: &Arc<Usage>) -> Self {
        let (budget, usage) = (Arc::clone(budget), Arc::clone(usage));
        Self { budget, usage, bytes: AtomicUsize::new(0) }
    }

    /// Takes so many bytes more. False if the process, or the principal, has no room for them.
    pub(crate) fn grow(&self, bytes: usize) -> bool {
        // Counted first: it is given back with the rest, whether there was room or not.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let all = self.budget.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let own = self.usage.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        all <= self.budget.most && own <= share(self.budget.most)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        self.usage.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_leaves_room_for_the_others_and_gives_everything_back() {
        let budget = Arc::new(Budget::new(80));
        let (a, b) = (Arc::default(), Arc::default());
        let first = Held::nothing(&budget, &a);
        assert!(first.grow(70));
        let second = Held::nothing(&budget, &a);
        assert!(!second.grow(1), "one principal has seven eighths");
        drop(second);
        let other = Held::nothing(&budget, &b);
        assert!(other.grow(10));
        assert!(!Held::nothing(&budget, &b).grow(1), "there is no more");
        drop((first, other));
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
        assert_eq!((a.bytes.load(Ordering::Relaxed), b.bytes.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(share(2), 2);
        assert_eq!(share(1_024), 896);
    }
}
