//! What an engine promises its callers, on sled and a real log.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use std::collections::HashSet;
use std::time::Duration;

use fieldseal_audit::{Kind, Outcome};
use fieldseal_engine::{AuditQuery, BootError, DecryptCall, EncryptCall, Installation, offline};
use fieldseal_keys::keyring;
use fieldseal_model::{AccessReason, Action, Principal, RequestId};
use futures_util::future::join_all;
use kit::{
    ALL, Place, caller, change, events, field, open, open_as, plain, reason, seal, sealed, stored,
    why,
};

#[tokio::test]
async fn a_value_opens_where_it_was_sealed_and_nowhere_else() {
    let (_place, engine) = Place::with_key().await;
    engine.create_key(&caller("ops"), change("other")).await.unwrap();
    let (sealed_value, version) = seal(&engine, "t1", "42", "ada@example.com").await.unwrap();
    assert_eq!(version, "keys/pii/versions/1");
    assert_eq!(open(&engine, "t1", "42", &sealed_value).await.unwrap(), "ada@example.com");
    let here = || sealed("t1", "42", &sealed_value);
    for (what, refused) in [
        ("row", why(open(&engine, "t1", "43", &sealed_value).await)),
        ("no row", why(open(&engine, "t1", "", &sealed_value).await)),
        ("partition", why(open(&engine, "t2", "42", &sealed_value).await)),
        ("default partition", why(open(&engine, "", "42", &sealed_value).await)),
        ("column", why(open_as(&engine, "app", field("pii", "phone"), here()).await)),
        ("key", why(open_as(&engine, "app", field("other", "email"), here()).await)),
    ] {
        assert_eq!(refused, "DECRYPTION_FAILED", "another {what}");
    }
    for at in [0, 9, 25, 57, sealed_value.len() - 1] {
        let mut bad = sealed_value.to_vec();
        bad[at] ^= 1;
        if at != 0 {
            let refused = open(&engine, "t1", "42", &bad.into()).await;
            assert_eq!(why(refused), "DECRYPTION_FAILED", "byte {at}");
        }
    }
    let causes: HashSet<String> = events(&engine, AuditQuery::default())
        .await
        .iter()
        .filter(|e| e.action == Some(Action::Decrypt) && e.outcome == Some(Outcome::Failed))
        .flat_map(|e| e.items.iter().map(|i| i.cause.clone()))
        .collect();
    for cause in ["COMMITMENT_MISMATCH", "OTHER_PARTITION", "OTHER_KEY", "TAG_MISMATCH"] {
        assert!(causes.contains(cause), "the log has the true cause {cause}: {causes:?}");
    }
}

#[tokio::test]
async fn whoever_may_not_is_refused_before_anything_is_looked_up_and_it_is_on_record() {
    let (_place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "", "1", "x").await.unwrap();
    for who in ["auditor", "ops", "nobody"] {
        let refused = open_as(&engine, who, field("pii", "email"), sealed("", "1", &value)).await;
        let refusal = refused.err().unwrap();
        assert_eq!(refusal.cause.reason(), "PERMISSION_DENIED", "{who}");
        assert!(refusal.event.is_some(), "{who}");
        // A key that does not exist gives the same answer: nothing was looked up.
        let missing = field("missing", "email");
        let refused = open_as(&engine, who, missing, sealed("", "1", &value)).await;
        assert_eq!(why(refused), "PERMISSION_DENIED", "{who}");
        // Nor does an encrypt tell whether the bytes are a ciphertext of this installation.
        for of in [field("pii", "email"), field("missing", "email")] {
            let mut item = plain("", "1", "");
            item.input.as_mut().unwrap().value = value.clone();
            let call = EncryptCall {
                fields: vec![of],
                items: vec![item],
                reason: AccessReason::default(),
            };
            let reply = engine.encrypt(&caller(who), Action::Encrypt, call).await.unwrap();
            let refusal = reply.items.into_iter().next().unwrap().err().unwrap();
            assert_eq!(refusal.cause.reason(), "PERMISSION_DENIED", "{who}");
            assert!(refusal.event.is_some(), "{who}");
        }
    }
    assert_eq!(why(engine.create_key(&caller("app"), change("x")).await), "PERMISSION_DENIED");
    assert_eq!(why(engine.rotate_key(&caller("app"), change("pii")).await), "PERMISSION_DENIED");
    let reason = AccessReason::default();
    let (app, query) = (caller("app"), AuditQuery::default());
    let refused = engine.query_audit(&app, query, ALL, String::new(), &reason).await;
    assert_eq!(why(refused.map(|_| ())), "PERMISSION_DENIED");
    let denied = AuditQuery { outcomes: vec![Outcome::Denied], ..AuditQuery::default() };
    assert_eq!(events(&engine, denied).await.len(), 15);
}

#[tokio::test]
async fn encrypt_never_creates_a_key() {
    let place = Place::new().await;
    let engine = place.start().await;
    assert_eq!(why(seal(&engine, "", "1", "x").await), "KEY_NOT_FOUND");
    assert!(engine.keys(&caller("ops")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_rotation_is_seen_by_the_next_call_and_old_values_still_open() {
    let (place, engine) = Place::with_key().await;
    let (old, _) = seal(&engine, "t1", "1", "old").await.unwrap();
    let before = engine.key(&caller("ops"), &change("pii").key).await.unwrap();
    let rotated = engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    assert_eq!((rotated.primary.get(), rotated.previous.unwrap().get()), (2, 1));
    assert!(rotated.receipt.is_some());
    assert_ne!(rotated.etag, before.etag);
    let (new, version) = seal(&engine, "t1", "1", "new").await.unwrap();
    assert_eq!(version, "keys/pii/versions/2");
    let mut late = change("pii");
    late.etag = before.etag;
    assert_eq!(why(engine.rotate_key(&caller("ops"), late).await), "ETAG_MISMATCH");
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    assert_eq!(open(&engine, "t1", "1", &old).await.unwrap(), "old");
    assert_eq!(open(&engine, "t1", "1", &new).await.unwrap(), "new");
}

#[tokio::test]
async fn a_request_id_makes_a_change_once() {
    let (_place, engine) = Place::with_key().await;
    let id = "6f1d1f7a-3d7b-4b0e-9c54-0a8f6a3c2b11";
    let with_id = |key: &str| {
        let mut change = change(key);
        change.request_id = RequestId::parse(id).unwrap();
        change
    };
    let first = engine.rotate_key(&caller("ops"), with_id("pii")).await.unwrap();
    let again = engine.rotate_key(&caller("ops"), with_id("pii")).await.unwrap();
    assert_eq!((first.primary, &first.etag), (again.primary, &again.etag));
    assert!(again.receipt.is_none());
    let other = engine.rotate_key(&caller("ops"), with_id("other")).await;
    assert_eq!(why(other), "REQUEST_ID_REUSED");
    let mut only = change("pii");
    only.validate_only = true;
    engine.rotate_key(&caller("ops"), only).await.unwrap();
    let key = engine.key(&caller("ops"), &change("pii").key).await.unwrap();
    assert_eq!(key.versions.len(), 2);
    assert_eq!(why(engine.create_key(&caller("ops"), change("pii")).await), "KEY_EXISTS");
}

#[tokio::test]
async fn a_request_id_is_its_caller_s_and_its_method_s_and_lasts_a_day() {
    let (place, engine) = Place::with_key().await;
    let with_id = |key: &str| {
        let mut change = change(key);
        change.request_id = RequestId::parse("6f1d1f7a-3d7b-4b0e-9c54-0a8f6a3c2b11").unwrap();
        change
    };
    let (ops, ops2) = (caller("ops"), caller("ops2"));
    let made = engine.create_key(&ops, with_id("new")).await.unwrap();
    assert!(made.receipt.is_some());
    let again = engine.create_key(&ops, with_id("new")).await.unwrap();
    assert_eq!((&made.key, &made.etag), (&again.key, &again.etag));
    assert!(again.receipt.is_none(), "the same answer, and no second change");
    assert_eq!(why(engine.create_key(&ops, with_id("newer")).await), "REQUEST_ID_REUSED");
    // Another caller's id is another id, and so is another method's.
    assert_eq!(why(engine.create_key(&ops2, with_id("new")).await), "KEY_EXISTS");
    assert_eq!(engine.rotate_key(&ops, with_id("new")).await.unwrap().primary.get(), 2);
    assert_eq!(engine.rotate_key(&ops2, with_id("new")).await.unwrap().primary.get(), 3);
    let day = Duration::from_secs(24 * 3600);
    place.clock.advance(day - Duration::from_secs(1));
    assert_eq!(engine.rotate_key(&ops, with_id("new")).await.unwrap().primary.get(), 2);
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(engine.rotate_key(&ops, with_id("new")).await.unwrap().primary.get(), 4);
    assert_eq!(why(engine.create_key(&ops, with_id("new")).await), "KEY_EXISTS");
}

#[tokio::test]
async fn request_ids_that_are_too_old_to_count_leave_the_store() {
    const REQUEST: u8 = 7;
    let (place, engine) = Place::with_key().await;
    let mut number = 0;
    let mut rotations = async |count: usize| {
        for _ in 0..count {
            number += 1;
            let mut change = change("pii");
            change.request_id =
                RequestId::parse(&format!("6f1d1f7a-3d7b-4b0e-9c54-{number:012x}")).unwrap();
            engine.rotate_key(&caller("ops"), change).await.unwrap();
        }
    };
    rotations(20).await;
    place.clock.advance(Duration::from_secs(24 * 3600));
    rotations(5).await;
    engine.stop().await.unwrap();
    drop(engine);
    assert_eq!(stored(&place, REQUEST).await.len(), 5, "only those of the last day");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn concurrent_first_encrypts_end_with_one_data_key_and_all_succeed() {
    let (_place, engine) = Place::with_key().await;
    for partition in ["a", "b", "c"] {
        let calls = (0..50).map(|row: u32| {
            let engine = engine.clone();
            tokio::spawn(async move { seal(&engine, partition, &row.to_string(), "x").await })
        });
        let mut ids = HashSet::new();
        for call in join_all(calls).await {
            let (ciphertext, _) = call.unwrap().unwrap();
            ids.insert(ciphertext[1..9].to_vec());
        }
        assert_eq!(ids.len(), 1, "{partition}");
    }
    let made = events(&engine, AuditQuery::default()).await;
    let made = made.iter().filter(|e| e.kind == Some(Kind::DataKeyCreated)).count();
    assert_eq!(made, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn concurrent_rotations_make_one_version_each() {
    let (_place, engine) = Place::with_key().await;
    let calls = (0..20).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.rotate_key(&caller("ops"), change("pii")).await })
    });
    let mut numbers = HashSet::new();
    for call in join_all(calls).await {
        numbers.insert(call.unwrap().unwrap().primary.get());
    }
    assert_eq!(numbers, (2..=21).collect());
}

#[tokio::test]
async fn more_partitions_than_the_cache_holds_all_open_and_the_cache_stays_bounded() {
    let (_place, engine) = Place::with_key().await;
    let mut values = Vec::new();
    for partition in 0..200 {
        values.push(seal(&engine, &format!("p{partition}"), "1", "x").await.unwrap().0);
    }
    for (partition, value) in values.iter().enumerate() {
        assert_eq!(open(&engine, &format!("p{partition}"), "1", value).await.unwrap(), "x");
    }
    let status = engine.status(&caller("ops")).await.unwrap();
    assert!(status.data_keys_cached <= 64, "{}", status.data_keys_cached);
}

#[tokio::test]
async fn a_data_key_is_retired_after_ninety_days() {
    let (place, engine) = Place::with_key().await;
    let (young, _) = seal(&engine, "t", "1", "x").await.unwrap();
    place.clock.advance(Duration::from_secs(91 * 24 * 3600));
    let (later, _) = seal(&engine, "t", "1", "x").await.unwrap();
    assert_ne!(young[1..9], later[1..9]);
    assert_eq!(open(&engine, "t", "1", &young).await.unwrap(), "x");
}

#[tokio::test]
async fn a_batch_is_one_record_and_a_bad_item_fails_alone() {
    let (_place, engine) = Place::with_key().await;
    let call = EncryptCall {
        fields: vec![field("pii", "email")],
        items: (0..100).map(|row| plain("", &row.to_string(), "x")).collect(),
        reason: AccessReason::default(),
    };
    let reply = engine.encrypt(&caller("app"), Action::BatchEncrypt, call).await.unwrap();
    let buffer = bytes::Bytes::from(reply.buffer);
    let ciphertexts: Vec<_> =
        reply.items.into_iter().map(|i| buffer.slice(i.unwrap().range)).collect();
    let mut items: Vec<_> =
        ciphertexts.iter().enumerate().map(|(row, c)| sealed("", &row.to_string(), c)).collect();
    items[7] = sealed("", "8", &ciphertexts[7]);
    let call = DecryptCall { fields: vec![field("pii", "email")], items, reason: reason() };
    let reply = engine.decrypt(&caller("app"), Action::BatchDecrypt, call).await.unwrap();
    let bad: Vec<_> = reply.items.iter().enumerate().filter(|(_, i)| i.is_err()).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].0, 7);
    let query = AuditQuery { actions: vec![Action::BatchDecrypt], ..AuditQuery::default() };
    let found = events(&engine, query).await;
    let [event] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((event.outcome, event.item_count), (Some(Outcome::Partial), 100));
    assert_eq!(event.index, reply.receipt.index());
    assert_eq!(event.items[7].outcome, Some(Outcome::Failed));
    assert_eq!(event.ticket, "CASE-1");
}

#[tokio::test]
async fn without_a_log_nothing_is_opened_or_changed() {
    let (place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "", "1", "x").await.unwrap();
    let before = engine.key(&caller("ops"), &change("pii").key).await.unwrap();
    let segment = std::fs::read_dir(place.path("audit"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "log"))
        .unwrap();
    std::fs::rename(&segment, place.path("away")).unwrap();
    assert_eq!(why(open(&engine, "", "1", &value).await), "AUDIT_UNAVAILABLE");
    assert_eq!(why(engine.rotate_key(&caller("ops"), change("pii")).await), "AUDIT_UNAVAILABLE");
    assert_eq!(why(seal(&engine, "new", "1", "x").await), "AUDIT_UNAVAILABLE");
    assert!(!engine.can_serve());
    let mut health = engine.audit_health();
    std::fs::rename(place.path("away"), &segment).unwrap();
    health.wait_for(|h| *h == fieldseal_audit::Health::Ok).await.unwrap();
    let after = engine.key(&caller("ops"), &change("pii").key).await.unwrap();
    assert_eq!(after, before, "the refused rotation changed nothing");
    assert_eq!(open(&engine, "", "1", &value).await.unwrap(), "x");
}

#[tokio::test]
async fn what_is_sealed_already_is_not_sealed_again_by_accident() {
    let (_place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "", "1", "x").await.unwrap();
    let text = fieldseal_crypto::field::encode_text(&value);
    assert_eq!(why(seal(&engine, "", "1", &text).await), "PLAINTEXT_ALREADY_SEALED");
    for looks_like_it in ["fs1.", "fs1.hello there", "fs1.AAAA"] {
        assert_eq!(why(seal(&engine, "", "1", looks_like_it).await), "OK", "{looks_like_it}");
    }
}

#[tokio::test]
async fn a_stopped_installation_opens_with_the_recovery_identity_alone() {
    let (place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "t", "1", "ada").await.unwrap();
    let recover = || async {
        let identity = &place.identity;
        let keyring = keyring::open_with_identity(&place.path("keyring.json"), identity).unwrap();
        let local = Principal::parse("local:1000").unwrap();
        let kit_item = sealed("t", "1", &value);
        let call = offline::single(field("pii", "email"), kit_item.input.unwrap(), reason());
        offline::recover(place.settings(), keyring, place.clock.clone(), local, call).await
    };
    let running = recover().await;
    assert!(matches!(running, Err(offline::RecoverError::Boot(BootError::Store(_)))));
    engine.stop().await.unwrap();
    drop(engine);
    std::fs::remove_file(place.path("root.key")).unwrap();
    std::fs::remove_dir_all(place.path("policy")).unwrap();
    let reply = recover().await.unwrap();
    assert_eq!(&reply.buffer[..], b"ada");
}

#[tokio::test]
async fn a_start_and_a_stop_are_on_record_and_an_empty_directory_is_none() {
    let (place, engine) = Place::with_key().await;
    engine.stop().await.unwrap();
    assert_eq!(why(engine.rotate_key(&caller("ops"), change("pii")).await), "STOPPING");
    drop(engine);
    let engine = place.start().await;
    let kinds: Vec<_> = events(&engine, AuditQuery { oldest_first: true, ..Default::default() })
        .await
        .iter()
        .map(|e| e.kind.unwrap())
        .collect();
    assert_eq!(kinds[..4], [Kind::Start, Kind::KeyCreated, Kind::Stop, Kind::Start]);
    let mut settings = place.settings();
    settings.store = fieldseal_engine::StoreBackend::Sled(place.path("empty"));
    let empty = Installation::new(settings, place.keyring()).start(place.clock.clone()).await;
    let uninitialized = fieldseal_store::StoreError::NotInitialized(place.path("empty"));
    let found = empty.err().map(|e| e.to_string());
    assert_eq!(found, Some(uninitialized.to_string()));
}
