//! Reading the policy again while calls are running.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod kit;

use fieldseal_audit::{Event, Health, Kind, Outcome};
use fieldseal_engine::{AuditQuery, Engine, Refusal};
use fieldseal_model::{AccessReason, Action};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use kit::{Place, caller, events, field, open, open_as, reason, seal, sealed, why};

/// Replaces a policy file as an editor does.
fn write(place: &Place, name: &str, text: &str) {
    let staged = place.path(&format!("{name}.staged"));
    std::fs::write(&staged, text).unwrap();
    std::fs::rename(staged, place.path("policy").join(name)).unwrap();
}

fn members(place: &Place) -> String {
    std::fs::read_to_string(place.path("policy/members.toml")).unwrap()
}

async fn reload(engine: &Engine) -> Result<[u8; 32], Refusal> {
    let reason = AccessReason::default();
    engine.reload_policy(&caller("ops"), &reason).await.map(|reloaded| reloaded.digest)
}

async fn digest(engine: &Engine) -> [u8; 32] {
    engine.status(&caller("ops")).await.unwrap().policy_digest
}

/// Every reload on record, the oldest first.
async fn reloads(engine: &Engine) -> Vec<Event> {
    let query = AuditQuery { oldest_first: true, ..AuditQuery::default() };
    let found = events(engine, query).await;
    found.into_iter().filter(|e| e.kind == Some(Kind::PolicyReloaded)).collect()
}

#[tokio::test]
async fn the_next_call_is_decided_by_the_new_rules_and_both_digests_are_on_record() {
    let (place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "", "1", "x").await.unwrap();
    let open_by = |who: &'static str| {
        let item = sealed("", "1", &value);
        async { why(open_as(&engine, who, field("pii", "email"), item).await) }
    };
    // Both decisions are remembered now.
    assert_eq!((open_by("app").await, open_by("ops2").await), ("OK", "PERMISSION_DENIED"));
    let before = digest(&engine).await;
    let changed = members(&place).replace("spiffe://test/app\"", "spiffe://test/ops2\"");
    write(&place, "members.toml", &changed);
    assert_eq!((open_by("app").await, digest(&engine).await), ("OK", before));

    let reloaded = engine.reload_policy(&caller("ops"), &reason()).await.unwrap();
    assert_eq!((open_by("app").await, open_by("ops2").await), ("PERMISSION_DENIED", "OK"));
    assert_eq!(reloaded.previous, before);
    assert_ne!(reloaded.digest, before);
    assert_eq!(digest(&engine).await, reloaded.digest);

    let found = reloads(&engine).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    let event = &found[0];
    assert_eq!(event.index, reloaded.receipt.index());
    assert_eq!(
        (event.principal.as_str(), event.action),
        ("spiffe://test/ops", Some(Action::ReloadPolicy))
    );
    assert_eq!((event.rule.as_str(), event.outcome), ("operator-manage", Some(Outcome::Ok)));
    assert_eq!((event.purpose.as_str(), event.ticket.as_str()), ("support", "CASE-1"));
    assert_eq!(event.policy_digest, reloaded.digest);
    assert_eq!(event.previous_policy_digest, before);

    // The next start is of the policy that was active at the end.
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    let all = events(&engine, AuditQuery::default()).await;
    let start = all.iter().find(|event| event.kind == Some(Kind::Start)).unwrap();
    assert_eq!(start.policy_digest, reloaded.digest);
}

#[tokio::test]
async fn files_that_are_no_policy_change_nothing_and_are_on_record() {
    let (place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "", "1", "x").await.unwrap();
    let before = digest(&engine).await;
    let good = members(&place);
    write(&place, "members.toml", &good.replace("spiffe://test/app", "nobody"));
    write(&place, "more.cedar", "\npermit (principal");
    let refusal = reload(&engine).await.unwrap_err();
    assert_eq!(refusal.cause.reason(), "POLICY_INVALID");
    let said = refusal.cause.to_string();
    assert!(said.contains("members.toml:") && said.contains("more.cedar:2:"), "{said}");
    assert!(!said.contains(&place.path("").display().to_string()), "{said}");
    assert_eq!(digest(&engine).await, before);
    assert_eq!(why(open(&engine, "", "1", &value).await), "OK");
    let refused_by_signal = engine.reload_policy_by_signal().await.err().unwrap();
    assert_eq!(refused_by_signal.cause.reason(), "POLICY_INVALID");

    let found = reloads(&engine).await;
    let who: Vec<_> = found.iter().map(|event| event.principal.as_str()).collect();
    assert_eq!(who, ["spiffe://test/ops", ""]);
    for event in &found {
        let ended = (event.action, event.outcome);
        assert_eq!(ended, (Some(Action::ReloadPolicy), Some(Outcome::Failed)));
        assert!(said.ends_with(&event.note) && !event.note.is_empty(), "{event:?}");
        assert_eq!(event.previous_policy_digest, before);
        assert!(event.policy_digest.is_empty());
    }
    let named = format!("logs/main/events/{}", found[0].index);
    assert_eq!(refusal.event.as_deref(), Some(named.as_str()));

    std::fs::remove_file(place.path("policy/more.cedar")).unwrap();
    write(&place, "members.toml", &good);
    assert_eq!(reload(&engine).await.unwrap(), before);
}

#[tokio::test]
async fn whoever_may_not_reload_changes_nothing() {
    let (place, engine) = Place::with_key().await;
    let before = digest(&engine).await;
    write(&place, "more.cedar", "@id(\"all\") permit (principal, action, resource);");
    for who in ["app", "auditor", "nobody"] {
        let refused = engine.reload_policy(&caller(who), &AccessReason::default()).await;
        assert_eq!(why(refused), "PERMISSION_DENIED", "{who}");
    }
    assert_eq!(digest(&engine).await, before);
    assert!(reloads(&engine).await.is_empty());
    let actions = vec![Action::ReloadPolicy];
    let denied = events(&engine, AuditQuery { actions, ..AuditQuery::default() }).await;
    assert_eq!(denied.len(), 3);
    assert!(denied.iter().all(|event| event.outcome == Some(Outcome::Denied)));
}

#[tokio::test]
async fn a_reload_that_cannot_be_recorded_does_not_take_effect() {
    let (place, engine) = Place::with_key().await;
    let before = digest(&engine).await;
    write(&place, "more.cedar", "@id(\"more\") forbid (principal, action, resource is Field);");
    let segment = place.path("audit/segment-00000000000000000000.log");
    let aside = place.path("aside");
    std::fs::rename(&segment, &aside).unwrap();
    for turn in 0..2 {
        assert_eq!(why(reload(&engine).await), "AUDIT_UNAVAILABLE", "{turn}");
        assert_eq!(why(engine.reload_policy_by_signal().await), "AUDIT_UNAVAILABLE", "{turn}");
        assert_eq!(digest(&engine).await, before);
    }
    std::fs::rename(&aside, &segment).unwrap();
    let mut health = engine.audit_health();
    health.wait_for(|health| *health == Health::Ok).await.unwrap();
    assert_ne!(reload(&engine).await.unwrap(), before);
    assert_eq!(reloads(&engine).await.len(), 1);
}

#[tokio::test]
async fn a_reload_goes_on_when_its_caller_goes_away() {
    let (place, engine) = Place::with_key().await;
    let before = digest(&engine).await;
    write(&place, "more.cedar", "@id(\"more\") forbid (principal, action, resource is Field);");
    // Polled once, then dropped.
    assert!(reload(&engine).now_or_never().is_none());
    // Reloads come one after the other, so that one is over when this is.
    let after = reload(&engine).await.unwrap();
    let found = reloads(&engine).await;
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!(found[0].previous_policy_digest, before);
    assert_eq!(found[0].policy_digest, after);
    assert_eq!(found[1].previous_policy_digest, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn reloads_at_the_same_time_come_one_after_the_other() {
    const RELOADS: usize = 24;
    let (place, engine) = Place::with_key().await;
    let before = digest(&engine).await;
    let each = |turn: usize| {
        let (place, engine) = (&place, engine.clone());
        async move {
            let rule =
                format!("@id(\"turn-{turn}\") forbid (principal, action, resource is Field);");
            write(place, &format!("turn-{turn}.cedar"), &rule);
            tokio::spawn(async move { reload(&engine).await.map(|_| ()) }).await.unwrap()
        }
    };
    let ended = join_all((0..RELOADS).map(each)).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let found = reloads(&engine).await;
    assert_eq!(found.len(), RELOADS);
    let mut last = before.to_vec();
    for event in found {
        assert_eq!(event.previous_policy_digest, last);
        last = event.policy_digest;
    }
    assert_eq!(digest(&engine).await.to_vec(), last);
    // All files were there before the last reload began.
    assert_eq!(reload(&engine).await.unwrap().to_vec(), last);
}
