//! A file of lines. It ends where the cursor says: what was written behind that and not said of is cut off
//! before it goes on, so that every record has one line and no line is torn.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use fieldseal_engine::{ExportFeed, FilePlace, directory_of, directory_trouble, file_trouble};
use fieldseal_service::ocsf;
use rustix::fs::{Mode, OFlags, fstatvfs};
use rustix::io::Errno;

/// How many files of a directory are looked at for one that was rotated.
const SEARCHED: usize = 10_000;

/// The file, and whether it is open.
pub(super) struct LineFile {
    path: PathBuf,
    reserve_bytes: u64,
    open: Option<File>,
    /// After a failure nobody knows how far it came: the cursor on disk does.
    is_unsure: bool,
}

impl LineFile {
    pub(super) fn new(path: PathBuf, reserve_bytes: u64) -> Self {
        Self { path, reserve_bytes, open: None, is_unsure: false }
    }

    /// Adds the next records; whether there may be more. Blocks.
    pub(super) fn step(&mut self, feed: &mut ExportFeed) -> Result<bool, String> {
        let done = self.next(feed);
        self.is_unsure = done.is_err();
        if self.is_unsure {
            self.open = None;
        }
        done
    }

    fn next(&mut self, feed: &mut ExportFeed) -> Result<bool, String> {
        if self.is_unsure {
            feed.resume().map_err(|error| error.to_string())?;
        }
        let events = feed.read().map_err(|error| error.to_string())?;
        if events.is_empty() {
            return Ok(false);
        }
        let lines = ocsf::lines(feed.log(), events);
        let written = self.write(feed, lines.as_bytes());
        written.map_err(|error| format!("{}: {error}", self.path.display()))?;
        Ok(true)
    }

    fn write(&mut self, feed: &mut ExportFeed, lines: &[u8]) -> io::Result<()> {
        let (file, mut place) = self.at_its_end(feed, lines)?;
        let result = has_room(&file, lines.len() as u64, self.reserve_bytes)
            .and_then(|()| (&file).write_all(lines))
            .and_then(|()| file.sync_data());
        if let Err(error) = result {
            // Nobody reads a torn line meanwhile. If this fails too, the next attempt does it.
            drop(file.set_len(place.bytes));
            return Err(error);
        }
        place.bytes = place.bytes.saturating_add(lines.len() as u64);
        self.open = Some(file);
        feed.delivered(Some(place))
    }

    /// The file that has the name now, and where its end is. If that is not the one of the cursor, or it
    /// became shorter, it was rotated: it goes on with the next record in what is there.
    fn at_its_end(&mut self, feed: &mut ExportFeed, lines: &[u8]) -> io::Result<(File, FilePlace)> {
        if let Some(trouble) = directory_trouble(&directory_of(&self.path).metadata()?) {
            return Err(io::Error::other(trouble));
        }
        let still = self.open.take().filter(|file| has_name(file, &self.path));
        let file = match still {
            Some(file) => file,
            None => open(&self.path, OFlags::CREATE | OFlags::APPEND)?,
        };
        let found = file.metadata()?;
        if let Some(trouble) = file_trouble(&found) {
            return Err(io::Error::other(trouble));
        }
        let found = FilePlace::of(&found);
        match feed.file() {
            Some(known) if known.is_in(&found) => {
                if known.bytes < found.bytes {
                    file.set_len(known.bytes)?;
                    file.sync_all()?;
                }
                Ok((file, known))
            }
            known => {
                if !ends_with_a_line(&file, found.bytes)? {
                    return Err(io::Error::other("it is not ours, and its last line is torn"));
                }
                if let Some(known) = known {
                    self.cut_rotated(known, lines)?;
                }
                // A file that is new must be found again after a power cut, as its cursor is.
                file.sync_all()?;
                File::open(directory_of(&self.path))?.sync_all()?;
                feed.goes_on_in(found)?;
                Ok((file, found))
            }
        }
    }

    /// A process that was killed may have written lines that its cursor does not know, and the file have
    /// been rotated since. They are cut off it where it is found, if they are those that come next.
    fn cut_rotated(&self, known: FilePlace, lines: &[u8]) -> io::Result<()> {
        for entry in std::fs::read_dir(directory_of(&self.path))?.take(SEARCHED) {
            let entry = entry?;
            let found = entry.metadata()?;
            if !found.is_file() || !known.is_in(&FilePlace::of(&found)) {
                continue;
            }
            let file = open(&entry.path(), OFlags::empty())?;
            if !known.is_in(&FilePlace::of(&file.metadata()?)) {
                continue;
            }
            let mut behind = Vec::new();
            (&file).seek(SeekFrom::Start(known.bytes))?;
            (&file).take(lines.len() as u64).read_to_end(&mut behind)?;
            if !behind.is_empty() && lines.starts_with(&behind) {
                file.set_len(known.bytes)?;
                file.sync_all()?;
            }
        }
        Ok(())
    }
}

/// It is made for its owner alone. One that is no file does not hold up anybody, and no link is followed.
fn open(path: &Path, how: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | how;
    match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Err(Errno::LOOP) => Err(io::Error::other("it is a symbolic link, and none is followed")),
        opened => Ok(File::from(opened?)),
    }
}

fn has_name(file: &File, path: &Path) -> bool {
    let (open, named) = (file.metadata(), path.symlink_metadata());
    open.ok().zip(named.ok()).is_some_and(|(open, named)| {
        use std::os::unix::fs::MetadataExt as _;
        (open.dev(), open.ino()) == (named.dev(), named.ino())
    })
}

fn ends_with_a_line(mut file: &File, bytes: u64) -> io::Result<bool> {
    let Some(last) = bytes.checked_sub(1) else { return Ok(true) };
    let mut end = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut end)?;
    Ok(end == *b"\n")
}

/// What fills the disk of the log stops the sidecar, so that an export leaves it its reserve.
fn has_room(file: &File, bytes: u64, reserve: u64) -> io::Result<()> {
    let found = fstatvfs(file)?;
    let left = found.f_bavail.saturating_mul(found.f_frsize).saturating_sub(bytes);
    if left < reserve {
        let what = "it would leave less space than audit.reserve_mib";
        return Err(io::Error::new(io::ErrorKind::StorageFull, what));
    }
    Ok(())
}
