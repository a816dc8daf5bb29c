//! A change counts when its record is on disk: not before, and not never.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod kit;

use fieldseal_audit::{Health, Journal, JournalError};
use fieldseal_keys::{Changed, KeyError, Ledger, NewKey, Relation};
use fieldseal_model::{AccessReason, Action, KeySettings, Partition, SEAL_BLOCK};
use fieldseal_policy::Permit;
use fieldseal_store::{MemoryDisk, OutboxEntry};
use kit::{Place, Running, change, field};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

fn permit(action: Action) -> Permit {
    kit::permit(action, &Partition::default())
}

/// Asks for a key `pii` and gives the event that the store made of it.
async fn create(running: &mut Running) -> (JoinHandle<Result<Changed, KeyError>>, OutboxEntry) {
    let keys = running.keys.clone();
    let asked = async move { keys.create(&permit(Action::CreateKey), change()).await };
    let created = tokio::spawn(asked);
    (created, running.events.recv().await.unwrap())
}

fn exists(running: &Running) -> bool {
    running.keys.exists(&change().key)
}

#[tokio::test]
async fn a_change_that_finds_the_log_gone_changes_nothing() {
    let place = Place::new();
    let mut running = place.start().await;
    let away = place.dir.path().join("away");
    std::fs::rename(place.segment(), &away).unwrap();
    // Nobody noticed before: this change is the first to look.
    assert_eq!(running.journal.health(), Health::Ok);
    let refused = running.keys.create(&permit(Action::CreateKey), change()).await.err();
    assert!(matches!(refused, Some(KeyError::Journal(JournalError::Unavailable))), "{refused:?}");
    assert!(running.events.try_recv().is_err(), "the store was not touched");
    let mut health = running.journal.watch();
    std::fs::rename(&away, place.segment()).unwrap();
    health.wait_for(|health| *health == Health::Ok).await.unwrap();
    let (created, event) = create(&mut running).await;
    running.to_ledger.send(event).unwrap();
    assert!(created.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_change_waits_for_a_log_that_goes_away_and_is_visible_when_its_record_is_written() {
    let place = Place::new();
    let mut running = place.start().await;
    let (created, event) = create(&mut running).await;
    let away = place.dir.path().join("away");
    std::fs::rename(place.segment(), &away).unwrap();
    let mut health = running.journal.watch();
    running.to_ledger.send(event).unwrap();
    health.wait_for(|health| *health == Health::Missing).await.unwrap();
    assert!(!created.is_finished() && !exists(&running));
    // Nobody queues behind it for that long.
    let refused = running.keys.create(&permit(Action::CreateKey), change()).await.err();
    assert!(matches!(refused, Some(KeyError::Journal(_))), "{refused:?}");
    std::fs::rename(&away, place.segment()).unwrap();
    let changed = created.await.unwrap().unwrap();
    assert!(changed.receipt.is_some());
    assert!(exists(&running));
    let rotating = tokio::spawn({
        let keys = running.keys.clone();
        async move { keys.rotate(&permit(Action::RotateKey), change()).await }
    });
    running.to_ledger.send(running.events.recv().await.unwrap()).unwrap();
    assert_eq!(rotating.await.unwrap().unwrap().primary.get(), 2);
}

#[tokio::test]
async fn a_change_without_a_record_at_the_end_is_not_acknowledged_and_counts_at_the_next_start() {
    let place = Place::new();
    let mut running = place.start().await;
    let (created, event) = create(&mut running).await;
    running.journal.close().await.unwrap();
    running.to_ledger.send(event).unwrap();
    let ended = created.await.unwrap().err();
    assert!(matches!(ended, Some(KeyError::Unacknowledged)), "{ended:?}");
    assert!(!exists(&running));
    drop(running);
    let running = place.start().await;
    assert!(exists(&running));
    assert_eq!(running.journal.revision(), 1);
}

#[tokio::test]
async fn a_store_or_a_log_of_another_time_is_refused() {
    let place = Place::new();
    let mut running = place.start().await;
    let (created, event) = create(&mut running).await;
    running.to_ledger.send(event).unwrap();
    created.await.unwrap().unwrap();
    // The relay empties the outbox after its answer; it ends when it has done that.
    let Running { keys, store, journal, events, to_ledger } = running;
    drop((store, events, to_ledger));
    keys.finished().await;
    journal.close().await.unwrap();
    drop((keys, journal));
    let check = || async {
        let (store, journal) = (place.store(mpsc::unbounded_channel().0), place.journal());
        match Ledger::check(&store, &journal).await {
            Err(KeyError::Mismatch(found)) => found,
            other => panic!("{other:?}"),
        }
    };
    // An empty log beside the store: its outbox was emptied long ago.
    let (audit, kept) = (place.audit().directory, place.dir.path().join("kept"));
    std::fs::rename(&audit, &kept).unwrap();
    Journal::create(&place.audit(), &place.identity()).unwrap();
    let found = check().await;
    assert_eq!((found.relation, found.store.revision), (Relation::LogBehind, 1));
    std::fs::remove_dir_all(&audit).unwrap();
    std::fs::rename(&kept, &audit).unwrap();
    // An empty store beside the log.
    let newer = Place { disk: MemoryDisk::default(), ..place };
    let (store, journal) = (newer.store(mpsc::unbounded_channel().0), newer.journal());
    let refused = Ledger::check(&store, &journal).await.err();
    let Some(KeyError::Mismatch(found)) = refused else { panic!("{refused:?}") };
    assert_eq!((found.relation, found.store.revision), (Relation::StoreBehind, 0));
}

#[tokio::test]
async fn a_data_key_seals_as_many_values_as_its_key_says() {
    let place = Place::new();
    let mut running = place.start().await;
    let keys = running.keys.clone();
    let mut settings = KeySettings::default();
    settings.set_seal_limit(2 * SEAL_BLOCK).unwrap();
    let new = NewKey { change: change(), settings };
    let (reason, partition) = (AccessReason::default(), Partition::default());
    let (sealing, field) = (permit(Action::Encrypt), field());
    let work = async {
        keys.create(&permit(Action::CreateKey), new).await.unwrap();
        // A first block, a second one, and the first seal that is one too many.
        for (count, data_keys) in [(SEAL_BLOCK, 1), (SEAL_BLOCK - 1, 1), (1, 1), (1, 2)] {
            let count = u32::try_from(count).unwrap();
            let sealer = keys.sealer(&sealing, Action::Encrypt, &reason, &field, &partition, count);
            sealer.await.unwrap();
            assert_eq!(keys.statistics().data_keys_made, data_keys);
        }
    };
    running.with_relay(work).await;
}
