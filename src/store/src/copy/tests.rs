//! When a copy is begun anew.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use tokio::sync::mpsc;

use super::*;
use crate::rewrite::tests::{change, secrets, settings};
use crate::{Kind, Store};

const OWNER: CopyOwner =
    CopyOwner { installation: InstallationId::new([1; 16]), incarnation: 1, life: [7; 16] };

#[tokio::test]
async fn a_copy_that_has_become_long_is_begun_anew_once() {
    let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outbox = mpsc::unbounded_channel().0;
    let store = Store::create(settings(&place.path().join("store")), secrets(), outbox).unwrap();
    store.copy_to(CopyTarget::Directory(elsewhere.path().to_owned()), OWNER).await.unwrap();
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
