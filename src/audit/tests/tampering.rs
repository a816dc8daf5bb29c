//! What nobody can do to a log unnoticed, and what a killed process leaves behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use fieldseal_audit::{JournalError, Kind, Query, SystemEvent, verify::VerifyError};
use fieldseal_model::Timestamp;
use kit::{Log, commit, decrypt, policy, stop};

const SMALL: u64 = 32 * 1024;

async fn filled(segment_bytes: u64, records: u8) -> Log {
    let (log, policy) = (Log::new(segment_bytes), policy());
    let journal = log.open();
    for row in 0..records {
        commit(&journal, &policy, row).await.unwrap();
    }
    journal.record(decrypt(&policy, &[1, 2, 3], "batch")).await.unwrap();
    stop(&journal).await;
    log
}

#[tokio::test]
async fn every_flipped_byte_is_found() {
    let log = filled(SMALL, 20).await;
    let path = log.segments().remove(0);
    let good = std::fs::read(&path).unwrap();
    let used = good.iter().rposition(|b| *b != 0).unwrap() + 1;
    let mut tried = 0;
    for at in (0..used).chain((used..good.len()).step_by(997)) {
        for flip in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            std::fs::write(&path, &bad).unwrap();
            assert!(log.verify().is_err(), "byte {at} with {flip:#x}");
            tried += 1;
        }
    }
    assert!(tried > 10_000, "{tried}");
    std::fs::write(&path, &good).unwrap();
    assert_eq!(log.verify().unwrap().records, 22);
}

/// Somebody who knows the format makes the checksums fit again; the tree and the signatures do not.
#[tokio::test]
async fn a_forger_who_repairs_the_checksum_is_found_in_every_byte_that_is_signed() {
    let log = filled(SMALL, 3).await;
    let path = log.segments().remove(0);
    let good = std::fs::read(&path).unwrap();
    let frames: Vec<usize> =
        (0..good.len() - 4).step_by(8).filter(|at| &good[*at..*at + 4] == b"FSFR").collect();
    assert_eq!(frames.len(), 5);
    let length = |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().unwrap()) as usize;
    let mut tried = 0;
    for start in frames {
        let body = 16 + length(start + 4) + 64 + length(start + 8) + length(start + 12);
        for at in start + 16..start + body {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let crc = crc32fast::hash(&bad[start..start + body]).to_le_bytes();
            bad[start + body..start + body + 4].copy_from_slice(&crc);
            std::fs::write(&path, &bad).unwrap();
            assert!(log.verify().is_err(), "byte {at}");
            tried += 1;
        }
    }
    assert!(tried > 1_000, "{tried}");
}

#[tokio::test]
async fn removed_reordered_and_repeated_segments_are_found() {
    let log = filled(SMALL, 250).await;
    let segments = log.segments();
    assert!(segments.len() >= 3, "{}", segments.len());
    log.verify().unwrap();
    let away = log.dir.path().join("away");
    for missing in segments.iter().take(segments.len() - 1) {
        std::fs::rename(missing, &away).unwrap();
        let found = log.verify();
        assert!(matches!(found, Err(VerifyError::Missing { .. })), "{found:?}");
        assert!(matches!(log.try_open().err(), Some(JournalError::Corrupt { .. })));
        std::fs::rename(&away, missing).unwrap();
    }
    let (first, second) = (&segments[0], &segments[1]);
    std::fs::rename(first, &away).unwrap();
    std::fs::copy(second, first).unwrap();
    assert!(log.verify().is_err());
    std::fs::rename(&away, first).unwrap();
    log.verify().unwrap();
    // A segment that was cut at the end of a frame: the next one does not follow.
    let bytes = std::fs::read(first).unwrap();
    let last_frame =
        (0..bytes.len() - 4).step_by(8).rfind(|at| &bytes[*at..*at + 4] == b"FSFR").unwrap();
    std::fs::write(first, &bytes[..last_frame]).unwrap();
    assert!(matches!(log.verify(), Err(VerifyError::Missing { .. })));
}

#[tokio::test]
async fn another_log_s_key_and_another_log_are_refused() {
    let (one, mut other) = (filled(SMALL, 1).await, filled(SMALL, 1).await);
    let text = std::fs::read_to_string(one.path().join("log.pub")).unwrap();
    let key = fieldseal_audit::verify::public_key(&text).unwrap();
    assert!(fieldseal_audit::verify::log(other.path(), &key, |_| {}).is_ok(), "the same identity");
    other.settings.directory = other.dir.path().join("other");
    let mut foreign = kit::identity(9);
    foreign.instance = "second".to_owned();
    fieldseal_audit::Journal::create(&other.settings, &foreign).unwrap();
    let refused = fieldseal_audit::verify::log(other.path(), &key, |_| {}).unwrap_err();
    assert!(matches!(&refused, VerifyError::Foreign { .. }), "{refused}");
    assert_eq!(refused.reason(), "AUDIT_LOG_FOREIGN");
    for origin in ["/second\"", "/main\""] {
        assert!(refused.to_string().contains(origin), "{refused}");
    }
    // Another installation's key under this log's own origin is no excuse: nobody else signs for it.
    let forger = Log::new(SMALL);
    let directory = forger.dir.path().join("forged");
    let settings = fieldseal_audit::Settings { directory, ..forger.settings.clone() };
    fieldseal_audit::Journal::create(&settings, &kit::identity(9)).unwrap();
    let forged = fieldseal_audit::verify::log(&settings.directory, &key, |_| {}).unwrap_err();
    assert_eq!(forged.reason(), "AUDIT_LOG_TAMPERED", "{forged}");
    for bad in ["", "nonsense", &text.replace('+', "-")] {
        let refused = fieldseal_audit::verify::public_key(bad);
        assert_eq!(refused.err(), Some(VerifyError::PublicKey), "{bad}");
    }
}

/// The process is killed while it writes the last frame: any part of it may be on disk, in any mix
/// of blocks. Whatever was acknowledged before is still there.
#[tokio::test]
async fn a_torn_end_is_kept_aside_and_cut_off_wherever_it_is_torn() {
    let policy = policy();
    let mut torn = 0;
    for cut in 0..60_usize {
        let log = Log::new(SMALL);
        let journal = log.open();
        for row in 0..3 {
            commit(&journal, &policy, row).await.unwrap();
        }
        let path = log.segments().remove(0);
        let acknowledged = std::fs::read(&path).unwrap();
        journal.record(decrypt(&policy, &[7, 8, 9], "never acknowledged")).await.unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let start = acknowledged.iter().rposition(|b| *b != 0).unwrap() + 1;
        let end = whole.iter().rposition(|b| *b != 0).unwrap() + 1;
        let mut left = acknowledged.clone();
        let keep = start + (end - start) * cut / 60;
        left[start..keep].copy_from_slice(&whole[start..keep]);
        if cut % 3 == 0 {
            // The end of the frame reached the disk, and its middle did not.
            left[keep.max(end - 8)..end].copy_from_slice(&whole[keep.max(end - 8)..end]);
        }
        std::fs::write(&path, &left).unwrap();
        let (journal, report) = log.try_open().unwrap();
        assert!(report.unclean);
        assert_eq!(report.records, 3);
        let expected = if report.torn_bytes > 0 { 4 } else { 3 };
        torn += usize::from(report.torn_bytes > 0);
        assert_eq!(journal.checkpoint().tree_size, expected);
        assert_eq!(commit(&journal, &policy, 4).await, Ok(expected));
        stop(&journal).await;
        assert_eq!(log.verify().unwrap().records, expected + 2);
    }
    assert!(torn >= 50, "{torn} of 60 left something torn");
}

/// A flipped bit, a lost piece that ends anywhere, a lost frame: a frame behind it says that it had
/// been on disk.
#[tokio::test]
async fn damage_where_the_log_was_synced_is_no_torn_end() {
    let policy = policy();
    let log = Log::new(SMALL);
    let journal = log.open();
    for row in 0..4 {
        commit(&journal, &policy, row).await.unwrap();
    }
    drop(journal);
    let path = log.segments().remove(0);
    let good = std::fs::read(&path).unwrap();
    let frames: Vec<usize> =
        (0..good.len() - 4).step_by(8).filter(|at| &good[*at..*at + 4] == b"FSFR").collect();
    let (second, third) = (frames[1], frames[2]);
    let lost = |from: usize, to: usize| {
        let mut bytes = good.clone();
        bytes[from..to].fill(0);
        bytes
    };
    let mut flipped = good.clone();
    flipped[second + 100] ^= 1;
    let mut damages = vec![flipped, lost(second, third), lost(second + 64, third + 1)];
    damages.extend((1..40).map(|bytes| lost(second, second + bytes)));
    for bytes in damages {
        std::fs::write(&path, &bytes).unwrap();
        let refused = log.try_open().err();
        assert!(matches!(refused, Some(JournalError::Corrupt { .. })), "{refused:?}");
        assert!(matches!(log.verify(), Err(VerifyError::Tampered { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was touched");
    }
}

/// A start that is killed after it cut the torn end off, and before it recorded that.
#[tokio::test]
async fn what_was_cut_off_is_on_record_even_if_the_start_that_cut_it_was_killed() {
    let policy = policy();
    let log = Log::new(SMALL);
    let journal = log.open();
    commit(&journal, &policy, 1).await.unwrap();
    drop(journal);
    let path = log.segments().remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    let torn = end.next_multiple_of(8);
    bytes[torn..torn + 20].fill(7);
    std::fs::write(&path, &bytes).unwrap();
    let (journal, report) = log.try_open().unwrap();
    assert_eq!((report.torn_bytes, journal.checkpoint().tree_size), (20, 2));
    drop(journal);
    let sum = crc32fast::hash(&[7; 20]);
    let name = format!("torn-{:020}-{sum:08x}.bin", 1);
    assert_eq!(std::fs::read(log.path().join(&name)).unwrap(), [7; 20]);
    // As it was before the record: the torn bytes are aside, and nothing speaks of them.
    let aside = log.path().join(format!("torn-{:020}.unrecorded", 2));
    std::fs::write(&aside, [9; 30]).unwrap();
    let journal = log.open();
    let page = journal.reader().query(&Query::default(), 9, 3, "").unwrap();
    let kinds: Vec<_> = page.events.iter().map(|e| e.kind).collect();
    let cut = Some(Kind::TailRecovered);
    assert_eq!(kinds, [cut, cut, Some(Kind::Call)]);
    assert!(!aside.exists());
    stop(&journal).await;
    drop(journal);
    assert_eq!(log.verify().unwrap().records, 4);
}

#[tokio::test]
async fn only_a_log_that_was_closed_is_clean() {
    let policy = policy();
    let log = Log::new(SMALL);
    let (journal, report) = log.try_open().unwrap();
    assert!(!report.unclean, "nothing was written yet");
    commit(&journal, &policy, 1).await.unwrap();
    stop(&journal).await;
    drop(journal);
    let (journal, report) = log.try_open().unwrap();
    assert!(!report.unclean);
    // A stop record alone says nothing about its own sync.
    journal.record_system(SystemEvent::stop(Timestamp::default())).await.unwrap();
    drop(journal);
    assert!(log.try_open().unwrap().1.unclean);
}

/// The end of a closed log is taken away, frame and all: every signature that is left verifies.
#[tokio::test]
async fn the_mark_of_a_closed_log_tells_that_its_end_is_gone() {
    let log = filled(SMALL, 3).await;
    assert_eq!(log.verify().unwrap().closed_records, Some(5));
    let path = log.segments().remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let mut frames = (0..bytes.len() - 4).step_by(8).filter(|at| &bytes[*at..*at + 4] == b"FSFR");
    let last = frames.next_back().unwrap();
    bytes[last..].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let found = log.verify().unwrap();
    assert_eq!((found.records, found.closed_records), (4, Some(5)));
    let (journal, report) = log.try_open().unwrap();
    assert_eq!((report.records, report.shortened_from), (4, Some(5)));
    stop(&journal).await;
    drop(journal);
    assert_eq!(log.try_open().unwrap().1.shortened_from, None, "it is said once");
}

#[tokio::test]
async fn a_newer_format_is_refused_by_name() {
    use fieldseal_crypto::pae;
    let log = filled(SMALL, 1).await;
    let path = log.segments().remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let head_len = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    assert_eq!(bytes[12..14], [8, 1], "the head begins with its format");
    bytes[13] = 2;
    let message = pae::encode(&[b"fieldseal/v1/log/segment", &bytes[12..12 + head_len]]);
    let signature = kit::identity(7).signing.sign(&message);
    bytes[12 + head_len..12 + head_len + 64].copy_from_slice(&signature);
    let crc = crc32fast::hash(&bytes[..12 + head_len + 64]).to_le_bytes();
    bytes[12 + head_len + 64..12 + head_len + 68].copy_from_slice(&crc);
    std::fs::write(&path, &bytes).unwrap();
    let refused = log.try_open().err().unwrap();
    for part in ["has format 2", "knows formats up to 1", "use a newer program"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    assert_eq!(refused, JournalError::FormatNewer { file: path, format: 2 });
}
