//! Records, guards, revisions and limits.

use fieldseal_store::{Kind, Path, TxnError};

use super::on_every_backend;
use crate::place::{Place, txn};

on_every_backend!(
    nothing_is_there_before_it_is_written,
    a_guard_that_fails_is_named_and_nothing_is_written,
    limits_are_refused_by_name_and_nothing_is_written,
    records_are_written_replaced_and_removed,
    guards_that_hold_let_writes_through,
    the_last_write_to_a_path_counts,
    revisions_increase_and_show,
    sums_agree_after_many_changes,
);

async fn nothing_is_there_before_it_is_written(place: impl Place) {
    let opened = place.create();
    let path = opened.path(&["customer-pii"]);
    assert!(opened.store.get(&path).await.unwrap().is_none());
    let page = opened.store.range(&opened.store.prefix(Kind::new(1), &[]), None, 10).await.unwrap();
    assert!(page.entries.is_empty() && page.next.is_none());
    assert!(opened.store.outbox().await.unwrap().is_empty());
    opened.assert_sums_agree().await;
}

async fn a_guard_that_fails_is_named_and_nothing_is_written(place: impl Place) {
    let mut opened = place.create();
    let (there, missing) = (opened.path(&["there"]), opened.path(&["missing"]));
    let first = opened.put(&there, "one").await;
    let second = opened.put(&there, "two").await;
    opened.drain();
    let before = opened.store.recount().await.unwrap();
    let guarded = [
        (0, txn().absent(there.clone())),
        (0, txn().at(there.clone(), first)),
        (0, txn().at(there.clone(), second + 1)),
        (0, txn().at(missing.clone(), 0)),
        (1, txn().absent(missing.clone()).at(missing.clone(), second)),
        (2, txn().at(there.clone(), second).absent(missing.clone()).absent(there.clone())),
    ];
    for (expected, guarded) in guarded {
        let target = opened.path(&["target"]);
        let refused = opened.store.txn(guarded.put(target, b"x".to_vec()).delete(there.clone()));
        match refused.await {
            Err(TxnError::Conflict { guard }) => assert_eq!(guard, expected),
            other => panic!("guard {expected} let {other:?} happen"),
        }
    }
    assert!(opened.store.get(&opened.path(&["target"])).await.unwrap().is_none());
    assert_eq!(opened.value(&there).await.as_deref(), Some("two"));
    assert_eq!(opened.store.recount().await.unwrap(), before);
    assert!(opened.drain().is_empty(), "a refused transaction has no event");
}

async fn limits_are_refused_by_name_and_nothing_is_written(place: impl Place) {
    let opened = place.create();
    let path = |n: usize| opened.path(&[&n.to_string()]);
    let too_many = (0..101).fold(txn(), |txn, n| txn.put(path(n), vec![1]));
    let guards_count = (0..50).fold(txn(), |txn, n| txn.absent(path(n)).delete(path(n)));
    let guards_count = guards_count.absent(path(50));
    let long_value = txn().put(path(0), vec![1]).put(path(1), vec![0; 8 * 1024 + 1]);
    // No hundred values of 8 KiB reach 1 MiB, so the bound on the whole is not met on its own.
    for (refused, what) in [
        (too_many, "at most 100 operations"),
        (guards_count, "at most 100 operations"),
        (long_value, "at most 8192 bytes in a value"),
    ] {
        let error = opened.store.txn(refused).await.unwrap_err();
        assert!(matches!(error, TxnError::TooLarge { .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
    assert!(opened.store.get(&path(0)).await.unwrap().is_none());

    let largest = (0..100).fold(txn(), |txn, n| txn.put(path(n), vec![7; 8 * 1024]));
    opened.store.txn(largest).await.unwrap();
    for n in 0..100 {
        let found = opened.store.get(&path(n)).await.unwrap().unwrap();
        assert_eq!(found.value.as_slice(), [7; 8 * 1024]);
    }
    opened.assert_sums_agree().await;
}

async fn records_are_written_replaced_and_removed(place: impl Place) {
    let opened = place.create();
    let path = opened.path(&["customer-pii"]);
    opened.put(&path, "one").await;
    assert_eq!(opened.value(&path).await.as_deref(), Some("one"));
    opened.put(&path, "two").await;
    assert_eq!(opened.value(&path).await.as_deref(), Some("two"));
    opened.put(&path, "").await;
    assert_eq!(opened.value(&path).await.as_deref(), Some(""), "an empty value is a value");
    opened.store.txn(txn().delete(path.clone())).await.unwrap();
    assert_eq!(opened.value(&path).await, None);
    opened.store.txn(txn().delete(path.clone())).await.unwrap();
    opened.store.txn(txn().absent(path.clone()).put(path.clone(), vec![1])).await.unwrap();
    opened.assert_sums_agree().await;
}

async fn guards_that_hold_let_writes_through(place: impl Place) {
    let opened = place.create();
    let (a, b) = (opened.path(&["a"]), opened.path(&["b"]));
    let first = opened.put(&a, "one").await;
    let both = txn().at(a.clone(), first).absent(b.clone());
    opened.store.txn(both.delete(a.clone()).put(b.clone(), b"two".to_vec())).await.unwrap();
    assert_eq!(opened.value(&a).await, None);
    assert_eq!(opened.value(&b).await.as_deref(), Some("two"));
    // Guards alone are a transaction too: it has an event, and its revision.
    let alone = opened.store.txn(txn().absent(a.clone())).await.unwrap();
    assert!(alone > opened.revision(&b).await.unwrap());
}

async fn the_last_write_to_a_path_counts(place: impl Place) {
    let opened = place.create();
    let (a, b) = (opened.path(&["a"]), opened.path(&["b"]));
    opened.put(&b, "old").await;
    let twice = txn().put(a.clone(), b"one".to_vec()).put(b.clone(), b"new".to_vec());
    let twice = twice.put(a.clone(), b"two".to_vec()).delete(b.clone());
    opened.store.txn(twice.delete(a.clone()).put(a.clone(), b"three".to_vec())).await.unwrap();
    assert_eq!(opened.value(&a).await.as_deref(), Some("three"));
    assert_eq!(opened.value(&b).await, None);
    opened.assert_sums_agree().await;
}

async fn revisions_increase_and_show(place: impl Place) {
    let opened = place.create();
    let paths: Vec<Path> = (0..5).map(|n| opened.path(&[&n.to_string()])).collect();
    let mut last = 0;
    for round in 0..20 {
        let path = &paths[round % paths.len()];
        let revision = opened.put(path, &round.to_string()).await;
        assert!(revision > last, "{revision} after {last}");
        assert_eq!(opened.revision(path).await, Some(revision));
        last = revision;
    }
    let both = txn().put(paths[0].clone(), vec![1]).put(paths[1].clone(), vec![2]);
    let revision = opened.store.txn(both).await.unwrap();
    assert_eq!(opened.revision(&paths[0]).await, Some(revision));
    assert_eq!(opened.revision(&paths[1]).await, Some(revision));
    let untouched = opened.revision(&paths[2]).await.unwrap();
    assert!(untouched < revision);

    opened.close().await;
    let opened = place.open();
    assert_eq!(opened.revision(&paths[2]).await, Some(untouched));
    assert!(opened.put(&paths[2], "x").await > revision, "revisions go on after a restart");
}

async fn sums_agree_after_many_changes(place: impl Place) {
    let opened = place.create();
    // A small generator with a fixed seed: the same changes on every run.
    let mut state = 12_345_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) % below
    };
    let mut seen = Vec::new();
    for _ in 0..60 {
        let changes = (0..1 + next(8)).fold(txn(), |txn, _| {
            let path = opened.path(&[&next(20).to_string()]);
            if next(3) == 0 { txn.delete(path) } else { txn.put(path, vec![next(256) as u8; 40]) }
        });
        opened.store.txn(changes).await.unwrap();
        let sums = opened.store.recount().await.unwrap();
        assert_eq!(sums.kept, sums.counted);
        seen.push(sums.kept);
    }
    opened.close().await;
    let opened = place.open();
    let sums = opened.store.recount().await.unwrap();
    assert_eq!((Some(&sums.kept), sums.kept), (seen.last(), sums.counted));
}
