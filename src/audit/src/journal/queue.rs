//! What waits for the writer.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::error::JournalError;
use crate::merkle::Hash;
use crate::record::{Encoded, LastChange};
use crate::segment::le32;

/// Records that may wait. More are refused.
pub(super) const MAX_WAITING: usize = 16 * 1024;
/// Bytes that may wait. More are refused.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;
/// A batch that has so many bytes takes no more.
const BATCH_BYTES: usize = 1024 * 1024;

/// First index and tree size, or why there are none.
pub(super) type Written = Result<(u64, u64), JournalError>;

/// Where the callers of a batch learn what became of it.
#[derive(Default)]
struct Answer {
    written: OnceLock<Written>,
    told: Notify,
}

/// Records that are written together.
pub(super) struct Batch {
    /// `(le32 length | leaf)*`
    pub leaves: Vec<u8>,
    /// `(le32 length | detail)*`
    pub details: Vec<u8>,
    pub hashes: Vec<Hash>,
    /// The newest change among them; its index is its place among them.
    pub newest: Option<LastChange>,
    answer: Arc<Answer>,
}

impl Batch {
    fn new() -> Self {
        Self {
            leaves: Vec::new(),
            details: Vec::new(),
            hashes: Vec::new(),
            newest: None,
            answer: Arc::default(),
        }
    }

    fn bytes(&self) -> usize {
        self.leaves.len().saturating_add(self.details.len())
    }

    /// Tells the callers.
    pub(super) fn answer(&self, written: Written) {
        // Set once: a batch is written once.
        let _ = self.answer.written.set(written);
        self.answer.told.notify_waiters();
    }

    fn ticket(&self) -> Ticket {
        let index = (self.hashes.len() as u64).saturating_sub(1);
        Ticket { index, answer: Arc::clone(&self.answer) }
    }
}

/// A caller's place in a batch.
#[derive(Clone)]
pub(super) struct Ticket {
    pub(super) index: u64,
    answer: Arc<Answer>,
}

impl Ticket {
    /// Waits until the batch is on disk or failed.
    pub(super) async fn written(&self) -> Written {
        loop {
            // Made before looking, so that no notification is missed.
            let told = self.answer.told.notified();
            if let Some(written) = self.answer.written.get() {
                return written.clone();
            }
            told.await;
        }
    }
}

/// The batches that wait, and who leads.
pub(super) struct Queue {
    waiting: VecDeque<Batch>,
    records: usize,
    bytes: usize,
    leading: bool,
    /// Records of the last batch that was taken.
    last: usize,
    closed: bool,
    /// The batch that is being written.
    current: Option<Ticket>,
    /// The newest revision on disk, and the newest that was queued.
    written: u64,
    queued: u64,
}

impl Queue {
    pub(super) fn new(revision: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            records: 0,
            bytes: 0,
            leading: false,
            last: 0,
            closed: false,
            current: None,
            written: revision,
            queued: revision,
        }
    }

    /// Queues a record. The second part is true if the caller must lead.
    pub(super) fn push(&mut self, record: Encoded) -> Result<(Ticket, bool), JournalError> {
        if self.closed {
            return Err(JournalError::Closed);
        }
        let bytes = record.bytes();
        if self.records >= MAX_WAITING || self.bytes.saturating_add(bytes) > MAX_WAITING_BYTES {
            return Err(JournalError::QueueFull);
        }
        // INVARIANT: every revision has one record, and none overtakes another. One that was left
        // out would be taken for one that is in the log already.
        if record.revision != 0 && record.revision != self.queued.saturating_add(1) {
            return Err(JournalError::Inconsistent);
        }
        self.queued = self.queued.max(record.revision);
        if self.waiting.back().is_none_or(|batch| batch.bytes() >= BATCH_BYTES) {
            self.waiting.push_back(Batch::new());
        }
        let Some(batch) = self.waiting.back_mut() else { return Err(JournalError::Inconsistent) };
        batch.leaves.extend_from_slice(&le32(record.leaf.len()));
        batch.leaves.extend_from_slice(&record.leaf);
        batch.details.extend_from_slice(&le32(record.detail.len() + record.items.len()));
        batch.details.extend_from_slice(&record.detail);
        batch.details.extend_from_slice(&record.items);
        batch.hashes.push(record.leaf_hash);
        if record.revision > 0 {
            let index = (batch.hashes.len() as u64).saturating_sub(1);
            let (revision, anchor) = (record.revision, record.anchor);
            batch.newest = Some(LastChange { revision, anchor, index });
        }
        let ticket = batch.ticket();
        self.records += 1;
        self.bytes += bytes;
        let lead = !std::mem::replace(&mut self.leading, true);
        Ok((ticket, lead))
    }

    /// How many records wait, if others are likely to come: the last group had more than one.
    pub(super) fn expected(&self) -> Option<usize> {
        (self.last > 1 || self.records > 1).then_some(self.records)
    }

    /// How many records wait, if there are more than before and more fit into the batch.
    pub(super) fn more_than(&self, before: usize) -> Option<usize> {
        (self.records > before && self.waiting.len() < 2).then_some(self.records)
    }

    /// The next batch, for whoever leads.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let batch = self.waiting.pop_front();
        match &batch {
            None => self.leading = false,
            Some(batch) => {
                self.last = batch.hashes.len();
                self.records = self.records.saturating_sub(self.last);
                self.bytes = self.bytes.saturating_sub(batch.bytes());
                self.current = Some(batch.ticket());
            }
        }
        batch
    }

    /// Ends a lead. After a failure everything that waits comes out, for its callers to be told.
    /// The second part is true if somebody must lead on.
    pub(super) fn end_lead(&mut self, batch: &Batch, ok: bool) -> (Vec<Batch>, bool) {
        let mut late = Vec::new();
        if ok {
            self.written = self.written.max(batch.newest.map_or(0, |newest| newest.revision));
        } else {
            late = self.waiting.drain(..).collect();
            (self.records, self.bytes, self.queued) = (0, 0, self.written);
        }
        self.current = None;
        self.leading = !self.waiting.is_empty();
        (late, self.leading)
    }

    pub(super) fn waiting_records(&self) -> usize {
        self.records
    }

    pub(super) fn written_revision(&self) -> u64 {
        self.written
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Refuses everything from now on; gives the last batch that was taken before.
    pub(super) fn close(&mut self) -> Option<Ticket> {
        self.closed = true;
        self.waiting.back().map(Batch::ticket).or_else(|| self.current.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SALT_BYTES;

    fn record(revision: u64, bytes: usize) -> Encoded {
        Encoded::new(vec![8; bytes], &[0; SALT_BYTES], &[], Vec::new(), revision)
    }

    fn refused(queue: &mut Queue, record: Encoded) -> Option<JournalError> {
        queue.push(record).err()
    }

    #[test]
    fn a_full_queue_refuses_and_has_room_again_when_its_batch_is_taken() {
        for (bytes, most) in [(10, MAX_WAITING), (1 << 20, 31)] {
            let mut queue = Queue::new(0);
            for _ in 0..most {
                assert_eq!(refused(&mut queue, record(0, bytes)), None);
            }
            assert_eq!(refused(&mut queue, record(0, bytes)), Some(JournalError::QueueFull));
            queue.take().unwrap();
            assert_eq!(refused(&mut queue, record(0, bytes)), None);
        }
    }

    #[test]
    fn a_change_that_did_not_fit_is_not_overtaken_by_the_next() {
        let mut queue = Queue::new(4);
        while refused(&mut queue, record(0, 1 << 20)).is_none() {}
        assert_eq!(refused(&mut queue, record(5, 1 << 20)), Some(JournalError::QueueFull));
        assert_eq!(refused(&mut queue, record(6, 1)), Some(JournalError::Inconsistent));
        queue.take().unwrap();
        assert_eq!(refused(&mut queue, record(5, 1)), None);
        assert_eq!(refused(&mut queue, record(6, 1)), None);
    }

    #[test]
    fn after_a_failed_batch_the_changes_behind_it_come_again_from_the_first() {
        let mut queue = Queue::new(0);
        assert_eq!(refused(&mut queue, record(1, 1)), None);
        let first = queue.take().unwrap();
        assert_eq!(refused(&mut queue, record(2, 1)), None);
        let (late, more) = queue.end_lead(&first, false);
        assert_eq!((late.len(), more), (1, false));
        assert_eq!(refused(&mut queue, record(2, 1)), Some(JournalError::Inconsistent));
        assert_eq!(refused(&mut queue, record(1, 1)), None);
        assert_eq!(queue.written_revision(), 0);
    }
}
