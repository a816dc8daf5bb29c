//! What the scrub finds, says and leaves alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::time::Duration;

use bytes::Bytes;
use fieldseal_audit::Kind;
use fieldseal_engine::{AuditQuery, BootError, Engine, Installation, ScrubState, Upkeep};
use fieldseal_keys::{PartitionChange, RewrapState, StateChange};
use fieldseal_model::{AccessReason, KeyName, Partition, VersionNumber};
use kit::{Place, caller, change, events, open, seal, why};

/// The classes of the records that are damaged here.
const PRIMARY: u8 = 2;
const PARTITION: u8 = 4;
const DATA_KEY: u8 = 5;
const COUNTS: u8 = 8;

/// An installation that is stopped, with three values of two tenants under two versions.
struct Prepared {
    place: Place,
    values: Vec<(&'static str, Bytes)>,
}

impl Prepared {
    async fn new() -> Self {
        let (place, engine) = Place::with_key().await;
        let mut values = Vec::new();
        for tenant in ["a", "b"] {
            values.push((tenant, seal(&engine, tenant, "1", "x").await.unwrap().0));
        }
        engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
        values.push(("a", seal(&engine, "a", "1", "x").await.unwrap().0));
        engine.stop().await.unwrap();
        Self { place, values }
    }

    /// Changes the raw entries of a class behind the store's back: those that it had, in order.
    fn tamper(&self, class: u8, change: impl FnOnce(&sled::Db, Vec<(Vec<u8>, Vec<u8>)>)) {
        let config = sled::Config::new().path(self.place.path("store")).flush_every_ms(None);
        // A thread of the handle before may hold the file for some moments.
        let opened = (0..100_000).find_map(|_| match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::yield_now();
                None
            }
            other => Some(other),
        });
        let db = opened.unwrap().unwrap();
        let entries = db.scan_prefix([class]).map(Result::unwrap);
        change(&db, entries.map(|(k, v)| (k.to_vec(), v.to_vec())).collect());
        db.flush().unwrap();
    }

    async fn open_all(&self, engine: &Engine) -> Vec<&'static str> {
        let mut all = Vec::new();
        for (tenant, value) in &self.values {
            all.push(why(open(engine, tenant, "1", value).await));
        }
        all
    }
}

fn flipped(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    value
}

#[tokio::test]
async fn a_whole_store_is_counted_and_nothing_is_found() {
    let prepared = Prepared::new().await;
    let engine = prepared.place.start().await;
    assert_eq!(engine.scrub_state(), ScrubState::Pending);
    assert_eq!(engine.status(&caller("ops")).await.unwrap().scrub, ScrubState::Pending);
    let found = engine.scrub().await.unwrap();
    assert_eq!((found.report.findings(), found.report.data_keys), (0, 3), "{}", found.report);
    // Key, pointer, two versions with their counts and last uses, two partitions, three data keys.
    assert_eq!(found.report.records, 1 + 1 + 2 + 2 + 2 + 2 + 3);
    assert_eq!(engine.scrub_state(), ScrubState::Clean(found));
    assert!(engine.can_serve());
    assert_eq!(prepared.open_all(&engine).await, ["OK"; 3]);
    let all = events(&engine, AuditQuery::default()).await;
    assert!(all.iter().all(|event| event.kind != Some(Kind::ScrubFound)));
}

/// What one damage is called, and whether it takes readiness away.
async fn found_of(prepared: &Prepared) -> (Engine, String, bool) {
    let engine = prepared.place.start().await;
    let found = engine.scrub().await.unwrap();
    assert_eq!(engine.scrub_state(), ScrubState::Damaged(found.clone()));
    let serves = engine.can_serve();
    assert_eq!(serves, !engine.is_unreliable());
    let all = events(&engine, AuditQuery::default()).await;
    let told: Vec<_> = all.iter().filter(|e| e.kind == Some(Kind::ScrubFound)).collect();
    assert_eq!(told.len(), 1, "one record of a scrub");
    assert_eq!(told[0].note, found.report.to_string());
    assert!(!told[0].note.contains("pii"), "no name: {}", told[0].note);
    (engine, found.report.to_string(), serves)
}

#[tokio::test]
async fn a_damaged_data_key_is_found_and_all_others_serve_on() {
    let prepared = Prepared::new().await;
    prepared.tamper(DATA_KEY, |db, entries| {
        let (path, value) = &entries[0];
        db.insert(path, flipped(value)).unwrap();
    });
    let (engine, found, serves) = found_of(&prepared).await;
    assert_eq!(found, "1 × data key: altered, moved or cut off");
    assert!(serves, "one value's loss is not everybody's");
    let mut ended = prepared.open_all(&engine).await;
    ended.sort_unstable();
    assert_eq!(ended, ["OK", "OK", "STORE_CORRUPT"]);
}

#[tokio::test]
async fn what_is_missing_moved_or_put_back_is_found() {
    type Harm = fn(&sled::Db, Vec<(Vec<u8>, Vec<u8>)>);
    let harms: [(u8, Harm, &str); 4] = [
        (
            DATA_KEY,
            |db, entries| drop(db.remove(&entries[0].0).unwrap()),
            "records are missing, or older ones were put back",
        ),
        (
            DATA_KEY,
            |db, entries| drop(db.insert(&entries[0].0, entries[1].1.clone()).unwrap()),
            "1 × data key: altered, moved or cut off",
        ),
        (
            PARTITION,
            |db, entries| drop(db.insert(&entries[0].0, flipped(&entries[0].1)).unwrap()),
            "1 × partition: altered, moved or cut off",
        ),
        (
            COUNTS,
            |db, entries| drop(db.remove(&entries[0].0).unwrap()),
            "1 × count of a key version: says another number than there is",
        ),
    ];
    for (class, harm, expected) in harms {
        let prepared = Prepared::new().await;
        prepared.tamper(class, harm);
        let (engine, found, serves) = found_of(&prepared).await;
        assert!(found.contains(expected), "{found}");
        // Nobody is told that a version is safe to destroy by counts that are wrong.
        let pii = KeyName::parse("pii").unwrap();
        let told = why(engine.rotation_status(&caller("ops"), &pii).await);
        let doubtful = found.contains("count of a key version");
        assert_eq!(told, if doubtful { "STORE_CORRUPT" } else { "OK" });
        assert_eq!(serves, !found.contains("the whole store"), "{found}");
    }
}

#[tokio::test]
async fn an_older_record_in_the_place_of_a_newer_one_is_found() {
    let prepared = Prepared::new().await;
    let mut older = Vec::new();
    prepared.tamper(PARTITION, |_, entries| older = entries);
    // The first seal of a run reserves seals: the partition's record is written again.
    let engine = prepared.place.start().await;
    for tenant in ["a", "b"] {
        seal(&engine, tenant, "1", "x").await.unwrap();
    }
    engine.stop().await.unwrap();
    drop(engine);
    prepared.tamper(PARTITION, |db, entries| {
        assert_ne!(entries, older);
        for (path, value) in &older {
            db.insert(path, value.clone()).unwrap();
        }
    });
    let (_engine, found, serves) = found_of(&prepared).await;
    assert_eq!(found, "1 × the whole store: records are missing, or older ones were put back");
    assert!(!serves, "nothing that this store says can be relied on");
}

#[tokio::test]
async fn a_damaged_pointer_keeps_it_from_starting() {
    let prepared = Prepared::new().await;
    prepared.tamper(PRIMARY, |db, entries| {
        db.insert(&entries[0].0, flipped(&entries[0].1)).unwrap();
    });
    let place = &prepared.place;
    let installation = Installation::new(place.settings(), place.keyring());
    let refused = installation.start(place.clock.clone()).await.err();
    assert!(matches!(refused, Some(BootError::Keys(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_agrees_with_itself_while_keys_are_made() {
    let (_place, engine) = Place::with_key().await;
    let writing = tokio::spawn({
        let engine = engine.clone();
        async move {
            for tenant in 0..400 {
                seal(&engine, &format!("t{tenant}"), "1", "x").await.unwrap();
                if tenant % 50 == 0 {
                    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
                }
            }
        }
    });
    let mut during = 0;
    while !writing.is_finished() {
        let found = engine.scrub().await.unwrap();
        assert_eq!(found.report.findings(), 0, "{}", found.report);
        during += 1;
    }
    writing.await.unwrap();
    let found = engine.scrub().await.unwrap();
    assert_eq!((found.report.findings(), found.report.data_keys), (0, 400), "{}", found.report);
    assert!(during > 1, "{during} scrubs while it was written");
}

#[tokio::test]
async fn upkeep_scrubs_and_makes_a_generation_where_there_is_none() {
    let (place, engine) = Place::with_key().await;
    let day = Some(Duration::from_secs(86_400));
    let upkeep = Upkeep { scrub_every: day, generation_every: day };
    let generations = place.path("generations");
    let kept_up = async {
        while engine.scrubs() == 0 || !generations.join("gen-1").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = engine.keep_up(upkeep) => panic!("it goes on for ever"),
        () = kept_up => {}
    }
    assert!(engine.newest_generation().is_some());
    // After an erasure only the newest is left.
    engine.make_generation().await.unwrap();
    let renewed = engine.renew_generations().await.unwrap().unwrap();
    assert_eq!(std::fs::read_dir(&generations).unwrap().count(), 1);
    assert!(generations.join(format!("gen-{}", renewed.number)).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_may_be_done_to_keys_and_partitions_leaves_a_whole_store() {
    let (place, engine) = Place::with_key().await;
    let whole = async |when: &str| {
        let found = engine.scrub().await.unwrap().report;
        assert_eq!(found.findings(), 0, "{when}: {found}");
        found.data_keys
    };
    for tenant in ["", "ada", "bob"] {
        seal(&engine, tenant, "1", "x").await.unwrap();
    }
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    seal(&engine, "ada", "2", "x").await.unwrap();
    assert_eq!(whole("rotated").await, 4);
    engine.shred_partition(&caller("ops"), partition("ada")).await.unwrap();
    assert_eq!(whole("shredded").await, 4);
    engine.restore_partition(&caller("ops"), partition("ada")).await.unwrap();
    assert_eq!(whole("restored").await, 4);
    engine.shred_partition(&caller("ops"), partition("ada")).await.unwrap();
    place.clock.advance(Duration::from_secs(8 * 24 * 3600));
    engine.run_due().await;
    assert_eq!(whole("erased").await, 2);
    engine.reopen_partition(&caller("ops"), partition("ada")).await.unwrap();
    assert_eq!(whole("reopened").await, 2);
    seal(&engine, "ada", "3", "x").await.unwrap();
    assert_eq!(whole("used again").await, 3);
    engine.start_rewrap(&caller("ops"), change("pii"), 1000).await.unwrap();
    let pii = KeyName::parse("pii").unwrap();
    while engine.rewrap_job(&caller("ops"), &pii).await.unwrap().state == RewrapState::Running {
        assert_eq!(whole("while it is rewrapped").await, 3);
    }
    assert_eq!(whole("rewrapped").await, 3);
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    let lost = StateChange::ScheduleDestroy { data_keys_lost: 3 };
    for (number, what) in [(1, StateChange::Disable), (1, StateChange::Enable), (2, lost)] {
        let number = VersionNumber::new(number).unwrap();
        engine.change_key_version(&caller("ops"), change("pii"), number, what).await.unwrap();
        assert_eq!(whole("another state of a version").await, 3);
    }
    place.clock.advance(Duration::from_secs(31 * 24 * 3600));
    engine.run_due().await;
    engine.run_due().await;
    let view = engine.key(&caller("ops"), &pii).await.unwrap();
    assert!(view.versions.iter().any(|version| version.destroyed_at.is_some()));
    assert_eq!(whole("a version was destroyed with what it wraps").await, 3);
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    let found = engine.scrub().await.unwrap().report;
    assert_eq!((found.findings(), found.data_keys), (0, 3), "{found}");
}

fn partition(name: &str) -> PartitionChange {
    PartitionChange {
        key: KeyName::parse("pii").unwrap(),
        partition: Partition::parse(name).unwrap(),
        default_partition: false,
        window: None,
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}
