//! A backend in memory, with faults on demand: for `dev` and for tests.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Backend, LeftOver, RawWrite};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Which operations fail from now on.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Reads fail with this kind of error.
    pub read: Option<io::ErrorKind>,
    /// `apply` fails with this kind of error.
    pub apply: Option<io::ErrorKind>,
    /// `sync` fails with this kind of error.
    pub sync: Option<io::ErrorKind>,
    /// What `free_bytes` says; `None` for no limit.
    pub free_bytes: Option<u64>,
}

#[derive(Default)]
struct State {
    written: Map,
    durable: Map,
    faults: Faults,
    syncs: u64,
}

/// A disk in memory. Clones share it, so that a store can be opened on it again.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

impl MemoryDisk {
    /// Lets operations fail.
    pub fn inject(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    /// Loses what was not synced, like a loss of power.
    pub fn crash(&self) {
        let mut state = self.0.lock();
        state.written = state.durable.clone();
    }

    /// How often it was synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// Every raw entry.
    #[must_use]
    pub fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0.lock().written.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Writes a raw entry behind the store's back.
    pub fn tamper(&self, key: Vec<u8>, value: Vec<u8>) {
        let mut state = self.0.lock();
        state.written.insert(key.clone(), value.clone());
        state.durable.insert(key, value);
    }
}

impl Backend for MemoryDisk {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let state = self.0.lock();
        state.faults.read.map_or_else(|| Ok(state.written.get(key).cloned()), |e| Err(e.into()))
    }

    fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let state = self.0.lock();
        if let Some(kind) = state.faults.read {
            return Err(kind.into());
        }
        let from = match after {
            Some(after) => Bound::Excluded(after.to_vec()),
            None => Bound::Included(prefix.to_vec()),
        };
        let entries = state.written.range((from, Bound::Unbounded));
        let entries = entries.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(entries.map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn apply(&self, writes: Vec<RawWrite>) -> io::Result<()> {
        let mut state = self.0.lock();
        if let Some(kind) = state.faults.apply {
            return Err(kind.into());
        }
        for write in writes {
            match write {
                RawWrite::Put(key, value) => state.written.insert(key, value),
                RawWrite::Delete(key) => state.written.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if let Some(kind) = state.faults.sync {
            return Err(kind.into());
        }
        state.syncs += 1;
        state.durable = state.written.clone();
        Ok(())
    }

    fn is_in_place(&self) -> bool {
        true
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(self.0.lock().faults.free_bytes)
    }

    // It keeps nothing of what was removed.
    fn rewrite_begin(&self, _reserve: u64) -> io::Result<()> {
        Ok(())
    }

    fn rewrite_step(&self) -> io::Result<bool> {
        self.sync()?;
        Ok(true)
    }

    fn rewrite_mark(&self, mark: RawWrite) -> io::Result<()> {
        self.apply(vec![mark])?;
        self.sync()
    }

    fn rewrite_end(&self) -> io::Result<LeftOver> {
        Ok(Box::new(|| Ok(())))
    }

    fn rewrite_give_up(&self) {}
}
