//! A flood of refusals does not fill the log: the first of each kind is recorded at once, and those that
//! follow within a window are counted, and recorded together at its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Journal;
use crate::error::{Health, JournalError};
use crate::event::{CallEvent, Refused};
use crate::proofs::Receipt;

/// Most kinds of refusals of one caller that are counted at the same time. One more is recorded by itself.
const MOST_OF_ONE: usize = 64;
/// The same of all callers.
const MOST: usize = 2_048;
/// What is counted takes at most so many bytes, of all callers.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// What is counted.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// Zero: nothing is counted.
    window: Duration,
    open: HashMap<[u8; 32], Open>,
    /// How many of these each caller has.
    callers: HashMap<Arc<str>, usize>,
    bytes: usize,
    /// Windows that are over, and whose record could not be written yet.
    unwritten: Vec<Refused>,
}

/// A kind of refusal whose window is not over.
struct Open {
    caller: Arc<str>,
    /// On the clock that nobody sets.
    until: Duration,
    /// The record of the first one.
    first: Receipt,
    /// Those that followed.
    counted: Option<Refused>,
}

/// What becomes of a refusal.
enum Found {
    /// It is counted together with this record.
    Counted(Receipt),
    /// The same, but what was counted before it has no room for it and is recorded first.
    Full(Refused, Receipt),
    /// It is recorded by itself.
    New,
}

impl Table {
    fn count(&mut self, kind: [u8; 32], event: &CallEvent) -> Found {
        let Some(open) = self.open.get_mut(&kind) else { return Found::New };
        let first = open.first.clone();
        let before = open.counted.as_ref().map_or(0, Refused::bytes);
        let is_added = open.counted.as_mut().is_some_and(|counted| counted.add(event));
        let full = if is_added { None } else { open.counted.replace(Refused::of(event)) };
        let after = open.counted.as_ref().map_or(0, Refused::bytes);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(after);
        match full {
            Some(full) => Found::Full(full, first),
            None => Found::Counted(first),
        }
    }

    /// Counts those that follow, if there is room.
    fn open(&mut self, kind: [u8; 32], caller: &str, first: Receipt, now: Duration) {
        let of_caller = self.callers.get(caller).copied().unwrap_or(0);
        let is_full = of_caller >= MOST_OF_ONE
            || self.open.len() >= MOST
            || self.bytes >= MOST_BYTES
            || self.window.is_zero();
        if is_full || self.open.contains_key(&kind) {
            return;
        }
        let caller = Arc::from(caller);
        *self.callers.entry(Arc::clone(&caller)).or_default() += 1;
        let until = now.saturating_add(self.window);
        self.open.insert(kind, Open { caller, until, first, counted: None });
    }

    /// What is to be written: of the windows that are over, or of all.
    fn due(&mut self, now: Option<Duration>) -> Vec<Refused> {
        let mut due = std::mem::take(&mut self.unwritten);
        let over = |open: &mut Open| now.is_none_or(|now| now >= open.until);
        for (_, open) in self.open.extract_if(|_, open| over(open)) {
            if let Some(of_caller) = self.callers.get_mut(&open.caller) {
                *of_caller = of_caller.saturating_sub(1);
            }
            if let Some(counted) = open.counted {
                self.bytes = self.bytes.saturating_sub(counted.bytes());
                due.push(counted);
            }
        }
        self.callers.retain(|_, open| *open > 0);
        due
    }
}

impl Journal {
    /// Counts refusals that are alike within a window of time from the first; zero records each by itself,
    /// as a journal does that was just opened. Whoever says this calls [`Journal::record_counted`] from
    /// time to time.
    pub fn count_refusals(&self, window: Duration) {
        self.shared.refusals.0.lock().window = window;
    }

    /// Records what was counted in windows that are over, or all that was, and then nothing is counted any
    /// more. What cannot be written waits for the next time.
    ///
    /// # Errors
    /// Why the first of them could not be written.
    pub async fn record_counted(&self, all: bool) -> Result<(), JournalError> {
        let due = {
            let mut table = self.shared.refusals.0.lock();
            if all {
                table.window = Duration::ZERO;
            }
            table.due((!all).then(|| self.shared.clock.steady()))
        };
        self.record_all(due).await
    }

    async fn record_all(&self, due: Vec<Refused>) -> Result<(), JournalError> {
        let mut due = due.into_iter();
        while let Some(refused) = due.next() {
            let written = match refused.encode() {
                Ok(record) => self.write(record).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                let mut table = self.shared.refusals.0.lock();
                table.unwritten.push(refused);
                table.unwritten.extend(due);
                return Err(error);
            }
        }
        Ok(())
    }

    /// How many refusals are counted and not on disk yet.
    #[must_use]
    pub fn counted_refusals(&self) -> u64 {
        let table = self.shared.refusals.0.lock();
        let open = table.open.values().filter_map(|open| open.counted.as_ref());
        open.chain(&table.unwritten).map(Refused::calls).sum()
    }

    /// Records a call, or counts it with those that are like it.
    pub(super) async fn put(&self, event: CallEvent) -> Result<Receipt, JournalError> {
        // What cannot be recorded is not answered, so it is not counted either.
        let kind = event.refusal().filter(|_| self.health() == Health::Ok && !self.is_closed());
        let Some(kind) = kind else { return self.write(event.encode()?).await };
        let found = self.shared.refusals.0.lock().count(kind, &event);
        match found {
            Found::Counted(first) => Ok(first),
            Found::Full(before, first) => {
                self.record_all(vec![before]).await?;
                Ok(first)
            }
            Found::New => {
                let caller = event.caller();
                let receipt = self.write(event.encode()?).await?;
                let now = self.shared.clock.steady();
                self.shared.refusals.0.lock().open(kind, &caller, receipt.clone(), now);
                Ok(receipt)
            }
        }
    }
}
