//! `dev`: for an application's developer.

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use rustix::process::Signal;

use crate::process::{Lines, Running, program, shell, text};

#[test]
fn dev_serves_says_how_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let env = dir.path().join("fieldseal.env");
    let mut command = program();
    command.arg("dev").arg("--env-file").arg(&env).env("TMPDIR", dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::new(&mut command);
    // It must be able to go on writing.
    let log = Lines::of(running.child().stderr.take().unwrap());
    let mut said = Lines::of(running.child().stdout.take().unwrap());
    said.wait(|line| line.contains("key create").then_some(()));
    assert_eq!(std::fs::metadata(&env).unwrap().mode() & 0o777, 0o600);

    let place = "--key customer-pii --table users --column email --row 42";
    let script = format!(
        "set -e\n. {env}\n{program} key create customer-pii\n\
         printf 'ada@example.com' | {program} encrypt {place} | {program} decrypt {place}\n",
        env = env.display(),
        program = env!("CARGO_BIN_EXE_fieldseal"),
    );
    let done = shell(&script).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).ends_with("ada@example.com"), "{}", text(&done.stdout));

    running.signal(Signal::INT);
    assert_eq!(running.code(), 0, "{}", log.all());
    assert!(!env.exists(), "it names an address where nobody listens");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "its directory is left");
}
