//! A generation is the whole store at one revision, and nothing of it can be damaged unnoticed.

use std::fs;

use fieldseal_store::{Generations, RawEntry, StoreError};

use super::on_every_backend;
use crate::place::{Opened, Place, secrets, service_key, txn};

on_every_backend!(
    a_generation_is_the_store_at_one_revision_while_others_write,
    no_bit_of_a_generation_flips_unnoticed,
    three_are_kept_and_what_was_never_finished_is_none,
);

const ENOUGH: usize = 64 * 1024 * 1024;

async fn fill(opened: &Opened, names: std::ops::Range<u32>) {
    let names: Vec<_> = names.collect();
    for some in names.chunks(50) {
        let change = some.iter().fold(txn(), |txn, name| {
            txn.put(opened.path(&["g", &name.to_string()]), format!("v{name}").into_bytes())
        });
        opened.store.txn(change).await.unwrap();
    }
}

async fn a_generation_is_the_store_at_one_revision_while_others_write(place: impl Place) {
    let dir = tempfile::tempdir().unwrap();
    let all = Generations::new(dir.path().join("generations"));
    let opened = place.create();
    fill(&opened, 0..3000).await;
    let mut twin = opened.store.snapshot(ENOUGH).await.unwrap();
    let snapshot = opened.store.snapshot(ENOUGH).await.unwrap();
    let (revision, anchor) = (snapshot.revision(), snapshot.anchor());
    let making = tokio::task::spawn_blocking({
        let all = all.clone();
        move || all.make(snapshot, 77)
    });
    // Others replace half of it and add to it meanwhile.
    fill(&opened, 1500..4500).await;
    let made = making.await.unwrap().unwrap();
    assert_eq!((made.number, made.revision, made.anchor, made.made_at), (1, revision, anchor, 77));
    assert_eq!(made.entries, 3000);
    let mut read: Vec<RawEntry> = Vec::new();
    let again = all.read(1, &secrets(), |entry| {
        read.push(entry);
        Ok(())
    });
    assert_eq!(again.unwrap(), made);
    let expected: Vec<_> = std::iter::from_fn(|| twin.page().unwrap()).flatten().collect();
    assert!(read == expected);
}

async fn no_bit_of_a_generation_flips_unnoticed(place: impl Place) {
    let dir = tempfile::tempdir().unwrap();
    let all = Generations::new(dir.path().to_owned());
    let opened = place.create();
    fill(&opened, 0..3).await;
    all.make(opened.store.snapshot(ENOUGH).await.unwrap(), 1).unwrap();
    let whole = fs::read(all.path(1)).unwrap();
    let found = |bytes: &[u8]| {
        fs::write(all.path(1), bytes).unwrap();
        all.read(1, &secrets(), |_| Ok(()))
    };
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        let refused = found(&bytes);
        assert!(matches!(refused, Err(StoreError::Corrupt(_))), "byte {place}: {refused:?}");
    }
    for len in 0..whole.len() {
        assert!(matches!(found(&whole[..len]), Err(StoreError::Corrupt(_))), "{len} bytes");
    }
    assert!(found(&[&whole[..], b"x"].concat()).is_err(), "something behind its end");
    assert!(found(&whole).is_ok());
    let mut others = secrets();
    others.anchor = fieldseal_crypto::record::AnchorKey::new(service_key(99));
    let refused = all.read(1, &others, |_| Ok(()));
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "of another installation");
}

async fn three_are_kept_and_what_was_never_finished_is_none(place: impl Place) {
    let dir = tempfile::tempdir().unwrap();
    let all = Generations::new(dir.path().to_owned());
    let opened = place.create();
    fs::write(dir.path().join("gen-9.tmp"), "half of one").unwrap();
    assert_eq!(all.numbers().unwrap(), []);
    for number in 1..=5 {
        fill(&opened, 0..number).await;
        all.make(opened.store.snapshot(ENOUGH).await.unwrap(), 1).unwrap();
        all.keep(3).unwrap();
    }
    assert_eq!(all.numbers().unwrap(), [3, 4, 5]);
    assert!(!dir.path().join("gen-9.tmp").exists());
    assert_eq!(all.read(5, &secrets(), |_| Ok(())).unwrap().entries, 5);
    // One that could not be finished leaves the others.
    let snapshot = opened.store.snapshot(0).await.unwrap();
    fill(&opened, 0..5).await;
    let refused = all.make(snapshot, 1).err();
    assert!(matches!(refused, Some(StoreError::Compacted)), "{refused:?}");
    assert_eq!(all.numbers().unwrap(), [3, 4, 5]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}
