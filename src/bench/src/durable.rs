//! The log of the durable echo. FROZEN: it is the yardstick of what durability costs anybody, so
//! that numbers of different days can be compared. Do not make it faster or slower.
//!
//! One record of 200 bytes a call, in a group commit: callers queue, one thread takes what has
//! gathered, writes it once, syncs it once (fdatasync) and wakes its callers, while the next group
//! gathers. The file is zeroed beforehand and used over and over, so that a sync never has to
//! write metadata. Nothing is signed, nothing is hashed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::mem;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// Bytes of one record.
const RECORD_BYTES: usize = 200;
/// Records that the file holds before the next one overwrites the first: 64 MiB of them.
const FILE_RECORDS: usize = 64 * 1024 * 1024 / RECORD_BYTES;
/// What zeroing writes at a time.
static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// The log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct GroupCommit(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// The group that gathers.
#[derive(Default)]
struct Queue {
    records: Vec<u8>,
    callers: Vec<oneshot::Sender<()>>,
    /// The number of the next record.
    next: u64,
    /// The thread waits for a first record, so somebody has to wake it.
    asleep: bool,
    /// The thread has ended after an error.
    broken: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupCommit {
    /// Makes the file `durable-echo.log` in a directory and starts the thread.
    ///
    /// # Errors
    /// If the file cannot be made, zeroed and synced.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let path = directory.join("durable-echo.log");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let mut left = FILE_RECORDS.saturating_mul(RECORD_BYTES);
        while let Some(chunk) = ZEROES.get(..left.min(ZEROES.len())).filter(|c| !c.is_empty()) {
            (&file).write_all(chunk)?;
            left = left.saturating_sub(chunk.len());
        }
        file.sync_all()?;
        File::open(directory)?.sync_all()?;
        let shared = Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new() });
        let log = Self(Arc::clone(&shared));
        thread::Builder::new().name("durable-echo".into()).spawn(move || {
            if let Err(error) = write_groups(&shared, &file) {
                // Nothing is left to do if standard error is gone.
                let _ = writeln!(io::stderr(), "the durable echo cannot write: {error}");
            }
            let mut queue = shared.queue();
            queue.broken = true;
            // Their callers see that they were dropped.
            queue.callers.clear();
        })?;
        Ok(log)
    }

    /// Appends one record that begins with `content` and waits until it is on disk. Returns its
    /// number.
    ///
    /// # Errors
    /// If the log cannot be written (any more).
    pub(crate) async fn record(&self, content: &[u8]) -> io::Result<u64> {
        let (sender, receiver) = oneshot::channel();
        let (number, wake) = {
            let mut queue = self.0.queue();
            if queue.broken {
                return Err(broken());
            }
            let number = queue.next;
            queue.next = number.wrapping_add(1);
            let end = queue.records.len().saturating_add(RECORD_BYTES);
            let content = content.get(..RECORD_BYTES - 8).unwrap_or(content);
            queue.records.extend_from_slice(&number.to_le_bytes());
            queue.records.extend_from_slice(content);
            queue.records.resize(end, 0);
            queue.callers.push(sender);
            (number, mem::take(&mut queue.asleep))
        };
        if wake {
            self.0.filled.notify_one();
        }
        receiver.await.map_err(|_| broken())?;
        Ok(number)
    }
}

fn broken() -> io::Error {
    io::Error::other("the durable echo's log cannot be written")
}

fn write_groups(shared: &Shared, file: &File) -> io::Result<()> {
    let (mut records, mut callers) = (Vec::new(), Vec::new());
    let mut place = 0;
    loop {
        {
            let mut queue = shared.queue();
            while queue.callers.is_empty() {
                queue.asleep = true;
                queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.asleep = false;
            mem::swap(&mut queue.records, &mut records);
            mem::swap(&mut queue.callers, &mut callers);
        }
        place = write(file, place, &records)?;
        file.sync_data()?;
        records.clear();
        for caller in callers.drain(..) {
            // A caller that is gone does not wait.
            let _ = caller.send(());
        }
    }
}

/// Writes records one after another from a place on, and at the end of the file goes on at its
/// beginning. Places count records. Returns the next place.
fn write(file: &File, place: usize, records: &[u8]) -> io::Result<usize> {
    let room = FILE_RECORDS.saturating_sub(place).saturating_mul(RECORD_BYTES);
    let (now, later) = records.split_at(room.min(records.len()));
    file.write_all_at(now, offset(place))?;
    file.write_all_at(later, 0)?;
    let next = place.saturating_add(records.len() / RECORD_BYTES);
    Ok(next.checked_rem(FILE_RECORDS).unwrap_or(0))
}

fn offset(place: usize) -> u64 {
    u64::try_from(place.saturating_mul(RECORD_BYTES)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_recorded_stands_in_the_file() {
        let directory = tempfile::tempdir().expect("directory");
        let log = GroupCommit::create(directory.path()).expect("log");
        let recording: Vec<_> = (0..50u8)
            .map(|content| {
                let log = log.clone();
                tokio::spawn(async move { (content, log.record(&[content + 1; 300]).await) })
            })
            .collect();
        let written = File::open(directory.path().join("durable-echo.log")).expect("file");
        assert_eq!(written.metadata().expect("size").len(), offset(FILE_RECORDS));
        for task in recording {
            let (content, number) = task.await.expect("task");
            let number = number.expect("recorded");
            let mut record = [0; RECORD_BYTES];
            written.read_exact_at(&mut record, offset(number as usize)).expect("read");
            assert_eq!(record[..8], number.to_le_bytes());
            assert_eq!(record[8..], [content + 1; RECORD_BYTES - 8]);
        }
    }
}
