//! The limits of a call: how many at once, and for how long.

mod arriving;
mod tally;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fieldseal_model::Principal;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::body::Body;

use crate::refusal::{CallRefusal, completed};
use crate::services::{Answer, Services};
use crate::usage::{Budget, Held, Usage, share};
pub use arriving::Arriving;
pub(crate) use tally::Tally;
use tally::Timed;

/// The limits of calls over all connections of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallLimits {
    /// Calls that are being handled at the same time. One more is refused, not queued. Health
    /// checks pass, so that a busy process is not taken for a dead one. One principal has at most
    /// seven eighths of them.
    pub in_flight: usize,
    /// Bytes of requests that are on their way or being handled, likewise.
    pub request_bytes: usize,
    /// The deadline where the caller sets none.
    pub deadline: Duration,
    /// The longest deadline that a caller gets, whatever it asks for.
    pub longest_deadline: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            in_flight: 1_024,
            request_bytes: 128 * 1024 * 1024,
            deadline: Duration::from_secs(10),
            longest_deadline: Duration::from_secs(60),
        }
    }
}

/// [`Services`] within [`CallLimits`]. Cheap to clone; clones share one count.
///
/// At its deadline the handler is dropped: a call that already has an audit record keeps it. The
/// deadline covers the request and the handler; the body of a streaming answer ends with its
/// connection at the latest.
#[derive(Clone)]
pub struct LimitedServices {
    services: Services,
    limits: CallLimits,
    running: Arc<AtomicUsize>,
    budget: Arc<Budget>,
    shedding: Arc<Shedding>,
    tally: Arc<Tally>,
}

impl LimitedServices {
    /// Puts the limits around the services.
    #[must_use]
    pub fn new(services: Services, limits: CallLimits) -> Self {
        Self {
            services,
            budget: Arc::new(Budget::new(limits.request_bytes)),
            limits,
            running: Arc::default(),
            shedding: Arc::default(),
            tally: Arc::new(Tally::new()),
        }
    }

    /// How many calls are being handled now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// What became of all calls.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    fn start(&self, request: Request<Incoming>, now: Instant) -> Result<State, CallRefusal> {
        let usage = request.extensions().get::<Arc<Usage>>().cloned().unwrap_or_default();
        let held = Arc::new(Held::nothing(&self.budget, &usage));
        let place = Place::take(&self.running, usage, Arc::clone(&held));
        let most = self.limits.in_flight;
        let no_room = place.number >= most || place.own >= share(most);
        if no_room && !is_health_check(&request) {
            self.shedding.line(request.extensions().get(), now);
            return Err(CallRefusal::TooManyCalls);
        }
        let asked = timeout(request.headers())?;
        let granted = asked.map_or(self.limits.deadline, |t| t.min(self.limits.longest_deadline));
        let deadline = sleep_until(now + granted);
        let request = request.map(|body| Arriving::new(body, held));
        let answer = self.services.answer(request);
        Ok(State::Running { answer, deadline, place: Some(place) })
    }
}

impl hyper::service::Service<Request<Incoming>> for LimitedServices {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = LimitedCall;

    fn call(&self, request: Request<Incoming>) -> LimitedCall {
        let now = Instant::now();
        let timed = Some(self.tally.begin(request.uri().path(), now.into_std()));
        let state = self.start(request, now).unwrap_or_else(|refusal| State::Refused { refusal });
        LimitedCall { state, timed }
    }
}

fn is_health_check<B>(request: &Request<B>) -> bool {
    request.uri().path().starts_with("/grpc.health.v1.Health/")
}

/// How often at most a line says that calls are shed.
const SHEDDING_EVERY: Duration = Duration::from_secs(1);

/// Says in the log lines whose calls are shed.
#[derive(Default)]
struct Shedding(Mutex<Option<Instant>>);

impl Shedding {
    fn line(&self, principal: Option<&Principal>, now: Instant) {
        let mut last = self.0.lock();
        if last.is_some_and(|last| now.duration_since(last) < SHEDDING_EVERY) {
            return;
        }
        *last = Some(now);
        let principal = principal.map_or("", Principal::as_str);
        tracing::warn!(event = "calls_shed", principal, "as many calls as it takes are running");
    }
}

/// One call that is being handled.
struct Place {
    running: Arc<AtomicUsize>,
    usage: Arc<Usage>,
    /// The bytes of its request are given back with its place.
    _held: Arc<Held>,
    /// How many were there before it, and how many of its principal.
    number: usize,
    own: usize,
}

impl Place {
    fn take(running: &Arc<AtomicUsize>, usage: Arc<Usage>, held: Arc<Held>) -> Self {
        let number = running.fetch_add(1, Ordering::Relaxed);
        let own = usage.calls.fetch_add(1, Ordering::Relaxed);
        Self { running: Arc::clone(running), usage, _held: held, number, own }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.usage.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// A call on its way to its answer or its deadline.
    pub struct LimitedCall {
        #[pin]
        state: State,
        timed: Option<Timed>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State {
        Running { answer: Answer, #[pin] deadline: Sleep, place: Option<Place> },
        Refused { refusal: CallRefusal },
    }
}

impl Future for LimitedCall {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.project();
        let answer = ready!(call.state.poll(cx));
        if let Some(timed) = call.timed.take() {
            timed.answered(&answer);
        }
        Poll::Ready(Ok(answer))
    }
}

impl Future for State {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            StateProjection::Refused { refusal } => Poll::Ready(refusal.response()),
            StateProjection::Running { answer, deadline, place } => {
                // The deadline is looked at, and its timer started, only while there is no answer.
                if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                    drop(place.take());
                    let Ok(answered) = answered;
                    return Poll::Ready(completed(answered));
                }
                ready!(deadline.poll(cx));
                *answer = Box::pin(std::future::pending());
                drop(place.take());
                Poll::Ready(CallRefusal::DeadlineExceeded.response())
            }
        }
    }
}

/// The `grpc-timeout` header: at most 8 digits and a unit (gRPC over HTTP/2, "Requests").
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, CallRefusal> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    parse_timeout(value.as_bytes()).map(Some).ok_or(CallRefusal::DeadlineMalformed)
}

fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => number.checked_mul(3_600).map(Duration::from_secs),
        b'M' => number.checked_mul(60).map(Duration::from_secs),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_strictly() {
        for bad in ["", "S", "10", "123456789S", "-1S", "1.5S", "1s", "10 S", " 1S", "+1S", "1SS"] {
            assert_eq!(parse_timeout(bad.as_bytes()), None, "{bad:?}");
        }
        for (good, expected) in [
            ("2H", Duration::from_secs(7_200)),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
            ("3M", Duration::from_secs(180)),
            ("10S", Duration::from_secs(10)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse_timeout(good.as_bytes()), Some(expected), "{good:?}");
        }
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let running = Arc::default();
        let (budget, usage) = (Arc::new(Budget::new(1)), Arc::default());
        let place = |usage: &Arc<Usage>| {
            let held = Arc::new(Held::nothing(&budget, usage));
            Place::take(&running, Arc::clone(usage), held)
        };
        let first = place(&usage);
        let second = place(&Arc::default());
        assert_eq!((first.number, first.own), (0, 0));
        assert_eq!((second.number, second.own), (1, 0));
        let third = place(&usage);
        assert_eq!((third.number, third.own), (2, 1));
        drop(third);
        drop(first);
        assert_eq!(running.load(Ordering::Relaxed), 1);
        drop(second);
        assert_eq!(running.load(Ordering::Relaxed), 0);
        assert_eq!(usage.calls.load(Ordering::Relaxed), 0);
    }
}
