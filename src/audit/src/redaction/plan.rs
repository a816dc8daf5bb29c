//! What a redaction is about, found by verifying the whole log: what is not as it was signed is not
//! erased.

use std::ops::Range;
use std::path::{Path, PathBuf};

use fieldseal_model::Timestamp;
use prost::Message as _;

use crate::error::JournalError;
use crate::record::{DetailHead, DetailParts, Record, RecordItem};
use crate::verify::{self, LogKey, Verdict, VerifyError};

use super::erased::Erased;
use super::{Named, Redactable, Redacted};

/// What a log says of redactions, and what another one would erase.
pub(crate) struct Survey {
    /// What the log says was erased.
    pub(crate) said: Named,
    /// What would be erased.
    pub(crate) wanted: Named,
    pub(crate) redacted: Redacted,
}

/// Reads the first `size` records of a log, all of which verify.
///
/// # Errors
/// `Corrupt` if anything of them is not as it was signed.
pub(crate) fn survey(
    directory: &Path,
    key: &LogKey,
    size: u64,
    what: Option<&Redactable>,
) -> Result<Survey, JournalError> {
    let erased = match what {
        Some(Redactable::Erased { .. }) => {
            let (said, erased) = partitions(directory, key, size)?;
            if erased.is_empty() {
                let (wanted, redacted) = Default::default();
                return Ok(Survey { said, wanted, redacted });
            }
            erased
        }
        _ => Erased::default(),
    };
    let mut search = what.map(|what| Search::new(*what, erased));
    let mut see = |index: u64, record: &Record, detail: &[u8]| {
        if let Some(search) = search.as_mut().filter(|_| index < size) {
            search.record(index, record, detail);
        }
    };
    let said = verified(directory, key, size, &mut see)?;
    let (wanted, redacted) = search.map(Search::finish).unwrap_or_default();
    Ok(Survey { said, wanted, redacted })
}

/// The partitions that the log says are erased, and what it says was redacted.
fn partitions(directory: &Path, key: &LogKey, size: u64) -> Result<(Named, Erased), JournalError> {
    let mut erased = Erased::default();
    let mut see = |index: u64, record: &Record, detail: &[u8]| {
        if index < size {
            erased.add(index, record, detail);
        }
    };
    let said = verified(directory, key, size, &mut see)?;
    Ok((said, erased))
}

/// Reads the first `size` records of a log, all of which verify; gives what they say was redacted.
fn verified(
    directory: &Path,
    key: &LogKey,
    size: u64,
    see: &mut dyn FnMut(u64, &Record, &[u8]),
) -> Result<Named, JournalError> {
    let (report, said) = verify::survey(directory, key, see).map_err(unreadable)?;
    // Behind them somebody may be writing.
    // The beginning may have been moved away, or deleted; nothing can be said of what was there.
    let is_gone = |range: &verify::Range| range.verdict == Verdict::Missing && range.first == 0;
    let wrong = report
        .ranges
        .iter()
        .find(|range| range.verdict > Verdict::Archived && range.first < size && !is_gone(range));
    if let Some(wrong) = wrong {
        return Err(JournalError::corrupt(&wrong.file, wrong.offset, wrong.what));
    }
    if report.verified.records < size {
        return Err(JournalError::corrupt(directory, 0, "records are missing"));
    }
    Ok(said)
}

fn unreadable(error: VerifyError) -> JournalError {
    match error {
        VerifyError::Unreadable(error) => error,
        other => JournalError::Io {
            what: "verify",
            file: PathBuf::new(),
            error: other.to_string().into(),
        },
    }
}

/// A search on its way through the records.
struct Search {
    what: Redactable,
    erased: Erased,
    wanted: Named,
    redacted: Redacted,
    /// Records that lose their whole detail and stand next to each other, those without any between
    /// them included.
    run: Range<u64>,
}

impl Search {
    fn new(what: Redactable, erased: Erased) -> Self {
        let (wanted, redacted) = Default::default();
        Self { what, erased, wanted, redacted, run: 0..0 }
    }

    fn record(&mut self, index: u64, record: &Record, detail: &[u8]) {
        if detail.is_empty() {
            return;
        }
        let (of_subject, others) = self.items(index, record, detail);
        if others.is_some() && self.is_held(index) {
            self.redacted.held += 1;
            return;
        }
        if others == Some(0) {
            self.redacted.records += 1;
            self.redacted.items += of_subject.len() as u64;
            if self.run.is_empty() {
                self.run.start = index;
            }
            self.run.end = index.saturating_add(1);
            return;
        }
        self.end_run();
        if !of_subject.is_empty() {
            self.redacted.records += 1;
            self.redacted.items += of_subject.len() as u64;
            of_subject.iter().for_each(|item| self.wanted.add_item(index, *item));
        }
    }

    /// Whether somebody elsewhere needs it first. Nothing behind it goes either.
    fn is_held(&self, index: u64) -> bool {
        match self.what {
            Redactable::Aged { most, .. } | Redactable::Erased { most } => index >= most,
            _ => false,
        }
    }

    fn end_run(&mut self) {
        let run = std::mem::replace(&mut self.run, 0..0);
        self.wanted.add_whole(run);
    }

    fn finish(mut self) -> (Named, Redacted) {
        self.end_run();
        (self.wanted, self.redacted)
    }

    /// The items that are to go, and how many are not; `None` if nothing of the detail goes.
    fn items(&self, index: u64, record: &Record, detail: &[u8]) -> (Vec<u32>, Option<usize>) {
        let what = &self.what;
        let parts = DetailParts::cut(detail).filter(|_| is_in_time(what, record));
        let head = parts.as_ref().and_then(|parts| DetailHead::decode(parts.head).ok());
        let (Some(parts), Some(head)) = (parts, head) else { return (Vec::new(), None) };
        // The head of a detail cannot go without the rest.
        let is_whole = match what {
            Redactable::Before(_) | Redactable::Aged { .. } => true,
            Redactable::EndUser { token, .. } => head.end_user == token,
            Redactable::Partition { .. } | Redactable::Row { .. } | Redactable::Erased { .. } => {
                false
            }
        };
        let is_meant = |item: &RecordItem| match what {
            Redactable::Partition { token, .. } => {
                item.partition == token || head.partition == token
            }
            Redactable::Row { token, .. } => item.row == token,
            Redactable::Erased { .. } => self.erased.has(index, record, &head, item),
            Redactable::Before(_) | Redactable::EndUser { .. } | Redactable::Aged { .. } => {
                is_whole
            }
        };
        let (mut meant, mut others) = (Vec::new(), 0);
        for (item, number) in parts.items().zip(0..) {
            // What was erased before is nobody's any more.
            let Some(message) = item.and_then(|item| item.message) else { continue };
            match RecordItem::decode(message) {
                Ok(item) if is_meant(&item) => meant.push(number),
                _ => others += 1,
            }
        }
        let others = (is_whole || !meant.is_empty()).then_some(others);
        (meant, others)
    }
}

/// Whether a record is old enough.
fn is_in_time(what: &Redactable, record: &Record) -> bool {
    let until = match what {
        Redactable::Before(time) => Some(*time),
        Redactable::Partition { until, .. }
        | Redactable::Row { until, .. }
        | Redactable::EndUser { until, .. } => *until,
        Redactable::Aged { aged, .. } => return aged.is_over(record),
        Redactable::Erased { .. } => return true,
    };
    until.is_none_or(|until| Timestamp::from_unix_nanos(record.time) < until)
}
