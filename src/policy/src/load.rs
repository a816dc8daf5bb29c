//! Reading a policy directory.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fieldseal_identity::{ISSUERS_FILE, JWKS_SUFFIX};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};

use crate::defaults::{MEMBERS_FILE, SCHEMA_FILE};
use crate::errors::{PolicyErrors, Problem, Source, whole_file};

/// Most files in a policy directory that are read.
const MAX_FILES: usize = 256;
/// Most bytes in one of them.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

pub(crate) const NO_RULES: &str = "there is no policy file; write at least one *.cedar file";

/// The stack of the thread that loads a policy. Cedar calls itself for each level of a rule, and who
/// asks for a load may have little stack left.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Where the policy is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory with `*.cedar`, `members.toml`, `issuers.toml` with its `*.jwks.json`, and, for
    /// editors, `schema.cedarschema`. Hidden files and files of other kinds are not read.
    pub dir: PathBuf,
}

/// Runs a load on a thread of its own, with a stack that is the same wherever a policy is loaded.
pub(crate) fn on_own_stack<T: Send>(
    load: impl FnOnce() -> Result<T, PolicyErrors> + Send,
) -> Result<T, PolicyErrors> {
    let failed = |what: &str| PolicyErrors::one(whole_file("policy", what));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("policy".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, load);
        let thread = thread.map_err(|e| failed(&format!("no thread to load it: {e}")))?;
        thread.join().unwrap_or_else(|_| Err(failed("it was not loaded to its end")))
    })
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
    let found = std::fs::metadata(dir).map_err(failed)?;
    let mount = rustix::fs::statvfs(dir).map_err(|e| failed(e.into()))?;
    if open_to_all(found.mode(), mount.f_flag) {
        let message = "everybody can write to the policy directory; take that away (chmod o-w)";
        problems.push(whole_file(&shown, message));
    }
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
        && (name.ends_with(".cedar")
            || [MEMBERS_FILE, SCHEMA_FILE, ISSUERS_FILE].contains(&name)
            || name.ends_with(JWKS_SUFFIX))
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |e: std::io::Error| format!("the file cannot be read: {e}");
    // Opening a pipe waits for whoever writes into it, unless it is opened like this.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?;
    let file = File::from(file);
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err("the file cannot be read: it is not a regular file".to_owned());
    }
    let mount = rustix::fs::fstatvfs(&file).map_err(|e| unreadable(e.into()))?;
    if open_to_all(found.mode(), mount.f_flag) {
        return Err("everybody can write to the file; take that away (chmod o-w)".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is longer than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|e| format!("the file is not UTF-8 from byte {} on", e.utf8_error().valid_up_to()))
}

/// Whether everybody can write there. The directory of a ConfigMap is open to all by its mode, and
/// mounted so that nobody can write to it.
fn open_to_all(mode: u32, mount: StatVfsMountFlags) -> bool {
    mode & 0o002 != 0 && !mount.contains(StatVfsMountFlags::RDONLY)
}

#[cfg(test)]
mod tests;
