//! The file that tells a client where `dev` listens.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use crate::failure::{Exit, Failure};
use crate::output::note;

/// What the file begins with: only a file of an earlier `dev` is replaced.
pub(super) const FIRST_LINE: &str =
    "# written by fieldseal dev, which removes this file when it ends\n";

/// Refuses a file that is somebody else's.
///
/// # Errors
/// `FILE_EXISTS` for anything but the file of a `dev` that was killed.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::io("cannot look at", path, &error)),
        Ok(found) if found.is_file() && is_ours(path) => return Ok(()),
        Ok(_) => {}
    }
    let what = format!("{} exists, and no `fieldseal dev` wrote it", path.display());
    Err(Failure::new(Exit::Conflict, "FILE_EXISTS", what)
        .advise("nothing was changed; name a new file: it is removed when dev ends"))
}

fn is_ours(path: &Path) -> bool {
    let mut first = [0; FIRST_LINE.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut first));
    read.is_ok() && first == *FIRST_LINE.as_bytes()
}

/// Written whole or not at all; it names a private key's file, so it is for its owner.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    // Looked at again: it may have come since the start.
    check(path)?;
    let dir = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let failed = |e: &std::io::Error| Failure::io("cannot write", path, e);
    let mut staged = tempfile::NamedTempFile::new_in(dir).map_err(|e| failed(&e))?;
    let whole = [FIRST_LINE, text].concat();
    staged.write_all(whole.as_bytes()).map_err(|e| failed(&e))?;
    staged.persist(path).map_err(|e| failed(&e.error))?;
    Ok(())
}

/// What it names, in `dir`, is gone. A file that somebody else wrote meanwhile stays.
pub(super) fn remove(path: &Path, dir: &Path) {
    let ours = dir.display().to_string();
    let text = std::fs::read_to_string(path);
    if text.is_ok_and(|text| text.starts_with(FIRST_LINE) && text.contains(&ours))
        && let Err(error) = std::fs::remove_file(path)
    {
        note(&format!("left behind: {}: {error}", path.display()));
    }
}
