//! `RedactAuditEvents` on the wire: what is refused, what is erased, and that no record says whose it was.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

#[path = "../../engine/tests/kit/mod.rs"]
mod kit;

use fieldseal_api::v1;
use fieldseal_api::v1::audit_service_server::AuditService as _;
use fieldseal_engine::{AuditQuery, Engine};
use fieldseal_model::Action;
use fieldseal_service::{AuditHandler, WireLimits};
use kit::{Place, caller, events, open, seal};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

type Reply = Result<v1::RedactAuditEventsResponse, Status>;

async fn redact(engine: &Engine, who: &str, request: v1::RedactAuditEventsRequest) -> Reply {
    let mut request = Request::new(request);
    request.extensions_mut().insert(caller(who).principal);
    let handler = AuditHandler::new(engine.clone(), WireLimits::default());
    handler.redact_audit_events(request).await.map(tonic::Response::into_inner)
}

fn refused(reply: Reply) -> (Code, String) {
    let status = reply.unwrap_err();
    (status.code(), status.get_details_error_info().unwrap().reason)
}

fn of(partition: &str) -> v1::RedactAuditEventsRequest {
    v1::RedactAuditEventsRequest { partition: partition.into(), ..Default::default() }
}

/// Alice and Bob are read.
async fn read() -> (Place, Engine) {
    let (place, engine) = Place::with_key().await;
    for partition in ["alice", "bob"] {
        let (ciphertext, _) = seal(&engine, partition, "1", "x").await.unwrap();
        open(&engine, partition, "1", &ciphertext).await.unwrap();
    }
    (place, engine)
}

#[tokio::test]
async fn what_cannot_be_erased_is_refused_by_its_reason_and_nothing_goes() {
    let (_place, engine) = read().await;
    let none = v1::RedactAuditEventsRequest::default;
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let invalid = |reason: &'static str| (Code::InvalidArgument, reason);
    let (query, far) = (invalid("QUERY_INVALID"), at(7_000_000_000));
    for (bad, (code, reason)) in [
        (none(), query),
        (v1::RedactAuditEventsRequest { table: "users".into(), ..none() }, query),
        (v1::RedactAuditEventsRequest { row: "1".into(), ..none() }, query),
        (v1::RedactAuditEventsRequest { table: "t".into(), row: "1".into(), ..of("alice") }, query),
        (v1::RedactAuditEventsRequest { end_user_issuer: "iss".into(), ..none() }, query),
        (v1::RedactAuditEventsRequest { end_user_subject: "sub".into(), ..of("alice") }, query),
        (v1::RedactAuditEventsRequest { end_time: far, ..none() }, query),
        (v1::RedactAuditEventsRequest { end_time: far, ..of("alice") }, query),
        (of(&"x".repeat(257)), invalid("PARTITION_INVALID")),
        (
            v1::RedactAuditEventsRequest { parent: "logs/other".into(), ..of("alice") },
            (Code::NotFound, "LOG_NOT_FOUND"),
        ),
        (of("nobody"), (Code::NotFound, "NOTHING_TO_REDACT")),
        (
            v1::RedactAuditEventsRequest { end_time: at(1), ..of("alice") },
            (Code::NotFound, "NOTHING_TO_REDACT"),
        ),
    ] {
        let found = refused(redact(&engine, "privacy", bad.clone()).await);
        assert_eq!(found, (code, reason.to_owned()), "{bad:?}");
    }
    for who in ["app", "ops", "auditor"] {
        let (code, _) = refused(redact(&engine, who, of("alice")).await);
        assert_eq!(code, Code::PermissionDenied, "{who}");
    }
    let all = events(&engine, AuditQuery::default()).await;
    assert!(all.iter().all(|event| !event.redacted));
    // Whoever asks to erase is on record, and whose it would be is not.
    let asked: Vec<_> =
        all.iter().filter(|e| e.action == Some(Action::RedactAuditEvents)).collect();
    assert_eq!(asked.len(), 8, "{asked:?}");
    let items = asked.iter().flat_map(|event| &event.items);
    assert!(items.clone().all(|item| item.partition.is_empty() && item.row.is_empty()));
}

#[tokio::test]
async fn a_person_s_detail_goes_once_it_was_said_how_much() {
    let (_place, engine) = read().await;
    let only = v1::RedactAuditEventsRequest { validate_only: true, ..of("alice") };
    let would = redact(&engine, "privacy", only.clone()).await.unwrap();
    assert!(would.event_count >= 1 && would.receipt.is_none(), "{would:?}");
    let again = redact(&engine, "privacy", only).await.unwrap();
    assert_eq!(again, would, "asking leaves nothing of the person");
    let done = redact(&engine, "privacy", of("alice")).await.unwrap();
    assert_eq!(done.event_count, would.event_count);
    let receipt = done.receipt.unwrap();
    let all = events(&engine, AuditQuery::default()).await;
    let said = all.iter().find(|event| event.index == receipt.index as u64).unwrap();
    assert_eq!(said.kind.unwrap().as_str(), "DETAILS_REDACTED");
    assert_eq!(said.principal, caller("privacy").principal.as_str());
    assert_eq!(all.iter().filter(|event| event.redacted).count() as i64, done.event_count);
    let (code, reason) = refused(redact(&engine, "privacy", of("alice")).await);
    assert_eq!((code, reason.as_str()), (Code::NotFound, "NOTHING_TO_REDACT"));
    let bob = redact(&engine, "privacy", of("bob")).await.unwrap();
    assert_eq!(bob.event_count, done.event_count);
}

#[tokio::test]
async fn an_end_user_s_detail_goes_and_nobody_else_s() {
    let (_place, engine) = read().await;
    let about = |issuer: &str, subject: &str| AuditQuery {
        end_user: Some((issuer.to_owned(), subject.to_owned())),
        ..AuditQuery::default()
    };
    // A question about an end user leaves its token.
    events(&engine, about("https://id", "ada")).await;
    events(&engine, about("https://other", "ada")).await;
    let of = |issuer: &str, subject: &str| v1::RedactAuditEventsRequest {
        end_user_issuer: issuer.into(),
        end_user_subject: subject.into(),
        ..Default::default()
    };
    let (code, reason) = refused(redact(&engine, "privacy", of("https://id", "bob")).await);
    assert_eq!((code, reason.as_str()), (Code::NotFound, "NOTHING_TO_REDACT"));
    let done = redact(&engine, "privacy", of("https://id", "ada")).await.unwrap();
    assert_eq!((done.event_count, done.item_count), (1, 1));
    let again = redact(&engine, "privacy", of("https://id", "ada")).await;
    assert_eq!(refused(again).1, "NOTHING_TO_REDACT");
    let other = redact(&engine, "privacy", of("https://other", "ada")).await.unwrap();
    assert_eq!(other.event_count, 1);
}
