//! The one table that turns the floors' errors into what a caller reads.
//!
//! The gRPC code says what kind of trouble it is, `ErrorInfo.reason` says which (stable),
//! the message says what to do (may change), and `metadata["event"]` names the audit record.

use std::collections::HashMap;
use std::time::Duration;

use fieldseal_engine::{Refusal, RefusalCause};
use fieldseal_keys::KeyError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "fieldseal.dev";
/// When a caller should try again where waiting helps.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The gRPC code of a cause.
fn code(cause: &RefusalCause) -> Code {
    match cause {
        RefusalCause::Malformed(_) | RefusalCause::DecryptionFailed | RefusalCause::Query(_) => {
            Code::InvalidArgument
        }
        RefusalCause::Denied => Code::PermissionDenied,
        RefusalCause::AuditUnavailable => Code::Unavailable,
        RefusalCause::AuditBusy => Code::ResourceExhausted,
        RefusalCause::Key(error) => key_code(error),
        _ => Code::Internal,
    }
}

fn key_code(error: &KeyError) -> Code {
    match error {
        KeyError::KeyNotFound | KeyError::DataKeyNotFound => Code::NotFound,
        KeyError::KeyExists | KeyError::RequestIdReused => Code::AlreadyExists,
        KeyError::TooMany { .. } | KeyError::Busy => Code::ResourceExhausted,
        KeyError::VersionDisabled | KeyError::VersionDestroyed => Code::FailedPrecondition,
        KeyError::EtagMismatch | KeyError::Conflict => Code::Aborted,
        KeyError::Corrupt(_) => Code::DataLoss,
        KeyError::Unacknowledged => Code::Unknown,
        KeyError::Journal(_) | KeyError::Store(_) | KeyError::Txn(_) | KeyError::Stopping => {
            Code::Unavailable
        }
        _ => Code::Internal,
    }
}

/// Where waiting helps.
fn retry_after(cause: &RefusalCause) -> Option<Duration> {
    match cause {
        RefusalCause::AuditBusy | RefusalCause::AuditUnavailable => Some(RETRY_AFTER),
        RefusalCause::Key(error) => {
            matches!(**error, KeyError::Conflict | KeyError::Stopping | KeyError::Busy)
                .then_some(RETRY_AFTER)
        }
        _ => None,
    }
}

/// The status of a refused call.
#[must_use]
pub fn status(refusal: &Refusal) -> Status {
    let cause = &refusal.cause;
    if let RefusalCause::Internal(what) = cause {
        tracing::error!(what, "internal error");
    }
    let mut metadata = HashMap::new();
    if let Some(event) = &refusal.event {
        metadata.insert("event".to_owned(), event.to_string());
    }
    let mut details = ErrorDetails::with_error_info(cause.reason(), DOMAIN, metadata);
    if let Some(wait) = retry_after(cause) {
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(code(cause), cause.to_string(), details)
}

/// The status of a call that names a log of another instance.
pub(crate) fn log_not_found(own: &str) -> Status {
    let details = ErrorDetails::with_error_info("LOG_NOT_FOUND", DOMAIN, HashMap::new());
    let message = format!("this instance has the log {own} and no other");
    Status::with_error_details(Code::NotFound, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_reason_domain_and_event() {
        let refusal =
            Refusal { cause: RefusalCause::Denied, event: Some("logs/l/events/7".into()) };
        let status = status(&refusal);
        assert_eq!(status.code(), Code::PermissionDenied);
        let info = status.get_details_error_info().expect("ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("PERMISSION_DENIED", DOMAIN));
        assert_eq!(info.metadata.get("event").map(String::as_str), Some("logs/l/events/7"));
    }

    #[test]
    fn waiting_is_advised_only_where_it_helps() {
        let busy = status(&Refusal { cause: RefusalCause::AuditBusy, event: None });
        assert!(busy.get_details_retry_info().is_some());
        let denied = status(&Refusal { cause: RefusalCause::Denied, event: None });
        assert!(denied.get_details_retry_info().is_none());
    }
}
