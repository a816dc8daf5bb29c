//! The `fieldseal` program from outside, as people and scripts use it: every process here is the real
//! binary, over real mutual TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A test that waits longer than this for something that must happen has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const PLACE: [&str; 6] = ["--key", "customer-pii", "--table", "users", "--column", "email"];

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldseal"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIELDSEAL_") {
            command.env_remove(name);
        }
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How a command ended, with the reason it gave.
fn ended(output: &Output) -> (i32, String) {
    let stderr = text(&output.stderr);
    let reason = stderr.lines().find_map(|line| line.strip_prefix("reason  "));
    (output.status.code().unwrap_or(-1), reason.unwrap_or_default().to_owned())
}

fn refused(code: i32, reason: &str) -> (i32, String) {
    (code, reason.to_owned())
}

/// An installation with development certificates, and its sidecar while it runs.
struct Installation {
    dir: tempfile::TempDir,
    identity: String,
    sidecar: Option<Child>,
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(child) = &mut self.sidecar {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Installation {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let made = program()
            .args(["init", "--dev-certificates", "--listen", "127.0.0.1:0", "--dir"])
            .arg(&home)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let said = text(&made.stderr);
        let identity = said.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1"));
        let identity = identity.expect("the identity is shown once").to_owned();
        let config = home.join("fieldseal.toml");
        let settings = std::fs::read_to_string(&config).unwrap();
        let settings = settings
            .replace("address_file = \"\"", "address_file = \"address\"")
            .replace("segment_mib = 64", "segment_mib = 1");
        std::fs::write(&config, settings).unwrap();
        Self { dir, identity, sidecar: None }
    }

    fn served() -> Self {
        let mut installation = Self::new();
        installation.serve();
        installation
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn config(&self) -> PathBuf {
        self.home().join("fieldseal.toml")
    }

    fn serve(&mut self) {
        let child = program()
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        self.sidecar = Some(child);
        let given_up = Instant::now() + PATIENCE;
        while !self.home().join("address").exists() {
            let child = self.sidecar.as_mut().unwrap();
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it ended: {log}");
            assert!(Instant::now() < given_up, "it does not get ready: {log}");
            std::thread::yield_now();
        }
    }

    /// SIGTERM; the exit code.
    fn stop(&mut self) -> i32 {
        let mut child = self.sidecar.take().unwrap();
        let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(killed.success());
        child.wait().unwrap().code().unwrap()
    }

    /// A client command of this caller.
    fn run(&self, caller: &str, arguments: &[&str], input: &[u8]) -> Output {
        let address = std::fs::read_to_string(self.home().join("address"));
        let address = address.unwrap_or_else(|_| "127.0.0.1:9".to_owned());
        let tls = self.home().join("tls");
        let mut command = program();
        command
            .args(arguments)
            .env("FIELDSEAL_CLIENT_ENDPOINT", format!("https://{}", address.trim()))
            .env("FIELDSEAL_CLIENT_CA", tls.join("ca.pem"))
            .env("FIELDSEAL_CLIENT_CERT", tls.join(format!("{caller}.pem")))
            .env("FIELDSEAL_CLIENT_KEY", tls.join(format!("{caller}.key")));
        with_input(command, input)
    }

    /// The same, which must succeed; its standard output.
    fn ok(&self, caller: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(caller, arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        output.stdout
    }

    fn verify(&self, log: &Path) -> Output {
        let mut command = program();
        command.args(["audit", "verify", "--log"]).arg(log).arg("--public-key");
        command.arg(self.home().join("state/audit/log.pub")).output().unwrap()
    }
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that fails early does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn place<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [command].into_iter().chain(PLACE).chain(more.iter().copied()).collect()
}

#[test]
fn what_is_not_there_or_in_the_way_is_said_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("f.toml");
    std::fs::write(&config, "format = 1\n").unwrap();
    let output = program().arg("serve").arg("--config").arg(&config).output().unwrap();
    assert_eq!(ended(&output), refused(3, "STORE_NOT_INITIALIZED"));
    assert!(text(&output.stderr).contains("fieldseal init"));

    std::fs::write(&config, "format = 1\n[server]\ncolour = 3\n").unwrap();
    let output = program().arg("serve").arg("--config").arg(&config).output().unwrap();
    assert_eq!(ended(&output), refused(2, "CONFIG_INVALID"));

    let output = program().arg("init").arg("--dir").arg(dir.path()).output().unwrap();
    assert_eq!(ended(&output), refused(6, "INSTALLATION_EXISTS"));

    let output = program().args(["key", "list"]).output().unwrap();
    assert_eq!(ended(&output), refused(2, "CLIENT_SETTINGS_MISSING"));
    assert_eq!(program().arg("frobnicate").output().unwrap().status.code(), Some(2));
    assert_eq!(program().arg("--help").output().unwrap().status.code(), Some(0));
}

#[test]
fn the_main_job_from_init_to_a_clean_stop() {
    let mut installation = Installation::served();
    let i = &installation;
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    let sealed = i.ok("app", &place("encrypt", &["--row", "42"]), "ada@exämple.com".as_bytes());
    assert!(sealed.starts_with(b"fs1."));
    let opened = i.ok("app", &place("decrypt", &["--row", "42", "--purpose", "test"]), &sealed);
    assert_eq!(text(&opened), "ada@exämple.com");
    let binary = i.ok("app", &place("encrypt", &["--row", "1", "--binary"]), b"\x00\xff");
    assert_eq!(i.ok("app", &place("decrypt", &["--row", "1"]), &binary), b"\x00\xff");
    assert_eq!(i.ok("app", &place("decrypt", &[]), &i.ok("app", &place("encrypt", &[]), b"")), b"");
    i.ok("ops", &["key", "rotate", "customer-pii"], b"");
    let shown = text(&i.ok("ops", &["--output", "json", "key", "show", "customer-pii"], b""));
    assert!(shown.contains("keys/customer-pii/versions/2"), "{shown}");
    assert_eq!(text(&i.ok("app", &place("decrypt", &["--row", "42"]), &sealed)), "ada@exämple.com");

    for (caller, arguments, input, code, reason) in [
        ("app", place("decrypt", &["--row", "43"]), &sealed[..], 7, "DECRYPTION_FAILED"),
        ("app", place("decrypt", &["--row", "42"]), &b"nonsense"[..], 7, "CIPHERTEXT_NOT_SEALED"),
        ("auditor", place("decrypt", &["--row", "42"]), &sealed[..], 4, "PERMISSION_DENIED"),
        ("app", vec!["key", "rotate", "customer-pii"], &b""[..], 4, "PERMISSION_DENIED"),
        ("ops", vec!["key", "show", "missing"], &b""[..], 3, "KEY_NOT_FOUND"),
        ("ops", vec!["key", "create", "customer-pii"], &b""[..], 6, "KEY_EXISTS"),
        ("app", vec!["audit", "list"], &b""[..], 4, "PERMISSION_DENIED"),
    ] {
        let output = i.run(caller, &arguments, input);
        assert_eq!(ended(&output), refused(code, reason), "{caller} {arguments:?}");
    }
    let listed = text(&i.ok("auditor", &["audit", "list", "--action", "Decrypt"], b""));
    for part in ["users.email", "customer-pii/1", "app-decrypt", "COMMITMENT_MISMATCH", "DENIED"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let by_row = ["audit", "list", "--table", "users", "--row", "42", "--output", "json"];
    let by_row: serde_json::Value = serde_json::from_slice(&i.ok("auditor", &by_row, b"")).unwrap();
    assert_eq!(by_row["audit_events"].as_array().unwrap().len(), 3);
    assert!(text(&i.ok("ops", &["status"], b"")).contains("LOCKED"));

    let second = program().arg("serve").arg("--config").arg(i.config()).output().unwrap();
    assert_eq!(ended(&second), refused(6, "STORE_LOCKED"));
    let holder = i.sidecar.as_ref().unwrap().id().to_string();
    assert!(text(&second.stderr).contains(&holder), "{}", text(&second.stderr));

    assert_eq!(installation.stop(), 0);
    let i = &installation;
    assert_eq!(ended(&i.run("ops", &["status"], b"")), refused(5, "NOT_CONNECTED"));
    let log = i.home().join("state/audit");
    assert!(i.verify(&log).status.success());
    let copy = i.dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let segment = copy.join("segment-00000000000000000000.log");
    let mut bytes = std::fs::read(log.join("segment-00000000000000000000.log")).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(ended(&i.verify(&copy)), refused(7, "AUDIT_LOG_TAMPERED"));

    let identity = i.dir.path().join("identity");
    std::fs::write(&identity, &i.identity).unwrap();
    std::fs::remove_file(i.home().join("root.key")).unwrap();
    let mut recover = program();
    recover.arg("recover").arg("--config").arg(i.config()).arg("--identity").arg(&identity);
    recover.args(PLACE).args(["--row", "42"]);
    let recovered = with_input(recover, &sealed);
    assert_eq!(text(&recovered.stdout), "ada@exämple.com", "{}", text(&recovered.stderr));
    assert!(i.verify(&log).status.success(), "the recovery is on record");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut installation = Installation::served();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    let sealed: Vec<_> = (0..5)
        .map(|row| {
            let row = row.to_string();
            installation.ok("app", &place("encrypt", &["--row", &row, "--partition", &row]), b"x")
        })
        .collect();
    let mut child = installation.sidecar.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(installation.home().join("address")).unwrap();
    installation.serve();
    for (row, sealed) in sealed.iter().enumerate() {
        let row = row.to_string();
        let arguments = place("decrypt", &["--row", &row, "--partition", &row]);
        assert_eq!(installation.ok("app", &arguments, sealed), b"x");
    }
    assert_eq!(installation.stop(), 0);
    assert!(installation.verify(&installation.home().join("state/audit")).status.success());
}

#[test]
fn a_csv_file_comes_back_byte_for_byte_or_not_at_all() {
    let installation = Installation::served();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    let path = |name: &str| installation.dir.path().join(name).to_str().unwrap().to_owned();
    let table = "id,email,notes\r\n1,a@example.com,\"x,\"\"y\"\"\nz\"\r\n2,,\\N\r\n3,\"\",🦊\r\n";
    std::fs::write(path("in.csv"), table).unwrap();
    let run = |command: &str, from: &str, to: &str, more: &[&str]| {
        let (from, to) = (path(from), path(to));
        let shared = ["--key", "customer-pii", "--table", "t", "--column", "email"];
        let rows = ["--column", "notes", "--row-column", "id", "--null", "\\N"];
        let arguments: Vec<&str> = ["csv", command, &from, &to]
            .into_iter()
            .chain(shared)
            .chain(rows)
            .chain(more.iter().copied())
            .collect();
        installation.run("app", &arguments, b"")
    };
    assert!(run("encrypt", "in.csv", "sealed.csv", &[]).status.success());
    let sealed = std::fs::read_to_string(path("sealed.csv")).unwrap();
    assert!(!sealed.contains("example.com") && sealed.contains("\\N") && sealed.contains("fs1."));
    assert!(run("decrypt", "sealed.csv", "out.csv", &["--purpose", "test"]).status.success());
    assert_eq!(std::fs::read_to_string(path("out.csv")).unwrap(), table);
    assert_eq!(ended(&run("encrypt", "in.csv", "sealed.csv", &[])), refused(6, "FILE_EXISTS"));

    std::fs::write(path("moved.csv"), sealed.replacen("\r\n1,", "\r\n9,", 1)).unwrap();
    let moved = run("decrypt", "moved.csv", "bad.csv", &[]);
    assert_eq!(ended(&moved), refused(7, "DECRYPTION_FAILED"));
    assert!(!Path::new(&path("bad.csv")).exists());
}

#[test]
fn the_quickstart_runs_twice_and_leaves_other_directories_alone() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("quickstart");
    for turn in 0..2 {
        let output = program().arg("quickstart").arg("--dir").arg(&place).output().unwrap();
        let shown = text(&output.stdout);
        assert!(output.status.success(), "turn {turn}: {shown}\n{}", text(&output.stderr));
        for part in [
            "1,000 customer records",
            "keys/customer-pii/versions/2",
            "auditor decrypts a value          PERMISSION_DENIED",
            "app rotates the key               PERMISSION_DENIED",
            "app opens a value in another row  DECRYPTION_FAILED",
            "a caller without a certificate    C",
            "AUDIT_LOG_TAMPERED",
            "exit code   0",
            "audit list",
        ] {
            assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
        }
    }
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("thesis.txt"), "x").unwrap();
    let output = program().arg("quickstart").arg("--dir").arg(&other).output().unwrap();
    assert_eq!(ended(&output), refused(6, "DIRECTORY_IN_USE"));
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
}
