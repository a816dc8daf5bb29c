//! `audit verify`: a log with nothing but its files and its public key.

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use fieldseal_audit::JournalError;
use fieldseal_audit::verify::{
    self, Files, LogKey, Range, Remembered, Report, State, Verdict, Verified, VerifyError,
};
use fieldseal_model::hex;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::arguments::AuditVerifyArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, counted, grouped, note};

/// The most bytes that a public key or a checkpoint is believed to have.
const MOST_BYTES: u64 = 64 * 1024;

/// Runs `audit verify`.
pub(crate) fn run(arguments: &AuditVerifyArguments, output: &Output) -> Result<(), Failure> {
    let key = public_key(&arguments.public_key)?;
    let remembered = arguments.checkpoint.as_deref().map(|file| checkpoint(file, &key));
    let remembered = remembered.transpose()?;
    let state = arguments.state.as_deref().map(|file| earlier(file, &key)).transpose()?.flatten();
    let (bar, kept) = (progress(), remembered.as_ref());
    let read = |at| bar.set_position(at);
    let files = Files { directory: &arguments.log, archives: &arguments.archive };
    let found = verify::resume(files, &key, state.as_ref(), arguments.full, kept, read);
    bar.finish_and_clear();
    let found = found.map_err(|e| failure(&e))?;
    if let (Some(file), Some(state)) = (&arguments.state, &found.state) {
        save(file, &state.text())?;
    }
    output.show(|| json(&found), || text(&found, kept))?;
    match found.worst() {
        Some(worst) if worst.verdict > Verdict::Archived => return Err(failed(worst)),
        _ => warn_of_cut(&found),
    }
    found.worst().map_or(Ok(()), |worst| Err(failed(worst)))
}

/// The unsigned mark of a log that was closed may tell that it was cut off since.
fn warn_of_cut(found: &Report) {
    let (closed, records) = (found.verified.closed_records, found.verified.records);
    if let Some(closed) = closed.filter(|closed| *closed > records) {
        let (closed, records) = (grouped(closed), grouped(records));
        note(&format!(
            "warning  the log had {closed} records when it was last closed, as its unsigned mark \
             says, and has {records}: it was cut off or put back; compare it with a checkpoint \
             that was kept elsewhere (--checkpoint)"
        ));
    }
}

/// What an earlier run remembers; `None` if there was none.
fn earlier(file: &Path, key: &LogKey) -> Result<Option<State>, Failure> {
    match file.try_exists() {
        Ok(false) => return Ok(None),
        Ok(true) => {}
        Err(error) => return Err(Failure::io("cannot read", file, &error)),
    }
    State::parse(&read(file)?, key).map(Some).map_err(|e| failure(&e))
}

/// Puts a text in the place of a file at once: whoever cuts that short leaves the old one.
fn save(file: &Path, text: &str) -> Result<(), Failure> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(new);
    let written = opened.and_then(|mut opened| {
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        std::fs::rename(new, file)
    });
    written.map_err(|e| Failure::io("cannot write", file, &e))
}

/// Verifies a log: the first thing that is wrong is the failure.
pub(crate) fn verified(log: &Path, key: &Path) -> Result<Verified, Failure> {
    verify::log(log, &public_key(key)?, |_| {}).map_err(|e| failure(&e))
}

/// Reads the public key of a log.
pub(crate) fn public_key(file: &Path) -> Result<LogKey, Failure> {
    verify::public_key(&read(file)?).map_err(|e| failure(&e))
}

/// Reads a checkpoint that was kept elsewhere, from a file or from standard input (`-`).
pub(crate) fn checkpoint(file: &Path, key: &LogKey) -> Result<Remembered, Failure> {
    verify::remembered(&read(file)?, key).map_err(|e| failure(&e))
}

/// Reads a short text; bytes that are none are replaced, and then it is nothing that is asked for.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().lock().take(MOST_BYTES).read_to_end(&mut bytes),
        false => std::fs::File::open(file)
            .and_then(|opened| opened.take(MOST_BYTES).read_to_end(&mut bytes)),
    };
    read.map_err(|e| Failure::io("cannot read", file, &e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How many records were read, for a person at a terminal.
pub(crate) fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length();
    let template = "verifying {spinner} {human_pos} records  {per_sec}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// How a log that is not whole ends the command: by the first range of the worst verdict.
fn failed(worst: &Range) -> Failure {
    let (exit, reason) = match worst.verdict {
        Verdict::Redacted => (Exit::Redacted, "AUDIT_LOG_REDACTED"),
        Verdict::Archived => (Exit::Archived, "AUDIT_RECORDS_ARCHIVED"),
        Verdict::Missing => (Exit::Missing, "AUDIT_RECORDS_MISSING"),
        Verdict::UnprovenTail => (Exit::UnprovenTail, "AUDIT_LOG_TORN"),
        Verdict::Tampered | Verdict::Ok => (Exit::Tampered, "AUDIT_LOG_TAMPERED"),
    };
    let (file, offset) = (worst.file.display(), worst.offset);
    let what = format!("{file}, byte {offset}, record {}: {}", worst.first, worst.what);
    let failure = Failure::new(exit, reason, what);
    match worst.verdict {
        Verdict::Redacted => failure.advise(
            "everything else is as it was signed; `audit list --action RedactAuditEvents` says who \
             had it erased, and why",
        ),
        Verdict::Archived => failure.advise(
            "everything else is as it was signed; with the archive (--archive DIR) all of it is verified",
        ),
        Verdict::UnprovenTail => failure.advise(
            "if its process was killed, the next start settles that; if not, the end was altered",
        ),
        _ => failure.advise("keep the files as they are: they are evidence"),
    }
}

pub(crate) fn failure(error: &VerifyError) -> Failure {
    let exit = match error {
        VerifyError::Archived(_) => Exit::Archived,
        VerifyError::Tampered { .. }
        | VerifyError::Foreign { .. }
        | VerifyError::CheckpointForeign { .. }
        | VerifyError::StateForeign { .. } => Exit::Tampered,
        VerifyError::Missing { .. } => Exit::Missing,
        VerifyError::Torn { .. } => Exit::UnprovenTail,
        VerifyError::PublicKey | VerifyError::Checkpoint | VerifyError::State => Exit::Usage,
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

fn text(found: &Report, remembered: Option<&Remembered>) -> String {
    let (mut table, verified) = (Table::bare(), &found.verified);
    match found.verdict() {
        Verdict::Ok if found.resumed_from > 0 => {
            let what = "what is new: every record, signature and detail is as it was signed";
            table.row(["verified", what]);
        }
        Verdict::Ok => {
            table.row(["verified", "every record, signature and detail is as it was signed"]);
        }
        worst => table.row(["verdict", worst.as_str()]),
    }
    table.row(["log", &verified.origin]);
    table.row(["records", &grouped(verified.records)]);
    if found.resumed_from > 0 {
        let before = grouped(found.resumed_from);
        table.row(["not read", &format!("the {before} records that an earlier run verified")]);
    }
    table.row(["signatures", &grouped(verified.checkpoints)]);
    table.row(["details", &grouped(verified.details)]);
    table.row(["files", &grouped(verified.segments)]);
    table.row(["root", &hex::encode(&verified.root)]);
    if found.lingering > 0 {
        let records = counted(found.lingering, "record");
        let what =
            format!("{records}: detail that was to be erased; the redaction is not finished");
        table.row(["named, still there", &what]);
    }
    if found.verdict() <= Verdict::Archived
        && let Some(remembered) = remembered
    {
        let covered = grouped(remembered.size);
        let what = match found.is_compared {
            true => format!("the log has the {covered} records that it covers"),
            false => "not compared: it covers archived records only (--archive DIR)".to_owned(),
        };
        table.row(["checkpoint", &what]);
    }
    if found.verdict() == Verdict::Ok {
        return table.text();
    }
    let mut ranges = Table::new(&["VERDICT", "RECORDS", "FILE", "BYTE", "WHAT"]);
    for range in &found.ranges {
        ranges.row([
            range.verdict.as_str().to_owned(),
            records(range),
            file_name(range),
            range.offset.to_string(),
            range.what.to_owned(),
        ]);
    }
    format!("{}\n{}", table.text(), ranges.text())
}

/// Which records: `7`, `7-12`, `from 7 on`, or `before 7` for what stands between two.
fn records(range: &Range) -> String {
    let first = range.first;
    match range.end {
        None => format!("from {first} on"),
        Some(end) if end <= first => format!("before {first}"),
        Some(end) if end - first == 1 => first.to_string(),
        Some(end) => format!("{first}-{}", end - 1),
    }
}

fn file_name(range: &Range) -> String {
    range.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn json(found: &Report) -> serde_json::Value {
    let verified = &found.verified;
    let range = |range: &Range| {
        json!({
            "verdict": range.verdict.as_str(), "first": range.first, "end": range.end,
            "file": file_name(range), "offset": range.offset, "what": range.what,
        })
    };
    let mut shown = json!({
        "verdict": found.verdict().as_str(),
        "origin": verified.origin, "records": verified.records,
        "signatures": verified.checkpoints, "signatures_by_header": verified.by_header,
        "details": verified.details,
        "resumed_from": found.resumed_from, "segments": verified.segments, "root": hex::encode(&verified.root),
        "checkpoint": verified.checkpoint_note, "named_still_there": found.lingering,
        "ranges": found.ranges.iter().map(range).collect::<Vec<_>>(),
    });
    if let Some(shown) = shown.as_object_mut().filter(|_| !found.is_compared) {
        shown.insert("checkpoint_compared".to_owned(), false.into());
    }
    shown
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
        let gone = std::path::PathBuf::from("/log");
        let gone = VerifyError::Missing { file: gone, offset: 0, record: 7, what: "gone" };
        assert_eq!(
            (failure(&gone).exit(), gone.reason()),
            (Exit::Missing, "AUDIT_RECORDS_MISSING")
        );
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
