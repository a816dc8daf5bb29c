//! What is over goes by itself, by class, and what the log tells of a partition whose data keys are gone.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use fieldseal_audit::verify::{self, Verdict};
use fieldseal_audit::{
    Aged, CallEvent, ChangeEvent, ChangedBy, Item, ItemOutcome, Journal, Kind, Query, Redactable,
    Redacted, Verdict as Decision,
};
use fieldseal_model::{Action, KeyName, PartitionClass, Principal, Timestamp};
use fieldseal_policy::Request;
use kit::{Log, field, of_partitions, policy, reason, stop};

const SEGMENT: u64 = 16 * 1024;
/// When `kit`'s calls are made.
const THEN: i64 = 1_700_000_000_000_000_000;

fn at(later: i64) -> Timestamp {
    Timestamp::from_unix_nanos(THEN + later)
}

/// A call of a key, or of the log, that is allowed or refused.
fn call(who: &str, action: Action, later: i64) -> CallEvent {
    let policy = policy();
    let principal = Principal::parse(who).unwrap();
    let mut event = CallEvent::new(&principal, action, &reason("T-1"), at(later));
    let (key, table, column) = field();
    let is_value = action == Action::Decrypt;
    let decided = policy.decide(&Request {
        principal: &principal,
        action,
        key: Some(&key).filter(|_| action != Action::QueryAuditEvents),
        partition: PartitionClass::Default,
        table: Some(&table).filter(|_| is_value),
        column: Some(&column).filter(|_| is_value),
        reason: &reason("T-1"),
    });
    let (verdict, outcome) = match decided {
        Ok(permit) => {
            let verdict = Decision::Permit(&permit);
            (event.verdict(verdict, Some(&key), Some(&table), Some(&column)), ItemOutcome::Ok)
        }
        Err(denial) => {
            let verdict = Decision::Denial(&denial);
            (event.verdict(verdict, Some(&key), Some(&table), Some(&column)), ItemOutcome::Denied)
        }
    };
    event.item(verdict, Item { partition: Some([1; 16]), row: None, key_version: 0, outcome });
    event
}

async fn redact(journal: &Journal, what: &Redactable, rule: &'static str) -> Redacted {
    let by = ChangedBy::Itself(Action::RedactAuditEvents, rule);
    journal.redact(what, by, at(1_000_000), |_| {}).await.unwrap().0
}

/// The records of whom nothing personal is there, of those that had something.
fn redacted(log: &Log) -> Vec<(u64, u64)> {
    let report = verify::report(log.path(), &log.key(), None, |_| {}).unwrap();
    let ranges = report.ranges.iter().filter(|range| range.verdict == Verdict::Redacted);
    ranges.map(|range| (range.first, range.end.unwrap())).collect()
}

#[tokio::test]
async fn each_class_has_its_own_time() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    let auditor = "spiffe://test/auditor";
    let classes = [
        (kit::APP, Action::Decrypt),
        (kit::APP, Action::RotateKey),
        (auditor, Action::QueryAuditEvents),
        ("spiffe://test/ops", Action::RotateKey),
    ];
    for later in [0, 10] {
        for (who, action) in classes {
            journal.record(call(who, action, later)).await.unwrap();
        }
    }
    let none = Aged::default();
    let over = |before: i64| Some(at(before));
    let what = |aged| Redactable::Aged { aged, most: u64::MAX };
    assert_eq!(
        (none.latest(), redact(&journal, &what(none), "retention").await.records),
        (None, 0)
    );
    assert_eq!(journal.checkpoint().tree_size, 8);
    let early = Aged { calls: over(0), refusals: over(0), questions: over(0), changes: over(0) };
    assert_eq!(redact(&journal, &what(early), "retention").await, Redacted::default());

    // One class after the other; what somebody elsewhere needs first stays.
    let calls = Aged { calls: over(5), ..none };
    let held = Redactable::Aged { aged: calls, most: 0 };
    let nothing = Redacted { held: 1, ..Redacted::default() };
    assert_eq!(redact(&journal, &held, "retention").await, nothing);
    assert_eq!(redact(&journal, &what(calls), "retention").await.records, 1);
    assert_eq!(redacted(&log), [(0, 1)]);
    let refusals = Aged { refusals: over(5), calls: over(3), ..none };
    assert_eq!(refusals.latest(), over(5));
    assert_eq!(redact(&journal, &what(refusals), "retention").await.records, 1);
    assert_eq!(redacted(&log), [(0, 2)]);
    let questions = Aged { questions: over(5), ..none };
    assert_eq!(redact(&journal, &what(questions), "retention").await.records, 1);
    let changes = Aged { changes: over(11), ..none };
    assert_eq!(redact(&journal, &what(changes), "retention").await.records, 2);
    assert_eq!(redacted(&log), [(0, 4), (7, 8)]);
    let all = Aged { calls: over(11), refusals: over(11), questions: over(11), ..none };
    assert_eq!(redact(&journal, &what(all), "retention").await.records, 3);
    assert_eq!(redact(&journal, &what(all), "retention").await, Redacted::default());

    let found = journal
        .reader()
        .query(&Query::default(), 1000, journal.checkpoint().tree_size, "")
        .unwrap();
    let said: Vec<_> =
        found.events.iter().filter(|e| e.kind == Some(Kind::DetailsRedacted)).collect();
    assert_eq!(said.len(), 5);
    assert!(said.iter().all(|e| e.rule == "retention" && e.principal.is_empty()), "{said:?}");
    let report = verify::report(log.path(), &log.key(), None, |_| {}).unwrap();
    assert_eq!(report.verdict(), Verdict::Redacted);
    assert_eq!(journal.oldest_segment().unwrap().map(|t| t < at(0)), Some(true));
    stop(&journal).await;
}

/// Says that the data keys of a partition under a key are gone.
async fn erased(journal: &Journal, partition: u8, key: &str, revision: u64) {
    let by = ChangedBy::Itself(Action::ShredPartition, "window-over");
    let key = KeyName::parse(key).unwrap();
    let event = ChangeEvent::new(by, at(5), Kind::PartitionErased, Some(&key))
        .partition(Some([partition; 16]))
        .encode(revision, [3; 32]);
    journal.relay(&event).await.unwrap();
}

#[tokio::test]
async fn what_was_recorded_of_a_partition_before_its_data_keys_went_goes_and_no_more() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    let policy = policy();
    let what = Redactable::Erased { most: u64::MAX };
    // 0: alice alone, 1: both, 2: bob.
    for fields in [&[(Some(1), 1)][..], &[(Some(1), 2), (Some(2), 3)], &[(Some(2), 4)]] {
        journal.record(of_partitions(&policy, fields, "T-1")).await.unwrap();
    }
    assert_eq!(redact(&journal, &what, "shredded").await, Redacted::default());
    // 3: under another key; 4: under this one.
    erased(&journal, 2, "other", 1).await;
    erased(&journal, 1, "customer-pii", 2).await;
    // 5: what came later, in a partition that was opened again.
    journal.record(of_partitions(&policy, &[(Some(1), 5)], "T-1")).await.unwrap();
    let held = Redactable::Erased { most: 4 };
    // What says that they are gone names the person until all before it is erased.
    let done = redact(&journal, &held, "shredded").await;
    assert_eq!((done.records, done.items, done.held), (3, 3, 1));
    assert_eq!(redacted(&log), [(0, 2), (3, 4)]);
    let done = redact(&journal, &what, "shredded").await;
    assert_eq!((done.records, done.items, done.held), (1, 1, 0));
    assert_eq!(redacted(&log), [(0, 2), (3, 5)]);
    assert_eq!(redact(&journal, &what, "shredded").await, Redacted::default());
    let of = |partition: u8| {
        let query = Query { partition: Some(Some([partition; 16])), ..Query::default() };
        let found =
            journal.reader().query(&query, 100, journal.checkpoint().tree_size, "").unwrap();
        found.events.iter().map(|event| event.index).collect::<Vec<_>>()
    };
    assert_eq!((of(1), of(2)), (vec![5], vec![2, 1]));
    stop(&journal).await;
}
