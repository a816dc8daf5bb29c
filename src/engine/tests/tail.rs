//! Following the audit log: who may, how many, what is on record, and when it ends.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use fieldseal_audit::{Event, Outcome, PageLimit};
use fieldseal_engine::{AuditQuery, AuditTail, Engine, Refusal};
use fieldseal_model::{Action, Timestamp};
use futures_util::FutureExt as _;
use kit::{Place, caller, events, field, open, open_as, reason, seal, sealed};

async fn tail(
    engine: &Engine,
    who: &str,
    query: AuditQuery,
    start: Option<u64>,
) -> Result<AuditTail, Refusal> {
    engine.tail_audit(&caller(who), query, PageLimit::default(), start, &reason()).await
}

fn calls(events: &[Event]) -> Vec<Option<Action>> {
    events.iter().map(|event| event.action).collect()
}

async fn on_record(engine: &Engine) -> Vec<Event> {
    let actions = vec![Action::TailAuditEvents];
    events(engine, AuditQuery { actions, ..AuditQuery::default() }).await
}

#[tokio::test]
async fn it_shows_its_own_opening_and_then_what_comes() {
    let (_place, engine) = Place::with_key().await;
    let (ciphertext, _) = seal(&engine, "", "1", "x").await.unwrap();
    let mut following = tail(&engine, "auditor", AuditQuery::default(), None).await.unwrap();
    let first = following.next().await.unwrap();
    assert_eq!(calls(&first), [Some(Action::TailAuditEvents)]);
    assert_eq!(
        (first[0].principal.as_str(), first[0].ticket.as_str()),
        ("spiffe://test/auditor", "CASE-1")
    );
    assert_eq!(first[0].outcome, Some(Outcome::Ok));
    assert!(following.next().now_or_never().is_none(), "there is nothing yet");

    // One more after a wait that was given up: it has its place again in a new tail.
    let go_on = following.position();
    drop(following);
    let only = AuditQuery { actions: vec![Action::Decrypt], ..AuditQuery::default() };
    let mut following = tail(&engine, "auditor", only.clone(), Some(go_on)).await.unwrap();
    open(&engine, "", "1", &ciphertext).await.unwrap();
    assert_eq!(calls(&following.next().await.unwrap()), [Some(Action::Decrypt)]);
    open(&engine, "", "1", &ciphertext).await.unwrap();
    assert_eq!(calls(&following.next().await.unwrap()), [Some(Action::Decrypt)]);

    // With a time and no record, from the first record on.
    let start = Some(Timestamp::from_unix_nanos(0));
    let mut all = tail(&engine, "auditor", AuditQuery { start, ..only }, None).await.unwrap();
    assert_eq!(calls(&all.next().await.unwrap()), [Some(Action::Decrypt); 2]);
}

#[tokio::test]
async fn whoever_may_not_is_refused_and_so_is_what_makes_no_sense() {
    let (_place, engine) = Place::with_key().await;
    let other = AuditQuery { log: "logs/other".to_owned(), ..AuditQuery::default() };
    for (who, query, start, expected) in [
        ("app", AuditQuery::default(), None, "PERMISSION_DENIED"),
        ("auditor", other, None, "LOG_NOT_FOUND"),
        ("auditor", AuditQuery::default(), Some(1_000_000), "QUERY_INVALID"),
    ] {
        let refused = tail(&engine, who, query, start).await.err().unwrap();
        assert_eq!(refused.cause.reason(), expected);
        assert!(refused.event.is_some(), "{expected} is on record");
    }
    let outcomes: Vec<_> = on_record(&engine).await.iter().map(|event| event.outcome).collect();
    assert_eq!(outcomes, [Some(Outcome::Failed), Some(Outcome::Failed), Some(Outcome::Denied)]);
}

#[tokio::test]
async fn a_fifth_at_the_same_time_is_refused_and_a_place_is_given_back() {
    let (_place, engine) = Place::with_key().await;
    let mut following = Vec::new();
    for _ in 0..4 {
        following.push(tail(&engine, "auditor", AuditQuery::default(), None).await.unwrap());
    }
    let fifth = tail(&engine, "auditor", AuditQuery::default(), None).await.err().unwrap();
    assert_eq!(fifth.cause.reason(), "TAIL_BUSY");
    assert!(fifth.event.is_some(), "it is on record all the same");
    assert_eq!(on_record(&engine).await.len(), 5, "queries have places of their own");
    following.pop();
    tail(&engine, "auditor", AuditQuery::default(), None).await.unwrap();
}

#[tokio::test]
async fn a_role_that_is_taken_away_ends_it_on_record() {
    let (place, engine) = Place::with_key().await;
    let (ciphertext, _) = seal(&engine, "", "1", "x").await.unwrap();
    let mut following = tail(&engine, "auditor", AuditQuery::default(), None).await.unwrap();
    following.next().await.unwrap();
    let members = place.path("policy/members.toml");
    let text = std::fs::read_to_string(&members).unwrap();
    std::fs::write(&members, text.replace("spiffe://test/auditor", "spiffe://test/other")).unwrap();
    engine.reload_policy_by_signal().await.unwrap();
    let item = sealed("", "1", &ciphertext);
    open_as(&engine, "app", field("pii", "email"), item).await.unwrap();
    let refused = following.next().await.unwrap_err();
    assert_eq!(refused.cause.reason(), "PERMISSION_DENIED");
    assert!(refused.event.is_some());
}
