//! `audit verify`: a log with nothing but its files and its public key.

use std::path::Path;

use fieldseal_audit::JournalError;
use fieldseal_audit::verify::{self, Verified, VerifyError};
use fieldseal_model::hex;
use serde_json::json;

use crate::arguments::AuditVerifyArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, grouped, note};

/// Runs `audit verify`.
pub(crate) fn run(arguments: &AuditVerifyArguments, output: &Output) -> Result<(), Failure> {
    let found = verified(&arguments.log, &arguments.public_key)?;
    output.show(|| json(&found), || table(&found))?;
    if let Some(closed) = found.closed_records.filter(|closed| *closed > found.records) {
        let (closed, records) = (grouped(closed), grouped(found.records));
        note(&format!(
            "warning  the log had {closed} records when it was last closed, as its unsigned mark \
             says, and has {records}: it was cut off or put back; compare it with a checkpoint \
             that was kept elsewhere"
        ));
    }
    Ok(())
}

/// Verifies a log.
pub(crate) fn verified(log: &Path, public_key: &Path) -> Result<Verified, Failure> {
    let bytes =
        std::fs::read(public_key).map_err(|e| Failure::io("cannot read", public_key, &e))?;
    // A file that is no text is no public key either.
    let text = String::from_utf8_lossy(&bytes);
    let key = verify::public_key(&text).map_err(|e| failure(&e))?;
    verify::log(log, &key, |_| {}).map_err(|e| failure(&e))
}

fn failure(error: &VerifyError) -> Failure {
    let exit = match error {
        VerifyError::Tampered { .. } | VerifyError::Torn { .. } | VerifyError::Foreign { .. } => {
            Exit::Tampered
        }
        VerifyError::PublicKey => Exit::Usage,
        VerifyError::Unreadable(JournalError::NotInitialized(_)) => Exit::NotFound,
        VerifyError::Unreadable(JournalError::FormatNewer { .. }) => Exit::Usage,
        // It is there, and may be whole: whoever asks may not read it.
        VerifyError::Unreadable(JournalError::Io { error, .. }) if is_denied(error) => Exit::Denied,
        _ => Exit::Internal,
    };
    let failure = Failure::new(exit, error.reason(), error.to_string());
    match error {
        VerifyError::Unreadable(JournalError::NotInitialized(_)) => {
            failure.advise("name the directory with the files segment-….log")
        }
        _ => failure,
    }
}

/// EACCES, as the journal passes it on.
fn is_denied(error: &str) -> bool {
    error.contains("Permission denied")
}

fn table(found: &Verified) -> String {
    let mut table = Table::bare();
    table.row(["verified", "every record, signature and detail is as it was signed"]);
    table.row(["log", &found.origin]);
    table.row(["records", &grouped(found.records)]);
    table.row(["signatures", &grouped(found.checkpoints)]);
    table.row(["details", &grouped(found.details)]);
    table.row(["files", &grouped(found.segments)]);
    table.row(["root", &hex::encode(&found.root)]);
    table.text()
}

fn json(found: &Verified) -> serde_json::Value {
    json!({
        "origin": found.origin, "records": found.records, "signatures": found.checkpoints,
        "details": found.details, "segments": found.segments, "root": hex::encode(&found.root),
        "checkpoint": found.checkpoint_note,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_read_is_not_a_log_that_is_missing() {
        let file = std::path::PathBuf::from("/log");
        let denied = std::io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
        for (error, exit) in
            [(denied, Exit::Denied), (std::io::Error::other("torn"), Exit::Internal)]
        {
            let error = error.to_string().into();
            let io = JournalError::Io { what: "read", file: file.clone(), error };
            let shown = failure(&VerifyError::Unreadable(io));
            assert_eq!((shown.exit(), shown.reason()), (exit, "AUDIT_LOG_UNREADABLE"));
        }
        let none = failure(&VerifyError::Unreadable(JournalError::NotInitialized(file)));
        assert_eq!((none.exit(), none.reason()), (Exit::NotFound, "LOG_NOT_FOUND"));
        assert!(!none.to_string().contains("init"), "an auditor makes no installation: {none}");
    }

    #[test]
    fn a_file_that_is_no_text_is_no_public_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("binary");
        std::fs::write(&file, b"a\xff+\x00").unwrap();
        let refused = verified(dir.path(), &file).unwrap_err();
        assert_eq!((refused.exit(), refused.reason()), (Exit::Usage, "PUBLIC_KEY_INVALID"));
    }
}
