//! `SummarizeAccess` on the wire: what is refused, and what is counted.

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
use kit::{Place, caller, events, field, open_as, seal, sealed, why};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

type Summary = Result<v1::SummarizeAccessResponse, Status>;

async fn ask(engine: &Engine, who: &str, request: v1::SummarizeAccessRequest) -> Summary {
    let mut request = Request::new(request);
    request.extensions_mut().insert(caller(who).principal);
    let handler = AuditHandler::new(engine.clone(), WireLimits::default());
    handler.summarize_access(request).await.map(tonic::Response::into_inner)
}

fn refused(summary: Summary) -> (Code, String) {
    let status = summary.unwrap_err();
    (status.code(), status.get_details_error_info().unwrap().reason)
}

/// A request with this query, grouped by principal, column and outcome.
fn request(query: v1::AuditEventQuery) -> v1::SummarizeAccessRequest {
    let group_by =
        [v1::AccessGrouping::Principal, v1::AccessGrouping::Column, v1::AccessGrouping::Outcome];
    v1::SummarizeAccessRequest {
        query: Some(query),
        group_by: group_by.map(i32::from).to_vec(),
        ..Default::default()
    }
}

fn decrypts() -> v1::AuditEventQuery {
    v1::AuditEventQuery { actions: vec!["Decrypt".into()], ..Default::default() }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_its_reason() {
    let (_place, engine) = Place::with_key().await;
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let of = |query| request(query);
    let by = |group_by: &[i32]| v1::SummarizeAccessRequest {
        group_by: group_by.to_vec(),
        ..Default::default()
    };
    let query = v1::AuditEventQuery::default;
    for (bad, reason) in [
        (
            of(v1::AuditEventQuery { start_time: at(2), end_time: at(1), ..query() }),
            "QUERY_INVALID",
        ),
        (
            of(v1::AuditEventQuery { principals: vec!["app".into()], ..query() }),
            "PRINCIPAL_INVALID",
        ),
        (of(v1::AuditEventQuery { row: Some("1".into()), ..query() }), "QUERY_INVALID"),
        (
            of(v1::AuditEventQuery { partition: Some("x".repeat(257)), ..query() }),
            "PARTITION_INVALID",
        ),
        (
            of(v1::AuditEventQuery { key_versions: vec!["keys/pii".into()], ..query() }),
            "RESOURCE_NAME_INVALID",
        ),
        (of(v1::AuditEventQuery { tickets: vec!["T".into(); 101], ..query() }), "QUERY_INVALID"),
        (by(&[0]), "QUERY_INVALID"),
        (by(&[99]), "QUERY_INVALID"),
        (by(&[2, 2]), "QUERY_INVALID"),
        (v1::SummarizeAccessRequest { page_size: -1, ..by(&[]) }, "PAGE_INVALID"),
        (v1::SummarizeAccessRequest { page_token: "x".into(), ..by(&[]) }, "PAGE_INVALID"),
        (v1::SummarizeAccessRequest { tree_size: -1, ..by(&[]) }, "QUERY_INVALID"),
    ] {
        let expected = (Code::InvalidArgument, reason.to_owned());
        assert_eq!(refused(ask(&engine, "auditor", bad.clone()).await), expected, "{bad:?}");
    }
    let beyond = v1::SummarizeAccessRequest { tree_size: 1_000_000, ..by(&[]) };
    let beyond = refused(ask(&engine, "auditor", beyond).await);
    assert_eq!(beyond, (Code::OutOfRange, "TREE_BEYOND_LOG".to_owned()));
    let foreign = v1::SummarizeAccessRequest { parent: "logs/other".into(), ..by(&[]) };
    let (code, reason) = refused(ask(&engine, "auditor", foreign.clone()).await);
    assert_eq!((code, reason.as_str()), (Code::NotFound, "LOG_NOT_FOUND"));
    // Which log is here is told only to those who may ask.
    let (code, _) = refused(ask(&engine, "app", foreign).await);
    assert_eq!(code, Code::PermissionDenied);
}

#[tokio::test]
async fn accesses_are_counted_in_pages_and_the_question_is_on_record() {
    let (_place, engine) = Place::with_key().await;
    for (partition, times) in [("alice", 2), ("bob", 1)] {
        let (ciphertext, _) = seal(&engine, partition, "1", "x").await.unwrap();
        let item = || sealed(partition, "1", &ciphertext);
        for _ in 0..times {
            open_as(&engine, "app", field("pii", "email"), item()).await.unwrap();
        }
        let denied = open_as(&engine, "ops", field("pii", "email"), item()).await;
        assert_eq!(why(denied), "PERMISSION_DENIED");
    }
    let shown = |reply: &v1::SummarizeAccessResponse| -> Vec<_> {
        let group = |g: &v1::AccessGroup| {
            let who = g.principal.rsplit('/').next().unwrap().to_owned();
            (who, g.outcome(), g.field_count, g.event_count, g.partition_count)
        };
        reply.access_groups.iter().map(group).collect()
    };
    let all = ask(&engine, "auditor", request(decrypts())).await.unwrap();
    let (ok, denied) = (v1::AuditOutcome::Ok, v1::AuditOutcome::Denied);
    assert_eq!(shown(&all), [("app".to_owned(), ok, 3, 3, 2), ("ops".to_owned(), denied, 2, 2, 2)]);
    let total = all.total.unwrap();
    assert_eq!((total.field_count, total.partition_count, all.total_size), (5, 2, 2));
    assert_eq!((all.checkpoints.len(), all.log_start_time.is_some()), (1, true));

    let page = |page_token: String| v1::SummarizeAccessRequest {
        page_size: 1,
        page_token,
        ..request(decrypts())
    };
    let first = ask(&engine, "auditor", page(String::new())).await.unwrap();
    // What is recorded meanwhile is on none of the pages.
    let (late, _) = seal(&engine, "carol", "1", "x").await.unwrap();
    open_as(&engine, "app", field("pii", "email"), sealed("carol", "1", &late)).await.unwrap();
    let second = ask(&engine, "auditor", page(first.next_page_token.clone())).await.unwrap();
    assert_eq!(first.access_groups[..], all.access_groups[..1]);
    assert_eq!(second.access_groups[..], all.access_groups[1..]);
    assert_eq!((second.total, second.next_page_token.as_str()), (Some(total.clone()), ""));
    // Another question can be about the same records.
    let then = v1::SummarizeAccessRequest { tree_size: first.tree_size, ..request(decrypts()) };
    let then = ask(&engine, "auditor", then).await.unwrap();
    assert_eq!(
        (then.total, then.tree_size, then.checkpoints.len()),
        (Some(total), all.tree_size + 1, 0)
    );
    // The token of one question is none of another.
    let other = v1::SummarizeAccessRequest { group_by: vec![1], ..page(first.next_page_token) };
    assert_eq!(refused(ask(&engine, "auditor", other).await).1, "PAGE_INVALID");

    let one = v1::AuditEventQuery { partition: Some("bob".into()), ..decrypts() };
    let of_bob = v1::SummarizeAccessRequest { group_by: Vec::new(), ..request(one) };
    let of_bob = ask(&engine, "auditor", of_bob).await.unwrap();
    assert_eq!((of_bob.access_groups.len(), of_bob.total.unwrap().field_count), (0, 2));
    let query = AuditQuery { actions: vec![Action::SummarizeAccess], ..AuditQuery::default() };
    let records = events(&engine, query).await;
    assert_eq!(records.len(), 6);
    assert_eq!(records[0].items[0].partition.len(), 16, "the token of what was asked about");
}
