//! Asks a second listener, as `fieldseal health` does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::observer::{LIVE, State};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any answer has.
const MOST_BYTES: usize = 1024;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether the process does anything at all. If not, it must be started anew.
    Liveness,
    /// Whether it can serve every call. If not, callers wait or go elsewhere.
    Readiness,
}

impl Probe {
    /// The path that answers it.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Liveness => "/livez",
            Self::Readiness => "/readyz",
        }
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// Whether the answer is yes.
    pub ok: bool,
    /// What it says, one line.
    pub says: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens there, or it cannot be reached.
    #[error("nothing answers at {0}: {1}")]
    Unreachable(SocketAddr, std::io::Error),
    /// It takes too long.
    #[error("{0} did not answer within {limit} seconds", limit = PATIENCE.as_secs())]
    Slow(SocketAddr),
    /// What answers is something else.
    #[error("what listens at {0} is not the second listener of a sidecar")]
    Foreign(SocketAddr),
}

/// Asks the second listener at `address`. One that listens everywhere is asked on loopback.
///
/// # Errors
/// If there is no answer, or not one of ours.
pub async fn ask(address: SocketAddr, probe: Probe) -> Result<ProbeAnswer, ProbeError> {
    let address = reachable(address);
    let asked = timeout(PATIENCE, exchange(address, probe));
    asked.await.unwrap_or(Err(ProbeError::Slow(address)))
}

fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn exchange(address: SocketAddr, probe: Probe) -> Result<ProbeAnswer, ProbeError> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| ProbeError::Unreachable(address, error))?;
    let foreign = || ProbeError::Foreign(address);
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| foreign())?;
    let request = Request::get(probe.path())
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| foreign())?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(|_| foreign())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let says = body.map_err(|_| foreign())?.to_bytes();
        Ok((status, says))
    };
    let mut answered = pin!(answered);
    let (status, says) = tokio::select! {
        answered = &mut answered => answered?,
        // It may end first, and the answer is here already.
        _ = connection => answered.await?,
    };
    known(status, &says).ok_or_else(foreign)
}

/// The answer, if it is word for word one of ours: it is shown to people, and anybody may listen there.
fn known(status: StatusCode, says: &[u8]) -> Option<ProbeAnswer> {
    let answer = |ok, says: &str| ProbeAnswer { ok, says: says.trim_end().to_owned() };
    match status {
        StatusCode::OK => {
            let ours = [LIVE, State::Ready.says()];
            ours.into_iter().find(|ours| ours.as_bytes() == says).map(|ours| answer(true, ours))
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            let mut ours = State::NOT_READY.iter().map(|state| state.says());
            ours.find(|ours| ours.as_bytes() == says).map(|ours| answer(false, ours))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:7480", "127.0.0.1:7480"),
            ("[::]:7480", "[::1]:7480"),
            ("10.0.0.7:7480", "10.0.0.7:7480"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn only_the_answers_of_a_second_listener_are_shown() {
        for state in State::NOT_READY {
            let answer = known(StatusCode::SERVICE_UNAVAILABLE, state.says().as_bytes()).unwrap();
            assert_eq!((answer.ok, format!("{}\n", answer.says).as_str()), (false, state.says()));
        }
        for (status, says) in [
            (503, "not ready: \u{1b}]0;owned\u{7}\n"),
            (503, "not ready"),
            (503, "not ready: starting\u{1b}[2J\n"),
            (503, "not ready: starting\n\n"),
            (503, "ready\n"),
            (200, "not ready: starting\n"),
            (200, "live"),
            (404, "live\n"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(known(status, says.as_bytes()), None, "{says:?}");
        }
    }
}
