//! Whether a store and an audit log belong together (docs/architecture.md, "Anchors").
//!
//! Every change's record carries the store's revision and the HMAC over the sum of the whole store
//! after it. So the log knows which store it goes with, and one that was put back, or that went on
//! from another past, shows.

use std::fmt;

use fieldseal_audit::LastChange;
use fieldseal_store::{OutboxEntry, Position};

/// How store and log differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The log tells of changes that the store has not.
    StoreBehind,
    /// The store has changes that the log does not tell of.
    LogBehind,
    /// Both went on from some earlier moment, each its own way.
    Diverged,
}

impl Relation {
    /// The stable reason.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::StoreBehind => "STORE_BEHIND_LOG",
            Self::LogBehind => "LOG_BEHIND_STORE",
            Self::Diverged => "STORE_LOG_DIVERGED",
        }
    }
}

/// Store and log do not tell of the same changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// How they differ.
    pub relation: Relation,
    /// Where the store is.
    pub store: Position,
    /// The newest change in the log.
    pub log: Option<LastChange>,
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relation, store, log } = self;
        let anchor = Anchor(&store.anchor);
        write!(
            f,
            "the store is at revision {} (anchor {anchor}) and the audit log ",
            store.revision
        )?;
        match log {
            None => write!(f, "tells of no change: ")?,
            Some(LastChange { revision, anchor, index }) => {
                let anchor = Anchor(anchor);
                write!(f, "at revision {revision} (anchor {anchor}, record {index}): ")?;
            }
        }
        f.write_str(match relation {
            Relation::StoreBehind => "the store is from an earlier time than the log",
            Relation::LogBehind => "the log is from an earlier time than the store",
            Relation::Diverged => {
                "one does not continue the other: they went on from an earlier moment, each its \
                 own way"
            }
        })
    }
}

/// Enough of an anchor to tell it from another.
struct Anchor<'a>(&'a [u8; 32]);

impl fmt::Display for Anchor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Compares a store, with what waits in its outbox, and the newest change in a log. What waits
/// carries the log on to where the store is; an entry that the log has already must be the one that
/// it has.
///
/// # Errors
/// [`Mismatch`].
pub fn compare(
    store: Position,
    outbox: &[OutboxEntry],
    log: Option<LastChange>,
) -> Result<(), Mismatch> {
    let differ = |relation| Err(Mismatch { relation, store, log });
    let recorded = log.map_or(0, |log| log.revision);
    if recorded > store.revision {
        return differ(Relation::StoreBehind);
    }
    let waiting = || outbox.iter().filter(|entry| entry.revision > recorded);
    let revisions = waiting().map(|entry| entry.revision);
    if !revisions.eq(recorded.saturating_add(1)..=store.revision) {
        return differ(Relation::LogBehind);
    }
    let known = |entry: &&OutboxEntry| entry.revision == recorded;
    let mut newest = log.map(|log| log.anchor);
    if let (Some(entry), Some(newest)) = (outbox.iter().find(known), newest)
        && entry.anchor != newest
    {
        return differ(Relation::Diverged);
    }
    for entry in waiting() {
        if newest.is_some_and(|newest| newest != entry.previous) {
            return differ(Relation::Diverged);
        }
        newest = Some(entry.anchor);
    }
    match newest {
        Some(newest) if newest != store.anchor => differ(Relation::Diverged),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The anchor of a revision in one of two histories, which have the first five in common.
    fn anchor(history: u8, revision: u64) -> [u8; 32] {
        let history = if revision <= 5 { 0 } else { history };
        let mut anchor = [history; 32];
        anchor[0] = u8::try_from(revision).unwrap_or(0);
        anchor
    }

    fn store(history: u8, revision: u64) -> Position {
        Position { revision, anchor: anchor(history, revision) }
    }

    fn log(history: u8, revision: u64) -> Option<LastChange> {
        let anchor = anchor(history, revision);
        (revision > 0).then_some(LastChange { revision, anchor, index: 10 * revision })
    }

    fn outbox(history: u8, revisions: std::ops::RangeInclusive<u64>) -> Vec<OutboxEntry> {
        let entry = |revision| OutboxEntry {
            revision,
            previous: anchor(history, revision - 1),
            anchor: anchor(history, revision),
            bytes: Vec::new(),
        };
        revisions.map(entry).collect()
    }

    fn found(store: Position, outbox: &[OutboxEntry], log: Option<LastChange>) -> &'static str {
        compare(store, outbox, log).map_or_else(|m| m.relation.reason(), |()| "OK")
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "an empty outbox")]
    fn a_store_and_its_log_belong_together_and_no_others_do() {
        const NONE: std::ops::RangeInclusive<u64> = 1..=0;
        for (of_store, waits, of_log, expected) in [
            // Nothing happened yet; all is recorded; some or all of it waits; it waits and is there.
            ((1, 0), NONE, (1, 0), "OK"),
            ((1, 8), NONE, (1, 8), "OK"),
            ((1, 8), 7..=8, (1, 6), "OK"),
            ((1, 3), 1..=3, (1, 0), "OK"),
            ((1, 8), 5..=8, (1, 7), "OK"),
            ((1, 8), 8..=8, (1, 8), "OK"),
            // One of them is older.
            ((1, 6), NONE, (1, 8), "STORE_BEHIND_LOG"),
            ((1, 0), NONE, (1, 8), "STORE_BEHIND_LOG"),
            ((1, 6), 6..=6, (1, 8), "STORE_BEHIND_LOG"),
            ((1, 8), NONE, (1, 6), "LOG_BEHIND_STORE"),
            ((1, 8), NONE, (1, 0), "LOG_BEHIND_STORE"),
            ((1, 8), 8..=8, (1, 6), "LOG_BEHIND_STORE"),
            ((1, 8), 7..=7, (1, 6), "LOG_BEHIND_STORE"),
            // Older, and then it went on by itself.
            ((2, 8), NONE, (1, 8), "STORE_LOG_DIVERGED"),
            ((2, 8), 8..=8, (1, 8), "STORE_LOG_DIVERGED"),
            ((2, 8), 8..=8, (1, 7), "STORE_LOG_DIVERGED"),
            ((2, 8), 7..=8, (1, 7), "STORE_LOG_DIVERGED"),
            // What waits is not this store's.
            ((2, 8), 7..=8, (1, 6), "STORE_LOG_DIVERGED"),
        ] {
            let entries = outbox(of_store.0, waits);
            let (store, log) = (store(of_store.0, of_store.1), log(of_log.0, of_log.1));
            assert_eq!(found(store, &entries, log), expected, "{store:?} {log:?}");
        }
        // The store goes on from another past than what waits says.
        let other = outbox(1, 6..=8);
        assert_eq!(found(store(2, 8), &other, log(1, 5)), "STORE_LOG_DIVERGED");
    }

    #[test]
    fn a_mismatch_names_both_positions() {
        let mismatch = compare(store(1, 6), &[], log(1, 8)).unwrap_err();
        assert_eq!(
            mismatch.to_string(),
            "the store is at revision 6 (anchor 060101010101) and the audit log at revision 8 \
             (anchor 080101010101, record 80): the store is from an earlier time than the log"
        );
        let no_change = compare(store(1, 6), &[], None).unwrap_err();
        assert!(no_change.to_string().contains("the audit log tells of no change: "));
    }
}
