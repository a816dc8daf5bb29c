//! The outbox: every transaction's event, in order, until the journal has it.

use fieldseal_store::{OutboxEntry, StoreError};

use super::on_every_backend;
use crate::place::{Place, anchor_key, event_bytes, txn};

on_every_backend!(
    a_closed_store_takes_nothing,
    every_transaction_leaves_its_event_in_order,
    an_event_names_the_sum_of_the_store,
    what_the_journal_has_is_removed_and_is_no_revision,
    what_waits_survives_a_restart,
    nobody_needs_to_listen,
);

fn revisions(entries: &[OutboxEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.revision).collect()
}

async fn a_closed_store_takes_nothing(place: impl Place) {
    let opened = place.create();
    let path = opened.path(&["a"]);
    opened.put(&path, "one").await;
    opened.store.close().await;
    opened.store.close().await;
    let refused = opened.store.txn(txn().put(path.clone(), vec![2])).await.unwrap_err();
    assert_eq!(refused.to_string(), "the store is closed");
    assert!(matches!(opened.store.outbox_done(9).await, Err(StoreError::Closed)));
    assert_eq!(opened.value(&path).await.as_deref(), Some("one"), "it still reads");
}

async fn every_transaction_leaves_its_event_in_order(place: impl Place) {
    let mut opened = place.create();
    let store = opened.store.clone();
    let waiting = (0..50).map(|n: u32| {
        let path = opened.path(&[&n.to_string()]);
        let store = store.clone();
        tokio::spawn(async move { store.txn(txn().put(path, vec![1])).await.unwrap() })
    });
    let waiting: Vec<_> = waiting.collect();
    let mut committed = Vec::new();
    for task in waiting {
        committed.push(task.await.unwrap());
    }
    committed.sort_unstable();
    let sent = opened.drain();
    assert_eq!(revisions(&sent), committed, "sent before the callers were answered, in order");
    assert_eq!(opened.store.outbox().await.unwrap(), sent);
}

async fn an_event_names_the_sum_of_the_store(place: impl Place) {
    let mut opened = place.create();
    let mut previous = opened.store.opened_position().anchor;
    for n in 0..5 {
        let revision = opened.put(&opened.path(&[&n.to_string()]), "value").await;
        let sums = opened.store.recount().await.unwrap();
        let anchor = anchor_key().mac(&sums.kept);
        let bytes = event_bytes(revision, anchor);
        assert_eq!(opened.drain(), [OutboxEntry { revision, previous, anchor, bytes }]);
        previous = anchor;
    }
    opened.close().await;
    let opened = place.open();
    assert_eq!(opened.store.opened_position().anchor, previous);
}

async fn what_the_journal_has_is_removed_and_is_no_revision(place: impl Place) {
    let mut opened = place.create();
    let path = opened.path(&["a"]);
    for n in 0..6 {
        opened.put(&path, &n.to_string()).await;
    }
    let sent = opened.drain();
    let before = opened.store.recount().await.unwrap();
    opened.store.outbox_done(sent[0].revision - 1).await.unwrap();
    assert_eq!(opened.store.outbox().await.unwrap(), sent);
    opened.store.outbox_done(sent[2].revision).await.unwrap();
    assert_eq!(opened.store.outbox().await.unwrap(), sent[3..]);
    opened.store.outbox_done(sent[1].revision).await.unwrap();
    assert_eq!(opened.store.outbox().await.unwrap(), sent[3..]);
    assert_eq!(opened.store.recount().await.unwrap(), before);
    let next = opened.put(&path, "next").await;
    assert_eq!(next, sent[5].revision + 1);
    opened.store.outbox_done(u64::MAX - 1).await.unwrap();
    assert!(opened.store.outbox().await.unwrap().is_empty());
    opened.assert_sums_agree().await;
}

async fn what_waits_survives_a_restart(place: impl Place) {
    let mut opened = place.create();
    let path = opened.path(&["a"]);
    for n in 0..1100 {
        let txn = txn().put(path.clone(), vec![n as u8]);
        // Many at once, so that the outbox outgrows a page of its reader and the test stays short.
        let (store, last) = (opened.store.clone(), n == 1099);
        let task = tokio::spawn(async move { store.txn(txn).await.unwrap() });
        if last || n % 100 == 99 {
            task.await.unwrap();
        }
    }
    let revisions_before = revisions(&opened.store.outbox().await.unwrap());
    assert_eq!(revisions_before.len(), 1100);
    assert!(revisions_before.is_sorted());
    opened.store.outbox_done(revisions_before[9]).await.unwrap();
    opened.drain();
    opened.close().await;
    let mut opened = place.open();
    assert_eq!(revisions(&opened.store.outbox().await.unwrap()), revisions_before[10..]);
    assert!(opened.drain().is_empty(), "what waits is asked for, not sent again");
    opened.store.outbox_done(revisions_before[1099]).await.unwrap();
    assert!(opened.store.outbox().await.unwrap().is_empty());
}

async fn nobody_needs_to_listen(place: impl Place) {
    let mut opened = place.create();
    opened.outbox.close();
    let revision = opened.put(&opened.path(&["a"]), "one").await;
    assert_eq!(revisions(&opened.store.outbox().await.unwrap()), [revision]);
}
