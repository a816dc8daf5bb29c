//! What a verifier says of a log, range by range.

use std::path::PathBuf;

use crate::record::LastChange;
use crate::segment;

use super::state::State;
use super::{Verified, VerifyError};

/// What is known of a range of records, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Every byte is as it was signed.
    Ok,
    /// Personal detail is not there, and a record of the log says that it was erased. Everything else is
    /// as it was signed.
    Redacted,
    /// Records are not there, and a record of the log says that they were archived.
    Archived,
    /// Bytes after the last signed frame that nothing says were ever on disk: the torn end of a
    /// killed process, or an end that was altered.
    UnprovenTail,
    /// Records that were signed are not there.
    Missing,
    /// Something else stands there than what was signed.
    Tampered,
}

impl Verdict {
    /// The name that is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Redacted => "REDACTED",
            Self::Archived => "ARCHIVED",
            Self::UnprovenTail => "UNPROVEN-TAIL",
            Self::Missing => "MISSING",
            Self::Tampered => "TAMPERED",
        }
    }
}

/// Records that stand next to each other and of which the same is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// What is known of them.
    pub verdict: Verdict,
    /// The first record.
    pub first: u64,
    /// The record behind the last one. The same as `first` where there is something between two
    /// records, or behind them, that does not belong there. `None` if nobody knows how many
    /// there were.
    pub end: Option<u64>,
    /// The segment in which the range begins, or in which it would stand.
    pub file: PathBuf,
    /// The byte of the frame with which it begins; 0 for a segment's header, and for a segment that
    /// is not there.
    pub offset: u64,
    /// What is wrong; empty if nothing is.
    pub what: &'static str,
}

/// Everything that a verifier found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What was counted, and the last place that is proved.
    pub verified: Verified,
    /// The newest change of the store that the log tells of.
    pub last_change: Option<LastChange>,
    /// What is known of which records, in the order of the log; empty for a log without records.
    pub ranges: Vec<Range>,
    /// The first record that was read: those before it were verified by an earlier run, and their
    /// files were not read again. 0 if everything was read.
    pub resumed_from: u64,
    /// How many of the records that were read have detail that a record names as erased.
    pub lingering: u64,
    /// False if a checkpoint was given that covers archived records only: nothing here can be compared
    /// with it.
    pub is_compared: bool,
    /// What the next run goes on from; `None` if anything is wrong, or nothing was signed yet.
    pub state: Option<State>,
}

impl Report {
    /// The worst of all.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.ranges.iter().map(|range| range.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// The first range of the worst verdict; `None` if all is well.
    #[must_use]
    pub fn worst(&self) -> Option<&Range> {
        let worst = Some(self.verdict()).filter(|verdict| *verdict != Verdict::Ok)?;
        self.ranges.iter().find(|range| range.verdict == worst)
    }

    /// How many of the first records are archived and were not read; `None` if none are.
    pub(super) fn archived(&self) -> Option<u64> {
        let mut ranges = self.ranges.iter();
        ranges.find(|range| range.verdict == Verdict::Archived).and_then(|range| range.end)
    }

    /// The first thing that is wrong, but for an unproven tail.
    pub(super) fn first_wrong(&self) -> Option<VerifyError> {
        first_wrong(&self.ranges)
    }

    /// The unproven tail, if there is one.
    pub(super) fn torn(&self) -> Option<VerifyError> {
        self.ranges.iter().find(|range| range.verdict == Verdict::UnprovenTail).map(Range::error)
    }
}

fn first_wrong(ranges: &[Range]) -> Option<VerifyError> {
    ranges.iter().find(|range| range.verdict > Verdict::UnprovenTail).map(Range::error)
}

impl Range {
    fn error(&self) -> VerifyError {
        let (file, offset, record, what) = (self.file.clone(), self.offset, self.first, self.what);
        match self.verdict {
            Verdict::UnprovenTail => VerifyError::Torn { file, offset },
            Verdict::Missing => VerifyError::Missing { file, offset, record, what },
            _ => VerifyError::Tampered { file, offset, record, what },
        }
    }
}

/// The ranges as they grow: one that goes on with the same verdict is one with the one before.
#[derive(Default)]
pub(super) struct Ranges(Vec<Range>);

impl Ranges {
    pub(super) fn push(&mut self, range: Range) {
        if !self.goes_on(range.verdict, range.first, range.end) {
            self.0.push(range);
        }
    }

    /// True if the last range has the same verdict and ends where this one begins: it ends behind it now.
    pub(super) fn goes_on(&mut self, verdict: Verdict, first: u64, end: Option<u64>) -> bool {
        match self.0.last_mut() {
            Some(last) if last.verdict == verdict && last.end == Some(first) => last.end = end,
            _ => return false,
        }
        true
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Range> {
        self.0.last_mut()
    }

    pub(super) fn first_wrong(&self) -> Option<VerifyError> {
        first_wrong(&self.0)
    }

    /// Says that the oldest records are archived, as far as they are, if they are not there.
    pub(super) fn archived(&mut self, to: u64, what: &'static str) {
        let Some(gone) = self.0.first_mut() else { return };
        if gone.verdict != Verdict::Missing || gone.first != 0 || to == 0 {
            return;
        }
        let mut archived = Range { verdict: Verdict::Archived, what, ..gone.clone() };
        if gone.end.is_some_and(|end| end <= to) {
            *gone = archived;
            return;
        }
        gone.first = to;
        gone.file = gone.file.with_file_name(segment::file_name(to));
        archived.end = Some(to);
        self.0.insert(0, archived);
    }

    pub(super) fn all_in_one(&mut self, range: Range) {
        self.0 = vec![range];
    }

    pub(super) fn into_vec(self) -> Vec<Range> {
        self.0
    }
}
