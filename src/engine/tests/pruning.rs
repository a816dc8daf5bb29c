//! Backups whose time is over go, and the log tells of each before it goes.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use std::time::Duration;

use fieldseal_audit::Kind;
use fieldseal_engine::AuditQuery;
use fieldseal_engine::backup::{self, Keep, Recipients};
use kit::{Place, events};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_records_each_backup_that_it_removes() {
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let at = tempfile::tempdir().unwrap();
    let directory = at.path().to_owned();
    let (place, engine) = Place::with_key_and(|settings| {
        settings.backup = Some(backup::Settings {
            directory: directory.clone(),
            recipients: Recipients::parse([recipient.as_str()]).unwrap(),
            keep: Keep { daily: 0, weekly: 0, monthly: 0 },
            keyring: settings.audit.directory.with_file_name("keyring.json"),
        });
    })
    .await;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(engine.create_scheduled_backup().await.unwrap().manifest.name);
        place.clock.advance(DAY);
    }
    place.clock.advance(30 * DAY);
    engine.prune_backups().await.unwrap();
    let (left, _) = backup::list(&directory).unwrap();
    assert_eq!(left.iter().map(|one| &one.name).collect::<Vec<_>>(), [&names[2]]);
    let events = events(&engine, AuditQuery::default()).await;
    let recorded = || {
        let pruned = events.iter().filter(|e| e.kind == Some(Kind::BackupCreated));
        pruned.filter(|e| e.rule == "prune").map(|e| e.note.clone())
    };
    assert_eq!(recorded().count(), 2);
    for name in &names[..2] {
        assert!(recorded().any(|note| note.contains(name)), "{name}");
    }
    // Nothing is over any more, and nothing is recorded twice.
    engine.prune_backups().await.unwrap();
    let after = kit::events(&engine, AuditQuery::default()).await;
    assert_eq!(after.iter().filter(|e| e.rule == "prune").count(), 2);
    engine.stop().await.unwrap();
}
