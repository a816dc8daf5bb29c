//! Backups whose time is over go, and the log tells of each before it goes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::time::Duration;

use fieldseal_audit::{Event, Kind};
use fieldseal_engine::backup::{self, Keep, Recipients};
use fieldseal_engine::{AuditQuery, Engine, Settings};
use fieldseal_model::{AccessReason, Principal, Purpose, Ticket};
use kit::{Place, caller, events, why};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An installation whose backups are over after two days.
struct Backed {
    place: Place,
    settings: Settings,
    engine: Engine,
    /// The names of three backups, of which the newest is over too.
    names: Vec<String>,
    _at: tempfile::TempDir,
}

async fn backed() -> Backed {
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let at = tempfile::tempdir().unwrap();
    let (mut settings, directory) = (None, at.path().to_owned());
    let (place, engine) = Place::with_key_and(|of| {
        of.backup = Some(backup::Settings {
            directory,
            recipients: Recipients::parse([recipient.as_str()]).unwrap(),
            keep: Keep { daily: 0, weekly: 0, monthly: 0 },
            keyring: of.audit.directory.with_file_name("keyring.json"),
        });
        settings = Some(of.clone());
    })
    .await;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(engine.create_scheduled_backup().await.unwrap().manifest.name);
        place.clock.advance(DAY);
    }
    place.clock.advance(30 * DAY);
    Backed { place, settings: settings.unwrap(), engine, names, _at: at }
}

impl Backed {
    fn left(&self) -> Vec<String> {
        let (left, _) = backup::list(&self.settings.backup.as_ref().unwrap().directory).unwrap();
        left.into_iter().map(|one| one.name).collect()
    }
}

async fn pruned(engine: &Engine) -> Vec<Event> {
    let mut all = events(engine, AuditQuery::default()).await;
    all.retain(|event| event.kind == Some(Kind::BackupPruned));
    all.sort_by_key(|event| event.index);
    all
}

fn reason() -> AccessReason {
    AccessReason {
        purpose: Purpose::parse("space").unwrap(),
        ticket: Ticket::parse("OPS-7").unwrap(),
        end_user: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_records_each_backup_that_it_removes() {
    let backed = backed().await;
    let (engine, names) = (&backed.engine, &backed.names);
    engine.prune_by_schedule().await.unwrap();
    assert_eq!(backed.left(), names[2..], "the newest stays, over or not");
    let told = pruned(engine).await;
    assert_eq!(told.len(), 2);
    for (event, name) in told.iter().zip(names) {
        assert!(event.note.contains(name), "{}", event.note);
        assert_eq!((event.rule.as_str(), event.principal.as_str()), ("schedule", ""));
    }
    // Nothing is over any more, and nothing is recorded twice.
    engine.prune_by_schedule().await.unwrap();
    assert_eq!(pruned(engine).await.len(), 2);
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_s_pruning_is_on_record_and_a_look_changes_nothing() {
    let backed = backed().await;
    let (engine, names) = (&backed.engine, &backed.names);
    let denied = engine.prune_backups(&caller("app"), &reason(), false).await;
    assert_eq!(why(denied), "PERMISSION_DENIED");
    let seen = engine.prune_backups(&caller("ops"), &reason(), true).await.unwrap();
    assert_eq!((seen.removed.len(), seen.kept.len(), seen.receipts.len()), (2, 1, 0));
    assert_eq!((&backed.left(), pruned(engine).await.len()), (names, 0));
    let done = engine.prune_backups(&caller("ops"), &reason(), false).await.unwrap();
    assert_eq!(backed.left(), names[2..]);
    let told = pruned(engine).await;
    let indices: Vec<_> = done.receipts.iter().map(|receipt| receipt.index()).collect();
    assert_eq!(told.iter().map(|event| event.index).collect::<Vec<_>>(), indices);
    for event in told {
        assert_eq!(event.principal, "spiffe://test/ops");
        assert_eq!((event.purpose.as_str(), event.ticket.as_str()), ("space", "OPS-7"));
    }
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_a_stopped_installation_is_on_record_as_the_local_user() {
    let Backed { place, settings, engine, names, _at } = backed().await;
    engine.stop().await.unwrap();
    drop(engine);
    let local = Principal::parse("local:1000").unwrap();
    let clock = place.clock.clone();
    let keyring = place.keyring();
    let done = backup::prune_stopped(settings.clone(), keyring, clock, local, reason()).await;
    let removed: Vec<_> = done.unwrap().removed.into_iter().map(|one| one.name).collect();
    assert_eq!(removed, names[..2]);
    let engine = place.start().await;
    let told = pruned(&engine).await;
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|event| event.principal == "local:1000"));
    engine.stop().await.unwrap();
}
