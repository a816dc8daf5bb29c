//! `GetInclusionProof` and `GetConsistencyProof` on the wire: what is refused, what is proved, and that
//! both are on record.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

#[path = "../../engine/tests/kit/mod.rs"]
mod kit;

use fieldseal_api::v1;
use fieldseal_api::v1::audit_service_server::AuditService as _;
use fieldseal_audit::Outcome;
use fieldseal_engine::{AuditQuery, Engine};
use fieldseal_model::Action;
use fieldseal_service::{AuditHandler, WireLimits};
use kit::{Place, caller, events, field, open_as, seal, sealed};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

fn from<T>(who: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller(who).principal);
    request
}

async fn inclusion(
    engine: &Engine,
    who: &str,
    asked: (i64, Option<i64>),
) -> Result<v1::GetInclusionProofResponse, Status> {
    let handler = AuditHandler::new(engine.clone(), WireLimits::default());
    let (index, tree_size) = asked;
    let request = v1::GetInclusionProofRequest { index, tree_size, ..Default::default() };
    handler.get_inclusion_proof(from(who, request)).await.map(tonic::Response::into_inner)
}

async fn consistency(
    engine: &Engine,
    who: &str,
    asked: (i64, Option<i64>),
) -> Result<v1::GetConsistencyProofResponse, Status> {
    let handler = AuditHandler::new(engine.clone(), WireLimits::default());
    let (old_tree_size, tree_size) = asked;
    let request = v1::GetConsistencyProofRequest { old_tree_size, tree_size, ..Default::default() };
    handler.get_consistency_proof(from(who, request)).await.map(tonic::Response::into_inner)
}

fn refused<T>(reply: Result<T, Status>) -> (Code, String) {
    let status = reply.err().unwrap();
    (status.code(), status.get_details_error_info().unwrap().reason)
}

async fn size(engine: &Engine) -> i64 {
    let newest = engine.audit_checkpoint(&caller("auditor"), "").await.unwrap();
    i64::try_from(newest.tree_size).unwrap()
}

#[tokio::test]
async fn what_cannot_be_proved_is_refused_by_its_reason() {
    let (_place, engine) = Place::with_key().await;
    let size = size(&engine).await;
    let invalid = (Code::InvalidArgument, "TREE_SIZE_INVALID".to_owned());
    let beyond = (Code::OutOfRange, "TREE_BEYOND_LOG".to_owned());
    for (asked, expected) in [
        ((-1, None), &invalid),
        ((0, Some(-1)), &invalid),
        ((0, Some(0)), &invalid),
        ((1, Some(1)), &invalid),
        ((0, Some(i64::MAX)), &beyond),
        ((i64::MAX, None), &beyond),
    ] {
        assert_eq!(&refused(inclusion(&engine, "auditor", asked).await), expected, "{asked:?}");
    }
    for (asked, expected) in [
        ((0, None), &invalid),
        ((-1, None), &invalid),
        ((1, Some(0)), &invalid),
        ((2, Some(1)), &invalid),
        ((1, Some(i64::MAX)), &beyond),
        ((i64::MAX, None), &beyond),
    ] {
        assert_eq!(&refused(consistency(&engine, "auditor", asked).await), expected, "{asked:?}");
    }
    // How long the log is, is told only to those who may ask.
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    assert_eq!(refused(inclusion(&engine, "app", (size, None)).await), denied);
    assert_eq!(refused(consistency(&engine, "ops", (1, None)).await), denied);
    let handler = AuditHandler::new(engine.clone(), WireLimits::default());
    let foreign = v1::GetInclusionProofRequest { log: "logs/other".into(), ..Default::default() };
    let reply = handler.get_inclusion_proof(from("auditor", foreign)).await;
    assert_eq!(refused(reply), (Code::NotFound, "LOG_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn a_receipt_is_proved_and_whoever_asked_is_on_record() {
    let (_place, engine) = Place::with_key().await;
    let (ciphertext, _) = seal(&engine, "alice", "1", "x").await.unwrap();
    let opened = open_as(&engine, "app", field("pii", "email"), sealed("alice", "1", &ciphertext));
    opened.await.unwrap();
    let then = size(&engine).await;
    let index = then - 1;
    let newest = inclusion(&engine, "auditor", (index, None)).await.unwrap();
    let as_of_then = inclusion(&engine, "auditor", (index, Some(then))).await.unwrap();
    assert_eq!(newest.leaf_hash, as_of_then.leaf_hash);
    assert_eq!(as_of_then.checkpoint.unwrap().tree_size, then);
    let same = consistency(&engine, "auditor", (then, Some(then))).await.unwrap();
    assert_eq!((same.hashes.len(), same.checkpoint.unwrap().tree_size), (0, then));
    let grown = consistency(&engine, "auditor", (then, None)).await.unwrap();
    assert!(grown.checkpoint.unwrap().tree_size > then && !grown.hashes.is_empty());
    let beyond = consistency(&engine, "auditor", (i64::MAX, None)).await;
    assert_eq!(refused(beyond).1, "TREE_BEYOND_LOG");
    for (action, outcomes) in [
        (Action::GetInclusionProof, vec![Outcome::Ok, Outcome::Ok]),
        (Action::GetConsistencyProof, vec![Outcome::Failed, Outcome::Ok, Outcome::Ok]),
    ] {
        let query = AuditQuery { actions: vec![action], ..AuditQuery::default() };
        let records = events(&engine, query).await;
        let ended: Vec<Outcome> = records.iter().filter_map(|record| record.outcome).collect();
        assert_eq!(ended, outcomes, "{action:?}");
    }
}
