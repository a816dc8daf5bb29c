//! Making a store from stored entries: of a snapshot, and of what came after it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use fieldseal_crypto::record;

use crate::backend::sled::is_made;
use crate::backend::{Backend, RawWrite};
use crate::error::StoreError;
use crate::lock::Hold;
use crate::path::{self, Kind, Path};
use crate::rewrite::{ERASED_KEY, REWRITTEN_KEY};
use crate::snapshot::{RawEntry, is_record};
use crate::store::{
    BackendSettings, Base, FORMAT, FORMAT_KEY, STATE_KEY, Secrets, Settings, Store, Versioned,
};
use crate::stored::{OUTBOX, open_value, seal_value, stored_revision};

/// Records that are read at once.
const PAGE: usize = 256;
/// Bytes that wait before they are written.
const BATCH_BYTES: usize = 1024 * 1024;

/// A store that is being made. It is no store before it is finished: what is dropped before leaves
/// a directory that does not open.
pub struct Import {
    backend: Arc<dyn Backend>,
    secrets: Secrets,
    acc: [u8; 32],
    waiting: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    waiting_bytes: usize,
    revision: u64,
    erased: bool,
    /// Something that was put in is not in it any more.
    replaced: bool,
    _lock: Hold,
}

impl Import {
    /// Begins in an empty place.
    ///
    /// # Errors
    /// `AlreadyInitialized`, `Locked`, or trouble with the directory.
    pub fn begin(settings: &Settings, secrets: Secrets) -> Result<Self, StoreError> {
        let Base { backend, lock, .. } = Store::fresh(settings)?;
        let (waiting, acc) = (BTreeMap::new(), [0; 32]);
        Ok(Self {
            backend,
            secrets,
            acc,
            waiting,
            waiting_bytes: 0,
            revision: 0,
            erased: false,
            replaced: false,
            _lock: lock,
        })
    }

    /// Puts an entry as it was stored, in place of what stands there.
    ///
    /// # Errors
    /// `Corrupt` for an entry that is none, or the trouble of the disk.
    pub fn put(&mut self, entry: RawEntry) -> Result<(), StoreError> {
        let RawEntry { path, stored } = entry;
        if !is_record(&path) {
            return Err(StoreError::Corrupt("an entry that is no record".into()));
        }
        let revision = stored_revision(&stored)?;
        self.subtract(&path)?;
        let term = self.secrets.anchor.term(&path, revision, stored.get(8..).unwrap_or_default());
        record::add(&mut self.acc, &term);
        self.revision = self.revision.max(revision);
        self.wait(path, Some(stored))
    }

    /// Puts an event that waits for the log, as it was stored. It is nothing of the sum.
    ///
    /// # Errors
    /// As [`Import::put`].
    pub fn put_event(&mut self, entry: RawEntry) -> Result<(), StoreError> {
        if entry.path.first() != Some(&OUTBOX) {
            return Err(StoreError::Corrupt("an entry that is no event".into()));
        }
        self.revision = self.revision.max(stored_revision(&entry.stored)?);
        self.wait(entry.path, Some(entry.stored))
    }

    /// Removes what stands at this path.
    ///
    /// # Errors
    /// As [`Import::put`].
    pub fn remove(&mut self, path: Vec<u8>) -> Result<(), StoreError> {
        self.subtract(&path)?;
        self.wait(path, None)
    }

    /// Removes the record at this path, if there is one.
    ///
    /// # Errors
    /// As [`Import::put`].
    pub fn remove_record(&mut self, path: &Path) -> Result<(), StoreError> {
        self.remove(path.0.clone())
    }

    /// What was removed so far must leave the files of the store too: it is written anew once it is
    /// started.
    pub fn erased(&mut self) {
        self.erased = true;
    }

    /// Seals a value as the transaction `revision` would have.
    ///
    /// # Errors
    /// As [`Import::put`].
    pub fn seal(&mut self, path: &Path, revision: u64, value: &[u8]) -> Result<(), StoreError> {
        let stored = seal_value(&self.secrets, &path.0, revision, value)?;
        self.put(RawEntry { path: path.0.clone(), stored })
    }

    /// Opens the record at this path.
    ///
    /// # Errors
    /// `Corrupt` for a record that does not open.
    pub fn open(&self, path: &Path) -> Result<Option<Versioned>, StoreError> {
        let stored = self.stored(&path.0)?;
        stored.map(|stored| open_value(&self.secrets, &path.0, &stored)).transpose()
    }

    /// Hands every record of a class to `see`, opened, in no order that means anything.
    ///
    /// # Errors
    /// As [`Import::put`], and `Corrupt` for a record that does not open.
    pub fn each(&mut self, kind: Kind, mut see: impl FnMut(&Versioned)) -> Result<(), StoreError> {
        self.write()?;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.backend.range(&[kind.number()], after.as_deref(), PAGE)?;
            for (path, stored) in &page {
                see(&open_value(&self.secrets, path, stored)?);
            }
            match page.into_iter().nth(PAGE - 1) {
                Some((last, _)) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Opens a stored entry of this store.
    ///
    /// # Errors
    /// `Corrupt` for an entry that was altered, moved or sealed by other keys.
    pub fn open_entry(&self, entry: &RawEntry) -> Result<Versioned, StoreError> {
        open_value(&self.secrets, &entry.path, &entry.stored)
    }

    /// The path of a record, as [`Store::path`] gives it.
    #[must_use]
    pub fn path(&self, kind: Kind, parts: &[&[u8]]) -> Path {
        Path(path::encode(kind, parts, |covered| self.secrets.path.hash(covered)))
    }

    /// The HMAC of the sum of what is in it so far: at the end of a snapshot's entries it is the
    /// snapshot's.
    #[must_use]
    pub fn anchor(&self) -> [u8; 32] {
        self.secrets.anchor.mac(&self.acc)
    }

    /// The newest revision of an entry so far.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.revision
    }

    /// Makes a store of it that goes on after `revision`.
    ///
    /// # Errors
    /// `Corrupt` for a revision that is before one of its entries', or the trouble of the disk.
    pub fn finish(mut self, revision: u64) -> Result<(), StoreError> {
        if revision < self.revision {
            return Err(StoreError::Corrupt(format!(
                "an entry of revision {} in a store of revision {revision}",
                self.revision
            )));
        }
        self.write()?;
        // Files into which nothing was put that is not in them any more are as good as written anew.
        let key = if self.erased || self.replaced { ERASED_KEY } else { REWRITTEN_KEY };
        let mark = seal_value(&self.secrets, key, revision, &[])?;
        self.backend.apply(vec![RawWrite::Put(key.to_vec(), mark)])?;
        Store::found(&*self.backend, &self.secrets, revision, &self.acc)
    }

    fn stored(&self, path: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.waiting.get(path) {
            Some(stored) => Ok(stored.clone()),
            None => Ok(self.backend.get(path)?),
        }
    }

    fn subtract(&mut self, path: &[u8]) -> Result<(), StoreError> {
        if let Some(old) = self.stored(path)? {
            self.replaced = true;
            let sealed = old.get(8..).unwrap_or_default();
            let term = self.secrets.anchor.term(path, stored_revision(&old)?, sealed);
            record::subtract(&mut self.acc, &term);
        }
        Ok(())
    }

    fn wait(&mut self, path: Vec<u8>, stored: Option<Vec<u8>>) -> Result<(), StoreError> {
        self.waiting_bytes += path.len() + stored.as_ref().map_or(0, Vec::len);
        self.waiting.insert(path, stored);
        if self.waiting_bytes < BATCH_BYTES { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let writes = waiting.into_iter().map(|(path, stored)| match stored {
            Some(stored) => RawWrite::Put(path, stored),
            None => RawWrite::Delete(path),
        });
        self.backend.apply(writes.collect())?;
        Ok(())
    }
}

impl Store {
    /// The backend of a store that is yet to be made.
    pub(crate) fn fresh(settings: &Settings) -> Result<Base, StoreError> {
        if let BackendSettings::Sled(directory) = &settings.backend {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            if let Some(parent) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
                // The directory's own name must survive a loss of power too.
                fs::File::open(parent)?.sync_all()?;
            }
            if is_made(directory)? {
                return Err(StoreError::AlreadyInitialized(directory.clone()));
            }
        }
        let base = Self::base(settings)?;
        if !base.backend.range(&[], None, 1)?.is_empty() {
            return Err(StoreError::AlreadyInitialized(settings.backend.place()));
        }
        Ok(base)
    }

    /// Makes a store of what is in the backend.
    pub(crate) fn found(
        backend: &dyn Backend,
        secrets: &Secrets,
        revision: u64,
        acc: &[u8; 32],
    ) -> Result<(), StoreError> {
        let state = seal_value(secrets, STATE_KEY, revision, acc)?;
        backend.apply(vec![
            RawWrite::Put(FORMAT_KEY.to_vec(), FORMAT.to_le_bytes().to_vec()),
            RawWrite::Put(STATE_KEY.to_vec(), state),
        ])?;
        Ok(backend.sync()?)
    }
}
