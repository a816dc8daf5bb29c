//! Reading a whole store at one revision, while others write: every record opened, and their sum
//! compared with the one that the store keeps.

use fieldseal_crypto::record;

use crate::error::StoreError;
use crate::path::{Kind, Path};
use crate::snapshot::{RawEntry, Snapshot, is_record};
use crate::store::{STATE_KEY, Store, Versioned, each};
use crate::stored::{open_value, stored_revision};

/// The sum of the whole store as it is kept and as it was counted anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// As the last transaction left it.
    pub kept: [u8; 32],
    /// Counted over every record.
    pub counted: [u8; 32],
}

/// One pass over every record of a store.
pub struct Pass {
    snapshot: Snapshot,
    acc: [u8; 32],
}

/// A record as a pass finds it.
pub struct Found {
    /// Where it stands.
    pub path: Path,
    /// What stands there; `Corrupt` if it was altered, moved or cut.
    pub value: Result<Versioned, StoreError>,
}

impl Found {
    /// Whether it is of this class.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        self.path.0.first() == Some(&kind.number())
    }
}

impl Store {
    /// Begins a pass over what is committed now. It keeps at most `bound` bytes of what is
    /// overwritten before it has been read.
    ///
    /// # Errors
    /// As [`Store::snapshot`].
    pub async fn pass(&self, bound: usize) -> Result<Pass, StoreError> {
        Ok(Pass { snapshot: self.snapshot(bound).await?, acc: [0; 32] })
    }

    /// Counts the sum of the whole store anew. Nothing may be written meanwhile for it to agree.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn recount(&self) -> Result<Sums, StoreError> {
        self.read(|inner| {
            let state = inner.backend.get(STATE_KEY)?.unwrap_or_default();
            let state = open_value(&inner.secrets, STATE_KEY, &state)?;
            let kept = state.value.as_slice().try_into();
            let kept = kept.map_err(|_| StoreError::Corrupt("an unreadable state".into()))?;
            let mut counted = [0; 32];
            each(&*inner.backend, &[], |key, stored| {
                if is_record(key) {
                    let (revision, sealed) =
                        (stored_revision(stored)?, stored.get(8..).unwrap_or_default());
                    let term = inner.secrets.anchor.term(key, revision, sealed);
                    record::add(&mut counted, &term);
                }
                Ok(())
            })?;
            Ok(Sums { kept, counted })
        })
        .await
    }
}

impl Pass {
    /// The revision that it shows.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.snapshot.revision()
    }

    /// The next records in the order of their paths, opened; `None` at the end. Only for a thread
    /// that may block.
    ///
    /// # Errors
    /// As [`Snapshot::page`]. A record that does not open is none: it is in the page.
    pub fn page(&mut self) -> Result<Option<Vec<Found>>, StoreError> {
        let Some(page) = self.snapshot.page()? else { return Ok(None) };
        Ok(Some(page.into_iter().map(|entry| self.open(entry)).collect()))
    }

    /// Reads a record as it is now, which may be later than the pass. Only for a thread that may
    /// block.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn now(&self, path: &Path) -> Result<Option<Versioned>, StoreError> {
        self.snapshot.now(path)
    }

    fn open(&mut self, entry: RawEntry) -> Found {
        let RawEntry { path, stored } = entry;
        let secrets = self.snapshot.secrets();
        let value = open_value(secrets, &path, &stored);
        if let Ok(Versioned { revision, .. }) = &value {
            let sealed = stored.get(8..).unwrap_or_default();
            record::add(&mut self.acc, &secrets.anchor.term(&path, *revision, sealed));
        }
        Found { path: Path(path), value }
    }

    /// Whether the records that were read add up to the sum that the store keeps: at the end, and
    /// only if all of them opened. If not, some are missing, or are older ones that were put back.
    #[must_use]
    pub fn sum_agrees(&self) -> bool {
        self.snapshot.secrets().anchor.mac(&self.acc) == self.snapshot.anchor()
    }
}
