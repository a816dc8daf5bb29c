//! `root`: drilled, rotated and moved to another provider with the real binary, as
//! docs/operations.md tells operators to.

use std::process::{Command, Output};

use serde_json::Value;

use crate::installation::{Installation, place};
use crate::process::{ended, program, refused, shell, text};

fn root(i: &Installation, arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("root").args(arguments).arg("--config").arg(i.config());
    command
}

fn run(i: &Installation, arguments: &[&str]) -> Output {
    root(i, arguments).output().unwrap()
}

fn json(i: &Installation, arguments: &[&str]) -> Value {
    let output = root(i, arguments).args(["--output", "json"]).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// One that was stopped, with a value under each of two versions, and its identity in a file.
fn stopped() -> (Installation, Vec<Vec<u8>>) {
    let mut i = Installation::with_key();
    let encrypt = place("encrypt", &["--row", "42"]);
    let old = i.ok("app", &encrypt, b"ada@example.com");
    i.ok("ops", &["key", "rotate", "customer-pii"], b"");
    let new = i.ok("app", &encrypt, b"ada@example.com");
    assert_eq!(ended(&run(&i, &["rotate"])), refused(6, "STORE_LOCKED"));
    std::fs::write(i.path("identity"), &i.identity).unwrap();
    let drill = ["drill", "--identity", &i.path("identity")];
    assert_eq!(ended(&run(&i, &drill)), refused(6, "STORE_LOCKED"));
    assert_eq!(i.stop(), 0);
    (i, vec![old, new])
}

fn opens(i: &mut Installation, sealed: &[Vec<u8>]) {
    i.serve();
    for value in sealed {
        let opened = i.ok("app", &place("decrypt", &["--row", "42"]), value);
        assert_eq!(text(&opened), "ada@example.com");
    }
    assert_eq!(i.stop(), 0);
}

#[test]
fn a_root_key_is_drilled_and_rotated_and_every_value_opens() {
    let (mut i, sealed) = stopped();
    let identity = i.path("identity");
    let drilled = json(&i, &["drill", "--identity", &identity]);
    let counts = ["key_versions", "data_keys", "broken"].map(|name| drilled[name].as_u64());
    assert_eq!(counts, [Some(2), Some(2), Some(0)]);
    let wrong = i.path("wrong");
    std::fs::write(&wrong, "AGE-SECRET-KEY-1nonsense").unwrap();
    let other = run(&i, &["drill", "--identity", &wrong]);
    assert_eq!(ended(&other), refused(2, "IDENTITY_WRONG"));
    assert!(text(&other.stderr).contains(drilled["recovery_recipient"].as_str().unwrap()));

    let keyring = i.home().join("state/keyring.json");
    let wrapped = |name: &str| {
        let text = std::fs::read_to_string(&keyring).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()[name]["wrapped"].to_string()
    };
    let before = ["root", "recovery"].map(wrapped);
    // It would not see the keys that it must wrap.
    let mut elsewhere = root(&i, &["rotate"]);
    let elsewhere = elsewhere.env("FIELDSEAL_STATE_BACKEND", "memory").output().unwrap();
    assert_eq!(ended(&elsewhere), refused(2, "STATE_BACKEND_WRONG"));
    assert_eq!(["root", "recovery"].map(wrapped), before);
    let rotated = json(&i, &["rotate"]);
    assert_eq!((&rotated["key_versions"], &rotated["resumed"]), (&2.into(), &false.into()));
    let text = std::fs::read_to_string(&keyring).unwrap();
    assert!(before.iter().all(|old| !text.contains(old)));
    opens(&mut i, &sealed);
    assert_eq!(json(&i, &["drill", "--identity", &identity])["data_keys"], 2);
    assert!(i.verify(&i.log()).status.success());
}

#[test]
fn a_keyring_that_somebody_else_recovers_is_refused() {
    let (i, _) = stopped();
    let config = std::fs::read_to_string(i.config()).unwrap();
    let line = config.lines().find(|line| line.starts_with("recovery_recipient = ")).unwrap();
    let other = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    i.set(line, &format!("recovery_recipient = \"{other}\""));
    let keyring = std::fs::read(i.home().join("state/keyring.json")).unwrap();
    let identity = i.path("identity");
    let serve = i.serve_command().output().unwrap();
    let drill = run(&i, &["drill", "--identity", &identity]);
    for output in [serve, run(&i, &["rotate"]), drill] {
        assert_eq!(ended(&output), refused(2, "RECIPIENT_WRONG"));
        let said = text(&output.stderr);
        let found = line.split('"').nth(1).unwrap();
        assert!(said.contains(other) && said.contains(found), "{said}");
    }
    assert_eq!(std::fs::read(i.home().join("state/keyring.json")).unwrap(), keyring);
}

/// The commands in the first block below a heading of docs/operations.md, for this installation.
fn documented(i: &Installation, heading: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once(&format!("\n### {heading}\n")).expect("the heading");
    let (_, block) = rest.split_once("\n```sh\n").unwrap();
    let (block, _) = block.split_once("\n```\n").unwrap();
    let lines = block.replace("\\\n", " ");
    let is_command = |line: &&str| !line.starts_with("systemctl ") && !line.starts_with('#');
    let lines = lines.lines().filter(is_command);
    let places = [("/etc/fieldseal", i.home()), ("/safe", i.dir.path().to_owned())];
    lines
        .map(|line| {
            places
                .iter()
                .fold(line.to_owned(), |line, (from, to)| line.replace(from, to.to_str().unwrap()))
        })
        .collect()
}

/// Runs them one after the other.
fn follow(commands: &[String]) {
    for command in commands {
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_fieldseal")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        let output = shell(command).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    }
}

#[test]
fn a_lost_root_key_is_made_again_as_the_runbook_says() {
    let (mut i, sealed) = stopped();
    std::fs::remove_file(i.home().join("root.key")).unwrap();
    let lost = i.serve_command().output().unwrap();
    assert_eq!(ended(&lost), refused(2, "ROOT_KEY_UNREADABLE"));
    let id = std::fs::read_to_string(i.home().join("state/keyring.json")).unwrap();
    let id: Value = serde_json::from_str(&id).unwrap();
    let expected = format!("the root provider file {}", id["root"]["id"].as_str().unwrap());
    assert!(text(&lost.stderr).contains(&expected), "{}", text(&lost.stderr));
    let commands = documented(&i, "Lost root key");
    assert_eq!(commands.len(), 3, "{commands:?}");
    follow(&commands);
    opens(&mut i, &sealed);
}

#[test]
fn old_copies_are_made_useless_as_the_runbook_says() {
    let (mut i, sealed) = stopped();
    let copy = std::fs::read(i.home().join("state/keyring.json")).unwrap();
    let made = program().args(["init", "--dir"]).arg(i.path("other")).output().unwrap();
    let said = text(&made.stderr);
    let heir = said.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().to_owned();
    let heirs = text(&made.stdout);
    let recipient = heirs.lines().find_map(|line| line.strip_prefix("recovery ")).unwrap().trim();
    let commands = documented(&i, "Make old copies useless");
    assert_eq!(commands.len(), 5, "{commands:?}");
    let commands: Vec<_> =
        commands.iter().map(|command| command.replace("age1…", recipient)).collect();
    let old = std::fs::read(i.home().join("root.key")).unwrap();
    follow(&commands[..2]);
    // What the second one printed goes into the configuration.
    let new = i.home().join("root-2.key");
    i.set("file = \"root.key\"", &format!("file = {new:?}"));
    let config = std::fs::read_to_string(i.config()).unwrap();
    let line = config.lines().find(|line| line.starts_with("recovery_recipient = ")).unwrap();
    i.set(line, &format!("recovery_recipient = \"{recipient}\""));
    std::fs::write(i.path("identity"), heir).unwrap();
    follow(&commands[2..]);
    assert!(!i.home().join("root.key").exists());
    opens(&mut i, &sealed);

    // The old copy opens neither with what is there now nor, for the new state, with the old key.
    let keyring = i.home().join("state/keyring.json");
    let now = std::fs::read(&keyring).unwrap();
    std::fs::write(&keyring, copy).unwrap();
    let wrong = i.serve_command().output().unwrap();
    assert_eq!(ended(&wrong), refused(2, "ROOT_KEY_WRONG"));
    assert!(text(&wrong.stderr).contains("in [root] of the configuration"), "it says what to do");
    let identity = i.path("identity");
    let drilled = run(&i, &["drill", "--identity", &identity]);
    assert_eq!(ended(&drilled), refused(2, "IDENTITY_WRONG"));
    std::fs::write(&keyring, now).unwrap();
    std::fs::write(&new, old).unwrap();
    assert_eq!(ended(&i.serve_command().output().unwrap()), refused(2, "ROOT_KEY_WRONG"));
}
