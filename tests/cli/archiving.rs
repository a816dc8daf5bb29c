//! `audit archive`: whole segments move, the sidecar goes on without them, and both together verify.

use std::path::PathBuf;

use crate::installation::{Installation, place};
use crate::process::{ended, program, refused, text, with_input};

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
    assert_eq!(i.stop(), 0);
    configure(&i);
    i.serve();
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
