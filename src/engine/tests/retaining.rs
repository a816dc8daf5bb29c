//! Personal detail of the log goes by itself when its time is over, and when its partition is gone.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::time::Duration;

use fieldseal_audit::Kind;
use fieldseal_engine::{
    AnchorTarget, ArchiveTarget, AuditQuery, Engine, ExportTarget, Installation, KeptFor,
    RetentionJob, RetentionState, Settings,
};
use fieldseal_keys::PartitionChange;
use fieldseal_model::{AccessReason, Action, KeyName, Partition};
use kit::{Place, caller, change, events, field, open, open_as, seal, sealed};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn state(engine: &Engine, job: RetentionJob) -> RetentionState {
    engine.retention_states().into_iter().find(|state| state.job == job).unwrap()
}

/// How many records say that detail is erased, by this rule.
async fn said(engine: &Engine, rule: &str) -> usize {
    let query = AuditQuery { actions: vec![Action::RedactAuditEvents], ..AuditQuery::default() };
    let all = events(engine, query).await;
    all.iter().filter(|e| e.kind == Some(Kind::DetailsRedacted) && e.rule == rule).count()
}

/// How many events are about a partition.
async fn about(engine: &Engine, partition: &str) -> usize {
    let partition = Some(Partition::parse(partition).unwrap());
    // A question leaves the name again, in its own record.
    let actions = vec![Action::Decrypt, Action::ShredPartition];
    events(engine, AuditQuery { partition, actions, ..AuditQuery::default() }).await.len()
}

/// How many calls of this action are erased, and how many there are.
async fn erased(engine: &Engine, action: Action) -> (usize, usize) {
    let all = events(engine, AuditQuery { actions: vec![action], ..AuditQuery::default() }).await;
    (all.iter().filter(|event| event.redacted).count(), all.len())
}

#[tokio::test]
async fn each_class_goes_when_its_days_are_over_and_not_before() {
    let (place, engine) = Place::with_key_and(|settings| {
        let (calls, refusals) = (366 * DAY, 30 * DAY);
        let (questions, changes) = (10 * DAY, Duration::ZERO);
        settings.retention.kept = KeptFor { calls, refusals, questions, changes };
    })
    .await;
    let (ciphertext, _) = seal(&engine, "alice", "1", "x").await.unwrap();
    open(&engine, "alice", "1", &ciphertext).await.unwrap();
    let of = sealed("alice", "1", &ciphertext);
    open_as(&engine, "auditor", field("pii", "email"), of).await.unwrap_err();
    assert_eq!(erased(&engine, Action::Decrypt).await, (0, 2));
    let records = |engine: &Engine| engine.newest_checkpoint().tree_size;
    let before = records(&engine);
    engine.retain().await;
    assert_eq!(records(&engine), before, "nothing is over, and nothing is said");
    let redact = state(&engine, RetentionJob::Redact);
    let now = fieldseal_model::Clock::now(&*place.clock);
    assert_eq!((redact.due, redact.failure, redact.off), (0, None, None));
    assert_eq!((redact.before, redact.next), (Some(now.minus(10 * DAY)), Some(now.plus(DAY))));

    place.clock.advance(10 * DAY + Duration::from_secs(1));
    engine.retain().await;
    assert_eq!(said(&engine, "retention").await, 1);
    assert_eq!(erased(&engine, Action::Decrypt).await, (0, 2));
    let questions = erased(&engine, Action::QueryAuditEvents).await;
    assert!(
        questions.0 >= 1 && questions.1 > questions.0,
        "those of today are there: {questions:?}"
    );
    // It is not read again within a day.
    place.clock.advance(DAY - Duration::from_secs(1));
    engine.retain().await;
    assert_eq!(said(&engine, "retention").await, 1);
    place.clock.advance(20 * DAY);
    engine.retain().await;
    assert_eq!(erased(&engine, Action::Decrypt).await, (1, 2), "the refusal");
    place.clock.advance(335 * DAY);
    engine.retain().await;
    assert_eq!(erased(&engine, Action::Decrypt).await, (1, 2), "a day before");
    place.clock.advance(2 * DAY);
    engine.retain().await;
    assert_eq!(erased(&engine, Action::Decrypt).await, (2, 2));
    assert_eq!(about(&engine, "alice").await, 0);
    assert_eq!(open(&engine, "alice", "1", &ciphertext).await.unwrap(), "x");
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn nothing_goes_by_a_clock_that_jumped_ahead() {
    let (place, engine) = Place::with_key_and(|settings| settings.retention.kept.calls = DAY).await;
    let (ciphertext, _) = seal(&engine, "alice", "1", "x").await.unwrap();
    open(&engine, "alice", "1", &ciphertext).await.unwrap();
    let right = fieldseal_model::Clock::now(&*place.clock);
    engine.retain().await;
    place.clock.set(right.plus(700 * DAY));
    engine.retain().await;
    let held = state(&engine, RetentionJob::Redact);
    assert_eq!(held.failure, Some("CLOCK_JUMPED"));
    assert_eq!(erased(&engine, Action::Decrypt).await, (0, 1));
    engine.stop().await.unwrap();
    drop(engine);

    // Of a clock that is ahead at the start it is known from the newest record.
    place.clock.set(right.plus(1_400 * DAY));
    let mut settings = place.settings();
    settings.retention.kept.calls = DAY;
    let installation = fieldseal_engine::Installation::new(settings, place.keyring());
    let engine = installation.start(place.clock.clone()).await.unwrap();
    engine.retain().await;
    assert_eq!(state(&engine, RetentionJob::Redact).failure, Some("CLOCK_JUMPED"));
    assert_eq!(erased(&engine, Action::Decrypt).await, (0, 1));
    // It was right after all.
    place.clock.advance(7 * DAY);
    engine.retain().await;
    assert_eq!(state(&engine, RetentionJob::Redact).failure, None);
    assert_eq!(erased(&engine, Action::Decrypt).await, (1, 1));
    engine.stop().await.unwrap();
}

/// An anchor that was never told of anything may begin with any record.
#[tokio::test]
async fn nothing_is_erased_before_an_anchor_was_told_of_anything() {
    let (place, engine) = Place::with_key_and(|settings| {
        settings.retention.kept.calls = DAY;
        settings.anchors =
            vec![AnchorTarget::File(settings.audit.directory.with_file_name("anchor"))];
    })
    .await;
    let (ciphertext, _) = seal(&engine, "alice", "1", "x").await.unwrap();
    open(&engine, "alice", "1", &ciphertext).await.unwrap();
    place.clock.advance(2 * DAY);
    engine.retain().await;
    assert_eq!(state(&engine, RetentionJob::Redact).due, 1);
    assert_eq!(erased(&engine, Action::Decrypt).await, (0, 1));
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn what_an_anchor_or_an_export_needs_is_not_erased() {
    for is_export in [false, true] {
        let (place, engine) = Place::with_key_and(|settings| {
            settings.retention.kept.calls = DAY;
            let beside = |name| settings.audit.directory.with_file_name(name);
            match is_export {
                false => settings.anchors = vec![AnchorTarget::File(beside("anchor"))],
                // Nobody hands anything on here.
                true => settings.exports = vec![ExportTarget::File(beside("export"))],
            }
        })
        .await;
        engine.post_checkpoint().await;
        let (ciphertext, _) = seal(&engine, "alice", "1", "x").await.unwrap();
        open(&engine, "alice", "1", &ciphertext).await.unwrap();
        place.clock.advance(2 * DAY);
        engine.retain().await;
        let held = state(&engine, RetentionJob::Redact);
        assert_eq!((held.due, held.failure), (1, None));
        assert_eq!(erased(&engine, Action::Decrypt).await, (0, 1));
        engine.post_checkpoint().await;
        place.clock.advance(DAY);
        engine.retain().await;
        let left = u64::from(is_export);
        assert_eq!(state(&engine, RetentionJob::Redact).due, left);
        assert_eq!(erased(&engine, Action::Decrypt).await.0 as u64, 1 - left);
    }
}

#[tokio::test]
async fn what_moves_to_the_archive_is_erased_before() {
    let (place, engine) = Place::with_key_and(|settings| {
        settings.audit.segment_bytes = 16 * 1024;
        settings.retention.kept.calls = 2 * DAY;
        let archive = settings.audit.directory.with_file_name("archive");
        settings.retention.archive = Some(ArchiveTarget::Directory(archive));
        settings.retention.at_hand = 2 * DAY;
    })
    .await;
    let (ciphertext, _) = seal(&engine, "alice", "1", "x").await.unwrap();
    for _ in 0..1000 {
        open(&engine, "alice", "1", &ciphertext).await.unwrap();
    }
    place.clock.advance(2 * DAY - Duration::from_secs(60));
    // Within a day of this the log is not read by itself.
    engine.retain().await;
    assert_eq!(said(&engine, "retention").await, 0);
    place.clock.advance(Duration::from_secs(3600));
    engine.retain().await;
    assert_eq!(said(&engine, "retention").await, 1);
    let archived = |name: &str| place.path("archive").join(name).exists();
    assert!(archived("segment-00000000000000000000.log"));
    let key = std::fs::read_to_string(place.path("audit/log.pub")).unwrap();
    let key = fieldseal_audit::verify::public_key(&key).unwrap();
    let report =
        fieldseal_audit::verify::report(&place.path("archive"), &key, None, |_| {}).unwrap();
    // It has no record that says so: the log has it.
    assert_eq!(report.verdict(), fieldseal_audit::verify::Verdict::Tampered);
    let archives = [place.path("archive")];
    let files =
        fieldseal_audit::verify::Files { directory: &place.path("audit"), archives: &archives };
    let both = fieldseal_audit::verify::resume(files, &key, None, false, None, |_| {}).unwrap();
    assert_eq!(both.verdict(), fieldseal_audit::verify::Verdict::Redacted);
}

fn partition(key: &str, name: &str) -> PartitionChange {
    PartitionChange {
        key: KeyName::parse(key).unwrap(),
        partition: Partition::parse(name).unwrap(),
        default_partition: false,
        window: Some(DAY),
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}

#[tokio::test]
async fn a_shredded_partition_s_detail_goes_once_its_data_keys_are_gone() {
    let place = Place::new().await;
    let mut settings = place.settings();
    settings.keys.shred_window_least = Duration::ZERO;
    let start = async |settings: &Settings| {
        let installation = Installation::new(settings.clone(), place.keyring());
        installation.start(place.clock.clone()).await.unwrap()
    };
    let engine = start(&settings).await;
    engine.create_key(&caller("ops"), change("pii")).await.unwrap();
    let (ada, _) = seal(&engine, "ada", "1", "x").await.unwrap();
    let (bob, _) = seal(&engine, "bob", "1", "y").await.unwrap();
    open(&engine, "ada", "1", &ada).await.unwrap();
    open(&engine, "bob", "1", &bob).await.unwrap();
    engine.shred_partition(&caller("ops"), partition("pii", "ada")).await.unwrap();
    let off = state(&engine, RetentionJob::Shredded).off;
    assert_eq!(off, Some("audit.redact_shredded is false"));
    place.clock.advance(2 * DAY);
    engine.run_due().await;
    engine.retain().await;
    assert_eq!((about(&engine, "ada").await, said(&engine, "shredded").await), (3, 0));
    engine.stop().await.unwrap();
    drop(engine);

    // Switched on later, or after a crash, it finds in the log what is due.
    settings.retention.redact_shredded = true;
    let engine = start(&settings).await;
    engine.retain().await;
    assert_eq!(said(&engine, "shredded").await, 1);
    assert_eq!((about(&engine, "ada").await, about(&engine, "bob").await), (0, 1));
    let change = partition("pii", "ada");
    let shown = engine.partition(&caller("ops"), &change.key, &change.partition).await.unwrap();
    shown.1.signed().unwrap();

    // One that is shredded while it runs is not kept waiting for a day, nor erased before its window is over.
    engine.shred_partition(&caller("ops"), partition("pii", "bob")).await.unwrap();
    engine.retain().await;
    assert_eq!(about(&engine, "bob").await, 2);
    place.clock.advance(DAY);
    engine.run_due().await;
    engine.retain().await;
    assert_eq!((about(&engine, "bob").await, said(&engine, "shredded").await), (0, 2));
    engine.stop().await.unwrap();
}
