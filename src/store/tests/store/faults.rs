//! What a failing disk does to a store, on a disk in memory that fails on demand.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fieldseal_store::{Faults, Health, Settings, Store, StoreError, Txn, TxnError};

use crate::place::{InMemory, Opened, Place, secrets, txn};

const RESERVE: u64 = 1000;

fn with_reserve(place: &InMemory) -> Opened {
    let settings = Settings { reserve_bytes: RESERVE, ..place.settings() };
    let (sender, outbox) = tokio::sync::mpsc::unbounded_channel();
    Opened { store: Store::create(settings, secrets(), sender).unwrap(), outbox }
}

fn free(bytes: u64) -> Faults {
    Faults { free_bytes: Some(bytes), ..Faults::default() }
}

/// Writes again and again until the answer is the expected one: free space is looked at only now
/// and then.
async fn until(opened: &Opened, expected: impl Fn(&Result<u64, TxnError>) -> bool) {
    let begun = Instant::now();
    loop {
        let result = opened.store.txn(txn().put(opened.path(&["probe"]), vec![1])).await;
        if expected(&result) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "still {result:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn below_the_reserve_writes_are_refused_and_come_back() {
    let place = InMemory::new();
    let mut opened = with_reserve(&place);
    let path = opened.path(&["a"]);
    opened.put(&path, "one").await;
    opened.drain();
    for _ in 0..2 {
        place.disk().inject(free(RESERVE - 1));
        until(&opened, |result| matches!(result, Err(TxnError::NoSpace))).await;
        assert_eq!(opened.store.health(), Health::NoSpace);
        opened.drain();
        let (sums, syncs) = (opened.store.recount().await.unwrap(), place.disk().syncs());
        let refused = opened.store.txn(txn().put(path.clone(), b"two".to_vec())).await;
        assert!(matches!(refused, Err(TxnError::NoSpace)), "{refused:?}");
        assert_eq!(opened.value(&path).await.as_deref(), Some("one"), "reads go on");
        assert_eq!(opened.store.recount().await.unwrap(), sums, "refused before anything changed");
        assert_eq!(place.disk().syncs(), syncs);
        assert!(opened.drain().is_empty());

        place.disk().inject(free(RESERVE));
        until(&opened, Result::is_ok).await;
        assert_eq!(opened.store.health(), Health::Ok);
    }
    opened.assert_sums_agree().await;
}

#[tokio::test]
async fn a_write_that_fails_stops_the_store_for_good() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let place = InMemory::new();
        let failing = Faults { apply: Some(kind), ..Faults::default() };
        stops_for_good(&place, failing).await;
        let opened = place.open();
        assert_eq!(opened.value(&opened.path(&["a"])).await.as_deref(), Some("one"));
        assert_eq!(opened.value(&opened.path(&["b"])).await, None);
        assert_eq!(opened.store.outbox().await.unwrap().len(), 1, "no event without its change");
    }
}

#[tokio::test]
async fn a_sync_that_fails_stops_the_store_for_good() {
    let place = InMemory::new();
    stops_for_good(&place, Faults { sync: Some(ErrorKind::Other), ..Faults::default() }).await;
    place.disk().crash();
    let opened = place.open();
    assert_eq!(opened.value(&opened.path(&["a"])).await.as_deref(), Some("one"));
    assert_eq!(opened.value(&opened.path(&["b"])).await, None, "it was never acknowledged");
    assert_eq!(opened.store.outbox().await.unwrap().len(), 1);
    opened.assert_sums_agree().await;
}

/// Lets one write fail: nobody knows what became of it, later ones are refused even when the disk
/// is well again, and nothing is synced a second time.
async fn stops_for_good(place: &InMemory, failing: Faults) {
    let mut opened = place.create();
    let (a, b) = (opened.path(&["a"]), opened.path(&["b"]));
    opened.put(&a, "one").await;
    opened.drain();
    place.disk().inject(failing);
    let failed = opened.store.txn(txn().put(b.clone(), b"two".to_vec())).await;
    assert!(matches!(failed, Err(TxnError::Indeterminate(_))), "{failed:?}");
    assert!(matches!(opened.store.health(), Health::Broken(_)));
    place.disk().inject(Faults::default());
    let syncs = place.disk().syncs();
    for _ in 0..3 {
        let refused = opened.store.txn(txn().put(a.clone(), b"three".to_vec())).await;
        assert!(matches!(refused, Err(TxnError::Broken(_))), "{refused:?}");
    }
    assert!(opened.store.outbox_done(1).await.is_err());
    assert_eq!(place.disk().syncs(), syncs, "a sync is never tried again");
    assert!(opened.drain().is_empty(), "no event of a change that nobody acknowledged");
    assert_eq!(opened.value(&a).await.as_deref(), Some("one"), "reads go on");
    opened.close().await;
}

#[tokio::test]
async fn a_read_that_fails_is_said_and_is_no_damage() {
    let place = InMemory::new();
    let opened = place.create();
    let path = opened.path(&["a"]);
    opened.put(&path, "one").await;
    let broken = Faults { read: Some(ErrorKind::Other), ..Faults::default() };
    place.disk().inject(broken);
    assert!(matches!(opened.store.get(&path).await, Err(StoreError::Io(_))));
    assert!(matches!(opened.store.outbox().await, Err(StoreError::Io(_))));
    assert!(matches!(opened.store.recount().await, Err(StoreError::Io(_))));
    let mut pass = opened.store.pass(1024).await.unwrap();
    assert!(matches!(pass.page(), Err(StoreError::Io(_))));
    // What a transaction must read, it does not guess.
    let refused = opened.store.txn(txn().at(path.clone(), 1).put(path.clone(), vec![2])).await;
    assert!(matches!(refused, Err(TxnError::Store(StoreError::Io(_)))), "{refused:?}");
    place.disk().inject(Faults::default());
    assert_eq!(opened.store.health(), Health::Ok);
    assert_eq!(opened.value(&path).await.as_deref(), Some("one"));
    while pass.page().unwrap().is_some() {}
    assert!(pass.sum_agrees());
    // Where the database itself says that it is damaged, the sum of what is read is not asked for.
    place.disk().inject(Faults { read: Some(ErrorKind::InvalidData), ..Faults::default() });
    assert!(matches!(opened.store.get(&path).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_panic_on_the_committer_stops_the_store_and_is_said() {
    let place = InMemory::new();
    let opened = place.create();
    let path = opened.path(&["a"]);
    opened.put(&path, "one").await;
    let failing = Txn::new(Box::new(|_, _| panic!("a fault on demand")));
    let failed = opened.store.txn(failing.put(path.clone(), b"two".to_vec())).await;
    assert!(matches!(failed, Err(TxnError::Broken(_))), "{failed:?}");
    let refused = opened.store.txn(txn().delete(path.clone())).await;
    assert!(matches!(refused, Err(TxnError::Broken(_))), "{refused:?}");
    assert!(matches!(opened.store.health(), Health::Broken(_)));
    assert_eq!(opened.value(&path).await.as_deref(), Some("one"));
    opened.close().await;
    let opened = place.open();
    assert_eq!(opened.value(&path).await.as_deref(), Some("one"));
    opened.assert_sums_agree().await;
}

/// Writers at work when the power goes: whatever was acknowledged is there afterwards, whatever was
/// not is there whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_keeps_every_acknowledged_write() {
    let place = InMemory::new();
    place.create().close().await;
    let (mut acknowledged, mut unknown, mut refused, mut kept_unknown) = (0, 0, 0, 0);
    for round in 0..25 {
        let mut opened = place.open();
        let written = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (store, written) = (opened.store.clone(), Arc::clone(&written));
                let names = move |n: u32| format!("{round}/{writer}/{n}");
                let place = place.disk();
                tokio::spawn(
                    async move { write_until_it_fails(&store, names, &written, place).await },
                )
            })
            .collect();
        let mut ends = Vec::new();
        for writer in writers {
            ends.push(writer.await.unwrap());
        }
        opened.drain();
        opened.close().await;
        place.disk().crash();
        place.disk().inject(Faults::default());

        let opened = place.open();
        opened.assert_sums_agree().await;
        for (writer, end) in ends.into_iter().enumerate() {
            for n in 0..end.acknowledged {
                let name = format!("{round}/{writer}/{n}");
                let pair = pair_of(&opened.store, &name);
                let left = opened.revision(&pair[0]).await.expect("an acknowledged write");
                assert_eq!(opened.revision(&pair[1]).await, Some(left));
            }
            acknowledged += end.acknowledged;
            let name = format!("{round}/{writer}/{}", end.acknowledged);
            let pair = pair_of(&opened.store, &name);
            let left = opened.revision(&pair[0]).await;
            assert_eq!(opened.revision(&pair[1]).await, left, "whole or not at all");
            if end.indeterminate {
                unknown += 1;
                kept_unknown += usize::from(left.is_some());
            } else {
                refused += 1;
                assert_eq!(left, None, "a refused write is not there");
            }
        }
        opened.close().await;
    }
    assert!(acknowledged > 25 && unknown >= 25, "{acknowledged} acknowledged, {unknown} unknown");
    assert_eq!(unknown + refused, 25 * 8);
    let opened = place.open();
    let events = opened.store.outbox().await.unwrap().len();
    assert_eq!(
        events,
        acknowledged as usize + kept_unknown,
        "one event for each change that is there"
    );
}

struct End {
    acknowledged: u32,
    indeterminate: bool,
}

fn pair_of(store: &Store, name: &str) -> [fieldseal_store::Path; 2] {
    ["left", "right"]
        .map(|side| store.path(crate::place::KEYS, &[name.as_bytes(), side.as_bytes()]))
}

/// Writes pairs until one fails. After 40 pairs of all writers together, the disk is gone.
async fn write_until_it_fails(
    store: &Store,
    name: impl Fn(u32) -> String,
    written: &AtomicUsize,
    disk: fieldseal_store::MemoryDisk,
) -> End {
    for n in 0.. {
        let pair = pair_of(store, &name(n));
        let both = pair.into_iter().fold(txn(), |txn, path| txn.put(path, vec![1]));
        match store.txn(both).await {
            Ok(_) if written.fetch_add(1, Ordering::SeqCst) == 40 => {
                let other = Some(ErrorKind::Other);
                disk.inject(Faults { sync: other, ..Faults::default() });
            }
            Ok(_) => {}
            Err(TxnError::Indeterminate(_)) => return End { acknowledged: n, indeterminate: true },
            Err(TxnError::Broken(_)) => return End { acknowledged: n, indeterminate: false },
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk never failed")
}

#[tokio::test]
async fn removed_events_may_come_back_after_a_crash_but_no_change_is_lost() {
    let place = InMemory::new();
    let opened = place.create();
    let revision = opened.put(&opened.path(&["a"]), "one").await;
    let syncs = place.disk().syncs();
    opened.store.outbox_done(revision).await.unwrap();
    assert!(opened.store.outbox().await.unwrap().is_empty());
    assert_eq!(place.disk().syncs(), syncs, "removing an event costs no sync");
    opened.close().await;
    place.disk().crash();
    let opened = place.open();
    assert_eq!(opened.store.outbox().await.unwrap()[0].revision, revision);
    assert_eq!(opened.value(&opened.path(&["a"])).await.as_deref(), Some("one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_wait_together_share_a_sync() {
    let place = InMemory::new();
    let opened = place.create();
    let before = place.disk().syncs();
    let (reached, is_reached) = std::sync::mpsc::channel();
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let first = Txn::new(Box::new(move |_, _| {
        reached.send(()).unwrap();
        held.recv().unwrap();
        Vec::new()
    }));
    let mut waiting = vec![Box::pin(opened.store.txn(first))];
    for n in 0..100 {
        let path = opened.path(&[&format!("{n}")]);
        waiting.push(Box::pin(opened.store.txn(txn().put(path, vec![1]))));
    }
    for queued in &mut waiting {
        let polled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(queued.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }
    is_reached.recv().unwrap();
    let_go.send(()).unwrap();
    for queued in waiting {
        queued.await.unwrap();
    }
    assert_eq!(place.disk().syncs() - before, 1);
}
