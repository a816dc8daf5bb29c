//! A table of ways to falsify a log. Each is done to a real log, and the verifier must say what is
//! wrong and where. What only a checkpoint that was kept elsewhere can find is found with one.
//!
//! With `FIELDSEAL_FALSIFIED` the falsified logs are written to the directory that it names, for a
//! verifier that somebody else wrote (`tests/foreign/falsified.py`).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

#[path = "falsified/archived.rs"]
mod archived;
#[path = "falsified/cases.rs"]
mod cases;
#[path = "falsified/certified.rs"]
mod certified;
#[path = "falsified/forge.rs"]
mod forge;
mod kit;
#[path = "falsified/outside.rs"]
mod outside;
#[path = "falsified/redaction.rs"]
mod redaction;
#[path = "falsified/resumed.rs"]
mod resumed;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use fieldseal_audit::verify::Files;
use fieldseal_audit::{Archivable, ArchivePlace, Journal, Redactable, Settings, verify};
use fieldseal_model::Timestamp;
use forge::{Forgery, Segment};
use kit::{Log, commit, decrypt, policy, stop};

/// Names the directory for the falsified logs.
const WRITTEN: &str = "FIELDSEAL_FALSIFIED";
const SEGMENT: u64 = 16 * 1024;
pub(crate) const ORIGIN: &str = "fieldseal.dev/abababababababababababababababab/main";

/// What a verifier must say: the verdict, the first record, file and byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    Ok,
    Range(&'static str, u64, String, u64),
    /// It is refused as a whole, for this reason.
    Refused(&'static str),
}

/// One way to falsify a log.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) falsify: fn(&Logs, &Forgery) -> Expected,
    /// What is said with the checkpoint that was kept; `None` where it is not needed.
    pub(crate) with_checkpoint: Option<fn(&Logs) -> Expected>,
    /// What is said with the archive; `None` for a log without one.
    pub(crate) with_archive: Option<fn(&Logs) -> Expected>,
    /// Whether the key that stands in the log itself is believed.
    pub(crate) believes_the_log: bool,
}

/// The logs that a forger has.
pub(crate) struct Logs {
    pub(crate) dir: tempfile::TempDir,
    /// The log that is falsified.
    pub(crate) good: Vec<Segment>,
    /// As it was when half of its records were there.
    pub(crate) old: Vec<Segment>,
    /// What became of the old one when somebody else went on with it.
    pub(crate) fork: Vec<Segment>,
    /// Another installation's.
    pub(crate) other: Vec<Segment>,
    /// The log that is falsified, after one row's detail was erased.
    pub(crate) redacted: Vec<Segment>,
    /// The log that is falsified, after its first two segments were archived: what stays, and what moved.
    pub(crate) archived: (Vec<Segment>, Vec<Segment>),
    pub(crate) checkpoint: String,
    pub(crate) records: u64,
}

impl Logs {
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Goes on with a log, or begins one.
async fn write(log: &mut Log, to: &Path, rows: std::ops::Range<u8>, ticket: &str) {
    log.settings = Settings { directory: to.to_owned(), ..log.settings.clone() };
    let (journal, policy) = (log.open(), policy());
    for row in rows {
        commit(&journal, &policy, row).await.unwrap();
        if row % 16 == 0 {
            journal.record(decrypt(&policy, &[1, 2, 3], ticket)).await.unwrap();
        }
    }
    stop(&journal).await;
}

/// Erases the detail of a row that is alone in a call, and one of three in others.
async fn redact(log: &mut Log, at: &Path) {
    log.settings = Settings { directory: at.to_owned(), ..log.settings.clone() };
    let (journal, policy) = (log.open(), policy());
    let (permit, reason) = (kit::redactor(&policy), kit::reason("T-9"));
    let what = Redactable::Row { token: [2; 16], until: None };
    let time = Timestamp::from_unix_nanos(5);
    let (done, _) = journal.redact(&what, (&permit, &reason), time, |_| {}).await.unwrap();
    assert!(done.records > 5 && done.items == done.records, "{done:?}");
    stop(&journal).await;
}

/// Archives two segments.
async fn archive(log: &mut Log, at: &Path, to: &Path) {
    log.settings = Settings { directory: at.to_owned(), ..log.settings.clone() };
    let (journal, policy) = (log.open(), policy());
    let (permit, reason) = (kit::archivist(&policy), kit::reason("T-9"));
    let before = Timestamp::from_unix_nanos(i64::MAX);
    let to = ArchivePlace::Directory(to.to_owned());
    let what = Archivable { before, most: forge::read(at)[2].first, to };
    let time = Timestamp::from_unix_nanos(5);
    let (done, _) = journal.archive(&what, (&permit, &reason), time, |_| {}).await.unwrap();
    assert_eq!(done.segments, 2);
    stop(&journal).await;
}

async fn logs() -> Logs {
    let mut log = Log::new(SEGMENT);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    copy(log.path(), &at("good"));
    write(&mut log, &at("good"), 0..100, "T-1").await;
    copy(&at("good"), &at("old"));
    copy(&at("good"), &at("fork"));
    write(&mut log, &at("good"), 100..200, "T-2").await;
    write(&mut log, &at("fork"), 100..200, "T-3").await;
    copy(&at("good"), &at("redacted"));
    redact(&mut log, &at("redacted")).await;
    copy(&at("good"), &at("archived"));
    archive(&mut log, &at("archived"), &at("archive")).await;
    log.settings = Settings { directory: at("other"), ..log.settings.clone() };
    let mut foreign = kit::identity(9);
    foreign.instance = "second".to_owned();
    Journal::create(&log.settings, &foreign).unwrap();
    let good = forge::read(&at("good"));
    assert!(good.len() >= 5, "{} segments", good.len());
    let found = verify::log(&at("good"), &key(&at("good")), |_| {}).unwrap();
    Logs {
        old: forge::read(&at("old")),
        fork: forge::read(&at("fork")),
        other: forge::read(&at("other")),
        redacted: forge::read(&at("redacted")),
        archived: (forge::read(&at("archived")), forge::read(&at("archive"))),
        good,
        checkpoint: found.checkpoint_note,
        records: found.records,
        dir,
    }
}

fn key(directory: &Path) -> verify::LogKey {
    verify::public_key(&fs::read_to_string(directory.join("log.pub")).unwrap()).unwrap()
}

/// What the verifier says.
fn said(log: &Path, key_of: &Path, checkpoint: Option<&str>, archives: &[PathBuf]) -> Expected {
    let key = key(key_of);
    let remembered = match checkpoint.map(|text| verify::remembered(text, &key)).transpose() {
        Ok(remembered) => remembered,
        Err(error) => return Expected::Refused(error.reason()),
    };
    let files = Files { directory: log, archives };
    match verify::resume(files, &key, None, false, remembered.as_ref(), |_| {}) {
        Err(error) => Expected::Refused(error.reason()),
        Ok(report) => report.worst().map_or(Expected::Ok, |range| {
            let file = range.file.file_name().unwrap().to_str().unwrap().to_owned();
            Expected::Range(range.verdict.as_str(), range.first, file, range.offset)
        }),
    }
}

/// A line of the table for other verifiers: name, whose key, `checkpoint`, `archive` or `-`, verdict,
/// first record, file, byte. The archive of a log has `.archive` behind its name.
fn line(case: &Case, given: &str, expected: &Expected) -> String {
    let key = if case.believes_the_log { "log" } else { "outside" };
    let said = match expected {
        Expected::Ok => "OK\t-\t-\t-".to_owned(),
        Expected::Refused(reason) => format!("{reason}\t-\t-\t-"),
        Expected::Range(verdict, first, file, offset) => {
            format!("{verdict}\t{first}\t{file}\t{offset}")
        }
    };
    format!("{}\t{key}\t{given}\t{said}\n", case.name)
}

#[tokio::test]
async fn every_falsified_log_is_found_and_the_place_is_said() {
    let logs = logs().await;
    let written = std::env::var_os(WRITTEN).map(PathBuf::from);
    let place = written.clone().unwrap_or_else(|| logs.at("falsified"));
    fs::create_dir_all(&place).unwrap();
    fs::copy(logs.at("good").join("log.pub"), place.join("log.pub")).unwrap();
    fs::write(place.join("checkpoint"), &logs.checkpoint).unwrap();
    let (mut wrong, mut table, mut names) = (String::new(), String::new(), BTreeSet::new());
    let all = [cases::all(), certified::all(), outside::all(), redaction::all(), archived::all()];
    let all: Vec<Case> = all.concat();
    for case in &all {
        assert!(names.insert(case.name), "{} is there twice", case.name);
        let dir = place.join(case.name);
        copy(&logs.at("good"), &dir);
        let expected = (case.falsify)(&logs, &Forgery { dir: dir.clone() });
        let key_of = if case.believes_the_log { dir.clone() } else { place.clone() };
        let archive = [place.join(format!("{}.archive", case.name))];
        // Without what headers say of signatures each is verified by itself.
        let slow = logs.at(case.name);
        certified::copy_without_hashes(&dir, &slow);
        let mut slow_archive = Vec::new();
        if archive[0].is_dir() {
            slow_archive.push(logs.at(&format!("{}.archive", case.name)));
            certified::copy_without_hashes(&archive[0], &slow_archive[0]);
        }
        let mut check = |given: &str, expected: &Expected| {
            let checkpoint = (given == "checkpoint").then_some(logs.checkpoint.as_str());
            let none = ([].as_slice(), [].as_slice());
            let both = (archive.as_slice(), slow_archive.as_slice());
            let (archives, slow_archives) = if given == "archive" { both } else { none };
            let found = said(&dir, &key_of, checkpoint, archives);
            if found != *expected {
                let _ = writeln!(wrong, "{} with {given}: {found:?}, not {expected:?}", case.name);
            }
            let slowly = said(&slow, &key_of, checkpoint, slow_archives);
            if slowly != *expected {
                let _ = writeln!(wrong, "{} with {given}, slowly: {slowly:?}", case.name);
            }
            table.push_str(&line(case, given, expected));
        };
        check("-", &expected);
        if let Some(expected) = case.with_archive {
            check("archive", &expected(&logs));
        }
        if let Some(expected) = case.with_checkpoint {
            check("checkpoint", &expected(&logs));
        }
    }
    fs::write(place.join("cases.tsv"), table).unwrap();
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(all.len() >= 40, "{}", all.len());
    let outside = all.iter().filter(|case| case.with_checkpoint.is_some()).count();
    assert!(outside >= 6, "{outside}");
    assert_eq!(said(&logs.at("good"), &place, Some(&logs.checkpoint), &[]), Expected::Ok);
}
