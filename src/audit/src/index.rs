//! The index of the log: which records could be those that a query looks for, so that nobody has to
//! look at all of them.
//!
//! It is derived from the segments and proves nothing. A segment that gets no more records has an
//! index in a file of its own, made once by a thread of low priority; the open one has it in
//! memory, from the first question on. An index is made only of records that fit what the log's key
//! signed, and is signed itself, so that nobody hides a record by altering it; every record that it
//! names is read and looked at like any other. A file that is missing, damaged or of another
//! segment is made again, and until then the segment is read from end to end.

mod bits;
mod build;
mod file;
mod filter;
mod keeper;
mod list;
mod record;
mod rows;

use std::path::{Path, PathBuf};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::error::JournalError;
use crate::query::Query;
use crate::redaction::erase;
use crate::segment::Segment;
use crate::verify::LogKey;
use bits::Bits;
use build::Builder;
use file::Sealed;
pub(crate) use keeper::{Keeper, Maker, lower_priority};
pub(crate) use record::Shape;
pub(crate) use rows::{Kind, Row, partition};

/// Records that share an earliest and a latest time.
const TIMED: usize = 1024;
/// An open segment with more records has no index in memory: one takes about 90 bytes.
const MAX_OPEN: u64 = 1 << 20;

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Indexed {
    /// Segments that got an index.
    pub segments: u64,
    /// Their records.
    pub records: u64,
    /// Bytes of the indexes.
    pub bytes: u64,
}

/// What an index knows, wherever it is. A record is named by its place in its segment; `None`
/// anywhere says that the index cannot be used.
trait Source {
    /// How many records it knows.
    fn records(&self) -> usize;
    /// What its records have in common with others.
    fn shapes(&self) -> &[Shape];
    /// The earliest and the latest of each [`TIMED`] records, in nanoseconds since 1970.
    fn times(&self) -> &[i64];
    /// Marks the records of the wanted shapes.
    fn mark_shapes(&self, wanted: &[bool], bits: &mut Bits) -> Option<()>;
    /// Marks the records that have this term, and perhaps others.
    fn mark_term(&self, term: u32, bits: &mut Bits) -> Option<()>;
}

/// Who counts rows.
pub(crate) trait Count {
    /// Which kinds of items are counted. The rows that follow are about these.
    fn wanted(&mut self, shapes: &[Shape], kinds: &[Kind]) -> Vec<bool>;
    /// Items of the kind at `place`.
    fn row(&mut self, place: usize, row: Row);
}

/// Where the indexes of a log are: `audit-index` beside `audit`.
pub(crate) fn directory(log: &Path) -> PathBuf {
    let mut name = log.file_name().unwrap_or_default().to_owned();
    name.push("-index");
    log.with_file_name(name)
}

/// The indexes of a log.
pub(crate) struct Indexes {
    directory: PathBuf,
    key: LogKey,
    /// That of the segment that is, or was until a moment ago, written to.
    open: Mutex<Option<Builder>>,
    keeper: Keeper,
}

impl Indexes {
    pub(crate) fn new(of: &Path, key: LogKey, keeper: Keeper) -> Self {
        Self { directory: directory(of), key, open: Mutex::new(None), keeper }
    }

    /// Makes the files that are missing, now.
    pub(crate) fn build(&self) -> Result<Indexed, JournalError> {
        self.keeper.make()
    }

    /// Erases what it knows of a segment that another one replaces.
    pub(crate) fn forget(&self, first: u64) -> std::io::Result<()> {
        let mut open = self.open.lock();
        if open.as_ref().is_some_and(|builder| builder.first == first) {
            *open = None;
        }
        match erase(&self.directory.join(file::name(first))) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Says that a segment got its last record.
    pub(crate) fn rolled(&self) {
        self.keeper.wake();
    }

    /// The records of a segment that could be those that are looked for, if there is an index of it
    /// up to the record `known`. The next segment begins with `end`; the last one has none.
    pub(crate) fn candidates(
        &self,
        segment: &Segment,
        known: u64,
        end: Option<u64>,
        query: &Query,
    ) -> Option<Candidates> {
        if let Some(next) = end {
            if let Some(sealed) = Sealed::open(&self.directory, segment, next, &self.key) {
                return self.sealed(segment, sealed, query);
            }
            self.keeper.wake();
        }
        self.open(segment, known, end.is_none(), query)
    }

    fn sealed(&self, segment: &Segment, sealed: Sealed, query: &Query) -> Option<Candidates> {
        let Some(bits) = filter::select(query, &sealed) else {
            self.damaged(&sealed);
            return None;
        };
        let frames = Frames::File { sealed: Box::new(sealed), block: None };
        Some(Candidates { first: segment.head.first, bits, frames })
    }

    /// An index turned out to be of no use behind its head.
    fn damaged(&self, sealed: &Sealed) {
        if sealed.is_unreadable() {
            // Nothing is known about it. The next question tries again.
            return;
        }
        // If it cannot be removed it stays as useless as it is.
        let _ = file::remove(&sealed.path);
        self.keeper.wake();
    }

    /// The rows of a segment's records before `known`, if there are any: `count` says for the shapes and
    /// the kinds which of these are wanted, `see` gets the rows of those. `None` if the segment has to be
    /// read; what `see` got is of no use then.
    pub(crate) fn rows(
        &self,
        segment: &Segment,
        known: u64,
        end: Option<u64>,
        count: &mut dyn Count,
    ) -> Option<()> {
        let first = segment.head.first;
        let until = u32::try_from(known.checked_sub(first)?).ok()?;
        if let Some(next) = end
            && let Some(sealed) = Sealed::open(&self.directory, segment, next, &self.key)
        {
            let kinds = sealed.kinds();
            if kinds.is_empty() {
                return None;
            }
            let wanted = count.wanted(sealed.shapes(), &kinds);
            let read = sealed.rows(|place| wanted.get(place) == Some(&true), &mut |place, row| {
                if row.record < until {
                    count.row(place, row)
                }
            });
            if read.is_none() {
                self.damaged(&sealed);
            }
            return read;
        }
        let open = self.read_open(segment, known, end.is_none())?;
        let kinds = open.rows.kinds()?;
        let wanted = count.wanted(open.shapes(), kinds);
        let rows = open.rows.of(|place| wanted.get(place) == Some(&true));
        rows.filter(|(_, row)| row.record < until).for_each(|(place, row)| count.row(place, row));
        Some(())
    }

    /// The open segment's index, read up to the record `known`.
    fn read_open(
        &self,
        segment: &Segment,
        known: u64,
        is_last: bool,
    ) -> Option<MappedMutexGuard<'_, Builder>> {
        let first = segment.head.first;
        let mut open = self.open.lock();
        if open.as_ref().is_none_or(|builder| builder.first != first) {
            if !is_last || known.saturating_sub(first) > MAX_OPEN {
                return None;
            }
            *open = Builder::new(segment);
        }
        let builder = open.as_mut()?;
        if builder.next() < known {
            let fits = known.saturating_sub(first) <= MAX_OPEN;
            let read = builder.read(segment, known, &self.key, &mut || true);
            if !fits || !matches!(read, Ok(Some(()))) {
                *open = None;
                return None;
            }
        }
        MutexGuard::try_map(open, Option::as_mut).ok()
    }

    fn open(
        &self,
        segment: &Segment,
        known: u64,
        is_last: bool,
        query: &Query,
    ) -> Option<Candidates> {
        let builder = self.read_open(segment, known, is_last)?;
        let bits = filter::select(query, &*builder)?;
        let frames = Frames::Memory(builder.frames());
        Some(Candidates { first: segment.head.first, bits, frames })
    }
}

/// Records of one segment that could be those that a query looks for.
pub(crate) struct Candidates {
    first: u64,
    bits: Bits,
    frames: Frames,
}

/// Where the frames of a segment begin: `record << 32 | offset / 8`, ascending.
enum Frames {
    Memory(Vec<u64>),
    File { sealed: Box<Sealed>, block: Option<(usize, Vec<u64>)> },
}

impl Candidates {
    /// The first candidate that is at least `index`.
    pub(crate) fn next(&self, index: u64) -> Option<u64> {
        let from = usize::try_from(index.saturating_sub(self.first)).ok()?;
        self.first.checked_add(self.bits.next(from)? as u64)
    }

    /// The last candidate before `index`.
    pub(crate) fn previous(&self, index: u64) -> Option<u64> {
        let end = usize::try_from(index.saturating_sub(self.first)).ok()?;
        self.first.checked_add(self.bits.previous(end)? as u64)
    }

    /// The byte at which the frame of a record begins; `None` if the index cannot be used.
    pub(crate) fn frame(&mut self, index: u64) -> Option<u64> {
        let place = u32::try_from(index.checked_sub(self.first)?).ok()?;
        let number = u64::from(place) << 32 | u64::from(u32::MAX);
        let numbers = match &mut self.frames {
            Frames::Memory(numbers) => numbers,
            Frames::File { sealed, block } => {
                let (at, read) = sealed.frames(number, block.as_ref().map(|(at, _)| *at))?;
                if let Some(numbers) = read {
                    *block = Some((at, numbers));
                }
                &mut block.as_mut()?.1
            }
        };
        let at = numbers.partition_point(|other| *other <= number).checked_sub(1)?;
        Some(u64::from(*numbers.get(at)? as u32) * 8)
    }
}
