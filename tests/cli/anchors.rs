//! Checkpoints posted elsewhere: each stop leaves the newest one, and a log that does not go on from it
//! is not started.

mod http;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::installation::{Installation, place};
use crate::probes::get_as;
use crate::process::{ended, event, program, refused, text};

/// Keeps each line behind the ones before; without `up` beside it, it is down.
const KEEPER: &str = r#"#!/bin/sh
here=$(dirname "$0")
[ -e "$here/up" ] || { echo "no connection" >&2; exit 1; }
case $2 in
  put) cat >>"$here/kept" ;;
  get) tail -n 1 "$here/kept" 2>/dev/null || true ;;
esac
"#;

/// A second installation's directory of things that nobody of the first can take back.
fn elsewhere(i: &Installation) -> PathBuf {
    let directory = i.home().join("elsewhere");
    std::fs::create_dir(&directory).unwrap();
    directory
}

fn to_file(i: &Installation, directory: &Path) -> PathBuf {
    let file = directory.join("anchor");
    i.set("anchor_file = \"\"", &format!("anchor_file = \"{}\"", file.display()));
    file
}

fn used(i: &mut Installation) {
    let sealed = i.ok("app", &place("encrypt", &[]), b"x");
    i.ok("app", &place("decrypt", &[]), &sealed);
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

fn records(line: &str) -> u64 {
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_state_that_was_put_back_as_a_whole_is_found_by_the_anchor_alone() {
    let mut i = Installation::new();
    let file = to_file(&i, &elsewhere(&i));
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    used(&mut i);
    assert_eq!(i.stop(), 0);
    let early = std::fs::read_to_string(&file).unwrap();
    let (state, older, newer) =
        (i.home().join("state"), i.home().join("older"), i.home().join("newer"));
    copy(&state, &older);
    i.serve();
    used(&mut i);
    let status = i.json("ops", &["status"]);
    assert_eq!(status["anchors"][0]["kind"], "file");
    assert_eq!(status["anchors"][0]["failure"], "");
    assert_eq!(i.stop(), 0);
    let late = std::fs::read_to_string(&file).unwrap();
    assert!(records(&late) > records(&early), "{early}{late}");
    assert_eq!(late.lines().count(), 1);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = i.path("kept");
    std::fs::write(&kept, &late).unwrap();
    let verified = i.verify_command(&i.log()).args(["--checkpoint", &kept]).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));

    // Store, log and keyring of one moment fit each other: nothing else tells that time went back.
    std::fs::rename(&state, &newer).unwrap();
    std::fs::rename(&older, &state).unwrap();
    let output = i.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(9, "AUDIT_LOG_BEHIND_ANCHOR"));
    let said = text(&output.stderr);
    for says in [records(&late).to_string(), records(&early).to_string()] {
        assert!(said.contains(&says), "{said}");
    }
    assert!(i.verify(&i.log()).status.success(), "nothing was recorded, and it verifies");
    let mut doctor = program();
    let doctor = doctor.args(["--output", "json", "doctor", "--config"]).arg(i.config());
    let seen = doctor.output().unwrap();
    assert_eq!(seen.status.code(), Some(9));
    let seen: serde_json::Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(seen["findings"][0]["reason"], "AUDIT_LOG_BEHIND_ANCHOR", "{seen}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), late);

    // Nor does it help to take away what was posted.
    let away = i.home().join("away");
    std::fs::rename(&file, &away).unwrap();
    assert_eq!(ended(&i.serve_command().output().unwrap()), refused(5, "AUDIT_ANCHOR_UNREADABLE"));
    std::fs::rename(&away, &file).unwrap();

    // The same log, gone on from there into another history.
    let (none, some) = ("anchor_file = \"\"", format!("anchor_file = \"{}\"", file.display()));
    i.set(&some, none);
    i.serve();
    for _ in 0..8 {
        used(&mut i);
    }
    assert_eq!(i.stop(), 0);
    i.set(none, &some);
    let output = i.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(9, "AUDIT_LOG_NOT_AS_ANCHORED"));

    std::fs::rename(&state, &older).unwrap();
    std::fs::rename(&newer, &state).unwrap();
    i.serve();
    used(&mut i);
    assert_eq!(i.stop(), 0);
    assert!(records(&std::fs::read_to_string(&file).unwrap()) > records(&late));
}

#[test]
fn what_is_no_checkpoint_of_this_log_or_cannot_be_read_is_refused_and_left_alone() {
    let i = Installation::new();
    let file = to_file(&i, &elsewhere(&i));
    let mut other = Installation::new();
    other.serve();
    assert_eq!(other.stop(), 0);
    let key = other.log().join("log.pub");
    let mut anchor = program();
    anchor.args(["audit", "anchor", "--log"]).arg(other.log()).arg("--public-key").arg(key);
    let foreign = text(&anchor.output().unwrap().stdout).to_owned();
    assert_eq!(foreign.lines().count(), 1, "{foreign}");
    for text in ["no checkpoint\n", &foreign] {
        std::fs::write(&file, text).unwrap();
        let output = i.serve_command().output().unwrap();
        assert_eq!(ended(&output), refused(6, "AUDIT_ANCHOR_FOREIGN"), "{text}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let output = i.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(5, "AUDIT_ANCHOR_UNREADABLE"));
}

#[test]
fn a_program_keeps_them_and_one_that_is_down_holds_up_no_call() {
    let mut i = Installation::new();
    let directory = elsewhere(&i);
    let (keeper, up, kept) =
        (directory.join("keeper"), directory.join("up"), directory.join("kept"));
    std::fs::write(&keeper, KEEPER).unwrap();
    std::fs::set_permissions(&keeper, std::fs::Permissions::from_mode(0o700)).unwrap();
    let command = format!("anchor_command = [\"{}\", \"logs\"]", keeper.display());
    i.set("anchor_command = []", &command);
    i.set("checkpoint_seconds = 300", "checkpoint_seconds = 1");
    let output = i.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(5, "AUDIT_ANCHOR_UNREADABLE"));
    assert!(text(&output.stderr).contains("(it says: no connection)"), "{}", text(&output.stderr));

    std::fs::write(&up, "").unwrap();
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    let (running, mut lines) = i.sidecar.take().unwrap();
    lines.until(|| kept.exists().then_some(()));
    std::fs::remove_file(&up).unwrap();
    i.sidecar = Some((running, lines));
    used(&mut i);
    let (running, mut lines) = i.sidecar.take().unwrap();
    let line = lines.wait(|line| event("audit_anchor_failed", line));
    i.sidecar = Some((running, lines));
    assert!(line["error"].as_str().unwrap().contains("no connection"), "{line}");
    let status = i.json("ops", &["status"]);
    let anchor = &status["anchors"][0];
    assert_eq!(anchor["kind"], "command");
    assert!(anchor["records_behind"].as_i64().unwrap() > 0, "{anchor}");
    assert!(anchor["failure"].as_str().unwrap().contains("no connection"), "{anchor}");
    let (_, metrics) = get_as(&i, "/metrics", "*/*");
    assert!(metrics.contains("fieldseal_audit_anchor_failed{place=\"command\"} 1"), "{metrics}");
    used(&mut i);
    std::fs::write(&up, "").unwrap();
    assert_eq!(i.stop(), 0);
    let lines = std::fs::read_to_string(&kept).unwrap();
    let sizes: Vec<u64> = lines.lines().map(records).collect();
    assert!(sizes.is_sorted() && sizes.len() >= 2, "{sizes:?}");
    i.serve();
}
