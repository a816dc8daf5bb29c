//! Root providers: each makes an installation, serves it, and says what it needs when that is not
//! there.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use crate::installation::{Installation, place};
use crate::process::{Lines, Running, ended, event, program, ready, refused, text};
use crate::terminal::Person;

/// The program of `exec`: the key is in a file beside it, and without that it is down.
const WRAPPER: &str = r#"#!/bin/sh
here=$(dirname "$0")
[ -e "$here/up" ] || { echo "no connection" >&2; exit 1; }
case $1 in
  wrap) printf 'wrapped:'; base64 -w 0 ;;
  unwrap) head -c 8 >/dev/null; base64 -d ;;
esac
"#;

fn wrapper(i: &std::path::Path) -> String {
    let path = i.join("wrapper");
    std::fs::write(&path, WRAPPER).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(i.join("up"), "").unwrap();
    path.to_str().unwrap().to_owned()
}

/// The same command, with a file on descriptor 3.
fn with_descriptor_3(command: &Command, file: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 3<\"$0\"; exec \"$@\"", file]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// It serves, and what it sealed opens after a restart.
fn serves(i: &mut Installation, command: impl Fn(Command) -> Command) {
    i.serve_as(command(i.serve_command()));
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    let sealed = i.ok("app", &place("encrypt", &["--row", "1"]), b"ada@example.com");
    assert_eq!(i.stop(), 0);
    i.serve_as(command(i.serve_command()));
    let opened = i.ok("app", &place("decrypt", &["--row", "1"]), &sealed);
    assert_eq!(text(&opened), "ada@example.com");
}

/// Says that the keyring needs this provider, and what it found.
fn says(output: &Output, reason: &str, i: &Installation, found: &str) {
    assert_eq!(ended(output), refused(2, reason), "{}", text(&output.stderr));
    let keyring = std::fs::read_to_string(i.home().join("state/keyring.json")).unwrap();
    let keyring: serde_json::Value = serde_json::from_str(&keyring).unwrap();
    let [provider, id] = ["provider", "id"].map(|name| keyring["root"][name].as_str().unwrap());
    let (said, expected) = (text(&output.stderr), format!("{provider} {id}"));
    assert!(said.contains(&expected) && said.contains(found), "{said}");
}

#[test]
fn a_credential_of_systemd() {
    let credentials = tempfile::tempdir().unwrap();
    let path = credentials.path().join("fieldseal-root-key");
    std::fs::write(&path, [7; 32]).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let with = |mut command: Command| {
        command.env("CREDENTIALS_DIRECTORY", credentials.path());
        command
    };
    let mut i = Installation::made(|command| {
        with(command).args(["--root-provider", "systemd"]).output().unwrap()
    });
    serves(&mut i, with);
    assert_eq!(i.stop(), 0);
    let none = i.serve_command().env_remove("CREDENTIALS_DIRECTORY").output().unwrap();
    says(&none, "ROOT_KEY_UNREADABLE", &i, "CREDENTIALS_DIRECTORY is not set");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, [8; 32]).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let wrong = with(i.serve_command()).output().unwrap();
    says(&wrong, "ROOT_KEY_WRONG", &i, "the configuration names systemd ");
}

#[test]
fn a_passphrase_on_a_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("a", "correct horse\n"), file("b", "correct horsf\n"));
    let short = file("c", "short\n");
    let mut i = Installation::made(|mut command| {
        let arguments = ["--root-provider", "passphrase", "--root-passphrase-fd", "3"];
        let refused_of = with_descriptor_3(command.args(arguments), &short).output().unwrap();
        assert_eq!(ended(&refused_of), refused(2, "PASSPHRASE_REFUSED"));
        with_descriptor_3(&command, &right).output().unwrap()
    });
    serves(&mut i, |command| with_descriptor_3(&command, &right));
    assert_eq!(i.stop(), 0);
    let refused_of = with_descriptor_3(&i.serve_command(), &wrong).output().unwrap();
    says(&refused_of, "ROOT_KEY_WRONG", &i, "the configuration names passphrase ");
    let none = with_descriptor_3(&i.serve_command(), "/dev/null").output().unwrap();
    says(&none, "ROOT_KEY_UNREADABLE", &i, "there is no passphrase on file descriptor 3");
}

#[test]
fn a_passphrase_that_is_typed_is_not_shown_and_a_terminal_stays_as_it_was() {
    let secret = "correct horse battery";
    let mut i = Installation::made(|mut command| {
        let mut person = Person::new();
        command.args(["--root-provider", "passphrase"]);
        let running = person.run(&mut command);
        person.answers("new passphrase for the root key: ", &format!("{secret}\n"));
        person.answers("the same again: ", "correct horse batterie\n");
        person.answers("PASSPHRASE_REFUSED", "");
        assert_eq!(running.output().status.code(), Some(2));
        assert!(person.sees_what_it_types());

        let running = person.run(&mut command);
        person.answers("new passphrase for the root key: ", &format!("{secret}\n"));
        person.answers("the same again: ", &format!("{secret}\n"));
        person.answers("AGE-SECRET-KEY-1", "");
        person.answers("keyring.json", "");
        let mut made = running.output();
        assert!(!person.seen.contains(secret), "it was shown");
        made.stderr = person.seen.replace('\r', "").into_bytes();
        made
    });
    let mut person = Person::new();
    let mut command = i.serve_command();
    let mut running = person.run(&mut command);
    person.answers("passphrase of the root key: ", "");
    assert!(!person.sees_what_it_types());
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.code(), 0, "nothing was opened, and nothing is left open");
    assert!(person.sees_what_it_types());
    // It is the one that a file holds.
    let file = i.path("passphrase");
    std::fs::write(&file, secret).unwrap();
    let mut command = with_descriptor_3(&i.serve_command(), &file);
    command.env("FIELDSEAL_ROOT_PASSPHRASE_FD", "3");
    i.serve_as(command);
}

#[test]
fn a_variable_that_is_gone_once_it_is_read() {
    let key = "7a".repeat(32);
    let with = |mut command: Command| {
        command.env("FIELDSEAL_ROOT_KEY", &key);
        command
    };
    let mut i = Installation::made(|command| {
        with(command).args(["--root-provider", "env"]).output().unwrap()
    });
    serves(&mut i, with);
    let process = i.sidecar.as_ref().unwrap().0.id();
    // Only root reads this of a process that is not dumpable.
    if let Ok(environment) = std::fs::read(format!("/proc/{process}/environ")) {
        assert!(!environment.is_empty(), "nothing was looked at");
        assert!(memchr::memmem::find(&environment, key.as_bytes()).is_none());
    }
    assert_eq!(i.stop(), 0);
    let none = i.serve_command().output().unwrap();
    says(&none, "ROOT_KEY_UNREADABLE", &i, "the variable FIELDSEAL_ROOT_KEY is not set");
    let nonsense = i.serve_command().env("FIELDSEAL_ROOT_KEY", "nonsense").output().unwrap();
    says(&nonsense, "ROOT_KEY_UNREADABLE", &i, "does not hold 32 bytes");
    let wrong = i.serve_command().env("FIELDSEAL_ROOT_KEY", "7b".repeat(32)).output().unwrap();
    says(&wrong, "ROOT_KEY_WRONG", &i, "the configuration names env ");
}

#[test]
fn a_program_that_is_down_at_the_start_is_asked_again_while_the_process_lives() {
    let dir = tempfile::tempdir().unwrap();
    let program_of = wrapper(dir.path());
    let mut i = Installation::made(|mut command| {
        let arguments = ["--root-provider", "exec", "--root-command", &program_of];
        command.args(arguments).output().unwrap()
    });
    serves(&mut i, |command| command);
    assert_eq!(i.stop(), 0);

    std::fs::remove_file(dir.path().join("up")).unwrap();
    let mut command = i.serve_command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running::new(&mut command);
    let mut lines = Lines::of(running.child().stderr.take().unwrap());
    let probes = lines.wait(|line| event("probes", line));
    let probes = probes["address"].as_str().unwrap().to_owned();
    let down = lines.wait(|line| event("root_provider_down", line));
    assert!(down["error"].as_str().unwrap().contains("no connection"), "{down}");
    lines.wait(|line| event("root_provider_down", line));
    let health =
        |probe: &str| program().args(["health", probe, "--address", &probes]).output().unwrap();
    assert!(health("liveness").status.success(), "{}", text(&health("liveness").stderr));
    let not_ready = health("readiness");
    assert_eq!(ended(&not_ready), refused(5, "NOT_READY"));
    assert!(text(&not_ready.stderr).contains("the root provider does not answer"));
    // It comes back by itself, and nobody has to start anything.
    std::fs::write(dir.path().join("up"), "").unwrap();
    lines.wait(ready);
    assert!(health("readiness").status.success());
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.code(), 0);

    // A command that somebody waits for is told at once.
    std::fs::remove_file(dir.path().join("up")).unwrap();
    let rotate = program().args(["root", "rotate", "--config"]).arg(i.config()).output().unwrap();
    assert_eq!(ended(&rotate), refused(5, "ROOT_PROVIDER_UNAVAILABLE"));
}
