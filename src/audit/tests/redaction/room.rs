//! Room for what is written anew, and what a killed redaction leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fieldseal_audit::{Journal, JournalError};
use fieldseal_model::Timestamp;

use super::kit::{self, Log};
use super::{ALICE, SEGMENT, calls, holds, partition, redact, verdict};

/// Looks for free space, and at whether the writer is held meanwhile: then nobody could write.
struct Looking {
    journal: Mutex<Option<Journal>>,
    open: PathBuf,
    held: Mutex<Vec<bool>>,
}

impl fieldseal_audit::FreeSpace for Looking {
    fn free_bytes(&self, _: &Path) -> std::io::Result<u64> {
        let is_segment = |path: PathBuf| path.extension().is_some_and(|e| e == "log");
        let directory = self.open.parent().unwrap();
        let segments = fs::read_dir(directory)?.filter(|e| is_segment(e.as_ref().unwrap().path()));
        let is_open = segments.count() == 1;
        // Whoever gets the writer sees that the file is not there.
        if let Some(journal) = self.journal.lock().unwrap().as_ref().filter(|_| is_open) {
            let aside = self.open.with_extension("aside");
            fs::rename(&self.open, &aside)?;
            let is_held = journal.look() != fieldseal_audit::Health::Missing;
            self.held.lock().unwrap().push(is_held);
            fs::rename(&aside, &self.open)?;
        }
        Ok(u64::MAX)
    }
}

#[tokio::test]
async fn nobody_who_writes_waits_until_the_next_segment_is_made() {
    let log = Log::new(1024 * 1024);
    let looking = Arc::new(Looking {
        journal: Mutex::new(None),
        open: log.path().join("segment-00000000000000000000.log"),
        held: Mutex::default(),
    });
    let clock = Arc::new(fieldseal_model::ManualClock::at(Timestamp::from_unix_nanos(5)));
    let left = log.path().join("rolled.tmp");
    fs::write(&left, [0; 100]).unwrap();
    let space: Arc<dyn fieldseal_audit::FreeSpace> = looking.clone();
    let settings = log.settings.clone();
    let (journal, _) = Journal::open_with(settings, kit::identity(7), clock, space).unwrap();
    assert!(!left.exists(), "what a kill left behind");
    calls(&journal, 20).await;
    *looking.journal.lock().unwrap() = Some(journal.clone());
    assert_eq!(redact(&journal, &partition(ALICE)).await.unwrap().records, 8);
    *looking.journal.lock().unwrap() = None;
    let held = std::mem::take(&mut *looking.held.lock().unwrap());
    assert_eq!(held, [false, false]);
    assert_eq!(log.segments().len(), 2);
    assert!(!holds(log.path(), ALICE));
}

#[tokio::test]
async fn the_open_segment_has_to_have_room_before_anything_is_on_record() {
    let log = Log::new(1024 * 1024);
    let journal = log.open();
    calls(&journal, 20).await;
    // Enough for the next segment, and not for this one beside it.
    log.space.0.store(1024 * 1024 + 100, std::sync::atomic::Ordering::SeqCst);
    let refused = redact(&journal, &partition(ALICE)).await.unwrap_err();
    assert_eq!(refused, JournalError::Unavailable);
    assert_eq!((journal.checkpoint().tree_size, log.segments().len()), (20, 1));
    log.space.0.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(redact(&journal, &partition(ALICE)).await.unwrap().records, 8);
}

#[tokio::test]
async fn what_a_killed_redaction_left_is_overwritten_before_it_is_removed() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 60).await;
    fs::write(log.path().join("redacting"), "").unwrap();
    let first = &log.segments()[0];
    let peeks = ["redact.tmp", "segment-00000000000000000000.redacted"].map(|name| {
        let (left, peek) = (log.path().join(name), log.path().with_file_name(name));
        fs::copy(first, &left).unwrap();
        // Another name of the same bytes.
        fs::hard_link(&left, &peek).unwrap();
        (left, peek)
    });
    journal.finish_redaction();
    for (left, peek) in peeks {
        assert!(!left.exists(), "{}", left.display());
        let bytes = fs::read(&peek).unwrap();
        assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0), "{}", peek.display());
    }
    assert!(!log.path().join("redacting").exists());
    assert_eq!(verdict(log.path()).0, "OK");
}
