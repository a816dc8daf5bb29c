//! What must hold of every file in the tree.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a tree that cannot be read fails the test")]

mod events;
mod floors;
mod frozen;
mod functions;
mod proofs;
mod records;
mod text;
mod threats;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is made, not written.
const NOT_WRITTEN: [&str; 6] =
    ["target", ".git", "node_modules", "__pycache__", "fieldseal-quickstart", "generated"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file below a directory that somebody wrote, as (path from the root, content).
fn files(below: &str) -> Vec<(String, Vec<u8>)> {
    let root = root();
    let mut paths = tracked(&root).unwrap_or_else(|| walked(&root));
    paths.retain(|path| {
        let written = path.split('/').all(|part| !NOT_WRITTEN.contains(&part));
        written && Path::new(path).starts_with(below)
    });
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let file = root.join(&path);
        // It may be gone again: an editor's, or one that git still lists.
        let is_file = file.symlink_metadata().is_ok_and(|found| found.is_file());
        if let (true, Ok(content)) = (is_file, fs::read(&file)) {
            found.push((path, content));
        }
    }
    found
}

/// What git keeps: not somebody's second target directory, virtual environment or worktree. `None`
/// without git, or where this tree is in no repository.
fn tracked(root: &Path) -> Option<Vec<String>> {
    let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output().ok()?;
    let names = String::from_utf8(listed.stdout).ok().filter(|_| listed.status.success())?;
    let paths: Vec<_> = names.split_terminator('\0').map(str::to_owned).collect();
    (!paths.is_empty()).then_some(paths)
}

/// Every file that is there.
fn walked(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                if !NOT_WRITTEN.contains(&name) {
                    dirs.push(path);
                }
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn both_ways_find_this_file() {
    let own = "tests/suite/tests/tree/main.rs".to_owned();
    assert!(walked(&root()).contains(&own));
    // A tree without git (an unpacked archive) has only the other way.
    assert!(tracked(&root()).is_none_or(|paths| paths.contains(&own)));
    assert!(files("tests/suite").iter().any(|(path, _)| *path == own));
    assert!(!files("src").iter().any(|(path, _)| *path == own));
}

/// The Rust files below a directory, as (path from the root, text).
fn rust_files(below: &str) -> Vec<(String, String)> {
    let rust = files(below).into_iter().filter(|(path, _)| path.ends_with(".rs"));
    rust.map(|(path, content)| (path, String::from_utf8(content).unwrap())).collect()
}

/// Fails with one line a breach.
#[track_caller]
fn nothing_in(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}
