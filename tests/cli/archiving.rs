//! `audit archive`: whole segments move, the sidecar goes on without them, and both together verify.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Instant;

use crate::installation::{Installation, place};
use crate::process::{PATIENCE, ended, program, refused};

fn directory(i: &Installation) -> PathBuf {
    i.home().join("archive")
}

/// Gives an installation that is stopped an archive.
pub(crate) fn configure(i: &Installation) {
    let set = format!("archive_directory = \"{}\"", directory(i).display());
    i.set("archive_directory = \"\"", &set);
}

/// How something goes that is done by itself.
fn retained(i: &Installation, job: &str) -> serde_json::Value {
    let status = i.json("ops", &["status"]);
    let all = status["retention"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["job"] == job).unwrap()
}

/// How `audit verify` ends.
fn verified(i: &Installation, more: &[&str]) -> (i32, String) {
    let mut command = program();
    command.args(["audit", "verify", "--log"]).arg(i.log());
    command.arg("--public-key").arg(i.log().join("log.pub")).args(more);
    ended(&command.output().unwrap())
}

#[test]
fn what_is_older_moves_and_what_is_left_goes_on() {
    let mut i = Installation::with_key();
    let sealed = i.ok("app", &place("encrypt", &["--partition", "alice"]), b"x");
    i.ok("app", &place("decrypt", &["--partition", "alice"]), &sealed);
    let archive = |i: &Installation, caller: &str, more: &[&str]| {
        ended(&i.run(caller, &[&["audit", "archive"], more].concat(), b""))
    };
    let past = ["--before", "2026-01-01"];
    assert_eq!(archive(&i, "ops", &past), refused(6, "ARCHIVE_NOT_CONFIGURED"));
    let off = |i: &Installation| retained(i, "archive")["off"].clone();
    assert!(off(&i).as_str().unwrap().starts_with("no archive is configured"));
    let shown = i.ok("ops", &["status"], b"");
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("retention (archive)") && shown.contains("off: no archive"), "{shown}");
    assert_eq!(i.stop(), 0);
    configure(&i);
    i.serve();
    assert_eq!(off(&i), "");
    assert_eq!(archive(&i, "auditor", &past), refused(4, "PERMISSION_DENIED"));
    assert_eq!(archive(&i, "ops", &["--before", "2999-01-01"]), refused(2, "QUERY_INVALID"));
    assert_eq!(archive(&i, "ops", &[]).0, 2);
    assert_eq!(i.json("ops", &["audit", "archive", "--before", "2020-01-01"])["event_count"], 0);
    assert!(!directory(&i).exists(), "nothing is so old");

    // The segment in which something is erased ends with that.
    i.ok("ops", &["audit", "redact", "--partition", "alice", "--confirm", "alice"], b"");
    // The question is on record, in the next segment.
    i.json("auditor", &["audit", "list", "--limit", "1"]);
    let newest = i.json("auditor", &["audit", "list", "--limit", "1"]);
    let now = newest["audit_events"][0]["event_time"].as_str().unwrap().to_owned();
    let would = i.json("ops", &["audit", "archive", "--before", &now, "--validate-only"]);
    assert_eq!((&would["segment_count"], &would["event"]), (&1.into(), &"".into()), "{would}");
    assert!(!directory(&i).exists());
    let because = ["--purpose", "retention", "--ticket", "OPS-9"];
    let command = [&["audit", "archive", "--before", &now][..], &because].concat();
    let done = i.json("ops", &command);
    assert_eq!(done["event_count"], would["event_count"]);
    let end = done["end_index"].as_u64().unwrap();
    assert_eq!(done["event_count"].as_u64(), Some(end));

    assert_eq!(verified(&i, &[]), refused(11, "AUDIT_RECORDS_ARCHIVED"));
    let place_of_it = directory(&i);
    let place_of_it = place_of_it.to_str().unwrap();
    assert_eq!(verified(&i, &["--archive", place_of_it]), refused(10, "AUDIT_LOG_REDACTED"));
    let said = i.json("auditor", &["audit", "list", "--action", "ArchiveAuditEvents"]);
    let said = said["audit_events"].as_array().unwrap();
    let said = said.iter().find(|event| event["kind"] == "SEGMENTS_ARCHIVED").unwrap();
    assert_eq!((&said["purpose"], &said["ticket"]), (&"retention".into(), &"OPS-9".into()));
    let all = i.json("auditor", &["audit", "list", "--limit", "1000"]);
    let indexes = all["audit_events"].as_array().unwrap().iter().map(|event| {
        event["name"].as_str().unwrap().rsplit_once('/').unwrap().1.parse::<u64>().unwrap()
    });
    assert_eq!(indexes.min(), Some(end));

    // It is started again, and what is in the archive alone is not looked for here.
    assert_eq!(i.stop(), 0);
    assert_eq!(verified(&i, &[]), refused(11, "AUDIT_RECORDS_ARCHIVED"));
    let tiles = |more: &[&str]| {
        let mut command = program();
        command.args(["audit", "tiles", "--log"]).arg(i.log());
        command.arg("--public-key").arg(i.log().join("log.pub"));
        command.arg("--to").arg(i.path("tiles")).args(more);
        ended(&command.output().unwrap())
    };
    assert_eq!(tiles(&[]), refused(11, "AUDIT_RECORDS_ARCHIVED"));
    assert_eq!(tiles(&["--archive", place_of_it]), (0, String::new()));
    i.serve();
    assert_eq!(i.ok("app", &place("decrypt", &["--partition", "alice"]), &sealed), b"x");
}

/// Keeps what it is handed beside itself, as long as there is a file `up`.
const KEEPER: &str = r#"#!/bin/sh
set -e
here=$(dirname "$0")
[ -e "$here/up" ] || { echo "no connection" >&2; exit 1; }
case $2 in
  put) cat >"$here/kept/$3" ;;
  get) [ ! -e "$here/kept/$3" ] || cat "$here/kept/$3" ;;
esac
"#;

#[test]
fn a_program_keeps_what_is_older_and_one_that_is_down_keeps_nothing_from_the_log() {
    let mut i = Installation::with_key();
    let sealed = i.ok("app", &place("encrypt", &["--partition", "alice"]), b"x");
    i.ok("app", &place("decrypt", &["--partition", "alice"]), &sealed);
    assert_eq!(i.stop(), 0);
    let elsewhere = i.home().join("elsewhere");
    let (keeper, kept) = (elsewhere.join("keeper"), elsewhere.join("kept"));
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::write(&keeper, KEEPER).unwrap();
    std::fs::set_permissions(&keeper, std::fs::Permissions::from_mode(0o700)).unwrap();
    let command = format!("archive_command = [\"{}\", \"bucket\"]", keeper.display());
    i.set("archive_command = []", &command);
    configure(&i);
    let both = i.serve_command().output().unwrap();
    assert_eq!(ended(&both), refused(2, "CONFIG_INVALID"));
    let set = format!("archive_directory = \"{}\"", directory(&i).display());
    i.set(&set, "archive_directory = \"\"");
    i.serve();
    // The segment in which something is erased ends with that; the question is in the next one.
    i.ok("ops", &["audit", "redact", "--partition", "alice", "--confirm", "alice"], b"");
    i.json("auditor", &["audit", "list", "--limit", "1"]);
    let newest = i.json("auditor", &["audit", "list", "--limit", "1"]);
    let now = newest["audit_events"][0]["event_time"].as_str().unwrap().to_owned();
    let archive = ["audit", "archive", "--before", &now];
    assert_eq!(ended(&i.run("ops", &archive, b"")), refused(5, "ARCHIVE_UNAVAILABLE"));
    assert_eq!(verified(&i, &[]), refused(10, "AUDIT_LOG_REDACTED"));
    std::fs::write(elsewhere.join("up"), "").unwrap();
    let end = i.json("ops", &archive)["end_index"].as_u64().unwrap();
    assert!(end > 0);
    assert_eq!(verified(&i, &[]), refused(11, "AUDIT_RECORDS_ARCHIVED"));
    let fetched = ["--archive", kept.to_str().unwrap()];
    assert_eq!(verified(&i, &fetched), refused(10, "AUDIT_LOG_REDACTED"));
    assert_eq!(i.ok("app", &place("decrypt", &["--partition", "alice"]), &sealed), b"x");
}

#[test]
fn a_group_reads_the_log_where_one_is_configured() {
    let mut i = Installation::with_key();
    let modes = |i: &Installation| {
        let names = std::fs::read_dir(i.log()).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = names.chain([i.log()]).collect();
        all.retain(|path| path.file_name().is_some_and(|name| name != "lock"));
        all.into_iter().map(|path| path.metadata().unwrap().mode() & 0o777).collect::<Vec<_>>()
    };
    assert_eq!(i.stop(), 0);
    assert!(modes(&i).iter().all(|mode| mode & 0o077 == 0), "{:?}", modes(&i));
    i.set("group = \"\"", "group = \"no-such-group\"");
    let refused_start = i.serve_command().output().unwrap();
    assert_eq!(ended(&refused_start), refused(2, "CONFIG_INVALID"));
    let own = i.home().metadata().unwrap().gid();
    i.set("group = \"no-such-group\"", &format!("group = \"{own}\""));
    i.serve();
    let sealed = i.ok("app", &place("encrypt", &["--partition", "alice"]), b"x");
    i.ok("app", &place("decrypt", &["--partition", "alice"]), &sealed);
    // A segment is written anew, and another one begun.
    i.ok("ops", &["audit", "redact", "--partition", "alice", "--confirm", "alice"], b"");
    assert_eq!(i.stop(), 0);
    let found = modes(&i);
    assert!(found.len() >= 4, "{found:?}");
    assert!(found.iter().all(|mode| [0o640, 0o750].contains(mode)), "{found:?}");
    assert_eq!(verified(&i, &[]), refused(10, "AUDIT_LOG_REDACTED"));
}

#[test]
fn what_is_done_with_age_alone_is_said_in_the_status() {
    let mut i = Installation::with_key();
    // The first look is beside the calls.
    let begun = Instant::now();
    while retained(&i, "redact")["next_run_time"].is_null() {
        assert!(begun.elapsed() < PATIENCE, "nothing is looked at");
    }
    let redact = retained(&i, "redact");
    assert_eq!((&redact["off"], &redact["failure"]), (&"".into(), &"".into()), "{redact}");
    assert!(redact["before_time"].as_str() < redact["next_run_time"].as_str(), "{redact}");
    assert_eq!(retained(&i, "redact-shredded")["off"], "audit.redact_shredded is false");
    assert_eq!(i.stop(), 0);
    configure(&i);
    i.set("keep_calls_days = 366", "keep_calls_days = 200");
    let between = i.serve_command().output().unwrap();
    assert_eq!(ended(&between), refused(2, "CONFIG_INVALID"));
    i.set("keep_calls_days = 200", "keep_calls_days = 366");
    i.set("redact_shredded = false", "redact_shredded = true");
    i.serve();
    for job in ["redact-shredded", "archive"] {
        assert_eq!(
            (&retained(&i, job)["off"], &retained(&i, job)["due"]),
            (&"".into(), &0.into()),
            "{job}"
        );
    }
    let shown = String::from_utf8(i.ok("ops", &["status"], b"")).unwrap();
    assert!(shown.contains("retention (redact)") && shown.contains("nothing due"), "{shown}");
}
