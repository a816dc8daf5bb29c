//! Following the log as it grows, for auditors.

use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{Beginning, Event, Follower, PageLimit};
use fieldseal_model::{AccessReason, Action, Malformed, MalformedReason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::call::Caller;
use crate::engine::Engine;
use crate::observe::AuditQuery;
use crate::refusal::{Refusal, RefusalCause};

/// How many follow the log at the same time.
const MAX_TAILS: usize = 4;
/// Between two looks at the log's end. It grows thousands of times a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Places for those who follow the log. One more is refused, not queued.
pub(crate) struct Tails(Arc<Semaphore>);

impl Default for Tails {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_TAILS)))
    }
}

/// Somebody who follows the log. Nothing is read ahead: whoever is slow falls behind, and reads on
/// from the segments.
pub struct AuditTail {
    engine: Engine,
    caller: Caller,
    reason: AccessReason,
    /// `None` if a read was cut off.
    follower: Option<Follower>,
    position: u64,
    /// How many records the log had at the last look.
    size: u64,
    limit: PageLimit,
    begins: Beginning,
    grown: watch::Receiver<u64>,
    next_look: Instant,
    _place: OwnedSemaphorePermit,
}

impl Engine {
    /// Follows the log from a record on. Without one: from its first record if the query has a
    /// start, otherwise from the next that is made. That it was opened is on record before the
    /// answer leaves.
    ///
    /// # Errors
    /// Denied, a log that is not here, a record beyond the log's end, too many who follow it at
    /// the same time, or a log that cannot be written.
    pub async fn tail_audit(
        &self,
        caller: &Caller,
        query: AuditQuery,
        limit: PageLimit,
        start: Option<u64>,
        reason: &AccessReason,
    ) -> Result<AuditTail, Refusal> {
        let reading = self.begin_reading(caller, Action::TailAuditEvents, &query, reason).await?;
        let journal = &self.inner.journal;
        let grown = journal.grown();
        let size = *grown.borrow();
        let from_the_first = query.start.is_some();
        let position = start.unwrap_or(if from_the_first { 0 } else { size });
        let place = self.check_log(&query.log).and_then(|()| {
            if position > size {
                let what = "start_index is beyond the end of the log";
                return Err(Malformed::new(MalformedReason::QueryInvalid, what).into());
            }
            let places = Arc::clone(&self.inner.tails.0);
            places.try_acquire_owned().map_err(|_| RefusalCause::TailBusy)
        });
        let follower = journal.follow(reading.words(query), position);
        let reader = journal.reader();
        let begins = tokio::task::spawn_blocking(move || reader.begins());
        let begins = begins.await.map_err(|_| RefusalCause::Internal("a tail was cut off"))?;
        let place = place.and_then(|place| Ok((place, begins?)));
        let (place, begins) = self.record_reading(reading, place).await?;
        Ok(AuditTail {
            _place: place,
            engine: self.clone(),
            caller: caller.clone(),
            reason: reason.clone(),
            follower: Some(follower),
            position,
            size,
            limit,
            begins,
            grown,
            next_look: Instant::now(),
        })
    }
}

impl AuditTail {
    /// The instance that names the log.
    #[must_use]
    pub fn log(&self) -> &str {
        self.engine.inner.journal.log()
    }

    /// Where the log began that was at hand when this was opened.
    #[must_use]
    pub const fn begins(&self) -> Beginning {
        self.begins
    }

    /// Every record before this one was looked at.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Waits for the next events that match, at least one. Policy is asked at each look, and a
    /// refusal is on record. If it is dropped before it is ready, the position stays as it was, and
    /// there is no other call.
    ///
    /// # Errors
    /// Denied by a newer policy, or a log that cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Event>, Refusal> {
        loop {
            if self.position >= self.size {
                let closed = |_| RefusalCause::Internal("the audit log is gone");
                self.grown.changed().await.map_err(closed)?;
                sleep_until(self.next_look).await;
            }
            self.check().await?;
            self.size = *self.grown.borrow_and_update();
            let events = self.read(self.size).await?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    async fn check(&self) -> Result<(), Refusal> {
        let (engine, caller, action) = (&self.engine, &self.caller, Action::TailAuditEvents);
        match engine.decide_key(caller, action, None, &self.reason) {
            Ok(_) => Ok(()),
            Err(denial) => Err(engine.denied(caller, action, None, &self.reason, &denial).await),
        }
    }

    /// Reads what there is, on a thread that may block.
    async fn read(&mut self, size: u64) -> Result<Vec<Event>, RefusalCause> {
        self.next_look = Instant::now() + LOOK_EVERY;
        let (follower, limit) = (self.follower.take(), self.limit);
        let mut follower = follower.ok_or(RefusalCause::Internal("a tail was cut off"))?;
        let reading = tokio::task::spawn_blocking(move || {
            let events = follower.read(limit, size);
            (follower, events)
        });
        let (follower, events) =
            reading.await.map_err(|_| RefusalCause::Internal("a tail was cut off"))?;
        self.position = follower.position();
        self.follower = Some(follower);
        Ok(events?)
    }
}
