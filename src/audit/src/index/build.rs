//! Reading a segment once, frame by frame, and keeping what an index needs of it.

use std::collections::HashMap;

use super::bits::Bits;
use super::list::List;
use super::record::{Scan, Shape};
use super::rows::{Item, Rows, Written};
use super::{Source, TIMED};
use crate::checkpoint;
use crate::error::JournalError;
use crate::merkle::{self, Frontier, Hash};
use crate::segment::{At, Frame, Segment};
use crate::verify::LogKey;

/// What is known of a segment's records up to some frame. Every byte of them was hashed.
pub(crate) struct Builder {
    pub(super) first: u64,
    tree: Frontier,
    /// After the last frame.
    pub(super) end: u64,
    last: Option<Last>,
    places: HashMap<Vec<u8>, u32>,
    shapes: Vec<Shape>,
    /// Of each record which shape it has.
    records: Vec<u32>,
    /// `term << 32 | record`, in the order of the records.
    terms: Vec<u64>,
    /// `record << 32 | offset / 8` of each frame.
    frames: Vec<u64>,
    /// The earliest and the latest of each [`TIMED`] records.
    times: Vec<i64>,
    pub(super) rows: Rows,
    scan: Scan,
    /// Of the distinct shapes together.
    shape_bytes: usize,
}

/// Bytes of distinct shapes that an index has at most. Callers choose the names of tables and columns:
/// one who makes each record unlike all others makes this segment be read from end to end, and takes no
/// memory by it.
const MAX_SHAPE_BYTES: usize = 4 << 20;

/// Rows may take an eighth of what their segment takes.
const ROWS_OF_SEGMENT: u64 = 8;

/// The last frame that was read.
pub(super) struct Last {
    pub(super) offset: u64,
    pub(super) root: Hash,
    signature: [u8; 64],
}

/// What a builder knows, as it stands in a file.
pub(super) struct Parts {
    pub(super) shapes: Vec<Vec<u8>>,
    pub(super) times: Vec<i64>,
    pub(super) by_shape: List,
    pub(super) by_term: List,
    pub(super) frames: List,
    /// None if they would take too much.
    pub(super) rows: Option<Vec<Written>>,
    pub(super) blocks: Vec<u8>,
}

impl Builder {
    /// Begins with the segment's first frame; `None` if its header names no tree.
    pub(super) fn new(segment: &Segment) -> Option<Self> {
        Some(Self {
            first: segment.head.first,
            tree: segment.frontier().ok()?,
            end: segment.start,
            last: None,
            places: HashMap::new(),
            shapes: Vec::new(),
            records: Vec::new(),
            terms: Vec::new(),
            frames: Vec::new(),
            times: Vec::new(),
            rows: Rows::default(),
            scan: Scan::default(),
            shape_bytes: 0,
        })
    }

    /// The record after the last one that was read.
    pub(super) fn next(&self) -> u64 {
        self.tree.size()
    }

    pub(super) fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Reads on, up to the record `until` at least. `None` if a frame is not what the log's key
    /// signed, or `goes_on` says no: the builder is of no use then.
    ///
    /// # Errors
    /// If the operating system cannot read the segment: nothing is known about it.
    pub(super) fn read(
        &mut self,
        segment: &Segment,
        until: u64,
        key: &LogKey,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<()>, JournalError> {
        let before = self.next();
        while self.next() < until {
            let taken = match segment.at(self.end)? {
                At::Frame(frame) if goes_on() => self.frame(&frame),
                _ => None,
            };
            if taken.is_none() {
                return Ok(None);
            }
        }
        Ok(if self.next() == before { Some(()) } else { self.is_signed(key) })
    }

    /// Whether the last frame's signature is that of everything up to it.
    fn is_signed(&self, key: &LogKey) -> Option<()> {
        let last = self.last()?;
        let body = checkpoint::body(key.origin(), self.next(), &last.root);
        (last.root == self.tree.root()).then_some(())?;
        key.key.verify(body.as_bytes(), &last.signature).ok()
    }

    fn frame(&mut self, frame: &Frame) -> Option<()> {
        if frame.head.first != self.next() {
            return None;
        }
        self.frames.push(entry(self.place()?, u32::try_from(frame.offset / 8).ok()?));
        let mut details = frame.details();
        for leaf in frame.leaves() {
            self.record(leaf?, details.next()??)?;
        }
        let count = self.next().checked_sub(frame.head.first)?;
        if details.next().is_some() || count != u64::from(frame.head.count) || count == 0 {
            return None;
        }
        let root = frame.head.root.as_slice().try_into().ok()?;
        self.last = Some(Last { offset: frame.offset, root, signature: frame.signature });
        self.end = frame.end;
        Some(())
    }

    fn record(&mut self, leaf: &[u8], detail: &[u8]) -> Option<()> {
        let place = self.place()?;
        self.scan.read(leaf, detail)?;
        self.tree.append(merkle::leaf_hash(leaf));
        let shape = match self.places.get(&self.scan.shape) {
            Some(shape) => *shape,
            None => {
                self.shape_bytes = self.shape_bytes.saturating_add(self.scan.shape.len());
                if self.shape_bytes > MAX_SHAPE_BYTES {
                    return None;
                }
                let shape = u32::try_from(self.shapes.len()).ok()?;
                self.shapes.push(Shape::parse(&self.scan.shape)?);
                self.places.insert(self.scan.shape.clone(), shape);
                shape
            }
        };
        let time = self.scan.time;
        match self.times.last_chunk_mut() {
            Some([earliest, latest]) if !self.records.len().is_multiple_of(TIMED) => {
                *earliest = time.min(*earliest);
                *latest = time.max(*latest);
            }
            _ => self.times.extend([time, time]),
        }
        self.rows(shape, place)?;
        self.records.push(shape);
        self.terms.extend(self.scan.terms.iter().map(|term| entry(*term, place)));
        Some(())
    }

    /// Takes the items of the record that was read, as a query sees them.
    fn rows(&mut self, shape: u32, place: u32) -> Option<()> {
        let Scan { rows, key_version, time, is_whole, .. } = &mut self.scan;
        if !*is_whole {
            self.rows.leave_out();
            return Some(());
        }
        let record = &self.shapes.get(shape as usize)?.record;
        let is_item = !(rows.is_empty() && record.verdicts.is_empty());
        if rows.is_empty() {
            // A change: what it was about stands in its verdict.
            rows.push(Item { verdict: 0, outcome: 0, key_version: 0, partition: None });
        }
        for row in rows.iter_mut() {
            row.key_version = row.key_version.max(*key_version);
            row.outcome = if row.outcome == 0 { record.outcome } else { row.outcome };
        }
        self.rows.add(shape, place, *time, rows, is_item);
        Some(())
    }

    /// The next record's place in the segment.
    fn place(&self) -> Option<u32> {
        u32::try_from(self.records.len()).ok()
    }

    /// Where the frames are, for one who looks for some of them.
    pub(super) fn frames(&self) -> Vec<u64> {
        self.frames.clone()
    }

    /// Everything in order.
    pub(super) fn finish(self) -> Parts {
        let Self { places, records, mut terms, frames, times, rows, end, .. } = self;
        let mut shapes: Vec<_> = places.into_iter().collect();
        shapes.sort_unstable_by_key(|(_, place)| *place);
        let mut blocks = Vec::new();
        let mut by_shape: Vec<u64> =
            records.into_iter().zip(0..).map(|(shape, place)| entry(shape, place)).collect();
        by_shape.sort_unstable();
        let by_shape = List::write(&by_shape, &mut blocks);
        terms.sort_unstable();
        terms.dedup();
        let by_term = List::write(&terms, &mut blocks);
        let frames = List::write(&frames, &mut blocks);
        let shapes = shapes.into_iter().map(|(bytes, _)| bytes).collect();
        let most = usize::try_from(end / ROWS_OF_SEGMENT).unwrap_or(usize::MAX);
        let rows = rows.write(&mut blocks, most);
        Parts { shapes, times, by_shape, by_term, frames, rows, blocks }
    }
}

fn entry(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

impl Source for Builder {
    fn records(&self) -> usize {
        self.records.len()
    }

    fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    fn times(&self) -> &[i64] {
        &self.times
    }

    fn mark_shapes(&self, wanted: &[bool], bits: &mut Bits) -> Option<()> {
        for (at, shape) in self.records.iter().enumerate() {
            if wanted.get(*shape as usize) == Some(&true) {
                bits.set(at);
            }
        }
        Some(())
    }

    fn mark_term(&self, term: u32, bits: &mut Bits) -> Option<()> {
        for entry in self.terms.iter().filter(|entry| **entry >> 32 == u64::from(term)) {
            bits.set(*entry as u32 as usize);
        }
        Some(())
    }
}
