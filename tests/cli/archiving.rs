//! `audit archive`: whole segments move, the sidecar goes on without them, and both together verify.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::installation::{Installation, place};
use crate::process::{ended, program, refused};

fn directory(i: &Installation) -> PathBuf {
    i.home().join("archive")
}

/// Gives an installation that is stopped an archive.
pub(crate) fn configure(i: &Installation) {
    let set = format!("archive_directory = \"{}\"", directory(i).display());
    i.set("archive_directory = \"\"", &set);
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
    let off = |i: &Installation| i.json("ops", &["status"])["retention"][0]["off"].clone();
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
