//! A server of documents on loopback, in clear or over TLS, which answers as a test wants.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hyper::body::{Body as _, Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) body: Vec<u8>,
}

/// What is answered: the status and the body.
type Answers = dyn Fn(&Asked) -> (u16, Vec<u8>) + Send;

/// It ends when this is dropped.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<Box<Answers>>>,
    runtime: Option<Runtime>,
}

impl Web {
    /// Listens, with the server's certificate of a directory if one is named.
    pub(crate) fn listening(
        tls: Option<&Path>,
        answers: impl Fn(&Asked) -> (u16, Vec<u8>) + Send + 'static,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let answers: Box<Answers> = Box::new(answers);
        let answers = Arc::new(Mutex::new(answers));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, of_server) = (tls.map(acceptor), Arc::clone(&answers));
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, answers) = (tls.clone(), Arc::clone(&of_server));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, answers).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            serve(stream, answers).await;
                        }
                    }
                });
            }
        });
        Self { address, answers, runtime: Some(runtime) }
    }

    /// From now on it answers so.
    pub(crate) fn becomes(&self, answers: impl Fn(&Asked) -> (u16, Vec<u8>) + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answers: Arc<Mutex<Box<Answers>>>) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answers = Arc::clone(&answers);
        async move {
            let header = request.headers().get("authorization");
            let asked = Asked {
                method: request.method().to_string(),
                path: request.uri().path().to_owned(),
                authorization: header.map_or("", |value| value.to_str().unwrap()).to_owned(),
                body: read(request.into_body()).await,
            };
            let (status, body) = answers.lock().unwrap()(&asked);
            let answer = hyper::Response::builder().status(status).body(Text(Some(body.into())));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    let http = hyper::server::conn::http1::Builder::new();
    // Whoever asked may be gone.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn read(mut body: Incoming) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        all.extend(frame.unwrap().into_data().unwrap_or_default());
    }
    all
}

/// A body in one piece.
struct Text(Option<Bytes>);

impl hyper::body::Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.take().map(|text| Ok(hyper::body::Frame::data(text))))
    }
}

fn acceptor(tls: &Path) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(tls.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls.join("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(chain.map(Result::unwrap).collect(), key)
    .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
