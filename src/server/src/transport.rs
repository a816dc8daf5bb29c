//! The listener: TLS 1.3 with client certificates, HTTP/2 inside, limits everywhere.
//!
//! [`serve`] takes any hyper service; [`crate::Services`] is ours, and a tower service fits through
//! `hyper_util::service::TowerToHyperService`. Every request carries its caller as a
//! [`fieldseal_model::Principal`] in its extensions.

mod backoff;
mod census;
mod connection;
mod handshake;
mod identity;
mod limits;
mod refused;
mod tls;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use identity::{IdentityError, principal};
pub use limits::{Limits, MAX_HEADER_LIST_BYTES, MAX_MESSAGE_BYTES};
pub use tls::{Tls, TlsError, TlsSettings};

pub(crate) use backoff::AcceptBackoff;
use census::Census;
use connection::{Refusal, Shared};
use refused::RefusalLog;
pub(crate) use tls::CertificateTimes;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service that answers the requests of all connections: any hyper service that can be cloned.
/// There is nothing to implement.
pub trait Answers:
    hyper::service::Service<
        Request<Incoming>,
        Response = Response<Self::Content>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of its responses.
    type Content: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> Answers for S
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Content = B;
}

type Failure<S> = <S as hyper::service::Service<Request<Incoming>>>::Error;

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off, since the listener started, because their calls went on
    /// longer than [`Limits::drain`] after GOAWAY.
    pub cut_off: usize,
}

/// Serves `service` on `listener` until `shutdown` is ready, then drains: no more connections,
/// pending handshakes are dropped, open connections get GOAWAY, and whatever is still open after
/// [`Limits::drain`] is cut off (which cancels its calls).
///
/// Nothing that a peer does ends the loop: failed handshakes and refused connections are logged,
/// at most 20 lines a second, and errors of `accept` slow it down.
pub async fn serve<S: Answers>(
    listener: TcpListener,
    tls: Tls,
    limits: Limits,
    service: S,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    let connections = Arc::new(Semaphore::new(limits.connections));
    let shared = Arc::new(Shared {
        tls,
        service,
        census: Census::new(limits.connections_per_principal),
        refused: RefusalLog::new(),
        draining: CancellationToken::new(),
        cut_off: AtomicUsize::new(0),
        http2: connection::http2_settings(&limits),
        limits,
    });
    let tasks = TaskTracker::new();
    let mut backoff = AcceptBackoff::default();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            accepted = accept(&listener, &handshakes) => accepted,
        };
        match accepted {
            Ok((stream, peer, pending)) => {
                backoff.accepted();
                let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
                    shared.refused.line(peer, &Refusal::Connections(shared.limits.connections));
                    continue;
                };
                let running = connection::run(Arc::clone(&shared), stream, peer, pending);
                tasks.spawn(async move {
                    running.await;
                    drop(place);
                });
            }
            Err(error) => {
                let Some(pause) = backoff.after(&error) else { continue };
                tracing::error!(event = "accept_failed", %error, pause_ms = pause.as_millis());
                tokio::select! {
                    biased;
                    () = shutdown.as_mut() => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
    drop(listener);
    shared.draining.cancel();
    tasks.close();
    tasks.wait().await;
    Drained { cut_off: shared.cut_off.load(Ordering::Relaxed) }
}

type Arrival = (tokio::net::TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Accepts when there is room for one more handshake.
async fn accept(
    listener: &TcpListener,
    handshakes: &Arc<Semaphore>,
) -> Result<Arrival, std::io::Error> {
    let pending = Arc::clone(handshakes).acquire_owned().await;
    let pending = pending.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, pending))
}
