//! What the last process left behind, settled before anything is signed again.
//!
//! After an unclean end the page cache may hold what the disk does not. So the open segment is copied
//! to a new file and synced, and what is torn is kept in a file of its own until a record says so.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::recover::OpenReport;
use super::space::Lock;
use super::writer::create_new;
use crate::access;
use crate::error::JournalError;

/// Says how many records the log had when it was closed, everything synced.
const CLOSED: &str = "closed";
/// The end of the name of a torn tail that no record speaks of yet.
const UNRECORDED: &str = ".unrecorded";

/// What was found.
pub(super) struct Settled {
    /// Nothing had to be done.
    pub clean: bool,
    /// Bytes of a torn frame that were cut off.
    pub torn_bytes: u64,
    /// How many records it had when it was last closed, if a mark says so.
    pub closed: Option<u64>,
}

impl Settled {
    /// The same for whoever opens the log, which has so many records.
    pub(super) fn report(&self, records: u64) -> OpenReport {
        let shortened_from = self.closed.filter(|closed| *closed > records);
        let (unclean, torn_bytes) = (!self.clean, self.torn_bytes);
        OpenReport { records, unclean, torn_bytes, shortened_from }
    }
}

/// Settles the open segment, whose last whole frame ends at `offset`; the log has `size` records up
/// to there, and what follows is `torn` or nothing.
pub(super) fn settle(
    lock: &Lock,
    directory: &Path,
    segment: &Path,
    (offset, size, torn): (u64, u64, bool),
) -> Result<Settled, JournalError> {
    let closed = closed_at(directory);
    if !torn && closed == Some(size) {
        // All but the name of a segment that was begun since, with nothing in it yet.
        lock.sync_directory().map_err(|e| JournalError::io("sync", directory, &e))?;
        return Ok(Settled { clean: true, torn_bytes: 0, closed });
    }
    let failed = |e: io::Error| JournalError::io("copy", segment, &e);
    let torn_bytes = copy(lock, directory, segment, (offset, size)).map_err(failed)?;
    Ok(Settled { clean: false, torn_bytes, closed })
}

/// Keeps what is torn aside, and puts a synced copy of the rest in the segment's place. A piece at a
/// time: a segment is large.
fn copy(
    lock: &Lock,
    directory: &Path,
    segment: &Path,
    (offset, size): (u64, u64),
) -> io::Result<u64> {
    let mut from = File::open(segment)?;
    let len = from.metadata()?.len();
    let torn = last_byte(&mut from, offset)?.saturating_sub(offset);
    if torn > 0 {
        // A crash between this and the copy leaves the same bytes, and so the same name, again. A
        // torn record of this very cut leaves others.
        let sum = checksum(&mut from, offset, torn)?;
        let aside = directory.join(format!("torn-{size:020}-{sum:08x}{UNRECORDED}"));
        let mut to = create(&aside)?;
        from.seek(SeekFrom::Start(offset))?;
        carry(&mut Read::by_ref(&mut from).take(torn), &mut to)?;
        to.sync_all()?;
        lock.sync_directory()?;
    }
    let new = directory.join("copy.tmp");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut to = create_new(&new)?;
    from.seek(SeekFrom::Start(0))?;
    carry(&mut Read::by_ref(&mut from).take(offset), &mut to)?;
    carry(&mut io::repeat(0).take(len.saturating_sub(offset)), &mut to)?;
    to.sync_all()?;
    std::fs::rename(&new, segment)?;
    lock.sync_directory()?;
    Ok(torn)
}

/// The CRC-32 of some bytes of a file.
fn checksum(file: &mut File, from: u64, bytes: u64) -> io::Result<u32> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(64 * 1024, Read::by_ref(file).take(bytes));
    let mut sum = crc32fast::Hasher::new();
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(sum.finalize());
        }
        sum.update(piece);
        let len = piece.len();
        reader.consume(len);
    }
}

/// Reads everything and writes it. `io::copy` would let the file system share the blocks of both
/// files, and what may not be on them is what this is about.
fn carry(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    let mut piece = vec![0; 256 * 1024];
    loop {
        let read = from.read(&mut piece)?;
        match piece.get(..read) {
            None | Some([]) => return Ok(()),
            Some(some) => to.write_all(some)?,
        }
    }
}

/// Where the last byte that is not zero ends, or `from` if there is none behind it.
fn last_byte(file: &mut File, from: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let (mut at, mut last) = (from, from);
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(last);
        }
        if let Some(place) = piece.iter().rposition(|byte| *byte != 0) {
            last = at.saturating_add(place as u64 + 1);
        }
        let len = piece.len();
        at = at.saturating_add(len as u64);
        reader.consume(len);
    }
}

/// Writes down that the log was closed with so many records, all of them on disk.
pub(super) fn mark_closed(
    lock: &Lock,
    (directory, group): (&Path, Option<u32>),
    size: u64,
) -> Result<(), JournalError> {
    let (path, new) = (directory.join(CLOSED), directory.join("closed.tmp"));
    create(&new)
        .and_then(|mut file| {
            access::file(&new, group)?;
            file.write_all(format!("{size}\n").as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&new, &path))
        .and_then(|()| lock.sync_directory())
        .map_err(|e| JournalError::io("write", &path, &e))
}

/// A mark that cannot be read is none: the segment is copied then.
pub(crate) fn closed_at(directory: &Path) -> Option<u64> {
    std::fs::read_to_string(directory.join(CLOSED)).ok()?.trim().parse().ok()
}

/// A file for its owner alone, empty whether it was there or not.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// A torn tail that no record speaks of yet.
pub(super) struct Torn {
    at: PathBuf,
    /// How many bytes it has.
    pub bytes: u64,
    /// The file in which it is kept from now on.
    pub name: String,
}

/// The torn tails that no record speaks of yet.
pub(super) fn unrecorded(directory: &Path) -> Result<Vec<Torn>, JournalError> {
    let failed = |e: &io::Error| JournalError::io("read", directory, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let name = entry.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(UNRECORDED)) else {
            continue;
        };
        let bytes = entry.metadata().map_err(|e| failed(&e))?.len();
        found.push(Torn { at: entry.path(), bytes, name: free_name(directory, stem) });
    }
    found.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(found)
}

/// A name that no file has: the same tree can be torn more than once.
fn free_name(directory: &Path, stem: &str) -> String {
    let numbered = (2_u32..).map(|number| format!("{stem}-{number}.bin"));
    let mut names = std::iter::once(format!("{stem}.bin")).chain(numbered);
    let free = names.find(|name| directory.join(name).symlink_metadata().is_err());
    free.unwrap_or_else(|| format!("{stem}.bin"))
}

impl Torn {
    /// A record speaks of it now.
    pub(super) fn recorded(&self, lock: &Lock, directory: &Path) -> Result<(), JournalError> {
        std::fs::rename(&self.at, directory.join(&self.name))
            .and_then(|()| lock.sync_directory())
            .map_err(|e| JournalError::io("rename", &self.at, &e))
    }
}
