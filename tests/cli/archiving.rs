//! `audit archive`: whole segments move, the sidecar goes on without them, and both together verify.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Instant;

use crate::installation::{Installation, place};
use crate::process::{PATIENCE, ended, program, refused, text, with_input};

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

/// An installation whose first segment is in the archive, where its log begins now, and the receipt of a
/// record before that.
fn archived() -> (Installation, u64, String) {
    let mut i = Installation::with_key();
    assert_eq!(i.stop(), 0);
    configure(&i);
    i.serve();
    let sealed = i.ok("app", &place("encrypt", &["--partition", "alice"]), b"x");
    let decrypt = place("decrypt", &["--partition", "alice", "--output", "json"]);
    let receipt = text(&i.ok("app", &decrypt, &sealed));
    // The segment in which something is erased ends with that.
    i.ok("ops", &["audit", "redact", "--partition", "alice", "--confirm", "alice"], b"");
    i.json("auditor", &["audit", "list", "--limit", "1"]);
    let newest = i.json("auditor", &["audit", "list", "--limit", "1"]);
    let now = newest["audit_events"][0]["event_time"].as_str().unwrap().to_owned();
    let done = i.json("ops", &["audit", "archive", "--before", &now]);
    (i, done["end_index"].as_u64().unwrap(), receipt)
}

#[test]
fn an_answer_says_that_older_records_are_archived_if_the_question_reaches_them() {
    let (i, end, _) = archived();
    let what = format!("the log begins with record {end} (");
    let says = |command: &[&str]| {
        let asked = i.run("auditor", command, b"");
        assert!(asked.status.success(), "{command:?}");
        text(&asked.stderr).contains(&what)
    };
    let list = i.json("auditor", &["audit", "list", "--limit", "1000"]);
    assert_eq!((&list["log_first_index"], &list["archived_left_out"]), (&end.into(), &true.into()));
    // To the second, and so before the record.
    let begins = list["log_start_time"].as_str().unwrap();
    let behind = "2200-01-01";
    let partition = ["subject", "--partition", "alice"];
    let tail = ["tail", "--since", "2020-01-01", "--count", "1"];
    for (question, reaches) in [
        (&["list", "--limit", "1000"][..], true),
        (&["list", "--limit", "1"], false),
        (&["list", "--limit", "1", "--oldest-first"], true),
        (&["export", "--since", "2020-01-01"], true),
        (&tail, true),
        (&["tail", "--from", "0", "--count", "1"], true),
        (&["tail", "--from", &end.to_string(), "--count", "1"], false),
        (&partition, true),
        (&["changes"], true),
        (&["principal", "spiffe://dev.local/app"], true),
        (&["field", "users.email"], true),
        (&["volume"], true),
        (&["denials"], true),
        (&["breach", "--key-version", "customer-pii/1"], true),
        (&["denials", "--since", begins], true),
    ] {
        assert_eq!(says(&[&["audit"], question].concat()), reaches, "{question:?}");
        if !["list", "export", "tail"].contains(&question[0]) {
            let answer = i.json("auditor", &[&["audit"], question].concat());
            assert_eq!(answer["log_first_index"].as_u64(), Some(end), "{question:?}");
            assert_eq!(answer["archived_left_out"], reaches, "{question:?}");
            let later = [&["audit"], &question[..1], &question[1..], &["--since", behind]].concat();
            if question.contains(&"--since") {
                continue;
            }
            assert!(!says(&later), "{later:?}");
            assert_eq!(i.json("auditor", &later)["archived_left_out"], false, "{later:?}");
        }
    }
    for question in ["list", "export"] {
        assert!(!says(&["audit", question, "--since", behind]));
    }
}

#[test]
fn a_receipt_of_an_archived_record_is_proved_while_the_archive_is_there() {
    let (mut i, end, receipt) = archived();
    let parsed: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert!(parsed["receipt"]["index"].to_string().trim_matches('"').parse::<u64>().unwrap() < end);
    let key = i.log().join("log.pub");
    let key = key.to_str().unwrap().to_owned();
    let asked = |i: &Installation| {
        let arguments = ["audit", "check-receipt", "-", "--public-key", &key];
        ended(&i.run("auditor", &arguments, receipt.as_bytes()))
    };
    assert_eq!(asked(&i), (0, String::new()));
    let aside = i.home().join("aside");
    std::fs::rename(directory(&i), &aside).unwrap();
    assert_eq!(asked(&i), refused(6, "RECORDS_ARCHIVED"));
    std::fs::rename(&aside, directory(&i)).unwrap();
    assert_eq!(asked(&i), (0, String::new()));
    assert_eq!(i.stop(), 0);
    let offline = |more: &[&str]| {
        let mut command = program();
        command.args(["audit", "check-receipt", "-", "--public-key", &key, "--log"]);
        command.arg(i.log()).args(more);
        ended(&with_input(command, receipt.as_bytes()))
    };
    assert_eq!(offline(&[]), refused(11, "AUDIT_RECORDS_ARCHIVED"));
    let place_of_it = directory(&i);
    assert_eq!(offline(&["--archive", place_of_it.to_str().unwrap()]), (0, String::new()));
    let first = place_of_it.join("segment-00000000000000000000.log");
    let mut bytes = std::fs::read(&first).unwrap();
    let leaf = bytes.windows(4).position(|bytes| bytes == b"FSFR").unwrap() + 200;
    bytes[leaf] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let altered = offline(&["--archive", place_of_it.to_str().unwrap()]);
    assert_eq!(altered, refused(7, "AUDIT_LOG_TAMPERED"));
}
