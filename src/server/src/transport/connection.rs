//! One connection: handshake, caller, HTTP/2, good-bye.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fieldseal_crypto::sha256;
use fieldseal_model::{CertificateId, Principal};
use fieldseal_service::Leaving;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::census::{Census, Seat};
use super::handshake::Why;
use super::identity::{IdentityError, principal};
use super::limits::{Limits, MAX_HEADER_LIST_BYTES};
use super::refused::RefusalLog;
use super::tls::{ALPN_H2, Tls};
use super::{Answers, Failure};
use crate::usage::Usage;

/// How many bytes of requests may be on their way, on one call and on one connection. A message
/// of [`super::MAX_MESSAGE_BYTES`] passes in a few rounds, a batch of 1,000 short fields in one.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The largest frame we accept.
const FRAME_BYTES: u32 = 64 * 1024;
/// How many bytes of answers one call keeps waiting for a slow reader.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_millis(500);
/// Reads of 1 KiB after which a refused peer is not listened to any more.
const LINGER_READS: usize = 64;
/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What all connections of a listener share.
pub(super) struct Shared<S> {
    pub(super) tls: Tls,
    pub(super) limits: Limits,
    pub(super) service: S,
    pub(super) census: Census,
    pub(super) refused: RefusalLog,
    /// Cancelled on shutdown: whoever waits in a handshake goes, everybody else gets GOAWAY.
    pub(super) draining: CancellationToken,
    /// Connections that were cut off because their calls did not end in time.
    pub(super) cut_off: AtomicUsize,
    pub(super) http2: http2::Builder<TokioExecutor>,
}

/// The HTTP/2 settings, the same for every service.
pub(super) fn http2_settings(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .auto_date_header(false);
    http2
}

/// Why a connection was closed before its first call.
pub(super) enum Refusal {
    Connections(usize),
    Handshake(std::io::Error),
    Deadline(Duration),
    Protocol,
    Preface,
    Caller(IdentityError),
    PrincipalConnections(Principal, usize),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections(limit) => write!(f, "all {limit} connections are in use"),
            Self::Handshake(e) => Why(e).fmt(f),
            Self::Deadline(limit) => {
                write!(f, "the tls handshake was not over after {} ms", limit.as_millis())
            }
            Self::Protocol => f.write_str("the client did not offer h2 (alpn)"),
            Self::Preface => f.write_str("the client did not begin with http/2"),
            Self::Caller(e) => e.fmt(f),
            Self::PrincipalConnections(who, limit) => {
                write!(f, "{who} has all {limit} connections that a principal may have")
            }
        }
    }
}

/// A connection whose caller is known.
struct Accepted {
    stream: TlsStream<TcpStream>,
    principal: Principal,
    seat: Seat,
}

/// Serves one connection from the handshake to its end.
pub(super) async fn run<S: Answers>(
    shared: Arc<Shared<S>>,
    stream: TcpStream,
    peer: SocketAddr,
    pending: OwnedSemaphorePermit,
) {
    let limit = shared.limits.handshake;
    let accepted = tokio::select! {
        biased;
        () = shared.draining.cancelled() => return,
        accepted = timeout(limit, accept(&shared, stream)) => accepted,
    };
    drop(pending);
    match accepted.unwrap_or(Err(Refusal::Deadline(limit))) {
        Ok(accepted) => serve(&shared, accepted, peer).await,
        Err(refusal) => shared.refused.line(peer, &refusal),
    }
}

async fn accept<S: Answers>(shared: &Shared<S>, stream: TcpStream) -> Result<Accepted, Refusal> {
    stream.set_nodelay(true).map_err(Refusal::Handshake)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.tls.config));
    let mut stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((error, stream)) => {
            linger(stream).await;
            return Err(Refusal::Handshake(error));
        }
    };
    match begin(shared, &mut stream).await {
        Ok((principal, seat)) => Ok(Accepted { stream, principal, seat }),
        Err(refusal) => {
            // The refusal is what counts; whether the peer still listens to the good-bye is not.
            let _ = stream.shutdown().await;
            Err(refusal)
        }
    }
}

/// Lets a refused peer read the alert that says why: a socket that is closed while the peer still
/// sends is reset, and the alert is lost with it (RFC 9293, section 3.10.4; RFC 8446, section 6.2).
async fn linger(mut stream: TcpStream) {
    let heard = timeout(LINGER, async {
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        for _ in 0..LINGER_READS {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(())
    });
    // Whether the peer listened is its own affair.
    let _ = heard.await;
}

/// What must be true after the handshake.
async fn begin<S: Answers>(
    shared: &Shared<S>,
    stream: &mut TlsStream<TcpStream>,
) -> Result<(Principal, Seat), Refusal> {
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(ALPN_H2) {
        return Err(Refusal::Protocol);
    }
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or(Refusal::Caller(IdentityError::Unreadable))?;
    let caller = principal(certificate, shared.tls.principal).map_err(Refusal::Caller)?;
    let caller = caller.with_certificate(CertificateId::of(&sha256(&[certificate])));
    let seat = shared.census.seat(&caller).ok_or_else(|| {
        Refusal::PrincipalConnections(caller.clone(), shared.limits.connections_per_principal)
    })?;
    // Looked at, not taken: hyper reads the preface again.
    let first = stream.fill_buf().await.map_err(Refusal::Handshake)?;
    let expected = PREFACE.get(..first.len().min(PREFACE.len())).unwrap_or(PREFACE);
    if first.is_empty() || !first.starts_with(expected) {
        return Err(Refusal::Preface);
    }
    Ok((caller, seat))
}

async fn serve<S: Answers>(shared: &Shared<S>, accepted: Accepted, peer: SocketAddr) {
    let Accepted { stream, principal, seat } = accepted;
    let certificate = principal.certificate().map(tracing::field::display);
    tracing::debug!(event = "connection_opened", %peer, %principal, certificate);
    let leaving = Leaving::default();
    let service = Identified {
        service: shared.service.clone(),
        principal: principal.clone(),
        usage: Arc::clone(&seat.usage),
        leaving: leaving.clone(),
    };
    let mut connection = pin!(shared.http2.serve_connection(TokioIo::new(stream), service));
    // The signals have a waker of their own, so that they cost nothing while requests come.
    let mut signals = FuturesUnordered::new();
    signals.push(next_signal(shared, Phase::Serving, peer));
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            Some(signal) = signals.next() => match signal {
                Signal::GoAway => {
                    leaving.now();
                    connection.as_mut().graceful_shutdown();
                    signals.push(next_signal(shared, Phase::Leaving, peer));
                }
                Signal::CutOff => {
                    shared.cut_off.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(event = "connection_cut_off", %peer, %principal);
                    break Ok(());
                }
            },
        }
    };
    drop(seat);
    match ended {
        Ok(()) => tracing::debug!(event = "connection_closed", %peer, %principal),
        Err(error) => tracing::debug!(event = "connection_failed", %peer, %principal, %error),
    }
}

enum Phase {
    Serving,
    Leaving,
}

enum Signal {
    GoAway,
    CutOff,
}

async fn next_signal<S: Answers>(shared: &Shared<S>, phase: Phase, peer: SocketAddr) -> Signal {
    let limits = &shared.limits;
    match phase {
        Phase::Serving => tokio::select! {
            () = shared.draining.cancelled() => Signal::GoAway,
            () = sleep(spread(limits.connection_age, peer.port())) => Signal::GoAway,
        },
        Phase::Leaving => {
            sleep(limits.drain).await;
            Signal::CutOff
        }
    }
}

/// Between nine and eleven tenths of `age`, so that connections made together do not leave
/// together. The port decides: it differs from connection to connection.
fn spread(age: Duration, port: u16) -> Duration {
    age.saturating_mul(900u32.saturating_add(u32::from(port % 200))) / 1000
}

/// The service of one connection: every request carries its caller.
struct Identified<S> {
    service: S,
    principal: Principal,
    usage: Arc<Usage>,
    /// Ends the answers that have no end of their own.
    leaving: Leaving,
}

impl<S: Answers> hyper::service::Service<Request<Incoming>> for Identified<S> {
    type Response = http::Response<S::Content>;
    type Error = Failure<S>;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.principal.clone());
        request.extensions_mut().insert(Arc::clone(&self.usage));
        request.extensions_mut().insert(self.leaving.clone());
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_spread_by_a_tenth() {
        let age = Duration::from_secs(600);
        assert_eq!(spread(age, 0), Duration::from_secs(540));
        assert_eq!(spread(age, 100), age);
        assert!((0..=u16::MAX).all(|port| spread(age, port) < Duration::from_secs(660)));
    }
}
