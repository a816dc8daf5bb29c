//! Wakes whoever waits for a write of sled's that failed.
//!
//! sled 0.34.7 writes on threads of its own. Where the last writer of a buffer hands it over, a failure
//! is kept but nobody is told (`exit_reservation` in its `pagecache/logger.rs`), so that a flush may wait
//! for ever. Any flush after the failure wakes all that wait, and writes nothing itself.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::damage;

/// How often it is looked whether a write failed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A thread that looks for failed writes of one database until this is dropped. It has a handle of the
/// database, which is gone by then.
pub(super) struct Waker(Option<(SyncSender<()>, JoinHandle<()>)>);

impl Waker {
    pub(super) fn new(config: ::sled::Config, db: ::sled::Db) -> io::Result<Self> {
        let (end, ended) = sync_channel(0);
        let look = move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if config.global_error().is_err() {
                    // Whoever waits hears of the failure; it is told there.
                    let _woken = damage::calmly(|| db.flush());
                }
            }
        };
        let thread = std::thread::Builder::new().name("store-waker".into()).spawn(look)?;
        Ok(Self(Some((end, thread))))
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            // It cannot have panicked: what may is caught.
            let _ended = thread.join();
        }
    }
}
