//! Archiving of a log that somebody elsewhere compares, or takes over.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use std::path::Path;

use fieldseal_engine::{AnchorTarget, ArchiveRequest, Archiving, Engine, Installation, Refusal};
use fieldseal_model::{AccessReason, Timestamp};
use kit::{Place, caller, open, seal, why};

/// So many records, and a few.
async fn read(engine: &Engine, count: u32) {
    let (ciphertext, _) = seal(engine, "alice", "1", "x").await.unwrap();
    for _ in 0..count {
        open(engine, "alice", "1", &ciphertext).await.unwrap();
    }
}

async fn archive(
    engine: &Engine,
    who: &str,
    before: Timestamp,
    log: &str,
) -> Result<Archiving, Refusal> {
    let request = ArchiveRequest { log: log.to_owned(), before, validate_only: false };
    engine.archive_audit(&caller(who), request, &AccessReason::default()).await
}

fn segments(directory: &Path) -> usize {
    let names = std::fs::read_dir(directory).into_iter().flatten().map(|e| e.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|e| e == "log")).count()
}

#[tokio::test]
async fn what_an_anchor_was_not_told_of_stays_and_the_next_start_finds_its_checkpoint() {
    let place = Place::new().await;
    let mut settings = place.settings();
    settings.audit.segment_bytes = 16 * 1024;
    settings.archive = Some(place.path("archive"));
    settings.anchors = vec![AnchorTarget::File(place.path("anchor"))];
    let start = async || {
        let installation = Installation::new(settings.clone(), place.keyring());
        installation.start(place.clock.clone()).await.unwrap()
    };
    let engine = start().await;
    engine.create_key(&caller("ops"), kit::change("pii")).await.unwrap();
    // The first segment is a large one.
    read(&engine, 1000).await;
    engine.post_checkpoint().await;
    let posted = engine.anchor_states().into_iter().next().unwrap().posted.unwrap();
    read(&engine, 200).await;
    let before = segments(&place.path("audit"));
    assert!(before >= 4, "{before}");
    let now = fieldseal_model::Clock::now(&*place.clock);
    let done = archive(&engine, "ops", now, "").await.unwrap();
    assert!(done.archived.segments >= 1 && done.archived.end <= posted, "{done:?}");
    assert_eq!(segments(&place.path("archive")) as u64, done.archived.segments);
    assert!(segments(&place.path("audit")) >= 3, "what was not posted is here");
    engine.stop().await.unwrap();
    drop(engine);
    let engine = start().await;
    engine.post_checkpoint().await;
    let rest = archive(&engine, "ops", now, "").await.unwrap();
    assert!(rest.archived.first == done.archived.end && rest.archived.segments >= 2, "{rest:?}");
    engine.stop().await.unwrap();
    drop(engine);
    start().await.stop().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_archived_is_refused_by_its_reason_and_nothing_moves() {
    let (place, engine) = Place::with_key_and(|settings| {
        settings.audit.segment_bytes = 16 * 1024;
    })
    .await;
    read(&engine, 1000).await;
    let now = fieldseal_model::Clock::now(&*place.clock);
    assert_eq!(why(archive(&engine, "ops", now, "").await), "ARCHIVE_NOT_CONFIGURED");
    engine.stop().await.unwrap();
    drop(engine);
    let mut settings = place.settings();
    settings.audit.segment_bytes = 16 * 1024;
    // There is no directory above it.
    settings.archive = Some(place.path("nowhere").join("archive"));
    let installation = Installation::new(settings.clone(), place.keyring());
    let engine = installation.start(place.clock.clone()).await.unwrap();
    for who in ["app", "auditor", "privacy"] {
        assert_eq!(why(archive(&engine, who, now, "").await), "PERMISSION_DENIED", "{who}");
    }
    let later = Timestamp::from_unix_nanos(i64::MAX);
    assert_eq!(why(archive(&engine, "ops", later, "").await), "QUERY_INVALID");
    assert_eq!(why(archive(&engine, "ops", now, "logs/other").await), "LOG_NOT_FOUND");
    assert_eq!(why(archive(&engine, "ops", now, "").await), "ARCHIVE_UNAVAILABLE");
    assert!(place.path("audit/segment-00000000000000000000.log").exists());
}
