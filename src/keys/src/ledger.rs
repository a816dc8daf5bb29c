//! A change and its audit record as one thing: the record waits in the store's outbox until the
//! journal has it, and only then is the change acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{ChangeEvent, Health, Journal, JournalError, Receipt, Relayed};
use fieldseal_store::{OutboxEntry, Store, Txn};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::anchor;
use crate::error::KeyError;

/// Most outbox entries that go to the journal together.
const GROUP: usize = 256;
/// How long the relay waits before it tries again what the journal refused.
const RETRY: Duration = Duration::from_millis(500);

enum Slot {
    /// A change waits for its record.
    Waiting(oneshot::Sender<Receipt>),
    /// The record was written before its change asked.
    Done(Receipt),
}

/// Commits changes to the store and relays their records to the journal, in revision order.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    journal: Journal,
    /// `None` once nothing is relayed any more.
    slots: Arc<Mutex<Option<HashMap<u64, Slot>>>>,
    relay: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// A change that is in the store and in the log.
pub(crate) struct Committed {
    pub(crate) revision: u64,
    pub(crate) receipt: Receipt,
}

impl Ledger {
    /// Relays what waits in the outbox since the last run, then relays for as long as `entries`
    /// is open. [`Ledger::check`] comes before.
    ///
    /// # Errors
    /// If the store cannot be read or the journal does not take the records.
    pub async fn start(
        store: Store,
        journal: Journal,
        entries: mpsc::UnboundedReceiver<OutboxEntry>,
    ) -> Result<Self, KeyError> {
        let pending = store.outbox().await?;
        if let Some(last) = pending.last().map(|e| e.revision) {
            for entry in &pending {
                journal.relay(&entry.bytes).await?;
            }
            tracing::info!(records = pending.len(), "relayed records that waited in the outbox");
            store.outbox_done(last).await?;
        }
        let ledger = Self {
            store,
            journal,
            slots: Arc::new(Mutex::new(Some(HashMap::new()))),
            relay: Arc::default(),
        };
        let relay = tokio::spawn(ledger.clone().relay(entries));
        *ledger.relay.lock() = Some(relay);
        Ok(ledger)
    }

    /// A ledger for an installation that is only read: it refuses every change, and leaves what
    /// waits in the outbox for the next start.
    #[must_use]
    pub fn idle(store: Store, journal: Journal) -> Self {
        Self { store, journal, slots: Arc::default(), relay: Arc::default() }
    }

    /// Whether store and log tell of the same changes: each has its record in the log, or waits for
    /// it in the outbox, and the log's newest is of this very store. If one of them was put back to
    /// an earlier time, or goes on from another past, a change would be taken for recorded that is
    /// not.
    ///
    /// # Errors
    /// `Mismatch`, or if the store cannot be read.
    pub async fn check(store: &Store, journal: &Journal) -> Result<(), KeyError> {
        Ok(anchor::compare(store.opened_position(), &store.outbox().await?, journal.last_change())?)
    }

    /// Waits until nothing is relayed any more: after the store was closed, which ends the relay.
    /// What the journal did not take waits in the outbox for the next start.
    pub async fn finished(&self) {
        let relay = self.relay.lock().take();
        if let Some(relay) = relay
            && relay.await.is_err()
        {
            tracing::error!("the relay of changes to the audit log failed");
        }
    }

    /// Refuses a change while its record could not be written: before anything changes (I1). It
    /// looks at the log's file itself, because the first to notice may be a change.
    pub(crate) fn ready(&self) -> Result<(), KeyError> {
        if self.journal.is_closed() {
            return Err(KeyError::Stopping);
        }
        match self.journal.look() {
            Health::Ok if self.slots.lock().is_none() => Err(KeyError::Stopping),
            Health::Ok => Ok(()),
            _ => Err(KeyError::Journal(JournalError::Unavailable)),
        }
    }

    /// Commits `txn` together with `event` and waits until both are durable. If the log goes away
    /// in between, it waits until the log is back: a change that is in the store is made visible
    /// when its record is written, and never without it. If it does not come back, because its disk
    /// failed or the process ends, the next start records the change.
    ///
    /// INVARIANT: runs inside a spawned task, so that a caller that is cancelled, or that gives up
    /// waiting, leaves no half state.
    pub(crate) async fn commit(
        &self,
        event: ChangeEvent,
        fill: impl FnOnce(Txn) -> Txn,
    ) -> Result<Committed, KeyError> {
        self.ready()?;
        let txn = Txn::new(Box::new(move |revision, anchor| event.encode(revision, anchor)));
        let revision = self.store.txn(fill(txn)).await?;
        // It is in the store from here on: if nothing is relayed any more, the next start does it.
        let receipt = self.recorded(revision).await.ok_or(KeyError::Unacknowledged)?;
        Ok(Committed { revision, receipt })
    }

    /// Waits for the record of a revision; `None` if nothing is relayed any more.
    async fn recorded(&self, revision: u64) -> Option<Receipt> {
        let waiting = {
            let mut slots = self.slots.lock();
            let slots = slots.as_mut()?;
            if let Some(Slot::Done(receipt)) = slots.remove(&revision) {
                return Some(receipt);
            }
            let (sender, waiting) = oneshot::channel();
            slots.insert(revision, Slot::Waiting(sender));
            waiting
        };
        waiting.await.ok()
    }

    fn tell(&self, revision: u64, receipt: Receipt) {
        let mut slots = self.slots.lock();
        let Some(slots) = slots.as_mut() else { return };
        match slots.remove(&revision) {
            // A process that ends takes its tasks along; nobody needs the answer then.
            Some(Slot::Waiting(sender)) => drop(sender.send(receipt)),
            Some(Slot::Done(_)) | None => drop(slots.insert(revision, Slot::Done(receipt))),
        }
    }

    async fn relay(self, entries: mpsc::UnboundedReceiver<OutboxEntry>) {
        self.relay_until_closed(entries).await;
        // Whoever still waits learns that it is over.
        *self.slots.lock() = None;
    }

    async fn relay_until_closed(&self, mut entries: mpsc::UnboundedReceiver<OutboxEntry>) {
        let mut group = Vec::with_capacity(GROUP);
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while entries.recv_many(&mut group, GROUP).await > 0 {
            let mut told = 0;
            while told < group.len() {
                told += self.relay_group(group.get(told..).unwrap_or_default()).await;
                // Nothing is ever written again to a log whose disk failed: whoever waits learns it.
                let is_broken = matches!(self.journal.health(), Health::Broken(_));
                if is_broken || self.journal.is_closed() {
                    return;
                }
                if told < group.len() {
                    retry.tick().await;
                }
            }
            let last = group.last().map(|e| e.revision);
            group.clear();
            let Some(last) = last else { continue };
            if let Err(error) = self.store.outbox_done(last).await {
                // The journal skips what it has, so entries that stay are relayed again at start.
                tracing::warn!(%error, "could not empty the outbox");
            }
        }
    }

    /// Hands the entries to the journal in order; returns how many of the first it has now.
    async fn relay_group(&self, group: &[OutboxEntry]) -> usize {
        // The first poll of each future enqueues its record, and `join_all` polls in order.
        let results = join_all(group.iter().map(|e| self.journal.relay(&e.bytes))).await;
        let mut done = 0;
        for (entry, result) in group.iter().zip(results) {
            match result {
                Ok(Relayed::Recorded(receipt)) => self.tell(entry.revision, receipt),
                // Impossible once `check` was passed; whoever waits must not be told that it counts.
                Ok(Relayed::Already) => {
                    tracing::error!(revision = entry.revision, "a change has another's record");
                    return done;
                }
                Err(error) => {
                    tracing::error!(revision = entry.revision, %error,
                        "a change is not recorded yet; it is tried again");
                    return done;
                }
            }
            done += 1;
        }
        done
    }
}
