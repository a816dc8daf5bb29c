//! A redaction of the audit log, or an archiving, that waits for a second principal.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::time::Duration;

use bytes::Bytes;
use fieldseal_audit::{Event, Kind};
use fieldseal_engine::{
    ArchiveRequest, ArchiveTarget, AuditQuery, Engine, Redaction, RedactionRequest,
    RedactionSubject, Refusal, RefusalCause, Settings,
};
use fieldseal_keys::{Approval, ApprovalState, Approving, KeyError, LogSubject};
use fieldseal_model::{AccessReason, Action, Clock, Partition, Row, Table, Timestamp};
use kit::{Place, caller, events, open, reason, seal, why};

const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Operators redact too; `app` may approve and do nothing of what is asked for.
const RULES: &str = "@id(\"operators-redact\")\npermit (principal in Role::\"operator\", action in \
    Action::\"redact\", resource);\n@id(\"others-decide\")\npermit (principal == \
    Principal::\"spiffe://test/app\", action in [Action::\"ListApprovals\", \
    Action::\"ApproveChange\"], resource);\n";

fn wait(settings: &mut Settings) {
    let approving = Approving { redact: true, archive: true, ..Approving::default() };
    settings.keys.approving = approving;
}

/// Ada's value was read so often, and Bob's once.
async fn read(reads: usize) -> (Place, Engine, Bytes) {
    let (place, engine) = Place::with_key_and(wait).await;
    std::fs::write(place.path("policy/redact.cedar"), RULES).unwrap();
    engine.reload_policy(&caller("ops"), &reason()).await.unwrap();
    let (ada, _) = seal(&engine, "ada", "1", "of ada").await.unwrap();
    for _ in 0..reads {
        open(&engine, "ada", "1", &ada).await.unwrap();
    }
    let (bob, _) = seal(&engine, "bob", "1", "of bob").await.unwrap();
    open(&engine, "bob", "1", &bob).await.unwrap();
    place.clock.advance(Duration::from_secs(1));
    (place, engine, ada)
}

fn of(subject: RedactionSubject) -> RedactionRequest {
    RedactionRequest { log: String::new(), subject, end: None, validate_only: false }
}

fn ada() -> RedactionRequest {
    of(RedactionSubject::Partition(Partition::parse("ada").unwrap()))
}

async fn redact(
    engine: &Engine,
    who: &str,
    request: RedactionRequest,
) -> Result<Redaction, Refusal> {
    engine.redact_audit(&caller(who), request, &reason()).await
}

/// The id of the request that a refused change made or met, and the index of its record.
fn waits<T>(result: Result<T, Refusal>) -> (String, String) {
    let Err(refusal) = result else { panic!("it was done") };
    let RefusalCause::Key(error) = &refusal.cause else { panic!("{refusal:?}") };
    let KeyError::ApprovalRequired { id, .. } = &**error else { panic!("{refusal:?}") };
    (id.clone(), refusal.event.unwrap().to_string())
}

async fn one(engine: &Engine, id: &str) -> Approval {
    let one = engine.approvals(&caller("ops"), Some(id)).await.unwrap();
    one.into_iter().next().unwrap()
}

async fn approve(engine: &Engine, who: &str, id: &str) -> &'static str {
    let etag = one(engine, id).await.etag;
    why(engine.approve_change(&caller(who), id, &etag, &reason()).await)
}

async fn of_kind(engine: &Engine, kind: Kind) -> Vec<Event> {
    let all = events(engine, AuditQuery::default()).await;
    all.into_iter().filter(|event| event.kind == Some(kind)).collect()
}

async fn redacted(engine: &Engine) -> usize {
    events(engine, AuditQuery::default()).await.iter().filter(|event| event.redacted).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_redacts_alone_and_nobody_approves_what_he_may_not_or_asked_for_himself() {
    let (_place, engine, _) = read(3).await;
    let (id, _) = waits(redact(&engine, "ops", ada()).await);
    assert_eq!(approve(&engine, "ops", &id).await, "APPROVAL_OWN");
    // `app` may approve and not redact, `privacy` may redact and not approve.
    for who in ["app", "privacy", "auditor", "stranger"] {
        assert_eq!(approve(&engine, who, &id).await, "PERMISSION_DENIED", "{who}");
    }
    let altered = engine.approve_change(&caller("ops2"), &id, "0000", &reason()).await;
    assert_eq!(why(altered), "APPROVAL_ALTERED");
    let unknown = engine.approve_change(&caller("ops2"), "0123456789abcdef", "", &reason()).await;
    assert_eq!(why(unknown), "APPROVAL_NOT_FOUND");
    assert_eq!(redacted(&engine).await, 0);
    assert_eq!(one(&engine, &id).await.state, ApprovalState::Pending, "none of them used it up");
    engine.reject_change(&caller("ops"), &id, &reason()).await.unwrap();
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
    // What would be refused is refused at once, and only looking makes no request.
    let nobody = of(RedactionSubject::Partition(Partition::parse("nobody").unwrap()));
    assert_eq!(why(redact(&engine, "ops", nobody).await), "NOTHING_TO_REDACT");
    assert_eq!(why(redact(&engine, "auditor", ada()).await), "PERMISSION_DENIED");
    let look = RedactionRequest { validate_only: true, ..ada() };
    assert_eq!(why(redact(&engine, "ops", look).await), "OK");
    assert_eq!(engine.approvals(&caller("ops"), None).await.unwrap().len(), 1);
    assert_eq!(redacted(&engine).await, 0);
    assert!(of_kind(&engine, Kind::ApprovalGranted).await.is_empty());
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stand_on_the_record_and_no_record_of_it_says_whose_detail_went() {
    let (place, engine, ciphertext) = read(3).await;
    let look = RedactionRequest { validate_only: true, ..ada() };
    let would = redact(&engine, "ops", look).await.unwrap().redacted;
    let (id, event) = waits(redact(&engine, "ops", ada()).await);
    // The same again is the one that waits, whatever was read since; of a row it is another.
    open(&engine, "ada", "1", &ciphertext).await.unwrap();
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(waits(redact(&engine, "ops", ada()).await).0, id);
    let (table, row) = (Table::parse("users").unwrap(), Row::parse("1".to_owned()).unwrap());
    let row = waits(redact(&engine, "ops", of(RedactionSubject::Row(table, row))).await).0;
    assert_ne!(row, id);

    let seen = one(&engine, &id).await;
    let log = seen.log.unwrap();
    let LogSubject::Partition(token) = log.subject else { panic!("{log:?}") };
    assert_eq!((log.records, log.parts), (would.records, would.items));
    assert!(seen.key.is_none() && seen.partition.is_none() && seen.partition_token.is_none());
    // It is the token that the person's own events have.
    let about =
        AuditQuery { partition: Some(Partition::parse("ada").unwrap()), ..Default::default() };
    let events_of_ada = events(&engine, about).await;
    let items = events_of_ada.iter().flat_map(|event| &event.items);
    assert!(items.clone().count() > 0 && items.clone().all(|item| item.partition == token));

    let approved =
        engine.approve_change(&caller("ops2"), &id, &seen.etag, &reason()).await.unwrap();
    assert_eq!(approved.approval.state, ApprovalState::Approved);
    let both = format!("approvals/{id}, requested by spiffe://test/ops");
    let said = of_kind(&engine, Kind::DetailsRedacted).await;
    let [said] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((said.principal.as_str(), &said.note), ("spiffe://test/ops2", &both));
    assert_eq!((said.index, said.ticket.as_str()), (approved.receipt.index(), "CASE-1"));
    let granted = of_kind(&engine, Kind::ApprovalGranted).await;
    let [granted] = granted.as_slice() else { panic!("{granted:?}") };
    assert_eq!((granted.principal.as_str(), &granted.note), ("spiffe://test/ops2", &both));
    assert_eq!(granted.action, Some(Action::RedactAuditEvents));
    assert!(granted.index < said.index, "it is used up before anything is erased");
    let requested = of_kind(&engine, Kind::ApprovalRequested).await;
    let requested = requested.iter().find(|event| event.note == both).unwrap();
    assert_eq!(requested.principal, "spiffe://test/ops");
    assert!(event.ends_with(&format!("/{}", requested.index)), "{event}");
    for event in [requested, granted, said] {
        let mut items = event.items.iter();
        assert!(items.all(|i| i.partition.is_empty() && i.row.is_empty()), "{event:?}");
        assert!(event.end_user.is_empty());
    }
    // What was read after the request stands: nobody gets his own later traces erased.
    assert_eq!(redacted(&engine).await as u64, would.records);
    let about =
        AuditQuery { partition: Some(Partition::parse("ada").unwrap()), ..Default::default() };
    assert!(!events(&engine, about).await.is_empty());
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_outlives_a_restart_and_expires() {
    let (place, engine, _) = read(2).await;
    let until = of(RedactionSubject::Everybody);
    let until = RedactionRequest { end: Some(place.clock.now()), ..until };
    let (id, _) = waits(redact(&engine, "ops", until).await);
    let (late, _) = waits(redact(&engine, "ops", ada()).await);
    let etag = one(&engine, &id).await.etag;
    engine.stop().await.unwrap();
    drop(engine);
    let mut settings = place.settings();
    wait(&mut settings);
    let installation = fieldseal_engine::Installation::new(settings, place.keyring());
    let engine = installation.start(place.clock.clone()).await.unwrap();
    assert_eq!(one(&engine, &id).await.etag, etag);
    assert_eq!(one(&engine, &id).await.log.unwrap().subject, LogSubject::Everybody);
    assert_eq!(approve(&engine, "ops2", &id).await, "OK");
    let all = redacted(&engine).await;
    assert!(all >= 4, "{all}");
    // Nothing of hers is left; the request is used up, and its record is the answer to that.
    assert_eq!(approve(&engine, "ops2", &late).await, "NOTHING_TO_REDACT");
    assert_eq!(approve(&engine, "ops2", &late).await, "APPROVAL_CLOSED");

    seal(&engine, "ada", "2", "more").await.unwrap();
    let (sealed, _) = seal(&engine, "ada", "2", "more").await.unwrap();
    open(&engine, "ada", "2", &sealed).await.unwrap();
    place.clock.advance(Duration::from_secs(1));
    let (id, _) = waits(redact(&engine, "ops", ada()).await);
    place.clock.advance(LIFETIME);
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
    assert_eq!(one(&engine, &id).await.state, ApprovalState::Expired);
    assert_eq!(redacted(&engine).await, all);
    // A day later the request, and the token in it, is gone.
    place.clock.advance(LIFETIME);
    engine.run_due().await;
    assert!(engine.approvals(&caller("ops"), None).await.unwrap().is_empty());
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_who_approve_at_once_does_it() {
    let (_place, engine, _) = read(2).await;
    let (id, _) = waits(redact(&engine, "ops", ada()).await);
    let etag = one(&engine, &id).await.etag;
    let all = (0..8).map(|_| {
        let (engine, id, etag) = (engine.clone(), id.clone(), etag.clone());
        tokio::spawn(async move {
            why(engine.approve_change(&caller("ops2"), &id, &etag, &reason()).await)
        })
    });
    let mut done = 0;
    for each in all.collect::<Vec<_>>() {
        match each.await.unwrap() {
            "OK" => done += 1,
            "APPROVAL_CLOSED" | "REDACTION_RUNNING" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(of_kind(&engine, Kind::DetailsRedacted).await.len(), 1);
    assert_eq!(of_kind(&engine, Kind::ApprovalGranted).await.len(), 1);
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lost_the_right_meanwhile_has_asked_in_vain() {
    let (place, engine, _) = read(1).await;
    let (id, _) = waits(redact(&engine, "privacy", ada()).await);
    let etag = one(&engine, &id).await.etag;
    let members = place.path("policy/members.toml");
    let text = std::fs::read_to_string(&members).unwrap();
    std::fs::write(&members, text.replace("    \"spiffe://test/privacy\",\n", "")).unwrap();
    engine.reload_policy(&caller("ops2"), &reason()).await.unwrap();
    let approved = engine.approve_change(&caller("ops2"), &id, &etag, &reason()).await;
    assert_eq!(why(approved), "APPROVAL_OUTDATED");
    assert_eq!(redacted(&engine).await, 0);
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_wait_too() {
    let mut archive = None;
    let (place, engine) = Place::with_key_and(|settings| {
        wait(settings);
        settings.audit.segment_bytes = 16 * 1024;
        archive = Some(settings.audit.directory.with_file_name("archive"));
        settings.retention.archive = archive.clone().map(ArchiveTarget::Directory);
    })
    .await;
    let (ada, _) = seal(&engine, "ada", "1", "x").await.unwrap();
    for _ in 0..1000 {
        open(&engine, "ada", "1", &ada).await.unwrap();
    }
    let archive = archive.unwrap();
    let ask = async |before: Timestamp, validate_only| {
        let request = ArchiveRequest { log: String::new(), before, validate_only };
        engine.archive_audit(&caller("ops"), request, &AccessReason::default()).await
    };
    let now = place.clock.now();
    // With nothing to move nobody is asked.
    let old = ask(Timestamp::from_unix_nanos(1), false).await.unwrap();
    assert_eq!(old.archived.segments, 0);
    let would = ask(now, true).await.unwrap().archived;
    assert!(would.segments > 0);
    let (id, _) = waits(ask(now, false).await);
    assert_eq!(waits(ask(now, false).await).0, id);
    assert!(!archive.exists());
    let log = one(&engine, &id).await.log.unwrap();
    assert_eq!((log.subject, log.parts), (LogSubject::Segments, would.segments));
    assert_eq!(approve(&engine, "ops", &id).await, "APPROVAL_OWN");
    assert_eq!(approve(&engine, "ops2", &id).await, "OK");
    let said = of_kind(&engine, Kind::SegmentsArchived).await;
    let both = format!("approvals/{id}, requested by spiffe://test/ops");
    assert_eq!((said[0].principal.as_str(), &said[0].note), ("spiffe://test/ops2", &both));
    assert!(archive.exists());
    engine.stop().await.unwrap();
}
