//! The records between two times, over the borders of segments.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use fieldseal_audit::verify::{self, Detail, Files, Times, VerifyError};
use fieldseal_audit::{CallEvent, Item, ItemOutcome, Kind, SystemEvent, Verdict};
use fieldseal_model::{Action, Timestamp};
use kit::{APP, Log, decide, field, policy, reason};

const COUNT: u64 = 40;

fn at(number: u64) -> Timestamp {
    Timestamp::from_unix_nanos(1_000 + number as i64 * 10)
}

/// A log of several segments, which begins with a start. Record n is of the moment n, but the one in the middle of the first ten,
/// which began much earlier.
async fn written() -> Log {
    let log = Log::new(4096);
    let (journal, policy) = (log.open(), policy());
    let denial = decide(&policy, "spiffe://test/stranger", Action::Decrypt).unwrap_err();
    let (key, table, column) = field();
    let who = fieldseal_model::Principal::parse(APP).unwrap();
    journal.record_system(SystemEvent::start(at(0), "1", [7; 32])).await.unwrap();
    for number in 1..COUNT {
        let time = at(if number == 5 { 0 } else { number });
        let mut event = CallEvent::new(&who, Action::Decrypt, &reason("T-1"), time);
        let verdict = Verdict::Denial(&denial);
        let verdict = event.verdict(verdict, Some(&key), Some(&table), Some(&column));
        let row = Some([u8::try_from(number).unwrap(); 16]);
        event.item(
            verdict,
            Item { partition: None, row, key_version: 0, outcome: ItemOutcome::Denied },
        );
        journal.record(event).await.unwrap();
    }
    journal.close().await.unwrap();
    log
}

#[tokio::test]
async fn a_log_that_is_not_whole_gives_nothing() {
    let log = written().await;
    let times = Times { since: at(0), until: None };
    let segments = log.segments();
    assert!(segments.len() >= 3, "{}", segments.len());
    let whole = std::fs::read(&segments[1]).unwrap();
    std::fs::remove_file(&segments[1]).unwrap();
    let refused = verify::evidence(Files::of(log.path()), &log.key(), &times, |_| {}).map(|_| ());
    assert!(matches!(refused, Err(VerifyError::Missing { .. })), "{refused:?}");
    assert_eq!(refused.unwrap_err().reason(), "AUDIT_RECORDS_MISSING");
    let mut altered = whole.clone();
    let frame = altered.windows(4).position(|four| four == b"FSFR").unwrap();
    altered[frame + 150] ^= 1;
    std::fs::write(&segments[1], &altered).unwrap();
    let refused = verify::evidence(Files::of(log.path()), &log.key(), &times, |_| {}).map(|_| ());
    assert!(matches!(refused, Err(VerifyError::Tampered { .. })), "{refused:?}");
    // One that is altered between the two readings is found, too.
    std::fs::write(&segments[1], &whole).unwrap();
    let key = log.key();
    let evidence = verify::evidence(Files::of(log.path()), &key, &times, |_| {}).unwrap().unwrap();
    std::fs::write(&segments[1], &altered).unwrap();
    let read = evidence.read(|_| Ok::<_, VerifyError>(()));
    assert!(matches!(read, Err(VerifyError::Unreadable(_))), "{read:?}");
}

#[tokio::test]
async fn every_range_has_its_records_their_edges_and_what_proves_them() {
    let log = written().await;
    let key = log.key();
    let until = |number| Times { since: at(1), until: Some(at(number)) };
    let nothing = Times { since: at(COUNT), until: None };
    assert!(verify::evidence(Files::of(log.path()), &key, &nothing, |_| {}).unwrap().is_none());
    for (times, records, between) in [
        (Times { since: at(0), until: None }, 0..COUNT, COUNT),
        (Times { since: at(20), until: None }, 19..COUNT, COUNT - 20),
        (until(2), 0..3, 1),
        // The record that began earlier stands between them and does not count.
        (until(10), 0..11, 8),
        (Times { since: at(30), until: Some(at(31)) }, 29..32, 1),
        // It alone, and the one that began at the same time.
        (Times { since: at(0), until: Some(at(1)) }, 0..7, 2),
    ] {
        let evidence =
            verify::evidence(Files::of(log.path()), &key, &times, |_| {}).unwrap().unwrap();
        assert_eq!((&evidence.records, evidence.between), (&records, between), "{times:?}");
        let policy = Some(0).filter(|_| records.start > 0);
        assert_eq!((evidence.policy, evidence.verified.records), (policy, COUNT));
        let mut seen = Vec::new();
        let proof = evidence.read(|proved| {
            let none = proved.entry.index == 0;
            let detail = if none { Detail::None } else { Detail::Whole };
            assert_eq!(proved.entry.detail, detail);
            seen.push(proved.entry.index);
            if proved.entry.index == 0 {
                return Ok(());
            }
            let row = u8::try_from(proved.entry.index).unwrap();
            assert_eq!(
                (proved.entry.fields.len(), &proved.entry.fields[0].row),
                (1, &vec![row; 16])
            );
            Ok::<_, VerifyError>(())
        });
        assert_eq!(seen, policy.into_iter().chain(records.clone()).collect::<Vec<_>>());
        assert_eq!(proof.unwrap().is_empty(), records == (0..COUNT), "{times:?}");
    }
}

#[tokio::test]
async fn before_its_first_start_a_log_is_shown_from_its_beginning() {
    let log = Log::new(4096);
    let (journal, policy) = (log.open(), policy());
    let permit = kit::redactor(&policy);
    for number in 0..12 {
        let done = |kind| SystemEvent::offline(at(number), kind, &permit, Ok("done"), 0);
        let event = match number {
            6 => SystemEvent::start(at(6), "1", [7; 32]),
            _ => done(Kind::RootDrilled),
        };
        journal.record_system(event).await.unwrap();
    }
    journal.close().await.unwrap();
    let key = log.key();
    for (since, records, policy) in [
        (0, 0..12, None),
        (3, 0..12, None),
        (6, 0..12, None),
        // The start is the edge.
        (7, 6..12, None),
        (8, 7..12, Some(6)),
    ] {
        let times = Times { since: at(since), until: None };
        let found = verify::evidence(Files::of(log.path()), &key, &times, |_| {}).unwrap().unwrap();
        assert_eq!((found.records, found.policy), (records, policy), "{since}");
        assert_eq!(found.between, 12 - since);
    }
}
