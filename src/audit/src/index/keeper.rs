//! Who makes the files: a thread that runs when nothing else wants to.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use fieldseal_crypto::signing::LogSigningKey;
use parking_lot::{Mutex, RwLock};

use super::build::Builder;
use super::file::{self, Sealed};
use super::{Indexed, directory};
use crate::access;
use crate::error::JournalError;
use crate::journal::{FreeSpace, Settings, has_space};
use crate::segment::{self, Segment};
use crate::verify::LogKey;

/// The thread, and what it does. Both end when this is dropped.
pub(crate) struct Keeper {
    maker: Arc<Mutex<Maker>>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
}

impl Keeper {
    /// Starts the thread. Without one there are no files, and questions take longer.
    pub(crate) fn start(maker: Maker) -> Self {
        let (wake, woken) = sync_channel(1);
        let ended = Arc::new(AtomicBool::new(false));
        let maker = Arc::new(Mutex::new(maker));
        let (over, making) = (Arc::clone(&ended), Arc::clone(&maker));
        let thread = std::thread::Builder::new().name("audit-index".to_owned());
        let started = thread.spawn(move || {
            lower_priority();
            loop {
                let made = making.lock().make(&mut || !over.load(Ordering::Relaxed));
                if let Err(error) = made {
                    tracing::warn!(event = "audit_index_failed", %error, "an index was not made");
                }
                if woken.recv().is_err() {
                    return;
                }
            }
        });
        if let Err(error) = &started {
            tracing::warn!(event = "audit_index_failed", %error, "no thread makes an index");
        }
        Self { maker, wake: Some(wake), thread: started.ok(), ended }
    }

    /// Something may be missing.
    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // If it is full, the thread is about to look anyway.
            let _ = wake.try_send(());
        }
    }

    /// Makes what is missing now, whatever else is to be done.
    pub(crate) fn make(&self) -> Result<Indexed, JournalError> {
        self.maker.lock().make(&mut || true)
    }
}

impl Drop for Keeper {
    /// The thread ends with the frame that it reads.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked there is nothing left to end.
            let _ = thread.join();
        }
    }
}

/// Everybody else goes first. Linux keeps a priority for each thread; elsewhere it would be that of
/// the whole process.
pub(crate) fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// Records that are read at a time, and the rest of their frame.
const PIECE: u64 = 1024;
/// An index takes less than this part of its segment.
const INDEX_OF_SEGMENT: u64 = 4;

/// Makes the indexes that are missing.
pub(crate) struct Maker {
    settings: Settings,
    key: LogKey,
    signing: Arc<LogSigningKey>,
    space: Arc<dyn FreeSpace>,
    /// Held while a segment is read that another one could replace.
    files: Arc<RwLock<()>>,
    /// Segments that get none, because they are not as they were signed.
    damaged: HashSet<u64>,
}

impl Maker {
    pub(crate) fn new(
        settings: Settings,
        key: LogKey,
        signing: Arc<LogSigningKey>,
        space: Arc<dyn FreeSpace>,
        files: Arc<RwLock<()>>,
    ) -> Self {
        Self { settings, key, signing, space, files, damaged: HashSet::new() }
    }

    /// Makes every index that is missing, the newest first, until `goes_on` says no.
    pub(crate) fn make(
        &mut self,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Indexed, JournalError> {
        let segments = segment::list(&self.settings.directory)?;
        self.sweep(&segments.iter().map(|(first, _)| *first).collect::<Vec<_>>())?;
        let mut made = Indexed::default();
        for pair in segments.windows(2).rev() {
            let [(first, path), (next, _)] = pair else { continue };
            if !goes_on() {
                break;
            }
            if !self.damaged.contains(first)
                && let Some(bytes) = self.segment(*first, path, *next, goes_on)?
            {
                made.segments += 1;
                made.records += next.saturating_sub(*first);
                made.bytes += bytes;
            }
        }
        Ok(made)
    }

    /// The bytes of the index that was made, if one was.
    fn segment(
        &mut self,
        first: u64,
        path: &Path,
        next: u64,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<u64>, JournalError> {
        let indexes = directory(&self.settings.directory);
        let opened = {
            let _reading = self.files.read();
            Segment::open(path, &self.key.key).map(|segment| {
                let is_made = Sealed::open(&indexes, &segment, next, &self.key).is_some();
                (segment, is_made)
            })
        };
        let segment = match opened {
            Ok((_, true)) => return Ok(None),
            Ok((segment, false)) => segment,
            // It was archived meanwhile.
            Err(_) if !path.exists() => return Ok(None),
            Err(JournalError::Corrupt { .. }) => {
                self.damaged.insert(first);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.check_space(&segment, &indexes)?;
        let built = self.build(&segment, first, next, goes_on)?;
        let Some(builder) = built else {
            if goes_on() && segment.is_in_place() {
                self.damaged.insert(first);
            }
            return Ok(None);
        };
        let has_space = |bytes| self.has_space(bytes);
        let failed =
            |e: std::io::Error| JournalError::io("write", &indexes.join(file::name(first)), &e);
        let written = file::write(&indexes, builder, self.key.origin(), &self.signing, &has_space);
        let bytes = written.map_err(failed)?;
        let _reading = self.files.read();
        let is_placed = file::place(&indexes, first, segment.is_in_place()).map_err(failed)?;
        let group = self.settings.group;
        let path = indexes.join(file::name(first));
        access::directory(&indexes, group).map_err(failed)?;
        if is_placed {
            access::file(&path, group).map_err(failed)?;
        }
        Ok(Some(bytes).filter(|_| is_placed))
    }

    /// The log's next segment goes first.
    fn has_space(&self, bytes: u64) -> bool {
        let wanted = bytes.saturating_add(self.settings.segment_bytes);
        has_space(&self.settings, &*self.space, wanted).unwrap_or(false)
    }

    /// Nobody reads a segment for an index that has no room: one takes about so much.
    fn check_space(&self, segment: &Segment, indexes: &Path) -> Result<(), JournalError> {
        if self.has_space(segment.len / INDEX_OF_SEGMENT) {
            return Ok(());
        }
        let full = std::io::ErrorKind::StorageFull.into();
        Err(JournalError::io("write", &indexes.join(file::name(segment.head.first)), &full))
    }

    fn build(
        &self,
        segment: &Segment,
        first: u64,
        next: u64,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Builder>, JournalError> {
        let own = segment.head.first == first && segment.head.origin == self.key.origin();
        let Some(mut builder) = Builder::new(segment).filter(|_| own) else { return Ok(None) };
        while builder.next() < next {
            // Whoever replaces or removes a segment waits for a piece, and not for a thread without priority
            // to come to its end.
            let _reading = self.files.read();
            let until = next.min(builder.next().saturating_add(PIECE));
            if !segment.is_in_place() || builder.read(segment, until, &self.key, goes_on)?.is_none()
            {
                return Ok(None);
            }
        }
        Ok(Some(builder).filter(|builder| builder.next() == next))
    }

    /// Removes what a crash left behind, and indexes of segments that are not here.
    fn sweep(&self, segments: &[u64]) -> Result<(), JournalError> {
        let indexes = directory(&self.settings.directory);
        let failed = |e: &std::io::Error| JournalError::io("tidy", &indexes, e);
        let entries = match std::fs::read_dir(&indexes) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| failed(&e))?,
        };
        for entry in entries {
            let path = entry.map_err(|e| failed(&e))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let known = segments.iter().any(|first| file::name(*first) == name);
            if name.starts_with("index-") && !known {
                file::remove(&path).map_err(|e| failed(&e))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use fieldseal_crypto::ServiceKey;
    use fieldseal_model::{InstallationId, ManualClock, Timestamp};

    use super::*;
    use crate::event::SystemEvent;
    use crate::journal::{Identity, Journal, StatVfs};

    fn signing() -> LogSigningKey {
        LogSigningKey::new(ServiceKey::from_bytes(&mut [7; 32]))
    }

    #[tokio::test]
    async fn whoever_replaces_a_segment_waits_for_a_piece_of_it_and_not_for_its_index() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("audit");
        let settings =
            Settings { directory: log, segment_bytes: 300 * 1024, reserve_bytes: 0, group: None };
        let identity = || Identity {
            installation: InstallationId::new([0xab; 16]),
            instance: "main".to_owned(),
            signing: signing(),
        };
        Journal::create(&settings, &identity()).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::default()));
        let (journal, _) = Journal::open(settings.clone(), identity(), clock).unwrap();
        let key = journal.public_key();
        while segment::list(&settings.directory).unwrap().len() < 2 {
            journal.record_system(SystemEvent::stop(Timestamp::default())).await.unwrap();
        }
        journal.close().await.unwrap();
        drop(journal);
        std::fs::remove_dir_all(directory(&settings.directory)).unwrap_or_default();

        let files = Arc::new(RwLock::new(()));
        let key_of_it = Arc::new(signing());
        let mut maker = Maker::new(settings, key, key_of_it, Arc::new(StatVfs), Arc::clone(&files));
        let (frames, entered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let mut replacing = None;
        let made = maker.make(&mut || {
            // The first time it is asked before anything is read.
            if frames.fetch_add(1, Ordering::SeqCst) == 1 {
                let (files, entered, frames) =
                    (Arc::clone(&files), Arc::clone(&entered), Arc::clone(&frames));
                replacing = Some(std::thread::spawn({
                    let files = Arc::clone(&files);
                    move || {
                        let _alone = files.write();
                        entered.store(frames.load(Ordering::SeqCst), Ordering::SeqCst);
                    }
                }));
                while !files.is_locked_exclusive() {
                    std::thread::yield_now();
                }
            }
            true
        });
        replacing.unwrap().join().unwrap();
        assert_eq!(made.unwrap().segments, 1);
        let (entered, frames) = (entered.load(Ordering::SeqCst), frames.load(Ordering::SeqCst));
        assert!(frames > PIECE + 100, "{frames}");
        assert!(entered <= PIECE + 3, "{entered} of {frames}");
    }
}
