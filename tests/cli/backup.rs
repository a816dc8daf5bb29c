//! Backups with the real binary: made while serving, put back after the disk is gone, and refused
//! where anything of them is not as it was.

mod archived;
mod copy;
mod drilled;
mod refused;
mod runbook;
mod schedule;
mod shredded;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::installation::{Installation, place};
use crate::process::{program, text, with_input};

/// An installation with a directory for its backups.
pub(crate) struct Backed {
    pub(crate) at: Installation,
}

impl Backed {
    /// Serving, with the key `customer-pii`.
    pub(crate) fn new() -> Self {
        Self::configured(|_| ())
    }

    /// The same, with other settings.
    pub(crate) fn configured(other: impl FnOnce(&Installation)) -> Self {
        let mut at = Self::stopped();
        other(&at);
        at.serve();
        at.ok("ops", &["key", "create", "customer-pii"], b"");
        Self { at }
    }

    /// Such an installation, not started yet.
    fn stopped() -> Installation {
        let at = Installation::new();
        let keyring = std::fs::read(at.home().join("state/keyring.json")).unwrap();
        let keyring: Value = serde_json::from_slice(&keyring).unwrap();
        // Whoever can recover the root key can open the backups here.
        let recipient = keyring["recovery"]["recipient"].as_str().unwrap();
        at.set("directory = \"\"", "directory = \"../backups\"");
        at.set("recipients = []", &format!("recipients = [{recipient:?}]"));
        std::fs::write(at.path("identity"), &at.identity).unwrap();
        at
    }

    pub(crate) fn seal(&self, partition: &str, value: &str) -> Vec<u8> {
        let arguments = place("encrypt", &["--partition", partition]);
        self.at.ok("app", &arguments, value.as_bytes())
    }

    /// What a value opens to, or why not.
    pub(crate) fn open(&self, partition: &str, sealed: &[u8]) -> Result<String, String> {
        let output = self.at.run("app", &place("decrypt", &["--partition", partition]), sealed);
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => {
                let said = text(&output.stderr);
                let why = said.lines().find_map(|line| line.strip_prefix("reason  "));
                Err(why.expect("a reason").to_owned())
            }
        }
    }

    /// Makes a backup while serving; its file.
    pub(crate) fn back_up(&self) -> PathBuf {
        let made = self.at.json("ops", &["backup", "create"]);
        let path = PathBuf::from(made["path"].as_str().unwrap());
        assert!(path.is_file() && made["event"].as_str().is_some(), "{made}");
        path
    }

    /// An offline command of `backup`, as JSON.
    pub(crate) fn backup(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(["--output", "json", "backup"]).args(arguments);
        command.current_dir(self.at.dir.path());
        command
    }

    /// The same, which must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Value {
        let output = self.backup(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Stops the sidecar, and takes the state away: to `lost`.
    pub(crate) fn lose(&mut self) {
        self.lose_to("lost");
    }

    pub(crate) fn lose_to(&mut self, name: &str) {
        assert_eq!(self.at.stop(), 0);
        std::fs::rename(self.at.home().join("state"), self.at.path(name)).unwrap();
    }

    /// `restore` of this backup with the configuration and the identity.
    pub(crate) fn restore(&self, backup: &str, more: &[&str]) -> Output {
        let mut command = self.backup(&["restore", backup, "--identity", "identity"]);
        command.arg("--config").arg(self.at.config()).args(more).output().unwrap()
    }

    /// The same, which must succeed.
    pub(crate) fn restored(&self, backup: &str, more: &[&str]) -> Value {
        let output = self.restore(backup, more);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The reason of a command that failed with JSON.
pub(crate) fn reason(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(&output.stdout));
    let error: Value = serde_json::from_slice(&output.stderr)
        .unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    error["error"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_backup_and_the_log_bring_back_everything_but_younger_data_keys() {
    let mut backed = Backed::new();
    let old = backed.seal("acme", "before");
    let backup = backed.back_up();
    let name = backup.to_str().unwrap();
    // What comes later: a value under an old data key, one under a new one, a new version.
    let late = backed.seal("acme", "later");
    let young = backed.seal("umbrella", "young");
    backed.at.ok("ops", &["key", "rotate", "customer-pii"], b"");
    let rotated = backed.seal("acme", "rotated");
    backed.lose();

    // Nothing is left by a trial.
    let trial = backed.restored(name, &["--log", "lost/audit", "--dry-run"]);
    assert_eq!((&trial["dry_run"], &trial["lost_data_keys"]), (&true.into(), &2.into()));
    assert!(!backed.at.home().join("state").exists());
    let left = std::fs::read_dir(backed.at.home()).unwrap().map(|e| e.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".fieldseal")));

    let restored = backed.restored(name, &["--log", "lost/audit"]);
    assert_eq!(restored["incarnation"], 2);
    assert_eq!((&restored["lost_versions"], &restored["lost_data_keys"]), (&1.into(), &2.into()));
    backed.at.serve();
    assert_eq!(backed.open("acme", &old).as_deref(), Ok("before"));
    assert_eq!(backed.open("acme", &late).as_deref(), Ok("later"));
    for (partition, lost) in [("umbrella", &young), ("acme", &rotated)] {
        assert_eq!(backed.open(partition, lost), Err("DATA_KEY_NOT_FOUND".to_owned()));
    }
    // The number of the lost version is not used again, and everything goes on.
    backed.at.ok("ops", &["key", "rotate", "customer-pii"], b"");
    let shown = backed.at.json("ops", &["key", "show", "customer-pii"]);
    assert_eq!(shown["key"]["primary_version"], "keys/customer-pii/versions/3", "{shown}");
    let new = backed.seal("umbrella", "anew");
    assert_eq!(backed.open("umbrella", &new).as_deref(), Ok("anew"));
    // The log is one from the first life into the second, and tells of both backup and restore.
    let listed = backed.at.json("auditor", &["audit", "list", "--oldest-first", "--limit", "1000"]);
    let kinds: Vec<_> = listed["audit_events"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["kind"].as_str())
        .collect();
    let at = |kind: &str| kinds.iter().position(|found| *found == kind);
    assert!(at("BACKUP_CREATED") < at("BACKUP_RESTORED") && at("BACKUP_CREATED").is_some());
    assert_eq!(backed.at.stop(), 0);
    assert!(backed.at.verify(&backed.at.log()).status.success());
}

#[test]
fn a_stopped_installation_is_backed_up_with_a_passphrase_and_drilled() {
    let mut backed = Backed::new();
    let sealed = backed.seal("acme", "value");
    assert_eq!(backed.at.stop(), 0);
    let config = backed.at.config();
    let config = config.to_str().unwrap();
    let passphrase = b"correct horse battery staple\n";
    let create = ["create", "--config", config, "--dir", "offline", "--passphrase-fd", "0"];
    let made = with_input(backed.backup(&create), passphrase);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let path = made["path"].as_str().unwrap();
    let drill = ["drill", path, "--config", config, "--passphrase-fd", "0", "--scratch", "."];
    let drilled = with_input(backed.backup(&drill), passphrase);
    assert!(drilled.status.success(), "{}", text(&drilled.stderr));
    let drilled: Value = serde_json::from_slice(&drilled.stdout).unwrap();
    assert_eq!(drilled["canaries"], serde_json::json!(["customer-pii"]));
    assert_eq!((&drilled["data_keys"], &drilled["broken"]), (&1.into(), &0.into()));
    assert_eq!(drilled["recorded"], true);
    let scratch = |name: &str| name.starts_with("fieldseal-drill");
    let left = std::fs::read_dir(backed.at.dir.path()).unwrap();
    assert!(left.map(|e| e.unwrap().file_name()).all(|n| !scratch(&n.to_string_lossy())));
    let wrong = with_input(backed.backup(&drill), b"another passphrase than that\n");
    assert_eq!(reason(&wrong), "BACKUP_IDENTITY_WRONG");

    backed.at.serve();
    assert_eq!(backed.open("acme", &sealed).as_deref(), Ok("value"));
    let events = backed.at.json("auditor", &["audit", "list", "--action", "BackupDrill"]);
    assert_eq!(events["audit_events"][0]["kind"], "BACKUP_DRILLED", "{events}");
    // While a sidecar has the log, a drill is still possible.
    let backup = backed.back_up();
    let drilled = backed.ok(&[
        "drill",
        backup.to_str().unwrap(),
        "--config",
        config,
        "--identity",
        "identity",
    ]);
    assert_eq!(drilled["recorded"], false);
}

/// Whoever of them is still there can bring everything back; nobody else can.
#[test]
fn a_backup_to_two_recipients_opens_for_each_alone() {
    use age::secrecy::ExposeSecret as _;

    let second = age::x25519::Identity::generate();
    let also = format!("\", \"{}\"]", second.to_public());
    let backed = Backed::configured(|at| {
        let config = std::fs::read_to_string(at.config()).unwrap();
        let line = config.lines().find(|line| line.starts_with("recipients = [")).unwrap();
        at.set(line, &line.replace("\"]", &also));
    });
    backed.seal("acme", "value");
    let path = backed.back_up();
    let path = path.to_str().unwrap();
    let identity = |name: &str, identity: &age::x25519::Identity| {
        std::fs::write(backed.at.path(name), identity.to_string().expose_secret()).unwrap();
    };
    identity("second", &second);
    identity("stranger", &age::x25519::Identity::generate());
    let config = backed.at.config();
    let drill = |with: &str| {
        let config = config.to_str().unwrap();
        backed.backup(&["drill", path, "--config", config, "--identity", with]).output().unwrap()
    };
    for with in ["identity", "second"] {
        let drilled = drill(with);
        assert!(drilled.status.success(), "{with}: {}", text(&drilled.stderr));
        let drilled: Value = serde_json::from_slice(&drilled.stdout).unwrap();
        assert_eq!((&drilled["data_keys"], &drilled["broken"]), (&1.into(), &0.into()), "{with}");
    }
    assert_eq!(reason(&drill("stranger")), "BACKUP_IDENTITY_WRONG");
}

#[test]
fn backups_are_listed_verified_and_pruned() {
    let backed = Backed::new();
    backed.seal("acme", "value");
    let first = backed.back_up();
    backed.seal("umbrella", "value");
    let second = backed.back_up();
    let config = backed.at.config();
    let config = config.to_str().unwrap();
    let listed = backed.ok(&["list", "--config", config]);
    let backups = listed["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 2, "{listed}");
    assert_eq!((&backups[0]["class"], &backups[1]["class"]), (&"monthly".into(), &"recent".into()));
    assert_eq!((&backups[0]["data_keys"], &backups[1]["data_keys"]), (&1.into(), &2.into()));
    let key = backed.at.log().join("log.pub");
    let key = key.to_str().unwrap();
    for path in [&first, &second] {
        let path = path.to_str().unwrap();
        let verified = backed.ok(&["verify", path, "--public-key", key]);
        assert_eq!(verified["decrypted"], false);
        let verify = ["verify", path, "--public-key", key, "--identity", "identity"];
        assert_eq!(backed.ok(&verify)["decrypted"], true);
    }
    let pruned = backed.ok(&["prune", "--config", config, "--dry-run"]);
    assert_eq!(
        (&pruned["removed"], pruned["kept"].as_array().unwrap().len()),
        (&serde_json::json!([]), 2)
    );
    let status = backed.at.json("ops", &["status"]);
    assert!(status["backup"]["newest"].as_str().is_some(), "{status}");
}
