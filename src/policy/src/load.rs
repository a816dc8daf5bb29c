//! Reading a policy directory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::defaults::{MEMBERS_FILE, SCHEMA_FILE};
use crate::errors::{PolicyErrors, Problem, Source, whole_file};

/// Most files in a policy directory that are read.
const MAX_FILES: usize = 256;
/// Most bytes in one of them.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

pub(crate) const NO_RULES: &str = "there is no policy file; write at least one *.cedar file";

/// Where the policy is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory with `*.cedar`, `members.toml` and, for editors, `schema.cedarschema`. Hidden
    /// files and files of other kinds are not read.
    pub dir: PathBuf,
}

/// Reads what there is to read. Problems with single files are added to `problems`.
pub(crate) fn read_dir(
    dir: &Path,
    problems: &mut Vec<Problem>,
) -> Result<Vec<Source>, PolicyErrors> {
    let shown = dir.display().to_string();
    let failed = |e: std::io::Error| {
        let message = format!("the policy directory cannot be read: {e}");
        PolicyErrors::one(whole_file(&shown, message))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        match name.to_str() {
            Some(name) if is_policy_file(name) => names.push(name.to_owned()),
            _ => {}
        }
        if names.len() > MAX_FILES {
            let message = format!("at most {MAX_FILES} policy files are allowed");
            return Err(PolicyErrors::one(whole_file(&shown, message)));
        }
    }
    if !names.iter().any(|name| name.ends_with(".cedar")) {
        problems.push(whole_file(&shown, NO_RULES));
    }
    names.sort();
    let mut sources = Vec::new();
    for name in names {
        let path = dir.join(&name);
        let shown = path.display().to_string();
        match read_text(&path) {
            Ok(text) => sources.push(Source { name, shown, text }),
            Err(message) => problems.push(whole_file(&shown, message)),
        }
    }
    Ok(sources)
}

fn is_policy_file(name: &str) -> bool {
    !name.starts_with('.')
        && (name.ends_with(".cedar") || name == MEMBERS_FILE || name == SCHEMA_FILE)
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |e: std::io::Error| format!("the file cannot be read: {e}");
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is longer than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|e| format!("the file is not UTF-8 from byte {} on", e.utf8_error().valid_up_to()))
}
