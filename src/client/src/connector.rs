//! TCP, then TLS 1.3 (RFC 8446) with the caller's certificate, then HTTP/2.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::failure::ClientError;

/// The one application protocol (RFC 7301).
const ALPN_H2: &[u8] = b"h2";
/// How long connecting may take, from the address lookup to the end of the handshake.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Certificate and private key of a caller.
pub(crate) struct Identity<'a> {
    pub(crate) certificate: &'a Path,
    pub(crate) private_key: &'a Path,
}

/// What the handshake needs. The key exchange prefers X25519MLKEM768, as rustls' feature
/// `prefer-post-quantum` orders its groups.
pub(crate) fn tls(ca: &Path, identity: Option<&Identity<'_>>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("CA", ca)? {
        roots.add(authority).map_err(|e| unusable("CA", ca, &e))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| unusable("CA", ca, &e))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, private_key }) => {
            let chain = certificates("certificate", certificate)?;
            let pem = read("private key", private_key)?;
            let key = PrivateKeyDer::from_pem_slice(&pem);
            let key = key
                .map_err(|_| ClientError::Pem { what: "private key", path: private_key.into() })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| unusable("certificate with its private key", certificate, &e))?
        }
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::Read { what, path: path.into(), source })
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let pem = read(what, path)?;
    let missing = || ClientError::Pem { what, path: path.into() };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(missing()),
    }
}

fn unusable(what: &'static str, path: &Path, reason: &rustls::Error) -> ClientError {
    ClientError::Unusable { what, path: path.into(), reason: reason.to_string() }
}

/// Where to connect to, from the endpoint's text.
#[derive(Clone)]
pub(crate) struct Connector {
    address: Arc<str>,
    server: ServerName<'static>,
    tls: TlsConnector,
}

impl Connector {
    pub(crate) fn new(endpoint: &Uri, tls: ClientConfig) -> Result<Self, ClientError> {
        let invalid = || ClientError::Endpoint;
        let host = endpoint.host().ok_or_else(invalid)?;
        let port = endpoint.port_u16().ok_or_else(invalid)?;
        if endpoint.scheme_str() != Some("https") || !matches!(endpoint.path(), "" | "/") {
            return Err(invalid());
        }
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let server = ServerName::try_from(bare.to_owned()).map_err(|_| invalid())?;
        let address = format!("{host}:{port}").into();
        Ok(Self { address, server, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// Waits for the first byte after the handshake. The server checks a certificate after the
    /// client's part of the handshake is over (TLS 1.3), and an alert is all that a refused client
    /// hears. Nothing is sent.
    pub(crate) async fn knock(self) -> io::Result<()> {
        let heard = timeout(CONNECT_WITHIN, async {
            let stream = TcpStream::connect(&*self.address).await?;
            let mut stream = self.tls.connect(self.server, stream).await?;
            stream.read_u8().await.map(drop)
        });
        heard.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn connect(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let shaken = timeout(CONNECT_WITHIN, async {
            let stream = TcpStream::connect(&*self.address).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(self.server, stream).await
        });
        let stream = shaken.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
            return Err(io::Error::other("the server does not speak http/2"));
        }
        Ok(TokioIo::new(stream))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(endpoint: &'static str) -> Result<Connector, ClientError> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Connector::new(&Uri::from_static(endpoint), tls)
    }

    #[test]
    fn an_endpoint_is_https_with_host_and_port() {
        for bad in ["http://localhost:1", "https://localhost", "/", "https://localhost:1/path"] {
            assert!(connector(bad).is_err(), "{bad}");
        }
        for good in ["https://localhost:7443", "https://127.0.0.1:7443/", "https://[::1]:7443"] {
            assert!(connector(good).is_ok(), "{good}");
        }
    }

    /// A certificate authority and what it issues, in files.
    struct Issued {
        dir: tempfile::TempDir,
        server: Arc<rustls::ServerConfig>,
    }

    fn issue(host: &str) -> Issued {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
        let dir = tempfile::tempdir().expect("directory");
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key"));
        let ca = ca.expect("authority");
        let made = |name: &str| {
            let key = KeyPair::generate().expect("key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("names");
            (params.signed_by(&key, &ca).expect("certificate"), key)
        };
        let (client, client_key) = made("app.test");
        for (name, text) in
            [("ca", ca.pem()), ("cert", client.pem()), ("key", client_key.serialize_pem())]
        {
            std::fs::write(dir.path().join(name), text).expect("write");
        }
        let (server, server_key) = made(host);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).expect("root");
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("verifier"))
            .with_single_cert(
                vec![server.der().clone()],
                PrivateKeyDer::try_from(server_key.serialize_der()).expect("key"),
            )
            .expect("certificate");
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Issued { dir, server: Arc::new(config) }
    }

    /// Connects with the files of `client` to a server with the certificate of `server`.
    async fn meet(client: &Issued, server: &Issued) -> (io::Result<()>, Option<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let port = listener.local_addr().expect("address").port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&server.server));
        let accepting = async {
            let (stream, _) = listener.accept().await.expect("accept");
            let stream = acceptor.accept(stream).await.ok()?;
            let (_, session) = stream.get_ref();
            let group = session.negotiated_key_exchange_group()?.name();
            Some(format!("{:?} {group:?}", session.protocol_version()?))
        };
        let path = |name| client.dir.path().join(name);
        let identity = Identity { certificate: &path("cert"), private_key: &path("key") };
        let config = tls(&path("ca"), Some(&identity)).expect("settings");
        let uri: Uri = format!("https://localhost:{port}").parse().expect("uri");
        let connector = Connector::new(&uri, config).expect("connector");
        let connecting = async { connector.connect().await.map(drop) };
        tokio::join!(connecting, accepting)
    }

    #[tokio::test]
    async fn only_the_right_server_is_accepted() {
        let (ours, other) = (issue("localhost"), issue("localhost"));
        let (refused, _) = meet(&ours, &other).await;
        let refused = refused.expect_err("another authority").to_string();
        assert!(refused.contains("invalid peer certificate"), "{refused}");
        let elsewhere = issue("elsewhere.test");
        let (refused, _) = meet(&elsewhere, &elsewhere).await;
        assert!(refused.expect_err("another host").to_string().contains("not valid for name"));
        let (connected, session) = meet(&ours, &ours).await;
        connected.expect("connected");
        assert_eq!(session.as_deref(), Some("TLSv1_3 X25519MLKEM768"));
    }

    #[test]
    fn files_at_fault_are_named() {
        let issued = issue("localhost");
        let path = |name| issued.dir.path().join(name);
        let read = tls(&path("none"), None).expect_err("no file").to_string();
        assert!(read.contains("cannot read the CA"), "{read}");
        let empty = tls(&path("key"), None).expect_err("no certificate").to_string();
        assert!(empty.contains("holds no CA in PEM form"), "{empty}");
        let swapped = Identity { certificate: &path("ca"), private_key: &path("key") };
        let swapped = tls(&path("ca"), Some(&swapped)).expect_err("another key").to_string();
        assert!(swapped.contains("certificate with its private key"), "{swapped}");
        assert!(!swapped.contains("PRIVATE KEY"), "{swapped}");
    }
}
