//! Installations as released formats wrote them (`tests/golden/vN`), opened by this program: for ever.
//!
//! `tests/golden/README.md` says how they are made.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::installation::{Installation, PLACE, place};
use crate::process::{ended, program, refused, text, with_input};

/// What an installation has of its own; certificates are made anew each time.
const PARTS: [&str; 4] = ["state", "policy", "root.key", "fieldseal.toml"];
/// Names the directory that is made.
const MADE: &str = "FIELDSEAL_GOLDEN";
/// The formats that there were.
const FORMATS: [&str; 1] = ["v1"];

fn golden(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format)
}

/// Every file below a directory, by its path from there.
fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![below.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => found.push(entry.path().strip_prefix(below).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The values of a golden installation: arguments of `encrypt` and `decrypt`, and what was sealed.
const VALUES: [(&[&str], &str); 5] = [
    (&["--row", "42"], "ada@example.com"),
    (&["--row", "42", "--partition", "tenant-7"], "grüße@example.com"),
    (&[], ""),
    (&["--row", "9b2f6d3e-8c41-4a7e-9f10-5d2c7b8e6a01", "--context", "region=eu"], "uuid and pair"),
    // Under the second version of the key.
    (&["--row", "43"], "after the rotation"),
];

/// The log's state as a verifier shows it.
fn verified(log: &Path, key: &Path) -> serde_json::Value {
    let mut command = program();
    command.args(["--output", "json", "audit", "verify", "--log"]).arg(log);
    let output = command.arg("--public-key").arg(key).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown = found.as_object_mut().unwrap();
    let verdict = shown.remove("verdict").zip(shown.remove("ranges"));
    assert!(verdict.is_some_and(|(verdict, _)| verdict == "OK"), "{found}");
    found
}

#[test]
#[ignore = "makes golden files; tests/golden/README.md says when"]
fn make() {
    let to = PathBuf::from(std::env::var_os(MADE).expect("FIELDSEAL_GOLDEN names a directory"));
    fs::create_dir(&to).expect("golden files are never made over others");
    let mut installation = Installation::with_key();
    let mut values = Vec::new();
    for (at, (arguments, plaintext)) in VALUES.into_iter().enumerate() {
        if at + 1 == VALUES.len() {
            installation.ok("ops", &["key", "rotate", "customer-pii"], b"");
        }
        let sealed = installation.ok("app", &place("encrypt", arguments), plaintext.as_bytes());
        assert_eq!(
            installation.ok("app", &place("decrypt", arguments), &sealed),
            plaintext.as_bytes()
        );
        values.push(serde_json::json!({
            "arguments": arguments, "plaintext": plaintext, "ciphertext": text(&sealed).trim(),
        }));
    }
    let denied = installation.run("auditor", &place("decrypt", &[]), b"fs1.AQ");
    assert!(!denied.status.success());
    assert_eq!(installation.stop(), 0);
    let log = installation.log();
    let log = verified(&log, &log.join("log.pub"));
    let mut lengths = BTreeMap::new();
    for part in PARTS {
        let from = installation.home().join(part);
        let names = if from.is_dir() { files(&from) } else { vec![PathBuf::new()] };
        for name in names.into_iter().filter(|name| !name.ends_with("lock")) {
            let (from, to) = (installation.home().join(part), to.join(part));
            let whole = |path: PathBuf| {
                if name.as_os_str().is_empty() { path } else { path.join(&name) }
            };
            let (from, to) = (whole(from), whole(to));
            let bytes = fs::read(from).unwrap();
            // The zeroes at the end are not kept: most of a store and of a segment is that.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let name = Path::new(part).join(&name);
            if end < bytes.len() && part == "state" {
                lengths.insert(name.to_str().unwrap().to_owned(), bytes.len());
            }
            let kept = if part == "state" { &bytes[..end] } else { &bytes[..] };
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, kept).unwrap();
        }
    }
    let facts = serde_json::json!({
        "identity": installation.identity, "values": values, "log": log, "lengths": lengths,
    });
    fs::write(to.join("facts.json"), serde_json::to_vec_pretty(&facts).unwrap()).unwrap();
}

/// A copy of a golden installation, with certificates of today, and what is known of it.
fn opened(format: &str) -> (Installation, serde_json::Value) {
    let (golden, mut installation) = (golden(format), Installation::new());
    let facts = json(&golden.join("facts.json"));
    installation.identity = facts["identity"].as_str().unwrap().to_owned();
    let home = installation.home();
    fs::remove_dir_all(home.join("state")).unwrap();
    for name in files(&golden).into_iter().filter(|name| *name != Path::new("facts.json")) {
        let to = home.join(&name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(golden.join(&name), &to).unwrap();
        fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
        if let Some(length) = facts["lengths"][name.to_str().unwrap()].as_u64() {
            fs::OpenOptions::new().write(true).open(&to).unwrap().set_len(length).unwrap();
        }
    }
    (installation, facts)
}

#[test]
fn whatever_a_released_format_wrote_is_opened_and_goes_on() {
    for format in FORMATS {
        let (mut installation, facts) = opened(format);
        let log = installation.log();
        let before = verified(&log, &log.join("log.pub"));
        assert_eq!(before, facts["log"], "{format}");
        installation.serve();
        let i = &installation;
        let values = facts["values"].as_array().unwrap();
        assert!(values.len() >= 5, "{format}");
        for value in values {
            let arguments = value["arguments"].as_array().unwrap();
            let arguments: Vec<&str> = arguments.iter().map(|a| a.as_str().unwrap()).collect();
            let sealed = value["ciphertext"].as_str().unwrap();
            let opened = i.ok("app", &place("decrypt", &arguments), sealed.as_bytes());
            assert_eq!(text(&opened), value["plaintext"].as_str().unwrap(), "{format}");
        }
        let shown = i.json("ops", &["key", "show", "customer-pii"]);
        assert_eq!(shown["key"]["primary_version"], "keys/customer-pii/versions/2", "{format}");
        // Records of then are found, and everything goes on.
        let listed = i.json("auditor", &["audit", "list", "--limit", "1000"]);
        let events = listed["audit_events"].as_array().unwrap();
        let turned = events.iter().filter(|event| event["kind"] == "KEY_ROTATED").count();
        assert_eq!(turned, 1, "{format}: {listed}");
        i.ok("ops", &["key", "rotate", "customer-pii"], b"");
        let sealed = i.ok("app", &place("encrypt", &["--row", "44"]), b"new");
        assert_eq!(i.ok("app", &place("decrypt", &["--row", "44"]), &sealed), b"new");
        assert_eq!(installation.stop(), 0);
        let after = verified(&log, &log.join("log.pub"));
        let records = |found: &serde_json::Value| found["records"].as_u64().unwrap();
        assert!(records(&after) >= records(&before) + 10, "{format}: {after}");
        recovers(&installation, values);
    }
}

/// The recovery identity of then opens the first value.
fn recovers(installation: &Installation, values: &[serde_json::Value]) {
    let identity = installation.path("identity");
    fs::write(&identity, &installation.identity).unwrap();
    let mut command = program();
    command.arg("recover").arg("--config").arg(installation.config()).arg("--identity");
    command.arg(&identity).args(PLACE).args(["--row", "42"]);
    let recovered = with_input(command, values[0]["ciphertext"].as_str().unwrap().as_bytes());
    assert_eq!(text(&recovered.stdout), "ada@example.com", "{}", text(&recovered.stderr));
}

/// The store's and the log's own formats cannot be edited without their keys; their crates have the
/// same test.
#[test]
fn a_newer_configuration_and_a_newer_keyring_are_refused_by_name() {
    for (file, from, to, reason) in [
        ("fieldseal.toml", "format = 1", "format = 2", "FORMAT_NEWER"),
        ("state/keyring.json", "\"format\": 1", "\"format\": 2", "FORMAT_NEWER"),
    ] {
        let (installation, _) = opened("v1");
        let path = installation.home().join(file);
        let then = fs::read_to_string(&path).unwrap();
        let newer = then.replacen(from, to, 1);
        assert_ne!(then, newer);
        fs::write(&path, &newer).unwrap();
        let output = installation.serve_command().output().unwrap();
        assert_eq!(ended(&output), refused(2, reason));
        let said = text(&output.stderr);
        for part in [file, "has format 2", "this program knows format", "use a newer program"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), newer, "it is left as it is");
    }
}
