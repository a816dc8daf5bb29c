//! Signatures that are not verified one by one, because the header of the next segment says that they were made.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use fieldseal_audit::Redactable;
use fieldseal_audit::verify::Verified;
use fieldseal_model::Timestamp;
use kit::{Log, commit, policy, stop};

const SMALL: u64 = 8 * 1024;

/// Goes on with a log until it has so many segments more.
async fn grow(log: &Log, segments: usize) {
    let (journal, policy) = (log.open(), policy());
    let wanted = log.segments().len() + segments;
    for row in (0..=u8::MAX).cycle() {
        if log.segments().len() == wanted {
            break;
        }
        commit(&journal, &policy, row).await.unwrap();
    }
    stop(&journal).await;
}

/// How many frames each segment has.
fn frames(log: &Log) -> Vec<u64> {
    let of = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.chunks(8).filter(|chunk| chunk.starts_with(b"FSFR")).count() as u64
    };
    log.segments().iter().map(of).collect()
}

/// The frames of these segments but the last one of each.
fn all_but_the_last(frames: &[u64], segments: &[usize]) -> u64 {
    segments.iter().map(|at| frames.get(*at).unwrap() - 1).sum()
}

fn verified(log: &Log) -> Verified {
    let found = log.verify().unwrap();
    assert_eq!(found.checkpoints, frames(log).iter().sum::<u64>());
    found
}

#[tokio::test]
async fn only_the_signatures_of_segments_that_one_process_wrote_are_believed() {
    let log = Log::new(SMALL);
    grow(&log, 3).await;
    let counted = frames(&log);
    assert_eq!(counted.len(), 4);
    // Nothing is said of the open segment yet.
    assert_eq!(verified(&log).by_header, all_but_the_last(&counted, &[0, 1, 2]));
    grow(&log, 2).await;
    // The fourth one was ended by another process than began it.
    let counted = frames(&log);
    assert_eq!(verified(&log).by_header, all_but_the_last(&counted, &[0, 1, 2, 4]));
}

#[tokio::test]
async fn a_segment_that_is_empty_at_a_start_is_one_process_s() {
    let log = Log::new(SMALL);
    // A start that writes nothing.
    log.open().close().await.unwrap();
    grow(&log, 1).await;
    let counted = frames(&log);
    assert_eq!(verified(&log).by_header, all_but_the_last(&counted, &[0]));
}

#[tokio::test]
async fn a_redaction_leaves_signatures_and_what_is_said_of_them() {
    let log = Log::new(SMALL);
    grow(&log, 2).await;
    let before = verified(&log);
    let (journal, policy) = (log.open(), policy());
    let (permit, reason) = (kit::redactor(&policy), kit::reason("T-9"));
    let what = Redactable::Row { token: [2; 16], until: None };
    let time = Timestamp::from_unix_nanos(5);
    let (done, _) = journal.redact(&what, (&permit, &reason), time, |_| {}).await.unwrap();
    assert!(done.records > 0, "{done:?}");
    stop(&journal).await;
    let after = verified(&log);
    assert!(after.records > before.records);
    assert!(after.by_header >= before.by_header && before.by_header > 0, "{after:?}");
}

#[tokio::test]
async fn every_flipped_byte_of_such_a_segment_is_found() {
    let log = Log::new(4 * 1024);
    grow(&log, 2).await;
    assert!(verified(&log).by_header > 0);
    let path = log.segments().remove(0);
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        *bad.get_mut(at).unwrap() ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(log.verify().is_err(), "byte {at}");
    }
    std::fs::write(&path, &good).unwrap();
    assert!(log.verify().is_ok());
}
