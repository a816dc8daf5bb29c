//! Who may read the files of the log: its owner alone, and a group where one is configured.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fieldseal_audit::{Archivable, ArchivePlace, Journal, JournalError, Redactable, Settings};
use fieldseal_model::Timestamp;
use kit::{Log, archivist, of_partitions, policy, reason, redactor, stop};

const LATER: Timestamp = Timestamp::from_unix_nanos(1_900_000_000_000_000_000);

/// A group that this process may give files to: any for root, its own otherwise.
fn a_group() -> u32 {
    match rustix::process::geteuid().is_root() {
        true => 54_321,
        false => rustix::process::getegid().as_raw(),
    }
}

/// Rolls, redacts, makes indexes and archives; gives the three directories.
async fn used(log: &Log, journal: &Journal) -> [PathBuf; 3] {
    let policy = policy();
    for row in 0..160 {
        let event = of_partitions(&policy, &[(Some(1), row)], "T-1");
        journal.record(event).await.unwrap();
    }
    let row = Redactable::Row { token: [100; 16], until: None };
    let why = reason("T-2");
    journal.redact(&row, (&redactor(&policy), &why), LATER, |_| {}).await.unwrap();
    journal.build_indexes().unwrap();
    let beside = |name| log.path().with_file_name(name);
    let to = ArchivePlace::Directory(beside("archive"));
    let first = fieldseal_audit::Archived { segments: 1, ..Default::default() };
    let what = Archivable { before: LATER, most: 60, to };
    let done = journal.archive(&what, (&archivist(&policy), &why), LATER, |_| {}).await.unwrap().0;
    assert!(done.segments >= first.segments, "{done:?}");
    [log.path().to_owned(), beside("audit-index"), beside("archive")]
}

/// Every file below, and the directory, with its mode and group.
fn modes(directory: &Path) -> Vec<(String, u32, u32)> {
    let of = |path: &Path| {
        let found = path.metadata().unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, found.mode() & 0o7777, found.gid())
    };
    let files = fs::read_dir(directory).unwrap().map(|entry| of(&entry.unwrap().path()));
    let mut all: Vec<_> = files.collect();
    all.push((".".to_owned(), of(directory).1, of(directory).2));
    all
}

/// What only a process that writes needs.
const OWN: [&str; 2] = ["lock", "redacting"];

#[tokio::test]
async fn a_group_reads_what_there_is_and_what_is_made_later_and_nobody_else_does() {
    let mut log = Log::new(16 * 1024);
    let group = a_group();
    // Made without a group, and opened with one.
    log.settings.group = Some(group);
    let journal = log.open();
    let directories = used(&log, &journal).await;
    stop(&journal).await;
    drop(journal);
    for directory in &directories {
        let found = modes(directory);
        assert!(found.len() >= 3, "{found:?}");
        for (name, mode, of) in found {
            let expected = match name.as_str() {
                own if OWN.contains(&own) => 0o600,
                "." => 0o750,
                _ => 0o640,
            };
            assert_eq!(mode, expected, "{name} in {}", directory.display());
            assert!(mode == 0o600 || of == group, "{name} in {}", directory.display());
        }
    }
    let names: Vec<_> = modes(log.path()).into_iter().map(|(name, ..)| name).collect();
    for needed in ["log.pub", "archived", "closed"] {
        assert!(names.iter().any(|name| name == needed), "{names:?}");
    }
    // A copy that a start after a crash makes.
    fs::remove_file(log.path().join("closed")).unwrap();
    drop(log.open());
    let last = log.segments().pop().unwrap().metadata().unwrap();
    assert_eq!((last.mode() & 0o777, last.gid()), (0o640, group));

    // Taken away again, it is closed to the group.
    log.settings.group = None;
    drop(log.open());
    for directory in &directories[..2] {
        for (name, mode, _) in modes(directory) {
            // Zeroes, made anew before it becomes a segment.
            assert!(mode & 0o077 == 0 || name == "spare.tmp", "{name} in {}", directory.display());
        }
    }
}

#[tokio::test]
async fn without_a_group_everything_is_the_owner_s_alone() {
    let log = Log::new(16 * 1024);
    let journal = log.open();
    let directories = used(&log, &journal).await;
    stop(&journal).await;
    for directory in &directories {
        for (name, mode, _) in modes(directory) {
            let expected = if name == "." { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{name} in {}", directory.display());
        }
    }
}

#[tokio::test]
async fn a_log_is_made_with_its_group_and_one_that_cannot_be_given_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let group = Some(a_group());
    let of = |name: &str, group| Settings {
        directory: directory.path().join(name),
        segment_bytes: 16 * 1024,
        reserve_bytes: 0,
        group,
    };
    Journal::create(&of("a", group), &kit::identity(7)).unwrap();
    for (name, mode, of) in modes(&directory.path().join("a")) {
        if name != "lock" {
            let expected = if name == "." { 0o750 } else { 0o640 };
            assert_eq!((Some(of), mode), (group, expected), "{name}");
        }
    }
    if rustix::process::geteuid().is_root() {
        // Whoever may do everything is refused nothing.
        return;
    }
    let refused = Journal::create(&of("b", Some(54_321)), &kit::identity(7)).unwrap_err();
    assert!(matches!(refused, JournalError::Io { what: "let audit.group read", .. }), "{refused}");
}
