//! Roots of parts of the tree, read from the segments: what proofs are made of.
//!
//! Each segment's header has the peaks of the tree before it, so most of a proof stands in headers;
//! leaves are read only between the last header inside a subtree and the subtree's end. Nothing here
//! is believed: whoever makes a proof verifies it against a signature over the whole tree.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fieldseal_crypto::signing::LogPublicKey;

use crate::error::JournalError;
use crate::merkle::{self, Frontier, Hash, node_hash};
use crate::segment::{self, At, Frame, FrameHead, Segment};

const GONE: &str = "a frame is gone or damaged";

/// A frame of a segment: its records, where it begins, and where it ends.
struct Place {
    records: Range<u64>,
    offset: u64,
    head: FrameHead,
}

/// A segment whose frames were looked up, up to the end of the records that are asked for.
struct Opened {
    first: u64,
    segment: Segment,
    frames: Vec<Place>,
}

/// The roots of parts of the tree over the first `size` records.
pub(crate) struct Subtrees<'a> {
    key: &'a LogPublicKey,
    size: u64,
    /// The segments that begin before `size`, in their order.
    segments: Vec<(u64, PathBuf)>,
    /// Of complete subtrees, by where they begin and how many leaves they have.
    peaks: HashMap<(u64, u64), Hash>,
    /// The segment that was read last.
    opened: Option<Opened>,
    /// The leaf hashes of the frame that was read last, and its first record.
    leaves: (u64, Vec<Hash>),
}

impl<'a> Subtrees<'a> {
    /// Reads the headers of the segments.
    ///
    /// # Errors
    /// A header that cannot be read or is not signed by the key.
    pub(crate) fn new(
        directory: &Path,
        key: &'a LogPublicKey,
        size: u64,
    ) -> Result<Self, JournalError> {
        Self::of(segment::list(directory)?, key, size)
    }

    /// The same of these segments.
    ///
    /// # Errors
    /// As [`Subtrees::new`].
    pub(crate) fn of(
        mut segments: Vec<(u64, PathBuf)>,
        key: &'a LogPublicKey,
        size: u64,
    ) -> Result<Self, JournalError> {
        segments.retain(|(first, _)| *first < size);
        let mut peaks = HashMap::new();
        for (first, path) in &segments {
            let segment = Segment::open(path, key)?;
            let frontier = segment.frontier()?;
            let mut start = 0_u64;
            for peak in frontier.peaks() {
                // The largest power of two that is left.
                let len = 1_u64 << (first - start).checked_ilog2().unwrap_or_default();
                peaks.insert((start, len), *peak);
                start += len;
            }
        }
        let leaves = (0, Vec::new());
        Ok(Self { key, size, segments, peaks, opened: None, leaves })
    }

    /// The root over these records, which must be a subtree of RFC 6962: `start` is a multiple of the
    /// smallest power of two that is not less than their number.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub(crate) fn root(&mut self, mut range: Range<u64>) -> Result<Hash, JournalError> {
        let mut parts = Vec::new();
        while range.start < range.end {
            let len = 1_u64 << (range.end - range.start).ilog2();
            parts.push(self.complete(range.start, len)?);
            range.start += len;
        }
        let mut parts = parts.into_iter().rev();
        let last = parts.next().ok_or_else(|| self.gone("no records"))?;
        Ok(parts.fold(last, |right, left| node_hash(&left, &right)))
    }

    /// The root of a complete subtree.
    fn complete(&mut self, start: u64, len: u64) -> Result<Hash, JournalError> {
        if let Some(known) = self.peaks.get(&(start, len)) {
            return Ok(*known);
        }
        let end = start + len;
        let is_divided = |(first, _): &(u64, PathBuf)| start < *first && *first < end;
        let root = if self.segments.iter().any(is_divided) {
            let half = len / 2;
            node_hash(&self.complete(start, half)?, &self.complete(start + half, half)?)
        } else {
            self.read(start..end)?
        };
        self.peaks.insert((start, len), root);
        Ok(root)
    }

    /// The root over records of one segment, from its leaves.
    fn read(&mut self, range: Range<u64>) -> Result<Hash, JournalError> {
        let mut tree = Frontier::default();
        let mut next = range.start;
        while next < range.end {
            let (first, leaves) = self.frame(next)?;
            let skipped = usize::try_from(next - first).unwrap_or(usize::MAX);
            let wanted = usize::try_from(range.end - next).unwrap_or(usize::MAX);
            let before = tree.size();
            leaves.iter().skip(skipped).take(wanted).for_each(|leaf| tree.append(*leaf));
            next += tree.size() - before;
        }
        Ok(tree.root())
    }

    /// The leaf hashes of the frame with this record, and its first record.
    fn frame(&mut self, record: u64) -> Result<(u64, &[Hash]), JournalError> {
        let (first, leaves) = &self.leaves;
        if record < *first || record - *first >= leaves.len() as u64 {
            let (records, frame) = self.whole(record)?;
            let leaves: Option<Vec<Hash>> =
                frame.leaves().map(|leaf| leaf.map(merkle::leaf_hash)).collect();
            let count = records.end - records.start;
            let leaves = leaves.filter(|leaves| leaves.len() as u64 == count);
            let leaves = leaves.ok_or_else(|| self.gone("a record is cut off"))?;
            self.leaves = (records.start, leaves);
        }
        let (first, leaves) = &self.leaves;
        Ok((*first, leaves))
    }

    /// The frame with this record, and which records it has.
    ///
    /// # Errors
    /// A frame that is not there or is damaged.
    pub(crate) fn whole(&mut self, record: u64) -> Result<(Range<u64>, Box<Frame>), JournalError> {
        let opened = self.segment(record)?;
        let at = opened.frames.partition_point(|frame| frame.records.end <= record);
        let place = opened.frames.get(at).filter(|frame| frame.records.contains(&record));
        let gone = || JournalError::corrupt(&opened.segment.path, 0, GONE);
        let place = place.ok_or_else(gone)?;
        let corrupt = |what| JournalError::corrupt(&opened.segment.path, place.offset, what);
        match opened.segment.at(place.offset)? {
            At::Frame(frame) => Ok((place.records.clone(), frame)),
            At::Nothing => Err(corrupt(GONE)),
            At::Bad(what) => Err(corrupt(what)),
        }
    }

    /// Root and signature of the frame that ends with the tree of all `size` records; `None` if no
    /// frame ends there, so that no such tree was ever signed.
    ///
    /// # Errors
    /// Frames that cannot be read.
    pub(crate) fn signed(&mut self) -> Result<Option<(Hash, [u8; 64])>, JournalError> {
        let size = self.size;
        let Some(last) = size.checked_sub(1) else { return Ok(None) };
        let opened = self.segment(last)?;
        let Some(place) = opened.frames.iter().find(|frame| frame.records.end == size) else {
            return Ok(None);
        };
        let corrupt = |what| JournalError::corrupt(&opened.segment.path, place.offset, what);
        let frame = match opened.segment.at(place.offset)? {
            At::Frame(frame) if frame.head == place.head => frame,
            _ => return Err(corrupt(GONE)),
        };
        let root = frame.head.root.as_slice().try_into();
        root.map(|root| Some((root, frame.signature))).map_err(|_| corrupt("a frame has no root"))
    }

    /// The segment with this record.
    fn segment(&mut self, record: u64) -> Result<&Opened, JournalError> {
        let at = self.segments.partition_point(|(first, _)| *first <= record);
        let found = at.checked_sub(1).and_then(|at| self.segments.get(at));
        let (first, path) = found.ok_or_else(|| self.gone("a segment is missing"))?;
        let opened = match self.opened.take().filter(|opened| opened.first == *first) {
            Some(opened) => opened,
            None => self.open(*first, path)?,
        };
        Ok(self.opened.insert(opened))
    }

    fn open(&self, first: u64, path: &Path) -> Result<Opened, JournalError> {
        let segment = Segment::open(path, self.key)?;
        let (mut offset, mut next, mut frames) = (segment.start, first, Vec::new());
        while next < self.size {
            let Some((head, after)) = segment.skip(offset)? else { break };
            let end = next.checked_add(head.count.into()).filter(|end| *end > next);
            let end = end.filter(|_| head.first == next);
            let end = end.ok_or_else(|| JournalError::corrupt(path, offset, GONE))?;
            frames.push(Place { records: next..end, offset, head });
            (offset, next) = (after, end);
        }
        Ok(Opened { first, segment, frames })
    }

    pub(crate) fn gone(&self, what: &'static str) -> JournalError {
        let path = self.segments.first().map_or(Path::new(""), |(_, path)| path);
        JournalError::corrupt(path, 0, what)
    }
}
