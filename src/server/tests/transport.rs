//! What the listener refuses, what it accepts, and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fieldseal_model::PrincipalKind;
use fieldseal_server::CallLimits;
use fieldseal_server::transport::{Drained, Limits, Tls, TlsError};
use kit::{APP, Ca, Connection, Server, dns, handshake, patient, request, say, uri};
use rcgen::{DnType, date_time_ymd};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The alert with which the server refuses this client.
async fn alert(server: &Server, config: ClientConfig) -> Option<AlertDescription> {
    let refused = async {
        let mut stream = handshake(server.address, config).await?;
        // In TLS 1.3 a client learns after its own handshake that its certificate is refused.
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        Ok::<_, std::io::Error>(())
    };
    let error = patient(refused).await.unwrap_err();
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn only_certificates_of_the_client_ca_within_their_time_are_accepted() {
    let ca = Ca::new();
    let server = Server::start(&ca, Limits::default()).await;
    for (authority, expected) in [
        (Ca::of("another authority"), AlertDescription::UnknownCA),
        // The right name, but not the key.
        (Ca::new(), AlertDescription::DecryptError),
    ] {
        let stranger = authority.app();
        assert_eq!(alert(&server, ca.client(Some(&stranger))).await, Some(expected));
    }
    assert_eq!(alert(&server, ca.client(None)).await, Some(AlertDescription::CertificateRequired));
    let expired = ca.issue(|params| {
        params.subject_alt_names = vec![uri(APP)];
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    assert_eq!(
        alert(&server, ca.client(Some(&expired))).await,
        Some(AlertDescription::CertificateExpired)
    );
    let early = ca.issue(|params| {
        params.subject_alt_names = vec![uri(APP)];
        params.not_before = date_time_ymd(4001, 1, 1);
        params.not_after = date_time_ymd(4002, 1, 1);
    });
    assert!(alert(&server, ca.client(Some(&early))).await.is_some());
    let wrong_use = ca.issue(|params| {
        params.subject_alt_names = vec![uri(APP)];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(alert(&server, ca.client(Some(&wrong_use))).await.is_some());

    let said = say(server.address, ca.client(Some(&ca.app()))).await.unwrap();
    assert_eq!(said, format!("{APP} hello"));
}

#[tokio::test]
async fn a_certificate_names_exactly_one_caller_of_the_configured_kind() {
    let ca = Ca::new();
    let server = Server::start(&ca, Limits::default()).await;
    let refused = [
        vec![],
        vec![dns("app.internal")],
        vec![uri(APP), uri("spiffe://example.org/other")],
        vec![uri(APP), uri(APP)],
        vec![uri(APP), uri("https://example.org/")],
        vec![uri("https://example.org/app")],
        vec![uri("spiffe://example.org/../app")],
    ];
    for names in refused {
        let issued = ca.named(&names);
        assert!(alert(&server, ca.client(Some(&issued))).await.is_some(), "{names:?}");
    }
    let with_host = ca.named(&[dns("app.internal"), uri(APP)]);
    assert!(say(server.address, ca.client(Some(&with_host))).await.unwrap().starts_with(APP));
}

#[tokio::test]
async fn names_of_other_kinds_count_only_where_configured() {
    let ca = Ca::new();
    let common =
        |name: &str| ca.issue(|params| params.distinguished_name.push(DnType::CommonName, name));
    let both = ca.issue(|params| {
        params.subject_alt_names = vec![uri(APP), dns("app.internal")];
        params.distinguished_name.push(DnType::CommonName, "Some App");
    });
    for (kind, refused, accepted) in [
        (PrincipalKind::Dns, common("app.internal"), "dns:app.internal hello"),
        (PrincipalKind::CommonName, ca.named(&[uri(APP)]), "cn:Some App hello"),
    ] {
        let limits = (Limits::default(), CallLimits::default());
        let server = Server::with(&ca, limits.0, limits.1, kind).await;
        if kind == PrincipalKind::Dns {
            let wildcard = ca.named(&[dns("*.internal")]);
            assert!(alert(&server, ca.client(Some(&wildcard))).await.is_some());
            assert!(alert(&server, ca.client(Some(&refused))).await.is_some());
        }
        assert_eq!(say(server.address, ca.client(Some(&both))).await.unwrap(), accepted);
    }
}

#[tokio::test]
async fn other_protocols_are_refused() {
    let ca = Ca::new();
    let app = ca.app();
    let server = Server::start(&ca, Limits::default()).await;

    let old = ca.client_of(Some(&app), &[&rustls::version::TLS12]);
    assert_eq!(alert(&server, old).await, Some(AlertDescription::ProtocolVersion));

    let mut http1 = ca.client(Some(&app));
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert_eq!(alert(&server, http1).await, Some(AlertDescription::NoApplicationProtocol));

    let mut none = ca.client(Some(&app));
    none.alpn_protocols.clear();
    let mut stream = handshake(server.address, none).await.unwrap();
    assert_eq!(patient(stream.read_to_end(&mut Vec::new())).await.unwrap(), 0);

    let mut http1_inside = handshake(server.address, ca.client(Some(&app))).await.unwrap();
    http1_inside.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let _ = patient(http1_inside.read_to_end(&mut Vec::new())).await;

    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let _ = patient(plain.read_to_end(&mut Vec::new())).await;

    assert!(say(server.address, ca.client(Some(&app))).await.is_ok());
}

#[tokio::test]
async fn nothing_is_resumed() {
    let ca = Ca::new();
    let server = Server::start(&ca, Limits::default()).await;
    let config = ca.client(Some(&ca.app()));
    for _ in 0..2 {
        let mut stream = handshake(server.address, config.clone()).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        // The server's SETTINGS come after any ticket would have come.
        stream.read_exact(&mut [0; 9]).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.tls13_tickets_received(), 0);
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let group = session.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
    }
}

#[tokio::test]
async fn a_stalled_handshake_ends_at_its_deadline_and_makes_room() {
    let ca = Ca::new();
    let limits =
        Limits { handshake: Duration::from_millis(200), handshakes: 1, ..Limits::default() };
    let server = Server::start(&ca, limits).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    // Takes its turn behind the two, the one place being theirs until their deadlines.
    let mut connection =
        patient(Connection::open(server.address, ca.client(Some(&ca.app())))).await.unwrap();
    assert!(connection.call("/test.Echo/Say").await.is_ok());
    let _ = patient(silent.read_to_end(&mut Vec::new())).await;
    let _ = patient(half.read_to_end(&mut Vec::new())).await;
    // The one that is past its handshake is served on, the one that says nothing in it is not.
    let mut mute = handshake(server.address, ca.client(Some(&ca.app()))).await.unwrap();
    let _ = patient(mute.read_to_end(&mut Vec::new())).await;
    assert!(connection.call("/test.Echo/Say").await.is_ok());
}

#[tokio::test]
async fn one_connection_too_many_is_closed_until_there_is_room() {
    let ca = Ca::new();
    let app = ca.app();
    let server = Server::start(&ca, Limits { connections: 1, ..Limits::default() }).await;
    let mut first = Connection::open(server.address, ca.client(Some(&app))).await.unwrap();
    assert!(first.call("/test.Echo/Say").await.is_ok());
    assert!(say(server.address, ca.client(Some(&app))).await.is_err());
    assert!(first.call("/test.Echo/Say").await.is_ok());
    drop(first);
    let again = async { while say(server.address, ca.client(Some(&app))).await.is_err() {} };
    patient(again).await;
}

#[tokio::test]
async fn a_principal_has_only_its_own_connections() {
    let ca = Ca::new();
    let (app, other) = (ca.app(), ca.named(&[uri("spiffe://example.org/other")]));
    let limits = Limits { connections_per_principal: 1, ..Limits::default() };
    let server = Server::start(&ca, limits).await;
    let mut first = Connection::open(server.address, ca.client(Some(&app))).await.unwrap();
    assert!(first.call("/test.Echo/Say").await.is_ok());
    // Another certificate, but the same principal.
    assert!(say(server.address, ca.client(Some(&ca.app()))).await.is_err());
    assert!(say(server.address, ca.client(Some(&other))).await.is_ok());
    assert!(first.call("/test.Echo/Say").await.is_ok());
    drop(first);
    let again = async { while say(server.address, ca.client(Some(&app))).await.is_err() {} };
    patient(again).await;
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go() {
    let ca = Ca::new();
    let limits = Limits { connection_age: Duration::from_millis(1), ..Limits::default() };
    let server = Server::start(&ca, limits).await;
    let connection = Connection::open(server.address, ca.client(Some(&ca.app()))).await.unwrap();
    assert!(patient(connection.ended).await.unwrap().is_ok());
}

#[tokio::test]
async fn large_messages_pass_and_large_headers_do_not() {
    let ca = Ca::new();
    let server = Server::start(&ca, Limits::default()).await;
    let mut connection =
        Connection::open(server.address, ca.client(Some(&ca.app()))).await.unwrap();
    let mut wide = request("/test.Echo/Say", Bytes::new());
    wide.headers_mut().insert("x-wide", "w".repeat(17 * 1024).parse().unwrap());
    assert!(!connection.send(wide).await.is_ok_and(|answer| answer.http == 200));
    let message = Bytes::from(vec![7; 4 * 1024 * 1024]);
    let answer = connection.send(request("/test.Echo/Say", message.clone())).await.unwrap();
    assert_eq!(answer.body.len(), message.len() + APP.len() + 1);
}

#[tokio::test]
async fn shutdown_finishes_the_calls_that_run_and_takes_no_more() {
    let ca = Ca::new();
    let app = ca.app();
    let server = Server::start(&ca, Limits::default()).await;
    let stalled = TcpStream::connect(server.address).await.unwrap();
    let connection = Connection::open(server.address, ca.client(Some(&app))).await.unwrap();
    let mut sender = connection.sender.clone();
    let call = tokio::spawn(async move {
        kit::answer(&mut sender, request("/test.Echo/Wait", Bytes::from_static(b"late"))).await
    });
    server.one_waits().await;
    server.stop.send(()).unwrap();
    // GOAWAY has come when the connection takes no more calls.
    let mut sender = connection.sender.clone();
    let mut refused = async || loop {
        if kit::answer(&mut sender, request("/test.Echo/Say", Bytes::new())).await.is_err() {
            break;
        }
    };
    patient(refused()).await;
    assert!(say(server.address, ca.client(Some(&app))).await.is_err());
    assert!(!server.ended.is_finished());
    server.echo.gate.add_permits(1);
    let answer = call.await.unwrap().unwrap();
    assert_eq!(answer.body, format!("{APP} late"));
    assert_eq!(patient(server.ended).await.unwrap(), Drained { cut_off: 0 });
    drop(stalled);
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_off() {
    let ca = Ca::new();
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let server = Server::start(&ca, limits).await;
    let connection = Connection::open(server.address, ca.client(Some(&ca.app()))).await.unwrap();
    let mut sender = connection.sender.clone();
    let call = tokio::spawn(async move {
        kit::answer(&mut sender, request("/test.Echo/Wait", Bytes::new())).await
    });
    server.one_waits().await;
    server.stop.send(()).unwrap();
    assert_eq!(patient(server.ended).await.unwrap(), Drained { cut_off: 1 });
    assert!(call.await.unwrap().is_err());
    let gone = async {
        while Arc::strong_count(&server.echo.gate) > 2 || server.calls.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    };
    patient(gone).await;
}

#[test]
fn unusable_material_is_named_by_its_setting() {
    let ca = Ca::new();
    let setting = |change: &dyn Fn(&mut fieldseal_server::transport::TlsSettings)| {
        let mut settings = ca.tls(PrincipalKind::Spiffe);
        change(&mut settings);
        match Tls::new(&settings).err() {
            Some(TlsError::Pem { setting, .. } | TlsError::Unusable { setting, .. }) => setting,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(setting(&|s| s.certificate.clear()), "tls.certificate");
    assert_eq!(setting(&|s| s.private_key = b"no key".to_vec()), "tls.private_key");
    assert_eq!(setting(&|s| s.client_ca = s.private_key.clone()), "tls.client_ca");
    let other_key = ca.app().key.serialize_pem().into_bytes();
    assert_eq!(
        setting(&|s| s.private_key = other_key.clone()),
        "tls.certificate with tls.private_key"
    );
    let missing = std::path::Path::new("/does/not/exist");
    let kind = PrincipalKind::Spiffe;
    let error =
        fieldseal_server::transport::TlsSettings::from_files(missing, missing, missing, kind);
    let text = error.err().unwrap().to_string();
    assert!(text.contains("/does/not/exist") && text.contains("tls.certificate"), "{text}");
}
