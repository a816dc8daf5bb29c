//! Stopped at any step, a rewrite leaves one whole database.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::backend::Backend;
use crate::damage::Trouble;

const ENTRIES: u32 = 1500;

fn put(key: u32, value: &[u8]) -> RawWrite {
    RawWrite::Put(key.to_be_bytes().to_vec(), value.to_vec())
}

fn entries(backend: &SledBackend) -> BTreeMap<Vec<u8>, Vec<u8>> {
    backend.range(&[], None, usize::MAX).unwrap().into_iter().collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// How often the bytes are in the files below.
fn found(directory: &Path, needle: &[u8]) -> usize {
    let mut times = 0;
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        times += if entry.file_type().unwrap().is_dir() {
            found(&entry.path(), needle)
        } else {
            let bytes = fs::read(entry.path()).unwrap();
            bytes.windows(needle.len()).filter(|window| *window == needle).count()
        };
    }
    times
}

/// A database with entries, with one removed and one replaced.
fn made(directory: &Path) -> SledBackend {
    let backend = SledBackend::open(directory, Trouble::default()).unwrap();
    let all = (0..ENTRIES).map(|key| put(key, b"a value that stays")).collect();
    backend.apply(all).unwrap();
    backend.apply(vec![put(7, b"a value to remove"), put(8, b"a value to replace")]).unwrap();
    backend.sync().unwrap();
    backend.apply(vec![RawWrite::Delete(7_u32.to_be_bytes().to_vec()), put(8, b"new")]).unwrap();
    backend.sync().unwrap();
    backend
}

/// Runs a rewrite; whatever `meanwhile` writes is written after the first page.
fn rewrite(backend: &SledBackend, meanwhile: Vec<RawWrite>) -> LeftOver {
    backend.begin(0).unwrap();
    assert!(!backend.step().unwrap(), "there is more than a page");
    backend.apply(meanwhile).unwrap();
    backend.sync().unwrap();
    while !backend.step().unwrap() {}
    backend.end().unwrap()
}

#[test]
fn what_is_left_over_of_one_rewrite_is_removed_while_the_next_is_under_way() {
    let place = tempfile::tempdir().unwrap();
    let backend = made(place.path());
    let expected = entries(&backend);
    for _ in 0..2 {
        let left_over = rewrite(&backend, vec![put(1, b"a value that stays")]);
        backend.begin(0).unwrap();
        while !backend.step().unwrap() {}
        left_over().unwrap();
        assert!(backend.is_in_place());
        let last = backend.end().unwrap();
        assert!(backend.is_in_place() && entries(&backend) == expected);
        last().unwrap();
        assert!(backend.is_in_place() && entries(&backend) == expected);
    }
    drop(backend);
    let names = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["live", "live-4"]);
    let backend = SledBackend::open(place.path(), Trouble::default()).unwrap();
    assert!(entries(&backend) == expected);
}

#[test]
fn what_was_removed_or_replaced_is_in_no_file_afterwards() {
    let place = tempfile::tempdir().unwrap();
    let backend = made(place.path());
    for value in [&b"a value to remove"[..], b"a value to replace"] {
        assert!(found(place.path(), value) > 0, "sled's log keeps it");
    }
    let mut expected = entries(&backend);
    // Before and behind the page that is copied: replaced, removed, and new.
    let meanwhile = vec![
        put(3, b"replaced meanwhile"),
        put(1400, b"replaced meanwhile"),
        RawWrite::Delete(4_u32.to_be_bytes().to_vec()),
        RawWrite::Delete(1401_u32.to_be_bytes().to_vec()),
        put(ENTRIES, b"new meanwhile"),
    ];
    for write in meanwhile.clone() {
        match write {
            RawWrite::Put(key, value) => drop(expected.insert(key, value)),
            RawWrite::Delete(key) => drop(expected.remove(&key)),
        }
    }
    let left_over = rewrite(&backend, meanwhile);
    assert_eq!(entries(&backend), expected);
    assert!(found(place.path(), b"a value to remove") > 0, "the files before are still there");
    left_over().unwrap();
    for value in [&b"a value to remove"[..], b"a value to replace"] {
        assert_eq!(found(place.path(), value), 0);
    }
    assert!(found(place.path(), b"a value that stays") > 0, "the search finds what is there");
    assert!(backend.is_in_place());
    // Once more, from a directory of its own, and it goes on.
    rewrite(&backend, vec![put(9, b"later")])().unwrap();
    backend.apply(vec![put(10, b"last")]).unwrap();
    backend.sync().unwrap();
    drop(backend);
    expected.insert(9_u32.to_be_bytes().to_vec(), b"later".to_vec());
    expected.insert(10_u32.to_be_bytes().to_vec(), b"last".to_vec());
    assert_eq!(entries(&SledBackend::open(place.path(), Trouble::default()).unwrap()), expected);
    let names = fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["live", "live-2"]);
}

#[test]
fn stopped_at_any_step_it_leaves_one_whole_database() {
    let place = tempfile::tempdir().unwrap();
    let backend = made(place.path());
    let images = tempfile::tempdir().unwrap();
    let steps = Arc::new(Mutex::new(Vec::new()));
    // What a killed process leaves: its files as they are at that step.
    let (from, to, seen) = (place.path().to_owned(), images.path().to_owned(), Arc::clone(&steps));
    *backend.seen.lock() = Some(Box::new(move |step| {
        let mut seen = seen.lock();
        copy(&from, &to.join(seen.len().to_string()));
        seen.push(step.to_owned());
    }));
    let left_over = rewrite(&backend, vec![put(3, b"written meanwhile")]);
    let expected = entries(&backend);
    let mut before = expected.clone();
    before.insert(3_u32.to_be_bytes().to_vec(), b"a value that stays".to_vec());
    left_over().unwrap();
    let steps = steps.lock().clone();
    let pages = ENTRIES as usize / PAGE + 1;
    assert_eq!(steps.iter().filter(|step| *step == "copied").count(), pages);
    for step in ["begun", "synced", "named", "renamed", "swapped"] {
        assert!(steps.iter().any(|seen| seen == step), "{step}");
    }
    let written = steps.iter().position(|step| step == "copied").unwrap();
    for (at, step) in steps.iter().enumerate() {
        let image = images.path().join(at.to_string());
        let opened = SledBackend::open(&image, Trouble::default()).unwrap();
        let expected = if at <= written { &before } else { &expected };
        assert_eq!(entries(&opened), *expected, "stopped after {at}: {step}");
        // It is whole and goes on; nothing is left over.
        rewrite(&opened, vec![put(11, b"later")])().unwrap();
        assert_eq!(found(&image, b"a value to remove"), 0, "{at}: {step}");
        drop(opened);
        assert_eq!(
            entries(&SledBackend::open(&image, Trouble::default()).unwrap()).len(),
            expected.len()
        );
    }
}

#[test]
fn stopped_while_the_files_before_are_removed_it_removes_the_rest() {
    let place = tempfile::tempdir().unwrap();
    let backend = made(place.path());
    drop(rewrite(&backend, Vec::new()));
    let expected = entries(&backend);
    drop(backend);
    // One more is removed before each stop.
    for stop in 0..4 {
        let image = tempfile::tempdir().unwrap();
        copy(place.path(), image.path());
        let mut removed = 0;
        for name in ["db", "conf", "blobs"].iter().take(stop) {
            let path = image.path().join(name);
            removed += 1;
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        assert_eq!(removed, stop);
        assert_eq!(
            entries(&SledBackend::open(image.path(), Trouble::default()).unwrap()),
            expected,
            "{stop}"
        );
        assert_eq!(found(image.path(), b"a value to remove"), 0);
    }
}

#[test]
fn new_files_that_cannot_be_written_leave_the_old_ones_as_they_are() {
    let place = tempfile::tempdir().unwrap();
    let backend = made(place.path());
    let expected = entries(&backend);
    let refused = backend.begin(u64::MAX).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    backend.begin(0).unwrap();
    assert!(!backend.step().unwrap());
    backend.give_up();
    assert_eq!(entries(&backend), expected);
    backend.apply(vec![put(1, b"it goes on")]).unwrap();
    assert!(backend.is_in_place() && !place.path().join("live-1").exists());
    assert!(backend.step().is_err(), "nothing is under way");
}
