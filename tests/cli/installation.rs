//! An installation with development certificates, and its sidecar while it runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fieldseal_client::{Client, Settings};
use rustix::process::Signal;

use crate::process::{Lines, Running, event, program, ready, text, with_input};

pub(crate) const PLACE: [&str; 6] =
    ["--key", "customer-pii", "--table", "users", "--column", "email"];

/// `encrypt`, `decrypt` with a field.
pub(crate) fn place<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [command].into_iter().chain(PLACE).chain(more.iter().copied()).collect()
}

pub(crate) struct Installation {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) identity: String,
    pub(crate) sidecar: Option<(Running, Lines)>,
    address: String,
    /// Where it answers probes.
    pub(crate) probes: String,
}

impl Installation {
    pub(crate) fn new() -> Self {
        Self::made(|mut command| command.output().unwrap())
    }

    /// One that `init` makes with more arguments, variables or input.
    pub(crate) fn made(init: impl FnOnce(Command) -> Output) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let mut command = program();
        command.args(["init", "--dev-certificates", "--listen", "127.0.0.1:0", "--dir"]).arg(&home);
        command.args(["--privacy", "spiffe://dev.local/ops"]);
        let made = init(command);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let said = text(&made.stderr);
        let identity = said.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1"));
        let identity = identity.expect("the identity is shown once").to_owned();
        let config = home.join("fieldseal.toml");
        let settings = std::fs::read_to_string(&config).unwrap();
        let settings = settings.replace("segment_mib = 64", "segment_mib = 1");
        std::fs::write(&config, settings).unwrap();
        // As long as those that will follow: it holds nothing yet, and every start after a kill
        // copies it.
        let segment = home.join("state/audit/segment-00000000000000000000.log");
        let segment = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
        segment.set_len(1024 * 1024).unwrap();
        let nobody = "127.0.0.1:9".to_owned();
        Self { dir, identity, sidecar: None, address: nobody.clone(), probes: nobody }
    }

    pub(crate) fn served() -> Self {
        let mut installation = Self::new();
        installation.serve();
        installation
    }

    /// The same, with the key `customer-pii`.
    pub(crate) fn with_key() -> Self {
        let installation = Self::served();
        installation.ok("ops", &["key", "create", "customer-pii"], b"");
        installation
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home().join("fieldseal.toml")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.home().join("state/audit")
    }

    /// A path beside the installation.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn serve_command(&self) -> Command {
        let mut command = program();
        command.arg("serve").arg("--config").arg(self.config());
        command
    }

    /// Puts another line into the configuration.
    pub(crate) fn set(&self, from: &str, to: &str) {
        let config = std::fs::read_to_string(self.config()).unwrap();
        let changed = config.replacen(&format!("\n{from}\n"), &format!("\n{to}\n"), 1);
        assert_ne!(config, changed, "there is no line {from}");
        std::fs::write(self.config(), changed).unwrap();
    }

    /// Serves until it is stopped or dropped.
    pub(crate) fn serve(&mut self) {
        self.serve_as(self.serve_command());
    }

    /// The same, with a command that was changed.
    pub(crate) fn serve_as(&mut self, mut command: Command) {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running::new(&mut command);
        let mut lines = Lines::of(running.child().stderr.take().unwrap());
        let probes = lines.wait(|line| event("probes", line));
        self.probes = probes["address"].as_str().unwrap().to_owned();
        self.address = lines.wait(ready);
        // What it does beside its start may have had a line before that.
        lines.again();
        self.sidecar = Some((running, lines));
    }

    /// SIGTERM; the exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        let (mut running, _) = self.sidecar.take().unwrap();
        running.signal(Signal::TERM);
        running.code()
    }

    /// Where callers find it, if something else started it.
    pub(crate) fn is_at(&mut self, address: &str) {
        address.clone_into(&mut self.address);
    }

    /// A client command of this caller.
    pub(crate) fn command(&self, caller: &str, arguments: &[&str]) -> Command {
        let settings = self.settings(caller);
        let mut command = program();
        command
            .args(arguments)
            .env("FIELDSEAL_CLIENT_ENDPOINT", settings.endpoint)
            .env("FIELDSEAL_CLIENT_CA", settings.ca)
            .env("FIELDSEAL_CLIENT_CERT", settings.certificate)
            .env("FIELDSEAL_CLIENT_KEY", settings.private_key);
        command
    }

    pub(crate) fn settings(&self, caller: &str) -> Settings {
        let tls = self.home().join("tls");
        Settings {
            endpoint: format!("https://{}", self.address),
            ca: tls.join("ca.pem"),
            certificate: tls.join(format!("{caller}.pem")),
            private_key: tls.join(format!("{caller}.key")),
        }
    }

    pub(crate) async fn client(&self, caller: &str) -> Client {
        Client::connect(self.settings(caller)).await.unwrap()
    }

    pub(crate) fn run(&self, caller: &str, arguments: &[&str], input: &[u8]) -> Output {
        with_input(self.command(caller, arguments), input)
    }

    /// The same, which must succeed; its standard output.
    pub(crate) fn ok(&self, caller: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(caller, arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        output.stdout
    }

    /// The same, as JSON.
    pub(crate) fn json(&self, caller: &str, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<&str> =
            ["--output", "json"].into_iter().chain(arguments.iter().copied()).collect();
        serde_json::from_slice(&self.ok(caller, &arguments, b"")).unwrap()
    }

    pub(crate) fn verify_command(&self, log: &Path) -> Command {
        let mut command = program();
        command.args(["audit", "verify", "--log"]).arg(log);
        command.arg("--public-key").arg(self.log().join("log.pub"));
        command
    }

    pub(crate) fn verify(&self, log: &Path) -> Output {
        self.verify_command(log).output().unwrap()
    }
}
