//! sled 0.34.7: the embedded default.
//!
//! `flush` of this version ends in `sync_file_range`, which a loss of power does not survive, so
//! every sync is followed by `fdatasync` of sled's `db` file. Corruption makes sled panic while it
//! opens; it is opened once, on a thread of its own, where a panic becomes a clear error.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::{Backend, RawWrite};
use crate::damage;
use crate::error::StoreError;

/// Bytes of sled's page cache.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How often a locked database is tried, and how long apart.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct SledBackend {
    db: ::sled::Db,
    file: File,
    /// Device and inode of the file: one put in its place is another.
    identity: (u64, u64),
    directory: PathBuf,
}

impl SledBackend {
    /// Opens the database in `directory`, or makes it.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        remove_unfinished(directory)?;
        let config =
            ::sled::Config::new().path(directory).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        damage::watch_threads();
        let opening = std::thread::Builder::new().name(damage::OPENING.into());
        let (ended, opened) = sync_channel(1);
        opening.spawn(move || {
            // Nobody waits any more if a thread that this one waits for is gone.
            let _gone = ended.send(catch_unwind(AssertUnwindSafe(|| open_unlocked(&config))));
        })?;
        let db = match damage::wait(&opened) {
            Some(Ok(Ok(db))) => db,
            Some(Ok(Err(error))) => return Err(failure(error).into()),
            Some(Err(_)) | None => {
                return Err(StoreError::Corrupt(format!(
                    "the database in {} cannot be opened; restore it from a backup",
                    directory.display()
                )));
            }
        };
        let path = directory.join("db");
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        // sled syncs its files but not their names.
        File::open(directory)?.sync_all()?;
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { db, file, identity, directory: directory.to_owned() })
    }
}

/// Removes snapshots that a process was writing when it died, or when the disk was full. sled would
/// take one for the newest, and the database for damaged; the snapshot before is still there.
fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|n| n.starts_with("snap.") && n.ends_with(".generating")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Opens the database once it is unlocked. The directory is ours alone by now, so whoever holds
/// sled's own lock is a thread of an earlier handle, or a child of this process, that is just going.
fn open_unlocked(config: &::sled::Config) -> ::sled::Result<::sled::Db> {
    for _ in 1..TRIES {
        match config.open() {
            Err(::sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
    config.open()
}

/// What sled says, in our words: damage is `InvalidData`.
fn failure(error: ::sled::Error) -> io::Error {
    match error {
        ::sled::Error::Io(error) => error,
        ::sled::Error::Corruption { .. } => io::Error::new(
            io::ErrorKind::InvalidData,
            "the database is damaged; restore it from a backup",
        ),
        other => io::Error::other(other.to_string()),
    }
}

impl Backend for SledBackend {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.db.get(key).map_err(failure)?.map(|value| value.to_vec()))
    }

    fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        use std::ops::Bound;
        let from = match after {
            Some(after) => Bound::Excluded(after.to_vec()),
            None => Bound::Included(prefix.to_vec()),
        };
        let mut entries = Vec::new();
        for entry in self.db.range::<Vec<u8>, _>((from, Bound::Unbounded)).take(limit) {
            let (key, value) = entry.map_err(failure)?;
            if !key.starts_with(prefix) {
                break;
            }
            entries.push((key.to_vec(), value.to_vec()));
        }
        Ok(entries)
    }

    fn apply(&self, writes: Vec<RawWrite>) -> io::Result<()> {
        let mut batch = ::sled::Batch::default();
        for write in writes {
            match write {
                RawWrite::Put(key, value) => batch.insert(key, value),
                RawWrite::Delete(key) => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(failure)
    }

    fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(failure)?;
        self.file.sync_data()
    }

    fn is_in_place(&self) -> bool {
        let place = fs::metadata(self.directory.join("db"));
        place.is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let figures = rustix::fs::statvfs(&self.directory)?;
        Ok(Some(figures.f_bavail.saturating_mul(figures.f_frsize)))
    }
}
