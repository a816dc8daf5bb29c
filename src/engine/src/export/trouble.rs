//! Why records are not written where they were to be.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::outside;

/// Others may not read or write, and the group may not write.
const CLOSED_TO: u32 = 0o027;
/// Others may write.
const WRITTEN_BY_ALL: u32 = 0o002;

/// Why records are not written into a file: it says who did what. `None` if they may be.
#[must_use]
pub fn file_trouble(found: &Metadata) -> Option<&'static str> {
    if !found.is_file() {
        return Some(outside::IRREGULAR);
    }
    let open = found.permissions().mode() & CLOSED_TO != 0;
    open.then_some("it is open to others, or its group may write: chmod 600, or 640")
}

/// Where a file stands.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// Why records are not written into a directory, with the sticky bit too: whoever makes a file there first
/// chooses what it is. `None` if they may be.
#[must_use]
pub fn directory_trouble(found: &Metadata) -> Option<&'static str> {
    if !found.is_dir() {
        return Some("what it stands in is no directory");
    }
    let open = found.permissions().mode() & WRITTEN_BY_ALL != 0;
    open.then_some(
        "everybody may write to its directory, and could put another file in its place: chmod o-w, or a \
         directory of its own",
    )
}
