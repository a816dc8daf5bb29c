//! The records between two times, with what proves them to somebody who does not have the log.

use std::ops::Range;

use fieldseal_model::Timestamp;
use prost::Message as _;

use crate::error::JournalError;
use crate::excerpt::{self, Parts};
use crate::merkle::{self, Hash};
use crate::record::{COMMITMENT_BYTES, Kind, Outcome, Record, Redaction};
use crate::segment::Frame;
use crate::subtrees::Subtrees;

use super::entry::{self, Entry};
use super::walk::Walk;
use super::{Files, LogKey, Verified, VerifyError, read};

const CHANGED: &str = "it changed while it was read";

/// Between which times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From this moment on.
    pub since: Timestamp,
    /// Until before this one; `None`: until the log's end.
    pub until: Option<Timestamp>,
}

impl Times {
    /// True for a moment between them.
    #[must_use]
    pub fn contain(&self, at: Timestamp) -> bool {
        at >= self.since && self.until.is_none_or(|until| at < until)
    }
}

/// A record with its bytes.
#[derive(Debug)]
pub struct Proved<'a> {
    /// The public part and the commitment to the detail: what the tree covers.
    pub leaf: &'a [u8],
    /// The detail; empty if there is none.
    pub detail: &'a [u8],
    /// What they say.
    pub entry: Entry,
}

/// The records between two times of a log that verified.
#[derive(Debug)]
pub struct Evidence<'a> {
    files: Files<'a>,
    key: &'a LogKey,
    /// The log as it was verified.
    pub verified: Verified,
    /// From the first record between the times to the last one, and one more on each side where there
    /// is one. Calls are recorded when they end, so that some of them may have begun before or after. From
    /// the log's first record on if none before the range says which policy decides.
    pub records: Range<u64>,
    /// How many of them are between the times.
    pub between: u64,
    /// The last record before them that says which policy decides; `None` if the first of them does, or
    /// if they begin with the log.
    pub policy: Option<u64>,
    /// The records behind them that say that details of these were redacted.
    pub redactions: Vec<u64>,
}

/// What one walk over the log finds out.
#[derive(Default)]
struct Found {
    range: Option<(u64, u64)>,
    between: u64,
    /// The last record before them that says which policy decides.
    policy: Option<u64>,
    /// What each redaction named.
    redactions: Vec<(u64, Vec<Redaction>)>,
}

impl Found {
    fn leaf(&mut self, index: u64, leaf: &[u8], times: &Times) {
        let public = leaf.len().checked_sub(COMMITMENT_BYTES).and_then(|len| leaf.get(..len));
        let Some(record) = public.and_then(|public| Record::decode(public).ok()) else { return };
        if times.contain(Timestamp::from_unix_nanos(record.time)) {
            let first = self.range.map_or(index, |(first, _)| first);
            self.range = Some((first, index));
            self.between = self.between.saturating_add(1);
        }
        let is_done = record.outcome == Outcome::Ok.code();
        match Kind::from_code(record.kind) {
            Some(Kind::PolicyReloaded) if !is_done => {}
            Some(Kind::Start | Kind::PolicyReloaded) if self.range.is_none() => {
                self.policy = Some(index);
            }
            Some(Kind::DetailsRedacted) if is_done => {
                self.redactions.push((index, record.redactions));
            }
            _ => {}
        }
    }

    /// The redactions behind a range that name one of these records.
    fn redactions_of(&self, range: &Range<u64>, policy: Option<u64>) -> Vec<u64> {
        let names = |redaction: &Redaction| {
            let end = redaction.first.saturating_add(redaction.count);
            let at_policy = policy.is_some_and(|at| (redaction.first..end).contains(&at));
            at_policy || redaction.first < range.end && range.start < end
        };
        let named = self.redactions.iter().filter(|(_, named)| named.iter().any(names));
        named.map(|(index, _)| *index).filter(|index| *index >= range.end).collect()
    }
}

/// Verifies a whole log and finds the records between two times; `None` if there are none. A torn
/// end that nobody signed is left out.
///
/// # Errors
/// The first thing that is wrong with the log.
pub fn evidence<'a>(
    files: Files<'a>,
    key: &'a LogKey,
    times: &Times,
    mut progress: impl FnMut(u64),
) -> Result<Option<Evidence<'a>>, VerifyError> {
    let (mut found, mut change) = (Found::default(), |_| {});
    let mut leaf = |index: u64, leaf: &[u8], _: &Hash| found.leaf(index, leaf, times);
    let mut walk = Walk::new(key, None, &mut progress, &mut change);
    walk.leaf = Some(&mut leaf);
    let (report, _) = read(files, walk)?;
    if let Some(wrong) = report.first_wrong() {
        return Err(wrong);
    }
    if let Some(archived) = report.archived() {
        return Err(VerifyError::Archived(archived));
    }
    let verified = report.verified;
    let Some((first, last)) = found.range else { return Ok(None) };
    // Before its first start a log has what was done offline. That no record before the range says which policy
    // decides is shown by showing all of them.
    let start = found.policy.map_or(0, |_| first.saturating_sub(1));
    let end = last.saturating_add(2).min(verified.records);
    let policy = found.policy.filter(|at| *at < start);
    let redactions = found.redactions_of(&(start..end), policy);
    let (records, between) = (start..end, found.between);
    Ok(Some(Evidence { files, key, verified, records, between, policy, redactions }))
}

impl Evidence<'_> {
    /// Which records there are, in the order of the log: that of the policy before, the range, and
    /// those of redactions.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let one = |at: u64| at..at.saturating_add(1);
        let policy = self.policy.map(one).into_iter();
        let redactions = self.redactions.iter().copied().map(one);
        policy.chain([self.records.clone()]).chain(redactions).collect()
    }

    /// Reads the records again, one after the other, and gives the roots of the subtrees that none of
    /// them is in, from left to right: with the records they lead to the root that was verified.
    ///
    /// # Errors
    /// What `see` says, and what is not as it was when it was verified.
    pub fn read<E: From<VerifyError>>(
        &self,
        see: impl FnMut(Proved<'_>) -> Result<(), E>,
    ) -> Result<Vec<Hash>, E> {
        let segments = self.files.list().map_err(VerifyError::Unreadable)?;
        let subtrees = Subtrees::of(segments, &self.key.key, self.verified.records);
        let subtrees = subtrees.map_err(VerifyError::Unreadable)?;
        let mut reading = Reading { subtrees, frame: None, given: Vec::new(), see };
        let root = excerpt::root(&mut reading, &self.ranges(), 0..self.verified.records)?;
        if root != self.verified.root {
            return Err(VerifyError::Unreadable(reading.subtrees.gone(CHANGED)).into());
        }
        Ok(reading.given)
    }
}

/// A frame whose records are read one after the other.
struct Open {
    records: Range<u64>,
    /// Each leaf with its detail.
    pairs: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
}

struct Reading<'a, F> {
    subtrees: Subtrees<'a>,
    frame: Option<Open>,
    given: Vec<Hash>,
    see: F,
}

impl<F> Reading<'_, F> {
    /// The next record: the walk asks for them in their order.
    fn record(&mut self, index: u64) -> Result<(Vec<u8>, Vec<u8>), JournalError> {
        if self.frame.as_ref().is_none_or(|open| !open.records.contains(&index)) {
            let (records, frame) = self.subtrees.whole(index)?;
            let mut pairs = pairs(&frame).ok_or_else(|| self.subtrees.gone(CHANGED))?.into_iter();
            for _ in records.start..index {
                pairs.next();
            }
            self.frame = Some(Open { records, pairs });
        }
        let pair = self.frame.as_mut().and_then(|open| open.pairs.next());
        pair.ok_or_else(|| self.subtrees.gone(CHANGED))
    }
}

fn pairs(frame: &Frame) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let both = frame.leaves().zip(frame.details());
    both.map(|(leaf, detail)| Some((leaf?.to_vec(), detail?.to_vec()))).collect()
}

impl<E: From<VerifyError>, F: FnMut(Proved<'_>) -> Result<(), E>> Parts for Reading<'_, F> {
    type Error = E;

    fn outside(&mut self, subtree: Range<u64>) -> Result<Hash, E> {
        let hash = self.subtrees.root(subtree).map_err(VerifyError::Unreadable)?;
        self.given.push(hash);
        Ok(hash)
    }

    fn leaf(&mut self, index: u64) -> Result<Hash, E> {
        let (leaf, detail) = self.record(index).map_err(VerifyError::Unreadable)?;
        let gone = || VerifyError::Unreadable(self.subtrees.gone(CHANGED));
        let entry = entry::read(index, &leaf, &detail).ok_or_else(gone)?;
        (self.see)(Proved { leaf: &leaf, detail: &detail, entry })?;
        Ok(merkle::leaf_hash(&leaf))
    }
}
