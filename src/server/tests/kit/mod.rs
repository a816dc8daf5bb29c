//! Certificates, an echo service and raw clients for the tests of the transport.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fieldseal_model::{Principal, PrincipalKind};
use fieldseal_server::transport::{Drained, Limits, Tls, TlsSettings, serve};
use fieldseal_server::{
    Arriving, CallLimits, LimitedServices, Readiness, Services, with_health, with_reflection,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;

pub(crate) const APP: &str = "spiffe://example.org/app";

/// A test that waits longer than this for something that must happen has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

pub(crate) struct Issued {
    pub(crate) chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::of("the authority")
    }

    pub(crate) fn of(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.as_ref().pem()
    }

    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::default();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { chain: vec![certificate.der().clone()], pem: certificate.pem(), key }
    }

    pub(crate) fn named(&self, names: &[SanType]) -> Issued {
        self.issue(|params| params.subject_alt_names = names.to_vec())
    }

    pub(crate) fn app(&self) -> Issued {
        self.named(&[uri(APP)])
    }

    /// A client configuration as our own client has it.
    pub(crate) fn client(&self, identity: Option<&Issued>) -> ClientConfig {
        self.client_of(identity, &[&rustls::version::TLS13])
    }

    pub(crate) fn client_of(
        &self,
        identity: Option<&Issued>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.as_ref().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::Pkcs8(issued.key.serialize_der().into());
                builder.with_client_auth_cert(issued.chain.clone(), key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    pub(crate) fn tls(&self, principal: PrincipalKind) -> TlsSettings {
        let server = self.named(&[SanType::DnsName("localhost".try_into().unwrap())]);
        TlsSettings {
            certificate: server.pem.into_bytes(),
            private_key: server.key.serialize_pem().into_bytes(),
            client_ca: self.pem().into_bytes(),
            principal,
        }
    }
}

pub(crate) fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

pub(crate) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// `test.Echo`: `Say` answers with the caller's name and the request's body, `Wait` does the same
/// once the gate lets it, everything else is what generated code says to an unknown method.
#[derive(Clone)]
pub(crate) struct Echo {
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) waiting: Arc<Semaphore>,
}

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl tower::Service<Request<Arriving>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Arriving>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let caller = request.extensions().get::<Principal>().cloned().unwrap();
            match request.uri().path() {
                "/test.Echo/Say" => {}
                "/test.Echo/Wait" => {
                    echo.waiting.add_permits(1);
                    echo.gate.acquire().await.unwrap().forget();
                }
                _ => return Ok(Status::unimplemented("").into_http()),
            }
            let mut answer = format!("{caller} ").into_bytes();
            match request.into_body().collect().await {
                Ok(body) => answer.extend(body.to_bytes()),
                Err(error) => return Ok(Status::from_error(error).into_http()),
            }
            let mut response = Response::new(Body::new(Full::new(Bytes::from(answer))));
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            Ok(response)
        })
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) echo: Echo,
    pub(crate) calls: LimitedServices,
    pub(crate) readiness: Readiness,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<Drained>,
}

impl Server {
    pub(crate) async fn start(ca: &Ca, limits: Limits) -> Self {
        Self::with(ca, limits, CallLimits::default(), PrincipalKind::Spiffe).await
    }

    pub(crate) async fn with(
        ca: &Ca,
        limits: Limits,
        calls: CallLimits,
        kind: PrincipalKind,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Tls::new(&ca.tls(kind)).unwrap();
        let echo = Echo { gate: Arc::new(Semaphore::new(0)), waiting: Arc::new(Semaphore::new(0)) };
        let readiness = Readiness::new();
        readiness.set(true);
        let services = Services::new().with(echo.clone());
        let services = with_health(services, readiness.watch()).await;
        let services = with_reflection(services, tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
        let calls = LimitedServices::new(services, calls);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(serve(listener, tls, limits, calls.clone(), shutdown));
        Self { address, echo, calls, readiness, stop, ended }
    }

    /// Waits until a `Wait` call has reached its handler.
    pub(crate) async fn one_waits(&self) {
        patient(self.echo.waiting.acquire()).await.unwrap().forget();
    }
}

pub(crate) async fn patient<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

pub(crate) async fn handshake(
    address: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A connection that has carried no call yet, and the task that drives it.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    pub(crate) ended: JoinHandle<hyper::Result<()>>,
}

#[derive(Debug)]
pub(crate) struct Failed;

impl Connection {
    pub(crate) async fn open(address: SocketAddr, config: ClientConfig) -> Result<Self, Failed> {
        let stream = handshake(address, config).await.map_err(|_| Failed)?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|_| Failed)?;
        Ok(Self { sender, ended: tokio::spawn(connection) })
    }

    /// Calls a method; the body's text, or the head where there is a status in it.
    pub(crate) async fn call(&mut self, method: &str) -> Result<Answer, Failed> {
        self.send(request(method, Bytes::from_static(b"hello"))).await
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Failed> {
        answer(&mut self.sender.clone(), request).await
    }
}

pub(crate) async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Failed> {
    patient(async {
        sender.ready().await.map_err(|_| Failed)?;
        let response = sender.send_request(request).await.map_err(|_| Failed)?;
        let (head, body) = response.into_parts();
        let status = Status::from_header_map(&head.headers);
        let body = body.collect().await.map_err(|_| Failed)?.to_bytes();
        Ok(Answer { http: head.status.as_u16(), status, body })
    })
    .await
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: u16,
    pub(crate) status: Option<Status>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn reason(&self) -> String {
        use tonic_types::StatusExt;
        self.status.as_ref().unwrap().get_details_error_info().unwrap().reason
    }
}

pub(crate) fn request(method: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::post(format!("https://localhost{method}"))
        .header("content-type", "application/grpc")
        .body(Full::new(body))
        .unwrap()
}

/// Connects and calls `Say`: `Err` if anything of that is refused.
pub(crate) async fn say(address: SocketAddr, config: ClientConfig) -> Result<String, Failed> {
    let mut connection = Connection::open(address, config).await?;
    let answer = connection.call("/test.Echo/Say").await?;
    Ok(String::from_utf8(answer.body.to_vec()).unwrap())
}
