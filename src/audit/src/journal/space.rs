//! Space for the log: the lock on its directory, zeroed segments, and the return of free space.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statvfs};

use super::measures::Written;
use super::writer::{create_new, is_shortage};
use super::{Settings, Shared};
use crate::access;
use crate::error::{Health, JournalError};

/// How often a log that cannot be written looks whether it can again.
const RETRY: Duration = Duration::from_millis(250);
/// What zeroing writes at a time.
const CHUNK: usize = 1024 * 1024;
/// The next segment's file, made beforehand; and that of one that is begun before its time.
pub(super) const SPARE: &str = "spare.tmp";
const ROLLED: &str = "rolled.tmp";
/// Syncs that the statistics look back on.
const REMEMBERED: usize = 1024;

/// Says how many bytes a file system has left. The operating system's answer is [`StatVfs`]; tests
/// give their own.
pub trait FreeSpace: Send + Sync + 'static {
    /// Bytes that this process may still use where the directory is.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
}

/// `statvfs` (POSIX).
#[derive(Debug, Clone, Copy, Default)]
pub struct StatVfs;

impl FreeSpace for StatVfs {
    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let found = statvfs(directory)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// How often a lock that somebody holds is tried, and how long apart.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Locks a file. A holder that is just going, or a child of this process between its fork and its
/// start, is waited out.
fn lock(file: &File) -> rustix::io::Result<()> {
    for _ in 1..TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Holds the directory for as long as it lives. The file names the holder.
pub(super) struct Lock {
    _file: File,
    /// Kept open, so that a process that may open no more files can still sync the names in it.
    directory: File,
}

impl Lock {
    pub(super) fn acquire(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join("lock");
        let failed = |e: &io::Error| JournalError::io("lock", &path, e);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(|e| failed(&e))?;
        if let Err(error) = lock(&file) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(&error.into()));
            }
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(|e| failed(&e))?;
            let holder = match holder.trim() {
                "" => "of unknown id".to_owned(),
                pid => pid.to_owned(),
            };
            return Err(JournalError::Locked { directory: directory.to_owned(), holder });
        }
        let written = file.set_len(0).and_then(|()| file.rewind());
        let written = written.and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|e| failed(&e))?;
        // Zeroes that a process that was killed left behind.
        let _unless_gone = std::fs::remove_file(directory.join(ROLLED));
        let directory = File::open(directory).map_err(|e| failed(&e))?;
        Ok(Self { _file: file, directory })
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

/// Makes a zeroed file on a thread of its own, long before it is needed.
pub(super) fn prepare(shared: &Shared) -> io::Result<JoinHandle<Result<PathBuf, JournalError>>> {
    let (settings, space) = (shared.settings.clone(), Arc::clone(&shared.space));
    std::thread::Builder::new()
        .name("audit-segment".to_owned())
        .spawn(move || zeroed(&settings, &*space, (SPARE, settings.segment_bytes)))
}

/// Makes a zeroed file that is on disk: what is written into it later needs no new space, and its
/// syncs no new metadata. `Unavailable` if less than the reserve would be left.
pub(super) fn zeroed(
    settings: &Settings,
    space: &dyn FreeSpace,
    (name, bytes): (&str, u64),
) -> Result<PathBuf, JournalError> {
    let path = settings.directory.join(name);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(JournalError::io("remove", &path, &e));
        }
        _ => {}
    }
    if !has_space(settings, space, bytes)? {
        return Err(JournalError::Unavailable);
    }
    match fill(&path, bytes).and_then(|()| access::file(&path, settings.group)) {
        Ok(()) => Ok(path),
        Err(error) => {
            // A half-made file is worth nothing; the next try removes it if this does not.
            let _ = std::fs::remove_file(&path);
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Err(JournalError::Unavailable)
                }
                _ if is_shortage(&error) => Err(JournalError::Unavailable),
                _ => Err(JournalError::io("make", &path, &error)),
            }
        }
    }
}

fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = create_new(path)?;
    let zeroes = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        file.write_all(zeroes.get(..now).unwrap_or_default())?;
        left = left.saturating_sub(now as u64);
    }
    file.sync_all()
}

/// Whether so many bytes can be written and the reserve is left.
pub(crate) fn has_space(
    settings: &Settings,
    space: &dyn FreeSpace,
    bytes: u64,
) -> Result<bool, JournalError> {
    let directory = &settings.directory;
    let free = space.free_bytes(directory);
    let free = free.map_err(|e| JournalError::io("look at", directory, &e))?;
    Ok(free >= bytes.saturating_add(settings.reserve_bytes))
}

impl Shared {
    /// Begins a new segment if it is wanted of the open one, whose first record `is_wanted` hears. Its file
    /// is made before anybody has to wait for the writer.
    pub(super) fn roll(&self, is_wanted: &dyn Fn(u64) -> bool) -> Result<(), JournalError> {
        {
            let mut writer = self.writer.lock();
            let is_ready = writer.spare.as_ref().is_some_and(JoinHandle::is_finished);
            if !is_wanted(writer.segment.first) {
                return Ok(());
            }
            if is_ready || writer.segment.first == writer.frontier.size() {
                return writer.roll(self, None);
            }
        }
        let next = zeroed(&self.settings, &*self.space, (ROLLED, self.settings.segment_bytes))?;
        let mut writer = self.writer.lock();
        if is_wanted(writer.segment.first) && writer.segment.first < writer.frontier.size() {
            return writer.roll(self, Some(next));
        }
        std::fs::remove_file(&next).map_err(|e| JournalError::io("remove", &next, &e))
    }

    pub(super) fn set_health(&self, health: Health) {
        let changed = self.health.send_if_modified(|now| {
            let changed = *now != health;
            if changed {
                now.clone_from(&health);
            }
            changed
        });
        match &health {
            _ if !changed => {}
            Health::Ok => tracing::info!(event = "audit_log_ok", "the audit log works"),
            other => tracing::error!(event = "audit_log_trouble", health = ?other,
                "the audit log cannot be written; decrypts and changes are refused"),
        }
    }
}

/// After a failure: looks from time to time whether the log can be written again, and says so.
pub(super) fn watch_for_return(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    // Without a runtime nobody looks; the next record does.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    {
        let mut writer = shared.writer.lock();
        if writer.broken.is_some() || std::mem::replace(&mut writer.watched, true) {
            return;
        }
    }
    runtime.spawn(async move {
        let mut again = tokio::time::interval(RETRY);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            again.tick().await;
            let Some(shared) = weak.upgrade() else { return };
            let done = tokio::task::spawn_blocking(move || returned(&shared)).await;
            if done.unwrap_or(true) {
                return;
            }
        }
    });
}

/// True if there is nothing left to wait for.
fn returned(shared: &Arc<Shared>) -> bool {
    let mut writer = shared.writer.lock();
    let over = matches!(writer.look(shared), Health::Ok | Health::Broken(_));
    writer.watched = !over;
    over
}

/// How the writer does, since the journal was opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Syncs, one for each group.
    pub syncs: u64,
    /// Records.
    pub records: u64,
    /// Half of the last syncs took at most so long.
    pub sync_p50: Duration,
    /// 99 of 100 of the last syncs took at most so long.
    pub sync_p99: Duration,
    /// Records in a group, on average.
    pub group_size_mean: f64,
}

/// What [`Statistics`] is computed from.
#[derive(Default)]
pub(super) struct Measured {
    syncs: u64,
    records: u64,
    last: Vec<Duration>,
    next: usize,
    written: Written,
}

impl Measured {
    pub(super) fn written(&self) -> &Written {
        &self.written
    }

    pub(super) fn synced(&mut self, took: Duration, records: usize, bytes: usize) {
        self.written.group(took, records, bytes);
        self.syncs += 1;
        self.records += records as u64;
        match self.last.get_mut(self.next) {
            Some(place) => *place = took,
            None => self.last.push(took),
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    pub(super) fn summary(&self) -> Statistics {
        let mut last = self.last.clone();
        last.sort_unstable();
        let at = |hundredths: usize| {
            let place = (last.len() * hundredths).div_ceil(100).saturating_sub(1);
            last.get(place).copied().unwrap_or_default()
        };
        let mean = if self.syncs == 0 { 0.0 } else { self.records as f64 / self.syncs as f64 };
        Statistics {
            syncs: self.syncs,
            records: self.records,
            sync_p50: at(50),
            sync_p99: at(99),
            group_size_mean: mean,
        }
    }
}
