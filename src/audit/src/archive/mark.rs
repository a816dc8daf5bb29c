//! The mark that says that a log may begin later than with its first record: without it a log whose
//! oldest segments are not there is not opened.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::JournalError;
use crate::verify::LogKey;

const NAME: &str = "archived";
const LABEL: &str = "fieldseal.dev/audit-archived/v1";

/// Up to which record a log is archived: 0 if nothing is.
pub(crate) type Marked = u64;

/// Reads the mark of a log.
///
/// # Errors
/// `Corrupt` if it is none, or if this log's key did not sign it.
pub(crate) fn marked(directory: &Path, key: &LogKey) -> Result<Marked, JournalError> {
    let path = directory.join(NAME);
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(|e| JournalError::io("read", &path, &e))?,
    };
    let none = || JournalError::corrupt(&path, 0, "it is no mark of an archive that was signed");
    let (number, signature) = text.trim_end().split_once(' ').ok_or_else(none)?;
    let signature = STANDARD.decode(signature).ok().and_then(|s| s.try_into().ok());
    let is_signed = signature
        .is_some_and(|signature| key.verify_statement(LABEL, &[number.as_bytes()], &signature));
    number.parse().ok().filter(|_| is_signed).ok_or_else(none)
}

/// Puts the mark in its place, on disk when this returns.
pub(crate) fn mark(
    directory: &Path,
    to: Marked,
    group: Option<u32>,
    sign: impl Fn(&str, &[&[u8]]) -> [u8; 64],
) -> io::Result<()> {
    let number = to.to_string();
    let signature = STANDARD.encode(sign(LABEL, &[number.as_bytes()]));
    super::copy::replace(&directory.join(NAME), group, |file| {
        file.write_all(format!("{number} {signature}\n").as_bytes())
    })?;
    File::open(directory)?.sync_all()
}
