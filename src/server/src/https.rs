//! HTTP requests that the sidecar makes itself (RFC 9110, over HTTP/1.1), one connection each: over TLS with
//! the authorities that the operator named, or in clear on this machine. No redirect is followed, no proxy is
//! asked, and an answer has a limit and a deadline.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Most bytes of a line and of all header fields of an answer.
const MOST_HEAD: usize = 64 * 1024;
/// Most bytes of a file of authorities: that of all public ones has about 220 KiB.
const MOST_AUTHORITIES: u64 = 1024 * 1024;

/// Somebody who answers requests at an address.
#[derive(Debug, Clone)]
pub struct Peer {
    uri: Uri,
    ca: Option<PathBuf>,
    /// Most bytes of an answer.
    most: usize,
    /// For a whole request with its answer.
    deadline: Duration,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, at most as long as was allowed.
    pub body: Bytes,
}

impl Peer {
    /// An `https` address with the file of the authorities that issue its certificate, read anew for each
    /// request; or an `http` address without one.
    ///
    /// # Errors
    /// If it is no such address.
    pub fn new(
        url: &str,
        ca: Option<&Path>,
        most: usize,
        deadline: Duration,
    ) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "it is no address".to_owned())?;
        let fits = match uri.scheme_str() {
            Some("https") => ca.is_some(),
            Some("http") => ca.is_none(),
            _ => false,
        };
        if !fits || uri.host().is_none() {
            return Err("it is no https address with authorities, and no http address".to_owned());
        }
        Ok(Self { uri, ca: ca.map(Path::to_owned), most, deadline })
    }

    /// Sends one request; `authorization` is the value of that header field.
    ///
    /// # Errors
    /// Why there is no whole answer in time. Nothing of the answer or of the request stands in it.
    pub async fn send(
        &self,
        method: Method,
        body: Bytes,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, String> {
        let late = || format!("no answer within {} seconds", self.deadline.as_secs());
        let exchange = self.exchange(method, body, authorization);
        timeout(self.deadline, exchange).await.map_err(|_| late())?
    }

    async fn exchange(
        &self,
        method: Method,
        body: Bytes,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, String> {
        let host = self.uri.host().unwrap_or_default();
        let is_tls = self.ca.is_some();
        let port = self.uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port)).await.map_err(|e| e.to_string())?;
        match &self.ca {
            None => self.over(stream, method, body, authorization).await,
            Some(ca) => {
                let ca = ca.clone();
                let tls = tokio::task::spawn_blocking(move || connector(&ca)).await;
                let tls = tls.map_err(|_| "its authorities were not read".to_owned())??;
                let name = ServerName::try_from(bare.to_owned());
                let name = name.map_err(|_| "its host is no name of a certificate".to_owned())?;
                let stream = tls.connect(name, stream).await.map_err(|e| e.to_string())?;
                self.over(stream, method, body, authorization).await
            }
        }
    }

    async fn over<S: AsyncRead + AsyncWrite + Send + Unpin>(
        &self,
        stream: S,
        method: Method,
        body: Bytes,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, String> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MOST_HEAD);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(told)?;
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("fieldseal/", env!("CARGO_PKG_VERSION")))
            .header(CACHE_CONTROL, "no-cache");
        if method != Method::GET {
            request = request.header(CONTENT_TYPE, "text/plain; charset=utf-8");
        }
        if let Some(mut value) = authorization {
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(told)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), self.most).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => format!("its answer has more than {} bytes", self.most),
                false => "its answer ends in the middle".to_owned(),
            })?;
            Ok(Answer { status, body: body.to_bytes() })
        };
        let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
        tokio::select! {
            biased;
            done = &mut exchange => return done,
            // What came before its end is read all the same.
            _ = &mut connection => {}
        }
        exchange.await
    }
}

fn told(error: hyper::Error) -> String {
    error.to_string()
}

/// How to speak TLS with whoever has a certificate of these authorities.
fn connector(ca: &Path) -> Result<TlsConnector, String> {
    let unread = |error: io::Error| format!("{} cannot be read: {error}", ca.display());
    let found = std::fs::metadata(ca).map_err(unread)?;
    if !found.is_file() || found.len() > MOST_AUTHORITIES {
        return Err(format!("{} is no file of authorities", ca.display()));
    }
    let pem = std::fs::read(ca).map_err(unread)?;
    let unusable = || format!("{} holds no usable certificate in PEM form", ca.display());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&pem) {
        roots.add(authority.map_err(|_| unusable())?).map_err(|_| unusable())?;
    }
    if roots.is_empty() {
        return Err(unusable());
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
