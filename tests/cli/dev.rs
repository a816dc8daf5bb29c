//! `dev`: for an application's developer.

use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::process::{Lines, Running, ended, program, refused, shell, text};

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
        "set -e\n. {env}\n{program} health\n{program} key create customer-pii\n\
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

#[test]
fn an_env_file_that_dev_did_not_write_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let env = dir.path().join(".env");
    let dev = || {
        let mut command = program();
        command.arg("dev").arg("--env-file").arg(&env).env("TMPDIR", dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    for theirs in ["", "DATABASE_URL=postgres://localhost\n", "\n# written by fieldseal dev\n"] {
        std::fs::write(&env, theirs).unwrap();
        assert_eq!(ended(&dev().output().unwrap()), refused(6, "FILE_EXISTS"), "{theirs:?}");
        let by_variable = container(&dir).env("FIELDSEAL_DEV_ENV_FILE", &env).output().unwrap();
        assert_eq!(ended(&by_variable), refused(6, "FILE_EXISTS"));
        assert_eq!(std::fs::read_to_string(&env).unwrap(), theirs);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was begun");
    }
    std::fs::remove_file(&env).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &env).unwrap();
    assert_eq!(ended(&dev().output().unwrap()), refused(6, "FILE_EXISTS"));
    std::fs::remove_file(&env).unwrap();

    // The file of one that was killed is replaced, and the next one removes it.
    let start = || {
        let mut running = Running::new(&mut dev());
        let log = Lines::of(running.child().stderr.take().unwrap());
        let mut said = Lines::of(running.child().stdout.take().unwrap());
        said.wait(|line| line.contains("key create").then_some(()));
        (running, log, said, std::fs::read_to_string(&env).unwrap())
    };
    let (mut killed, _log, _said, before) = start();
    killed.kill();
    assert_eq!(std::fs::read_to_string(&env).unwrap(), before);
    let (mut running, log, _said, after) = start();
    assert_ne!(before, after);
    running.signal(Signal::INT);
    assert_eq!(running.code(), 0, "{}", log.all());
    assert!(!env.exists());
}

/// `fieldseal` as a container starts it that sets variables only.
fn container(dir: &tempfile::TempDir) -> Command {
    let mut command = program();
    command.env("FIELDSEAL_DEV", "1").env("TMPDIR", dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_container_that_sets_variables_only_gets_dev() {
    let dir = tempfile::tempdir().unwrap();
    let env = dir.path().join("fieldseal.env");
    let mut command = container(&dir);
    command
        .env("FIELDSEAL_DEV_LISTEN", "127.0.0.1:0")
        .env("FIELDSEAL_DEV_SERVER_NAME", "localhost")
        .env("FIELDSEAL_DEV_ENV_FILE", &env)
        .env("FIELDSEAL_STATE_DIRECTORY", "/var/lib/nowhere")
        .env("FIELDSEAL_SERVICE_HOST", "10.0.0.1");
    let mut running = Running::new(&mut command);
    let mut log = Lines::of(running.child().stderr.take().unwrap());
    let mut said = Lines::of(running.child().stdout.take().unwrap());
    log.wait(|line| line.starts_with("FIELDSEAL_STATE_DIRECTORY is passed over").then_some(()));
    said.wait(|line| line.contains("key create").then_some(()));
    let script = format!(
        "set -e\n. {}\necho $FIELDSEAL_CLIENT_ENDPOINT\n{} key create customer-pii\n",
        env.display(),
        env!("CARGO_BIN_EXE_fieldseal"),
    );
    let done = shell(&script).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).starts_with("https://localhost:"), "{}", text(&done.stdout));
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0, "{}", log.all());
    assert!(!env.exists(), "it names an address where nobody listens");
}

#[test]
fn a_variable_that_says_something_else_is_refused_and_an_argument_needs_none() {
    let dir = tempfile::tempdir().unwrap();
    let refused_as =
        |name: &str, value: &str| ended(&container(&dir).env(name, value).output().unwrap());
    assert_eq!(refused_as("FIELDSEAL_DEV", "yes"), refused(2, "VARIABLE_INVALID"));
    assert_eq!(refused_as("FIELDSEAL_DEV_LISTEN", "7443"), refused(2, "VARIABLE_INVALID"));
    assert_eq!(refused_as("FIELDSEAL_DEV_LISTN", "127.0.0.1:0"), refused(2, "CONFIG_INVALID"));
    for value in ["0", ""] {
        let nothing = container(&dir).env("FIELDSEAL_DEV", value).output().unwrap();
        assert_eq!(nothing.status.code(), Some(2));
        assert!(text(&nothing.stderr).contains("Usage: fieldseal"), "{}", text(&nothing.stderr));
    }
    let version = container(&dir).arg("--version").env("FIELDSEAL_DEV", "yes").output().unwrap();
    assert!(version.status.success() && text(&version.stdout).starts_with("fieldseal "));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
