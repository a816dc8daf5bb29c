//! What cannot be taken back waits for a second principal.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;
mod restored;

use std::time::Duration;

use age::x25519;
use fieldseal_audit::{Event, Kind};
use fieldseal_engine::{AuditQuery, Caller, Engine, Installation, Refusal, RefusalCause};
use fieldseal_keys::{
    Approval, ApprovalState, Approving, KeyError, PENDING_OF_ONE, PartitionChange, PartitionState,
    StateChange,
};
use fieldseal_model::{AccessReason, Clock, KeyName, KeyVersionState, Partition, VersionNumber};
use kit::{Place, caller, change, events, open, reason, seal, why};

const HOUR: Duration = Duration::from_secs(3600);
const FIRST: VersionNumber = VersionNumber::FIRST;
const BOTH: Approving = Approving {
    destroy: true,
    shred: true,
    redact: false,
    archive: false,
    lifetime: Duration::from_secs(24 * 3600),
};

async fn started() -> (Place, Engine) {
    let (place, engine) = Place::with_key_and(|settings| settings.keys.approving = BOTH).await;
    seal(&engine, "ada", "1", "of ada").await.unwrap();
    seal(&engine, "bob", "1", "of bob").await.unwrap();
    (place, engine)
}

async fn restarted(place: &Place, engine: Engine) -> Engine {
    engine.stop().await.unwrap();
    drop(engine);
    let mut settings = place.settings();
    settings.keys.approving = BOTH;
    let installation = Installation::new(settings, place.keyring());
    installation.start(place.clock.clone()).await.unwrap()
}

fn of(partition: &str) -> PartitionChange {
    PartitionChange {
        key: change("pii").key,
        partition: Partition::parse(partition).unwrap(),
        default_partition: false,
        window: None,
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}

/// The id of the request that a refused change made or met, and the index of its record.
fn waits<T>(result: Result<T, Refusal>) -> (String, String) {
    let Err(refusal) = result else { panic!("it was done") };
    let RefusalCause::Key(error) = &refusal.cause else { panic!("{refusal:?}") };
    let KeyError::ApprovalRequired { id, .. } = &**error else { panic!("{refusal:?}") };
    (id.clone(), refusal.event.unwrap().to_string())
}

async fn shred(engine: &Engine, partition: &str) -> String {
    waits(engine.shred_partition(&caller("ops"), of(partition)).await).0
}

async fn one(engine: &Engine, id: &str) -> Approval {
    let one = engine.approvals(&caller("ops"), Some(id)).await.unwrap();
    one.into_iter().next().unwrap()
}

async fn approve(engine: &Engine, who: &str, id: &str) -> &'static str {
    let etag = one(engine, id).await.etag;
    why(engine.approve_change(&caller(who), id, &etag, &reason()).await)
}

async fn state(engine: &Engine, partition: &str) -> PartitionState {
    let (key, partition) = (KeyName::parse("pii").unwrap(), Partition::parse(partition).unwrap());
    engine.partition(&caller("ops"), &key, &partition).await.unwrap().0.state
}

async fn of_kind(engine: &Engine, kind: Kind) -> Vec<Event> {
    let all = events(engine, AuditQuery::default()).await;
    all.into_iter().filter(|event| event.kind == Some(kind)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_approves_what_he_may_not_or_asked_for_himself() {
    let (_place, engine) = started().await;
    let id = shred(&engine, "ada").await;
    assert_eq!(approve(&engine, "ops", &id).await, "APPROVAL_OWN");
    // The same name on another connection is the same principal.
    let again = Caller { principal: caller("ops").principal };
    let etag = one(&engine, &id).await.etag;
    let own = engine.approve_change(&again, &id, &etag, &reason()).await;
    assert_eq!(why(own), "APPROVAL_OWN");
    for who in ["app", "auditor", "stranger"] {
        assert_eq!(approve(&engine, who, &id).await, "PERMISSION_DENIED", "{who}");
        let rejected = engine.reject_change(&caller(who), &id, &reason()).await;
        assert_eq!(why(rejected), "PERMISSION_DENIED", "{who}");
        assert_eq!(why(engine.approvals(&caller(who), None).await), "PERMISSION_DENIED", "{who}");
    }
    for unknown in ["0123456789abcdef", "x", ""] {
        let found = engine.approve_change(&caller("ops2"), unknown, "", &reason()).await;
        assert_eq!(why(found), "APPROVAL_NOT_FOUND", "{unknown}");
    }
    assert_eq!(state(&engine, "ada").await, PartitionState::Open);
    let failed = events(&engine, AuditQuery::default()).await;
    let failed = failed.iter().flat_map(|event| &event.items);
    let own = failed.filter(|item| item.cause == "APPROVAL_OWN");
    assert_eq!(own.count(), 2, "on record");
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shred_waits_over_a_restart_and_happens_once_with_both_on_record() {
    let (place, engine) = started().await;
    let (ada, _) = seal(&engine, "ada", "2", "more of ada").await.unwrap();
    let mut dry = of("ada");
    dry.validate_only = true;
    assert_eq!(why(engine.shred_partition(&caller("ops"), dry).await), "OK");
    let (id, event) = waits(engine.shred_partition(&caller("ops"), of("ada")).await);
    assert_eq!(open(&engine, "ada", "2", &ada).await.unwrap(), "more of ada");
    // The same again is the one that waits; in other words it is another.
    let (again, failed) = waits(engine.shred_partition(&caller("ops"), of("ada")).await);
    assert_eq!(again, id);
    assert_ne!(failed, event);
    let mut other = of("ada");
    other.reason = reason();
    assert_ne!(waits(engine.shred_partition(&caller("ops"), other).await).0, id);
    let engine = restarted(&place, engine).await;
    let waiting = one(&engine, &id).await;
    assert_eq!(waiting.state, ApprovalState::Pending);
    assert_eq!(waiting.partition.unwrap().as_str(), "ada");
    assert_eq!(approve(&engine, "ops2", &id).await, "OK");
    assert_eq!(why(open(&engine, "ada", "2", &ada).await), "PARTITION_SHREDDED");
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
    let engine = restarted(&place, engine).await;
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
    let rejected = engine.reject_change(&caller("ops2"), &id, &reason()).await;
    assert_eq!(why(rejected), "APPROVAL_CLOSED");
    let done = one(&engine, &id).await;
    assert_eq!(done.state, ApprovalState::Approved);
    assert_eq!(done.decider.unwrap(), caller("ops2").principal);

    let both = format!("approvals/{id}, requested by spiffe://test/ops");
    let shredded = of_kind(&engine, Kind::PartitionShredded).await;
    let [shredded] = shredded.as_slice() else { panic!("{shredded:?}") };
    assert_eq!((shredded.principal.as_str(), &shredded.note), ("spiffe://test/ops2", &both));
    assert_eq!(shredded.ticket, "CASE-1");
    let requested = of_kind(&engine, Kind::ApprovalRequested).await;
    let first = requested.iter().find(|event| event.note == both).unwrap();
    assert_eq!(first.principal, "spiffe://test/ops");
    assert!(event.ends_with(&format!("/{}", first.index)), "{event}");
    assert_eq!(requested.len(), 2);
    // The other one was of a partition that is not what it was.
    let other = requested.iter().find(|event| event.note != both).unwrap();
    let other = &other.note["approvals/".len().."approvals/".len() + 16];
    assert_eq!(approve(&engine, "ops2", other).await, "APPROVAL_OUTDATED");
    assert_eq!(engine.scrub().await.unwrap().report.findings(), 0);
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destruction_waits_too_and_binds_the_key_as_it_was() {
    let (place, engine) = started().await;
    let ops = caller("ops");
    engine.rotate_key(&ops, change("pii")).await.unwrap();
    let destroy = |lost| StateChange::ScheduleDestroy { data_keys_lost: lost };
    let ask = async |engine: &Engine, lost| {
        engine.change_key_version(&ops, change("pii"), FIRST, destroy(lost)).await
    };
    // What would be refused is refused at once.
    assert_eq!(why(ask(&engine, 0).await), "DATA_KEYS_WOULD_BE_LOST");
    let id = waits(ask(&engine, 2).await).0;
    let engine = restarted(&place, engine).await;
    assert_eq!(waits(ask(&engine, 2).await).0, id, "it is the same after a restart");
    engine.rotate_key(&ops, change("pii")).await.unwrap();
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_OUTDATED");
    let id = waits(ask(&engine, 2).await).0;
    let altered = engine.approve_change(&caller("ops2"), &id, "0000", &reason()).await;
    assert_eq!(why(altered), "APPROVAL_ALTERED");
    assert_eq!(approve(&engine, "ops2", &id).await, "OK");
    let key = engine.key(&ops, &change("pii").key).await.unwrap();
    assert_eq!(key.versions[0].state, KeyVersionState::DestroyScheduled);
    let record = &of_kind(&engine, Kind::VersionDestroyScheduled).await[0];
    assert_eq!(record.principal, "spiffe://test/ops2");
    assert_eq!(record.note, format!("approvals/{id}, requested by spiffe://test/ops"));
    // What can be taken back needs nobody else.
    let restored = engine.change_key_version(&ops, change("pii"), FIRST, StateChange::Restore);
    assert_eq!(why(restored.await), "OK");
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_expires_and_a_clock_that_goes_back_gives_no_time() {
    let (place, engine) = started().await;
    let id = shred(&engine, "ada").await;
    place.clock.advance(BOTH.lifetime - Duration::from_secs(1));
    assert_eq!(one(&engine, &id).await.state, ApprovalState::Pending);
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(one(&engine, &id).await.state, ApprovalState::Expired);
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
    let rejected = engine.reject_change(&caller("ops2"), &id, &reason()).await;
    assert_eq!(why(rejected), "APPROVAL_CLOSED");
    let next = shred(&engine, "ada").await;
    assert_ne!(next, id);
    // A day later what is over is gone, by itself.
    place.clock.advance(24 * HOUR);
    engine.run_due().await;
    let removed = of_kind(&engine, Kind::ApprovalsRemoved).await;
    let notes: Vec<_> = removed.iter().map(|event| event.note.as_str()).collect();
    assert_eq!(notes, ["1 that were over"]);
    let last = shred(&engine, "bob").await;
    let kept = engine.approvals(&caller("ops"), None).await.unwrap();
    let kept: Vec<_> = kept.into_iter().map(|approval| approval.id).collect();
    assert_eq!(kept, [last, next]);
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_expired_once_is_so_for_good_whatever_the_clock_says_later() {
    let (place, engine) = started().await;
    let began = place.clock.now();
    // Its time passed, and the clock was turned back before anybody looked.
    let id = shred(&engine, "ada").await;
    place.clock.advance(BOTH.lifetime);
    place.clock.set(began.plus(HOUR));
    assert_eq!(one(&engine, &id).await.state, ApprovalState::Expired);
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
    // The clock alone went there and back: whoever looked meanwhile, or the job, closed it.
    let late = began.plus(HOUR + BOTH.lifetime);
    let tried = shred(&engine, "ada").await;
    place.clock.set(late);
    assert_eq!(approve(&engine, "ops2", &tried).await, "APPROVAL_CLOSED");
    place.clock.set(began.plus(HOUR));
    let left = shred(&engine, "bob").await;
    place.clock.set(late);
    engine.run_due().await;
    place.clock.set(began.plus(HOUR));
    let engine = restarted(&place, engine).await;
    for id in [&id, &tried, &left] {
        assert_eq!(approve(&engine, "ops2", id).await, "APPROVAL_CLOSED");
        assert_eq!(one(&engine, id).await.state, ApprovalState::Expired);
    }
    let expired = of_kind(&engine, Kind::ApprovalExpired).await;
    let notes: Vec<_> = expired.iter().map(|event| event.note.as_str()).collect();
    for id in [id, tried, left] {
        let note = format!("approvals/{id}, requested by spiffe://test/ops");
        assert_eq!(notes.iter().filter(|found| **found == note).count(), 1, "{notes:?}");
    }
    assert_eq!(state(&engine, "ada").await, PartitionState::Open);
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_that_passed_is_noted_while_a_request_waits() {
    let (place, engine) = started().await;
    let began = place.clock.now();
    let id = shred(&engine, "ada").await;
    place.clock.advance(BOTH.lifetime - HOUR);
    engine.run_due().await;
    let ticks = of_kind(&engine, Kind::ClockTicked).await;
    assert_eq!(ticks.len(), 1);
    let engine = restarted(&place, engine).await;
    place.clock.advance(HOUR);
    place.clock.set(began);
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_names_no_partition_and_one_is_named_for_whoever_may_shred_it() {
    let (place, engine) = started().await;
    let id = shred(&engine, "ada").await;
    let policy = place.path("policy/lists.cedar");
    let text = "@id(\"lists\") permit (principal == Principal::\"spiffe://test/app\", action in \
                [Action::\"ListApprovals\", Action::\"RejectChange\"], resource);\n";
    std::fs::write(&policy, text).unwrap();
    engine.reload_policy(&caller("ops2"), &reason()).await.unwrap();
    for (who, only, name) in [
        ("ops", None, None),
        ("app", None, None),
        ("app", Some(id.as_str()), None),
        ("ops2", Some(id.as_str()), Some("ada")),
    ] {
        let all = engine.approvals(&caller(who), only).await.unwrap();
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(one.partition.as_ref().map(Partition::as_str), name, "{who}");
        assert!(one.partition_token.is_some());
    }
    assert!(engine.approvals(&caller("ops"), Some("0123456789abcdef")).await.unwrap().is_empty());
    let rejected = engine.reject_change(&caller("app"), &id, &reason()).await.unwrap();
    assert!(rejected.approval.partition.is_none());
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_requests_are_in_nobodys_way() {
    let (place, engine) = started().await;
    let mut first = None;
    for _ in 0..=1_000 {
        let id = shred(&engine, "ada").await;
        engine.reject_change(&caller("ops"), &id, &reason()).await.unwrap();
        first.get_or_insert(id);
        place.clock.advance(Duration::from_secs(1));
    }
    let last = waits(engine.shred_partition(&caller("ops2"), of("bob")).await).0;
    let all = engine.approvals(&caller("ops"), None).await.unwrap();
    assert_eq!((all.len(), &all[0].id), (1_000, &last));
    assert!(all.iter().all(|approval| Some(&approval.id) != first.as_ref()), "the oldest went");
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_can_be_rejected_by_another_or_taken_back_and_is_on_record() {
    let (_place, engine) = started().await;
    for who in ["ops", "ops2"] {
        let id = shred(&engine, "ada").await;
        let decided = engine.reject_change(&caller(who), &id, &reason()).await.unwrap();
        assert_eq!(decided.approval.state, ApprovalState::Rejected);
        assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_CLOSED");
        let rejected = of_kind(&engine, Kind::ApprovalRejected).await;
        let record = rejected.iter().find(|e| e.index == decided.receipt.index()).unwrap();
        assert_eq!(record.principal, format!("spiffe://test/{who}"));
        assert_eq!(record.note, format!("approvals/{id}, requested by spiffe://test/ops"));
    }
    assert_eq!(state(&engine, "ada").await, PartitionState::Open);
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_has_so_many_requests_and_no_more() {
    let (_place, engine) = started().await;
    let mut ids = Vec::new();
    for hours in 0..=PENDING_OF_ONE as u32 {
        let mut change = of("ada");
        change.window = Some((24 + hours) * HOUR);
        let result = engine.shred_partition(&caller("ops"), change).await;
        match ids.len() < PENDING_OF_ONE {
            true => ids.push(waits(result).0),
            false => assert_eq!(why(result), "LIMIT_REACHED"),
        }
    }
    // Another's are his own, and one that is decided makes room.
    waits(engine.shred_partition(&caller("ops2"), of("bob")).await);
    engine.reject_change(&caller("ops"), &ids[0], &reason()).await.unwrap();
    shred(&engine, "bob").await;
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_who_approve_at_once_does_it() {
    let (_place, engine) = started().await;
    let id = waits(engine.shred_partition(&caller("ops"), of("ada")).await).0;
    let etag = one(&engine, &id).await.etag;
    let both = (0..8).map(|_| {
        let (engine, id, etag) = (engine.clone(), id.clone(), etag.clone());
        tokio::spawn(async move {
            why(engine.approve_change(&caller("ops2"), &id, &etag, &reason()).await)
        })
    });
    let mut done = 0;
    for each in both.collect::<Vec<_>>() {
        match each.await.unwrap() {
            "OK" => done += 1,
            "APPROVAL_CLOSED" | "APPROVAL_OUTDATED" | "CONFLICT" | "PARTITION_STATE_INVALID" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(of_kind(&engine, Kind::PartitionShredded).await.len(), 1);
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lost_the_right_meanwhile_has_asked_in_vain() {
    let (place, engine) = started().await;
    let id = shred(&engine, "ada").await;
    let members = place.path("policy/members.toml");
    let text = std::fs::read_to_string(&members).unwrap();
    std::fs::write(&members, text.replace("    \"spiffe://test/ops\",\n", "")).unwrap();
    engine.reload_policy(&caller("ops2"), &reason()).await.unwrap();
    let etag = {
        let all = engine.approvals(&caller("ops2"), None).await.unwrap();
        all[0].etag.clone()
    };
    let approved = engine.approve_change(&caller("ops2"), &id, &etag, &reason()).await;
    assert_eq!(why(approved), "APPROVAL_OUTDATED");
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn no_request_outlives_a_restore() {
    let identity = x25519::Identity::generate();
    let place = Place::new().await;
    let mut settings = place.settings();
    settings.backup = restored::backups(&place, &identity);
    settings.keys.approving = BOTH;
    let engine = restored::start(&place, settings).await;
    engine.create_key(&caller("ops"), change("pii")).await.unwrap();
    seal(&engine, "ada", "1", "of ada").await.unwrap();
    let id = shred(&engine, "ada").await;
    let backup = restored::back_up(&engine).await;
    // Whatever became of it since, the store that is put back does not know.
    engine.reject_change(&caller("ops2"), &id, &reason()).await.unwrap();
    restored::stop(engine).await;
    restored::restore(&place, &identity, &backup, None).await.unwrap();
    let engine = restored::start_restored(&place).await;
    assert_eq!(one(&engine, &id).await.state, ApprovalState::Expired);
    assert_eq!(approve(&engine, "ops2", &id).await, "APPROVAL_OUTDATED");
    let rejected = engine.reject_change(&caller("ops2"), &id, &reason()).await;
    assert_eq!(why(rejected), "APPROVAL_OUTDATED");
    assert_eq!(state(&engine, "ada").await, PartitionState::Open);
    restored::stop(engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_where_nothing_is_configured() {
    let (_place, engine) = Place::with_key().await;
    seal(&engine, "ada", "1", "of ada").await.unwrap();
    assert_eq!(why(engine.shred_partition(&caller("ops"), of("ada")).await), "OK");
    assert!(engine.approvals(&caller("ops"), None).await.unwrap().is_empty());
    engine.stop().await.unwrap();
}
