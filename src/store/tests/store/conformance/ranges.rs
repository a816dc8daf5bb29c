//! Ranges: pages, borders, prefixes.

use std::collections::BTreeMap;

use fieldseal_store::{Path, Prefix, Store, StoreError, Versioned};

use super::on_every_backend;
use crate::place::{KEYS, OTHERS, Opened, Place, txn};

on_every_backend!(
    a_prefix_shows_no_others,
    borders_between_parts_count,
    pages_of_any_size_give_everything_once,
    a_page_goes_on_after_its_record_is_gone,
    each_record_is_handed_over_once_until_one_is_refused,
);

/// Everything under a prefix, read in pages of `limit`.
async fn all(store: &Store, prefix: &Prefix, limit: usize) -> Vec<(Path, String)> {
    let mut found = Vec::new();
    let mut after: Option<Path> = None;
    loop {
        let page = store.range(prefix, after.as_ref(), limit).await.unwrap();
        assert!(page.entries.len() <= limit);
        for (path, versioned) in page.entries {
            found.push((path, String::from_utf8(versioned.value.to_vec()).unwrap()));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

async fn values(opened: &Opened, kind: fieldseal_store::Kind, parts: &[&[u8]]) -> Vec<String> {
    let found = all(&opened.store, &opened.store.prefix(kind, parts), 100).await;
    let mut values: Vec<String> = found.into_iter().map(|(_, value)| value).collect();
    values.sort();
    values
}

async fn a_prefix_shows_no_others(place: impl Place) {
    let opened = place.create();
    let mut changes = txn();
    for (kind, parent, child) in [
        (KEYS, "a", "1"),
        (KEYS, "a", "2"),
        (KEYS, "b", "1"),
        (KEYS, "ab", "1"),
        (OTHERS, "a", "1"),
    ] {
        let value = format!("{}/{parent}/{child}", if kind == KEYS { "keys" } else { "others" });
        changes = changes.put(opened.path_in(kind, &[parent, child]), value.into_bytes());
    }
    opened.store.txn(changes.put(opened.path(&["a"]), b"keys/a".to_vec())).await.unwrap();
    assert_eq!(values(&opened, KEYS, &[b"a"]).await, ["keys/a", "keys/a/1", "keys/a/2"]);
    assert_eq!(values(&opened, KEYS, &[b"b"]).await, ["keys/b/1"]);
    assert_eq!(values(&opened, KEYS, &[b"1"]).await, [""; 0]);
    assert_eq!(values(&opened, OTHERS, &[]).await, ["others/a/1"]);
    assert_eq!(values(&opened, KEYS, &[]).await.len(), 5);
    assert_eq!(values(&opened, fieldseal_store::Kind::new(239), &[]).await, [""; 0]);
}

async fn borders_between_parts_count(place: impl Place) {
    let opened = place.create();
    let parts: [&[&str]; 6] =
        [&["ab", "c"], &["a", "bc"], &["abc"], &["abc", ""], &["", "abc"], &["c", "ab"]];
    let mut paths: Vec<Path> = parts.iter().map(|parts| opened.path(parts)).collect();
    paths.push(opened.path_in(OTHERS, &["ab", "c"]));
    for (n, path) in paths.iter().enumerate() {
        opened.put(path, &n.to_string()).await;
    }
    for (n, path) in paths.iter().enumerate() {
        assert_eq!(opened.value(path).await, Some(n.to_string()));
    }
}

async fn pages_of_any_size_give_everything_once(place: impl Place) {
    let opened = place.create();
    let mut expected = BTreeMap::new();
    let mut changes = txn();
    for n in 0..40 {
        let path = opened.path(&["parent", &n.to_string()]);
        changes = changes.put(path.clone(), n.to_string().into_bytes());
        changes = changes.put(opened.path(&["neighbour", &n.to_string()]), b"no".to_vec());
        expected.insert(path, n.to_string());
    }
    opened.store.txn(changes).await.unwrap();
    let prefix = opened.store.prefix(KEYS, &[b"parent"]);
    let expected: Vec<(Path, String)> = expected.into_iter().collect();
    for limit in [1, 3, 7, 20, 39, 40, 41, 1000] {
        assert_eq!(all(&opened.store, &prefix, limit).await, expected, "in pages of {limit}");
    }
    let nothing = opened.store.range(&prefix, None, 0).await.unwrap();
    assert!(nothing.entries.is_empty());
}

async fn a_page_goes_on_after_its_record_is_gone(place: impl Place) {
    let opened = place.create();
    let changes = (0..10).fold(txn(), |txn, n| {
        txn.put(opened.path(&["parent", &n.to_string()]), n.to_string().into_bytes())
    });
    opened.store.txn(changes).await.unwrap();
    let prefix = opened.store.prefix(KEYS, &[b"parent"]);
    let first = opened.store.range(&prefix, None, 4).await.unwrap();
    let border = first.next.unwrap();
    opened.store.txn(txn().delete(border.clone())).await.unwrap();
    let rest = opened.store.range(&prefix, Some(&border), 100).await.unwrap();
    assert_eq!(rest.entries.len(), 6);
    assert!(rest.entries.iter().all(|(path, _)| *path > border));
}

async fn each_record_is_handed_over_once_until_one_is_refused(place: impl Place) {
    let opened = place.create();
    // More than are read at once.
    for hundred in 0..3 {
        let mut changes = txn();
        for n in 0..100 {
            let value = (100 * hundred + n).to_string();
            changes = changes.put(opened.path(&["parent", &value]), value.into_bytes());
        }
        opened.store.txn(changes).await.unwrap();
    }
    let prefix = opened.store.prefix(KEYS, &[b"parent"]);
    let mut found = Vec::new();
    let add = |value: Versioned| {
        found.push(value.value.to_vec());
        Ok::<_, StoreError>(())
    };
    opened.store.each(&prefix, add).await.unwrap();
    let in_pages = all(&opened.store, &prefix, 7).await;
    let in_pages: Vec<_> = in_pages.into_iter().map(|(_, value)| value.into_bytes()).collect();
    assert_eq!((found.len(), &found), (300, &in_pages));
    let mut seen = 0;
    let refuse = |_| {
        seen += 1;
        if seen < 3 { Ok(()) } else { Err(StoreError::Busy) }
    };
    let refused = opened.store.each(&prefix, refuse).await;
    assert!(matches!(refused, Err(StoreError::Busy)) && seen == 3);
}
