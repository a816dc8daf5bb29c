//! Generations: whole copies of a store at one revision, beside it, as it stores its records: sealed,
//! and under hidden names.
//!
//! ```text
//! file    "FSGEN001" | installation 16 | le64 revision | anchor 32 | le64 time | le32 CRC-32
//!         | frame* | le32 0 | le64 entries | le32 CRC-32
//! frame   le32 length | entries | le32 CRC-32
//! entry   le32 length | path | le32 length | revision 8 | sealed
//! ```
//!
//! Paths ascend. The checksums find what a disk does to a file; the anchor, the HMAC of the sum of
//! the whole store, finds everything else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path as FilePath, PathBuf};

use fieldseal_crypto::record;

use crate::error::StoreError;
use crate::snapshot::{RawEntry, Snapshot, is_record};
use crate::store::Secrets;
use crate::stored::open_value;

const MAGIC: &[u8; 8] = b"FSGEN001";
const HEADER_BYTES: usize = 8 + 16 + 8 + 32 + 8;
/// A frame that has so many bytes takes no more, and the most that a reader believes in.
const FRAME_BYTES: usize = 256 * 1024;
const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// The end of the name of one that is not whole.
const UNFINISHED: &str = ".tmp";

/// A generation that was read from its first to its last byte, and is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number: `gen-{number}`. Numbers ascend and are not used again.
    pub number: u64,
    /// The revision of the store that it shows.
    pub revision: u64,
    /// The HMAC over the sum of the whole store at that revision.
    pub anchor: [u8; 32],
    /// How many records it has.
    pub entries: u64,
    /// When it was made, in nanoseconds since 1970.
    pub made_at: i64,
}

/// Where the generations of a store are.
#[derive(Debug, Clone)]
pub struct Generations {
    directory: PathBuf,
}

impl Generations {
    /// In this directory, which need not exist yet.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The file of a generation.
    #[must_use]
    pub fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("gen-{number}"))
    }

    /// The numbers of all, the oldest first. What was never finished is none.
    ///
    /// # Errors
    /// If the directory is there and cannot be read.
    pub fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("gen-"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// When the newest was made, as the file's time says: nothing is read.
    ///
    /// # Errors
    /// As [`Generations::numbers`].
    pub fn newest_time(&self) -> io::Result<Option<std::time::SystemTime>> {
        let Some(newest) = self.numbers()?.pop() else { return Ok(None) };
        fs::metadata(self.path(newest))?.modified().map(Some)
    }

    /// Writes what a snapshot shows, reads all of it again as a restore would, and only then gives
    /// it its name. Only for a thread that may block.
    ///
    /// # Errors
    /// `Compacted` if too much is written meanwhile, `Io` if there is too little space, `Corrupt` if
    /// a record does not open: then nothing is left of it.
    pub fn make(&self, mut snapshot: Snapshot, made_at: i64) -> Result<Generation, StoreError> {
        snapshot.check_space()?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        self.remove_unfinished()?;
        let number = self.numbers()?.last().map_or(1, |newest| newest.saturating_add(1));
        let unfinished = self.directory.join(format!("gen-{number}{UNFINISHED}"));
        let made = write(&unfinished, &mut snapshot, made_at)
            .and_then(|()| read(&unfinished, number, snapshot.secrets(), |_| Ok(())));
        let made = made.and_then(|made| {
            if (made.revision, made.anchor) != (snapshot.revision(), snapshot.anchor()) {
                return Err(corrupt("it does not read back as it was written"));
            }
            fs::rename(&unfinished, self.path(number))?;
            File::open(&self.directory)?.sync_all()?;
            Ok(made)
        });
        if made.is_err() {
            // It is not wanted; what is wrong is told either way.
            let _unless_gone = fs::remove_file(&unfinished);
        }
        made
    }

    /// Hands every record of a generation to `see`. Only at the end it is known to be whole.
    ///
    /// # Errors
    /// `Corrupt` for one that is damaged or another installation's; what `see` says; or the trouble
    /// of the disk.
    pub fn read(
        &self,
        number: u64,
        secrets: &Secrets,
        see: impl FnMut(RawEntry) -> Result<(), StoreError>,
    ) -> Result<Generation, StoreError> {
        read(&self.path(number), number, secrets, see)
    }

    /// Keeps the newest so many, and says how many it removed.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn keep(&self, newest: usize) -> io::Result<usize> {
        let numbers = self.numbers()?;
        let old = numbers.len().saturating_sub(newest);
        for number in numbers.iter().take(old) {
            fs::remove_file(self.path(*number))?;
        }
        if old > 0 {
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(old)
    }

    fn remove_unfinished(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.ends_with(UNFINISHED)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn write(path: &FilePath, snapshot: &mut Snapshot, made_at: i64) -> Result<(), StoreError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::new(file);
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(snapshot.secrets().installation.as_bytes());
    header.extend_from_slice(&snapshot.revision().to_le_bytes());
    header.extend_from_slice(&snapshot.anchor());
    header.extend_from_slice(&made_at.to_le_bytes());
    checked(&mut out, &header)?;
    let (mut frame, mut entries) = (Vec::new(), 0_u64);
    while let Some(page) = snapshot.page()? {
        for RawEntry { path, stored } in page {
            for part in [path, stored] {
                frame.extend_from_slice(&le32(part.len())?);
                frame.extend_from_slice(&part);
            }
            entries = entries.saturating_add(1);
            if frame.len() >= FRAME_BYTES {
                put_frame(&mut out, &mut frame)?;
                snapshot.check_space()?;
            }
        }
    }
    if !frame.is_empty() {
        put_frame(&mut out, &mut frame)?;
    }
    let mut end = 0_u32.to_le_bytes().to_vec();
    end.extend_from_slice(&entries.to_le_bytes());
    checked(&mut out, &end)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(file.sync_all()?)
}

fn put_frame(out: &mut impl Write, frame: &mut Vec<u8>) -> Result<(), StoreError> {
    out.write_all(&le32(frame.len())?)?;
    checked(out, frame)?;
    frame.clear();
    Ok(())
}

/// Bytes and their CRC-32.
fn checked(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.write_all(&crc32fast::hash(bytes).to_le_bytes())
}

fn read(
    path: &FilePath,
    number: u64,
    secrets: &Secrets,
    mut see: impl FnMut(RawEntry) -> Result<(), StoreError>,
) -> Result<Generation, StoreError> {
    let mut file = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let header = take_checked(&mut file, HEADER_BYTES, "its header is damaged")?;
    let mut rest = header.as_slice();
    let (magic, installation) = (cut::<8>(&mut rest)?, cut::<16>(&mut rest)?);
    let (revision, anchor) = (u64::from_le_bytes(cut(&mut rest)?), cut::<32>(&mut rest)?);
    let made_at = i64::from_le_bytes(cut(&mut rest)?);
    if magic != *MAGIC {
        return Err(corrupt("it is no generation of a known format"));
    }
    if installation != *secrets.installation.as_bytes() {
        return Err(corrupt("it belongs to another installation"));
    }
    let mut all = Reading { secrets, revision, acc: [0; 32], entries: 0, last: Vec::new() };
    loop {
        let len = u32::from_le_bytes(take(&mut file)?) as usize;
        if len == 0 {
            break;
        }
        if len > MAX_FRAME_BYTES {
            return Err(corrupt("a length in it is impossible"));
        }
        let frame = take_checked(&mut file, len, "a part of it is damaged")?;
        all.frame(&frame, &mut see)?;
    }
    let end = take_checked_after(&mut file, &[0; 4], 8)?;
    let said = u64::from_le_bytes(cut(&mut end.as_slice())?);
    if said != all.entries || file.read(&mut [0])? != 0 {
        return Err(corrupt("it does not end where it should"));
    }
    if secrets.anchor.mac(&all.acc) != anchor {
        return Err(corrupt("its records do not add up to its sum"));
    }
    Ok(Generation { number, revision, anchor, entries: all.entries, made_at })
}

struct Reading<'a> {
    secrets: &'a Secrets,
    revision: u64,
    acc: [u8; 32],
    entries: u64,
    last: Vec<u8>,
}

impl Reading<'_> {
    fn frame(
        &mut self,
        mut frame: &[u8],
        see: &mut impl FnMut(RawEntry) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        while !frame.is_empty() {
            let (path, stored) = (part(&mut frame)?, part(&mut frame)?);
            if !is_record(&path) || path <= self.last {
                return Err(corrupt("its records are out of order"));
            }
            let found = open_value(self.secrets, &path, &stored)?.revision;
            if found > self.revision {
                return Err(corrupt("a record in it is newer than it says it is"));
            }
            let sealed = stored.get(8..).unwrap_or_default();
            record::add(&mut self.acc, &self.secrets.anchor.term(&path, found, sealed));
            self.entries = self.entries.saturating_add(1);
            self.last.clone_from(&path);
            see(RawEntry { path, stored })?;
        }
        Ok(())
    }
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

fn le32(len: usize) -> Result<[u8; 4], StoreError> {
    let len = u32::try_from(len).map_err(|_| corrupt("a record is too long"))?;
    Ok(len.to_le_bytes())
}

fn take<const N: usize>(file: &mut impl Read) -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    match file.read_exact(&mut bytes) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(corrupt("it is cut short")),
        other => Ok(other.map(|()| bytes)?),
    }
}

fn take_checked(file: &mut impl Read, len: usize, what: &str) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    file.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() < len {
        return Err(corrupt("it is cut short"));
    }
    let sum = u32::from_le_bytes(take(file)?);
    if crc32fast::hash(&bytes) == sum { Ok(bytes) } else { Err(corrupt(what)) }
}

/// The same, where the checksum also covers what was read before.
fn take_checked_after(
    file: &mut impl Read,
    before: &[u8],
    len: usize,
) -> Result<Vec<u8>, StoreError> {
    let mut both = before.chain(file);
    let mut bytes = take_checked(&mut both, before.len() + len, "its end is damaged")?;
    Ok(bytes.split_off(before.len()))
}

fn cut<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StoreError> {
    let (bytes, after) = rest.split_first_chunk().ok_or_else(|| corrupt("it is cut short"))?;
    *rest = after;
    Ok(*bytes)
}

fn part(frame: &mut &[u8]) -> Result<Vec<u8>, StoreError> {
    let len = u32::from_le_bytes(cut(frame)?) as usize;
    let parts = frame.split_at_checked(len).ok_or_else(|| corrupt("a record in it is cut off"))?;
    *frame = parts.1;
    Ok(parts.0.to_vec())
}
