//! Writing the store anew, so that nothing of what was erased is left in its files.
//!
//! A transaction that erases leaves its revision in the store; a rewrite that began after it leaves
//! its own. So it is known, after a crash too, whether a rewrite is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use tokio::sync::oneshot;

use crate::backend::{Backend, LeftOver, RawWrite};
use crate::committer::{Committer, Order};
use crate::error::StoreError;
use crate::store::{Health, Secrets, Store};
use crate::stored::{open_value, seal_value};

/// The last transaction that erased something.
pub(crate) const ERASED_KEY: &[u8] = b"\0erased";
/// Everything that was removed by this transaction or before has left the files.
pub(crate) const REWRITTEN_KEY: &[u8] = b"\0rewritten";

type Answer = oneshot::Sender<Result<(), StoreError>>;

/// What everybody may know of rewrites.
#[derive(Clone, Default)]
pub(crate) struct Rewrites(Arc<Known>);

#[derive(Default)]
struct Known {
    erased: AtomicU64,
    rewritten: AtomicU64,
    /// The revision at which the copy of the store was begun that is there; 0 as long as nobody
    /// has looked at it.
    copy_began: AtomicU64,
    under_way: parking_lot::Mutex<Option<UnderWay>>,
}

/// A rewrite that is not at its end.
struct UnderWay {
    /// The last transaction before it began.
    began_at: u64,
    answers: Vec<Answer>,
    /// Those who asked after it began: another one is for them.
    later: Vec<Answer>,
}

impl Rewrites {
    pub(crate) fn load(backend: &dyn Backend, secrets: &Secrets) -> Result<Self, StoreError> {
        let revision = |key| -> Result<AtomicU64, StoreError> {
            let stored = backend.get(key)?;
            let found = stored.map(|stored| open_value(secrets, key, &stored)).transpose()?;
            Ok(AtomicU64::new(found.map_or(0, |found| found.revision)))
        };
        let (erased, rewritten) = (revision(ERASED_KEY)?, revision(REWRITTEN_KEY)?);
        Ok(Self(Arc::new(Known { erased, rewritten, ..Known::default() })))
    }

    /// This transaction erases: it is in the copy, and not applied yet. One that the copy does not
    /// take never happens, and its revision is another one's.
    pub(crate) fn erased(&self, revision: u64) {
        self.0.erased.fetch_max(revision, Ordering::AcqRel);
    }

    /// The last transaction that erased.
    pub(crate) fn erased_at(&self) -> u64 {
        self.0.erased.load(Ordering::Acquire)
    }

    /// The copy that is there was begun at this revision.
    pub(crate) fn copy_began(&self, revision: u64) {
        self.0.copy_began.store(revision, Ordering::Release);
    }

    fn is_under_way(&self) -> bool {
        self.0.under_way.lock().is_some()
    }
}

impl Store {
    /// Writes the store anew while it goes on: afterwards nothing of what was removed or replaced by
    /// the transactions before this call is in its files. Where a file system writes in place, the
    /// bytes of the files before are overwritten; where it does not, they are only removed.
    ///
    /// # Errors
    /// `Busy`, `Closed`, or the trouble of the disk, too little space among it: then the files are
    /// as they were.
    pub async fn rewrite(&self) -> Result<(), StoreError> {
        let (answer, result) = oneshot::channel();
        self.order(Order::Rewrite(answer))?;
        result.await.map_err(|_| StoreError::Closed)?
    }

    /// True if something that was erased may still be in the files.
    #[must_use]
    pub fn is_rewrite_due(&self) -> bool {
        let known = &self.inner.rewrites.0;
        known.erased.load(Ordering::Acquire) > known.rewritten.load(Ordering::Acquire)
    }

    /// Everything that was removed or replaced by this transaction, or before it, has left the
    /// files.
    #[must_use]
    pub fn rewritten_at(&self) -> u64 {
        self.inner.rewrites.0.rewritten.load(Ordering::Acquire)
    }

    /// The revision at which the copy was begun: nothing that was removed or replaced by this
    /// transaction, or before it, is in it. 0 if it could not be looked at yet.
    #[must_use]
    pub fn copy_began_at(&self) -> u64 {
        self.inner.rewrites.0.copy_began.load(Ordering::Acquire)
    }
}

impl Committer {
    /// The next order. While a rewrite is under way, it goes on as long as nobody wants anything.
    pub(crate) fn next(&mut self, orders: &Receiver<Order>) -> Option<Order> {
        while self.rewrites.is_under_way() {
            match orders.try_recv() {
                Ok(order) => return Some(order),
                Err(TryRecvError::Empty) => self.rewrite_more(),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        orders.recv().ok()
    }

    /// Begins a rewrite. What was committed before is in the backend.
    pub(crate) fn rewrite(&mut self, answer: Answer) {
        if let Some(under_way) = &mut *self.rewrites.0.under_way.lock() {
            return under_way.later.push(answer);
        }
        self.begin_rewrite(vec![answer]);
    }

    fn begin_rewrite(&mut self, answers: Vec<Answer>) {
        let begun = match &self.broken {
            Some(why) => Err(StoreError::Io(why.clone())),
            None => self.backend.rewrite_begin(self.reserve_bytes).map_err(StoreError::from),
        };
        match begun {
            Ok(()) => {
                let under_way = UnderWay { began_at: self.revision, answers, later: Vec::new() };
                *self.rewrites.0.under_way.lock() = Some(under_way);
            }
            Err(error) => tell(answers, &Err(error)),
        }
    }

    /// Copies the next part, if a rewrite is under way.
    pub(crate) fn rewrite_more(&mut self) {
        let began_at = self.rewrites.0.under_way.lock().as_ref().map(|u| u.began_at);
        let Some(began_at) = began_at else { return };
        // What may not be written any more is not put in another file's place either.
        if let Some(why) = &self.broken {
            return self.give_up_rewrite(StoreError::Io(why.clone()));
        }
        match self.backend.rewrite_step() {
            Ok(false) => {}
            Ok(true) => self.end_rewrite(began_at),
            Err(error) => self.give_up_rewrite(error.into()),
        }
    }

    fn end_rewrite(&mut self, began_at: u64) {
        if let Err(error) = self.mark(began_at) {
            return self.give_up_rewrite(error);
        }
        let ended = self.backend.rewrite_end().map_err(StoreError::from);
        let Some(UnderWay { answers, later, .. }) = self.rewrites.0.under_way.lock().take() else {
            return;
        };
        match ended {
            Ok(left_over) => {
                self.renew_copy();
                self.remove(left_over, began_at, answers);
            }
            Err(error) => {
                // One of two databases counts, and nobody knows which.
                let why = error.to_string();
                self.give_up(Health::Broken(why.clone()), &why);
                tell(answers, &Err(error));
            }
        }
        if !later.is_empty() {
            self.begin_rewrite(later);
        }
    }

    /// Leaves in the new files what the rewrite is good for. The old ones never have it: they count
    /// until the rename, and what was erased is in them.
    fn mark(&self, began_at: u64) -> Result<(), StoreError> {
        let value = seal_value(&self.secrets, REWRITTEN_KEY, began_at, &[])?;
        Ok(self.backend.rewrite_mark(RawWrite::Put(REWRITTEN_KEY.to_vec(), value))?)
    }

    /// Removes the files before, on a thread of its own: nobody waits for it but who asked for it.
    fn remove(&self, left_over: LeftOver, began_at: u64, answers: Vec<Answer>) {
        let (rewrites, lock) = (self.rewrites.clone(), self.lock.clone());
        let work = move || {
            // The directory belongs to this process until it is done.
            let _lock = lock;
            let removed = left_over().map_err(StoreError::from);
            if removed.is_ok() {
                rewrites.0.rewritten.fetch_max(began_at, Ordering::AcqRel);
            }
            tell(answers, &removed);
        };
        if let Err(error) = std::thread::Builder::new().name("store-remove".into()).spawn(work) {
            tracing::warn!(%error, "the files before a rewrite are removed at the next start");
        }
    }

    /// Ends a rewrite before its end.
    pub(crate) fn give_up_rewrite(&mut self, error: StoreError) {
        let Some(UnderWay { answers, later, .. }) = self.rewrites.0.under_way.lock().take() else {
            return;
        };
        self.backend.rewrite_give_up();
        tell(answers.into_iter().chain(later).collect(), &Err(error));
    }
}

fn tell(answers: Vec<Answer>, ended: &Result<(), StoreError>) {
    for answer in answers {
        let _gone = answer.send(ended.as_ref().map(|_| ()).map_err(Clone::clone));
    }
}

#[cfg(test)]
pub(crate) mod tests;
