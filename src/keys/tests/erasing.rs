//! An erasure that is cut off half way goes on where it was, and counts each data key once.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use std::time::Duration;

use fieldseal_audit::{ChangeEvent, ChangedBy, Journal, Kind, PageLimit, Query};
use fieldseal_keys::{
    KeyError, Keys, PartitionChange, PartitionChanged, PartitionState, PartitionStep,
};
use fieldseal_model::{AccessReason, Action, Partition, Timestamp};
use fieldseal_policy::Permit;
use fieldseal_store::{Store, Txn};
use kit::{Place, START_NANOS, change, field};

/// More than two transactions remove.
const DATA_KEYS: u64 = 90;
const DATA_KEY_CLASS: u8 = 5;
const PARTITION: fieldseal_store::Kind = fieldseal_store::Kind::new(4);

fn data_keys(place: &Place) -> usize {
    let entries = place.disk.entries();
    entries.iter().filter(|(path, _)| path.first() == Some(&DATA_KEY_CLASS)).count()
}

fn ada() -> Partition {
    Partition::parse("ada").unwrap()
}

fn permit(action: Action) -> Permit {
    kit::permit(action, &ada())
}

fn of_ada() -> PartitionChange {
    PartitionChange {
        key: field().key,
        partition: ada(),
        default_partition: false,
        window: None,
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}

/// Makes the key, and so many data keys of the partition, each under a version of its own.
async fn make_data_keys(keys: &Keys, count: u64) {
    keys.create(&permit(Action::CreateKey), change()).await.unwrap();
    for made in 0..count {
        if made > 0 {
            keys.rotate(&permit(Action::RotateKey), change()).await.unwrap();
        }
        let (permit, reason) = (permit(Action::Encrypt), AccessReason::default());
        keys.sealer(&permit, Action::Encrypt, &reason, &field(), &ada(), 1).await.unwrap();
    }
}

async fn shred(keys: &Keys) -> Result<PartitionChanged, KeyError> {
    let permit = permit(Action::ShredPartition);
    keys.change_partition(&permit, PartitionStep::Shred, of_ada()).await
}

/// How many data keys each event of this kind names, the oldest first.
fn named_in(journal: &Journal, kind: Kind) -> Vec<u64> {
    let size = journal.checkpoint().tree_size;
    let all = PageLimit { events: 10_000, bytes: usize::MAX };
    let page = journal.reader().page(&Query::default(), all, size, "").unwrap();
    // A page begins with the newest.
    let of_kind = page.events.iter().rev().filter(|event| event.kind == Some(kind));
    of_kind.map(|event| event.data_keys).collect()
}

async fn state(keys: &Keys) -> PartitionState {
    let permit = permit(Action::GetPartition);
    keys.view_partition(&permit, &field().key, &ada()).await.unwrap().state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_is_cut_off_goes_on_and_counts_each_data_key_once() {
    let place = Place::new();
    let mut running = place.start().await;
    let keys = running.keys.clone();
    let fill = async {
        make_data_keys(&keys, DATA_KEYS).await;
        shred(&keys).await.unwrap();
    };
    running.with_relay(fill).await;
    assert_eq!(data_keys(&place) as u64, DATA_KEYS);
    place.clock.advance(Duration::from_secs(8 * 24 * 3600));
    // The first transaction is in the store, and its process is killed before its record is written.
    let erasing = tokio::spawn(async move { keys.run_due().await });
    // The time seen comes before it.
    let tick = running.events.recv().await.unwrap();
    running.to_ledger.send(tick).unwrap();
    let first = running.events.recv().await.unwrap();
    let left = data_keys(&place) as u64;
    assert!(left > 0 && left < DATA_KEYS, "half way: {left}");
    running.kill().await;
    erasing.await.unwrap();

    let mut running = place.start().await;
    let keys = running.keys.clone();
    assert_eq!(state(&keys).await, PartitionState::Erasing);
    let half_way = keys.scrub().await.unwrap();
    assert_eq!(half_way.findings(), 0, "half way is no damage: {half_way}");
    assert_eq!(data_keys(&place) as u64, left);
    running.with_relay(keys.run_due()).await;
    assert_eq!(state(&keys).await, PartitionState::Erased);
    assert_eq!(data_keys(&place), 0);
    let view = keys.view_partition(&permit(Action::GetPartition), &field().key, &ada()).await;
    assert_eq!(view.unwrap().erased.unwrap().data_keys, DATA_KEYS);
    let reader = running.journal.reader();
    let size = running.journal.checkpoint().tree_size;
    let all = PageLimit { events: 10_000, bytes: usize::MAX };
    let page = reader.page(&Query::default(), all, size, "").unwrap();
    let erasures = page.events.iter().filter(|event| event.kind == Some(Kind::PartitionErased));
    assert_eq!(erasures.count(), 3, "one for each transaction, that of the killed one too");
    assert_eq!(reader.record_of(first.revision).unwrap().map(|at| at < size), Some(true));
    // Counts and data keys agree.
    assert_eq!(keys.scrub().await.unwrap().findings(), 0);
    running.kill().await;
}

/// A decrypt may have read a data key's record just before that left the store. Were the partition's
/// state forgotten while it goes on, it would take the partition for an open one.
#[tokio::test]
async fn a_partition_stays_closed_until_the_calls_that_began_before_its_erasure_are_over() {
    let place = Place::new();
    let mut running = place.start().await;
    let (keys, journal) = (running.keys.clone(), running.journal.clone());
    let work = async {
        make_data_keys(&keys, 1).await;
        shred(&keys).await.unwrap();
        place.clock.advance(Duration::from_secs(8 * 24 * 3600));
        let reading = keys.enter();
        let erasing = tokio::spawn({
            let keys = keys.clone();
            async move { keys.run_due().await }
        });
        while named_in(&journal, Kind::PartitionErased).is_empty() {
            tokio::task::yield_now().await;
        }
        // Whatever follows the record without waiting for anybody happens now.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!((data_keys(&place), state(&keys).await), (0, PartitionState::Erased));
        assert!(!erasing.is_finished());
        assert_eq!(keys.statistics().partitions_shredding, 1, "still closed in memory");
        drop(reading);
        erasing.await.unwrap();
        assert_eq!(keys.statistics().partitions_shredding, 0);
    };
    running.with_relay(work).await;
    drop((keys, journal));
    running.kill().await;
}

/// More data keys than one record of the log names: the rest follows, though a rewrap writes to the
/// partition in between, and though the process ends in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_names_every_data_key_of_a_shred_whatever_comes_between_its_records() {
    const DATA_KEYS: u64 = 512 + 8;
    let place = Place::new();
    let mut running = place.start().await;
    let keys = running.keys.clone();
    running.with_relay(make_data_keys(&keys, DATA_KEYS)).await;
    let shred = |keys: Keys| async move { shred(&keys).await };
    let shredding = tokio::spawn(shred(keys.clone()));
    let first = running.events.recv().await.unwrap();
    write_again(&running.store).await;
    running.to_ledger.send(first).unwrap();
    let changed = running.with_relay(shredding).await.unwrap().unwrap();
    assert!(changed.receipt.is_some());
    assert_eq!(named_in(&running.journal, Kind::PartitionShredded), [512, 8]);
    let restored = permit(Action::RestorePartition);
    let restoring = keys.change_partition(&restored, PartitionStep::Restore, of_ada());
    running.with_relay(restoring).await.unwrap();
    assert_eq!(named_in(&running.journal, Kind::PartitionRestored), [512, 8]);

    let shredding = tokio::spawn(shred(keys.clone()));
    let _in_the_store = running.events.recv().await.unwrap();
    drop(keys);
    running.kill().await;
    assert!(shredding.await.unwrap().is_err(), "nobody was told that it is done");
    let mut running = place.start().await;
    let keys = running.keys.clone();
    assert_eq!(named_in(&running.journal, Kind::PartitionShredded), [512, 8, 512]);
    for _ in 0..2 {
        running.with_relay(keys.run_due()).await;
        assert_eq!(named_in(&running.journal, Kind::PartitionShredded), [512, 8, 512, 8]);
    }
    assert_eq!(state(&keys).await, PartitionState::Shredding);

    // A restore that is cut off is as open as a whole one, and its rest follows too.
    let restoring = tokio::spawn({
        let keys = keys.clone();
        let permit = permit(Action::RestorePartition);
        async move { keys.change_partition(&permit, PartitionStep::Restore, of_ada()).await }
    });
    let _in_the_store = running.events.recv().await.unwrap();
    drop(keys);
    running.kill().await;
    assert!(restoring.await.unwrap().is_err(), "nobody was told that it is done");
    let mut running = place.start().await;
    let keys = running.keys.clone();
    assert_eq!(state(&keys).await, PartitionState::Open);
    assert_eq!(keys.statistics().partitions_shredding, 0);
    assert_eq!(named_in(&running.journal, Kind::PartitionRestored), [512, 8, 512]);
    assert_eq!(keys.scrub().await.unwrap().findings(), 0, "before the rest is logged");
    for _ in 0..2 {
        running.with_relay(keys.run_due()).await;
        assert_eq!(named_in(&running.journal, Kind::PartitionRestored), [512, 8, 512, 8]);
    }
    assert_eq!(by_itself(&running.journal, Kind::PartitionRestored), ["RestorePartition"]);
    assert_eq!(by_itself(&running.journal, Kind::PartitionShredded), ["ShredPartition"]);
    assert_eq!(keys.scrub().await.unwrap().findings(), 0);
    drop(keys);
    running.kill().await;
    // Nothing of it is left to do.
    let mut running = place.start().await;
    let keys = running.keys.clone();
    running.with_relay(keys.run_due()).await;
    assert_eq!(named_in(&running.journal, Kind::PartitionRestored), [512, 8, 512, 8]);
    drop(keys);
    running.kill().await;
}

/// The actions of the events of this kind that the sidecar wrote because a change was cut off.
fn by_itself(journal: &Journal, kind: Kind) -> Vec<&'static str> {
    let size = journal.checkpoint().tree_size;
    let all = PageLimit { events: 10_000, bytes: usize::MAX };
    let page = journal.reader().page(&Query::default(), all, size, "").unwrap();
    let own = page.events.into_iter().filter(|e| e.kind == Some(kind) && e.rule == "cut-off");
    own.map(|event| event.action.unwrap().as_str()).collect()
}

/// Writes the partition's record as it is, as a rewrap does.
async fn write_again(store: &Store) {
    let key = field().key;
    let parts = [key.as_str().as_bytes(), b"ada".as_slice()];
    let path = store.path(PARTITION, &parts);
    let found = store.get(&path).await.unwrap().unwrap();
    let event = ChangeEvent::new(
        ChangedBy::Itself(Action::RewrapDataKeys, "test"),
        Timestamp::from_unix_nanos(START_NANOS),
        Kind::DataKeysRewrapped,
        Some(&key),
    );
    let txn = Txn::new(Box::new(move |revision, anchor| event.encode(revision, anchor)));
    store.txn(txn.at(path.clone(), found.revision).put(path, found.value.to_vec())).await.unwrap();
}
