//! The days on which key versions were used last: kept in memory by every use, and written when a
//! day has changed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind};
use fieldseal_model::{Action, KeyName, KeyVersionState, Timestamp, VersionNumber};
use fieldseal_store::{Store, Txn, Versioned};
use futures_util::future::join_all;
use prost::Message;

use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::records::{USE, decode};
use crate::registry::VersionCell;

/// Nanoseconds of a day.
const DAY_NANOS: i64 = 86_400 * 1_000_000_000;
/// How many records are written at the same time.
const TOGETHER: usize = 64;

/// A day of the calendar, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u32);

impl Day {
    /// The day of a moment, from 1970-01-02 on; earlier ones are that one.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.unix_nanos().div_euclid(DAY_NANOS)).unwrap_or(0).max(1))
    }

    fn from_number(number: u32) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }
}

/// `2026-01-02`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i64::from(self.0).saturating_mul(DAY_NANOS);
        let text = Timestamp::from_unix_nanos(nanos).to_string();
        f.write_str(text.split('T').next().unwrap_or_default())
    }
}

/// When a version was used last; 0 is never.
#[derive(Default)]
pub(crate) struct Used {
    sealed: AtomicU32,
    opened: AtomicU32,
    /// The same two as the store has them.
    kept: [AtomicU32; 2],
}

impl Used {
    /// A value was sealed under it. Nothing is written unless the day has changed.
    pub(crate) fn sealed(&self, at: Timestamp) {
        later(&self.sealed, Day::of(at));
    }

    /// A value was opened under it.
    pub(crate) fn opened(&self, at: Timestamp) {
        later(&self.opened, Day::of(at));
    }

    /// When a value was sealed under it last, and when one was opened.
    pub(crate) fn days(&self) -> (Option<Day>, Option<Day>) {
        let read = |day: &AtomicU32| Day::from_number(day.load(Ordering::Relaxed));
        (read(&self.sealed), read(&self.opened))
    }

    fn numbers(&self) -> [u32; 2] {
        [self.sealed.load(Ordering::Relaxed), self.opened.load(Ordering::Relaxed)]
    }

    fn is_kept(&self) -> bool {
        let [sealed, opened] = &self.kept;
        [sealed.load(Ordering::Relaxed), opened.load(Ordering::Relaxed)] == self.numbers()
    }

    fn keep(&self, [sealed, opened]: [u32; 2]) {
        let [kept_sealed, kept_opened] = &self.kept;
        kept_sealed.store(sealed, Ordering::Relaxed);
        kept_opened.store(opened, Ordering::Relaxed);
    }
}

/// A clock that goes back does not make a use undone.
fn later(day: &AtomicU32, today: Day) {
    if day.load(Ordering::Relaxed) < today.0 {
        day.fetch_max(today.0, Ordering::Relaxed);
    }
}

/// The days on which a version was used last.
#[derive(Clone, PartialEq, Message)]
struct UseRecord {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint32, tag = "2")]
    version: u32,
    /// Days since 1970-01-01; 0 is never.
    #[prost(uint32, tag = "3")]
    sealed: u32,
    #[prost(uint32, tag = "4")]
    opened: u32,
}

/// Reads when the versions of a key were used last.
pub(crate) async fn load(
    store: &Store,
    key: &KeyName,
    versions: &BTreeMap<VersionNumber, Arc<VersionCell>>,
) -> Result<(), KeyError> {
    const WHAT: &str = "a record of a key version's use";
    let load = |found: Versioned| {
        let record: UseRecord = decode(WHAT, &found.value)?;
        let version = VersionNumber::new(record.version)
            .filter(|_| record.key == key.as_str())
            .and_then(|number| versions.get(&number))
            .ok_or(KeyError::Corrupt(WHAT))?;
        version.used.sealed.store(record.sealed, Ordering::Relaxed);
        version.used.opened.store(record.opened, Ordering::Relaxed);
        version.used.keep([record.sealed, record.opened]);
        Ok(())
    };
    store.each(&store.prefix(USE, &[key.as_str().as_bytes()]), load).await
}

impl Keys {
    /// Writes down the days on which versions were used last, if one has changed: at most one
    /// change a version and day. What cannot be written is written the next time.
    pub async fn keep_use(&self) {
        let inner = &self.inner;
        if inner.ledger.ready().is_err() {
            return;
        }
        let versions = inner.registry.all();
        let versions = versions.iter().flat_map(|key| key.versions.values());
        let changed: Vec<_> = versions
            .filter(|version| !version.used.is_kept())
            .filter(|version| version.state() != KeyVersionState::Destroyed)
            .cloned()
            .collect();
        for some in changed.chunks(TOGETHER) {
            for kept in join_all(some.iter().map(|version| self.keep_version(version))).await {
                if let Err(error) = kept {
                    tracing::warn!(%error, "the days on which keys were used last are not written");
                    return;
                }
            }
        }
    }

    async fn keep_version(&self, version: &Arc<VersionCell>) -> Result<(), KeyError> {
        let (inner, version) = (Arc::clone(&self.inner), Arc::clone(version));
        self.inner.finish(async move { inner.keep_use(&version).await }).await
    }
}

impl Inner {
    async fn keep_use(&self, cell: &VersionCell) -> Result<(), KeyError> {
        let days = cell.used.numbers();
        let [sealed, opened] = days;
        let (key, version) = (&cell.version.key, cell.version.number.get());
        let shown = |day| Day::from_number(day).map_or("never".to_owned(), |day| day.to_string());
        let by = ChangedBy::Itself(Action::GetRotationStatus, "use");
        let event = ChangeEvent::new(by, self.clock.now(), Kind::VersionUsed, Some(key))
            .version(version)
            .note(&format!("last seal: {}; last open: {}", shown(sealed), shown(opened)));
        let record = UseRecord { key: key.as_str().to_owned(), version, sealed, opened };
        let fill = |txn: Txn| {
            let parts = [key.as_str().as_bytes(), &version.to_be_bytes()];
            txn.put(self.store.path(USE, &parts), record.encode_to_vec())
        };
        self.ledger.commit(event, fill).await?;
        cell.used.keep(days);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_day_counts_and_a_clock_that_goes_back_changes_nothing() {
        let (used, at) = (Used::default(), |day| Timestamp::from_unix_nanos(day * DAY_NANOS + 1));
        assert_eq!(used.days(), (None, None));
        assert!(used.is_kept());
        used.sealed(at(20_000));
        used.sealed(at(19_999));
        used.opened(at(20_001));
        let (sealed, opened) = used.days();
        let days = [sealed, opened].map(|day| day.map(|day| day.to_string()));
        assert_eq!(days, [Some("2024-10-04".to_owned()), Some("2024-10-05".to_owned())]);
        assert!(!used.is_kept());
        used.keep(used.numbers());
        assert!(used.is_kept());
    }
}
