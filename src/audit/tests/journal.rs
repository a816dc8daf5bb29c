//! What the journal promises: nothing comes out before its record is on disk, and what was recorded
//! can be read back, in order, by everybody who may.

mod kit;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fieldseal_audit::{
    Health, Item, ItemOutcome, Journal, JournalError, Kind, Outcome, Query, Relayed, Verdict,
    Withheld,
};
use fieldseal_model::{Action, Malformed, MalformedReason, Principal, Timestamp};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use kit::{APP, Log, change, commit, decide, decrypt, field, identity, policy, reason, stop};

const SMALL: u64 = 64 * 1024;

#[tokio::test]
async fn a_count_that_is_not_the_event_s_releases_nothing() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    for withheld in [0, 2] {
        let event = decrypt(&policy, &[1], "T-1");
        let refused = journal.commit(event, Withheld::new((), withheld)).await;
        assert_eq!(refused.err(), Some(JournalError::Inconsistent));
    }
    assert_eq!(journal.checkpoint().tree_size, 0);
}

#[tokio::test]
async fn a_log_is_made_once_and_opened_once_and_by_its_own_key_only() {
    let log = Log::new(SMALL);
    let exists = Journal::create(&log.settings, &identity(7));
    assert_eq!(exists, Err(JournalError::Exists(log.path().to_owned())));
    let held = log.open();
    let holder = std::process::id().to_string();
    let locked = JournalError::Locked { directory: log.path().to_owned(), holder };
    assert_eq!(log.try_open().err(), Some(locked));
    drop(held);
    let clock = Arc::new(fieldseal_model::SystemClock);
    let foreign = Journal::open(log.settings.clone(), identity(8), clock.clone());
    assert!(matches!(foreign.err(), Some(JournalError::Foreign { .. })));
    // The same installation under another name is told by name, with or without its public key.
    let public = log.path().join("log.pub");
    for without in [false, true] {
        if without {
            std::fs::remove_file(&public).unwrap();
        }
        let mut renamed = identity(7);
        let was = std::mem::replace(&mut renamed.instance, "second".to_owned());
        let opened = Journal::open(log.settings.clone(), renamed, clock.clone());
        let is = "second".to_owned();
        assert_eq!(opened.err(), Some(JournalError::Renamed { was, is }));
        assert_eq!(public.exists(), !without, "a refused start wrote it");
    }
    drop(log.open());
    assert!(public.exists());
    let mut missing = log.settings.clone();
    missing.directory = log.dir.path().join("nothing");
    let missing = Journal::open(missing, identity(7), clock);
    assert!(matches!(missing.err(), Some(JournalError::NotInitialized(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn callers_at_the_same_time_share_syncs_and_get_places_of_their_own() {
    let (log, policy) = (Log::new(8 << 20), Arc::new(policy()));
    let journal = log.open();
    let callers = (0..64).map(|caller: u8| {
        let (journal, policy) = (journal.clone(), Arc::clone(&policy));
        tokio::spawn(async move {
            let mut places = Vec::new();
            for _ in 0..20 {
                places.push(commit(&journal, &policy, caller).await.unwrap());
            }
            places
        })
    });
    let mut places: Vec<u64> = Vec::new();
    for caller in join_all(callers).await {
        let of_one = caller.unwrap();
        assert!(of_one.windows(2).all(|w| w[0] < w[1]), "a caller's calls are in its order");
        places.extend(of_one);
    }
    places.sort_unstable();
    assert_eq!(places, (0..1280).collect::<Vec<_>>());
    let statistics = journal.statistics();
    assert_eq!(statistics.records, 1280);
    assert!(statistics.syncs < 1280, "{} syncs for 1280 records", statistics.syncs);
    stop(&journal).await;
    assert_eq!(log.verify().unwrap().records, 1281);
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_waits_is_on_record() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    // Polled once, and dropped whether it was ready or not.
    let call = journal.commit(decrypt(&policy, &[5], "T-1"), Withheld::new((), 1));
    drop(call.now_or_never());
    stop(&journal).await;
    let page = journal.reader().query(&Query::default(), 10, 2, "").unwrap();
    let kinds: Vec<_> = page.events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [Some(Kind::Stop), Some(Kind::Call)]);
}

#[tokio::test]
async fn everything_that_was_said_is_read_back() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    let (key, table, column) = field();
    let app = Principal::parse(APP).unwrap();
    let at = Timestamp::from_unix_nanos(1_700_000_000_123_000_000);
    let action = Action::BatchDecrypt;
    let mut event = fieldseal_audit::CallEvent::new(&app, action, &reason("CASE-9"), at);
    let permit = decide(&policy, APP, action).unwrap();
    let denial = decide(&policy, "spiffe://test/nobody", action).unwrap_err();
    let what = Malformed::new(MalformedReason::RowInvalid, "bad");
    let about = (Some(&key), Some(&table), Some(&column));
    let yes = event.verdict(Verdict::Permit(&permit), about.0, about.1, about.2);
    let no = event.verdict(Verdict::Denial(&denial), about.0, about.1, about.2);
    let bad = event.verdict(Verdict::Malformed(&what), None, None, None);
    let item = |partition, row, key_version, outcome| Item { partition, row, key_version, outcome };
    event.item(yes, item(Some([1; 16]), Some([2; 16]), 3, ItemOutcome::Ok));
    event.item(yes, item(None, Some([4; 16]), 300, ItemOutcome::Failed("TAG_MISMATCH")));
    event.item(no, item(None, None, 0, ItemOutcome::Denied));
    event.item(bad, item(None, None, 0, ItemOutcome::Failed("ROW_INVALID")));
    let receipt = journal.commit(event, Withheld::new((), 1)).await.unwrap().into_parts().1;
    let page = journal.reader().query(&Query::default(), 10, 1, "").unwrap();
    let [event] = page.events.as_slice() else { panic!("{page:?}") };
    assert_eq!((event.kind, event.action), (Some(Kind::Call), Some(action)));
    assert_eq!((event.time, event.principal.as_str()), (at, APP));
    assert_eq!((event.purpose.as_str(), event.ticket.as_str()), ("support", "CASE-9"));
    assert_eq!((event.outcome, event.item_count), (Some(Outcome::Partial), 4));
    assert_eq!(&event.leaf_hash, receipt.leaf_hash());
    let [ok, failed, denied, malformed] = event.items.as_slice() else { panic!("{event:?}") };
    assert_eq!((ok.key.as_str(), ok.key_version), ("customer-pii", 3));
    assert_eq!((ok.table.as_str(), ok.column.as_str()), ("users", "email"));
    assert_eq!((&ok.partition[..], &ok.row[..]), (&[1; 16][..], &[2; 16][..]));
    assert_eq!((ok.outcome, ok.rule.as_str()), (Some(Outcome::Ok), permit.rule()));
    assert_eq!((failed.cause.as_str(), failed.key_version), ("TAG_MISMATCH", 300));
    assert_eq!((denied.outcome, denied.cause.as_str()), (Some(Outcome::Denied), "NO_RULE"));
    assert_eq!(malformed.cause, "ROW_INVALID");
    assert_eq!(malformed.key, "");
}

#[tokio::test]
async fn a_change_is_recorded_once_and_in_order() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    let relay = |journal: &Journal, revision| {
        let (journal, bytes) = (journal.clone(), change(&policy, revision));
        async move { journal.relay(&bytes).await }
    };
    for early in [0, 2, 9] {
        let refused = relay(&journal, early).await.err();
        assert_eq!(refused, Some(JournalError::Inconsistent), "{early} before 1");
    }
    for revision in 1..=4 {
        assert!(matches!(relay(&journal, revision).await, Ok(Relayed::Recorded(_))));
    }
    assert!(matches!(relay(&journal, 4).await, Ok(Relayed::Already)));
    assert!(matches!(relay(&journal, 3).await, Ok(Relayed::Already)));
    assert_eq!(relay(&journal, 6).await.err(), Some(JournalError::Inconsistent), "5 is left out");
    for bad in [&b"not an event"[..], &[]] {
        assert_eq!(journal.relay(bad).await.err(), Some(JournalError::Inconsistent));
    }
    drop(journal);
    let journal = log.open();
    assert!(matches!(relay(&journal, 4).await, Ok(Relayed::Already)), "known after a restart");
    assert!(matches!(relay(&journal, 5).await, Ok(Relayed::Recorded(_))));
    assert_eq!(journal.revision(), 5);
    let page = journal.reader().query(&Query::default(), 9, 5, "").unwrap();
    assert_eq!(page.events.len(), 5);
    let change = page.events.first().unwrap();
    assert_eq!(change.kind, Some(Kind::KeyRotated));
    assert_eq!((change.items[0].key.as_str(), change.items[0].key_version), ("customer-pii", 2));
    assert_eq!(change.items[0].partition, [9; 16]);
}

#[tokio::test]
async fn pages_show_the_same_snapshot_in_either_order() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    for row in 0..200 {
        commit(&journal, &policy, row).await.unwrap();
    }
    assert!(log.segments().len() > 1, "the pages cross segments");
    let reader = journal.reader();
    for oldest_first in [false, true] {
        let query = Query { oldest_first, ..Query::default() };
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let size = journal.checkpoint().tree_size;
            let page = reader.query(&query, 7, size, &token).unwrap();
            seen.extend(page.events.iter().map(|e| e.index));
            commit(&journal, &policy, 1).await.unwrap();
            match page.next {
                Some(next) => token = next,
                None => break,
            }
        }
        let first_size = seen.len() as u64;
        let mut expected: Vec<u64> = (0..first_size).collect();
        if !oldest_first {
            expected.reverse();
        }
        assert_eq!(seen, expected);
        let other = Query { tickets: vec!["x".into()], ..query.clone() };
        assert!(reader.query(&other, 7, 1000, &token).is_err(), "a token of another query");
    }
    for bad in ["x", "AAAA", "!!"] {
        assert!(reader.query(&Query::default(), 7, 100, bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn filters_find_what_they_name_and_nothing_else() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    for row in 0..10 {
        journal.record(decrypt(&policy, &[row], if row < 5 { "A" } else { "B" })).await.unwrap();
    }
    journal.record(decrypt(&policy, &[20, 21, 22], "C")).await.unwrap();
    let found = |query: Query| {
        let page = journal.reader().query(&query, 100, 11, "").unwrap();
        page.events.iter().map(|e| e.index).collect::<Vec<_>>()
    };
    let base = Query { oldest_first: true, ..Query::default() };
    assert_eq!(found(Query { tickets: vec!["A".into()], ..base.clone() }), [0, 1, 2, 3, 4]);
    assert_eq!(found(Query { row: Some([21; 16]), ..base.clone() }), [10]);
    assert_eq!(found(Query { row: Some([3; 16]), ..base.clone() }), [3]);
    assert_eq!(found(Query { actions: vec![Action::BatchDecrypt], ..base.clone() }), [10]);
    assert!(found(Query { keys: vec!["other".into()], ..base.clone() }).is_empty());
    assert_eq!(found(Query { column: Some("email".into()), ..base.clone() }).len(), 11);
    assert!(found(Query { table: Some("orders".into()), ..base.clone() }).is_empty());
    assert_eq!(found(Query { partition: Some(None), ..base.clone() }).len(), 11);
    assert!(found(Query { partition: Some(Some([1; 16])), ..base.clone() }).is_empty());
    assert!(found(Query { outcomes: vec![Outcome::Denied], ..base.clone() }).is_empty());
    assert_eq!(found(Query { principals: vec![APP.into()], ..base.clone() }).len(), 11);
    assert!(found(Query { purposes: vec!["audit".into()], ..base.clone() }).is_empty());
    let late = Some(Timestamp::from_unix_nanos(1_700_000_000_000_000_001));
    assert!(found(Query { start: late, ..base.clone() }).is_empty());
    assert_eq!(found(Query { end: late, ..base }).len(), 11);
}

#[tokio::test]
async fn no_space_refuses_and_its_return_is_noticed() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    let mut health = journal.watch();
    log.space.0.store(0, Ordering::SeqCst);
    let mut recorded = 0;
    let refused = loop {
        match commit(&journal, &policy, 1).await {
            Ok(_) => recorded += 1,
            Err(error) => break error,
        }
        assert!(recorded < 10_000, "a segment of 64 KiB holds so many records");
    };
    assert_eq!(refused, JournalError::Unavailable);
    assert!(recorded > 10, "{recorded}");
    assert_eq!(journal.health(), Health::NoSpace);
    assert_eq!(commit(&journal, &policy, 1).await, Err(JournalError::Unavailable));
    log.space.0.store(u64::MAX, Ordering::SeqCst);
    health.wait_for(|health| *health == Health::Ok).await.unwrap();
    assert_eq!(commit(&journal, &policy, 1).await, Ok(recorded));
    stop(&journal).await;
    assert_eq!(log.verify().unwrap().records, recorded + 2);
}

#[tokio::test]
async fn a_file_that_is_gone_refuses_until_it_is_back() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    commit(&journal, &policy, 1).await.unwrap();
    let (path, away) = (log.segments().remove(0), log.dir.path().join("away"));
    std::fs::rename(&path, &away).unwrap();
    assert_eq!(commit(&journal, &policy, 2).await, Err(JournalError::Unavailable));
    assert_eq!(journal.health(), Health::Missing);
    std::fs::copy(&away, &path).unwrap();
    assert_eq!(commit(&journal, &policy, 2).await, Err(JournalError::Unavailable), "another file");
    let mut health = journal.watch();
    std::fs::rename(&away, &path).unwrap();
    health.wait_for(|health| *health == Health::Ok).await.unwrap();
    assert_eq!(commit(&journal, &policy, 2).await, Ok(1));
}

#[tokio::test]
async fn a_closed_journal_takes_nothing() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    stop(&journal).await;
    assert_eq!(commit(&journal, &policy, 1).await, Err(JournalError::Closed));
    assert!(!log.verify().unwrap().checkpoint_note.is_empty());
}
