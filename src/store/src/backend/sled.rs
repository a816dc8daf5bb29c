//! sled 0.34.7: the embedded default.
//!
//! `flush` of this version ends in `sync_file_range`, which a loss of power does not survive, so
//! every sync is followed by `fdatasync` of sled's `db` file. Corruption makes sled panic while it
//! opens; it is opened once, on a thread of its own, where a panic becomes a clear error.

mod live;
mod rewriting;
mod waker;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use self::live::Live;
pub(crate) use self::live::is_made;
use self::rewriting::Rewriting;
use self::waker::Waker;
use super::{Backend, LeftOver, RawWrite};
use crate::damage::{self, Trouble};
use crate::error::StoreError;
use crate::store::Health;

/// Bytes of sled's page cache. sled counts a page as it is on disk; in memory it takes several times as
/// much. What it has not is read from the operating system's cache of the file.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// How often a locked database is tried, and how long apart.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Hears of every step of a rewrite.
#[cfg(test)]
type Seen = Box<dyn FnMut(&str) + Send>;

pub(crate) struct SledBackend {
    /// The store's directory.
    directory: PathBuf,
    live: RwLock<Live>,
    rewriting: Mutex<Option<Rewriting>>,
    trouble: Trouble,
    #[cfg(test)]
    pub(crate) seen: Mutex<Option<Seen>>,
}

impl SledBackend {
    /// Opens the database in `directory`, or makes it. What an unfinished or a finished rewrite left
    /// over is removed.
    pub(crate) fn open(directory: &Path, trouble: Trouble) -> Result<Self, StoreError> {
        if is_made(directory)? {
            live::remove_others(directory, &|_| {})?;
        }
        let live = Live::open(&live::current(directory)?)?;
        Ok(Self {
            directory: directory.to_owned(),
            live: RwLock::new(live),
            rewriting: Mutex::default(),
            trouble,
            #[cfg(test)]
            seen: Mutex::default(),
        })
    }

    /// Runs what sled does. Where it panics, or says so itself, its files contradict each other.
    fn calm<T>(&self, work: impl FnOnce() -> ::sled::Result<T>) -> io::Result<T> {
        let done =
            damage::calmly(work).map_or_else(|| Err(damaged()), |done| done.map_err(failure));
        if let Err(error) = &done
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.trouble.set(Health::Damaged(error.to_string()));
        }
        done
    }
}

/// Opens sled's database in this directory, or makes it. Its failed writes wake whoever waits for them.
fn open_database(directory: &Path) -> Result<(::sled::Db, Waker), StoreError> {
    remove_unfinished(directory)?;
    let config =
        ::sled::Config::new().path(directory).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    damage::watch_threads();
    let opened_with = config.clone();
    let opening = std::thread::Builder::new().name("store-open".into());
    let (ended, opened) = sync_channel(1);
    opening.spawn(move || {
        // Nobody waits any more if a thread that this one waits for is gone.
        let _gone = ended.send(damage::calmly(|| open_unlocked(&config)));
    })?;
    match damage::wait(&opened) {
        Some(Some(Ok(db))) => {
            let waker = Waker::new(opened_with, db.clone())?;
            Ok((db, waker))
        }
        Some(Some(Err(error))) => Err(failure(error).into()),
        Some(None) | None => Err(StoreError::Corrupt(format!(
            "the database in {} cannot be opened; restore it from a backup",
            directory.display()
        ))),
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
        // Every one of these files was written by this version of sled: where it takes one for an
        // older version's, the file is damaged.
        ::sled::Error::Corruption { .. } | ::sled::Error::Unsupported(_) => damaged(),
        other => io::Error::other(other.to_string()),
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the database contradicts itself")
}

impl Backend for SledBackend {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.calm(|| self.live.read().db.get(key))?.map(|value| value.to_vec()))
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
        self.calm(|| {
            let (live, mut entries) = (self.live.read(), Vec::new());
            for entry in live.db.range::<Vec<u8>, _>((from, Bound::Unbounded)).take(limit) {
                let (key, value) = entry?;
                if !key.starts_with(prefix) {
                    break;
                }
                entries.push((key.to_vec(), value.to_vec()));
            }
            Ok(entries)
        })
    }

    fn apply(&self, writes: Vec<RawWrite>) -> io::Result<()> {
        self.repeat(&writes);
        self.calm(|| self.live.read().apply(writes))
    }

    fn sync(&self) -> io::Result<()> {
        let live = self.live.read();
        self.calm(|| live.flush())?;
        live.file.sync_data()
    }

    fn is_in_place(&self) -> bool {
        self.live.read().is_in_place()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let figures = rustix::fs::statvfs(&self.directory)?;
        Ok(Some(figures.f_bavail.saturating_mul(figures.f_frsize)))
    }

    fn rewrite_begin(&self, reserve: u64) -> io::Result<()> {
        self.begin(reserve)
    }

    fn rewrite_step(&self) -> io::Result<bool> {
        self.step()
    }

    fn rewrite_mark(&self, mark: RawWrite) -> io::Result<()> {
        self.mark(mark)
    }

    fn rewrite_end(&self) -> io::Result<LeftOver> {
        self.end()
    }

    fn rewrite_give_up(&self) {
        self.give_up();
    }
}
