//! What went wrong, for people and for scripts: what happened, a stable reason, what to do.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use tonic::Code;

use fieldseal_model::Malformed;

use crate::output::visible;

/// How the command ended. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Something inside is wrong.
    Internal = 1,
    /// The command, its settings or its input cannot be understood.
    Usage = 2,
    /// A key, a log or an installation does not exist.
    NotFound = 3,
    /// Policy or the server refused the caller.
    Denied = 4,
    /// Nothing answers, or what answers cannot serve now.
    Unavailable = 5,
    /// What is there stands in the way: it exists already, is in use, or has changed.
    Conflict = 6,
    /// A value did not open, or tampering was found.
    Tampered = 7,
    /// There is no space for the store or the log.
    Full = 8,
    /// The store or the log is corrupt.
    Corrupt = 9,
    /// Personal detail of the audit log was erased, and the log says so.
    Redacted = 10,
    /// Records are archived.
    Archived = 11,
    /// Records of the audit log are not there.
    Missing = 12,
    /// The audit log has an end that nothing proves.
    UnprovenTail = 13,
    /// An answer is not the one that was expected.
    Differs = 14,
    /// Ctrl-C, as shells count it (128 + SIGINT).
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that failed. It holds no secret.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    reason: Cow<'static, str>,
    event: Option<String>,
    advice: Option<String>,
}

impl Failure {
    /// A failure with a stable reason in upper case.
    #[must_use]
    pub(crate) fn new(exit: Exit, reason: &'static str, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), reason: reason.into(), event: None, advice: None }
    }

    /// The command's arguments contradict each other or its input is not what it should be.
    #[must_use]
    pub(crate) fn usage(reason: &'static str, what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, reason, what)
    }

    /// A file or stream that cannot be read or written. `doing` is for example `cannot read`.
    #[must_use]
    pub(crate) fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let (exit, reason) = match error.kind() {
            ErrorKind::NotFound => (Exit::NotFound, "FILE_NOT_FOUND"),
            ErrorKind::PermissionDenied => (Exit::Denied, "FILE_DENIED"),
            ErrorKind::AlreadyExists => (Exit::Conflict, "FILE_EXISTS"),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (Exit::Full, "NO_SPACE"),
            _ => (Exit::Internal, "IO_ERROR"),
        };
        Self::new(exit, reason, format!("{doing} {}: {error}", path.display()))
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Puts in front where it happened.
    #[must_use]
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// How the process ends.
    #[must_use]
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// The stable reason.
    #[must_use]
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// What happened, for people.
    #[must_use]
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// The audit record of the failed call, `logs/{log}/events/{index}`.
    #[must_use]
    pub(crate) fn event(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// The error as a JSON document.
    #[must_use]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "error": {
            "message": self.what,
            "reason": self.reason,
            "event": self.event,
            "advice": self.advice,
            "exit_code": self.exit as u8,
        }})
    }

    /// A refusal of the server: its gRPC code, its stable reason (empty if it gave none), its
    /// message and the audit record.
    #[must_use]
    pub(crate) fn refused(code: Code, reason: &str, message: &str, event: Option<&str>) -> Self {
        let reason = match reason {
            "" => Cow::Borrowed(code_name(code)),
            known => Cow::Owned(known.to_owned()),
        };
        let message = said_here(&reason).unwrap_or(message);
        let what = if message.is_empty() { "the call failed" } else { message };
        Self {
            exit: exit_of(code, &reason),
            what: what.to_owned(),
            advice: advice_for(&reason).map(ToOwned::to_owned),
            reason,
            event: event.filter(|name| !name.is_empty()).map(ToOwned::to_owned),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error   {}\nreason  {}", lines(&self.what), visible(&self.reason))?;
        if let Some(event) = &self.event {
            write!(f, "\nrecord  {}", visible(event))?;
        }
        if let Some(advice) = &self.advice {
            write!(f, "\nto do   {}", lines(advice))?;
        }
        Ok(())
    }
}

/// Text of which somebody else may have chosen parts: visible, and no line of it begins like one of ours.
fn lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n        ")
}

impl From<Malformed> for Failure {
    fn from(what: Malformed) -> Self {
        Self::usage(what.reason().as_str(), what.message())
    }
}

/// The table from what the server says to how the process ends.
fn exit_of(code: Code, reason: &str) -> Exit {
    match reason {
        "DECRYPTION_FAILED" => return Exit::Tampered,
        "STORE_CORRUPT" => return Exit::Corrupt,
        "STORE_FULL" => return Exit::Full,
        "POLICY_INVALID" => return Exit::Usage,
        sealed if sealed.starts_with("CIPHERTEXT_") => return Exit::Tampered,
        "TEST_CIPHERTEXT" => return Exit::Tampered,
        _ => {}
    }
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Denied,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Cancelled
        | Code::Unknown => Exit::Unavailable,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => Exit::Conflict,
        Code::DataLoss => Exit::Corrupt,
        Code::Internal | Code::Ok => Exit::Internal,
    }
}

/// Instead of the server's sentence, where that one speaks of methods and fields of the API.
fn said_here(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "KEY_NOT_FOUND" => "the key does not exist",
        "PLAINTEXT_ALREADY_SEALED" => "the value is sealed already",
        _ => return None,
    })
}

/// What an operator at a terminal can do, where the server's sentence does not say it already.
fn advice_for(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "PERMISSION_DENIED" => {
            "ask whoever keeps the policy directory to give this caller the role; \
             `fieldseal audit list --outcome denied` shows what was refused"
        }
        "KEY_NOT_FOUND" => "see `fieldseal key list`, or make it: `fieldseal key create NAME`",
        "KEY_VERSION_NOT_FOUND" | "KEY_VERSION_STATE_WRONG" => {
            "see the key's versions with `fieldseal key show NAME`"
        }
        "KEY_VERSION_IS_PRIMARY" => "rotate first: `fieldseal key rotate NAME`",
        "DATA_KEYS_WOULD_BE_LOST" => {
            "see how many with `fieldseal key status NAME`, and move them to the primary version with \
             `fieldseal key rewrap NAME`; or, if what they protect may be lost, repeat their number: \
             --data-keys-lost COUNT"
        }
        "REWRAP_RUNNING" => {
            "see how far it is with `fieldseal key rewrap NAME --watch`, or end it with `--cancel`"
        }
        "REWRAP_NOT_FOUND" => "begin one with `fieldseal key rewrap NAME`",
        "PARTITION_STATE_INVALID" => {
            "see it with `fieldseal key partition NAME --partition PARTITION`"
        }
        "BACKUP_RUNNING" => "see the newest one with `fieldseal status` when it is done",
        "DATA_KEY_NOT_FOUND" => "check that the value was sealed by this installation",
        "KEY_EXISTS" => "nothing was changed; see it with `fieldseal key show NAME`",
        "ETAG_MISMATCH" => "read the key again with `fieldseal key show NAME`",
        "DECRYPTION_FAILED" => {
            "state exactly what was stated to encrypt; the audit record holds the true cause"
        }
        "PLAINTEXT_ALREADY_SEALED" => "it is a ciphertext already; leave it as it is",
        "CHANGE_UNACKNOWLEDGED" => "look with `fieldseal key show NAME` before you repeat it",
        "CHANGE_INDETERMINATE" => {
            "see `fieldseal status`; after a restart look with `fieldseal key show NAME` before \
             you repeat it"
        }
        "POLICY_INVALID" => "correct the files, look with `fieldseal policy check`, reload again",
        "STORE_FULL" => "free space on the store's disk; `fieldseal status` shows when it is back",
        "STORE_CORRUPT" => "keep the files as they are; the sidecar's log lines say where",
        "ARCHIVE_NOT_CONFIGURED" => "set audit.archive_directory and start the sidecar again",
        "ARCHIVE_UNAVAILABLE" => "see the sidecar's log lines, and archive again: it goes on",
        "RECORDS_ARCHIVED" => {
            "make the archive readable for the sidecar, or ask it itself (--log DIR)"
        }
        "REDACTION_RUNNING" => "wait until it is done; `fieldseal audit changes` shows its record",
        "REDACTION_UNFINISHED" => {
            "see the sidecar's log lines, and redact again: it goes on, and names what no record names yet"
        }
        "AUDIT_UNREADABLE" => "verify the log offline with `fieldseal audit verify`",
        "AUDIT_UNAVAILABLE" | "STORE_UNAVAILABLE" => {
            "an operator sees the cause with `fieldseal status`, others in the sidecar's log lines; \
             service returns when there is space, or the missing files are back"
        }
        _ => return None,
    })
}

const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_with_the_code_of_its_kind() {
        for (code, reason, exit) in [
            (Code::InvalidArgument, "TABLE_INVALID", Exit::Usage),
            (Code::InvalidArgument, "DECRYPTION_FAILED", Exit::Tampered),
            (Code::InvalidArgument, "CIPHERTEXT_TRUNCATED", Exit::Tampered),
            (Code::NotFound, "KEY_NOT_FOUND", Exit::NotFound),
            (Code::PermissionDenied, "PERMISSION_DENIED", Exit::Denied),
            (Code::Unavailable, "", Exit::Unavailable),
            (Code::ResourceExhausted, "TOO_MANY_CALLS", Exit::Unavailable),
            (Code::ResourceExhausted, "STORE_FULL", Exit::Full),
            (Code::ResourceExhausted, "STORE_BUSY", Exit::Unavailable),
            (Code::Unknown, "CHANGE_INDETERMINATE", Exit::Unavailable),
            (Code::AlreadyExists, "KEY_EXISTS", Exit::Conflict),
            (Code::FailedPrecondition, "POLICY_INVALID", Exit::Usage),
            (Code::FailedPrecondition, "KEY_VERSION_DISABLED", Exit::Conflict),
            (Code::DataLoss, "STORE_CORRUPT", Exit::Corrupt),
            (Code::Internal, "", Exit::Internal),
        ] {
            let failure = Failure::refused(code, reason, "m", None);
            assert_eq!(failure.exit(), exit, "{code:?} {reason}");
            assert!(!failure.reason().is_empty());
        }
    }

    #[test]
    fn nobody_at_a_terminal_reads_names_of_the_api() {
        for (code, reason, message) in [
            (Code::NotFound, "KEY_NOT_FOUND", "create it first with CreateKey"),
            (Code::InvalidArgument, "PLAINTEXT_ALREADY_SEALED", "set allow_sealed_plaintext"),
        ] {
            let shown = Failure::refused(code, reason, message, None).to_string();
            assert!(!shown.contains(message) && shown.contains("\nto do   "), "{shown}");
        }
        for reason in ["AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE"] {
            let shown = Failure::refused(Code::Unavailable, reason, "m", None).to_string();
            assert!(shown.contains("missing files") && shown.contains("log lines"), "{shown}");
        }
    }

    #[test]
    fn what_others_wrote_begins_no_line_and_moves_no_cursor() {
        let message = "no such name: x\nreason  OK\u{1b}[2J\r";
        let failure = Failure::refused(Code::Internal, "A\nB", message, Some("logs/\u{202e}"));
        let shown = failure.to_string();
        let starts: Vec<_> = shown.lines().filter_map(|l| l.split("  ").next()).collect();
        assert_eq!(starts[..4], ["error", "", "reason", "record"], "{shown}");
        let hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(hidden), "{shown:?}");
    }

    #[test]
    fn a_failure_says_what_why_where_and_what_to_do() {
        let failure = Failure::refused(
            Code::PermissionDenied,
            "PERMISSION_DENIED",
            "policy does not allow this",
            Some("logs/main/events/7"),
        );
        let shown = failure.to_string();
        let starts: Vec<_> = shown.lines().filter_map(|l| l.split("  ").next()).collect();
        assert_eq!(starts, ["error", "reason", "record", "to do"]);
        assert!(shown.contains("logs/main/events/7"));
        let json = failure.json();
        assert_eq!(json["error"]["exit_code"], 4);
        assert_eq!(json["error"]["reason"], "PERMISSION_DENIED");
    }
}
