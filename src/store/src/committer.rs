//! The one thread that writes: guards, revisions, sealing, the sum, the outbox, one sync a group.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use fieldseal_crypto::record;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use crate::backend::{Backend, RawWrite};
use crate::copy::{Copy, CopyError, CopyOf, Moment};
use crate::damage::Trouble;
use crate::error::{StoreError, TxnError};
use crate::lock::Hold;
use crate::path::Path;
use crate::rewrite::{ERASED_KEY, Rewrites};
use crate::snapshot::{Images, Taken, is_record};
use crate::store::{Health, OutboxEntry, STATE_KEY, Secrets};
use crate::stored::{open_value, outbox_key, outbox_value, seal_value, stored_revision};
use crate::txn::{Guard, Txn, Write, check_value};

/// Most transactions of a group.
const GROUP: usize = 256;
/// How often free space is looked at.
const SPACE_CHECK: Duration = Duration::from_millis(100);

pub(crate) enum Order {
    Txn(Txn, oneshot::Sender<Result<u64, TxnError>>),
    OutboxDone(u64, oneshot::Sender<Result<(), StoreError>>),
    Copy(CopyOf, oneshot::Sender<Result<(), CopyError>>),
    Snapshot(usize, oneshot::Sender<Result<Taken, StoreError>>),
    Rewrite(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

pub(crate) struct Committer {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) secrets: Arc<Secrets>,
    /// Held for writing from apply to sync: nobody reads what is not durable yet.
    pub(crate) applying: Arc<RwLock<()>>,
    pub(crate) outbox: mpsc::UnboundedSender<OutboxEntry>,
    pub(crate) pending: BTreeSet<u64>,
    pub(crate) revision: u64,
    pub(crate) acc: [u8; 32],
    pub(crate) reserve_bytes: u64,
    pub(crate) broken: Option<String>,
    /// The same for everybody to read.
    pub(crate) trouble: Trouble,
    pub(crate) space: Option<(Instant, bool)>,
    /// The snapshots that are open.
    pub(crate) snapshots: Vec<Weak<Images>>,
    /// What every transaction is in before it is applied.
    pub(crate) copy: Option<Copy>,
    /// Why it cannot be written, for everybody to read.
    pub(crate) copy_trouble: Arc<RwLock<Option<String>>>,
    pub(crate) rewrites: Rewrites,
    /// The directory belongs to this process until the backend above is closed here too.
    pub(crate) lock: Hold,
}

/// A group while it is being put together: what it writes so far, on top of the backend.
#[derive(Default)]
struct Group {
    /// Where the store was before the first transaction.
    began: Option<(u64, [u8; 32])>,
    /// The last transaction that erases something, or 0.
    erases: u64,
    overlay: HashMap<Vec<u8>, Option<Vec<u8>>>,
    events: Vec<OutboxEntry>,
    answers: Vec<(oneshot::Sender<Result<u64, TxnError>>, u64)>,
    refused: Vec<(oneshot::Sender<Result<u64, TxnError>>, TxnError)>,
    done: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Committer {
    /// Commits until the store is closed or forgotten. Then the backend is no longer held here, and
    /// whoever closed the store is told.
    pub(crate) fn run(mut self, orders: &Receiver<Order>) {
        let closed = self.serve(orders);
        drop(self);
        if let Some(answer) = closed {
            let _nobody_waits = answer.send(());
        }
    }

    fn serve(&mut self, orders: &Receiver<Order>) -> Option<oneshot::Sender<()>> {
        while let Some(first) = self.next(orders) {
            let mut group = Group::default();
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(order) = next {
                match order {
                    Order::Txn(txn, answer) => {
                        self.take(&mut group, txn, answer);
                        // A large one takes half a millisecond: callers of decrypts wait for the
                        // processor meanwhile.
                        std::thread::yield_now();
                    }
                    Order::OutboxDone(up_to, answer) => {
                        self.empty_outbox(&mut group, up_to);
                        group.done.push(answer);
                    }
                    Order::Copy(of, answer) => {
                        self.commit(std::mem::take(&mut group));
                        let _gone = answer.send(self.begin_copy(of));
                    }
                    Order::Snapshot(bound, answer) => {
                        self.commit(std::mem::take(&mut group));
                        let _gone = answer.send(self.take_snapshot(bound));
                    }
                    Order::Rewrite(answer) => {
                        self.commit(std::mem::take(&mut group));
                        self.rewrite(answer);
                    }
                    Order::Close(answer) => {
                        self.commit(group);
                        self.give_up_rewrite(StoreError::Closed);
                        return Some(answer);
                    }
                }
                taken += 1;
                next = if taken < GROUP { orders.try_recv().ok() } else { None };
            }
            self.commit(group);
            self.rewrite_more();
        }
        self.give_up_rewrite(StoreError::Closed);
        None
    }

    fn take(
        &mut self,
        group: &mut Group,
        txn: Txn,
        answer: oneshot::Sender<Result<u64, TxnError>>,
    ) {
        let result = match &self.broken {
            Some(why) => Err(TxnError::Broken(why.clone())),
            // A panic of the maker of an event leaves the group as it was, but nobody knows what else
            // it left.
            None => catch_unwind(AssertUnwindSafe(|| self.add(group, txn))).unwrap_or_else(|_| {
                let why = "a transaction was given up half way".to_owned();
                self.give_up(Health::Broken(why.clone()), &why);
                Err(TxnError::Broken(why))
            }),
        };
        // A refusal waits for the group as well: whoever lost a race then finds what won it.
        match result {
            Ok(revision) => group.answers.push((answer, revision)),
            Err(error) => group.refused.push((answer, error)),
        }
    }

    /// Adds a transaction to the group, or refuses it and leaves the group as it was.
    fn add(&mut self, group: &mut Group, txn: Txn) -> Result<u64, TxnError> {
        txn.check()?;
        if !self.backend.is_in_place() {
            return Err(TxnError::Missing);
        }
        if !self.has_space() {
            return Err(TxnError::NoSpace);
        }
        for (at, guard) in txn.guards.iter().enumerate() {
            let (path, wanted) = match guard {
                Guard::Absent(path) => (path, None),
                Guard::At(path, revision) => (path, Some(*revision)),
            };
            let found = self.current(group, path)?;
            let found = found.as_deref().map(stored_revision).transpose()?;
            if found != wanted {
                return Err(TxnError::Conflict { guard: at });
            }
        }
        let revision = self.revision + 1;
        let mut acc = self.acc;
        let mut changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        for write in txn.writes {
            let path = match &write {
                Write::Put(path, _) | Write::Update(path, _) | Write::Delete(path) => path.clone(),
            };
            let earlier = changes.iter().rposition(|(key, _)| *key == path.0);
            let old = match earlier.map(|at| changes.swap_remove(at)) {
                Some((_, old)) => old,
                None => self.current(group, &path)?,
            };
            let value = self.value(&path, old.as_deref(), write)?;
            if let Some(old) = old {
                record::subtract(&mut acc, &self.term(&path.0, &old)?);
            }
            let new = match value {
                Some(value) => Some(seal_value(&self.secrets, &path.0, revision, &value)?),
                None => None,
            };
            if let Some(new) = &new {
                record::add(&mut acc, &self.term(&path.0, new)?);
            }
            changes.push((path.0, new));
        }
        if txn.erases {
            let erased = seal_value(&self.secrets, ERASED_KEY, revision, &[])?;
            changes.push((ERASED_KEY.to_vec(), Some(erased)));
        }
        let anchor = self.secrets.anchor.mac(&acc);
        let previous = self.secrets.anchor.mac(&self.acc);
        let bytes = (txn.event)(revision, anchor);
        let key = outbox_key(revision);
        let waiting = outbox_value([previous, anchor], &bytes);
        let sealed = seal_value(&self.secrets, &key, revision, &waiting)?;
        group.began.get_or_insert((self.revision, self.acc));
        group.erases = if txn.erases { revision } else { group.erases };
        group.overlay.extend(changes);
        group.overlay.insert(key, Some(sealed));
        group.events.push(OutboxEntry { revision, previous, anchor, bytes });
        self.pending.insert(revision);
        self.revision = revision;
        self.acc = acc;
        Ok(revision)
    }

    /// What a write puts in place of the stored record; `None` if it removes it.
    fn value(
        &self,
        path: &Path,
        old: Option<&[u8]>,
        write: Write,
    ) -> Result<Option<Vec<u8>>, TxnError> {
        match write {
            Write::Put(_, value) => Ok(Some(value)),
            Write::Delete(_) => Ok(None),
            Write::Update(_, update) => {
                let old = old.map(|old| open_value(&self.secrets, &path.0, old)).transpose()?;
                let value = update(old.as_ref().map(|old| old.value.as_slice()))?;
                check_value(value.len())?;
                Ok(Some(value))
            }
        }
    }

    fn current(&self, group: &Group, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match group.overlay.get(&path.0) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.backend.get(&path.0)?),
        }
    }

    /// The term of a stored value: over the sealed bytes, so that a recount opens nothing.
    fn term(&self, path: &[u8], stored: &[u8]) -> Result<[u8; 32], StoreError> {
        let revision = stored_revision(stored)?;
        Ok(self.secrets.anchor.term(path, revision, stored.get(8..).unwrap_or_default()))
    }

    fn empty_outbox(&mut self, group: &mut Group, up_to: u64) {
        let later = self.pending.split_off(&up_to.saturating_add(1));
        let done = std::mem::replace(&mut self.pending, later);
        for revision in done {
            group.overlay.insert(outbox_key(revision), None);
        }
    }

    fn commit(&mut self, group: Group) {
        let group = self.copied(group);
        let Group { erases, overlay, events, answers, refused, done, .. } = group;
        // Before it is applied, so that nobody misses it.
        self.rewrites.erased(erases);
        let write = AssertUnwindSafe(|| self.write(overlay, !answers.is_empty()));
        let result = catch_unwind(write)
            .unwrap_or_else(|_| Err(io::Error::other("a group was given up half way")));
        match result {
            Ok(()) => {
                // The outbox first: whoever is answered finds the event on its way.
                for event in events {
                    let _nobody_relays = self.outbox.send(event);
                }
                for (answer, revision) in answers {
                    let _gone = answer.send(Ok(revision));
                }
                for answer in done {
                    let _gone = answer.send(Ok(()));
                }
            }
            Err(error) => {
                let why = error.to_string();
                let health = match error.kind() {
                    io::ErrorKind::InvalidData => Health::Damaged(why.clone()),
                    _ => Health::Broken(why.clone()),
                };
                self.give_up(health, &why);
                for (answer, _) in answers {
                    let _gone = answer.send(Err(TxnError::Indeterminate(why.clone())));
                }
                for answer in done {
                    let _gone = answer.send(Err(StoreError::Io(why.clone())));
                }
            }
        }
        for (answer, error) in refused {
            let _gone = answer.send(Err(error));
        }
    }

    /// The group once the copy holds it. Without the copy its transactions did not happen, and
    /// nothing was written; the outbox is emptied all the same.
    fn copied(&mut self, mut group: Group) -> Group {
        let Some((revision, acc)) = group.began else { return group };
        let before = Moment { revision, anchor: self.secrets.anchor.mac(&acc) };
        let Err(why) = self.copy_group(before, &group.overlay) else { return group };
        (self.revision, self.acc) = (revision, acc);
        self.pending.split_off(&revision.saturating_add(1));
        let answers = group.answers.drain(..);
        let refused = answers.map(|(answer, _)| (answer, TxnError::CopyUnavailable(why.clone())));
        group.refused.extend(refused);
        group.events.clear();
        group.erases = 0;
        group.overlay.retain(|path, stored| {
            stored.is_none() && !is_record(path) && *path <= outbox_key(revision)
        });
        group
    }

    /// Writes nothing any more.
    pub(crate) fn give_up(&mut self, health: Health, why: &str) {
        if self.broken.is_none() {
            self.trouble.set(health);
            self.broken = Some(why.to_owned());
        }
    }

    fn write(&mut self, overlay: HashMap<Vec<u8>, Option<Vec<u8>>>, sync: bool) -> io::Result<()> {
        if overlay.is_empty() {
            return Ok(());
        }
        if let Some(why) = &self.broken {
            return Err(io::Error::other(why.clone()));
        }
        self.keep_images(&overlay)?;
        let mut writes: Vec<RawWrite> = overlay
            .into_iter()
            .map(|(key, value)| match value {
                Some(value) => RawWrite::Put(key, value),
                None => RawWrite::Delete(key),
            })
            .collect();
        if sync {
            let state = seal_value(&self.secrets, STATE_KEY, self.revision, &self.acc)
                .map_err(|error| io::Error::other(error.to_string()))?;
            writes.push(RawWrite::Put(STATE_KEY.to_vec(), state));
        }
        let _nobody_reads = self.applying.write();
        self.backend.apply(writes)?;
        // Removed outbox entries need no sync: coming back, they are skipped by the journal.
        if sync { self.backend.sync() } else { Ok(()) }
    }

    fn has_space(&mut self) -> bool {
        if let Some((at, enough)) = self.space
            && at.elapsed() < SPACE_CHECK
        {
            return enough;
        }
        let free = self.backend.free_bytes();
        // A disk that does not say how full it is may be written: a real ENOSPC is found then.
        let enough = !matches!(free, Ok(Some(bytes)) if bytes < self.reserve_bytes);
        self.space = Some((Instant::now(), enough));
        enough
    }
}
