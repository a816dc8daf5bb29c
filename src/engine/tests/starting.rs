//! What a start refuses, and what it goes on with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod kit;

use std::time::Duration;

use fieldseal_audit::Kind;
use fieldseal_engine::offline::root::{self, Task};
use fieldseal_engine::{AnchorTarget, AuditQuery, BootError, Engine, Installation, StoreBackend};
use fieldseal_keys::{KeyError, Relation};
use fieldseal_model::{AccessReason, Principal};
use kit::{Place, caller, change, copy, open, seal};

async fn kinds(engine: &Engine) -> Vec<Kind> {
    let (auditor, reason) = (caller("auditor"), AccessReason::default());
    let query = AuditQuery { oldest_first: true, ..AuditQuery::default() };
    let found =
        engine.query_audit(&auditor, query, kit::ALL, String::new(), &reason).await.unwrap();
    found.page.events.iter().filter_map(|event| event.kind).collect()
}

#[tokio::test]
async fn a_store_that_was_put_back_under_a_newer_log_is_refused_before_anything_is_recorded() {
    let (place, engine) = Place::with_key().await;
    engine.stop().await.unwrap();
    drop(engine);
    copy(&place.path("store"), &place.path("older"));
    let engine = place.start().await;
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    let (value, _) = seal(&engine, "", "1", "x").await.unwrap();
    engine.stop().await.unwrap();
    drop(engine);
    let records = || std::fs::read(place.path("audit/closed")).unwrap();
    let before = records();
    std::fs::rename(place.path("store"), place.path("newer")).unwrap();
    std::fs::rename(place.path("older"), place.path("store")).unwrap();
    let installation = Installation::new(place.settings(), place.keyring());
    let refused = installation.start(place.clock.clone()).await.err();
    let Some(BootError::Keys(KeyError::Mismatch(found))) = refused else { panic!("{refused:?}") };
    assert_eq!(found.relation, Relation::StoreBehind);
    // The key, then the rotation, the data key, and on the stop the day of its use.
    assert_eq!((found.store.revision, found.log.map(|log| log.revision)), (1, Some(4)));
    assert_eq!(records(), before);
    std::fs::rename(place.path("store"), place.path("older")).unwrap();
    std::fs::rename(place.path("newer"), place.path("store")).unwrap();
    let engine = place.start().await;
    assert_eq!(open(&engine, "", "1", &value).await.unwrap(), "x");
}

#[tokio::test]
async fn a_store_that_went_on_from_another_past_than_its_log_is_refused() {
    let (place, engine) = Place::with_key().await;
    engine.stop().await.unwrap();
    drop(engine);
    let other = place.path("other");
    std::fs::create_dir(&other).unwrap();
    for part in ["store", "audit"] {
        copy(&place.path(part), &other.join(part));
    }
    // Twice the same change, once here and once on a copy.
    for stored in ["first", "second"] {
        let engine = place.start().await;
        engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
        engine.stop().await.unwrap();
        drop(engine);
        std::fs::rename(place.path("store"), place.path(stored)).unwrap();
        if stored == "first" {
            std::fs::rename(place.path("audit"), place.path("first-audit")).unwrap();
            std::fs::rename(other.join("store"), place.path("store")).unwrap();
            std::fs::rename(other.join("audit"), place.path("audit")).unwrap();
        }
    }
    std::fs::rename(place.path("first"), place.path("store")).unwrap();
    let installation = Installation::new(place.settings(), place.keyring());
    let refused = installation.start(place.clock.clone()).await.err();
    let Some(BootError::Keys(KeyError::Mismatch(found))) = refused else { panic!("{refused:?}") };
    assert_eq!(found.relation, Relation::Diverged);
    assert_eq!((found.store.revision, found.log.map(|log| log.revision)), (2, Some(2)));
    // With its own log it starts.
    std::fs::remove_dir_all(place.path("audit")).unwrap();
    std::fs::rename(place.path("first-audit"), place.path("audit")).unwrap();
    place.start().await;
}

#[tokio::test]
async fn the_anchor_of_the_last_change_is_known_however_many_segments_came_since() {
    let (place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "", "1", "x").await.unwrap();
    let segments = || std::fs::read_dir(place.path("audit")).unwrap().count();
    let before = segments();
    while segments() < before + 3 {
        open(&engine, "", "1", &value).await.unwrap();
    }
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    assert_eq!(open(&engine, "", "1", &value).await.unwrap(), "x");
}

#[tokio::test]
async fn a_store_in_memory_goes_on_where_its_log_has_come_to() {
    let place = Place::new().await;
    let start = || async {
        let mut settings = place.settings();
        settings.store = StoreBackend::Memory;
        let installation = Installation::new(settings, place.keyring());
        installation.start(place.clock.clone()).await.unwrap()
    };
    for run in 1..=3 {
        let engine = start().await;
        let created = engine.create_key(&caller("ops"), change("pii")).await.unwrap();
        assert!(created.receipt.is_some(), "run {run}");
        seal(&engine, "", "1", "x").await.unwrap();
        let made = kinds(&engine).await;
        let count = |kind| made.iter().filter(|k| **k == kind).count();
        assert_eq!((count(Kind::KeyCreated), count(Kind::DataKeyCreated)), (run, run));
        engine.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_data_key_that_is_read_again_goes_on_with_the_seals_it_had() {
    let (place, engine) = Place::with_key().await;
    let (first, _) = seal(&engine, "t", "1", "x").await.unwrap();
    for _ in 0..3 {
        // Longer than a data key stays in memory, and shorter than it seals.
        place.clock.advance(Duration::from_secs(2 * 3600));
        let (later, _) = seal(&engine, "t", "1", "x").await.unwrap();
        assert_eq!(first[1..9], later[1..9]);
    }
    let reserved = kinds(&engine).await.into_iter().filter(|k| *k == Kind::SealsReserved).count();
    assert_eq!(reserved, 0);
    // What a process had in reserve ends with it.
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    seal(&engine, "t", "1", "x").await.unwrap();
    let reserved = kinds(&engine).await.into_iter().filter(|k| *k == Kind::SealsReserved).count();
    assert_eq!(reserved, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redaction_that_was_cut_off_is_finished_only_once_no_anchor_speaks_against_the_log() {
    let place = Place::new().await;
    let anchor = place.path("anchor");
    let mut settings = place.settings();
    settings.anchors = vec![AnchorTarget::File(anchor.clone())];
    let start = async || {
        Installation::new(settings.clone(), place.keyring()).start(place.clock.clone()).await
    };
    let engine = start().await.unwrap();
    engine.stop().await.unwrap();
    drop(engine);
    copy(&place.path("audit"), &place.path("older"));
    let engine = start().await.unwrap();
    engine.post_checkpoint().await;
    engine.stop().await.unwrap();
    drop(engine);
    std::fs::rename(place.path("audit"), place.path("newer")).unwrap();
    std::fs::rename(place.path("older"), place.path("audit")).unwrap();
    let note = place.path("audit/redacting");
    std::fs::write(&note, "").unwrap();
    let refused = start().await.err();
    assert!(matches!(refused, Some(BootError::Anchor(_))), "{refused:?}");
    assert!(note.exists());
    // What is done at rest compares nothing, so that it finishes nothing either.
    let (settings, keyring, clock) = (place.settings(), place.keyring(), place.clock.clone());
    let principal = Principal::parse("local:1000").unwrap();
    root::drill(Task { settings, keyring, clock, principal }).await.unwrap();
    assert!(note.exists());
    std::fs::remove_file(anchor).unwrap();
    std::fs::remove_file(place.path("audit/anchored")).unwrap_or_default();
    start().await.unwrap().stop().await.unwrap();
    assert!(!note.exists());
}
