//! Where sled's files are: in the store's directory itself until it is written anew, then in
//! `live-N` below it. The file `live` names the directory that counts; it is put in place by one
//! rename, so that whatever happens there is one whole database, and everything else is left over.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use super::open_database;
use super::waker::Waker;
use crate::backend::RawWrite;
use crate::error::StoreError;

/// Names the directory that counts.
const POINTER: &str = "live";
/// The same before it counts.
const UNFINISHED: &str = "live.new";
/// What the names of the directories begin with.
const PREFIX: &str = "live-";
/// Bytes that are overwritten at a time.
const ZEROES: usize = 256 * 1024;

/// An open database.
pub(super) struct Live {
    /// Ends before the database is let go of.
    _waker: Waker,
    pub(super) db: ::sled::Db,
    pub(super) file: File,
    /// Device and inode of the file: one put in its place is another.
    identity: (u64, u64),
    pub(super) directory: PathBuf,
}

impl Live {
    /// Opens the database in this directory, or makes it.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let (db, waker) = open_database(directory)?;
        let path = directory.join("db");
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        // sled syncs neither what it is told about its files, without which they do not open, nor
        // their names.
        File::open(directory.join("conf"))?.sync_all()?;
        File::open(directory)?.sync_all()?;
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { _waker: waker, db, file, identity, directory: directory.to_owned() })
    }

    pub(super) fn apply(&self, writes: Vec<RawWrite>) -> ::sled::Result<()> {
        let mut batch = ::sled::Batch::default();
        for write in writes {
            match write {
                RawWrite::Put(key, value) => batch.insert(key, value),
                RawWrite::Delete(key) => batch.remove(key),
            }
        }
        self.db.apply_batch(batch)
    }

    /// It ends in `sync_file_range`, which a loss of power does not survive; `fdatasync` of the file
    /// follows.
    pub(super) fn flush(&self) -> ::sled::Result<()> {
        self.db.flush().map(|_| ())
    }

    pub(super) fn is_in_place(&self) -> bool {
        let place = fs::metadata(self.directory.join("db"));
        place.is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    pub(super) fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// True if a database is in the store's directory, wherever in it.
pub(crate) fn is_made(store: &Path) -> io::Result<bool> {
    current(store)?.join("db").try_exists()
}

/// The directory that counts.
pub(super) fn current(store: &Path) -> io::Result<PathBuf> {
    match fs::read_to_string(store.join(POINTER)) {
        Ok(name) => match number(name.trim_end()) {
            Some(_) => Ok(store.join(name.trim_end())),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} names no directory of a store", store.join(POINTER).display()),
            )),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(store.to_owned()),
        Err(error) => Err(error),
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// Makes the directory of the next database beside the one in `live`.
pub(super) fn make_next(store: &Path, live: &Path) -> io::Result<PathBuf> {
    let last = live.file_name().and_then(|name| name.to_str()).and_then(number).unwrap_or(0);
    let next = store.join(format!("{PREFIX}{}", last.saturating_add(1)));
    if next.try_exists()? {
        fs::remove_dir_all(&next)?;
    }
    DirBuilder::new().mode(0o700).create(&next)?;
    Ok(next)
}

/// Lets this directory count from now on.
pub(super) fn point_to(store: &Path, live: &Path, step: &dyn Fn(&str)) -> io::Result<()> {
    let name = live.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut options = OpenOptions::new();
    let unfinished = store.join(UNFINISHED);
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(format!("{name}\n").as_bytes())?;
    file.sync_all()?;
    step("named");
    fs::rename(&unfinished, store.join(POINTER))?;
    step("renamed");
    File::open(store)?.sync_all()
}

/// Removes what does not count: databases that were never finished, and those before this one.
/// Their bytes are overwritten first, where the file system writes in place.
pub(super) fn remove_others(store: &Path, step: &dyn Fn(&str)) -> io::Result<()> {
    let live = current(store)?;
    let mut removed = false;
    for entry in fs::read_dir(store)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let Some(name) = name.to_str() else { continue };
        let of_the_first = is_of_the_first(name);
        let is_other = number(name).is_some() || name == UNFINISHED || of_the_first;
        if !is_other || path == live || (of_the_first && live == store) {
            continue;
        }
        removed = true;
        remove(&path)?;
        step("removed");
    }
    if removed { File::open(store)?.sync_all() } else { Ok(()) }
}

/// Removes one database that does not count any more, and nothing else: the next one may be on its
/// way already.
pub(super) fn remove_database(store: &Path, directory: &Path) -> io::Result<()> {
    if directory == store {
        for entry in fs::read_dir(store)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_of_the_first) {
                remove(&entry.path())?;
            }
        }
    } else {
        remove(directory)?;
    }
    File::open(store)?.sync_all()
}

/// Whether sled gives this name to what stands in the store's directory itself.
fn is_of_the_first(name: &str) -> bool {
    matches!(name, "db" | "conf" | "blobs") || name.starts_with("snap.")
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            remove(&entry?.path())?;
        }
        return fs::remove_dir(path);
    }
    if let Err(error) = overwrite(path) {
        // It is removed all the same; a file system that copies on write would not overwrite it.
        tracing::debug!(%error, "a file was not overwritten before it was removed");
    }
    fs::remove_file(path)
}

fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    let zeroes = vec![0; ZEROES];
    while left > 0 {
        let now = zeroes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(zeroes.get(..now).unwrap_or_default())?;
        left = left.saturating_sub(now as u64);
    }
    file.sync_data()
}
