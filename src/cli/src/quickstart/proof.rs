//! Step 7, second half: the log proves itself, and a copy with one flipped byte does not.

use std::path::Path;

use super::place::Place;
use crate::failure::{Exit, Failure};
use crate::installation::Created;
use crate::output::{Table, grouped};
use crate::verify;

/// Verifies the log with only its files and the public key, then a copy in which one bit is flipped.
pub(super) fn verify_and_tamper(place: &Place, made: &Created) -> Result<String, Failure> {
    let log = made.audit();
    let key = log.join("log.pub");
    let found = verify::verified(&log, &key)?;
    let copy = place.tampered_log();
    let at = flipped_copy(&log, &copy)?;
    let tampered = match verify::verified(&copy, &key) {
        Err(failure) if failure.exit() == Exit::Tampered => failure,
        Err(failure) => return Err(failure),
        Ok(_) => {
            let what = "a flipped byte in the audit log was not found";
            return Err(Failure::new(Exit::Internal, "INTERNAL", what));
        }
    };
    let mut table = Table::bare().indented(3);
    let verified = format!(
        "{} records, {} signatures, {} details: all as they were signed",
        grouped(found.records),
        grouped(found.checkpoints),
        grouped(found.details)
    );
    table.row(["verified", &verified]);
    table.row(["flipped", &format!("one bit of byte {} in a copy", grouped(at))]);
    let what = tampered.what().replace(&format!("{}/", copy.display()), "");
    table.row(["found", &format!("{}: {what}", tampered.reason())]);
    Ok(table.text().trim_end().to_owned())
}

/// Copies the log and flips one bit in the middle of the records of its first segment.
fn flipped_copy(log: &Path, copy: &Path) -> Result<u64, Failure> {
    let failed = |e: &std::io::Error| Failure::io("cannot copy to", copy, e);
    std::fs::create_dir(copy).map_err(|e| failed(&e))?;
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(log).map_err(|e| failed(&e))? {
        let path = entry.map_err(|e| failed(&e))?.path();
        let to = copy.join(path.file_name().unwrap_or_default());
        std::fs::copy(&path, &to).map_err(|e| failed(&e))?;
        if to.extension().is_some_and(|extension| extension == "log") {
            segments.push(to);
        }
    }
    segments.sort();
    let missing = || Failure::new(Exit::Internal, "INTERNAL", "the audit log has no segment");
    let first = segments.first().ok_or_else(missing)?;
    let mut bytes = std::fs::read(first).map_err(|e| failed(&e))?;
    let used = bytes.iter().rposition(|byte| *byte != 0).ok_or_else(missing)?;
    let at = used / 2;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    std::fs::write(first, bytes).map_err(|e| failed(&e))?;
    Ok(at as u64)
}
