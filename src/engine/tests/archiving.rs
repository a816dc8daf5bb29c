//! Archiving of a log that somebody elsewhere compares, or takes over.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use fieldseal_audit::Kind;
use fieldseal_engine::{
    AnchorTarget, ArchiveRequest, ArchiveTarget, Archiving, AuditQuery, Engine, Installation,
    Refusal, Retention, RetentionJob, RetentionState,
};
use fieldseal_model::{AccessReason, Timestamp};
use kit::{Place, caller, events, open, seal, why};

const DAY: Duration = Duration::from_secs(24 * 3600);

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
    settings.retention.archive = Some(ArchiveTarget::Directory(place.path("archive")));
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
    let nowhere = place.path("nowhere").join("archive");
    settings.retention.archive = Some(ArchiveTarget::Directory(nowhere));
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

/// How the schedule of the archive goes.
fn state(engine: &Engine) -> RetentionState {
    let mut all = engine.retention_states().into_iter();
    all.find(|state| state.job == RetentionJob::Archive).unwrap()
}

#[tokio::test]
async fn what_is_older_than_the_time_at_hand_moves_by_itself() {
    let mut archive = None;
    let (place, engine) = Place::with_key_and(|settings| {
        settings.audit.segment_bytes = 16 * 1024;
        let to = settings.audit.directory.with_file_name("above").join("archive");
        settings.retention.archive = Some(ArchiveTarget::Directory(to.clone()));
        settings.retention.at_hand = 92 * DAY;
        archive = Some(to);
    })
    .await;
    let archive = archive.unwrap();
    // The first segment is a large one.
    read(&engine, 1000).await;
    place.clock.advance(92 * DAY - Duration::from_secs(1));
    read(&engine, 400).await;
    assert_eq!((state(&engine).last, state(&engine).off), (None, None));
    let hour = Duration::from_secs(3600);
    assert_eq!(engine.retain().await, hour);
    let now = fieldseal_model::Clock::now(&*place.clock);
    let at_rest = state(&engine);
    assert_eq!((at_rest.last, at_rest.next), (Some(now), Some(now.plus(hour))));
    assert_eq!((at_rest.due, at_rest.failure), (0, None));
    assert_eq!(at_rest.before, Some(now.minus(92 * DAY)));
    assert_eq!(segments(&archive), 0, "nothing is so old");

    // What fails holds up nobody, is seen, and is tried again.
    place.clock.advance(Duration::from_secs(1));
    let before = segments(&place.path("audit"));
    assert_eq!(engine.retain().await, Duration::from_secs(600));
    let failed = state(&engine);
    assert_eq!(failed.failure, Some("ARCHIVE_UNAVAILABLE"));
    assert!(failed.due >= 1 && segments(&place.path("audit")) == before, "{failed:?}");
    read(&engine, 1).await;
    std::fs::create_dir(place.path("above")).unwrap();
    assert_eq!(engine.retain().await, hour);
    let done = state(&engine);
    assert_eq!((done.due, done.failure), (0, None));
    assert_eq!(segments(&archive) as u64, failed.due);
    assert!(segments(&place.path("audit")) > 1, "what is younger is at hand");

    let all = events(&engine, AuditQuery::default()).await;
    let said: Vec<_> = all.iter().filter(|e| e.kind == Some(Kind::SegmentsArchived)).collect();
    assert_eq!(said.len(), 1);
    let said = said.first().unwrap();
    assert_eq!((said.principal.as_str(), said.rule.as_str()), ("", "schedule"), "{said:?}");
    let records = engine.newest_checkpoint().tree_size;
    engine.retain().await;
    assert_eq!(
        engine.newest_checkpoint().tree_size,
        records,
        "nothing is due, and nothing is said"
    );
}

#[tokio::test]
async fn nothing_moves_by_itself_where_it_is_off_or_somebody_else_needs_it() {
    let to = |settings: &fieldseal_engine::Settings| {
        Some(ArchiveTarget::Directory(settings.audit.directory.with_file_name("archive")))
    };
    for (is_configured, at_hand) in [(false, 92 * DAY), (true, Duration::ZERO)] {
        let (place, engine) = Place::with_key_and(|settings| {
            settings.audit.segment_bytes = 16 * 1024;
            let archive = to(settings).filter(|_| is_configured);
            settings.retention = Retention { archive, at_hand, ..Retention::default() };
        })
        .await;
        read(&engine, 1000).await;
        place.clock.advance(1000 * DAY);
        engine.retain().await;
        let off = state(&engine);
        let why =
            if is_configured { "audit.at_hand_days is 0" } else { "no archive is configured" };
        assert!(off.off.is_some_and(|off| off.starts_with(why)), "{off:?}");
        assert_eq!((off.before, off.last), (None, None));
        assert!(!place.path("archive").exists());
    }
    let (place, engine) = Place::with_key_and(|settings| {
        settings.audit.segment_bytes = 16 * 1024;
        settings.retention =
            Retention { archive: to(settings), at_hand: DAY, ..Retention::default() };
        settings.anchors = vec![AnchorTarget::File(settings.audit.directory.join("anchor"))];
    })
    .await;
    engine.post_checkpoint().await;
    read(&engine, 1000).await;
    place.clock.advance(100 * DAY);
    engine.retain().await;
    let held = state(&engine);
    assert!(held.due >= 2 && held.failure.is_none(), "{held:?}");
    assert_eq!(segments(&place.path("archive")), 0);
    engine.post_checkpoint().await;
    engine.retain().await;
    assert_eq!(state(&engine).due, 0);
    assert_eq!(segments(&place.path("archive")) as u64, held.due);
}

/// Keeps files in its first argument.
const KEEPER: &str = r#"#!/bin/sh
set -e
case $2 in
  put) cat >"$1/$3" ;;
  get) [ ! -e "$1/$3" ] || cat "$1/$3" ;;
esac
"#;

#[tokio::test]
async fn a_program_keeps_them_and_what_does_not_come_back_stays() {
    let mut words = Vec::new();
    let (place, engine) = Place::with_key_and(|settings| {
        settings.audit.segment_bytes = 16 * 1024;
        let of = |name| settings.audit.directory.with_file_name(name).display().to_string();
        words = vec![of("keeper"), of("kept")];
        settings.retention.archive = Some(ArchiveTarget::Command(words.clone()));
        settings.retention.at_hand = DAY;
    })
    .await;
    std::fs::create_dir(place.path("kept")).unwrap();
    read(&engine, 1000).await;
    place.clock.advance(2 * DAY);
    let keeper = place.path("keeper");
    let install = |script: &str| {
        // A new file each time: one that is being run is not written to.
        let _none_yet = std::fs::remove_file(&keeper);
        std::fs::write(&keeper, script).unwrap();
        std::fs::set_permissions(&keeper, std::fs::Permissions::from_mode(0o700)).unwrap();
    };
    let at_hand = segments(&place.path("audit"));
    // It is not there; it fails; it forgets; it keeps the beginning; it says too much.
    let wrong = [
        None,
        Some("#!/bin/sh\necho no connection >&2\nexit 1\n".to_owned()),
        Some("#!/bin/sh\n[ $2 = get ] || cat >/dev/null\n".to_owned()),
        Some(KEEPER.replace("cat >", "head -c 50 >")),
        Some(KEEPER.replace("put)", "put) yes |head -c 100000;")),
    ];
    for script in wrong {
        if let Some(script) = &script {
            install(script);
        }
        engine.retain().await;
        let failed = state(&engine);
        assert_eq!(failed.failure, Some("ARCHIVE_UNAVAILABLE"), "{script:?}");
        assert_eq!(segments(&place.path("audit")), at_hand, "{script:?}");
        for kept in std::fs::read_dir(place.path("kept")).unwrap().map(|e| e.unwrap().path()) {
            std::fs::remove_file(kept).unwrap();
        }
    }
    let due = state(&engine).due;
    install(KEEPER);
    engine.retain().await;
    assert_eq!((state(&engine).due, state(&engine).failure), (0, None));
    assert_eq!(segments(&place.path("kept")) as u64, due);
    let key = std::fs::read_to_string(place.path("audit/log.pub")).unwrap();
    let key = fieldseal_audit::verify::public_key(&key).unwrap();
    let note = std::fs::read_to_string(place.path("kept/checkpoint")).unwrap();
    let end = fieldseal_audit::verify::remembered(&note, &key).unwrap();
    let found =
        fieldseal_audit::verify::report(&place.path("kept"), &key, Some(&end), |_| {}).unwrap();
    assert_eq!(found.verdict(), fieldseal_audit::verify::Verdict::Ok);
    assert_eq!(found.verified.records, end.size);
}
