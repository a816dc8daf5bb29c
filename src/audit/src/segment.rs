//! Segment files: a signed header, then frames, then zeroes that wait to be written over.
//!
//! ```text
//! header  "FSLOGSEG" | le32 head length | head | signature 64 | le32 CRC-32 | zeroes up to a multiple of 8
//! frame   "FSFR" | le32 head length | le32 leaves length | le32 details length
//!         | head | signature 64 | leaves | details | le32 CRC-32 | zeroes up to a multiple of 8
//! leaves  (le32 length | leaf)*            details  (le32 length | detail)*
//! ```
//!
//! A header's signature covers its head; a frame's is that of the checkpoint over everything up to
//! and with the frame. The CRC finds torn writes; the tree finds everything else.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use fieldseal_crypto::pae;
use fieldseal_crypto::signing::LogPublicKey;
use prost::Message as _;

use crate::error::JournalError;
use crate::merkle::{Frontier, Hash};
use crate::record::LastChange;

const SEGMENT_MAGIC: &[u8; 8] = b"FSLOGSEG";
pub(crate) const FRAME_MAGIC: &[u8; 4] = b"FSFR";
const SIGNATURE_BYTES: usize = 64;
/// Bytes of a frame before its head.
const FRAME_PREFIX: usize = 16;
/// The longest header, and the longest parts of a frame, that a reader believes in.
const MAX_HEADER: usize = 64 * 1024;
const MAX_PART: usize = 1 << 30;
/// Bytes that a search for frames reads at a time: a multiple of 8.
const SCAN_BYTES: u64 = 64 * 1024;
pub(crate) const FORMAT: u32 = 1;

/// What stands at the beginning of a segment.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SegmentHead {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(string, tag = "2")]
    pub origin: String,
    /// How many records the segments before this one hold.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// The peaks of the tree over them, the largest first.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub peaks: Vec<Vec<u8>>,
    /// The newest revision of the store that is in the log.
    #[prost(uint64, tag = "5")]
    pub revision: u64,
    /// Nanoseconds since 1970 when the segment was begun.
    #[prost(sfixed64, tag = "6")]
    pub time: i64,
    /// The first record of the segment before; the same as `first` for the first segment.
    #[prost(uint64, tag = "7")]
    pub previous: u64,
    /// The HMAC over the sum of the whole store at `revision`; empty if no change is in the log.
    #[prost(bytes = "vec", tag = "8")]
    pub anchor: Vec<u8>,
    /// The record that tells of `revision`.
    #[prost(uint64, tag = "9")]
    pub changed: u64,
}

/// What stands at the beginning of a frame.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FrameHead {
    #[prost(uint64, tag = "1")]
    pub first: u64,
    #[prost(uint32, tag = "2")]
    pub count: u32,
    /// The root of the tree with the frame's records.
    #[prost(bytes = "vec", tag = "3")]
    pub root: Vec<u8>,
    /// Up to this byte of the file everything was on disk before the frame was written.
    #[prost(uint64, tag = "4")]
    pub synced: u64,
}

/// `segment-{first}.log`, so that names sort as the records do.
pub(crate) fn file_name(first: u64) -> String {
    format!("segment-{first:020}.log")
}

/// The segments of a directory in the order of their records.
pub(crate) fn list(directory: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let failed = |e: &io::Error| JournalError::io("read", directory, e);
    let entries = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(JournalError::NotInitialized(directory.to_owned()));
        }
        other => other.map_err(|e| failed(&e))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| failed(&e))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix("segment-"));
        let number = number.and_then(|n| n.strip_suffix(".log")).filter(|n| n.len() == 20);
        if let Some(first) = number.and_then(|n| n.parse().ok()) {
            found.push((first, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

pub(crate) fn header_message(head: &[u8]) -> Vec<u8> {
    pae::encode(&[b"fieldseal/v1/log/segment", head])
}

/// The bytes of a header.
pub(crate) fn encode_header(head: &SegmentHead, sign: impl Fn(&[u8]) -> [u8; 64]) -> Vec<u8> {
    let head = head.encode_to_vec();
    let mut out = Vec::with_capacity(head.len() + 96);
    out.extend_from_slice(SEGMENT_MAGIC);
    out.extend_from_slice(&le32(head.len()));
    out.extend_from_slice(&head);
    out.extend_from_slice(&sign(&header_message(&head)));
    finish(&mut out, 0);
    out
}

/// Ends a header or frame that begins at `start`: its CRC, and zeroes up to a multiple of 8.
fn finish(out: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(8), 0);
}

pub(crate) fn le32(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// A segment that is open for reading.
pub(crate) struct Segment {
    pub path: PathBuf,
    file: File,
    pub len: u64,
    pub head: SegmentHead,
    /// Where the first frame begins.
    pub start: u64,
}

/// A frame, whole and with a CRC that fits.
pub(crate) struct Frame {
    pub head: FrameHead,
    pub signature: [u8; 64],
    pub offset: u64,
    pub end: u64,
    bytes: Vec<u8>,
    /// Where among the bytes they stand.
    leaves: Range<usize>,
    details: Range<usize>,
}

/// What stands at a place of a segment.
pub(crate) enum At {
    Frame(Box<Frame>),
    /// Zeroes, or the end of the file.
    Nothing,
    /// Neither; what is wrong.
    Bad(&'static str),
}

/// The bytes at a place, with the lengths of head, leaves and details; or why there are none.
enum Whole {
    Bytes(Vec<u8>, [usize; 3]),
    Nothing,
    Bad(&'static str),
}

/// A header whose checksum fits. Nobody has looked yet who signed it.
struct Unverified {
    file: File,
    len: u64,
    bytes: Vec<u8>,
    head_len: usize,
}

impl Unverified {
    fn read(path: &Path) -> Result<Self, JournalError> {
        let file = File::open(path).map_err(|e| JournalError::io("open", path, &e))?;
        let len = file.metadata().map_err(|e| JournalError::io("read", path, &e))?.len();
        let corrupt = |what| JournalError::corrupt(path, 0, what);
        let prefix = read(&file, path, 0, 12.min(len))?;
        let (magic, head_len) = prefix.split_at_checked(8).ok_or(corrupt("it has no header"))?;
        if magic != SEGMENT_MAGIC {
            return Err(corrupt("it does not begin like a segment"));
        }
        let head_len = u32_at(head_len, 0).ok_or(corrupt("its header is cut off"))? as usize;
        let whole = (12 + head_len + SIGNATURE_BYTES + 4).next_multiple_of(8);
        if head_len > MAX_HEADER || whole as u64 > len {
            return Err(corrupt("its header is cut off"));
        }
        let bytes = read(&file, path, 0, whole as u64)?;
        check_end(&bytes, 12 + head_len + SIGNATURE_BYTES).map_err(corrupt)?;
        Ok(Self { file, len, bytes, head_len })
    }

    fn head(&self) -> Option<&[u8]> {
        self.bytes.get(12..12 + self.head_len)
    }
}

/// Whose log a segment says it is of, whoever wrote that; `None` if nothing readable stands there.
pub(crate) fn claimed_origin(path: &Path) -> Option<String> {
    let header = Unverified::read(path).ok()?;
    Some(SegmentHead::decode(header.head()?).ok()?.origin)
}

impl SegmentHead {
    /// The newest change in the segments before.
    pub(crate) fn last_change(&self) -> Option<LastChange> {
        let anchor = self.anchor.as_slice().try_into().ok()?;
        Some(LastChange { revision: self.revision, anchor, index: self.changed })
    }
}

impl Segment {
    /// Opens a segment and checks its header.
    pub(crate) fn open(path: &Path, key: &LogPublicKey) -> Result<Self, JournalError> {
        let corrupt = |what| JournalError::corrupt(path, 0, what);
        let header = Unverified::read(path)?;
        let unsigned = header.head().ok_or(corrupt("its header is cut off"))?;
        let signature = header.bytes.get(12 + header.head_len..);
        let signature = signature.and_then(|b| b.first_chunk::<64>());
        let signature = signature.ok_or(corrupt("its header is cut off"))?;
        key.verify(&header_message(unsigned), signature)
            .map_err(|_| corrupt("its header's signature does not verify"))?;
        let head = SegmentHead::decode(unsigned).map_err(|_| corrupt("its header is none"))?;
        if head.format > FORMAT {
            return Err(JournalError::FormatNewer { file: path.to_owned(), format: head.format });
        }
        let start = header.bytes.len() as u64;
        Ok(Self { path: path.to_owned(), file: header.file, len: header.len, head, start })
    }

    /// The bytes of its header.
    pub(crate) fn header(&self) -> Result<Vec<u8>, JournalError> {
        read(&self.file, &self.path, 0, self.start)
    }

    /// True while its name still leads to this file.
    pub(crate) fn is_in_place(&self) -> bool {
        let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
        let (own, named) = (self.file.metadata(), self.path.metadata());
        own.ok().zip(named.ok()).is_some_and(|(own, named)| identity(own) == identity(named))
    }

    /// The tree before the segment's first record.
    pub(crate) fn frontier(&self) -> Result<Frontier, JournalError> {
        let peaks: Option<Vec<Hash>> =
            self.head.peaks.iter().map(|p| p.as_slice().try_into().ok()).collect();
        let frontier = peaks.and_then(|peaks| Frontier::from_parts(self.head.first, peaks));
        frontier.ok_or(JournalError::corrupt(&self.path, 0, "its header names no tree"))
    }

    /// What stands at a place.
    pub(crate) fn at(&self, offset: u64) -> Result<At, JournalError> {
        let (bytes, lengths) = match self.whole(offset)? {
            Whole::Bytes(bytes, lengths) => (bytes, lengths),
            Whole::Nothing => return Ok(At::Nothing),
            Whole::Bad(what) => return Ok(At::Bad(what)),
        };
        if let Err(what) = check_end(&bytes, body_bytes(lengths)) {
            return Ok(At::Bad(what));
        }
        Ok(match self.parse(bytes, offset, lengths) {
            Some(frame) => At::Frame(Box::new(frame)),
            None => At::Bad("a frame's head is none"),
        })
    }

    /// What stands at a place if it has the form of a frame, whatever its checksum says.
    pub(crate) fn damaged(&self, offset: u64) -> Result<Option<Frame>, JournalError> {
        Ok(match self.whole(offset)? {
            Whole::Bytes(bytes, lengths) => self.parse(bytes, offset, lengths),
            Whole::Nothing | Whole::Bad(_) => None,
        })
    }

    /// The bytes of a frame, as long as it says that it is.
    fn whole(&self, offset: u64) -> Result<Whole, JournalError> {
        let left = self.len.saturating_sub(offset);
        let prefix = read(&self.file, &self.path, offset, left.min(FRAME_PREFIX as u64))?;
        if prefix.iter().all(|b| *b == 0) {
            return Ok(Whole::Nothing);
        }
        let lengths = (u32_at(&prefix, 4), u32_at(&prefix, 8), u32_at(&prefix, 12));
        let (Some(head), Some(leaves), Some(details)) = lengths else {
            return Ok(Whole::Bad("a frame is cut off"));
        };
        if !prefix.starts_with(FRAME_MAGIC) {
            return Ok(Whole::Bad("no frame begins where one should"));
        }
        let (head, leaves, details) = (head as usize, leaves as usize, details as usize);
        if head > MAX_HEADER || leaves > MAX_PART || details > MAX_PART {
            return Ok(Whole::Bad("a frame's lengths are impossible"));
        }
        let lengths = [head, leaves, details];
        let whole = (body_bytes(lengths) + 4).next_multiple_of(8);
        if whole as u64 > left {
            return Ok(Whole::Bad("a frame is cut off"));
        }
        Ok(Whole::Bytes(read(&self.file, &self.path, offset, whole as u64)?, lengths))
    }

    fn parse(&self, bytes: Vec<u8>, offset: u64, lengths: [usize; 3]) -> Option<Frame> {
        let [head, leaves, details] = lengths;
        let (_, rest) = bytes.split_at_checked(FRAME_PREFIX)?;
        let (head_bytes, rest) = rest.split_at_checked(head)?;
        let (signature, rest) = rest.split_first_chunk::<64>()?;
        rest.get(..leaves + details)?;
        let first = FRAME_PREFIX + head + SIGNATURE_BYTES;
        Some(Frame {
            head: FrameHead::decode(head_bytes).ok()?,
            signature: *signature,
            offset,
            end: offset + bytes.len() as u64,
            leaves: first..first + leaves,
            details: first + leaves..first + leaves + details,
            bytes,
        })
    }

    /// The first byte from `offset` on that is not zero.
    pub(crate) fn first_nonzero(&self, mut offset: u64) -> Result<Option<u64>, JournalError> {
        while offset < self.len {
            let chunk = read(&self.file, &self.path, offset, (self.len - offset).min(1 << 16))?;
            if let Some(at) = chunk.iter().position(|b| *b != 0) {
                return Ok(Some(offset + at as u64));
            }
            offset += chunk.len() as u64;
        }
        Ok(None)
    }

    /// Up to where the file had been on disk once, if that is beyond `offset`, where a frame should
    /// begin: the next whole frame behind it says so. A frame is written only after everything before
    /// it was synced, so a bad place without such a frame is the torn end of the last write.
    pub(crate) fn synced_beyond(&self, offset: u64) -> Result<Option<u64>, JournalError> {
        let mut from = offset.saturating_add(8);
        while from < self.len {
            let bytes = read(&self.file, &self.path, from, (self.len - from).min(SCAN_BYTES))?;
            // Frames begin at multiples of 8, and so does every chunk.
            for (at, place) in bytes.chunks(8).zip((from..).step_by(8)) {
                if at.starts_with(FRAME_MAGIC)
                    && let At::Frame(frame) = self.at(place)?
                    && frame.head.synced > offset
                {
                    return Ok(Some(frame.head.synced));
                }
            }
            from = from.saturating_add(bytes.len() as u64);
        }
        Ok(None)
    }

    /// Where the next frame would begin, without reading this one's records.
    pub(crate) fn skip(&self, offset: u64) -> Result<Option<(FrameHead, u64)>, JournalError> {
        let left = self.len.saturating_sub(offset);
        let look = read(&self.file, &self.path, offset, left.min(256))?;
        let lengths = (u32_at(&look, 4), u32_at(&look, 8), u32_at(&look, 12));
        let (true, (Some(head), Some(leaves), Some(details))) =
            (look.starts_with(FRAME_MAGIC), lengths)
        else {
            return Ok(None);
        };
        let (head, leaves, details) = (head as usize, leaves as usize, details as usize);
        let Some(bytes) = look.get(FRAME_PREFIX..FRAME_PREFIX.saturating_add(head)) else {
            return Ok(None);
        };
        let body = FRAME_PREFIX + head + SIGNATURE_BYTES + leaves + details + 4;
        let end = offset.saturating_add(body.next_multiple_of(8) as u64);
        Ok(FrameHead::decode(bytes).ok().map(|head| (head, end)))
    }
}

impl Frame {
    /// The leaves; `None` in the place of one that is cut off.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = Option<&[u8]>> {
        parts(self.leaf_bytes())
    }

    /// The details, one for each leaf.
    pub(crate) fn details(&self) -> impl Iterator<Item = Option<&[u8]>> {
        parts(self.bytes.get(self.details.clone()).unwrap_or_default())
    }

    fn leaf_bytes(&self) -> &[u8] {
        self.bytes.get(self.leaves.clone()).unwrap_or_default()
    }

    /// The frame at another place of a file, with other details: what is signed stays as it is.
    pub(crate) fn moved(&self, offset: u64, details: &[u8]) -> Vec<u8> {
        let head = FrameHead { synced: offset, ..self.head.clone() };
        let mut out = Vec::new();
        encode_frame(&mut out, &head, &self.signature, self.leaf_bytes(), details);
        out
    }
}

/// Writes a frame in the place of what is in the buffer.
pub(crate) fn encode_frame(
    out: &mut Vec<u8>,
    head: &FrameHead,
    signature: &[u8; 64],
    leaves: &[u8],
    details: &[u8],
) {
    let head = head.encode_to_vec();
    out.clear();
    out.extend_from_slice(FRAME_MAGIC);
    for part in [head.len(), leaves.len(), details.len()] {
        out.extend_from_slice(&le32(part));
    }
    for part in [head.as_slice(), signature, leaves, details] {
        out.extend_from_slice(part);
    }
    finish(out, 0);
}

fn parts(mut rest: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let part = rest
            .split_first_chunk::<4>()
            .and_then(|(len, after)| after.split_at_checked(u32::from_le_bytes(*len) as usize));
        rest = part.map_or(&[], |(_, after)| after);
        Some(part.map(|(part, _)| part))
    })
}

/// The bytes of a frame that its checksum covers.
fn body_bytes([head, leaves, details]: [usize; 3]) -> usize {
    FRAME_PREFIX + head + SIGNATURE_BYTES + leaves + details
}

fn check_end(bytes: &[u8], body: usize) -> Result<(), &'static str> {
    let (covered, end) = bytes.split_at_checked(body).ok_or("it is cut off")?;
    let (crc, padding) = end.split_first_chunk::<4>().ok_or("it is cut off")?;
    if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
        return Err("its checksum does not fit");
    }
    if padding.iter().any(|b| *b != 0) {
        return Err("its padding is not zero");
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn read(file: &File, path: &Path, offset: u64, len: u64) -> Result<Vec<u8>, JournalError> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).map_err(|e| JournalError::io("read", path, &e))?;
    Ok(bytes)
}
