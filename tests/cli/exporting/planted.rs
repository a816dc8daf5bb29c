//! What others put beside the export: whoever may write in its directory chooses no other file to be read,
//! made empty or added to.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use serde_json::Value;

use super::{Exported, assert_whole, caught_up, says, used};
use crate::installation::Installation;
use crate::process::{ended, program, refused, text};

const MINE: &str = "a file of the sidecar\n";

fn started() -> (Installation, Exported, PathBuf) {
    let mut i = Installation::new();
    let exported = Exported::of(&i);
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    caught_up(&mut i, &exported);
    let mine = i.home().join("mine");
    fs::write(&mine, MINE).unwrap();
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o600)).unwrap();
    (i, exported, mine)
}

/// Waits for a failure that says so.
fn fails_with(i: &mut Installation, what: &str) {
    loop {
        let said = says(i, "audit_export_failed");
        if said["error"].as_str().unwrap().contains(what) {
            return;
        }
    }
}

#[test]
fn a_link_in_the_place_of_file_or_cursor_is_not_followed() {
    let (mut i, exported, mine) = started();
    let unfinished = exported.0.join("audit.jsonl.cursor.new");
    symlink(&mine, &unfinished).unwrap();
    used(&i);
    caught_up(&mut i, &exported);
    assert_eq!(fs::read_to_string(&mine).unwrap(), MINE);
    assert!(exported.cursor().symlink_metadata().unwrap().is_file());
    assert!(unfinished.symlink_metadata().is_err());

    exported.rotate(1);
    symlink(&mine, exported.file()).unwrap();
    used(&i);
    fails_with(&mut i, "symbolic link");
    assert_eq!(fs::read_to_string(&mine).unwrap(), MINE);
    fs::remove_file(exported.file()).unwrap();
    says(&mut i, "audit_export_ok");
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.all());

    let cursor = i.home().join("cursor");
    fs::rename(exported.cursor(), &cursor).unwrap();
    symlink(&cursor, exported.cursor()).unwrap();
    let output = i.serve_command().output().unwrap();
    let unreadable = refused(5, "AUDIT_EXPORT_CURSOR_UNREADABLE");
    assert_eq!(ended(&output), unreadable, "{}", text(&output.stderr));
    // Nobody writes into it, and nobody waits until somebody does.
    fs::remove_file(exported.cursor()).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, exported.cursor(), mode).unwrap();
    let output = i.serve_command().output().unwrap();
    assert_eq!(ended(&output), unreadable, "{}", text(&output.stderr));
    fs::rename(&cursor, exported.cursor()).unwrap();
    i.serve();
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.all());
}

#[test]
fn nothing_is_written_into_a_directory_that_everybody_may_write_to() {
    let (mut i, exported, _) = started();
    let directory = |mode| {
        fs::set_permissions(&exported.0, fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o777, 0o1777] {
        let before = exported.text();
        directory(mode);
        used(&i);
        fails_with(&mut i, "everybody may write");
        assert_eq!(exported.text(), before, "{mode:o}");
        directory(0o755);
        says(&mut i, "audit_export_ok");
        caught_up(&mut i, &exported);
    }
    directory(0o777);
    assert_eq!(i.stop(), 0);
    let mut doctor = program();
    let doctor = doctor.args(["--output", "json", "doctor", "--config"]).arg(i.config());
    let seen: Value = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
    assert_eq!(seen["findings"][0]["reason"], "AUDIT_EXPORT_BEHIND", "{seen}");
    assert!(
        seen["findings"][0]["what"].as_str().unwrap().contains("everybody may write"),
        "{seen}"
    );
    directory(0o755);
    i.serve();
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.text());
}

#[test]
fn a_cursor_that_does_not_fit_is_not_gone_on_from_after_a_failure_either() {
    let (mut i, exported, _) = started();
    let open = |mode| {
        fs::set_permissions(exported.file(), fs::Permissions::from_mode(mode)).unwrap();
    };
    open(0o644);
    used(&i);
    fails_with(&mut i, "open to others");
    let (before, cursor) = (exported.text(), fs::read(exported.cursor()).unwrap());
    exported.alter("previous", "00".into());
    open(0o600);
    fails_with(&mut i, "not the one that the log has");
    assert_eq!(exported.text(), before);
    fs::write(exported.cursor(), cursor).unwrap();
    says(&mut i, "audit_export_ok");
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.text());
}
