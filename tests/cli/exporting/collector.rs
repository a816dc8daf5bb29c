//! A collector of OpenTelemetry on loopback, which answers as a test wants. Its messages are written down
//! here once more, from opentelemetry-proto 1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

const METHOD: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Asked {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    pub(super) log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LogRecord {
    #[prost(fixed64, tag = "1")]
    pub(super) time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    pub(super) severity_number: i32,
    #[prost(message, optional, tag = "5")]
    pub(super) body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "11")]
    pub(super) observed_time_unix_nano: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AnyValue {
    #[prost(string, optional, tag = "1")]
    pub(super) string_value: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<Partial>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected_log_records: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// How it answers.
#[derive(Clone, Debug)]
pub(super) enum Mood {
    Takes,
    /// It takes them, and keeps all but so many.
    Rejects(i64),
    Refuses(Status),
    /// It never answers.
    Hangs,
}

/// It ends when this is dropped.
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _runtime: Runtime,
}

struct Seen {
    mood: Mood,
    /// Of which log each request was, in their order.
    requests: Vec<String>,
    records: Vec<LogRecord>,
    resource: Vec<KeyValue>,
}

#[derive(Clone)]
struct Handler(Arc<Mutex<Seen>>);

impl UnaryService<Asked> for Handler {
    type Response = Answer;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Status>> + Send>>;

    fn call(&mut self, request: Request<Asked>) -> Self::Future {
        let mut seen = self.0.lock().unwrap();
        let asked = request.into_inner();
        seen.requests.push(log_of(&asked));
        let answer = match &seen.mood {
            Mood::Takes => Answer::default(),
            Mood::Rejects(rejected) => {
                let partial =
                    Partial { rejected_log_records: *rejected, error_message: "too old".into() };
                Answer { partial_success: Some(partial) }
            }
            Mood::Refuses(status) => {
                let status = status.clone();
                return Box::pin(async { Err(status) });
            }
            Mood::Hangs => return Box::pin(std::future::pending()),
        };
        for of_resource in asked.resource_logs {
            seen.resource = of_resource.resource.unwrap().attributes;
            let records = of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records);
            seen.records.extend(records);
        }
        Box::pin(async { Ok(Response::new(answer)) })
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Mutex<Seen>>) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let handler = Handler(Arc::clone(&seen));
        async move {
            assert_eq!(request.uri().path(), METHOD);
            let mut grpc = Grpc::new(ProstCodec::<Answer, Asked>::default());
            Ok::<_, Infallible>(grpc.unary(handler, request).await)
        }
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A sidecar that was killed leaves its connection as it is.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn acceptor(tls: &Path) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(tls.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls.join("server.key")).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(chain.map(Result::unwrap).collect(), key)
    .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

impl Collector {
    /// Listens, with the server's certificate of a directory if one is named.
    pub(super) fn listening(mood: Mood, tls: Option<&Path>) -> Self {
        let runtime = Runtime::new().unwrap();
        let seen = Seen { mood, requests: Vec::new(), records: Vec::new(), resource: Vec::new() };
        let seen = Arc::new(Mutex::new(seen));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, of_server) = (tls.map(acceptor), Arc::clone(&seen));
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, seen) = (tls.clone(), Arc::clone(&of_server));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, seen).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            serve(stream, seen).await;
                        }
                    }
                });
            }
        });
        Self { address, seen, _runtime: runtime }
    }

    pub(super) fn becomes(&self, mood: Mood) {
        self.seen.lock().unwrap().mood = mood;
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.lock().unwrap().requests.len()
    }

    /// How many requests brought records of one log.
    pub(super) fn requests_of(&self, log: &str) -> usize {
        self.seen.lock().unwrap().requests.iter().filter(|of| of.as_str() == log).count()
    }

    /// It listens no more, and nobody else gets its address until the answer is dropped.
    pub(super) fn goes(self) -> TcpSocket {
        let address = self.address;
        drop(self);
        let held = TcpSocket::new_v4().unwrap();
        held.set_reuseaddr(true).unwrap();
        held.bind(address).unwrap();
        held
    }

    pub(super) fn records(&self) -> Vec<LogRecord> {
        self.seen.lock().unwrap().records.clone()
    }

    /// What the records say that sent them.
    pub(super) fn resource(&self) -> Vec<(String, String)> {
        let seen = self.seen.lock().unwrap();
        seen.resource.iter().map(|one| (one.key.clone(), value(one))).collect()
    }

    /// The bodies of the records, as lines.
    pub(super) fn lines(&self) -> String {
        self.records().into_iter().map(|record| format!("{}\n", body(&record))).collect()
    }
}

fn log_of(asked: &Asked) -> String {
    let resource = asked.resource_logs[0].resource.as_ref().unwrap();
    let id = resource.attributes.iter().find(|one| one.key == "service.instance.id");
    value(id.unwrap())
}

pub(super) fn body(record: &LogRecord) -> String {
    record.body.clone().unwrap().string_value.unwrap()
}

pub(super) fn value(of: &KeyValue) -> String {
    of.value.clone().unwrap().string_value.unwrap()
}
