//! `config`, and a sidecar that is set up by its environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::installation::Installation;
use crate::process::{Lines, Running, ended, event, program, refused, text};

fn config(command: &str, file: &Path) -> Command {
    let mut config = program();
    config.args(["config", command, "--config"]).arg(file);
    config
}

fn file(dir: &tempfile::TempDir, content: &str) -> PathBuf {
    let file = dir.path().join("f.toml");
    std::fs::write(&file, content).unwrap();
    file
}

#[test]
fn check_tells_every_mistake_of_file_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let bad = file(&dir, "format = 1\n[limits]\nstreams = 0\n[servr]\nlisten = \"x\"\n");
    let output = config("check", &bad)
        .env("FIELDSEAL_TLS_PRINCIPAL", "email")
        .env("FIELDSEAL_LISTEN", "127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(ended(&output), refused(2, "CONFIG_INVALID"));
    assert!(output.stdout.is_empty());
    let told = text(&output.stderr);
    let bad = bad.display();
    for mistake in [
        format!("{bad}:3: limits.streams: expected a whole number from 1 to 10000\n"),
        format!("{bad}:4: servr: unknown setting; expected one of format, server, "),
        "FIELDSEAL_TLS_PRINCIPAL: tls.principal: expected \"spiffe\", \"dns\" or \"cn\"\n".into(),
        "FIELDSEAL_LISTEN: unknown variable; expected one of FIELDSEAL_SERVER_…, ".into(),
    ] {
        assert!(told.contains(&mistake), "{mistake}\nis not in\n{told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
}

#[test]
fn check_tells_a_newer_format_from_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let newer = file(&dir, "format = 2\n[future]\n");
    let output = config("check", &newer).output().unwrap();
    assert_eq!(ended(&output), refused(2, "FORMAT_NEWER"));
    assert!(text(&output.stderr).contains("use a newer program"), "{}", text(&output.stderr));
}

#[test]
fn what_example_prints_is_good_and_says_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let printed = program().args(["config", "example"]).output().unwrap();
    assert!(printed.status.success());
    let example = file(&dir, &text(&printed.stdout));
    let output = config("check", &example).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("f.toml is good"), "{}", text(&output.stdout));
    let shown = config("show", &example).output().unwrap();
    let nothing = config("show", &file(&dir, "format = 1")).output().unwrap();
    assert_eq!(text(&shown.stdout), text(&nothing.stdout));
}

#[test]
fn show_says_what_holds_and_where_it_was_stated() {
    let dir = tempfile::tempdir().unwrap();
    let stated =
        file(&dir, "format = 1\n\n[server]\nlisten = \"127.0.0.1:1\"\nreflection = true\n");
    let mut show = config("show", &stated);
    show.arg("--origin").env("FIELDSEAL_SERVER_LISTEN", "127.0.0.1:2");
    let output = show.output().unwrap();
    let shown = text(&output.stdout);
    let row = |name: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>()
    };
    let listen = ["server.listen", "\"127.0.0.1:2\"", "FIELDSEAL_SERVER_LISTEN"];
    assert_eq!(row("server.listen"), listen);
    let place = format!("{}:5", stated.display());
    assert_eq!(row("server.reflection"), ["server.reflection", "true", place.as_str()]);
    assert_eq!(row("limits.streams"), ["limits.streams", "128", "default"]);
    let key = format!("\"{}\"", dir.path().join("root.key").display());
    assert_eq!(row("root.file"), ["root.file", key.as_str(), "default"]);

    let json = show.args(["--output", "json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let settings = json["settings"].as_array().unwrap();
    assert_eq!(settings.len(), shown.lines().count());
    let setting = |name: &str| settings.iter().find(|s| s["name"] == name).unwrap();
    assert_eq!(setting("server.listen")["value"], "127.0.0.1:2");
    assert_eq!(setting("server.listen")["origin"]["variable"], "FIELDSEAL_SERVER_LISTEN");
    assert_eq!(setting("server.reflection")["origin"]["line"], 5);
    assert_eq!(setting("limits.deadline_seconds")["origin"]["kind"], "default");
    assert_eq!(setting("limits.deadline_seconds")["value"], 10);
    assert_eq!(setting("limits.deadline_seconds")["unit"], "seconds");
}

#[test]
fn a_store_on_disk_is_not_passed_over_by_one_in_memory() {
    let mut installation = Installation::with_key();
    assert_eq!(installation.stop(), 0);
    let log = installation.log().join("segment-00000000000000000000.log");
    let before = std::fs::read(&log).unwrap();
    let mut serve = installation.serve_command();
    let output = serve.env("FIELDSEAL_STATE_BACKEND", "memory").output().unwrap();
    assert_eq!(ended(&output), refused(2, "STATE_BACKEND_WRONG"));
    let told = text(&output.stderr);
    assert!(told.contains("state.backend") && told.contains("to do"), "{told}");
    assert!(std::fs::read(&log).unwrap() == before, "the log was written");
    installation.serve();
    installation.ok("ops", &["key", "show", "customer-pii"], b"");
}

#[test]
fn a_quiet_log_has_its_checkpoints_still() {
    let installation = Installation::new();
    let mut serve = installation.serve_command();
    serve.env("FIELDSEAL_LOG_LEVEL", "error").stderr(std::process::Stdio::piped());
    let file = installation.home().join("address");
    serve.env("FIELDSEAL_SERVER_ADDRESS_FILE", &file);
    let mut running = Running::new(&mut serve);
    let mut lines = Lines::of(running.child().stderr.take().unwrap());
    lines.until(|| file.exists().then_some(()));
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.code(), 0);
    let said = lines.all();
    assert!(said.lines().all(|line| event("audit_checkpoint", line).is_some()), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn serve_obeys_its_environment_and_refuses_what_nothing_reads() {
    let installation = Installation::new();
    let mut serve = installation.serve_command();
    let output = serve.env("FIELDSEAL_SERVER_PORT", "7443").output().unwrap();
    assert_eq!(ended(&output), refused(2, "CONFIG_INVALID"));
    assert!(text(&output.stderr).contains("FIELDSEAL_SERVER_PORT: unknown variable"));
    // The address is taken: it tried the variable's, not the file's.
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let mut serve = program();
    let output = serve
        .arg("serve")
        .env("FIELDSEAL_CONFIG", installation.config())
        .env("FIELDSEAL_SERVER_LISTEN", &taken)
        .env("FIELDSEAL_SERVICE_HOST", "10.0.0.1")
        .output()
        .unwrap();
    assert_eq!(ended(&output), refused(6, "ADDRESS_UNAVAILABLE"));
    let named = format!("{taken} (server.listen)");
    assert!(text(&output.stderr).contains(&named), "{}", text(&output.stderr));
    // Nothing is on record of a start that came to nothing.
    let installation = Installation::new();
    let log = installation.log().join("segment-00000000000000000000.log");
    let before = std::fs::read(&log).unwrap();
    let mut serve = installation.serve_command();
    let output = serve.env("FIELDSEAL_SERVER_LISTEN", &taken).output().unwrap();
    assert_eq!(ended(&output), refused(6, "ADDRESS_UNAVAILABLE"));
    assert!(std::fs::read(&log).unwrap() == before, "the log was written");
    let mut serve = installation.serve_command();
    let nowhere = serve.env("FIELDSEAL_SERVER_ADDRESS_FILE", "no/address").output().unwrap();
    assert_eq!(ended(&nowhere), refused(2, "ADDRESS_FILE_UNWRITABLE"));
    let told = text(&nowhere.stderr);
    assert!(told.contains("no/address (server.address_file)"), "{told}");
}

#[test]
fn a_second_process_on_the_same_state_is_told_of_the_first_one() {
    let installation = Installation::served();
    let address = installation.settings("app").endpoint.replace("https://", "");
    for listen in ["127.0.0.1:0", &address] {
        let mut serve = installation.serve_command();
        let output = serve.env("FIELDSEAL_SERVER_LISTEN", listen).output().unwrap();
        let (code, reason) = ended(&output);
        assert!(code == 6 && reason.ends_with("_LOCKED"), "{listen}: {code} {reason}");
    }
}
