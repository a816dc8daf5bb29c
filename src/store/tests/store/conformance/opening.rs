//! Making and opening a store, and what is not opened.

use fieldseal_crypto::record::StorageKey;
use fieldseal_model::InstallationId;
use fieldseal_store::{Health, Secrets, StoreError};

use super::on_every_backend;
use crate::place::{FORMAT, KEYS, OTHERS, Place, STATE, secrets, service_key, txn};

on_every_backend!(
    an_empty_place_is_not_initialized,
    a_store_is_not_made_over_another,
    a_newer_format_is_refused_by_name,
    other_keys_are_refused,
    a_store_without_its_own_records_is_corrupt,
    a_moved_record_does_not_open,
    an_altered_record_does_not_open,
    an_older_record_put_back_is_found_by_the_sum,
    a_record_taken_away_is_found_by_the_sum,
    everything_survives_a_restart,
);

async fn an_empty_place_is_not_initialized(place: impl Place) {
    let refused = place.refusal();
    assert!(matches!(refused, StoreError::NotInitialized(_)), "{refused}");
    assert!(!refused.to_string().contains("init"), "a lost store is not made anew: {refused}");
    assert!(matches!(place.refusal(), StoreError::NotInitialized(_)), "looking makes no store");
}

async fn a_store_is_not_made_over_another(place: impl Place) {
    let opened = place.create();
    let path = opened.path(&["a"]);
    opened.put(&path, "one").await;
    opened.close().await;
    let refused = place.try_create().err().unwrap();
    assert!(matches!(refused, StoreError::AlreadyInitialized(_)), "{refused}");
    assert_eq!(place.open().value(&path).await.as_deref(), Some("one"));
}

async fn a_newer_format_is_refused_by_name(place: impl Place) {
    place.create().close().await;
    place.write_raw(FORMAT, &2_u32.to_le_bytes());
    let refused = place.refusal();
    assert!(matches!(refused, StoreError::FormatNewer { found: 2, known: 1 }), "{refused}");
    for part in ["has format 2", "knows formats up to 1", "run the newer version"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    place.write_raw(FORMAT, b"two");
    assert!(matches!(place.refusal(), StoreError::Corrupt(_)));
}

async fn other_keys_are_refused(place: impl Place) {
    place.create().close().await;
    let others = [
        Secrets { storage: StorageKey::new(service_key(9)), ..secrets() },
        Secrets { installation: InstallationId::new([9; 16]), ..secrets() },
    ];
    for other in others {
        let refused = place.try_open_with(other).err().unwrap();
        assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
        assert!(refused.to_string().contains("sealed by other keys"), "{refused}");
    }
    place.open();
}

async fn a_store_without_its_own_records_is_corrupt(place: impl Place) {
    let opened = place.create();
    opened.put(&opened.path(&["a"]), "one").await;
    opened.close().await;
    let state = place.raw_entries().into_iter().find(|(key, _)| key == STATE).unwrap().1;
    for damaged in [&state[..state.len() - 1], &state[..7], &[]] {
        place.write_raw(STATE, damaged);
        let refused = place.refusal();
        assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
    }
    place.remove_raw(STATE);
    let refused = place.refusal();
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
    place.write_raw(STATE, &state);
    place.open().close().await;
    place.remove_raw(FORMAT);
    let refused = place.refusal();
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
}

/// The only raw entry of a class.
fn raw_of(place: &impl Place, class: u8) -> (Vec<u8>, Vec<u8>) {
    let mut found = place.raw_entries().into_iter().filter(|(key, _)| key.first() == Some(&class));
    let entry = found.next().unwrap();
    assert!(found.next().is_none());
    entry
}

async fn a_moved_record_does_not_open(place: impl Place) {
    let opened = place.create();
    let (mine, theirs) = (opened.path(&["mine"]), opened.path_in(OTHERS, &["theirs"]));
    let both = txn().put(mine.clone(), b"mine".to_vec()).put(theirs.clone(), b"theirs".to_vec());
    opened.store.txn(both).await.unwrap();
    opened.close().await;
    let moved = raw_of(&place, 2).1;
    place.write_raw(&raw_of(&place, 1).0, &moved);

    let opened = place.open();
    let refused = opened.store.get(&mine).await.err().unwrap();
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
    let prefix = opened.store.prefix(KEYS, &[]);
    assert!(opened.store.range(&prefix, None, 10).await.is_err(), "nor in a range");
    assert_eq!(opened.value(&theirs).await.as_deref(), Some("theirs"), "others do");
    let sums = opened.store.recount().await.unwrap();
    assert_ne!(sums.kept, sums.counted);
}

async fn an_altered_record_does_not_open(place: impl Place) {
    let opened = place.create();
    let path = opened.path(&["a"]);
    opened.put(&path, "some value").await;
    opened.close().await;
    let (key, stored) = raw_of(&place, 1);
    // The revision, the nonce, the ciphertext, the tag.
    for at in [0, 7, 8, 31, 32, stored.len() - 17, stored.len() - 1] {
        let mut altered = stored.clone();
        altered[at] ^= 1;
        place.write_raw(&key, &altered);
        let opened = place.open();
        assert!(opened.store.get(&path).await.is_err(), "altered at {at}");
        let sums = opened.store.recount().await.unwrap();
        assert_ne!(sums.kept, sums.counted);
        opened.close().await;
    }
    for cut in [0, 7, 8, 47] {
        place.write_raw(&key, &stored[..cut]);
        let opened = place.open();
        assert!(opened.store.get(&path).await.is_err(), "cut to {cut}");
        opened.close().await;
    }
    place.write_raw(&key, &stored);
    assert_eq!(place.open().value(&path).await.as_deref(), Some("some value"));
}

async fn an_older_record_put_back_is_found_by_the_sum(place: impl Place) {
    let opened = place.create();
    let path = opened.path(&["a"]);
    opened.put(&path, "enabled").await;
    opened.close().await;
    let (key, older) = raw_of(&place, 1);
    let opened = place.open();
    opened.put(&path, "disabled").await;
    opened.assert_sums_agree().await;
    opened.close().await;

    place.write_raw(&key, &older);
    let opened = place.open();
    assert_eq!(opened.value(&path).await.as_deref(), Some("enabled"), "it was sealed rightly");
    let sums = opened.store.recount().await.unwrap();
    assert_ne!(sums.kept, sums.counted);
}

async fn a_record_taken_away_is_found_by_the_sum(place: impl Place) {
    let opened = place.create();
    let path = opened.path(&["a"]);
    opened.put(&path, "destroyed").await;
    opened.close().await;
    place.remove_raw(&raw_of(&place, 1).0);
    let opened = place.open();
    assert_eq!(opened.value(&path).await, None);
    let sums = opened.store.recount().await.unwrap();
    assert_ne!(sums.kept, sums.counted);
}

async fn everything_survives_a_restart(place: impl Place) {
    let opened = place.create();
    let mut revisions = Vec::new();
    for n in 0..300_u32 {
        let path = opened.path(&["many", &n.to_string()]);
        let store = opened.store.clone();
        let txn = txn().put(path, n.to_le_bytes().to_vec());
        revisions.push(tokio::spawn(async move { store.txn(txn).await.unwrap() }));
    }
    let mut expected = Vec::new();
    for revision in revisions {
        expected.push(revision.await.unwrap());
    }
    let sums = opened.store.recount().await.unwrap();
    opened.close().await;
    place.open().close().await;
    let opened = place.open();
    assert_eq!(opened.store.health(), Health::Ok);
    for (n, revision) in expected.iter().enumerate() {
        let path = opened.path(&["many", &n.to_string()]);
        let found = opened.store.get(&path).await.unwrap().unwrap();
        assert_eq!(
            (found.revision, found.value.as_slice()),
            (*revision, &(n as u32).to_le_bytes()[..])
        );
    }
    assert_eq!(opened.store.recount().await.unwrap(), sums);
}
