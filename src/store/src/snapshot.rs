//! A snapshot: every stored entry as it was at one revision, while others write.
//!
//! sled keeps no history. As long as a snapshot is open, the committer keeps what it overwrites or
//! removes beyond the place that the snapshot has been read to, up to a bound; beyond the bound the
//! snapshot is given up, not the writers. Entries come out as they are stored, so that nothing is
//! opened to copy a store.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::backend::Backend;
use crate::committer::{Committer, Order};
use crate::error::StoreError;
use crate::path::Path;
use crate::store::{Inner, Secrets, Store, Versioned};
use crate::stored::{OUTBOX, open_value, stored_revision};

/// How many entries of the backend one page is made of.
const PAGE: usize = 512;
/// What a kept before-image costs beyond its bytes.
const IMAGE_OVERHEAD: usize = 64;

/// An entry as the backend holds it. The value is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEntry {
    /// The path: a class and hidden names.
    pub path: Vec<u8>,
    /// `revision 8 | sealed`.
    pub stored: Vec<u8>,
}

impl RawEntry {
    /// The transaction that wrote it.
    ///
    /// # Errors
    /// `Corrupt` for an entry that is too short.
    pub fn revision(&self) -> Result<u64, StoreError> {
        stored_revision(&self.stored)
    }

    /// True for an event that waits for the log.
    #[must_use]
    pub fn is_event(&self) -> bool {
        self.path.first() == Some(&OUTBOX)
    }

    /// The class of its record.
    #[must_use]
    pub fn kind(&self) -> Option<u8> {
        self.path.first().copied()
    }
}

/// All records as they were at one revision, read once from the first to the last. The outbox is
/// not part of it.
pub struct Snapshot {
    store: Arc<Inner>,
    images: Arc<Images>,
    revision: u64,
    anchor: [u8; 32],
    read_to: Option<Vec<u8>>,
    at_end: bool,
}

impl Store {
    /// Takes a snapshot of what is committed now. It keeps at most `bound` bytes of what is
    /// overwritten before it has been read.
    ///
    /// # Errors
    /// `Busy`, `Closed`, or the trouble of the disk.
    pub async fn snapshot(&self, bound: usize) -> Result<Snapshot, StoreError> {
        let (answer, result) = oneshot::channel();
        self.order(Order::Snapshot(bound, answer))?;
        let Taken { images, revision, anchor } = result.await.map_err(|_| StoreError::Closed)??;
        let store = Arc::clone(&self.inner);
        Ok(Snapshot { store, images, revision, anchor, read_to: None, at_end: false })
    }
}

impl Snapshot {
    /// The revision that it shows.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The HMAC of the sum of the whole store at that revision, as the transaction's event has it.
    #[must_use]
    pub fn anchor(&self) -> [u8; 32] {
        self.anchor
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.store.secrets
    }

    /// Whether more than the reserve is left where the store is.
    pub(crate) fn check_space(&self) -> Result<(), StoreError> {
        match self.store.backend.free_bytes()? {
            Some(free) if free < self.store.reserve_bytes => {
                Err(StoreError::Io("less than the reserve is free".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The record that stands at a path now.
    pub(crate) fn now(&self, path: &Path) -> Result<Option<Versioned>, StoreError> {
        let _durable = self.store.applying.read();
        let found = self.store.backend.get(&path.0)?;
        found.map(|stored| open_value(&self.store.secrets, &path.0, &stored)).transpose()
    }

    /// The next entries in the order of their paths; `None` at the end. Only for a thread that may
    /// block.
    ///
    /// # Errors
    /// `Compacted` if more was overwritten than it may keep, or the trouble of the disk.
    pub fn page(&mut self) -> Result<Option<Vec<RawEntry>>, StoreError> {
        while !self.at_end {
            let page = self.step()?;
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// The next part of the backend, with what was overwritten in it put back.
    fn step(&mut self) -> Result<Vec<RawEntry>, StoreError> {
        let _durable = self.store.applying.read();
        let found = self.store.backend.range(&[], self.read_to.as_deref(), PAGE)?;
        let upto = found.get(PAGE - 1).map(|(key, _)| key.clone());
        let mut entries: BTreeMap<_, _> =
            found.into_iter().filter(|(key, _)| is_record(key)).collect();
        let mut images = self.images.kept.lock();
        if images.is_given_up {
            return Err(StoreError::Compacted);
        }
        for (key, before) in images.take(upto.as_deref()) {
            match before {
                Some(stored) => entries.insert(key, stored),
                None => entries.remove(&key),
            };
        }
        images.read_to.clone_from(&upto);
        self.at_end = upto.is_none();
        self.read_to = upto;
        Ok(entries.into_iter().map(|(path, stored)| RawEntry { path, stored }).collect())
    }
}

/// What the committer hands to whoever asked for a snapshot.
pub(crate) struct Taken {
    images: Arc<Images>,
    revision: u64,
    anchor: [u8; 32],
}

/// What one snapshot needs of what was overwritten.
pub(crate) struct Images {
    kept: Mutex<Kept>,
}

struct Kept {
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    bound: usize,
    /// Nobody asks for what stands here or before.
    read_to: Option<Vec<u8>>,
    is_given_up: bool,
}

impl Kept {
    /// Takes out everything up to and with this path.
    fn take(&mut self, upto: Option<&[u8]>) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let taken = match upto {
            None => std::mem::take(&mut self.before),
            Some(upto) => {
                let beyond = (Bound::Excluded(upto.to_vec()), Bound::Unbounded);
                let first = self.before.range(beyond).next().map(|(key, _)| key.clone());
                let later = first.map(|key| self.before.split_off(&key)).unwrap_or_default();
                std::mem::replace(&mut self.before, later)
            }
        };
        let freed: usize = taken.iter().map(|(key, before)| cost(key, before.as_deref())).sum();
        self.bytes = self.bytes.saturating_sub(freed);
        taken
    }

    /// Keeps what stands in the backend at these paths, where nothing is kept yet.
    fn keep<'a>(
        &mut self,
        backend: &dyn Backend,
        keys: impl Iterator<Item = &'a Vec<u8>>,
    ) -> io::Result<()> {
        for key in keys {
            let is_read = self.read_to.as_ref().is_some_and(|read_to| key <= read_to);
            if self.is_given_up || is_read || !is_record(key) || self.before.contains_key(key) {
                continue;
            }
            let before = backend.get(key)?;
            self.bytes = self.bytes.saturating_add(cost(key, before.as_deref()));
            self.before.insert(key.clone(), before);
            if self.bytes > self.bound {
                self.is_given_up = true;
                self.before = BTreeMap::new();
            }
        }
        Ok(())
    }
}

fn cost(key: &[u8], before: Option<&[u8]>) -> usize {
    IMAGE_OVERHEAD + key.len() + before.map_or(0, <[u8]>::len)
}

/// Neither the store's own entries nor an event that waits.
pub(crate) fn is_record(key: &[u8]) -> bool {
    !matches!(key.first(), None | Some(&0 | &OUTBOX))
}

impl Committer {
    /// A snapshot of what is committed now.
    pub(crate) fn take_snapshot(&mut self, bound: usize) -> Result<Taken, StoreError> {
        if let Some(why) = &self.broken {
            return Err(StoreError::Io(why.clone()));
        }
        let kept =
            Kept { before: BTreeMap::new(), bytes: 0, bound, read_to: None, is_given_up: false };
        let images = Arc::new(Images { kept: Mutex::new(kept) });
        self.snapshots.push(Arc::downgrade(&images));
        let anchor = self.secrets.anchor.mac(&self.acc);
        Ok(Taken { images, revision: self.revision, anchor })
    }

    /// Keeps for the open snapshots what the next batch overwrites.
    pub(crate) fn keep_images(
        &mut self,
        overlay: &HashMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> io::Result<()> {
        self.snapshots.retain(|snapshot| snapshot.strong_count() > 0);
        for images in self.snapshots.iter().filter_map(Weak::upgrade) {
            images.kept.lock().keep(&*self.backend, overlay.keys())?;
        }
        Ok(())
    }
}
