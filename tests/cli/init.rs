//! `init`: what must not be lost, and what must not be overwritten.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::process::{Lines, Running, ended, program, refused, text};

fn init(dir: &Path) -> Command {
    let mut command = program();
    command.args(["init", "--dev-certificates", "--dir"]).arg(dir);
    command
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn an_installation_whose_identity_nobody_sees_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let unseen = init(&home).stderr(full()).output().unwrap();
    assert_eq!(unseen.status.code(), Some(1));
    assert!(unseen.stdout.is_empty(), "{}", text(&unseen.stdout));
    assert!(is_empty(&home), "it is still there");
    let nowhere = init(&home).stderr(Stdio::null()).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(is_empty(&home));
    // Without an identity there is nothing to miss.
    let made = init(&home)
        .args([
            "--recovery-recipient",
            "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj",
        ])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(made.status.success());
    assert!(home.join("fieldseal.toml").exists());
    let key = home.join("state/audit/log.pub");
    assert!(text(&made.stdout).contains(key.to_str().unwrap()), "{}", text(&made.stdout));
    assert!(std::fs::read_to_string(key).unwrap().starts_with("fieldseal.dev/"));
}

#[test]
fn an_identity_that_was_shown_keeps_its_installation() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let made = init(&home).stdout(full()).output().unwrap();
    assert_eq!(ended(&made), refused(8, "NO_SPACE"));
    assert!(text(&made.stderr).contains("AGE-SECRET-KEY-1"));
    assert!(home.join("fieldseal.toml").exists());
}

#[test]
fn a_root_key_file_in_the_state_directory_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let key = home.join("state/root.key");
    let output = init(&home).arg("--root-key-file").arg(&key).output().unwrap();
    assert_eq!(ended(&output), refused(2, "ROOT_KEY_UNSAFE"));
    assert!(is_empty(&home));
}

#[test]
fn of_several_at_once_one_makes_the_installation_and_no_other_takes_it_away() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let start = |_| Running::new(init(&home).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let started: Vec<Running> = (0..4).map(start).collect();
    let ends: Vec<_> = started.into_iter().map(|running| ended(&running.output())).collect();
    let (made, late): (Vec<_>, Vec<_>) = ends.iter().partition(|(code, _)| *code == 0);
    assert_eq!(made.len(), 1, "{ends:?}");
    assert!(late.iter().all(|end| **end == refused(6, "INSTALLATION_EXISTS")), "{ends:?}");
    for part in ["fieldseal.toml", "root.key", "state/keyring.json", "policy", "tls/server.key"] {
        assert!(home.join(part).exists(), "{part}");
    }
}

#[test]
fn an_init_that_is_interrupted_is_whole_or_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let mut command = init(&home);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::new(&mut command);
        let mut lines = Lines::of(running.child().stderr.take().unwrap());
        lines.until(|| home.join("state").exists().then_some(()));
        running.signal(signal);
        let (code, said) = (running.code(), lines.all());
        let whole = code == 0 && said.contains("AGE-SECRET-KEY-1");
        let nothing = code == 130 && said.contains("INTERRUPTED") && is_empty(&home);
        assert!(whole || nothing, "{signal:?}: {code}: {said}");
        assert_eq!(whole, home.join("fieldseal.toml").exists());
    }
}
