//! What the settings of a key do, and rotation by schedule.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::time::Duration;

use bytes::Bytes;
use fieldseal_audit::{Event, Kind, Outcome};
use fieldseal_engine::{AuditQuery, DecryptCall, EncryptCall, Engine, Refusal};
use fieldseal_keys::{KeyView, NewKey, SettingsChange};
use fieldseal_model::{
    AccessReason, Action, AllowedPurposes, KeySettings, Purpose, Required, Setting, Ticket,
    TicketPatterns, Timestamp,
};
use futures_util::future::join_all;
use kit::{Place, caller, change, events, field, open, plain, reason, seal, sealed, why};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Sets settings of the key `pii`.
async fn set(
    engine: &Engine,
    which: &[Setting],
    to: impl FnOnce(&mut KeySettings),
) -> Result<KeyView, Refusal> {
    let mut settings = KeySettings::default();
    to(&mut settings);
    let asked = SettingsChange { change: change("pii"), which: which.to_vec(), settings };
    Ok(engine.update_key(&caller("ops"), asked).await?.key)
}

async fn key(engine: &Engine, name: &str) -> KeyView {
    engine.key(&caller("ops"), &change(name).key).await.unwrap()
}

async fn of_kind(engine: &Engine, kind: Kind) -> Vec<Event> {
    let all = events(engine, AuditQuery::default()).await;
    all.into_iter().filter(|event| event.kind == Some(kind)).collect()
}

#[tokio::test]
async fn an_update_sets_what_it_names_and_lasts() {
    let (place, engine) = Place::with_key().await;
    let before = key(&engine, "pii").await;
    let which = [Setting::DataKeyLifetime, Setting::LogEncrypts];
    let after = set(&engine, &which, |settings| {
        settings.set_data_key_lifetime(7 * DAY).unwrap();
        settings.set_log_encrypts(true);
        // Not named: stays as it is.
        settings.set_seal_limit(1 << 20).unwrap();
    });
    let after = after.await.unwrap();
    assert_eq!(after.settings.data_key_lifetime(), 7 * DAY);
    assert!(after.settings.log_encrypts());
    assert_eq!(after.settings.seal_limit(), 1 << 32);
    assert_ne!(before.etag, after.etag);
    let found = of_kind(&engine, Kind::KeyUpdated).await;
    let [event] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(event.note, "data_key_lifetime,log_encrypts");
    let mut late = change("pii");
    late.etag = before.etag;
    let asked = SettingsChange { change: late, which: vec![], settings: KeySettings::default() };
    assert_eq!(why(engine.update_key(&caller("ops"), asked).await), "ETAG_MISMATCH");
    engine.stop().await.unwrap();
    drop(engine);
    assert_eq!(key(&place.start().await, "pii").await, after);
}

#[tokio::test]
async fn a_data_key_is_retired_when_its_key_says_so() {
    let (place, engine) = Place::with_key().await;
    let (first, _) = seal(&engine, "t", "1", "x").await.unwrap();
    place.clock.advance(2 * DAY);
    let (second, _) = seal(&engine, "t", "1", "x").await.unwrap();
    assert_eq!(first[1..9], second[1..9]);
    let shorter = |settings: &mut KeySettings| settings.set_data_key_lifetime(DAY).unwrap();
    set(&engine, &[Setting::DataKeyLifetime], shorter).await.unwrap();
    let (third, _) = seal(&engine, "t", "1", "x").await.unwrap();
    assert_ne!(second[1..9], third[1..9]);
    assert_eq!(open(&engine, "t", "1", &first).await.unwrap(), "x");
}

fn decrypting(of: &Bytes, partition: &str, row: &str, reason: AccessReason) -> DecryptCall {
    let items = vec![sealed(partition, row, of)];
    DecryptCall { fields: vec![field("pii", "email")], items, reason }
}

#[tokio::test]
async fn what_a_key_requires_must_be_stated_and_refused_decrypts_are_on_record() {
    let (_place, engine) = Place::with_key().await;
    let (bare, _) = seal(&engine, "", "", "x").await.unwrap();
    let which = [Setting::RowRequired, Setting::PartitionRequired, Setting::PurposeRequired];
    let all = Required { row: true, partition: true, purpose: true, end_user: false };
    set(&engine, &which, |settings| settings.set_required(all)).await.unwrap();
    assert_eq!(why(seal(&engine, "t", "", "x").await), "ROW_REQUIRED");
    assert_eq!(why(seal(&engine, "", "1", "x").await), "PARTITION_REQUIRED");
    let (good, _) = seal(&engine, "t", "1", "x").await.unwrap();
    let none = AccessReason::default();
    for (call, expected) in [
        (decrypting(&good, "t", "1", reason()), "OK"),
        (decrypting(&good, "t", "1", none.clone()), "PURPOSE_REQUIRED"),
        (decrypting(&bare, "", "1", reason()), "PARTITION_REQUIRED"),
        (decrypting(&bare, "t", "", reason()), "ROW_REQUIRED"),
    ] {
        let reply = engine.decrypt(&caller("app"), Action::Decrypt, call).await.unwrap();
        let item = reply.items.into_iter().next().unwrap();
        let named = item.as_ref().err().and_then(|refusal| refusal.event.clone());
        assert_eq!(why(item), expected);
        let query = AuditQuery { actions: vec![Action::Decrypt], ..AuditQuery::default() };
        let newest = events(&engine, query).await.into_iter().next().unwrap();
        let item = newest.items.first().unwrap();
        if expected == "OK" {
            assert_eq!(newest.outcome, Some(Outcome::Ok));
        } else {
            assert_eq!((newest.outcome, item.cause.as_str()), (Some(Outcome::Failed), expected));
            assert_eq!(named, Some(format!("logs/main/events/{}", newest.index).into()));
        }
    }
    // Whoever has no right is not told what the key requires.
    let call = decrypting(&good, "t", "1", none);
    let reply = engine.decrypt(&caller("nobody"), Action::Decrypt, call).await.unwrap();
    assert_eq!(why(reply.items.into_iter().next().unwrap()), "PERMISSION_DENIED");
    let nothing = |settings: &mut KeySettings| settings.set_required(Required::default());
    set(&engine, &which, nothing).await.unwrap();
    assert_eq!(open(&engine, "", "", &bare).await.unwrap(), "x");
}

#[tokio::test]
async fn a_key_takes_some_purposes_and_tickets_only_and_refused_decrypts_are_on_record() {
    let (place, engine) = Place::with_key().await;
    let (good, _) = seal(&engine, "t", "1", "x").await.unwrap();
    let which = [Setting::AllowedPurposes, Setting::TicketPatterns];
    let purposes = AllowedPurposes::parse(&["support".into(), "billing".into()]).unwrap();
    let patterns = TicketPatterns::parse(&["CASE-#".into(), "OPS-????".into()]).unwrap();
    let to = |settings: &mut KeySettings| {
        settings.set_allowed_purposes(purposes);
        settings.set_ticket_patterns(patterns);
    };
    let set_to = set(&engine, &which, to).await.unwrap();
    let stated = |purpose: &str, ticket: &str| AccessReason {
        purpose: Purpose::parse(purpose).unwrap(),
        ticket: Ticket::parse(ticket).unwrap(),
        end_user: None,
    };
    let cases = [
        ("support", "CASE-1", "OK"),
        ("billing", "OPS-12ab", "OK"),
        ("", "CASE-1", "PURPOSE_REQUIRED"),
        ("Support", "CASE-1", "PURPOSE_NOT_ALLOWED"),
        ("fun", "CASE-1", "PURPOSE_NOT_ALLOWED"),
        ("support", "", "TICKET_REQUIRED"),
        ("support", "CASE-", "TICKET_NOT_ALLOWED"),
        ("support", "CASE-1; CASE-2", "TICKET_NOT_ALLOWED"),
    ];
    for (purpose, ticket, expected) in cases {
        let call = decrypting(&good, "t", "1", stated(purpose, ticket));
        let reply = engine.decrypt(&caller("app"), Action::Decrypt, call).await.unwrap();
        assert_eq!(why(reply.items.into_iter().next().unwrap()), expected, "{purpose} {ticket}");
        let query = AuditQuery { actions: vec![Action::Decrypt], ..AuditQuery::default() };
        let newest = events(&engine, query).await.into_iter().next().unwrap();
        let cause = if expected == "OK" { "" } else { expected };
        assert_eq!((newest.ticket.as_str(), newest.items[0].cause.as_str()), (ticket, cause));
    }
    // Whoever encrypts need not say why, and the settings outlive a restart.
    seal(&engine, "t", "2", "x").await.unwrap();
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    assert_eq!(key(&engine, "pii").await, set_to);
    set(&engine, &which, |_| ()).await.unwrap();
    let call = decrypting(&good, "t", "1", AccessReason::default());
    let reply = engine.decrypt(&caller("app"), Action::Decrypt, call).await.unwrap();
    assert_eq!(why(reply.items.into_iter().next().unwrap()), "OK");
}

#[tokio::test]
async fn encrypts_are_on_record_where_the_key_says_so() {
    let (place, engine) = Place::with_key().await;
    seal(&engine, "t", "1", "x").await.unwrap();
    let mut settings = KeySettings::default();
    settings.set_log_encrypts(true);
    let new = NewKey { change: change("logged"), settings };
    engine.create_key(&caller("ops"), new).await.unwrap();
    let encrypts = |action| AuditQuery { actions: vec![action], ..AuditQuery::default() };
    let calls = |found: &[Event]| {
        let calls = found.iter().filter(|event| event.kind == Some(Kind::Call));
        calls.map(|event| (event.outcome, event.item_count)).collect::<Vec<_>>()
    };
    let found = events(&engine, encrypts(Action::Encrypt)).await;
    assert_eq!(calls(&found), []);
    // Of a batch over both keys, one record with the items of the key that wants it.
    let mut items: Vec<_> = (0..10).map(|row| plain("t", &row.to_string(), "x")).collect();
    items.iter_mut().skip(6).for_each(|item| item.field = 1);
    let fields = vec![field("pii", "email"), field("logged", "email")];
    let call = EncryptCall { fields, items, reason: AccessReason::default() };
    let reply = engine.encrypt(&caller("app"), Action::BatchEncrypt, call).await.unwrap();
    assert!(reply.items.iter().all(Result::is_ok));
    let found = events(&engine, encrypts(Action::BatchEncrypt)).await;
    assert_eq!(calls(&found), [(Some(Outcome::Ok), 4)]);
    let event = found.iter().find(|event| event.kind == Some(Kind::Call)).unwrap();
    for item in &event.items {
        assert_eq!((item.key.as_str(), item.key_version), ("logged", 1));
        assert_eq!((item.partition.len(), item.row.len()), (16, 16));
    }
    // Without a log nothing is sealed under it, and everything under the other.
    let log = std::fs::read_dir(place.path("audit")).unwrap().map(|entry| entry.unwrap().path());
    let segment = log.into_iter().find(|p| p.extension().is_some_and(|e| e == "log")).unwrap();
    std::fs::rename(&segment, place.path("away")).unwrap();
    let call = |key: &str| EncryptCall {
        fields: vec![field(key, "email")],
        items: vec![plain("t", "1", "x")],
        reason: AccessReason::default(),
    };
    let refused = engine.encrypt(&caller("app"), Action::Encrypt, call("logged")).await;
    assert_eq!(why(refused), "AUDIT_UNAVAILABLE");
    assert_eq!(why(engine.encrypt(&caller("app"), Action::Encrypt, call("pii")).await), "OK");
}

/// How many versions a key has.
async fn versions(engine: &Engine, name: &str) -> usize {
    key(engine, name).await.versions.len()
}

#[tokio::test]
async fn a_key_is_rotated_once_when_it_is_due_and_once_after_a_pause() {
    let (place, engine) = Place::with_key().await;
    let due = key(&engine, "pii").await.next_rotation.unwrap();
    let start = Timestamp::from_unix_nanos(1_700_000_000_000_000_000);
    let late = due.since(start.plus(365 * DAY));
    assert!(late <= Duration::from_secs(3600), "{late:?}");
    place.clock.set(Timestamp::from_unix_nanos(due.unix_nanos() - 1));
    engine.run_due().await;
    assert_eq!(versions(&engine, "pii").await, 1);
    place.clock.set(due);
    // Two runs at the same time.
    join_all((0..4).map(|_| engine.run_due())).await;
    assert_eq!(versions(&engine, "pii").await, 2);
    let (_, version) = seal(&engine, "t", "1", "x").await.unwrap();
    assert_eq!(version, "keys/pii/versions/2");
    // Nothing ran for five years: one rotation, not five.
    engine.stop().await.unwrap();
    drop(engine);
    place.clock.advance(5 * 365 * DAY);
    let engine = place.start().await;
    engine.run_due().await;
    engine.run_due().await;
    assert_eq!(versions(&engine, "pii").await, 3);
    // One by hand counts, too.
    place.clock.advance(300 * DAY);
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    place.clock.advance(300 * DAY);
    engine.run_due().await;
    assert_eq!(versions(&engine, "pii").await, 4);
    let rotated = of_kind(&engine, Kind::KeyRotated).await;
    let by_itself: Vec<_> = rotated.iter().filter(|event| event.rule == "schedule").collect();
    assert_eq!((rotated.len(), by_itself.len()), (3, 2));
    for event in by_itself {
        assert_eq!((event.principal.as_str(), event.action), ("", Some(Action::RotateKey)));
    }
}

#[tokio::test]
async fn a_period_is_each_key_s_own_and_off_is_off() {
    let (place, engine) = Place::with_key().await;
    for name in ["a", "b", "c", "never"] {
        let mut settings = KeySettings::default();
        let period = if name == "never" { Duration::ZERO } else { 30 * DAY };
        settings.set_rotation_period(period).unwrap();
        let new = NewKey { change: change(name), settings };
        engine.create_key(&caller("ops"), new).await.unwrap();
    }
    assert_eq!(key(&engine, "never").await.next_rotation, None);
    // Not all at the same moment.
    let mut due = Vec::new();
    for name in ["a", "b", "c"] {
        due.push(key(&engine, name).await.next_rotation.unwrap());
    }
    due.sort();
    due.dedup();
    assert_eq!(due.len(), 3);
    place.clock.advance(31 * DAY);
    engine.run_due().await;
    for (name, count) in [("a", 2), ("b", 2), ("c", 2), ("never", 1), ("pii", 1)] {
        assert_eq!(versions(&engine, name).await, count, "{name}");
    }
    // A shorter period makes a key due at once.
    let weekly = |settings: &mut KeySettings| settings.set_rotation_period(7 * DAY).unwrap();
    set(&engine, &[Setting::RotationPeriod], weekly).await.unwrap();
    engine.run_due().await;
    assert_eq!(versions(&engine, "pii").await, 2);
}
