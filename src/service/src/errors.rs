//! The one table that turns the floors' errors into what a caller reads.
//!
//! The gRPC code says what kind of trouble it is, `ErrorInfo.reason` says which (stable),
//! the message says what to do (may change), and `metadata["event"]` names the audit record.

use std::collections::HashMap;
use std::time::Duration;

use fieldseal_engine::{Refusal, RefusalCause};
use fieldseal_identity::Refused;
use fieldseal_keys::KeyError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "fieldseal.dev";
/// When a caller should try again where waiting helps.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What a caller gets for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// `ErrorInfo.reason`: stable.
    pub reason: &'static str,
    /// The gRPC code.
    pub code: Code,
    /// True where waiting helps: there is a `RetryInfo` then.
    pub retry: bool,
    /// What the caller reads instead of the true error, which may name files of the sidecar's
    /// machine; that one goes to the log lines.
    said: Option<&'static str>,
}

impl Answer {
    const fn new(reason: &'static str, code: Code) -> Self {
        Self { reason, code, retry: false, said: None }
    }

    const fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    const fn saying(mut self, message: &'static str) -> Self {
        self.said = Some(message);
        self
    }
}

/// Every reason that is no [`fieldseal_model::MalformedReason`]; those are all `INVALID_ARGUMENT`.
/// A test compares this with the comments of `proto/`.
pub const ANSWERS: &[Answer] = &[
    Answer::new("DECRYPTION_FAILED", Code::InvalidArgument),
    Answer::new("SHRED_WINDOW_INVALID", Code::InvalidArgument),
    Answer::new("DEFAULT_PARTITION_NOT_MEANT", Code::InvalidArgument),
    Answer::new("PRINCIPAL_MISSING", Code::Unauthenticated),
    Answer::new("END_USER_TOKEN_INVALID", Code::Unauthenticated),
    Answer::new("END_USER_TOKEN_EXPIRED", Code::Unauthenticated),
    Answer::new("PERMISSION_DENIED", Code::PermissionDenied),
    Answer::new("END_USER_TOKEN_BOUND", Code::PermissionDenied),
    Answer::new("KEY_NOT_FOUND", Code::NotFound),
    Answer::new("KEY_VERSION_NOT_FOUND", Code::NotFound),
    Answer::new("DATA_KEY_NOT_FOUND", Code::NotFound),
    Answer::new("PARTITION_NOT_FOUND", Code::NotFound),
    Answer::new("LOG_NOT_FOUND", Code::NotFound),
    Answer::new("NOTHING_TO_REDACT", Code::NotFound),
    Answer::new("CHECKPOINT_NOT_FOUND", Code::NotFound),
    Answer::new("KEY_EXISTS", Code::AlreadyExists),
    Answer::new("REQUEST_ID_REUSED", Code::AlreadyExists),
    Answer::new("KEY_VERSION_DISABLED", Code::FailedPrecondition),
    Answer::new("KEY_VERSION_DESTROYED", Code::FailedPrecondition),
    Answer::new("KEY_VERSION_IS_PRIMARY", Code::FailedPrecondition),
    Answer::new("KEY_VERSION_STATE_WRONG", Code::FailedPrecondition),
    Answer::new("DATA_KEYS_WOULD_BE_LOST", Code::FailedPrecondition),
    Answer::new("PARTITION_SHREDDED", Code::FailedPrecondition),
    Answer::new("PARTITION_STATE_INVALID", Code::FailedPrecondition),
    Answer::new("APPROVAL_REQUIRED", Code::FailedPrecondition),
    Answer::new("APPROVAL_NOT_FOUND", Code::NotFound),
    Answer::new("APPROVAL_OWN", Code::PermissionDenied),
    Answer::new("APPROVAL_CLOSED", Code::FailedPrecondition),
    Answer::new("APPROVAL_ALTERED", Code::Aborted),
    Answer::new("APPROVAL_OUTDATED", Code::Aborted),
    Answer::new("REWRAP_NOT_FOUND", Code::NotFound),
    Answer::new("REWRAP_RUNNING", Code::FailedPrecondition),
    Answer::new("REWRAP_NOT_RUNNING", Code::FailedPrecondition),
    Answer::new("POLICY_INVALID", Code::FailedPrecondition),
    Answer::new("BACKUP_NOT_CONFIGURED", Code::FailedPrecondition),
    Answer::new("ARCHIVE_NOT_CONFIGURED", Code::FailedPrecondition),
    Answer::new("RECORDS_ARCHIVED", Code::FailedPrecondition),
    Answer::new("BACKUP_RUNNING", Code::Aborted),
    Answer::new("BACKUP_OVERRUN", Code::Aborted),
    Answer::new("REDACTION_RUNNING", Code::Aborted),
    Answer::new("ETAG_MISMATCH", Code::Aborted),
    Answer::new("CONFLICT", Code::Aborted).retry(),
    Answer::new("TREE_BEYOND_LOG", Code::OutOfRange),
    Answer::new("LIMIT_REACHED", Code::ResourceExhausted),
    Answer::new("AUDIT_BUSY", Code::ResourceExhausted).retry(),
    Answer::new("END_USER_TOKENS_FULL", Code::ResourceExhausted).retry(),
    Answer::new("END_USER_KEYS_PENDING", Code::Unavailable).retry(),
    Answer::new("END_USER_KEYS_UNAVAILABLE", Code::Unavailable).retry(),
    Answer::new("QUERY_BUSY", Code::ResourceExhausted).retry(),
    Answer::new("TAIL_BUSY", Code::ResourceExhausted).retry(),
    Answer::new("SUMMARY_TOO_LARGE", Code::ResourceExhausted),
    Answer::new("STORE_BUSY", Code::ResourceExhausted).retry(),
    Answer::new("STORE_FULL", Code::ResourceExhausted),
    Answer::new("NO_SPACE", Code::ResourceExhausted)
        .saying("the disk of the backups is full; the sidecar's own log lines say where"),
    Answer::new("BACKUP_UNREADABLE", Code::Unavailable)
        .saying("the directory of the backups cannot be used; the sidecar's own log lines say why"),
    Answer::new("AUDIT_UNAVAILABLE", Code::Unavailable).retry(),
    Answer::new("AUDIT_UNREADABLE", Code::Unavailable),
    Answer::new("REDACTION_UNFINISHED", Code::Unavailable),
    Answer::new("ARCHIVE_UNAVAILABLE", Code::Unavailable),
    Answer::new("STORE_COPY_UNAVAILABLE", Code::Unavailable).retry().saying(
        "the copy of the store cannot be written, so nothing is changed; the sidecar's own log lines \
         say why",
    ),
    Answer::new("STOPPING", Code::Unavailable).retry(),
    Answer::new("STORE_UNAVAILABLE", Code::Unavailable)
        .saying("the store cannot be read or written now; the sidecar's own log lines say why"),
    Answer::new("STORE_CORRUPT", Code::DataLoss)
        .saying("the store is damaged; the sidecar's own log lines say where"),
    Answer::new("CHANGE_UNACKNOWLEDGED", Code::Unknown),
    Answer::new("CHANGE_INDETERMINATE", Code::Unknown).saying(
        "the store's disk failed, and it is not known whether the change happened; read before \
         you repeat it",
    ),
    INTERNAL,
];

const INTERNAL: Answer = Answer::new("INTERNAL", Code::Internal)
    .saying("something inside is wrong; the sidecar's own log lines say what");

fn answer(cause: &RefusalCause) -> Answer {
    let reason = cause.reason();
    match cause {
        RefusalCause::Malformed(_) => Answer::new(reason, Code::InvalidArgument),
        _ => ANSWERS.iter().copied().find(|row| row.reason == reason).unwrap_or(INTERNAL),
    }
}

/// The status of a refused call.
#[must_use]
pub fn status(refusal: &Refusal) -> Status {
    let cause = &refusal.cause;
    let answer = answer(cause);
    let message = match answer.said {
        None => cause.to_string(),
        Some(said) => {
            tracing::error!(reason = answer.reason, %cause, "a call failed");
            said.to_owned()
        }
    };
    let mut metadata = HashMap::new();
    if let Some(event) = &refusal.event {
        metadata.insert("event".to_owned(), event.to_string());
    }
    if let RefusalCause::Key(error) = cause
        && let KeyError::DataKeysWouldBeLost { data_keys } = &**error
    {
        metadata.insert("data_keys".to_owned(), data_keys.to_string());
    }
    if let RefusalCause::Key(error) = cause
        && let KeyError::ApprovalRequired { id, .. } = &**error
    {
        metadata.insert("approval".to_owned(), format!("approvals/{id}"));
    }
    if let RefusalCause::EndUser(Refused::Invalid(flaw)) = cause {
        metadata.insert("cause".to_owned(), flaw.as_str().to_owned());
    }
    made(answer, message, metadata)
}

/// The status of a call without a caller.
pub(crate) fn principal_missing() -> Status {
    let answer = Answer::new("PRINCIPAL_MISSING", Code::Unauthenticated);
    made(answer, "no principal: connect with a client certificate".to_owned(), HashMap::new())
}

fn made(answer: Answer, message: String, metadata: HashMap<String, String>) -> Status {
    let mut details = ErrorDetails::with_error_info(answer.reason, DOMAIN, metadata);
    if answer.retry {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(answer.code, message, details)
}

#[cfg(test)]
mod tests;
