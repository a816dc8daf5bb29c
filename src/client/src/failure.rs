//! What goes wrong: before a call, and in one.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, ErrorInfo, RpcStatusExt as _, StatusExt as _};

use crate::settings::Variable;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Variables are missing.
    #[error("set {} (`fieldseal dev --env-file` writes them)", names(.0))]
    Environment(Vec<Variable>),
    /// The endpoint is not understood.
    #[error(
        "the endpoint is written https://{{host}}:{{port}}, for example https://127.0.0.1:7443"
    )]
    Endpoint,
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {source}", path.display())]
    Read {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM form", path.display())]
    Pem {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The TLS library refuses the material.
    #[error("the {what} {} cannot be used: {reason}", path.display())]
    Unusable {
        /// What the file holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The library's reason.
        reason: String,
    },
    /// The sidecar is not there, or it is not the one that the CA vouches for.
    #[error("cannot connect to {endpoint}: {}", innermost(.source))]
    Connect {
        /// Where it should be.
        endpoint: String,
        /// What happened.
        source: tonic::transport::Error,
    },
    /// The sidecar refuses whoever has no certificate, or it is not there.
    #[error("no answer without a certificate from {endpoint}: {source}")]
    Knock {
        /// Where it should be.
        endpoint: String,
        /// What happened: the alert, if it refuses.
        source: io::Error,
    },
}

fn names(variables: &[Variable]) -> String {
    variables.iter().map(|variable| variable.as_str()).collect::<Vec<_>>().join(", ")
}

/// tonic says "transport error"; what happened stands at the end of the chain.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Why a call, or one item of a batch, was not answered.
#[derive(Clone)]
pub struct Failure {
    code: Code,
    message: String,
    info: Option<ErrorInfo>,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(code: Code, message: &str, details: &ErrorDetails) -> Self {
        Self {
            code,
            message: message.to_owned(),
            info: details.error_info().cloned(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    /// The gRPC code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// For people; may change between releases.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stable reason, for example `DECRYPTION_FAILED`; empty if the error does not come from a
    /// sidecar, for example because there is no connection.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.info.as_ref().map_or("", |info| info.reason.as_str())
    }

    /// The audit record, `logs/{log}/events/{index}`, where there is one.
    #[must_use]
    pub fn event(&self) -> Option<&str> {
        self.info.as_ref().and_then(|info| info.metadata.get("event")).map(String::as_str)
    }

    /// How long to wait before trying again, where waiting helps.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            "" => write!(f, "{} ({:?})", self.message, self.code),
            reason => write!(f, "{} ({reason})", self.message),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        Self::new(status.code(), status.message(), &status.get_error_details())
    }
}

/// The `error` of an item of a batch.
impl From<&tonic_types::Status> for Failure {
    fn from(status: &tonic_types::Status) -> Self {
        Self::new(Code::from_i32(status.code), &status.message, &status.get_error_details())
    }
}

/// The `google.rpc.ErrorInfo` of an error: reason, domain and metadata.
#[must_use]
pub fn reason(status: &Status) -> Option<ErrorInfo> {
    status.get_details_error_info()
}

/// How long to wait before trying again, where waiting helps.
#[must_use]
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details() -> ErrorDetails {
        let metadata = [("event".to_owned(), "logs/l/events/7".to_owned())];
        let mut details = ErrorDetails::with_error_info("X_FAILED", "fieldseal.dev", metadata);
        details.set_retry_info(Some(Duration::from_millis(200)));
        details
    }

    #[test]
    fn an_error_of_somebody_else_has_no_reason() {
        let status = Status::unavailable("no connection");
        let failure = Failure::from(&status);
        assert_eq!((failure.reason(), failure.event(), failure.retry_after()), ("", None, None));
        assert!(reason(&status).is_none());
        assert_eq!(failure.to_string(), "no connection (Unavailable)");
    }

    #[test]
    fn calls_and_items_have_typed_failures() {
        let status = Status::with_error_details(Code::Unavailable, "later", details());
        let failure = Failure::from(&status);
        assert_eq!(failure.reason(), "X_FAILED");
        assert_eq!(failure.event(), Some("logs/l/events/7"));
        assert_eq!(failure.retry_after(), Some(Duration::from_millis(200)));
        assert_eq!(failure.retry_after(), retry_after(&status));
        assert_eq!(failure.to_string(), "later (X_FAILED)");
        assert_eq!(reason(&status).expect("info").domain, "fieldseal.dev");
        // A status and the error of an item have the same encoding.
        let item: tonic_types::Status = prost::Message::decode(status.details()).expect("item");
        let item = Failure::from(&item);
        assert_eq!((item.code(), item.to_string()), (failure.code(), failure.to_string()));
        assert_eq!((item.event(), item.retry_after()), (failure.event(), failure.retry_after()));
    }
}
