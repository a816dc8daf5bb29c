//! Writing a verified log as C2SP tlog-tiles.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::JournalError;
use crate::merkle::Hash;
use crate::tiles::{File, Tiles};

use super::walk::Walk;
use super::{Files, LogKey, Remembered, VerifyError, read, remembered, segments};

const CHECKPOINT: &str = "checkpoint";

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiled {
    /// How many records the tiles cover.
    pub records: u64,
    /// How many files were written; those that were there already do not count.
    pub written: u64,
    /// The entry bundles that are not there, because a leaf of them is longer than 65,535 bytes.
    pub left_out: Vec<u64>,
    /// The checkpoint, a signed note; empty if the log has no record, and then nothing is written.
    pub checkpoint: String,
}

/// Why the tiles were not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TilesError {
    /// The log does not verify, or the checkpoint that is there already is another log's.
    #[error(transparent)]
    Log(#[from] VerifyError),
    /// A file that an earlier run wrote is not what it wrote.
    #[error("{} is not what the log has: it was altered; move it away", .0.display())]
    Differs(PathBuf),
    /// The operating system said no.
    #[error("cannot write {}: {why}", .file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Of what kind.
        kind: io::ErrorKind,
        /// Its answer.
        why: String,
    },
}

impl TilesError {
    fn io(file: &Path, error: &io::Error) -> Self {
        Self::Io { file: file.to_owned(), kind: error.kind(), why: error.to_string() }
    }
}

/// Verifies a log and writes it as C2SP tlog-tiles into a directory: what is missing there, and at
/// last the checkpoint. What an earlier run wrote stays, and must be what the log has. The log is read
/// twice: nothing is written before all of it verifies.
///
/// # Errors
/// A log that does not verify, or does not go on from the checkpoint in the directory; a file there
/// that differs; trouble with writing. The checkpoint there is then as it was.
pub fn tiles(
    files: Files<'_>,
    key: &LogKey,
    to: &Path,
    mut progress: impl FnMut(u64),
) -> Result<Tiled, TilesError> {
    let before = earlier(&to.join(CHECKPOINT), key)?;
    let walk = &mut |_| {};
    let (found, _) = read(files, Walk::new(key, before.as_ref(), &mut progress, walk))?;
    if let Some(wrong) = found.first_wrong() {
        return Err(wrong.into());
    }
    if let Some(archived) = found.archived() {
        return Err(VerifyError::Archived(archived).into());
    }
    let (records, checkpoint) = (found.verified.records, found.verified.checkpoint_note);
    let mut output = Output { to, before: before.map_or(0, |b| b.size), written: 0, trouble: None };
    if records == 0 {
        return Ok(Tiled { records, written: 0, left_out: Vec::new(), checkpoint: String::new() });
    }
    let (root, left_out) = make(files, key, records, &mut output)?;
    if let Some(trouble) = output.trouble.take() {
        return Err(trouble);
    }
    if root != Some(found.verified.root) {
        let what = "it changed while it was read";
        let changed = JournalError::corrupt(files.directory, 0, what);
        return Err(VerifyError::Unreadable(changed).into());
    }
    let opened = fs::File::open(to).map_err(|e| TilesError::io(to, &e))?;
    rustix::fs::syncfs(&opened).map_err(|e| TilesError::io(to, &e.into()))?;
    let (path, bytes) = (CHECKPOINT.to_owned(), checkpoint.clone().into_bytes());
    output.put(&File { path, bytes, end: u64::MAX });
    output.trouble.take().map_or(Ok(()), Err)?;
    opened.sync_all().map_err(|e| TilesError::io(to, &e))?;
    Ok(Tiled { records, written: output.written, left_out, checkpoint })
}

/// The checkpoint that an earlier run wrote.
fn earlier(file: &Path, key: &LogKey) -> Result<Option<Remembered>, TilesError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(remembered(&text, key)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TilesError::io(file, &error)),
    }
}

/// Makes the files of the first records; gives their root and the bundles that were left out.
fn make(
    files: Files<'_>,
    key: &LogKey,
    records: u64,
    output: &mut Output<'_>,
) -> Result<(Option<Hash>, Vec<u64>), VerifyError> {
    let mut tiles = Tiles::default();
    let mut leaf = |at: u64, leaf: &[u8], hash: &Hash| {
        if at < records {
            tiles.leaf(leaf, *hash, &mut |file| output.put(&file));
        }
    };
    let (all, mut progress, mut change) = (segments(files, key)?, |_| {}, |_| {});
    let mut walk = Walk::new(key, None, &mut progress, &mut change);
    walk.leaf = Some(&mut leaf);
    walk.read(&all)?;
    Ok(tiles.finish(&mut |file| output.put(&file)))
}

/// The directory that is written to.
struct Output<'a> {
    to: &'a Path,
    /// How many records the checkpoint there covers: files up to there are not replaced.
    before: u64,
    written: u64,
    /// The first thing that went wrong; nothing is written behind it.
    trouble: Option<TilesError>,
}

impl Output<'_> {
    /// Writes a file that is not there, that a run which was cut short left behind, or that grows.
    fn put(&mut self, file: &File) {
        if self.trouble.is_some() {
            return;
        }
        let path = self.to.join(&file.path);
        match fs::read(&path) {
            Ok(there) if there == file.bytes => {}
            Ok(_) if file.end <= self.before => self.trouble = Some(TilesError::Differs(path)),
            Ok(_) => self.replace(Path::new(&file.path), &file.bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.replace(Path::new(&file.path), &file.bytes);
            }
            Err(error) => self.trouble = Some(TilesError::io(&path, &error)),
        }
    }

    /// Puts a file in its place at once.
    fn replace(&mut self, name: &Path, bytes: &[u8]) {
        let path = self.to.join(name);
        let new = path.with_extension("new");
        let written = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
            file?.write_all(bytes)?;
            fs::rename(&new, &path)
        };
        match written() {
            Ok(()) => self.written += 1,
            Err(error) => self.trouble = Some(TilesError::io(&path, &error)),
        }
    }
}
