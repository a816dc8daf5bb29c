//! The limits of calls: load, deadlines, unknown methods, health.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::time::Duration;

use bytes::Bytes;
use fieldseal_model::PrincipalKind;
use fieldseal_server::CallLimits;
use fieldseal_server::transport::Limits;
use http::Request;
use http_body_util::Full;
use kit::{APP, Ca, Connection, Server, answer, request, say, uri};
use tonic::Code;
use tonic_types::StatusExt;

async fn start(calls: CallLimits) -> (Server, Connection) {
    let ca = Ca::new();
    let server = Server::with(&ca, Limits::default(), calls, PrincipalKind::Spiffe).await;
    let config = ca.client(Some(&ca.app()));
    let connection = Connection::open(server.address, config).await.unwrap();
    (server, connection)
}

/// One empty message in gRPC's framing.
fn empty_message() -> Bytes {
    Bytes::from_static(&[0; 5])
}

#[tokio::test]
async fn one_call_too_many_is_refused_but_not_a_health_check() {
    let (server, mut connection) =
        start(CallLimits { in_flight: 2, ..CallLimits::default() }).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut sender = connection.sender.clone();
        waiting.push(tokio::spawn(async move {
            answer(&mut sender, request("/test.Echo/Wait", Bytes::new())).await
        }));
        server.one_waits().await;
    }
    let refused = connection.call("/test.Echo/Say").await.unwrap();
    assert_eq!(refused.reason(), "TOO_MANY_CALLS");
    let status = refused.status.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());

    let health = request("/grpc.health.v1.Health/Check", empty_message());
    let health = connection.send(health).await.unwrap();
    assert!(health.status.is_none());
    // One message of two bytes: status = SERVING.
    assert_eq!(health.body.as_ref(), [0, 0, 0, 0, 2, 8, 1]);

    server.echo.gate.add_permits(2);
    for call in waiting {
        assert!(call.await.unwrap().unwrap().status.is_none());
    }
    assert_eq!(connection.call("/test.Echo/Say").await.unwrap().body, format!("{APP} hello"));
    assert_eq!(server.calls.in_flight(), 0);
}

#[tokio::test]
async fn one_principal_leaves_room_for_the_others_over_all_its_connections() {
    let calls = CallLimits { in_flight: 8, ..CallLimits::default() };
    let ca = Ca::new();
    let server = Server::with(&ca, Limits::default(), calls, PrincipalKind::Spiffe).await;
    let mut waiting = Vec::new();
    for _ in 0..7 {
        let mut app = Connection::open(server.address, ca.client(Some(&ca.app()))).await.unwrap();
        waiting.push(tokio::spawn(async move {
            let answer = app.send(request("/test.Echo/Wait", Bytes::new())).await;
            (answer, app)
        }));
        server.one_waits().await;
    }
    let mut app = Connection::open(server.address, ca.client(Some(&ca.app()))).await.unwrap();
    assert_eq!(app.call("/test.Echo/Say").await.unwrap().reason(), "TOO_MANY_CALLS");
    let other = ca.named(&[uri("spiffe://example.org/other")]);
    let other = ca.client(Some(&other));
    assert_eq!(say(server.address, other).await.unwrap(), "spiffe://example.org/other hello");
    server.echo.gate.add_permits(7);
    for call in waiting {
        assert!(call.await.unwrap().0.unwrap().status.is_none());
    }
    assert_eq!(app.call("/test.Echo/Say").await.unwrap().body, format!("{APP} hello"));
    assert_eq!(server.calls.in_flight(), 0);
}

#[tokio::test]
async fn requests_hold_only_so_much_memory_and_give_it_back() {
    let (server, mut connection) =
        start(CallLimits { request_bytes: 4_096, ..CallLimits::default() }).await;
    for _ in 0..3 {
        let large = request("/test.Echo/Say", Bytes::from(vec![b'x'; 3_585]));
        let refused = connection.send(large).await.unwrap();
        assert_eq!(refused.reason(), "REQUEST_MEMORY_FULL");
        let status = refused.status.unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
        // Seven eighths, all of which the refused one has given back.
        let fits = request("/test.Echo/Say", Bytes::from(vec![b'x'; 3_584]));
        assert!(connection.send(fits).await.unwrap().status.is_none());
    }
    assert_eq!(server.calls.in_flight(), 0);
}

#[tokio::test]
async fn every_call_has_a_deadline() {
    let limits = CallLimits {
        deadline: Duration::from_millis(50),
        longest_deadline: Duration::from_millis(100),
        ..CallLimits::default()
    };
    let (server, mut connection) = start(limits).await;
    // None, a short one, none left, and one that is longer than anybody gets.
    for timeout in [None, Some("1m"), Some("0n"), Some("99999999H")] {
        let mut waiting = request("/test.Echo/Wait", Bytes::new());
        if let Some(timeout) = timeout {
            waiting.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        let refused = connection.send(waiting).await.unwrap();
        assert_eq!(refused.reason(), "DEADLINE_EXCEEDED", "{timeout:?}");
        assert_eq!(refused.status.unwrap().code(), Code::DeadlineExceeded);
        assert_eq!(server.calls.in_flight(), 0);
    }
    for timeout in ["", "soon", "10s", "123456789S"] {
        let mut malformed = request("/test.Echo/Say", Bytes::new());
        malformed.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        let refused = connection.send(malformed).await.unwrap();
        assert_eq!(refused.reason(), "DEADLINE_MALFORMED", "{timeout:?}");
    }
    let mut timely = request("/test.Echo/Say", Bytes::new());
    timely.headers_mut().insert("grpc-timeout", "10S".parse().unwrap());
    assert!(connection.send(timely).await.unwrap().status.is_none());
}

#[tokio::test]
async fn a_request_that_never_ends_meets_its_deadline_too() {
    let ca = Ca::new();
    let calls = CallLimits { deadline: Duration::from_millis(50), ..CallLimits::default() };
    let server = Server::with(&ca, Limits::default(), calls, PrincipalKind::Spiffe).await;
    let stream = kit::handshake(server.address, ca.client(Some(&ca.app()))).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let body = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<Bytes>, std::io::Error>,
    >());
    let request = request("/test.Echo/Say", Bytes::new()).map(|_| body);
    let response = kit::patient(sender.send_request(request)).await.unwrap();
    let status = tonic::Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.get_details_error_info().unwrap().reason, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn what_is_not_known_is_refused() {
    let (_server, mut connection) = start(CallLimits::default()).await;
    let paths =
        ["/test.Echo/Shout", "/test.Other/Say", "/test.Echo", "/", "/test.Echo/Say/", "/say"];
    for path in paths {
        let refused = connection.call(path).await.unwrap();
        assert_eq!(refused.http, 200, "{path}");
        assert_eq!(refused.reason(), "METHOD_UNKNOWN", "{path}");
        assert_eq!(refused.status.unwrap().code(), Code::Unimplemented);
    }
    let get = Request::get("https://localhost/test.Echo/Say")
        .header("content-type", "application/grpc")
        .body(Full::default())
        .unwrap();
    assert_eq!(connection.send(get).await.unwrap().http, 405);
    let mut json = request("/test.Echo/Say", Bytes::new());
    json.headers_mut().insert("content-type", "application/json".parse().unwrap());
    assert_eq!(connection.send(json).await.unwrap().http, 415);
}

#[tokio::test]
async fn messages_that_the_library_refuses_have_a_reason_too() {
    let (_server, mut connection) = start(CallLimits::default()).await;
    let check = "/grpc.health.v1.Health/Check";
    // Field 1 claims 127 bytes and has none.
    let broken = request(check, Bytes::from_static(&[0, 0, 0, 0, 2, 0x0a, 0x7f]));
    let refused = connection.send(broken).await.unwrap();
    assert_eq!(refused.reason(), "MESSAGE_MALFORMED");
    let huge = request(check, Bytes::from_static(&[0, 0x7f, 0, 0, 0]));
    assert_eq!(connection.send(huge).await.unwrap().reason(), "MESSAGE_TOO_LARGE");
    let mut compressed = request(check, empty_message());
    compressed.headers_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    assert_eq!(connection.send(compressed).await.unwrap().reason(), "COMPRESSION_UNSUPPORTED");
}

#[tokio::test]
async fn health_follows_readiness() {
    let (server, mut connection) = start(CallLimits::default()).await;
    for (service, known) in [("", true), ("test.Echo", true), ("test.Other", false)] {
        for (ready, expected) in [(false, 2), (true, 1)] {
            server.readiness.set(ready);
            let mut body = vec![0, 0, 0, 0, 0, 0x0a, u8::try_from(service.len()).unwrap()];
            body[4] = body[6] + 2;
            body.extend(service.as_bytes());
            let reached = async {
                loop {
                    let check = request("/grpc.health.v1.Health/Check", body.clone().into());
                    let answer = connection.send(check).await.unwrap();
                    match answer.status {
                        Some(status) => break assert_eq!(status.code(), Code::NotFound),
                        None if answer.body[6] == expected => break,
                        None => {}
                    }
                    assert!(known);
                }
            };
            kit::patient(reached).await;
        }
    }
}

#[tokio::test]
async fn reflection_names_the_services() {
    let (_server, mut connection) = start(CallLimits::default()).await;
    // list_services = "", field 7 of ServerReflectionRequest.
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let list = request(&path, Bytes::from_static(&[0, 0, 0, 0, 2, 0x3a, 0]));
        let answer = connection.send(list).await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains("grpc.health.v1.Health"), "{text}");
    }
}
