//! Which partitions may be used: a cell for each that is in use, shared by its data keys in memory
//! and looked at on every use, and one for each that is shredded and not yet erased.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::cache::PartitionOf;

/// Cells of partitions nobody uses any more are looked for when there are so many, or twice as many
/// as were left the last time.
const PURGE_AT: usize = 1024;

/// Whether the data keys of one partition may be used.
#[derive(Default)]
pub(crate) struct PartitionCell {
    is_closed: AtomicBool,
}

impl PartitionCell {
    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Acquire)
    }
}

/// All cells. Whoever loads a data key takes the cell after its record was read and before it is
/// used: a shred that was committed before is seen then, and one that comes later closes that cell.
#[derive(Default)]
pub(crate) struct PartitionCells(Mutex<Cells>);

#[derive(Default)]
struct Cells {
    open: HashMap<PartitionOf, Weak<PartitionCell>>,
    /// Shredded, and when its data keys are erased: on the installation's clock.
    closed: HashMap<PartitionOf, (Arc<PartitionCell>, Duration)>,
    purge_at: usize,
    /// The log may not name all data keys of these in what happened to them.
    unlogged: Vec<PartitionOf>,
}

impl PartitionCells {
    /// The cell of a partition.
    pub(crate) fn cell(&self, of: PartitionOf) -> Arc<PartitionCell> {
        let mut cells = self.0.lock();
        if let Some((cell, _)) = cells.closed.get(&of) {
            return Arc::clone(cell);
        }
        if let Some(cell) = cells.open.get(&of).and_then(Weak::upgrade) {
            return cell;
        }
        if cells.open.len() >= cells.purge_at.max(PURGE_AT) {
            cells.open.retain(|_, cell| cell.strong_count() > 0);
            cells.purge_at = cells.open.len().saturating_mul(2);
        }
        let cell = Arc::new(PartitionCell::default());
        cells.open.insert(of, Arc::downgrade(&cell));
        cell
    }

    /// Nothing of the partition may be used from here on.
    pub(crate) fn close(&self, of: PartitionOf, due: Duration) {
        let cell = self.cell(of.clone());
        cell.is_closed.store(true, Ordering::Release);
        let mut cells = self.0.lock();
        cells.open.remove(&of);
        cells.closed.insert(of, (cell, due));
    }

    /// The partition may be used again.
    pub(crate) fn open(&self, of: PartitionOf) {
        let mut cells = self.0.lock();
        if let Some((cell, _)) = cells.closed.remove(&of) {
            cell.is_closed.store(false, Ordering::Release);
            cells.open.insert(of, Arc::downgrade(&cell));
        }
    }

    /// The partition has no data key any more, and the calls are over that could have read one from
    /// the store. Whoever still held one of them finds it closed.
    pub(crate) fn forget(&self, of: &PartitionOf) {
        self.0.lock().closed.remove(of);
    }

    /// The log may not name all data keys of this partition yet.
    pub(crate) fn note_unlogged(&self, of: PartitionOf) {
        self.0.lock().unlogged.push(of);
    }

    /// What was noted so, for once.
    pub(crate) fn take_unlogged(&self) -> Vec<PartitionOf> {
        std::mem::take(&mut self.0.lock().unlogged)
    }

    pub(crate) fn is_closed(&self, of: &PartitionOf) -> bool {
        self.0.lock().closed.contains_key(of)
    }

    /// The partitions that wait to be erased, and since when that is due or will be.
    pub(crate) fn waiting(&self) -> Vec<(PartitionOf, Duration)> {
        self.0.lock().closed.iter().map(|(of, (_, due))| (of.clone(), *due)).collect()
    }

    /// How many wait to be erased.
    pub(crate) fn waiting_count(&self) -> usize {
        self.0.lock().closed.len()
    }
}

#[cfg(test)]
mod tests {
    use fieldseal_model::{KeyName, Partition};

    use super::*;

    fn of(partition: &str) -> PartitionOf {
        let partition = Partition::parse(partition).unwrap();
        PartitionOf { key: KeyName::parse("pii").unwrap(), partition }
    }

    #[test]
    fn whoever_has_the_cell_sees_the_shred_and_whoever_comes_later_too() {
        let cells = PartitionCells::default();
        let before = cells.cell(of("ada"));
        assert!(before.is_open() && Arc::ptr_eq(&before, &cells.cell(of("ada"))));
        cells.close(of("ada"), Duration::from_secs(7));
        assert!(!before.is_open() && !cells.cell(of("ada")).is_open());
        assert!(cells.cell(of("bob")).is_open());
        drop(before);
        assert!(!cells.cell(of("ada")).is_open(), "without a user too");
        assert_eq!(cells.waiting_count(), 1);
        let again = cells.cell(of("ada"));
        cells.open(of("ada"));
        assert!(again.is_open() && Arc::ptr_eq(&again, &cells.cell(of("ada"))));
        assert_eq!(cells.waiting_count(), 0);
    }

    #[test]
    fn cells_that_nobody_uses_go() {
        let cells = PartitionCells::default();
        let used = cells.cell(of("used"));
        for n in 0..10 * PURGE_AT {
            let _unused = cells.cell(of(&n.to_string()));
        }
        assert!(cells.0.lock().open.len() <= 2 * PURGE_AT);
        assert!(Arc::ptr_eq(&used, &cells.cell(of("used"))));
    }
}
