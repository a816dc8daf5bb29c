//! An index in a file: a head that the log's key signs, and blocks whose hashes the head names.
//!
//! ```text
//! "FSLOGIDX" | le32 head length | head | signature 64 | blocks
//! ```

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use fieldseal_crypto::signing::LogSigningKey;
use prost::Message as _;

use super::bits::Bits;
use super::build::Builder;
use super::list::{Blocks, List};
use super::record::Shape;
use super::rows::{Kind, Row, Written};
use super::{Source, TIMED};
use crate::journal::create_new;
use crate::redaction::erase;
use crate::segment::{Segment, le32};
use crate::statement;
use crate::verify::LogKey;

const MAGIC: &[u8; 8] = b"FSLOGIDX";
/// Bytes of a file before its head.
const PREFIX: u64 = 12;
const SIGNATURE_BYTES: u64 = 64;
/// The longest head that a reader believes in.
const MAX_HEAD: u32 = 256 << 20;
const FORMAT: u32 = 3;
/// What the log's key signs it as.
const LABEL: &str = "audit-index";

/// What is signed.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(uint32, tag = "1")]
    format: u32,
    /// The segment's first record.
    #[prost(uint64, tag = "2")]
    first: u64,
    /// How many records it has.
    #[prost(uint64, tag = "3")]
    records: u64,
    /// Where the segment's last frame begins and ends, and the root in it: the segment is no other.
    #[prost(uint64, tag = "4")]
    last: u64,
    #[prost(uint64, tag = "5")]
    end: u64,
    #[prost(bytes = "vec", tag = "6")]
    root: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    shapes: Vec<Vec<u8>>,
    #[prost(sfixed64, repeated, tag = "8")]
    times: Vec<i64>,
    #[prost(message, required, tag = "9")]
    by_shape: List,
    #[prost(message, required, tag = "10")]
    by_term: List,
    #[prost(message, required, tag = "11")]
    frames: List,
    /// Of a segment that is counted by reading it: none.
    #[prost(message, repeated, tag = "12")]
    rows: Vec<Written>,
}

/// `index-{first}.idx`.
pub(super) fn name(first: u64) -> String {
    format!("index-{first:020}.idx")
}

/// Writes the index of a segment that was read to its end; the bytes of the file.
pub(super) fn write(
    directory: &Path,
    builder: Builder,
    origin: &str,
    signing: &LogSigningKey,
    has_space: &dyn Fn(u64) -> bool,
) -> io::Result<u64> {
    let (first, next, end) = (builder.first, builder.next(), builder.end);
    let Some(last) = builder.last() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (root, last) = (last.root.to_vec(), last.offset);
    let parts = builder.finish();
    let head = Head {
        format: FORMAT,
        first,
        records: next.saturating_sub(first),
        last,
        end,
        root,
        shapes: parts.shapes,
        times: parts.times,
        by_shape: parts.by_shape,
        by_term: parts.by_term,
        frames: parts.frames,
        rows: parts.rows.unwrap_or_default(),
    };
    let head = head.encode_to_vec();
    let signature = signing.sign(&statement::message(LABEL, origin, &[&head]));
    let bytes = PREFIX + SIGNATURE_BYTES + (head.len() + parts.blocks.len()) as u64;
    if !has_space(bytes) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    make_directory(directory)?;
    let temporary = directory.join(temporary(first));
    remove(&temporary)?;
    let mut file = create_new(&temporary)?;
    for part in [MAGIC.as_slice(), &le32(head.len()), &head, &signature, &parts.blocks] {
        file.write_all(part)?;
    }
    file.sync_all()?;
    Ok(bytes)
}

/// Puts what was written in its place, or erases it if it is of a segment that is not here any more: it
/// tells what was erased from that.
pub(super) fn place(directory: &Path, first: u64, is_current: bool) -> io::Result<bool> {
    let temporary = directory.join(temporary(first));
    if is_current {
        std::fs::rename(&temporary, directory.join(name(first)))?;
    } else {
        erase(&temporary)?;
    }
    File::open(directory)?.sync_all()?;
    Ok(is_current)
}

fn temporary(first: u64) -> String {
    format!("index-{first:020}.tmp")
}

/// For its owner alone. The directory of the log is there already.
fn make_directory(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Erases a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match erase(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The index of a segment that gets no more records.
pub(crate) struct Sealed {
    pub(super) path: PathBuf,
    records: usize,
    shapes: Vec<Shape>,
    times: Vec<i64>,
    by_shape: List,
    by_term: List,
    frames: List,
    rows: Vec<Written>,
    blocks: Blocks,
}

impl Sealed {
    /// Opens the index of a segment whose last record is the one before `next`; `None` if there is
    /// none, or one that is damaged, older, or not of this very segment.
    pub(super) fn open(
        directory: &Path,
        segment: &Segment,
        next: u64,
        key: &LogKey,
    ) -> Option<Self> {
        let path = directory.join(name(segment.head.first));
        let file = File::open(&path).ok()?;
        let mut prefix = [0; PREFIX as usize];
        file.read_exact_at(&mut prefix, 0).ok()?;
        let (magic, len) = prefix.split_first_chunk()?;
        let len = u32::from_le_bytes(*len.first_chunk()?);
        let start = PREFIX + u64::from(len) + SIGNATURE_BYTES;
        if magic != MAGIC || len > MAX_HEAD || start > file.metadata().ok()?.len() {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        let mut signature = [0; SIGNATURE_BYTES as usize];
        file.read_exact_at(&mut bytes, PREFIX).ok()?;
        file.read_exact_at(&mut signature, PREFIX + u64::from(len)).ok()?;
        let message = statement::message(LABEL, key.origin(), &[&bytes]);
        key.key.verify(&message, &signature).ok()?;
        let head = Head::decode(bytes.as_slice()).ok()?;
        // What is signed is written in one way only.
        (head.encode_to_vec() == bytes).then_some(())?;
        head.is_of(segment, next).then_some(())?;
        let shapes = head.shapes.iter().map(|shape| Shape::parse(shape));
        Some(Self {
            path,
            records: usize::try_from(head.records).ok()?,
            shapes: shapes.collect::<Option<_>>()?,
            times: head.times,
            by_shape: head.by_shape,
            by_term: head.by_term,
            frames: head.frames,
            rows: head.rows,
            blocks: Blocks::new(file, start),
        })
    }

    /// Whether a part of it could not be read, rather than be another than was signed.
    pub(super) fn is_unreadable(&self) -> bool {
        self.blocks.is_unreadable()
    }

    /// What its rows are about; none if the segment has to be read.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.rows.iter().map(|written| written.kind).collect()
    }

    /// Shows the rows of some kinds; `None` if the index is damaged.
    pub(super) fn rows(
        &self,
        is_wanted: impl Fn(usize) -> bool,
        see: &mut dyn FnMut(usize, Row),
    ) -> Option<()> {
        let wanted = self.rows.iter().enumerate().filter(|(place, _)| is_wanted(*place));
        wanted
            .into_iter()
            .try_for_each(|(place, written)| written.read(&self.blocks, &mut |row| see(place, row)))
    }

    /// The block of the frame that holds a record: which it is, and its numbers.
    pub(super) fn frames(
        &self,
        number: u64,
        known: Option<usize>,
    ) -> Option<(usize, Option<Vec<u64>>)> {
        let place = self.frames.place(number)?;
        if known == Some(place) {
            return Some((place, None));
        }
        Some((place, Some(self.frames.block(&self.blocks, place)?)))
    }
}

impl Head {
    fn is_of(&self, segment: &Segment, next: u64) -> bool {
        let whole = self.format == FORMAT
            && self.first == segment.head.first
            && self.first.checked_add(self.records) == Some(next)
            && self.times.len() as u64 == 2 * self.records.div_ceil(TIMED as u64);
        let last = segment.skip(self.last).ok().flatten();
        whole
            && last.is_some_and(|(last, end)| {
                let after = last.first.checked_add(last.count.into());
                end == self.end && after == Some(next) && last.root == self.root
            })
    }
}

impl Source for Sealed {
    fn records(&self) -> usize {
        self.records
    }

    fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    fn times(&self) -> &[i64] {
        &self.times
    }

    fn mark_shapes(&self, wanted: &[bool], bits: &mut Bits) -> Option<()> {
        // Neighbours are read at once: every block is read for a few of them otherwise.
        let mut shape = 0;
        while let Some(from) = wanted.iter().skip(shape).position(|wanted| *wanted) {
            let from = shape + from;
            let run = wanted.iter().skip(from).take_while(|wanted| **wanted).count();
            shape = from + run;
            let (low, high) = ((from as u64) << 32, ((shape as u64) << 32).checked_sub(1)?);
            mark(&self.by_shape.range(&self.blocks, low, high)?, bits)?;
        }
        Some(())
    }

    fn mark_term(&self, term: u32, bits: &mut Bits) -> Option<()> {
        let low = u64::from(term) << 32;
        mark(&self.by_term.range(&self.blocks, low, low | u64::from(u32::MAX))?, bits)
    }
}

fn mark(entries: &[u64], bits: &mut Bits) -> Option<()> {
    entries.iter().all(|entry| bits.set(*entry as u32 as usize)).then_some(())
}
