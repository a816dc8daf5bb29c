//! The end of a rotation: what a version wraps has moved, its window is over, and its key material is
//! gone from memory, store, files and generations, while every value still opens.

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
use fieldseal_engine::{AuditQuery, Engine};
use fieldseal_keys::{PartitionChange, PartitionState, RewrapState, StateChange, Verdict};
use fieldseal_model::{AccessReason, KeyVersionState, Partition, VersionNumber};
use kit::{Place, caller, change, events, found, open, seal, stored, why};

/// The kinds of the records of a key version and of a data key.
const VERSION: u8 = 3;
const DATA_KEY: u8 = 5;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// That of a key that says nothing else.
const DESTROY_WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
const FIRST: VersionNumber = VersionNumber::FIRST;

struct Value {
    partition: String,
    ciphertext: Bytes,
}

async fn sealed(engine: &Engine, partition: &str) -> Value {
    let (ciphertext, version) = seal(engine, partition, "1", partition).await.unwrap();
    assert_eq!(version, "keys/pii/versions/1");
    Value { partition: partition.to_owned(), ciphertext }
}

async fn all_open(engine: &Engine, values: &[Value]) {
    for Value { partition, ciphertext } in values {
        assert_eq!(open(engine, partition, "1", ciphertext).await.unwrap(), *partition);
    }
}

fn of(partition: &str, window: Duration) -> PartitionChange {
    PartitionChange {
        key: change("pii").key,
        partition: Partition::parse(partition).unwrap(),
        default_partition: false,
        window: Some(window),
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}

async fn rewrapped(engine: &Engine) -> u64 {
    engine.start_rewrap(&caller("ops"), change("pii"), 0).await.unwrap();
    loop {
        let job = engine.rewrap_job(&caller("ops"), &change("pii").key).await.unwrap();
        if job.state != RewrapState::Running {
            assert_eq!((job.state, job.remaining, job.left), (RewrapState::Done, 0, Vec::new()));
            return job.moved;
        }
        tokio::task::yield_now().await;
    }
}

/// State, data keys and verdict of version 1, as the census says.
async fn census(engine: &Engine) -> (KeyVersionState, u64, Verdict) {
    let status = engine.rotation_status(&caller("ops"), &change("pii").key).await.unwrap();
    let first = &status.versions[0];
    (first.state, first.totals.data_keys, first.verdict)
}

async fn of_kind(engine: &Engine, kind: Kind) -> Vec<fieldseal_audit::Event> {
    let all = events(engine, AuditQuery::default()).await;
    all.into_iter().filter(|event| event.kind == Some(kind)).collect()
}

async fn is_whole(engine: &Engine) {
    let scrubbed = engine.scrub().await.unwrap();
    assert_eq!(scrubbed.report.findings(), 0, "{}", scrubbed.report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_destroyed_at_the_end_of_its_window_after_a_rewrap_and_every_value_opens() {
    let (place, engine) = Place::with_key().await;
    let mut values = Vec::new();
    for partition in ["", "a", "b", "c", "d"] {
        values.push(sealed(&engine, partition).await);
    }
    // One is erased before, one waits for its erasure and is taken back afterwards.
    let erased = sealed(&engine, "erased").await;
    let waiting = sealed(&engine, "waiting").await;
    let ops = caller("ops");
    engine.shred_partition(&ops, of("erased", DAY)).await.unwrap();
    place.clock.advance(DAY);
    engine.run_due().await;
    engine.shred_partition(&ops, of("waiting", 80 * DAY)).await.unwrap();
    engine.make_generation().await.unwrap();
    engine.stop().await.unwrap();
    drop(engine);
    // The records that hold the wrapped key of version 1 and what it wraps.
    let mut before = stored(&place, VERSION).await;
    assert_eq!(before.len(), 1);
    before.extend(stored(&place, DATA_KEY).await);
    assert_eq!(before.len(), 1 + values.len() + 1);
    assert_eq!(found(place.dir.path(), &before), before.len());

    let engine = place.start().await;
    engine.rotate_key(&ops, change("pii")).await.unwrap();
    assert_eq!(rewrapped(&engine).await, values.len() as u64 + 1);
    assert_eq!(census(&engine).await, (KeyVersionState::Enabled, 0, Verdict::Safe));
    let destroy = StateChange::ScheduleDestroy { data_keys_lost: 0 };
    let scheduled = engine.change_key_version(&ops, change("pii"), FIRST, destroy).await.unwrap();
    let record = &of_kind(&engine, Kind::VersionDestroyScheduled).await[0];
    assert_eq!(record.index, scheduled.receipt.unwrap().index());
    all_open(&engine, &values).await;
    place.clock.advance(DESTROY_WINDOW - Duration::from_secs(1));
    engine.run_due().await;
    let state = KeyVersionState::DestroyScheduled;
    assert_eq!(census(&engine).await, (state, 0, Verdict::Scheduled(0)));
    // A restart on the way changes nothing: what it has seen of the window counts.
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    assert_eq!(census(&engine).await.0, state);
    place.clock.advance(Duration::from_secs(1));
    engine.run_due().await;
    let destroyed = (KeyVersionState::Destroyed, 0, Verdict::Destroyed(0));
    assert_eq!(census(&engine).await, destroyed);
    let records = of_kind(&engine, Kind::VersionDestroyed).await;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record.items[0].key_version, record.data_keys), (1, 0));
    all_open(&engine, &values).await;
    assert_eq!(why(open(&engine, "erased", "1", &erased.ciphertext).await), "PARTITION_SHREDDED");
    is_whole(&engine).await;
    engine.stop().await.unwrap();
    drop(engine);
    assert_eq!(found(place.dir.path(), &before), 0, "nothing of it is in any file");

    // The next process opens everything, and what is restored in time as well.
    let engine = place.start().await;
    all_open(&engine, &values).await;
    engine.restore_partition(&ops, of("waiting", DAY)).await.unwrap();
    all_open(&engine, &[waiting]).await;
    assert_eq!(census(&engine).await, destroyed);
    let key = &change("pii").key;
    let (view, receipt) =
        engine.partition(&ops, key, &Partition::parse("erased").unwrap()).await.unwrap();
    assert_eq!((view.state, receipt.signed().is_some()), (PartitionState::Erased, true));
    is_whole(&engine).await;
    engine.stop().await.unwrap();
}
