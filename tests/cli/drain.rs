//! A stop: what runs is finished, what never ends is cut off, and the log closes in good order.

use std::time::Duration;

use fieldseal_api::v1;
use rustix::process::Signal;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;

use crate::installation::{Installation, place};
use crate::probes::{get, sample, scrape};
use crate::process::{Lines, event, text};

/// Calls that are in the middle of their request when the signal comes.
const CALLS: usize = 20;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn until_not_ready(installation: &Installation, lines: &mut Lines) {
    let said = lines.until(|| {
        let (status, said) = get(installation, "/readyz");
        (status == 503).then_some(said)
    });
    assert_eq!(said, "not ready: stopping\n");
    // It ends, but it is not stuck.
    assert_eq!(get(installation, "/livez").0, 200);
}

/// The stopped log verifies, and ends where the last checkpoint that was printed says.
fn closed_in_order(installation: &Installation, lines: Lines) -> u64 {
    let said = lines.all();
    let mut checkpoints = said.lines().filter_map(|line| event("audit_checkpoint", line));
    let last = checkpoints.next_back().unwrap_or_else(|| panic!("no checkpoint: {said}"));
    let size = last["tree_size"].as_u64().unwrap();
    let mut verify = installation.verify_command(&installation.log());
    let verified = verify.args(["--output", "json"]).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    let verified: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["records"].as_u64(), Some(size), "{verified}");
    let drained = said.lines().find_map(|line| event("drained", line)).unwrap();
    drained["cut_off"].as_u64().unwrap()
}

#[test]
fn a_caller_who_never_ends_its_call_does_not_hold_the_stop_up() {
    let mut installation = Installation::new();
    installation.set("drain_seconds = 10", "drain_seconds = 1");
    installation.serve();
    let runtime = runtime();
    let (client, mut statuses) = runtime.block_on(async {
        let client = installation.client("app").await;
        let request = HealthCheckRequest { service: String::new() };
        let watched = HealthClient::new(client.channel()).watch(request).await.unwrap();
        (client, watched.into_inner())
    });
    let first = runtime.block_on(statuses.next()).unwrap().unwrap();
    assert_eq!(first.status().as_str_name(), "SERVING");
    let (mut running, mut lines) = installation.sidecar.take().unwrap();
    running.signal(Signal::TERM);
    until_not_ready(&installation, &mut lines);
    let second = runtime.block_on(statuses.next()).unwrap().unwrap();
    assert_eq!(second.status().as_str_name(), "NOT_SERVING");
    // Whoever loses patience does no harm.
    running.signal(Signal::TERM);
    running.signal(Signal::INT);
    // The stream is still open here, and nobody reads it.
    lines.wait(|line| event("drained", line));
    assert_eq!(running.code(), 0);
    assert!(matches!(runtime.block_on(statuses.next()), None | Some(Err(_))));
    drop(client);
    assert_eq!(closed_in_order(&installation, lines), 1);
}

#[test]
fn decrypts_that_have_begun_are_finished() {
    let mut installation = Installation::new();
    // Far longer than it takes: nothing may be cut off.
    installation.set("drain_seconds = 10", "drain_seconds = 600");
    installation.serve();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    let sealed = installation.ok("app", &place("encrypt", &["--row", "1"]), b"ada@example.com");
    let runtime = runtime();
    let client = runtime.block_on(installation.client("app"));
    let channel = client.channel();
    let begun: Vec<_> = (0..CALLS)
        .map(|_| {
            let (message, messages) = tokio::sync::mpsc::channel::<v1::DecryptRequest>(1);
            let mut grpc = Grpc::new(channel.clone());
            let answer = runtime.spawn(async move {
                grpc.ready().await.unwrap();
                let path = "/fieldseal.v1.EncryptionService/Decrypt";
                let path = PathAndQuery::from_static(path);
                let codec = ProstCodec::<v1::DecryptRequest, v1::DecryptResponse>::default();
                let mut request = tonic::Request::new(ReceiverStream::new(messages));
                request.set_timeout(Duration::from_secs(60));
                grpc.client_streaming(request, path, codec).await
            });
            (message, answer)
        })
        .collect();
    let (mut running, mut lines) = installation.sidecar.take().unwrap();
    // Their heads have arrived, their messages have not.
    lines.until(|| {
        let running = sample(&scrape(&installation), "fieldseal_calls_in_flight");
        (running == Some(CALLS as f64)).then_some(())
    });
    running.signal(Signal::TERM);
    until_not_ready(&installation, &mut lines);
    let request = v1::DecryptRequest {
        field: Some(v1::Field {
            key: "keys/customer-pii".to_owned(),
            table: "users".to_owned(),
            column: "email".to_owned(),
            ..v1::Field::default()
        }),
        row: "1".to_owned(),
        ciphertext: text(&sealed).trim_end().to_owned().into_bytes().into(),
        ..v1::DecryptRequest::default()
    };
    let mut opened = 0;
    for (message, answer) in begun {
        runtime.block_on(message.send(request.clone())).unwrap();
        drop(message);
        let answer = runtime.block_on(answer).unwrap().unwrap().into_inner();
        let value = answer.plaintext.and_then(|value| value.kind);
        let expected = v1::value::Kind::StringValue("ada@example.com".to_owned());
        assert!(value == Some(expected), "another value");
        assert!(answer.receipt.is_some());
        opened += 1;
    }
    assert_eq!(opened, CALLS);
    assert_eq!(running.code(), 0);
    assert_eq!(closed_in_order(&installation, lines), 0);
}
