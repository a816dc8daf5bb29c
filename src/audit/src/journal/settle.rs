//! What the last process left behind, settled before anything is signed again.
//!
//! After an unclean end the page cache may hold what the disk does not. So the open segment is copied
//! to a new file and synced, and what is torn is kept in a file of its own until a record says so.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::space::Lock;
use super::writer::create_new;
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
}

/// Settles the open segment, whose last whole frame ends at `offset`; the log has `size` records up
/// to there, and what follows is `torn` or nothing.
pub(super) fn settle(
    lock: &Lock,
    directory: &Path,
    segment: &Path,
    (offset, size, torn): (u64, u64, bool),
) -> Result<Settled, JournalError> {
    if !torn && closed_at(directory) == Some(size) {
        return Ok(Settled { clean: true, torn_bytes: 0 });
    }
    let failed = |e: &io::Error| JournalError::io("copy", segment, e);
    let bytes = std::fs::read(segment).map_err(|e| failed(&e))?;
    let kept = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let (kept, rest) = bytes.split_at(kept);
    let torn_len = rest.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    if torn_len > 0 {
        // A crash between this and the copy leaves the same bytes, and so the same name, again.
        let aside = directory.join(format!("torn-{size:020}{UNRECORDED}"));
        let torn = rest.get(..torn_len).unwrap_or_default();
        replace(&aside, torn).map_err(|e| failed(&e))?;
        lock.sync_directory().map_err(|e| failed(&e))?;
    }
    let copy = directory.join("copy.tmp");
    let copied = match std::fs::remove_file(&copy) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => create_new(&copy).and_then(|mut file| {
            file.write_all(kept)?;
            file.write_all(&vec![0; rest.len()])?;
            file.sync_all()
        }),
    };
    copied
        .and_then(|()| std::fs::rename(&copy, segment))
        .and_then(|()| lock.sync_directory())
        .map_err(|e| failed(&e))?;
    Ok(Settled { clean: false, torn_bytes: torn_len as u64 })
}

/// Writes down that the log was closed with so many records, all of them on disk.
pub(super) fn mark_closed(lock: &Lock, directory: &Path, size: u64) -> Result<(), JournalError> {
    let (path, new) = (directory.join(CLOSED), directory.join("closed.tmp"));
    replace(&new, format!("{size}\n").as_bytes())
        .and_then(|()| std::fs::rename(&new, &path))
        .and_then(|()| lock.sync_directory())
        .map_err(|e| JournalError::io("write", &path, &e))
}

/// A mark that cannot be read is none: the segment is copied then.
fn closed_at(directory: &Path) -> Option<u64> {
    std::fs::read_to_string(directory.join(CLOSED)).ok()?.trim().parse().ok()
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
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
