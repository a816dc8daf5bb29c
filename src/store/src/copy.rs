//! The copy of a store elsewhere: whatever a transaction writes is in it before the transaction is
//! applied here, so that a lost disk loses nothing that was acknowledged.
//!
//! The copy begins with every record at one revision, and then has every group of transactions as
//! it was written, sealed. A copy that cannot be written refuses transactions; reads go on.

mod command;
mod file;
mod frames;
mod reader;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fieldseal_model::InstallationId;
use tokio::sync::oneshot;

use crate::backend::Backend;
use crate::committer::{Committer, Order};
use crate::error::StoreError;
use crate::rewrite::Rewrites;
use crate::snapshot::is_record;
use crate::store::Store;
use crate::stored::OUTBOX;
use command::CommandCopy;
use file::FileCopy;
use frames::{Frame, Write};

pub use reader::{CopyPart, CopyReader};

/// How long after a failure the copy is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How many entries one read of the backend takes.
const PAGE: usize = 512;

/// The keyring's name beside a copy.
pub const COPIED_KEYRING: &str = "keyring.json";

/// Where the copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyTarget {
    /// In a file in this directory, on another volume.
    Directory(PathBuf),
    /// Wherever this program puts it: the program and its arguments.
    Command(Vec<String>),
}

/// Whose copy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyOwner {
    /// The installation.
    pub installation: InstallationId,
    /// Which life of it, counted from 1.
    pub incarnation: u64,
    /// Tells two restores of the same backup apart.
    pub life: [u8; 16],
}

/// Why a copy cannot be begun or read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// It is another installation's, or of another life of it.
    #[error(
        "the copy in {place} is of {found}, and this is {expected}; name another directory, or move \
         it away if it is not needed"
    )]
    Foreign {
        /// Where it is.
        place: String,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// It is of a later life of this installation than the store.
    #[error(
        "the copy in {place} is of the incarnation {found} of this installation, and the store is of \
         {own}: the store was restored since, and this is the one before"
    )]
    Newer {
        /// Where it is.
        place: String,
        /// The copy's incarnation.
        found: u64,
        /// The store's.
        own: u64,
    },
    /// It was cut short or altered.
    #[error("the copy in {place} was cut short or altered: {what}")]
    Altered {
        /// Where it is.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// It cannot be read or written.
    #[error("the copy in {place} cannot be used: {error}")]
    Unavailable {
        /// Where it is.
        place: String,
        /// Why.
        error: String,
    },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CopyError {
    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "STORE_COPY_FOREIGN",
            Self::Newer { .. } => "STORE_COPY_NEWER",
            Self::Altered { .. } => "STORE_COPY_ALTERED",
            Self::Unavailable { .. } => "STORE_COPY_UNAVAILABLE",
            Self::Store(_) => "STORE_UNAVAILABLE",
        }
    }
}

/// A place that takes frames and keeps them.
trait Place: Send {
    /// Returns once everything is durable there.
    fn put(&mut self, frames: &[Frame]) -> io::Result<()>;

    /// True once it is long enough to be begun anew.
    fn is_long(&self) -> bool;
}

/// Where a copy is, whose it is, and the keyring beside it.
pub(crate) type CopyOf = (CopyTarget, CopyOwner, Option<Vec<u8>>);

/// The committer's side of a copy.
pub(crate) struct Copy {
    target: CopyTarget,
    owner: CopyOwner,
    /// The keyring that opens it, wrapped as it is kept.
    keyring: Option<Vec<u8>>,
    place: Option<Box<dyn Place>>,
    tried: Instant,
    /// It is begun anew, not gone on with: it is long, or holds something that was erased.
    is_stale: bool,
    rewrites: Rewrites,
}

/// What is copied, and when it is.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) revision: u64,
    pub(crate) anchor: [u8; 32],
}

impl Store {
    /// Copies everything from now on, before it is applied here. Returns once the copy has everything
    /// that there is. A copy in a directory has the keyring beside it, as it is kept: wrapped.
    ///
    /// # Errors
    /// What keeps it from being copied.
    pub async fn copy_to(
        &self,
        target: CopyTarget,
        owner: CopyOwner,
        keyring: Option<Vec<u8>>,
    ) -> Result<(), CopyError> {
        let (answer, result) = oneshot::channel();
        self.order(Order::Copy((target, owner, keyring), answer))?;
        result.await.map_err(|_| StoreError::Closed)??;
        self.inner.is_copied.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether everything is copied before it is written.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        self.inner.is_copied.load(Ordering::Relaxed)
    }

    /// Why the copy cannot be written, while it cannot.
    #[must_use]
    pub fn copy_trouble(&self) -> Option<String> {
        self.inner.copy_trouble.read().clone()
    }
}

impl Committer {
    /// Begins to copy.
    pub(crate) fn begin_copy(&mut self, (target, owner, keyring): CopyOf) -> Result<(), CopyError> {
        let now = self.moment();
        let (place, tried, rewrites) = (None, Instant::now(), self.rewrites.clone());
        let mut copy = Copy { target, owner, keyring, place, tried, is_stale: false, rewrites };
        let opened = copy.open(&*self.backend, now);
        if let Err(error @ CopyError::Unavailable { .. }) = &opened {
            // It may come back; until then nothing is changed.
            tracing::error!(event = "store_copy_unavailable", %error);
            *self.copy_trouble.write() = Some(error.to_string());
        } else {
            opened?;
        }
        self.copy = Some(copy);
        Ok(())
    }

    /// Begins the copy anew: what was erased here must leave it too. A copy that cannot be written now
    /// is begun anew before it is used again.
    pub(crate) fn renew_copy(&mut self) {
        let now = self.moment();
        let Some(copy) = &mut self.copy else { return };
        (copy.place, copy.is_stale) = (None, true);
        if let Err(error) = copy.open(&*self.backend, now) {
            tracing::error!(event = "store_copy_unavailable", %error);
            *self.copy_trouble.write() = Some(error.to_string());
        }
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { revision: self.revision, anchor: self.secrets.anchor.mac(&self.acc) }
    }

    /// Has the copy hold what a group is about to write; `before` is what the store holds.
    pub(crate) fn copy_group(
        &mut self,
        before: Moment,
        overlay: &HashMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<(), String> {
        let after = self.moment();
        let Some(copy) = &mut self.copy else { return Ok(()) };
        let copied = copy.group(&*self.backend, before, after, overlay);
        let mut trouble = self.copy_trouble.write();
        match (&copied, trouble.is_some()) {
            (Err(why), false) => tracing::error!(event = "store_copy_unavailable", error = why),
            (Ok(()), true) => tracing::info!(event = "store_copy_ok", "the copy is written again"),
            _ => {}
        }
        *trouble = copied.as_ref().err().cloned();
        copied
    }
}

impl Copy {
    fn open(&mut self, backend: &dyn Backend, now: Moment) -> Result<(), CopyError> {
        let mut began = now.revision;
        self.place = Some(match &self.target {
            CopyTarget::Directory(directory) => {
                // What was erased before a crash, too, may be in a copy that was begun before.
                let since = if self.is_stale { u64::MAX } else { self.rewrites.erased_at() };
                let file = FileCopy::open(directory, self.owner, now, backend, since)?;
                if let Some(keyring) = &self.keyring {
                    file::put_beside(directory, keyring)?;
                }
                began = file.began;
                Box::new(file)
            }
            CopyTarget::Command(words) => {
                let failed = |e: io::Error| CopyError::Unavailable {
                    place: words.first().cloned().unwrap_or_default(),
                    error: e.to_string(),
                };
                let mut place = CommandCopy::start(words).map_err(failed)?;
                base(backend, self.owner, now, |frame| place.put(&[frame])).map_err(failed)?;
                Box::new(place)
            }
        });
        self.is_stale = false;
        self.rewrites.copy_began(began);
        Ok(())
    }

    fn group(
        &mut self,
        backend: &dyn Backend,
        before: Moment,
        after: Moment,
        overlay: &HashMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<(), String> {
        if self.place.as_ref().is_some_and(|place| place.is_long()) {
            (self.place, self.is_stale) = (None, true);
        } else if self.place.is_none() && self.tried.elapsed() < RETRY {
            return Err("it failed a moment ago, and is tried again soon".to_owned());
        }
        self.tried = Instant::now();
        if self.place.is_none() {
            self.open(backend, before).map_err(|error| error.to_string())?;
        }
        let frames = frames::group(after, overlay.iter().filter_map(copied));
        let Some(place) = &mut self.place else { return Err("it is not there".to_owned()) };
        place.put(&frames).map_err(|error| {
            // Nobody knows what it holds now: it is looked at before it is used again.
            self.place = None;
            error.to_string()
        })
    }
}

/// Records, and events that wait: those that are gone are gone from the log's point of view only.
fn copied<'a>((path, stored): (&'a Vec<u8>, &'a Option<Vec<u8>>)) -> Option<Write<'a>> {
    let is_event = path.first() == Some(&OUTBOX) && stored.is_some();
    (is_record(path) || is_event).then_some((path.as_slice(), stored.as_deref()))
}

/// Hands the beginning of a copy to `put`: whose it is, and everything that there is.
fn base(
    backend: &dyn Backend,
    owner: CopyOwner,
    now: Moment,
    mut put: impl FnMut(Frame) -> io::Result<()>,
) -> io::Result<()> {
    put(frames::header(owner))?;
    let (mut after, mut count) = (None, 0_u64);
    loop {
        let page = backend.range(&[], after.as_deref(), PAGE)?;
        after = page.get(PAGE - 1).map(|(path, _)| path.clone());
        let entries: Vec<_> = page
            .iter()
            .filter(|(path, _)| path.first().is_some_and(|first| *first != 0))
            .map(|(path, stored)| (path.as_slice(), Some(stored.as_slice())))
            .collect();
        count += entries.len() as u64;
        for frame in frames::parts(frames::BASE, &entries) {
            put(frame)?;
        }
        if after.is_none() {
            return put(frames::base_end(now, count));
        }
    }
}

#[cfg(test)]
mod tests;
