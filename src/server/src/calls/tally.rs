//! Counts every call by method and outcome, and how long it took.
//!
//! Counting takes a few relaxed atomic additions and no lock, so that nobody who reads the counts
//! holds up a call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fieldseal_audit::Distribution;
use http::{Response, StatusCode};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};

/// Upper bounds of the durations that are told apart, in seconds.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// The method of every call to a service or method that does not exist.
pub(crate) const OTHER: &str = "other";

/// Every gRPC status code with its name and what it says of the call.
const CODES: [(Code, &str, Outcome); 17] = [
    (Code::Ok, "OK", Outcome::Ok),
    (Code::Cancelled, "CANCELLED", Outcome::Cancelled),
    (Code::Unknown, "UNKNOWN", Outcome::Failed),
    (Code::InvalidArgument, "INVALID_ARGUMENT", Outcome::Refused),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", Outcome::Failed),
    (Code::NotFound, "NOT_FOUND", Outcome::Refused),
    (Code::AlreadyExists, "ALREADY_EXISTS", Outcome::Refused),
    (Code::PermissionDenied, "PERMISSION_DENIED", Outcome::Refused),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", Outcome::Failed),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", Outcome::Refused),
    (Code::Aborted, "ABORTED", Outcome::Refused),
    (Code::OutOfRange, "OUT_OF_RANGE", Outcome::Refused),
    (Code::Unimplemented, "UNIMPLEMENTED", Outcome::Refused),
    (Code::Internal, "INTERNAL", Outcome::Failed),
    (Code::Unavailable, "UNAVAILABLE", Outcome::Failed),
    (Code::DataLoss, "DATA_LOSS", Outcome::Failed),
    (Code::Unauthenticated, "UNAUTHENTICATED", Outcome::Refused),
];

/// Whose affair the end of a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has its answer.
    Ok,
    /// The caller asked for what it cannot have.
    Refused,
    /// The sidecar could not do it.
    Failed,
    /// The caller went away before its answer.
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Ok, Self::Refused, Self::Failed, Self::Cancelled];

    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The counts of all calls. Methods that do not exist share one place, so nobody outside makes it
/// grow.
pub(crate) struct Tally {
    places: HashMap<String, usize>,
    rows: Vec<Row>,
}

struct Row {
    method: String,
    codes: [AtomicU64; CODES.len()],
    durations: [Durations; Outcome::ALL.len()],
}

impl Row {
    fn new(method: String) -> Self {
        Self { method, codes: Default::default(), durations: Default::default() }
    }
}

#[derive(Default)]
struct Durations {
    counts: [AtomicU64; SECONDS.len() + 1],
    nanos: AtomicU64,
}

/// How many calls of a method ended with a code.
pub(crate) struct Ended {
    pub(crate) method: String,
    pub(crate) code: &'static str,
    pub(crate) calls: u64,
}

/// How long the calls of a method with an outcome took.
pub(crate) struct Took {
    pub(crate) method: String,
    pub(crate) outcome: &'static str,
    pub(crate) seconds: Distribution,
}

impl Tally {
    /// A place for every method that this process can have.
    pub(crate) fn new() -> Self {
        let mut rows: Vec<_> = methods().map(Row::new).collect();
        let places = rows.iter().enumerate();
        let places = places.map(|(place, row)| (row.method.clone(), place)).collect();
        rows.push(Row::new(OTHER.to_owned()));
        Self { places, rows }
    }

    /// A call to this path (`/service/method`) begins.
    pub(crate) fn begin(self: &Arc<Self>, path: &str, began: Instant) -> Timed {
        let method = path.strip_prefix('/').unwrap_or(path);
        let other = self.rows.len().saturating_sub(1);
        let place = self.places.get(method).copied().unwrap_or(other);
        Timed { tally: Arc::clone(self), place, began, over: false }
    }

    fn count(&self, place: usize, code: Code, took: Duration) {
        let at = usize::try_from(code as i32).unwrap_or(0);
        let (Some(row), Some((_, name, outcome))) = (self.rows.get(place), CODES.get(at)) else {
            return;
        };
        if let Some(calls) = row.codes.get(at) {
            calls.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(durations) = row.durations.get(*outcome as usize) {
            durations.count(took);
        }
        let (method, micros) = (row.method.as_str(), took.as_micros());
        tracing::debug!(event = "call", method, code = name, micros);
    }

    /// Every method and code that has calls.
    pub(crate) fn ended(&self) -> Vec<Ended> {
        let mut found = Vec::new();
        for row in &self.rows {
            for (count, (_, code, _)) in row.codes.iter().zip(&CODES) {
                let calls = count.load(Ordering::Relaxed);
                if calls > 0 {
                    found.push(Ended { method: row.method.clone(), code, calls });
                }
            }
        }
        found
    }

    /// Every method and outcome that has calls.
    pub(crate) fn took(&self) -> Vec<Took> {
        let mut found = Vec::new();
        for row in &self.rows {
            for (durations, outcome) in row.durations.iter().zip(Outcome::ALL) {
                let seconds = durations.distribution();
                if seconds.total() > 0 {
                    let (method, outcome) = (row.method.clone(), outcome.name());
                    found.push(Took { method, outcome, seconds });
                }
            }
        }
        found
    }
}

impl Durations {
    fn count(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = SECONDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn distribution(&self) -> Distribution {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let nanos = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        Distribution::of(&SECONDS, counts, nanos.as_secs_f64())
    }
}

/// A call that is being timed. Dropped before it is over, it was cancelled.
pub(crate) struct Timed {
    tally: Arc<Tally>,
    place: usize,
    began: Instant,
    over: bool,
}

impl Timed {
    /// The call has its answer. Its code stands in the head if it is an error; an answer whose body
    /// comes bit by bit counts when it begins.
    pub(crate) fn answered<B>(mut self, response: &Response<B>) {
        self.over = true;
        self.tally.count(self.place, code(response), self.began.elapsed());
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        if !self.over {
            self.tally.count(self.place, Code::Cancelled, self.began.elapsed());
        }
    }
}

fn code<B>(response: &Response<B>) -> Code {
    match response.headers().get(Status::GRPC_STATUS) {
        Some(code) => Code::from_bytes(code.as_bytes()),
        None if response.status() == StatusCode::OK => Code::Ok,
        // Not gRPC at all (405, 415).
        None => Code::Unimplemented,
    }
}

/// Every method that this process may offer, as `service/method`.
fn methods() -> impl Iterator<Item = String> {
    let sets = [
        fieldseal_api::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    // They are constants; a test decodes them.
    let sets = sets.into_iter().filter_map(|bytes| FileDescriptorSet::decode(bytes).ok());
    let files = sets.flat_map(|set| set.file);
    files.flat_map(|file| {
        let package = file.package().to_owned();
        file.service.into_iter().flat_map(move |service| {
            let service_name = format!("{package}.{}", service.name());
            let methods = service.method.into_iter();
            methods.map(move |method| format!("{service_name}/{}", method.name()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: Code) -> Response<()> {
        Status::new(code, "").into_http::<()>()
    }

    #[test]
    fn the_table_of_codes_is_in_the_order_of_their_numbers() {
        for (number, (code, _, _)) in CODES.iter().enumerate() {
            assert_eq!(*code as usize, number);
        }
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
    }

    #[test]
    fn a_caller_cannot_make_the_table_grow() {
        let tally = Arc::new(Tally::new());
        let rows = tally.rows.len();
        for path in ["", "/", "/a/b", "/fieldseal.v1.KeyService/", "fieldseal.v1.X/Y", "//"] {
            tally.begin(path, Instant::now()).answered(&answer(Code::Unimplemented));
        }
        assert_eq!(tally.rows.len(), rows);
        let ended = tally.ended();
        let found: Vec<_> = ended.iter().map(|e| (e.method.as_str(), e.code, e.calls)).collect();
        assert_eq!(found, [(OTHER, "UNIMPLEMENTED", 6)]);
    }

    #[test]
    fn every_service_has_its_methods() {
        let found: Vec<_> = methods().collect();
        for service in [
            "fieldseal.v1.EncryptionService/Decrypt",
            "fieldseal.v1.KeyService/RotateKey",
            "fieldseal.v1.AuditService/QueryAuditEvents",
            "fieldseal.v1.SystemService/GetStatus",
            "grpc.health.v1.Health/Check",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(found.iter().any(|method| method == service), "{service}");
        }
        let mut unique = found.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), found.len(), "two rows for one method");
    }

    #[test]
    fn each_call_counts_once_however_it_ends() {
        let tally = Arc::new(Tally::new());
        let path = "/fieldseal.v1.EncryptionService/Decrypt";
        tally.begin(path, Instant::now()).answered(&Response::new(()));
        tally.begin(path, Instant::now()).answered(&answer(Code::PermissionDenied));
        tally.begin(path, Instant::now()).answered(&answer(Code::Unavailable));
        drop(tally.begin(path, Instant::now()));
        let ended = tally.ended();
        let codes: Vec<_> = ended.iter().map(|e| (e.code, e.calls)).collect();
        let expected = [("OK", 1), ("CANCELLED", 1), ("PERMISSION_DENIED", 1), ("UNAVAILABLE", 1)];
        assert_eq!(codes, expected);
        let took = tally.took();
        let outcomes: Vec<_> = took.iter().map(|t| (t.outcome, t.seconds.total())).collect();
        assert_eq!(outcomes, [("ok", 1), ("refused", 1), ("failed", 1), ("cancelled", 1)]);
        assert!(ended.iter().all(|e| format!("/{}", e.method) == path));
    }
}
