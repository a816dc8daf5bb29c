//! Erasing the bytes of a file that another one has replaced.
//!
//! While a new segment takes the place of an old one, the old one has a second name, so that a process
//! that is killed in between does not leave its bytes behind unseen.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::segment;

/// A segment that is being written anew.
pub(super) const NEW: &str = "redact.tmp";
/// The end of the second name of a segment that is replaced.
const OLD: &str = ".redacted";
/// Bytes that are overwritten at a time.
const ZEROES: usize = 256 * 1024;

/// The second name of a segment.
pub(super) fn old_name(directory: &Path, first: u64) -> PathBuf {
    let name = segment::file_name(first);
    directory.join(name.replace(".log", OLD))
}

/// Erases what a process that was killed left behind.
pub(crate) fn tidy(directory: &Path, segments: &[(u64, PathBuf)]) -> io::Result<()> {
    // It has what stays, and perhaps what was named since.
    erase_if_there(&directory.join(NEW))?;
    for (first, path) in segments {
        let old = old_name(directory, *first);
        let identity = |path: &Path| path.metadata().map(|m| (m.dev(), m.ino()));
        match identity(&old) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            // It is the segment itself: nothing has replaced it yet.
            Ok(found) if found == identity(path)? => std::fs::remove_file(&old)?,
            Ok(_) => erase(&old)?,
        }
    }
    Ok(())
}

/// Overwrites a file, where the file system writes in place, and removes it.
pub(crate) fn erase(path: &Path) -> io::Result<()> {
    overwrite(path)?;
    std::fs::remove_file(path)
}

pub(super) fn erase_if_there(path: &Path) -> io::Result<()> {
    match erase(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub(super) fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    let zeroes = vec![0; ZEROES];
    while left > 0 {
        let now = zeroes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(zeroes.get(..now).unwrap_or_default())?;
        left = left.saturating_sub(now as u64);
    }
    file.sync_all()
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
