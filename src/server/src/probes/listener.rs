//! The second listener: plaintext HTTP/1.1, three paths, nothing else.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::exposition::Form;
use super::observer::{LIVE, Observer, State};
use crate::transport::AcceptBackoff;

/// Connections at the same time. One more, and the oldest is cut off: whoever says nothing must not
/// keep a probe out.
const CONNECTIONS: usize = 32;
/// How long a request's head may take to arrive.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// How long a connection may live, with its one request and its answer.
const LIFE: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes; the smallest that the library knows.
const HEAD_BYTES: usize = 8 * 1024;
/// The most header lines of a request.
const HEADERS: usize = 32;
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers probes and scrapes until it is dropped.
pub(crate) async fn serve(listener: TcpListener, observer: Arc<Observer>) {
    let mut open = VecDeque::<AbortOnDropHandle<()>>::with_capacity(CONNECTIONS);
    let mut backoff = AcceptBackoff::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                backoff.accepted();
                open.retain(|connection| !connection.is_finished());
                if open.len() >= CONNECTIONS {
                    // Dropped, it is cut off.
                    drop(open.pop_front());
                    observer.cut_off();
                }
                let observer = Arc::clone(&observer);
                let connection = tokio::spawn(async move {
                    // Whoever is too slow or does not speak HTTP is cut off, and nothing is said.
                    let _ = timeout(LIFE, connection(stream, observer)).await;
                });
                open.push_back(AbortOnDropHandle::new(connection));
            }
            Err(error) => {
                if let Some(pause) = backoff.after(&error) {
                    sleep(pause).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, observer: Arc<Observer>) -> Result<(), hyper::Error> {
    let answer = |request| {
        let observer = Arc::clone(&observer);
        async move { Ok::<_, Infallible>(answer(&request, observer).await) }
    };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
}

async fn answer(request: &Request<Incoming>, observer: Arc<Observer>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !["/livez", "/readyz", "/metrics"].contains(&path) {
        let what = "there is /livez, /readyz and /metrics\n";
        return response(StatusCode::NOT_FOUND, TEXT, what.into());
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/livez" => response(StatusCode::OK, TEXT, LIVE.into()),
        "/readyz" => match observer.state() {
            State::Ready => response(StatusCode::OK, TEXT, State::Ready.says().into()),
            other => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, other.says().into()),
        },
        _ => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            metrics(Form::accepted(accept), observer).await
        }
    }
}

async fn metrics(form: Form, observer: Arc<Observer>) -> Response<Full<Bytes>> {
    let text = tokio::task::spawn_blocking(move || observer.families().text(form)).await;
    match text {
        Ok(Ok(text)) => response(StatusCode::OK, form.content_type(), text.into()),
        _ => {
            let what = "the metrics cannot be written\n";
            response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, what.into())
        }
    }
}

fn response(status: StatusCode, content: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
