//! When a copy is begun anew.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use tokio::sync::mpsc;

use super::*;
use crate::rewrite::tests::{change, secrets, settings};
use crate::{Kind, Store, TxnError};

const OWNER: CopyOwner =
    CopyOwner { installation: InstallationId::new([1; 16]), incarnation: 1, life: [7; 16] };

#[tokio::test]
async fn a_copy_that_has_become_long_is_begun_anew_once() {
    let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outbox = mpsc::unbounded_channel().0;
    let store = Store::create(settings(&place.path().join("store")), secrets(), outbox).unwrap();
    store.copy_to(CopyTarget::Directory(elsewhere.path().to_owned()), OWNER, None).await.unwrap();
    let path = store.path(Kind::new(1), &[b"name"]);
    let (mut files, mut shrank, mut longest, mut before) = (BTreeSet::new(), 0, 0, 0);
    // About 1 KiB each, and the limit is 16 KiB beyond the base.
    for _ in 0..60 {
        let revision = store.txn(change().put(path.clone(), vec![1; 1024])).await.unwrap();
        store.outbox_done(revision).await.unwrap();
        let file = fs::metadata(elsewhere.path().join(file::NAME)).unwrap();
        files.insert(file.ino());
        shrank += u32::from(file.len() < before);
        before = file.len();
        longest = longest.max(before);
    }
    assert!((2..=6).contains(&shrank), "it was begun anew {shrank} times");
    assert!(files.len() > 1 && longest < 24 * 1024, "{longest} bytes");
}

#[tokio::test]
async fn a_copy_that_was_begun_before_something_was_erased_is_begun_anew_after_a_crash_too() {
    let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (directory, kept) = (place.path().join("store"), place.path().join("kept"));
    let target = || CopyTarget::Directory(elsewhere.path().to_owned());
    let file = elsewhere.path().join(file::NAME);
    let outbox = || mpsc::unbounded_channel().0;
    let store = Store::create(settings(&directory), secrets(), outbox()).unwrap();
    store.copy_to(target(), OWNER, None).await.unwrap();
    let path = store.path(Kind::new(1), &[b"name"]);
    store.txn(change().put(path.clone(), b"secret".to_vec())).await.unwrap();
    let stored = store.inner.backend.get(&path.0).unwrap().unwrap();
    let is_copied = || fs::read(&file).unwrap().windows(stored.len()).any(|found| found == stored);
    let erased = store.txn(change().delete(path).erasing()).await.unwrap();
    assert!(is_copied() && store.copy_began_at() < erased);
    // The copy as a process leaves it that ends after the rewrite and before it is begun anew.
    fs::copy(&file, &kept).unwrap();
    store.rewrite().await.unwrap();
    assert!(!is_copied() && store.copy_began_at() == erased);
    store.close().await;
    drop(store);
    fs::copy(&kept, &file).unwrap();
    assert!(is_copied());
    let store = Store::open(settings(&directory), secrets(), outbox()).unwrap();
    assert!(!store.is_rewrite_due() && store.copy_began_at() == 0);
    store.copy_to(target(), OWNER, None).await.unwrap();
    assert!(!is_copied() && store.copy_began_at() == erased);
    store.close().await;
    drop(store);
    // One that was begun since is gone on with.
    let inode = fs::metadata(&file).unwrap().ino();
    let store = Store::open(settings(&directory), secrets(), outbox()).unwrap();
    store.copy_to(target(), OWNER, None).await.unwrap();
    assert_eq!((fs::metadata(&file).unwrap().ino(), store.copy_began_at()), (inode, erased));
}

#[tokio::test]
async fn what_the_copy_does_not_take_was_not_erased() {
    let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outbox = mpsc::unbounded_channel().0;
    let store = Store::create(settings(&place.path().join("store")), secrets(), outbox).unwrap();
    let volume = elsewhere.path().join("volume");
    fs::create_dir(&volume).unwrap();
    store.copy_to(CopyTarget::Directory(volume.clone()), OWNER, None).await.unwrap();
    let path = store.path(Kind::new(1), &[b"name"]);
    let put = store.txn(change().put(path.clone(), b"secret".to_vec())).await.unwrap();
    // The volume is away.
    fs::rename(&volume, elsewhere.path().join("away")).unwrap();
    let refused = store.txn(change().delete(path.clone()).erasing()).await;
    assert!(matches!(refused, Err(TxnError::CopyUnavailable(_))), "{refused:?}");
    assert!(!store.is_rewrite_due(), "nothing was erased");
    assert_eq!(store.inner.rewrites.erased_at(), 0);
    assert!(store.get(&path).await.unwrap().is_some());
    // It is back, and the next revision is another transaction's, which erases nothing.
    fs::rename(elsewhere.path().join("away"), &volume).unwrap();
    let other = store.path(Kind::new(1), &[b"other"]);
    let next = loop {
        match store.txn(change().put(other.clone(), b"x".to_vec())).await {
            Err(TxnError::CopyUnavailable(_)) => tokio::task::yield_now().await,
            done => break done.unwrap(),
        }
    };
    assert_eq!((next, store.is_rewrite_due()), (put + 1, false));
    // Where it is taken, a rewrite is due and comes to its end.
    let erased = store.txn(change().delete(path).erasing()).await.unwrap();
    assert!(store.is_rewrite_due());
    store.rewrite().await.unwrap();
    assert!(!store.is_rewrite_due() && store.copy_began_at() >= erased);
}
