//! The limits of calls: how many, how long, and which there are.

use fieldseal_api::v1;
use fieldseal_client::{Client, Failure};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use super::cases::{PLAINTEXT, good, text};
use super::{Callers, decrypting, encrypting, refused, unharmed};
use crate::installation::Installation;
use crate::probes::{sample, scrape};

const DECRYPT: &str = "/fieldseal.v1.EncryptionService/Decrypt";

type Answer = Result<Response<v1::DecryptResponse>, Status>;

/// A call of this method, whose request comes when it comes.
async fn begin(client: &Client, path: &'static str, coming: Coming) -> Answer {
    let mut grpc = Grpc::new(client.channel());
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<v1::DecryptRequest, v1::DecryptResponse>::default();
    let request = Request::new(ReceiverStream::new(coming));
    grpc.client_streaming(request, PathAndQuery::from_static(path), codec).await
}

type Coming = mpsc::Receiver<v1::DecryptRequest>;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn one_call_too_many_is_told_when_to_come_again_and_a_late_one_that_it_is_late() {
    let mut installation = Installation::new();
    installation.set("in_flight = 1024", "in_flight = 2");
    installation.serve();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    let runtime = runtime();
    let callers = runtime.block_on(Callers::of(&installation));
    let encrypt = callers.encrypt(encrypting(good(), text(PLAINTEXT)));
    let sealed = runtime.block_on(encrypt).unwrap();
    let request = || decrypting(good(), sealed.clone());
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (sender, coming) = mpsc::channel(1);
            let client = callers.app.clone();
            (sender, runtime.spawn(async move { begin(&client, DECRYPT, coming).await }))
        })
        .collect();
    let (running, mut lines) = installation.sidecar.take().unwrap();
    lines.until(|| {
        let calls = sample(&scrape(&installation), "fieldseal_calls_in_flight");
        (calls == Some(2.0)).then_some(())
    });
    let result = runtime.block_on(callers.decrypt(request()));
    let status = refused(result, Code::ResourceExhausted, "TOO_MANY_CALLS", "the third call");
    assert!(Failure::from(&status).retry_after().is_some());
    let mut waiting = waiting.into_iter();
    // One gets its request and is answered; the other one's never comes.
    let (sender, answer) = waiting.next().unwrap();
    runtime.block_on(sender.send(request())).unwrap();
    drop(sender);
    assert!(runtime.block_on(answer).unwrap().unwrap().into_inner().receipt.is_some());
    assert!(runtime.block_on(callers.decrypt(request())).is_ok());
    let (sender, late) = waiting.next().unwrap();
    let late = runtime.block_on(late).unwrap();
    refused(late, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "a call without its request");
    drop(sender);
    runtime.block_on(callers.serves());
    installation.sidecar = Some((running, lines));
    unharmed(installation);
}

#[test]
fn a_method_that_does_not_exist_and_a_deadline_that_is_none_are_refused() {
    let installation = Installation::with_key();
    let runtime = runtime();
    let callers = runtime.block_on(Callers::of(&installation));
    for path in [
        "/fieldseal.v1.EncryptionService/Peek",
        "/fieldseal.v1.KeyService/ExportKey",
        "/fieldseal.v2.EncryptionService/Decrypt",
        "/Decrypt",
    ] {
        let (sender, coming) = mpsc::channel(1);
        drop(sender);
        let result = runtime.block_on(begin(&callers.app, path, coming));
        refused(result, Code::Unimplemented, "METHOD_UNKNOWN", path);
    }
    // No message where one is required.
    let (sender, coming) = mpsc::channel(1);
    drop(sender);
    let result = runtime.block_on(begin(&callers.app, DECRYPT, coming));
    refused(result, Code::InvalidArgument, "MESSAGE_MALFORMED", "no message");
    let mut malformed = Request::new(decrypting(good(), vec![1; 80].into()));
    malformed.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let result = runtime.block_on(callers.app.encryption().decrypt(malformed));
    refused(result, Code::InvalidArgument, "DEADLINE_MALFORMED", "a malformed deadline");
    runtime.block_on(callers.serves());
    unharmed(installation);
}
