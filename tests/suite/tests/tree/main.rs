//! What must hold of every file in the tree.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a tree that cannot be read fails the test")]

mod floors;
mod proofs;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

/// What is made, not written.
const NOT_WRITTEN: [&str; 6] =
    ["target", ".git", "node_modules", "__pycache__", "fieldseal-quickstart", "generated"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file below a directory that somebody wrote, as (path from the root, content).
fn files(below: &str) -> Vec<(String, Vec<u8>)> {
    let root = root();
    let mut found = Vec::new();
    let mut dirs = vec![root.join(below)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() && !NOT_WRITTEN.contains(&name) {
                dirs.push(path);
            } else if kind.is_file() {
                let shown = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                // An editor's file may be gone again.
                if let Ok(content) = fs::read(&path) {
                    found.push((shown, content));
                }
            }
        }
    }
    found.sort();
    found
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
