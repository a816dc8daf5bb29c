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

mod frame;
mod window;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use fieldseal_crypto::signing::LogPublicKey;
use fieldseal_crypto::{pae, sha256};
use prost::Message as _;

use crate::error::JournalError;
use crate::merkle::{Frontier, Hash};
use crate::record::LastChange;

pub(crate) use frame::{At, FRAME_MAGIC, Frame, FrameHead, encode_frame};
use frame::{Look, check_end, checked, finish, frame_bytes, look, parse, skipped};
pub(crate) use window::Window;

const SEGMENT_MAGIC: &[u8; 8] = b"FSLOGSEG";
const SIGNATURE_BYTES: usize = 64;
/// Bytes of a frame before its head.
const FRAME_PREFIX: usize = 16;
/// Bytes with which every frame's head and signature begin and end.
const SKIP_BYTES: usize = 256;
/// The longest header that a reader believes in, of a segment or of a frame.
const MAX_HEADER: usize = 64 * 1024;
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
    /// What was signed in the segment before ([`chained`], from zeroes on, over its frames); empty if the
    /// process that ended it had not begun it.
    #[prost(bytes = "vec", tag = "10")]
    pub checkpoints: Vec<u8>,
}

/// The hash over the checkpoints of a segment's frames, with the next one: so many records, the root over
/// them, and its signature.
pub(crate) fn chained(before: &Hash, size: u64, root: &[u8], signature: &[u8; 64]) -> Hash {
    sha256(&[before, &size.to_le_bytes(), root, signature])
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
        Ok(match self.look(offset)? {
            Look::Frame(lengths) => checked(self.bytes(offset, lengths)?, offset, lengths),
            Look::Nothing => At::Nothing,
            Look::Bad(what) => At::Bad(what),
        })
    }

    /// The same, from a window that is moved there if need be.
    pub(crate) fn at_in<'w>(
        &self,
        window: &'w mut Window,
        offset: u64,
    ) -> Result<At<&'w [u8]>, JournalError> {
        let prefix = window.read(self, offset, FRAME_PREFIX)?;
        let lengths = match look(prefix, self.len.saturating_sub(offset)) {
            Look::Frame(lengths) => lengths,
            Look::Nothing => return Ok(At::Nothing),
            Look::Bad(what) => return Ok(At::Bad(what)),
        };
        Ok(checked(window.read(self, offset, frame_bytes(lengths))?, offset, lengths))
    }

    /// What stands at a place if it has the form of a frame, whatever its checksum says.
    pub(crate) fn damaged(&self, offset: u64) -> Result<Option<Frame>, JournalError> {
        Ok(match self.look(offset)? {
            Look::Frame(lengths) => parse(self.bytes(offset, lengths)?, offset, lengths),
            Look::Nothing | Look::Bad(_) => None,
        })
    }

    fn look(&self, offset: u64) -> Result<Look, JournalError> {
        let left = self.len.saturating_sub(offset);
        let prefix = read(&self.file, &self.path, offset, left.min(FRAME_PREFIX as u64))?;
        Ok(look(&prefix, left))
    }

    fn bytes(&self, offset: u64, lengths: [usize; 3]) -> Result<Vec<u8>, JournalError> {
        read(&self.file, &self.path, offset, frame_bytes(lengths) as u64)
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
        let bytes = read(&self.file, &self.path, offset, left.min(SKIP_BYTES as u64))?;
        Ok(skipped(&bytes, offset).map(|(head, _, end)| (head, end)))
    }

    /// The same and the frame's signature, from a window.
    pub(crate) fn skip_in(
        &self,
        window: &mut Window,
        offset: u64,
    ) -> Result<Option<(FrameHead, [u8; 64], u64)>, JournalError> {
        Ok(skipped(window.read(self, offset, SKIP_BYTES)?, offset))
    }
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

fn read_into(segment: &Segment, offset: u64, bytes: &mut [u8]) -> Result<(), JournalError> {
    let read = segment.file.read_exact_at(bytes, offset);
    read.map_err(|e| JournalError::io("read", &segment.path, &e))
}
