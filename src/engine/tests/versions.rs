//! What may become of a key version, and what a change of its state means for everybody.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod kit;

use std::collections::HashSet;
use std::time::Duration;

use fieldseal_audit::{Event, Kind};
use fieldseal_engine::{AuditQuery, DecryptCall, Engine, Refusal, RefusalCause};
use fieldseal_keys::{KeyChange, KeyError, StateChange, VersionChanged};
use fieldseal_model::{Action, KeyVersionState, RequestId, Timestamp, VersionNumber};
use futures_util::future::join_all;
use kit::{Place, caller, change, events, field, found, open, reason, seal, sealed, stored, why};

/// The kind of a key version's record.
const VERSION: u8 = 3;
const DAY: Duration = Duration::from_secs(24 * 3600);
const DESTROY: StateChange = StateChange::ScheduleDestroy { data_keys_lost: 0 };
use StateChange::{Disable, Enable, Restore};

fn lose(data_keys_lost: u64) -> StateChange {
    StateChange::ScheduleDestroy { data_keys_lost }
}

async fn ask(
    engine: &Engine,
    change: KeyChange,
    number: u32,
    what: StateChange,
) -> Result<VersionChanged, Refusal> {
    let number = VersionNumber::new(number).unwrap();
    engine.change_key_version(&caller("ops"), change, number, what).await
}

async fn set(engine: &Engine, number: u32, what: StateChange) -> Result<VersionChanged, Refusal> {
    ask(engine, change("pii"), number, what).await
}

async fn rotate(engine: &Engine) {
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
}

async fn states(engine: &Engine) -> Vec<&'static str> {
    let key = engine.key(&caller("ops"), &change("pii").key).await.unwrap();
    key.versions.iter().map(|version| version.state.as_str()).collect()
}

async fn first_state(engine: &Engine) -> &'static str {
    states(engine).await.first().copied().unwrap()
}

async fn of_kind(engine: &Engine, kind: Kind) -> Vec<Event> {
    let all = events(engine, AuditQuery::default()).await;
    all.into_iter().filter(|event| event.kind == Some(kind)).collect()
}

/// The version that a change was about.
fn version_of(event: &Event) -> u32 {
    event.items.first().map_or(0, |item| item.key_version)
}

/// Brings version 1 into a state; version 2 is primary.
async fn in_state(state: KeyVersionState) -> (Place, Engine) {
    let (place, engine) = Place::with_key().await;
    rotate(&engine).await;
    match state {
        KeyVersionState::Enabled => {}
        KeyVersionState::Disabled => drop(set(&engine, 1, Disable).await.unwrap()),
        KeyVersionState::DestroyScheduled => drop(set(&engine, 1, DESTROY).await.unwrap()),
        KeyVersionState::Destroyed => {
            set(&engine, 1, DESTROY).await.unwrap();
            place.clock.advance(30 * DAY);
            engine.run_due().await;
        }
    }
    (place, engine)
}

#[tokio::test]
async fn every_state_allows_what_it_allows_and_nothing_else() {
    use KeyVersionState::{DestroyScheduled, Disabled, Enabled};
    for from in KeyVersionState::ALL {
        for what in [Enable, Disable, DESTROY, Restore] {
            let (place, engine) = in_state(from).await;
            assert_eq!(states(&engine).await, [from.as_str(), "ENABLED"]);
            let expected = match (from, what) {
                (Disabled, Enable) => Some(Enabled),
                (Enabled, Disable) | (DestroyScheduled, Restore) => Some(Disabled),
                (Enabled | Disabled, StateChange::ScheduleDestroy { .. }) => Some(DestroyScheduled),
                _ => None,
            };
            let before = engine.key(&caller("ops"), &change("pii").key).await.unwrap();
            let answered = set(&engine, 1, what).await;
            let after = engine.key(&caller("ops"), &change("pii").key).await.unwrap();
            match (&expected, answered) {
                (Some(state), Ok(changed)) => {
                    assert_eq!(changed.version.state, *state, "{from:?} {what:?}");
                    assert_eq!(changed.etag, after.etag);
                    assert_ne!(before.etag, after.etag);
                    assert!(changed.receipt.is_some());
                }
                (None, Err(refusal)) => {
                    assert_eq!(refusal.cause.reason(), "KEY_VERSION_STATE_WRONG");
                    assert!(refusal.cause.to_string().contains(from.as_str()), "{refusal:?}");
                    assert_eq!(before, after, "{from:?} {what:?}");
                }
                (_, answered) => panic!("{from:?} {what:?}: {}", why(answered)),
            }
            // A restart finds what was acknowledged.
            let found = states(&engine).await;
            assert_eq!(found, [expected.unwrap_or(from).as_str(), "ENABLED"]);
            engine.stop().await.unwrap();
            drop(engine);
            assert_eq!(states(&place.start().await).await, found, "{from:?} {what:?}");
        }
    }
}

#[tokio::test]
async fn a_middle_version_alone_stops_and_starts_opening() {
    let (_place, engine) = Place::with_key().await;
    let mut values = Vec::new();
    for number in 1..=3 {
        values.push(seal(&engine, "t", "1", &number.to_string()).await.unwrap().0);
        if number < 3 {
            rotate(&engine).await;
        }
    }
    let opened = || async {
        let mut found = Vec::new();
        for value in &values {
            found.push(why(open(&engine, "t", "1", value).await));
        }
        found
    };
    assert_eq!(opened().await, ["OK"; 3]);
    set(&engine, 2, Disable).await.unwrap();
    assert_eq!(opened().await, ["OK", "KEY_VERSION_DISABLED", "OK"]);
    set(&engine, 2, Enable).await.unwrap();
    assert_eq!(opened().await, ["OK"; 3]);
    set(&engine, 2, lose(1)).await.unwrap();
    assert_eq!(opened().await, ["OK", "KEY_VERSION_DISABLED", "OK"]);
    set(&engine, 2, Restore).await.unwrap();
    assert_eq!(opened().await, ["OK", "KEY_VERSION_DISABLED", "OK"]);
    set(&engine, 2, Enable).await.unwrap();
    assert_eq!(opened().await, ["OK"; 3]);
}

#[tokio::test]
async fn the_primary_version_and_those_that_do_not_exist_are_refused_by_name() {
    let (_place, engine) = Place::with_key().await;
    for what in [Disable, DESTROY] {
        let refusal = set(&engine, 1, what).await.err().unwrap();
        assert_eq!(refusal.cause.reason(), "KEY_VERSION_IS_PRIMARY");
        assert!(refusal.cause.to_string().contains("rotate the key first"), "{refusal:?}");
        assert!(refusal.event.is_some());
    }
    for what in [Enable, Restore] {
        let refusal = set(&engine, 1, what).await.err().unwrap();
        assert_eq!(refusal.cause.reason(), "KEY_VERSION_STATE_WRONG");
        assert!(refusal.cause.to_string().ends_with("rotate the key"), "{refusal:?}");
    }
    assert_eq!(why(set(&engine, 2, Disable).await), "KEY_VERSION_NOT_FOUND");
    assert_eq!(why(ask(&engine, change("missing"), 1, Disable).await), "KEY_NOT_FOUND");
    let number = VersionNumber::FIRST;
    let denied = engine.change_key_version(&caller("app"), change("pii"), number, Disable).await;
    assert_eq!(why(denied), "PERMISSION_DENIED");
    // Numbers are not reused: the next rotation makes 2, and 1 can go.
    rotate(&engine).await;
    set(&engine, 1, Disable).await.unwrap();
    assert_eq!(states(&engine).await, ["DISABLED", "ENABLED"]);
}

#[tokio::test]
async fn etags_request_ids_and_dry_runs_work_as_for_a_rotation() {
    let (_place, engine) = Place::with_key().await;
    let old = engine.key(&caller("ops"), &change("pii").key).await.unwrap().etag;
    rotate(&engine).await;
    let late = KeyChange { etag: old, ..change("pii") };
    assert_eq!(why(ask(&engine, late, 1, Disable).await), "ETAG_MISMATCH");
    let dry = KeyChange { validate_only: true, ..change("pii") };
    let would = ask(&engine, dry.clone(), 1, DESTROY).await.unwrap();
    assert_eq!(would.version.state, KeyVersionState::DestroyScheduled);
    assert!(would.version.destroy_at.is_some() && would.receipt.is_none());
    assert_eq!(states(&engine).await, ["ENABLED", "ENABLED"]);
    assert_eq!(why(ask(&engine, dry, 2, Disable).await), "KEY_VERSION_IS_PRIMARY");
    let id = RequestId::parse("6f1d1f7a-3d7b-4b0e-9c54-0a8f6a3c2b11").unwrap();
    let once = KeyChange { request_id: id, ..change("pii") };
    let first = ask(&engine, once.clone(), 1, Disable).await.unwrap();
    let again = ask(&engine, once.clone(), 1, Disable).await.unwrap();
    assert_eq!((&first.etag, &first.version), (&again.etag, &again.version));
    assert!(again.receipt.is_none());
    assert_eq!(of_kind(&engine, Kind::VersionDisabled).await.len(), 1);
    assert_eq!(why(ask(&engine, once.clone(), 2, Disable).await), "REQUEST_ID_REUSED");
    // Another method's id is another id.
    ask(&engine, once, 1, Enable).await.unwrap();
}

#[tokio::test]
async fn data_keys_are_lost_only_if_their_number_is_repeated() {
    let (place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "a", "1", "x").await.unwrap();
    seal(&engine, "b", "1", "x").await.unwrap();
    rotate(&engine).await;
    for wrong in [0, 1, 3] {
        let refusal = set(&engine, 1, lose(wrong)).await.err().unwrap();
        let RefusalCause::Key(error) = &refusal.cause else { panic!("{refusal:?}") };
        assert!(matches!(**error, KeyError::DataKeysWouldBeLost { data_keys: 2 }), "{refusal:?}");
    }
    assert_eq!(open(&engine, "a", "1", &value).await.unwrap(), "x");
    let scheduled = set(&engine, 1, lose(2)).await.unwrap();
    let due = scheduled.version.destroy_at.unwrap();
    assert_eq!(due, Timestamp::from_unix_nanos(1_700_000_000_000_000_000).plus(30 * DAY));
    place.clock.advance(30 * DAY - Duration::from_secs(1));
    engine.run_due().await;
    assert_eq!(states(&engine).await, ["DESTROY_SCHEDULED", "ENABLED"]);
    place.clock.advance(Duration::from_secs(1));
    engine.run_due().await;
    engine.run_due().await;
    assert_eq!(states(&engine).await, ["DESTROYED", "ENABLED"]);
    assert_eq!(why(open(&engine, "a", "1", &value).await), "KEY_VERSION_DESTROYED");
    let found = of_kind(&engine, Kind::VersionDestroyed).await;
    let [event] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((version_of(event), event.data_keys, event.principal.as_str()), (1, 2, ""));
    assert_eq!(event.rule, "window-over");
    // The tombstone stays, with its times, over a restart; so does the answer.
    let key = engine.key(&caller("ops"), &change("pii").key).await.unwrap();
    assert!(key.versions.first().unwrap().destroyed_at.is_some());
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    assert_eq!(engine.key(&caller("ops"), &change("pii").key).await.unwrap(), key);
    assert_eq!(why(open(&engine, "a", "1", &value).await), "KEY_VERSION_DESTROYED");
    // The partition goes on under the primary version.
    let (next, version) = seal(&engine, "a", "1", "y").await.unwrap();
    assert_eq!(version, "keys/pii/versions/2");
    assert_eq!(open(&engine, "a", "1", &next).await.unwrap(), "y");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrapped_kek_of_a_destroyed_version_leaves_the_files_and_generations() {
    let (place, engine) = Place::with_key().await;
    rotate(&engine).await;
    engine.stop().await.unwrap();
    drop(engine);
    let mut with_kek = stored(&place, VERSION).await;
    let engine = place.start().await;
    set(&engine, 1, DESTROY).await.unwrap();
    engine.make_generation().await.unwrap().unwrap();
    engine.stop().await.unwrap();
    drop(engine);
    // The record of a scheduled version has its KEK too.
    for record in stored(&place, VERSION).await {
        if !with_kek.contains(&record) {
            with_kek.push(record);
        }
    }
    assert_eq!(with_kek.len(), 3);
    let engine = place.start().await;
    assert!(found(place.dir.path(), &with_kek) >= 2, "until the window is over");
    place.clock.advance(30 * DAY);
    engine.run_due().await;
    assert_eq!(states(&engine).await, ["DESTROYED", "ENABLED"]);
    engine.stop().await.unwrap();
    drop(engine);
    assert_eq!(found(place.dir.path(), &with_kek), 1, "that of the primary version");
}

#[tokio::test]
async fn only_time_that_the_installation_has_seen_counts() {
    let (place, engine) = Place::with_key().await;
    rotate(&engine).await;
    // A long time in which nothing waits is not stored; the window does not depend on it.
    place.clock.advance(100 * DAY);
    set(&engine, 1, DESTROY).await.unwrap();
    // Somebody sets the clock a year forward, which rotates the key, and a year back.
    for offset in [365, 0] {
        let at = 1_700_000_000 + (100 + offset) * 24 * 3600;
        place.clock.set(Timestamp::from_unix_nanos(at * 1_000_000_000));
        engine.run_due().await;
        assert_eq!(first_state(&engine).await, "DESTROY_SCHEDULED");
    }
    // Ten days pass; an orderly stop keeps them, and what passes while nothing runs does not count.
    place.clock.advance(10 * DAY);
    engine.stop().await.unwrap();
    drop(engine);
    place.clock.advance(365 * DAY);
    let engine = place.start().await;
    place.clock.advance(20 * DAY - Duration::from_secs(1));
    engine.run_due().await;
    assert_eq!(first_state(&engine).await, "DESTROY_SCHEDULED");
    let ticks = of_kind(&engine, Kind::ClockTicked).await.len();
    assert!(ticks >= 2, "{ticks}");
    // A restore in time: what was to be destroyed is not.
    set(&engine, 1, Restore).await.unwrap();
    place.clock.advance(100 * DAY);
    engine.run_due().await;
    assert_eq!(first_state(&engine).await, "DISABLED");
    // Nothing waits any more: no tick.
    assert_eq!(of_kind(&engine, Kind::ClockTicked).await.len(), ticks);
    set(&engine, 1, DESTROY).await.unwrap();
    place.clock.advance(30 * DAY);
    engine.run_due().await;
    assert_eq!(first_state(&engine).await, "DESTROYED");
}

#[tokio::test]
async fn a_disable_is_acknowledged_when_the_calls_before_it_are_over() {
    let (_place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "", "1", "x").await.unwrap();
    rotate(&engine).await;
    let call = || DecryptCall {
        fields: vec![field("pii", "email")],
        items: vec![sealed("", "1", &value)],
        reason: reason(),
    };
    let app = caller("app");
    let decrypt = || engine.decrypt(&app, Action::Decrypt, call());
    let opened = decrypt().await.unwrap();
    assert!(opened.items.iter().all(Result::is_ok));
    let disabling = engine.clone();
    let disabling = tokio::spawn(async move { set(&disabling, 1, Disable).await.is_ok() });
    while first_state(&engine).await == "ENABLED" {
        tokio::task::yield_now().await;
    }
    // It is in force for whoever comes, and not acknowledged yet: an answer has not left.
    let late = decrypt().await.unwrap();
    assert_eq!(why(late.items.into_iter().next().unwrap()), "KEY_VERSION_DISABLED");
    assert!(!disabling.is_finished());
    drop((opened, late.guard));
    assert!(disabling.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_data_key_is_made_under_a_version_that_is_disabled() {
    let (_place, engine) = Place::with_key().await;
    let mut under = Vec::new();
    for round in 1..=8_u32 {
        // While data keys are made for many partitions the key is rotated, and what was primary is
        // disabled.
        let calls = (0..24).map(|at: u32| {
            let engine = engine.clone();
            tokio::spawn(async move { seal(&engine, &format!("{round}-{at}"), "1", "x").await })
        });
        let calls: Vec<_> = calls.collect();
        rotate(&engine).await;
        set(&engine, round, Disable).await.unwrap();
        let made = of_kind(&engine, Kind::DataKeyCreated).await;
        let made = made.iter().filter(|e| version_of(e) == round).map(|e| e.index);
        let made = made.collect::<HashSet<_>>();
        for call in join_all(calls).await {
            // One that lost the race all the time is told so; none is lost.
            let result = call.unwrap();
            let reason = why(result.as_ref().map(|_| ()).map_err(Clone::clone));
            assert!(["OK", "KEY_VERSION_DISABLED", "CONFLICT"].contains(&reason), "{reason}");
        }
        under.push((round, made));
    }
    let made = of_kind(&engine, Kind::DataKeyCreated).await;
    assert!(made.len() > 100, "{}", made.len());
    for (round, before) in under {
        let after: HashSet<_> =
            made.iter().filter(|e| version_of(e) == round).map(|e| e.index).collect();
        assert_eq!(after, before, "version {round}");
    }
}
