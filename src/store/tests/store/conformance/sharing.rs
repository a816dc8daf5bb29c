//! Many callers at once: one winner, nothing half, nothing forgotten, nothing without bound.

use std::future;
use std::sync::mpsc;

use fieldseal_store::{Settings, Store, StoreError, Txn, TxnError};

use super::on_every_backend;
use crate::place::{KEYS, Place, event_bytes, secrets, txn};

on_every_backend!(
    one_of_many_wins_and_the_others_find_it,
    compare_and_set_loses_no_update,
    a_full_queue_is_refused_and_nothing_is_written,
    a_cancelled_caller_leaves_no_half_state,
    a_reader_sees_no_half_transaction,
    a_group_is_one_commit,
);

async fn one_of_many_wins_and_the_others_find_it(place: impl Place) {
    let opened = place.create();
    const RACERS: usize = 16;
    for round in 0..20 {
        let path = opened.path(&["race", &round.to_string()]);
        let racers: Vec<_> = (0..RACERS as u8)
            .map(|racer| {
                let (store, path) = (opened.store.clone(), path.clone());
                tokio::spawn(async move {
                    let txn = txn().absent(path.clone()).put(path.clone(), vec![racer]);
                    let result = store.txn(txn).await;
                    // Whoever lost must find what won, at once.
                    let found = store.get(&path).await.unwrap().expect("the winner's record");
                    (result, found.value[0], racer)
                })
            })
            .collect();
        let (mut winners, mut conflicts) = (Vec::new(), 0);
        let mut seen = Vec::new();
        for racer in racers {
            let (result, found, racer) = racer.await.unwrap();
            seen.push(found);
            match result {
                Ok(_) => winners.push(racer),
                Err(TxnError::Conflict { guard: 0 }) => conflicts += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((winners.len(), conflicts), (1, RACERS - 1));
        assert!(seen.iter().all(|found| *found == winners[0]));
    }
    assert_eq!(opened.store.outbox().await.unwrap().len(), 20);
    opened.assert_sums_agree().await;
}

async fn compare_and_set_loses_no_update(place: impl Place) {
    let opened = place.create();
    let path = opened.path(&["counter"]);
    opened.put(&path, "0").await;
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (store, path) = (opened.store.clone(), path.clone());
            tokio::spawn(async move {
                let mut conflicts = 0;
                for _ in 0..25 {
                    conflicts += add_one(&store, &path).await;
                }
                conflicts
            })
        })
        .collect();
    let mut conflicts = 0;
    for task in tasks {
        conflicts += task.await.unwrap();
    }
    assert_eq!(opened.value(&path).await.as_deref(), Some("100"), "after {conflicts} conflicts");
}

/// Adds one, trying again for as long as others come first; returns how often they did.
async fn add_one(store: &Store, path: &fieldseal_store::Path) -> usize {
    let mut conflicts = 0;
    loop {
        let found = store.get(path).await.unwrap().unwrap();
        let number: u32 = std::str::from_utf8(&found.value).unwrap().parse().unwrap();
        let next = txn().at(path.clone(), found.revision);
        match store.txn(next.put(path.clone(), (number + 1).to_string().into_bytes())).await {
            Ok(_) => return conflicts,
            Err(TxnError::Conflict { .. }) => conflicts += 1,
            Err(other) => panic!("{other}"),
        }
    }
}

/// A transaction that holds the committer until the test lets go.
fn holding(path: fieldseal_store::Path) -> (Txn, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (reached, is_reached) = mpsc::channel();
    let (let_go, held) = mpsc::channel::<()>();
    let event = move |revision, anchor| {
        reached.send(()).unwrap();
        let _let_go_or_gone = held.recv();
        event_bytes(revision, anchor)
    };
    (Txn::new(Box::new(event)).put(path, b"held".to_vec()), is_reached, let_go)
}

async fn a_full_queue_is_refused_and_nothing_is_written(place: impl Place) {
    let settings = Settings { queue: 3, ..place.settings() };
    let (sender, _outbox) = tokio::sync::mpsc::unbounded_channel();
    let store = Store::create(settings, secrets(), sender).unwrap();
    let path = |name: &str| store.path(KEYS, &[name.as_bytes()]);
    let (txn_held, is_reached, let_go) = holding(path("held"));
    let held = tokio::spawn({
        let store = store.clone();
        async move { store.txn(txn_held).await }
    });
    tokio::task::spawn_blocking(move || is_reached.recv().unwrap()).await.unwrap();

    let mut waiting = Vec::new();
    for n in 0..3 {
        let mut queued =
            Box::pin(store.txn(txn().put(path(&format!("queued {n}")), b"queued".to_vec())));
        // The first poll puts it into the queue.
        let polled = future::poll_fn(|cx| std::task::Poll::Ready(queued.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        waiting.push(queued);
    }
    let refused = store.txn(txn().put(path("refused"), vec![1])).await;
    assert!(matches!(refused, Err(TxnError::Busy)), "{refused:?}");
    assert!(matches!(store.outbox_done(1).await, Err(StoreError::Busy)));
    let_go.send(()).unwrap();
    held.await.unwrap().unwrap();
    for queued in waiting {
        queued.await.unwrap();
    }
    assert!(store.get(&path("refused")).await.unwrap().is_none());
    assert!(store.get(&path("queued 2")).await.unwrap().is_some());
}

async fn a_cancelled_caller_leaves_no_half_state(place: impl Place) {
    let opened = place.create();
    let mut begun = 0;
    for n in 0..40 {
        let pair =
            [opened.path(&["left", &n.to_string()]), opened.path(&["right", &n.to_string()])];
        let both = pair.iter().fold(txn(), |txn, path| txn.put(path.clone(), vec![n]));
        if n % 4 == 0 {
            // Never polled: nothing happens.
            drop(opened.store.txn(both));
            continue;
        }
        begun += 1;
        tokio::select! {
            biased;
            result = opened.store.txn(both) => drop(result.unwrap()),
            () = future::ready(()) => {}
        }
    }
    // The queue is in order, so this is after all of them.
    opened.put(&opened.path(&["last"]), "last").await;
    let (mut whole, mut nothing) = (0, 0);
    for n in 0..40 {
        let left = opened.revision(&opened.path(&["left", &n.to_string()])).await;
        let right = opened.revision(&opened.path(&["right", &n.to_string()])).await;
        assert_eq!(left, right, "both or neither");
        if left.is_some() { whole += 1 } else { nothing += 1 }
    }
    assert_eq!((whole, nothing), (begun, 40 - begun), "what was begun is finished");
    assert_eq!(opened.store.outbox().await.unwrap().len(), begun + 1);
    opened.assert_sums_agree().await;
}

async fn a_reader_sees_no_half_transaction(place: impl Place) {
    let opened = place.create();
    let pair = [opened.path(&["pair", "left"]), opened.path(&["pair", "right"])];
    let write = |n: u32| {
        pair.iter().fold(txn(), |txn, path| txn.put(path.clone(), n.to_le_bytes().to_vec()))
    };
    opened.store.txn(write(0)).await.unwrap();
    let (store, prefix) = (opened.store.clone(), opened.store.prefix(KEYS, &[b"pair"]));
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let reader = tokio::spawn(async move {
        let (mut reads, mut last) = (0, 0);
        while stopped.try_recv().is_err() {
            let page = store.range(&prefix, None, 10).await.unwrap();
            let revisions: Vec<u64> = page.entries.iter().map(|(_, v)| v.revision).collect();
            assert_eq!(revisions.len(), 2);
            assert_eq!(revisions[0], revisions[1]);
            assert!(revisions[0] >= last, "a reader does not go back in time");
            last = revisions[0];
            reads += 1;
        }
        reads
    });
    for n in 1..100 {
        opened.store.txn(write(n)).await.unwrap();
    }
    stop.send(()).unwrap();
    let reads: usize = reader.await.unwrap();
    assert!(reads > 0);
}

async fn a_group_is_one_commit(place: impl Place) {
    let mut opened = place.create();
    let (first, is_reached, let_go) = holding(opened.path(&["first"]));
    let store = opened.store.clone();
    let first = tokio::spawn(async move { store.txn(first).await.unwrap() });
    tokio::task::spawn_blocking(move || is_reached.recv().unwrap()).await.unwrap();
    // These wait together. Each guard sees what stands before it in the same group.
    let path = opened.path(&["shared"]);
    let guess = opened.store.clone();
    let steps = [
        txn().absent(path.clone()).put(path.clone(), b"1".to_vec()),
        txn().absent(path.clone()).put(path.clone(), b"2".to_vec()),
        txn().delete(path.clone()),
        txn().absent(path.clone()).put(path.clone(), b"3".to_vec()),
    ];
    let mut waiting = Vec::new();
    for step in steps {
        let mut step = Box::pin(guess.txn(step));
        let polled = future::poll_fn(|cx| std::task::Poll::Ready(step.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        waiting.push(step);
    }
    assert!(opened.drain().is_empty(), "no event before its transaction is durable");
    let_go.send(()).unwrap();
    let first = first.await.unwrap();
    let mut results = Vec::new();
    for step in waiting {
        results.push(step.await);
    }
    let revisions: Vec<Option<u64>> = results.iter().map(|r| r.as_ref().ok().copied()).collect();
    assert_eq!(revisions, [Some(first + 1), None, Some(first + 2), Some(first + 3)]);
    assert!(matches!(results[1], Err(TxnError::Conflict { guard: 0 })));
    assert_eq!(opened.value(&path).await.as_deref(), Some("3"));
    assert_eq!(opened.drain().len(), 4);
    opened.assert_sums_agree().await;
}
