//! Reading a copy, to make a store of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::file::NAME;
use super::frames::{self, HEAD, MAGIC, MAX_PAYLOAD, OwnedWrite};
use super::{CopyError, CopyOwner, Moment};
use crate::snapshot::RawEntry;

/// Bytes that a search for frames reads at a time.
const SCAN: usize = 1 << 16;

/// The next thing in a copy.
pub enum CopyPart {
    /// Records as they were when the copy was begun.
    Base(Vec<RawEntry>),
    /// The base is whole.
    BaseEnd {
        /// The store's revision.
        revision: u64,
        /// The HMAC of the sum of the whole store.
        anchor: [u8; 32],
    },
    /// What a group of transactions wrote and removed.
    Group {
        /// The store's revision afterwards.
        revision: u64,
        /// The HMAC of the sum of the whole store afterwards.
        anchor: [u8; 32],
        /// Each path with what was put there; `None` if it was removed.
        writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    },
}

/// A copy that is read from its beginning.
pub struct CopyReader {
    frames: Frames,
    owner: CopyOwner,
    entries: u64,
    waiting: Vec<OwnedWrite>,
    has_base: bool,
}

impl CopyReader {
    /// Opens a copy: its file, or the directory that it is in.
    ///
    /// # Errors
    /// `Unavailable`, or `Altered` if it is none.
    pub fn open(path: &Path) -> Result<Self, CopyError> {
        let path = if path.is_dir() { path.join(NAME) } else { path.to_owned() };
        let mut frames = Frames::open(&path)?;
        let owner = frames.header()?;
        Ok(Self { frames, owner, entries: 0, waiting: Vec::new(), has_base: false })
    }

    /// Whose copy it is.
    #[must_use]
    pub fn owner(&self) -> CopyOwner {
        self.owner
    }

    /// True once its end was reached and the last write is torn or damaged there. Nobody was told
    /// that it happened, unless it was damaged later.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.frames.is_torn || !self.waiting.is_empty()
    }

    /// The next part; `None` at the end. A group that was being written when the process ended is
    /// none: nobody was told that it happened.
    ///
    /// # Errors
    /// `Altered` for what was whole once, or what cannot be read.
    pub fn part(&mut self) -> Result<Option<CopyPart>, CopyError> {
        loop {
            let Some((kind, payload)) = self.frames.next()? else {
                return match self.has_base {
                    true => Ok(None),
                    false => Err(self.frames.altered("it ends before it holds everything")),
                };
            };
            let none = |frames: &Frames| frames.altered("a part of it is none");
            let writes = |payload: &[u8]| frames::parse_writes(payload);
            match (kind, self.has_base) {
                (frames::BASE, false) => {
                    let found = writes(&payload).ok_or_else(|| none(&self.frames))?;
                    self.entries += found.len() as u64;
                    let entries = found.into_iter().filter_map(|(path, stored)| {
                        stored.map(|stored| RawEntry { path, stored })
                    });
                    return Ok(Some(CopyPart::Base(entries.collect())));
                }
                (frames::BASE_END, false) => {
                    let end = frames::parse_moment(&payload);
                    let (Moment { revision, anchor }, count) =
                        end.ok_or_else(|| none(&self.frames))?;
                    if count != self.entries.to_le_bytes() {
                        return Err(self
                            .frames
                            .altered("it has more or fewer records than it says"));
                    }
                    self.has_base = true;
                    return Ok(Some(CopyPart::BaseEnd { revision, anchor }));
                }
                (frames::PART, true) => {
                    self.waiting.extend(writes(&payload).ok_or_else(|| none(&self.frames))?);
                }
                (frames::GROUP, true) => {
                    let group = frames::parse_moment(&payload);
                    let (Moment { revision, anchor }, rest) =
                        group.ok_or_else(|| none(&self.frames))?;
                    let mut all = std::mem::take(&mut self.waiting);
                    all.extend(writes(rest).ok_or_else(|| none(&self.frames))?);
                    return Ok(Some(CopyPart::Group { revision, anchor, writes: all }));
                }
                _ => return Err(self.frames.altered("a part of it is out of place")),
            }
        }
    }
}

/// The frames of a file, one after the other.
pub(super) struct Frames {
    path: PathBuf,
    file: File,
    length: u64,
    /// Where the next frame begins.
    pub(super) offset: u64,
    is_torn: bool,
}

impl Frames {
    pub(super) fn open(path: &Path) -> Result<Self, CopyError> {
        let failed = |e: io::Error| unavailable(path, &e);
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(Self { path: path.to_owned(), file, length, offset: 0, is_torn: false })
    }

    /// Whose copy it is.
    pub(super) fn header(&mut self) -> Result<CopyOwner, CopyError> {
        let found = match self.next()? {
            Some((frames::HEADER, payload)) => frames::parse_header(&payload),
            _ => None,
        };
        match found {
            Some((frames::FORMAT, owner)) => Ok(owner),
            Some((format, _)) => Err(self.altered(&format!(
                "it has format {format}, and this program knows format {}",
                frames::FORMAT
            ))),
            None => Err(self.altered("it does not begin as a copy does")),
        }
    }

    /// The next frame; `None` at the end, and where the last write was torn.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, CopyError> {
        match self.at(self.offset)? {
            Some((kind, payload)) => {
                self.offset += (HEAD + payload.len() + 4) as u64;
                Ok(Some((kind, payload)))
            }
            None if self.has_frame_after(self.offset)? => {
                Err(self.altered(&format!("it cannot be read at byte {}", self.offset)))
            }
            None => {
                self.is_torn = self.offset < self.length;
                Ok(None)
            }
        }
    }

    /// The whole frame that stands there, if one does.
    fn at(&self, offset: u64) -> Result<Option<(u8, Vec<u8>)>, CopyError> {
        let failed = |e: io::Error| unavailable(&self.path, &e);
        let mut head = [0; HEAD];
        let left = self.length.saturating_sub(offset);
        if left < HEAD as u64 {
            return Ok(None);
        }
        self.file.read_exact_at(&mut head, offset).map_err(failed)?;
        let [m0, m1, m2, m3, a, b, c, d, kind] = head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let is_head = [m0, m1, m2, m3] == *MAGIC && length <= MAX_PAYLOAD;
        if !is_head || left < (HEAD + length + 4) as u64 {
            return Ok(None);
        }
        let mut rest = vec![0; length + 4];
        self.file.read_exact_at(&mut rest, offset + HEAD as u64).map_err(failed)?;
        let crc = rest.split_off(length);
        let mut hash = crc32fast::Hasher::new();
        hash.update(&head);
        hash.update(&rest);
        Ok((crc == hash.finalize().to_le_bytes()).then_some((kind, rest)))
    }

    /// Whether a whole frame stands anywhere behind: then what stands here was whole once, because
    /// each group was durable before the next was begun.
    fn has_frame_after(&self, offset: u64) -> Result<bool, CopyError> {
        let failed = |e: io::Error| unavailable(&self.path, &e);
        let mut from = offset + 1;
        while from < self.length {
            let take = usize::try_from(self.length - from).unwrap_or(SCAN).min(SCAN);
            let mut bytes = vec![0; take];
            self.file.read_exact_at(&mut bytes, from).map_err(failed)?;
            for (place, window) in bytes.windows(MAGIC.len()).enumerate() {
                if window == MAGIC && self.at(from + place as u64)?.is_some() {
                    return Ok(true);
                }
            }
            if take < SCAN {
                return Ok(false);
            }
            from += (take - (MAGIC.len() - 1)) as u64;
        }
        Ok(false)
    }

    pub(super) fn altered(&self, what: &str) -> CopyError {
        CopyError::Altered { place: self.path.display().to_string(), what: what.to_owned() }
    }
}

pub(super) fn unavailable(path: &Path, error: &io::Error) -> CopyError {
    CopyError::Unavailable { place: path.display().to_string(), error: error.to_string() }
}
