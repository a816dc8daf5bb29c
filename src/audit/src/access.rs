//! Who may read the files of the log beside their owner: nobody, or one group.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

/// What a file and a directory may be where a group reads them.
const FILE: u32 = 0o640;
const DIRECTORY: u32 = 0o750;
/// The same for the owner alone.
const OWN_FILE: u32 = 0o600;
const OWN_DIRECTORY: u32 = 0o700;

/// Lets a group read a file, if there is one.
///
/// # Errors
/// The process is not in the group, and may not give files away.
pub(crate) fn file(path: &Path, group: Option<u32>) -> io::Result<()> {
    share(path, group, FILE)
}

/// Lets a group enter a directory and list it, if there is one.
///
/// # Errors
/// As [`file`].
pub(crate) fn directory(path: &Path, group: Option<u32>) -> io::Result<()> {
    share(path, group, DIRECTORY)
}

fn share(path: &Path, group: Option<u32>, mode: u32) -> io::Result<()> {
    let Some(group) = group else { return Ok(()) };
    // The group first: no other group ever has the rights. One that has the file already needs nobody who
    // may give files away.
    if path.metadata()?.gid() != group {
        chown(path, None, Some(group))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Does the same for a directory and the files in it that make a log, an index or an archive. Without a
/// group what a group was let into is closed again.
///
/// # Errors
/// As [`file`], with a group only.
pub(crate) fn everything(directory: &Path, group: Option<u32>) -> io::Result<()> {
    if group.is_none() {
        close(directory, DIRECTORY, OWN_DIRECTORY);
    }
    self::directory(directory, group)?;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let is_one = path.file_name().and_then(|name| name.to_str()).is_some_and(is_shared);
        if !is_one || !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }
        if group.is_none() {
            close(&path, FILE, OWN_FILE);
        }
        file(&path, group)?;
    }
    Ok(())
}

/// What somebody needs who verifies the log or reads it.
fn is_shared(name: &str) -> bool {
    let is_numbered = |start, end| name.starts_with(start) && name.ends_with(end);
    is_numbered("segment-", ".log")
        || is_numbered("index-", ".idx")
        || ["log.pub", "archived", "closed", "checkpoint"].contains(&name)
}

fn close(path: &Path, shared: u32, own: u32) {
    if path.metadata().is_ok_and(|found| found.mode() & 0o777 == shared) {
        // Where it is not ours to change it is as somebody else meant it.
        let _ = std::fs::set_permissions(path, Permissions::from_mode(own));
    }
}
