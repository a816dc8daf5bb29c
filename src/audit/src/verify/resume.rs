//! Verifying only what is new since an earlier run.

use std::path::PathBuf;

use crate::error::JournalError;
use crate::merkle::Hash;
use crate::segment::{At, Segment};
use crate::subtrees::Subtrees;

use super::report::{Range, Report, Verdict};
use super::state::State;
use super::walk::{Found, Start, Walk};
use super::{Files, LogKey, Remembered, VerifyError, read_segments, remembered, segments};

const EARLIER: &str = "an earlier run read these records, and found this among them";
const OTHER_PAST: &str = "it is not the log that was verified before: it was written anew";

/// As [`super::report`], from where the state of an earlier run ends: nothing before that is read
/// again. Everything is read if there is no state, if `is_full`, if a checkpoint is older than the
/// state, or if the frame of the state is not in its place. Then the log must go on from the state's
/// checkpoint as from one that was kept elsewhere.
///
/// # Errors
/// As [`super::report`].
pub fn resume(
    files: Files<'_>,
    key: &LogKey,
    state: Option<&State>,
    is_full: bool,
    kept: Option<&Remembered>,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let all = segments(files, key)?;
    let Some(state) = state else {
        let walk = &mut |_| {};
        let read = Walk::new(key, kept, &mut progress, walk);
        return Ok(read_segments(files, &all, read, None)?.0);
    };
    let is_older = kept.is_some_and(|kept| kept.size < state.records());
    if !is_full
        && !is_older
        && let Some(place) = place(&all, key, state)?
    {
        let mut change = |_| {};
        let walk = Walk::new(key, kept, &mut progress, &mut change);
        let rest = all.get(place.at..).unwrap_or_default();
        let (report, _) = read_segments(files, rest, walk, Some(&place.start(state)))?;
        return Ok(with_earlier(report, state, rest));
    }
    let verified = remembered(&state.note, key)?;
    let (longer, shorter) = match kept {
        Some(kept) if kept.size > verified.size => (kept, Some(&verified)),
        kept => (&verified, kept),
    };
    let walk = &mut |_| {};
    let walk = Walk::new(key, Some(longer), &mut progress, walk);
    let (mut report, _) = read_segments(files, &all, walk, None)?;
    if report.verdict() <= Verdict::Archived
        && let Some(shorter) = shorter.filter(|shorter| shorter.size > 0)
        && let Some((first, file)) = all.first()
    {
        if shorter.size < *first {
            report.is_compared = false;
            return Ok(report);
        }
        if root(all.clone(), key, shorter.size)? == shorter.root {
            return Ok(report);
        }
        let (verdict, end, file) = (Verdict::Tampered, Some(report.verified.records), file.clone());
        report.ranges = vec![Range { verdict, first: 0, end, file, offset: 0, what: OTHER_PAST }];
        report.state = None;
    }
    Ok(report)
}

/// A report of what is new, and what an earlier run said of the records before.
fn with_earlier(mut report: Report, state: &State, rest: &[(u64, PathBuf)]) -> Report {
    report.resumed_from = state.records();
    if state.verdict > Verdict::Ok
        && let Some((_, file)) = rest.first()
    {
        let (verdict, end, offset) = (state.verdict, Some(state.records()), state.frame);
        let file = file.clone();
        report.ranges.insert(0, Range { verdict, first: 0, end, file, offset, what: EARLIER });
        report.state = report.state.map(|new| State { verdict: new.verdict.max(verdict), ..new });
    }
    report
}

/// The frame of a state, where it still stands.
struct Place {
    /// Which segment it is in.
    at: usize,
    root: Hash,
    signature: [u8; 64],
    /// Where the frame ends.
    end: u64,
}

impl Place {
    fn start(&self, state: &State) -> Start {
        let found = Found {
            tree: state.tree.clone(),
            last_change: state.last_change,
            signed: Some((state.tree.size(), self.root, self.signature)),
            at: Some((state.segment, state.frame)),
            ..Found::default()
        };
        Start { from: self.end, root: self.root, found }
    }
}

/// `None` if something else stands there now, whatever it is.
fn place(
    all: &[(u64, PathBuf)],
    key: &LogKey,
    state: &State,
) -> Result<Option<Place>, VerifyError> {
    let Some(at) = all.iter().position(|(number, _)| *number == state.segment) else {
        return Ok(None);
    };
    let Some((_, path)) = all.get(at) else { return Ok(None) };
    let segment = match Segment::open(path, &key.key) {
        Ok(segment) => segment,
        Err(JournalError::Corrupt { .. }) => return Ok(None),
        Err(other) => return Err(VerifyError::Unreadable(other)),
    };
    if segment.head.origin != key.origin || segment.head.first != state.segment {
        return Ok(None);
    }
    let At::Frame(frame) = segment.at(state.frame).map_err(VerifyError::Unreadable)? else {
        return Ok(None);
    };
    let root = state.tree.root();
    let records = frame.head.first.checked_add(frame.head.count.into());
    // The signature is that of the state's checkpoint.
    let body = crate::checkpoint::body(&key.origin, state.records(), &root);
    let is_it = records == Some(state.records())
        && frame.head.root == root
        && key.key.verify(body.as_bytes(), &frame.signature).is_ok();
    let (signature, end) = (frame.signature, frame.end);
    Ok(is_it.then_some(Place { at, root, signature, end }))
}

/// The root over the first records of a log that verifies.
fn root(all: Vec<(u64, PathBuf)>, key: &LogKey, size: u64) -> Result<Hash, VerifyError> {
    let trees = Subtrees::of(all, &key.key, size);
    trees.and_then(|mut trees| trees.root(0..size)).map_err(VerifyError::Unreadable)
}
