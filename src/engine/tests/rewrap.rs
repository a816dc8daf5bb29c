//! A rewrap moves every data key, loses none, and the counts say so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fieldseal_audit::Kind;
use fieldseal_engine::{AuditQuery, Engine, StoreBackend};
use fieldseal_keys::{
    KeyChange, LeftBehind, RewrapJob, RewrapState, RotationStatus, StateChange, Verdict,
};
use fieldseal_model::{KeyName, KeyVersionState, VersionNumber};
use futures_util::future::join_all;
use kit::{Place, caller, change, events, open, seal, why};

/// A value and where it was sealed.
struct Value {
    partition: String,
    row: String,
    ciphertext: Bytes,
}

async fn sealed(engine: &Engine, partition: &str, row: usize) -> Value {
    let row = row.to_string();
    let (ciphertext, _) =
        seal(engine, partition, &row, &format!("{partition}/{row}")).await.unwrap();
    Value { partition: partition.to_owned(), row, ciphertext }
}

async fn opens(engine: &Engine, value: &Value) {
    let Value { partition, row, ciphertext } = value;
    let opened = open(engine, partition, row, ciphertext).await.unwrap();
    assert_eq!(opened, format!("{partition}/{row}"));
}

fn pii() -> KeyName {
    change("pii").key
}

async fn rotate(engine: &Engine) {
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
}

async fn start(engine: &Engine, max_per_second: u32) -> RewrapJob {
    engine.start_rewrap(&caller("ops"), change("pii"), max_per_second).await.unwrap().job
}

async fn job(engine: &Engine) -> RewrapJob {
    engine.rewrap_job(&caller("ops"), &pii()).await.unwrap()
}

async fn ended(engine: &Engine) -> RewrapJob {
    loop {
        let job = job(engine).await;
        if job.state != RewrapState::Running {
            return job;
        }
        tokio::task::yield_now().await;
    }
}

async fn status(engine: &Engine) -> RotationStatus {
    engine.rotation_status(&caller("ops"), &pii()).await.unwrap()
}

/// For each version the data keys and partitions under it.
async fn counts(engine: &Engine) -> BTreeMap<u32, (u64, u64)> {
    let versions = status(engine).await.versions;
    let counts = |v: &fieldseal_keys::VersionStatus| (v.totals.data_keys, v.totals.partitions);
    versions.iter().map(|v| (v.number.get(), counts(v))).collect()
}

async fn counts_are_right(engine: &Engine) {
    let scrubbed = engine.scrub().await.unwrap();
    assert_eq!(scrubbed.report.findings(), 0, "{}", scrubbed.report);
}

/// Partitions with data keys of several versions and of several generations under one.
async fn grown(place: &Place, engine: &Engine) -> Vec<Value> {
    let mut values = Vec::new();
    for step in 0..4 {
        for partition in 0..20 {
            // Some partitions miss a version, one has many generations.
            if (partition + step) % 3 != 0 || partition == 1 {
                values.push(sealed(engine, &format!("t{partition}"), step).await);
            }
        }
        values.push(sealed(engine, "", step).await);
        match step {
            0 | 2 => rotate(engine).await,
            // Long enough for new data keys under the same version.
            _ => place.clock.advance(Duration::from_secs(91 * 24 * 3600)),
        }
    }
    values
}

#[tokio::test]
async fn every_data_key_moves_and_every_value_still_opens() {
    let (place, engine) = Place::with_key().await;
    let values = grown(&place, &engine).await;
    let before = counts(&engine).await;
    let all: u64 = before.values().map(|(data_keys, _)| data_keys).sum();
    assert!(before[&1].0 > 0 && before[&2].0 > 20 && before[&3].0 > 0, "{before:?}");
    counts_are_right(&engine).await;
    let only = KeyChange { validate_only: true, ..change("pii") };
    let asked = engine.start_rewrap(&caller("ops"), only, 0).await.unwrap();
    assert_eq!(
        (asked.job.state, asked.job.remaining),
        (RewrapState::NotStarted, before[&1].0 + before[&2].0)
    );
    assert_eq!(why(engine.rewrap_job(&caller("ops"), &pii()).await), "REWRAP_NOT_FOUND");

    assert_eq!(start(&engine, 0).await.target.get(), 3);
    let done = ended(&engine).await;
    assert_eq!((done.state, done.remaining), (RewrapState::Done, 0));
    assert_eq!(done.moved, before[&1].0 + before[&2].0);
    let after = counts(&engine).await;
    assert_eq!((after[&1], after[&2], after[&3].0), ((0, 0), (0, 0), all));
    counts_are_right(&engine).await;
    let verdicts: Vec<_> =
        status(&engine).await.versions.iter().map(|v| v.verdict.is_safe()).collect();
    assert_eq!(verdicts, [true, true, false]);
    join_all(values.iter().map(|value| opens(&engine, value))).await;

    // What a rotation promises holds: a data key that was moved seals nothing any more.
    let newer = sealed(&engine, "t3", 99).await;
    assert_eq!(counts(&engine).await[&3].0, all + u64::from(newer.partition == "t3"));
    counts_are_right(&engine).await;

    let recorded = events(&engine, AuditQuery::default()).await;
    let count = |kind| recorded.iter().filter(|event| event.kind == Some(kind)).count();
    assert_eq!((count(Kind::RewrapStarted), count(Kind::RewrapEnded)), (1, 1));
    assert!(count(Kind::DataKeysRewrapped) > 0);
    engine.stop().await.unwrap();
    drop(engine);
    // The next process reads every data key from the store.
    let engine = place.start().await;
    join_all(values.iter().map(|value| opens(&engine, value))).await;
    opens(&engine, &newer).await;
}

/// It can only be slower on a busy machine.
#[tokio::test]
async fn a_rewrap_keeps_to_its_rate() {
    const PER_SECOND: u32 = 20;
    let (_place, engine) = Place::with_key().await;
    for partition in 0..10 {
        sealed(&engine, &format!("t{partition}"), 0).await;
    }
    rotate(&engine).await;
    let began = Instant::now();
    start(&engine, PER_SECOND).await;
    let done = ended(&engine).await;
    assert_eq!((done.state, done.moved), (RewrapState::Done, 10));
    // Two waves are on their way before any is counted, and each of them is a tenth of a second's.
    let least = Duration::from_secs(1) * (10 - 2 * 2) / PER_SECOND;
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_rewrap_that_is_cut_off_goes_on_with_the_next_start_and_can_be_cancelled() {
    let (place, engine) = Place::with_key().await;
    let values = grown(&place, &engine).await;
    let waiting = start(&engine, 10).await.remaining;
    let refused = engine.start_rewrap(&caller("ops"), change("pii"), 0).await;
    assert_eq!(why(refused), "REWRAP_RUNNING");
    while job(&engine).await.moved == 0 {
        tokio::task::yield_now().await;
    }
    engine.stop().await.unwrap();
    drop(engine);

    let engine = place.start().await;
    let resumed = job(&engine).await;
    assert_eq!((resumed.state, resumed.max_per_second), (RewrapState::Running, 10));
    assert!(resumed.moved > 0 && resumed.remaining > 0, "{resumed:?}");
    let cancelled = engine.cancel_rewrap(&caller("ops"), change("pii")).await.unwrap();
    assert!(cancelled.receipt.is_some());
    let cancelled = cancelled.job;
    assert_eq!(cancelled.state, RewrapState::Cancelled);
    assert_eq!(cancelled.moved + cancelled.remaining, waiting);
    assert_eq!(job(&engine).await, cancelled);
    let again = engine.cancel_rewrap(&caller("ops"), change("pii")).await;
    assert_eq!(why(again), "REWRAP_NOT_RUNNING");
    counts_are_right(&engine).await;
    engine.stop().await.unwrap();
    drop(engine);

    // What was cancelled stays cancelled, and another one ends it.
    let engine = place.start().await;
    assert_eq!(job(&engine).await, cancelled);
    start(&engine, 0).await;
    let done = ended(&engine).await;
    assert_eq!((done.state, done.moved), (RewrapState::Done, cancelled.remaining));
    join_all(values.iter().map(|value| opens(&engine, value))).await;
    counts_are_right(&engine).await;
}

async fn change_state(engine: &Engine, version: u32, what: StateChange) {
    let number = VersionNumber::new(version).unwrap();
    engine.change_key_version(&caller("ops"), change("pii"), number, what).await.unwrap();
}

async fn is_disabled(engine: &Engine, value: &Value) {
    let Value { partition, row, ciphertext } = value;
    assert_eq!(why(open(engine, partition, row, ciphertext).await), "KEY_VERSION_DISABLED");
}

#[tokio::test]
async fn what_a_disabled_version_wraps_is_left_until_it_is_enabled_and_then_it_can_be_destroyed() {
    let (_place, engine) = Place::with_key().await;
    let (mut old, mut newer) = (Vec::new(), Vec::new());
    for partition in 0..30 {
        old.push(sealed(&engine, &format!("a{partition}"), 1).await);
    }
    rotate(&engine).await;
    for partition in 0..5 {
        newer.push(sealed(&engine, &format!("b{partition}"), 1).await);
    }
    rotate(&engine).await;
    change_state(&engine, 1, StateChange::Disable).await;
    start(&engine, 0).await;
    let done = ended(&engine).await;
    assert_eq!((done.state, done.moved, done.remaining), (RewrapState::Done, 5, 0));
    let number = VersionNumber::FIRST;
    let left = LeftBehind { version: number, state: KeyVersionState::Disabled, data_keys: 30 };
    assert_eq!(done.left, [left]);
    assert_eq!(status(&engine).await.versions[0].verdict, Verdict::InUseDisabled(30));
    join_all(old.iter().map(|value| is_disabled(&engine, value))).await;
    join_all(newer.iter().map(|value| opens(&engine, value))).await;

    // Disabled while a rewrap runs: what it still wraps stays where it is.
    change_state(&engine, 1, StateChange::Enable).await;
    start(&engine, 10).await;
    while job(&engine).await.moved == 0 {
        tokio::task::yield_now().await;
    }
    change_state(&engine, 1, StateChange::Disable).await;
    let kept = counts(&engine).await[&1].0;
    let done = ended(&engine).await;
    assert_eq!((done.state, done.moved), (RewrapState::Done, 30 - kept));
    assert!(kept > 0 && done.left[0].data_keys == kept, "{done:?}");
    assert_eq!(counts(&engine).await[&1].0, kept);
    counts_are_right(&engine).await;

    change_state(&engine, 1, StateChange::Enable).await;
    start(&engine, 0).await;
    assert_eq!(ended(&engine).await.moved, kept);
    assert_eq!(status(&engine).await.versions[0].verdict, Verdict::Safe);
    for version in [1, 2] {
        change_state(&engine, version, StateChange::ScheduleDestroy { data_keys_lost: 0 }).await;
    }
    join_all(old.iter().chain(&newer).map(|value| opens(&engine, value))).await;
    counts_are_right(&engine).await;
}

#[tokio::test]
async fn a_partition_whose_newest_data_key_was_left_behind_is_counted_once() {
    let (_place, engine) = Place::with_key().await;
    let first = sealed(&engine, "a", 1).await;
    rotate(&engine).await;
    let second = sealed(&engine, "a", 2).await;
    rotate(&engine).await;
    change_state(&engine, 2, StateChange::Disable).await;
    start(&engine, 0).await;
    assert_eq!(ended(&engine).await.state, RewrapState::Done);
    // The older one is under version 3 by now, the newest still under the disabled version 2.
    counts_are_right(&engine).await;
    let third = sealed(&engine, "a", 3).await;
    counts_are_right(&engine).await;
    change_state(&engine, 2, StateChange::Enable).await;
    for value in [&first, &second, &third] {
        opens(&engine, value).await;
    }
}

#[tokio::test]
async fn the_days_of_use_outlive_the_process() {
    let (place, engine) = Place::with_key().await;
    let value = sealed(&engine, "t", 1).await;
    let days = |status: &RotationStatus| {
        let version = &status.versions[0];
        [version.last_sealed, version.last_opened].map(|d| d.map(|day| day.to_string()))
    };
    let sealed_on = Some("2023-11-14".to_owned());
    assert_eq!(days(&status(&engine).await), [sealed_on.clone(), None]);
    place.clock.advance(Duration::from_secs(2 * 24 * 3600));
    opens(&engine, &value).await;
    let both = [sealed_on, Some("2023-11-16".to_owned())];
    assert_eq!(days(&status(&engine).await), both);
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    assert_eq!(days(&status(&engine).await), both);
    let used = events(&engine, AuditQuery::default()).await;
    assert_eq!(used.iter().filter(|event| event.kind == Some(Kind::VersionUsed)).count(), 1);
}

/// Seals, opens, rotates and rewraps at the same time, in an order that a seed decides.
async fn schedule(seed: u64) {
    let (_place, engine) = Place::with_key_and(|settings| {
        settings.store = StoreBackend::Memory;
        settings.keys.cached_data_keys = 16;
    })
    .await;
    let values = Arc::new(parking_lot::Mutex::new(Vec::<Arc<Value>>::new()));
    let (rotations, opened) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let workers = (0..6u64).map(|worker| {
        let (engine, values) = (engine.clone(), Arc::clone(&values));
        let (rotations, opened) = (Arc::clone(&rotations), Arc::clone(&opened));
        tokio::spawn(async move {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(worker) | 1;
            let mut next = move |below: usize| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random % below as u64) as usize
            };
            for step in 0..60 {
                match next(20) {
                    0 => {
                        rotate(&engine).await;
                        rotations.fetch_add(1, Ordering::Relaxed);
                    }
                    1 | 2 => {
                        let started = engine.start_rewrap(&caller("ops"), change("pii"), 0).await;
                        assert!(matches!(why(started), "OK" | "REWRAP_RUNNING"));
                    }
                    3 => {
                        let ended = engine.cancel_rewrap(&caller("ops"), change("pii")).await;
                        let ended = why(ended);
                        assert!(
                            matches!(ended, "OK" | "REWRAP_NOT_RUNNING" | "REWRAP_NOT_FOUND"),
                            "{ended}"
                        );
                    }
                    4..10 => {
                        let known = values.lock().get(next(200)).cloned();
                        if let Some(value) = known {
                            opens(&engine, &value).await;
                            opened.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    _ => {
                        let partition = format!("t{}", next(40));
                        let value = sealed(&engine, &partition, step).await;
                        values.lock().push(Arc::new(value));
                    }
                }
            }
        })
    });
    for worker in join_all(workers).await {
        worker.unwrap();
    }
    assert!(rotations.load(Ordering::Relaxed) > 3 && opened.load(Ordering::Relaxed) > 10);
    let values = values.lock().clone();
    everything_is_there(&engine, &values).await;
}

/// Another rotation and rewrap end with everything under one version.
async fn everything_is_there(engine: &Engine, values: &[Arc<Value>]) {
    ended_or_none(engine).await;
    rotate(engine).await;
    start(engine, 0).await;
    let done = ended(engine).await;
    assert_eq!(done.state, RewrapState::Done, "{done:?}");
    counts_are_right(engine).await;
    let after = counts(engine).await;
    let (primary, others) = after.iter().next_back().map(|(n, c)| (*n, *c)).unwrap();
    assert_eq!(primary, done.target.get());
    assert!(others.0 > 40, "{after:?}");
    assert!(after.iter().all(|(n, c)| *n == primary || *c == (0, 0)), "{after:?}");
    join_all(values.iter().map(|value| opens(engine, value))).await;
}

async fn ended_or_none(engine: &Engine) {
    if why(engine.rewrap_job(&caller("ops"), &pii()).await) == "OK" {
        ended(engine).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whatever_happens_at_the_same_time_nothing_is_lost_and_the_counts_are_right() {
    for seed in 1..=8 {
        schedule(seed).await;
    }
}
