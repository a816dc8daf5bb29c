//! Whoever follows a log sees each record once and in order, across segments, however large the
//! pages are and whatever is written meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use fieldseal_audit::{Follower, Journal, PageLimit, Query, QueryError};
use futures_util::future::join_all;
use kit::{Log, commit, decrypt, policy};

const SMALL: u64 = 64 * 1024;

/// The numbers of the next events, up to the end of the log as it is now.
fn indexes(follower: &mut Follower, journal: &Journal, events: usize) -> Vec<u64> {
    let size = journal.checkpoint().tree_size;
    let limit = PageLimit { events, ..PageLimit::default() };
    let mut found = Vec::new();
    while follower.position() < size {
        let before = follower.position();
        found.extend(follower.read(limit, size).unwrap().iter().map(|event| event.index));
        assert!(follower.position() > before, "a page that gets nowhere");
    }
    assert_eq!(follower.read(limit, size).unwrap(), []);
    found
}

#[tokio::test]
async fn every_record_comes_once_and_in_order_while_segments_fill() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    let mut followers = [1, 3, 1000].map(|events| (journal.follow(Query::default(), 0), events));
    let mut seen: [Vec<u64>; 3] = Default::default();
    let mut groups = (1..=17).cycle();
    while log.segments().len() < 4 {
        let group = groups.next().unwrap();
        let written = (0..group).map(|row| commit(&journal, &policy, row));
        assert!(join_all(written).await.iter().all(Result::is_ok));
        for ((follower, events), seen) in followers.iter_mut().zip(&mut seen) {
            seen.extend(indexes(follower, &journal, *events));
        }
    }
    let all: Vec<u64> = (0..journal.checkpoint().tree_size).collect();
    for seen in seen {
        assert_eq!(seen, all);
    }
    // From anywhere, and up to what was known at the time only.
    let size = journal.checkpoint().tree_size;
    for start in [1, size / 2, size - 1, size] {
        let mut late = journal.follow(Query::default(), start);
        assert_eq!(indexes(&mut late, &journal, 7), all[usize::try_from(start).unwrap()..]);
    }
    let mut first = journal.follow(Query::default(), 0);
    assert_eq!(first.read(PageLimit::default(), 5).unwrap().len(), 5);
    assert_eq!(first.position(), 5);
}

#[tokio::test]
async fn what_does_not_match_is_passed_over() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    let query = Query { tickets: vec!["T-9".to_owned()], ..Query::default() };
    let mut follower = journal.follow(query, 0);
    for round in 0..3 {
        for row in 0..5 {
            commit(&journal, &policy, row).await.unwrap();
        }
        let wanted = journal.record(decrypt(&policy, &[1], "T-9")).await.unwrap().index();
        assert_eq!(indexes(&mut follower, &journal, 2), [wanted], "{round}");
    }
}

#[tokio::test]
async fn a_damaged_record_is_an_error_and_no_gap() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    let mut follower = journal.follow(Query::default(), 0);
    commit(&journal, &policy, 1).await.unwrap();
    assert_eq!(indexes(&mut follower, &journal, 9), [0]);
    for row in 2..5 {
        commit(&journal, &policy, row).await.unwrap();
    }
    let segment = log.segments().remove(0);
    let whole = std::fs::read(&segment).unwrap();
    let starts = whole.windows(4).enumerate().filter(|(_, w)| w == b"FSFR").map(|(at, _)| at);
    let third = starts.collect::<Vec<_>>()[2];
    let size = journal.checkpoint().tree_size;
    for damaged in [third, third + 20] {
        let mut bytes = whole.clone();
        bytes[damaged] ^= 0x55;
        std::fs::write(&segment, bytes).unwrap();
        let mut fresh = journal.follow(Query::default(), 1);
        for follower in [&mut follower, &mut fresh] {
            let refused = follower.read(PageLimit::default(), size);
            assert!(matches!(refused, Err(QueryError::Unreadable(_))), "{refused:?}");
            assert_eq!(follower.position(), 1, "nothing is passed over");
        }
    }
    std::fs::write(&segment, &whole).unwrap();
    assert_eq!(indexes(&mut follower, &journal, 9), [1, 2, 3]);
}
