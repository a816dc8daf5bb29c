//! Writing the database anew. sled's log keeps the bytes of what was removed or replaced; a database
//! that was made of what there is has none of them.
//!
//! A page is copied at a time, and whatever is applied meanwhile goes into both: a page that is
//! copied later is newer than that. The new files count from one rename on (`live.rs`).

use std::io;
use std::path::PathBuf;

use super::live::{self, Live};
use super::{Backend as _, SledBackend, failure};
use crate::backend::{LeftOver, RawWrite};
use crate::damage;
use crate::error::StoreError;

/// Entries that are copied at a time.
const PAGE: usize = 512;

/// A rewrite that is under way.
pub(super) struct Rewriting {
    to: Live,
    copied_to: Option<Vec<u8>>,
    /// The new files could not be written: the old ones go on.
    failed: Option<io::Error>,
}

impl Rewriting {
    /// Applies to the new files. Their trouble is not that of the store.
    fn apply(&mut self, writes: Vec<RawWrite>) {
        if self.failed.is_none() {
            self.failed = attempt(|| self.to.apply(writes)).err();
        }
    }
}

/// sled may panic where its disk fails.
fn attempt<T>(work: impl FnOnce() -> ::sled::Result<T>) -> io::Result<T> {
    let given_up = || io::Error::other("the new database gave up while it was written");
    damage::calmly(work).map_or_else(|| Err(given_up()), |done| done.map_err(failure))
}

fn none_begun() -> io::Error {
    io::Error::other("no rewrite was begun")
}

fn opened(to: PathBuf) -> io::Result<Live> {
    Live::open(&to).map_err(|error| match error {
        StoreError::Io(why) => io::Error::other(why),
        other => io::Error::other(other.to_string()),
    })
}

impl SledBackend {
    pub(super) fn begin(&self, reserve: u64) -> io::Result<()> {
        let live = self.live.read();
        // The new files are never longer than those before: they hold no more.
        let needed = live.file_bytes()?.saturating_add(reserve);
        if self.free_bytes()?.is_some_and(|free| free < needed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let to = live::make_next(&self.directory, &live.directory)?;
        let to = opened(to)?;
        *self.rewriting.lock() = Some(Rewriting { to, copied_to: None, failed: None });
        self.at("begun");
        Ok(())
    }

    /// Repeats for the new files what is applied to the old ones.
    pub(super) fn repeat(&self, writes: &[RawWrite]) {
        if let Some(rewriting) = &mut *self.rewriting.lock() {
            rewriting.apply(writes.to_vec());
        }
    }

    pub(super) fn step(&self) -> io::Result<bool> {
        let mut rewriting = self.rewriting.lock();
        let rewriting = rewriting.as_mut().ok_or_else(none_begun)?;
        let page = self.range(&[], rewriting.copied_to.as_deref(), PAGE)?;
        let last = page.len() < PAGE;
        if let Some((key, _)) = page.last() {
            rewriting.copied_to = Some(key.clone());
        }
        rewriting.apply(page.into_iter().map(|(key, value)| RawWrite::Put(key, value)).collect());
        self.at("copied");
        if let Some(error) = rewriting.failed.take() {
            return Err(error);
        }
        if last {
            attempt(|| rewriting.to.flush())?;
            rewriting.to.file.sync_data()?;
            self.at("synced");
        }
        Ok(last)
    }

    pub(super) fn mark(&self, mark: RawWrite) -> io::Result<()> {
        let mut rewriting = self.rewriting.lock();
        let rewriting = rewriting.as_mut().ok_or_else(none_begun)?;
        rewriting.apply(vec![mark]);
        if let Some(error) = rewriting.failed.take() {
            return Err(error);
        }
        attempt(|| rewriting.to.flush())?;
        rewriting.to.file.sync_data()?;
        self.at("marked");
        Ok(())
    }

    pub(super) fn end(&self) -> io::Result<LeftOver> {
        let Rewriting { to, .. } = self.rewriting.lock().take().ok_or_else(none_begun)?;
        live::point_to(&self.directory, &to.directory, &|step| self.at(step))?;
        // INVARIANT: no write comes between the rename and this: only the committer's thread writes.
        let before = std::mem::replace(&mut *self.live.write(), to);
        self.at("swapped");
        let directory = self.directory.clone();
        Ok(Box::new(move || {
            let old = before.directory.clone();
            drop(before);
            live::remove_database(&directory, &old)
        }))
    }

    pub(super) fn give_up(&self) {
        drop(self.rewriting.lock().take());
        if let Err(error) = live::remove_others(&self.directory, &|_| {}) {
            tracing::warn!(%error, "what is left over of a rewrite is removed at the next start");
        }
    }

    /// Where tests look.
    #[cfg(test)]
    fn at(&self, step: &str) {
        if let Some(seen) = &mut *self.seen.lock() {
            seen(step);
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests look here")]
    fn at(&self, _step: &str) {}
}

#[cfg(test)]
mod tests;
