//! The installation's own clock: how much time it has seen pass. Windows before key material goes are
//! counted on it, so that a clock that is wrong, set or slewed can only delay them.
//!
//! It counts while the process runs, and goes on where its record in the store stands. What passes
//! between the last record and a crash is not counted.

use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind};
use fieldseal_model::{Action, Clock, Timestamp};
use fieldseal_store::{Store, Txn};
use parking_lot::Mutex;
use prost::Message;

use crate::error::KeyError;
use crate::keys::Inner;
use crate::records::{CLOCK, ClockRecord, decode};

/// How much time a crash may lose while something is waiting.
const TICK: Duration = Duration::from_secs(15 * 60);

/// How much time the installation has seen pass.
pub(crate) struct Seen {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    total: Duration,
    /// The steady clock when it was looked at last.
    looked: Duration,
    /// What stands in the store.
    stored: Duration,
}

impl Seen {
    pub(crate) async fn load(store: &Store, clock: Arc<dyn Clock>) -> Result<Self, KeyError> {
        let found = store.get(&store.path(CLOCK, &[])).await?;
        let record: ClockRecord = match found {
            Some(found) => decode("the record of time seen", &found.value)?,
            None => ClockRecord::default(),
        };
        let stored = Duration::from_nanos(record.seen_nanos);
        let state = State { total: stored, looked: clock.steady(), stored };
        Ok(Self { clock, state: Mutex::new(state) })
    }

    /// How much time has passed until now.
    pub(crate) fn now(&self) -> Duration {
        let mut state = self.state.lock();
        let steady = self.clock.steady();
        state.total = state.total.saturating_add(steady.saturating_sub(state.looked));
        state.looked = steady;
        state.total
    }

    /// When that much time will have been seen, if the process runs until then.
    pub(crate) fn expected(&self, due: Duration) -> Timestamp {
        self.clock.now().plus(due.saturating_sub(self.now()))
    }

    fn unstored(&self) -> Duration {
        let now = self.now();
        now.saturating_sub(self.state.lock().stored)
    }
}

impl Inner {
    /// Adds the record of the time seen so far to a transaction. Whatever begins a window does so:
    /// the window would last longer by all that was not stored if the process crashed.
    pub(crate) fn see(&self, txn: Txn, now: Duration) -> Txn {
        let seen_nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        txn.put(self.store.path(CLOCK, &[]), ClockRecord { seen_nanos }.encode_to_vec())
    }

    /// Stores the time seen if something waits for it and the last record is old.
    pub(crate) async fn tick(&self) -> Result<(), KeyError> {
        if !self.is_waiting() || self.seen.unstored() < TICK {
            return Ok(());
        }
        self.store_tick().await
    }

    /// Stores the time seen before the process ends, if something waits for it.
    pub(crate) async fn last_tick(&self) -> Result<(), KeyError> {
        if !self.is_waiting() || self.seen.unstored().is_zero() {
            return Ok(());
        }
        self.store_tick().await
    }

    async fn store_tick(&self) -> Result<(), KeyError> {
        let _one_at_a_time = self.changes.lock().await;
        let seen = self.seen.now();
        let by = ChangedBy::Itself(Action::ScheduleDestroyKeyVersion, "window");
        let event = ChangeEvent::new(by, self.clock.now(), Kind::ClockTicked, None);
        self.ledger.commit(event, |txn| self.see(txn, seen)).await?;
        self.seen.state.lock().stored = seen;
        Ok(())
    }
}
