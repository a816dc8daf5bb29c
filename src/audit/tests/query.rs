//! What a query promises: it shows everything or says that it cannot, in pages of bounded size.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use fieldseal_audit::{Event, Grouping, Journal, PageLimit, Query, QueryError};
use kit::{Log, commit, decrypt, policy};

const SMALL: u64 = 64 * 1024;

/// Every page of a query.
fn pages(journal: &Journal, query: &Query, limit: PageLimit) -> Result<Vec<Vec<Event>>, String> {
    let (reader, size) = (journal.reader(), journal.checkpoint().tree_size);
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let page = reader.page(query, limit, size, &token).map_err(|e| e.to_string())?;
        pages.push(page.events);
        match page.next {
            None => return Ok(pages),
            Some(next) => {
                assert_ne!(next, token, "a page that gets nowhere");
                token = next;
            }
        }
    }
}

fn orders() -> [Query; 2] {
    [false, true].map(|oldest_first| Query { oldest_first, ..Query::default() })
}

/// Where the frames of a segment begin.
fn frames(segment: &Path) -> Vec<usize> {
    let bytes = std::fs::read(segment).unwrap();
    bytes.windows(4).enumerate().filter(|(_, w)| w == b"FSFR").map(|(at, _)| at).collect()
}

#[tokio::test]
async fn a_damaged_frame_of_the_known_log_is_an_error_and_no_gap() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    for row in 0..5 {
        commit(&journal, &policy, row).await.unwrap();
    }
    let segment = log.segments().remove(0);
    let whole = std::fs::read(&segment).unwrap();
    let third = frames(&segment)[2];
    for (what, at) in [("the mark", third), ("a length", third + 4), ("the head", third + 17)] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&segment, damaged).unwrap();
        for query in orders() {
            let limit = PageLimit { events: 1, ..PageLimit::default() };
            let refused = pages(&journal, &query, limit);
            assert!(refused.is_err(), "{what}, {query:?}: {refused:?}");
        }
    }
    // What is gone from the last frame on, is gone too.
    let mut cut = whole.clone();
    cut[frames(&segment)[4]..].fill(0);
    std::fs::write(&segment, cut).unwrap();
    for query in orders() {
        let refused = journal.reader().query(&query, 100, 5, "");
        assert!(matches!(refused, Err(QueryError::Unreadable(_))), "{query:?}: {refused:?}");
    }
    std::fs::write(&segment, whole).unwrap();
    for query in orders() {
        assert_eq!(pages(&journal, &query, PageLimit::default()).unwrap()[0].len(), 5);
    }
}

#[tokio::test]
async fn a_missing_segment_is_an_error_and_not_the_same_page_for_ever() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    while log.segments().len() < 3 {
        commit(&journal, &policy, 1).await.unwrap();
    }
    let away = log.dir.path().join("away");
    for missing in [0, 1] {
        let segment = log.segments().remove(missing);
        std::fs::rename(&segment, &away).unwrap();
        for query in orders() {
            let refused = pages(&journal, &query, PageLimit::default());
            assert!(refused.is_err(), "segment {missing}, {query:?}");
        }
        std::fs::rename(&away, &segment).unwrap();
    }
    for query in orders() {
        pages(&journal, &query, PageLimit::default()).unwrap();
    }
}

#[tokio::test]
async fn a_page_ends_at_its_bytes_and_the_next_one_goes_on() {
    let (log, policy) = (Log::new(1024 * 1024), policy());
    let journal = log.open();
    for _ in 0..10 {
        journal.record(decrypt(&policy, &[7; 100], "T-1")).await.unwrap();
    }
    for query in orders() {
        let all = PageLimit { events: 1000, bytes: usize::MAX };
        let whole = pages(&journal, &query, all).unwrap();
        assert_eq!(whole.len(), 1);
        // A hundred items take more than a tenth of this.
        let small = pages(&journal, &query, PageLimit { bytes: 64 * 1024, ..all }).unwrap();
        assert!(small.len() > 2, "{} pages", small.len());
        assert!(small.iter().all(|page| page.len() < 10));
        assert_eq!(small.concat(), whole.concat());
        // One that is too large for any page comes alone.
        let single = pages(&journal, &query, PageLimit { bytes: 1, ..all }).unwrap();
        assert!(single.iter().all(|page| page.len() == 1));
        assert_eq!(single.concat(), whole.concat());
        let none = pages(&journal, &query, PageLimit { events: 0, ..all }).unwrap();
        assert_eq!(none.concat(), whole.concat());
    }
}

#[tokio::test]
async fn items_of_batches_are_left_out_where_nobody_wants_them() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    commit(&journal, &policy, 1).await.unwrap();
    journal.record(decrypt(&policy, &[2, 3], "T-1")).await.unwrap();
    let query = Query { omit_batch_items: true, ..Query::default() };
    let page = journal.reader().query(&query, 10, 2, "").unwrap();
    let [batch, unary] = page.events.as_slice() else { panic!("{page:?}") };
    assert_eq!((batch.item_count, batch.items.len()), (2, 0));
    assert_eq!((unary.item_count, unary.items.len()), (1, 1));
    // They are filtered on all the same, and a page may show more than the one before.
    let found = |row| {
        let query = Query { row: Some([row; 16]), ..query.clone() };
        journal.reader().query(&query, 10, 2, "").unwrap().events
    };
    assert_eq!(found(3).iter().map(|e| (e.index, e.items.len())).collect::<Vec<_>>(), [(1, 0)]);
    assert!(found(4).is_empty());
    let token = journal.reader().query(&query, 1, 2, "").unwrap().next.unwrap();
    assert!(journal.reader().query(&Query::default(), 1, 2, &token).is_ok());
}

#[tokio::test]
async fn a_summary_goes_through_every_segment_or_says_that_it_cannot() {
    let (log, policy) = (Log::new(SMALL), policy());
    let journal = log.open();
    let mut rows = 0;
    while log.segments().len() < 3 {
        commit(&journal, &policy, 1).await.unwrap();
        rows += 1;
    }
    let (reader, size) = (journal.reader(), journal.checkpoint().tree_size);
    let by = [Grouping::Principal, Grouping::Column];
    let summarize = |token: &str, abandoned: bool| {
        let abandoned = AtomicBool::new(abandoned);
        reader.summarize(&Query::default(), &by, 10, size, token, &abandoned)
    };
    let summary = summarize("", false).unwrap();
    assert_eq!((summary.groups.len(), summary.next.as_deref()), (1, None));
    let counts = summary.groups[0].1;
    assert_eq!((counts.events, counts.fields, summary.total), (rows, rows, counts));
    assert!(summary.begins.time.is_some());

    assert_eq!(summarize("", true), Err(QueryError::Abandoned));
    assert_eq!(summarize("x", false), Err(QueryError::PageToken));
    let gone = log.segments().remove(1);
    std::fs::remove_file(gone).unwrap();
    assert!(matches!(summarize("", false), Err(QueryError::Unreadable(_))));
}
