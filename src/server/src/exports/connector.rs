//! The way to a collector: TCP, and TLS with the authorities that the operator named.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::transport::TlsError;

const SETTING: &str = "audit.export_otlp_ca";
const ALPN_H2: &[u8] = b"h2";

/// A TCP connection, with or without TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How to reach a collector: over TLS, or in clear on this machine.
#[derive(Clone)]
pub(crate) struct Connector(Option<TlsConnector>);

impl Connector {
    /// In clear without a file.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, TlsError> {
        ca.map(tls).transpose().map(Self)
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<Box<dyn Stream>>> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let authority = uri.authority().ok_or_else(invalid)?;
        let stream = TcpStream::connect(authority.as_str()).await?;
        stream.set_nodelay(true)?;
        if uri.scheme_str() == Some("http") {
            return Ok(TokioIo::new(Box::new(stream)));
        }
        let tls = self.0.ok_or_else(invalid)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let server = ServerName::try_from(host.to_owned()).map_err(|_| invalid())?;
        let stream = tls.connect(server, stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
            return Err(io::Error::other("it does not speak http/2"));
        }
        Ok(TokioIo::new(Box::new(stream)))
    }
}

fn tls(ca: &Path) -> Result<TlsConnector, TlsError> {
    let pem = std::fs::read(ca);
    let pem = pem.map_err(|source| TlsError::Read { setting: SETTING, path: ca.into(), source })?;
    let unusable = |error: rustls::Error| {
        let reason = error.to_string();
        TlsError::Unusable { setting: SETTING, reason }
    };
    let missing = || TlsError::Pem { setting: SETTING, expected: "certificate" };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&pem) {
        roots.add(authority.map_err(|_| missing())?).map_err(unusable)?;
    }
    if roots.is_empty() {
        return Err(missing());
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
