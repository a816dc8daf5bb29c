//! Requests that the sidecar makes itself, and the keys of issuers that it fetches with them, against a real
//! server on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fieldseal_identity::{Issuers, Remote};
use fieldseal_model::Timestamp;
use fieldseal_server::https::Peer;
use fieldseal_server::issuer_keys::fetch;
use http::Method;
use kit::{Ca, dns, patient};
use rcgen::SanType;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// RFC 7517, appendix A.1.
const SET: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"KID",
    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
/// Nothing needs as long, and what never answers is waited for no longer.
const SHORT: Duration = Duration::from_millis(300);

/// Answers every connection with the same bytes, and keeps what it was asked. Nothing to say: it never answers.
struct Site {
    address: SocketAddr,
    says: Arc<Mutex<Vec<u8>>>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Site {
    async fn listening(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (says, heard) =
            (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (answer, requests) = (Arc::clone(&says), Arc::clone(&heard));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, answer, requests) = (tls.clone(), answer.clone(), requests.clone());
                tokio::spawn(async move {
                    let mut stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    let mut request = vec![0; 4096];
                    let read = stream.read(&mut request).await.unwrap_or_default();
                    request.truncate(read);
                    requests.lock().unwrap().push(String::from_utf8(request).unwrap());
                    let answer = answer.lock().unwrap().clone();
                    if answer.is_empty() {
                        return std::future::pending().await;
                    }
                    // Whoever asked may have heard enough.
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, says, heard }
    }

    fn says(&self, head: &str, body: &str) {
        let all = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        *self.says.lock().unwrap() = all.into_bytes();
    }
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for S {}

fn acceptor(ca: &Ca, names: &[SanType]) -> TlsAcceptor {
    let server = ca.named(names);
    let key = PrivateKeyDer::Pkcs8(server.key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(server.chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_nanos(second * 1_000_000_000)
}

fn remote(url: &str, ca: Option<&Path>) -> (Issuers, Arc<Remote>) {
    let ca = ca.map_or(String::new(), |ca| format!("jwks_ca = \"{}\"\n", ca.display()));
    let text = format!(
        "[[issuer]]\niss = \"login\"\naudience = [\"a\"]\nalgorithms = [\"ES256\"]\n\
         jwks_url = \"{url}\"\n{ca}"
    );
    let issuers = Issuers::parse(&text, &[], Path::new("")).unwrap_or_else(|e| panic!("{e:?}"));
    let remote = Arc::clone(issuers.remotes().next().unwrap());
    (issuers, remote)
}

#[tokio::test]
async fn keys_are_fetched_over_tls_and_again_when_they_changed() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let site = Site::listening(Some(acceptor(&ca, &[dns("localhost")]))).await;
    let roots = file(dir.path(), "ca.pem", &ca.pem());
    let url = format!("https://localhost:{}/jwks?v=1", site.address.port());
    let (_issuers, remote) = remote(&url, Some(&roots));
    site.says("200 OK", SET);
    assert!(patient(fetch(remote.begin(at(0)).unwrap(), kit::PATIENCE)).await);
    let heard = site.heard.lock().unwrap()[0].to_lowercase();
    assert!(heard.starts_with("get /jwks?v=1 http/1.1\r\n"), "{heard}");
    assert!(heard.contains(&format!("host: localhost:{}\r\n", site.address.port())), "{heard}");
    // What does not serve leaves the keys as they are, and is tried again soon.
    let mut now = 1000;
    let long = " ".repeat(300 * 1024);
    for (head, body) in [
        ("301 Moved Permanently\r\nlocation: /other", SET),
        ("404 Not Found", ""),
        ("500 Internal Server Error", SET),
        ("204 No Content", ""),
        ("200 OK", ""),
        ("200 OK", "{\"keys\":[]}"),
        ("200 OK", long.as_str()),
    ] {
        site.says(head, body);
        assert!(!patient(fetch(remote.begin(at(now)).unwrap(), kit::PATIENCE)).await, "{head}");
        assert!(remote.begin(at(now)).is_none());
        now += 30;
    }
    // A renewed authority counts from the next time on, without a reload.
    assert_eq!(site.heard.lock().unwrap().len(), 8, "no redirect was followed");
    let other = Ca::of("another");
    std::fs::write(&roots, other.pem()).unwrap();
    site.says("200 OK", &SET.replace("KID", "next"));
    assert!(!patient(fetch(remote.begin(at(now)).unwrap(), kit::PATIENCE)).await);
    std::fs::write(&roots, ca.pem()).unwrap();
    assert!(patient(fetch(remote.begin(at(now + 30)).unwrap(), kit::PATIENCE)).await);
}

#[tokio::test]
async fn whoever_cannot_be_believed_or_does_not_answer_is_refused_by_name() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let roots = file(dir.path(), "ca.pem", &ca.pem());
    let empty = file(dir.path(), "empty.pem", "");
    let get = async |url: &str, ca: Option<&Path>, deadline| {
        let peer = Peer::new(url, ca, 1024, deadline).unwrap();
        patient(peer.send(Method::GET, Bytes::new(), None)).await.map(|answer| answer.status)
    };
    let long = kit::PATIENCE;
    let named = Site::listening(Some(acceptor(&ca, &[dns("elsewhere")]))).await;
    named.says("200 OK", "");
    let url = format!("https://localhost:{}/", named.address.port());
    let said = get(&url, Some(&roots), long).await.unwrap_err();
    assert!(said.contains("certificate"), "{said}");
    assert!(named.heard.lock().unwrap().is_empty(), "nothing was asked");
    let other = Site::listening(Some(acceptor(&Ca::of("b"), &[dns("localhost")]))).await;
    let url = format!("https://localhost:{}/", other.address.port());
    let said = get(&url, Some(&roots), long).await.unwrap_err();
    assert!(said.contains("certificate"), "{said}");
    for (ca, says) in [(empty.as_path(), "no usable certificate"), (dir.path(), "no file")] {
        let said = get(&url, Some(ca), long).await.unwrap_err();
        assert!(said.contains(says), "{said}");
    }
    let clear = Site::listening(None).await;
    let url = format!("http://{}/", clear.address);
    let said = get(&url, None, SHORT).await.unwrap_err();
    assert!(said.contains("no answer within"), "{said}");
    *clear.says.lock().unwrap() = b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\ncut".to_vec();
    let said = get(&url, None, long).await.unwrap_err();
    assert!(said.contains("in the middle"), "{said}");
    *clear.says.lock().unwrap() = b"secret nonsense\r\n\r\n".to_vec();
    let said = get(&url, None, long).await.unwrap_err();
    assert!(!said.contains("secret"), "{said}");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(get(&format!("http://{gone}/"), None, long).await.is_err());
    for (url, ca) in
        [("http://a/", Some(roots.as_path())), ("https://a/", None), ("ftp://a/", None)]
    {
        assert!(Peer::new(url, ca, 1, long).is_err(), "{url}");
    }
}
