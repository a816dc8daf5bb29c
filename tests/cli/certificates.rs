//! Which certificate a caller showed, and with which settings and certificates a sidecar was started: what
//! the log says of both.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::installation::{Installation, place};
use crate::process::{ended, program, refused, text};

const APP: &str = "spiffe://dev.local/app";
const OPS: &str = "spiffe://dev.local/ops";

/// An installation where the principal of `app` has a second certificate, that of `stolen`, which another
/// authority issued.
fn with_two() -> Installation {
    let (mut installation, other) = (Installation::new(), Installation::new());
    let (ours, theirs) = (installation.home().join("tls"), other.home().join("tls"));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let both = read(&ours.join("ca.pem")) + &read(&theirs.join("ca.pem"));
    std::fs::write(ours.join("callers.pem"), both).unwrap();
    for end in ["pem", "key"] {
        std::fs::copy(theirs.join(format!("app.{end}")), ours.join(format!("stolen.{end}")))
            .unwrap();
    }
    installation.set("client_ca = \"tls/ca.pem\"", "client_ca = \"tls/callers.pem\"");
    installation.serve();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    installation
}

impl Installation {
    fn pem(&self, caller: &str) -> String {
        self.home().join("tls").join(format!("{caller}.pem")).to_str().unwrap().to_owned()
    }

    fn audit(&self, arguments: &[&str]) -> Value {
        self.json("auditor", &[&["audit"], arguments].concat())
    }

    /// What these events say of the certificate, the newest first.
    fn shown(&self, arguments: &[&str]) -> Vec<(String, String)> {
        let listed = self.audit(&[&["list"], arguments].concat());
        let events = listed["audit_events"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        events.map(|event| (text(&event["principal"]), text(&event["certificate"]))).collect()
    }
}

fn field_count(answer: &Value) -> i64 {
    answer["total"]["field_count"].as_i64().unwrap()
}

#[test]
fn what_is_no_certificate_is_refused() {
    let installation = with_two();
    let i = &installation;
    let whole = "ab".repeat(32);
    let (both, empty, gone) =
        (i.home().join("tls/callers.pem"), i.path("empty.pem"), i.path("gone.pem"));
    std::fs::write(&empty, "").unwrap();
    let app = i.pem("app");
    for arguments in [
        &["breach", "--certificate", ""][..],
        &["breach", "--certificate", "abcd"],
        &["breach", "--certificate", &whole[..62]],
        &["breach", "--certificate", &format!("{}x", &whole[..63])],
        &["breach", "--certificate", APP],
        &["breach", "--certificate-file", both.to_str().unwrap()],
        &["breach", "--certificate-file", &empty],
        &["breach", "--certificate-file", &gone],
        &["breach", "--certificate", &whole, "--certificate-file", &app],
        &["list", "--certificate", "abcd"],
        &["list", "--certificate-file", &empty],
        &["changes", "--certificate", "abcd"],
    ] {
        let answer = i.run("auditor", &[&["audit"], arguments].concat(), b"");
        assert_eq!(ended(&answer), refused(2, ""), "{arguments:?}");
    }
    let other = i.run("app", &["audit", "breach", "--certificate", &whole], b"");
    assert_eq!(ended(&other), refused(4, "PERMISSION_DENIED"));
}

/// Both certificates of one principal read a person each, twice and in turn, and are refused something.
fn both_read() -> Installation {
    let installation = with_two();
    let i = &installation;
    let sealed = [("ada", "1"), ("bob", "2")].map(|(of, row)| {
        i.ok("app", &place("encrypt", &["--row", row, "--partition", of]), b"secret")
    });
    for (caller, at, of, row) in [
        ("app", 0, "ada", "1"),
        ("stolen", 1, "bob", "2"),
        ("app", 0, "ada", "1"),
        ("stolen", 1, "bob", "2"),
    ] {
        i.ok(caller, &place("decrypt", &["--row", row, "--partition", of]), &sealed[at]);
    }
    for caller in ["app", "stolen", "stolen"] {
        let refusal = i.run(caller, &["key", "rotate", "customer-pii"], b"");
        assert_eq!(ended(&refusal), refused(4, "PERMISSION_DENIED"));
    }
    installation
}

#[test]
fn every_record_of_a_caller_has_the_certificate_of_its_own_call() {
    let mut installation = both_read();
    let i = &installation;
    i.ok("ops", &["policy", "reload"], b"");
    // The same decision is remembered, and each record has the certificate of its own call.
    let read = i.shown(&["--action", "Decrypt"]);
    let [stolen, ours] = [&read[0], &read[1]].map(|(_, certificate)| certificate.clone());
    assert!(stolen.len() == 32 && ours.len() == 32 && stolen != ours, "{read:?}");
    let expected = [&stolen, &ours, &stolen, &ours].map(|one| (APP.to_owned(), one.clone()));
    assert_eq!(read, expected);
    let denied = i.shown(&["--outcome", "denied"]);
    assert_eq!(denied, [(APP.to_owned(), stolen.clone()), (APP.to_owned(), ours)]);
    let changed = i.shown(&["--action", "CreateKey"]);
    assert!(changed.len() == 1 && changed[0].0 == OPS && changed[0].1.len() == 32, "{changed:?}");
    assert_eq!(i.shown(&["--certificate", &stolen, "--action", "CreateKey"]), []);
    for (who, certificate) in i.shown(&["--limit", "1000"]) {
        assert_eq!(who.is_empty(), certificate.is_empty(), "{who} {certificate}");
    }
    let exported = text(&i.ok("auditor", &["audit", "export", "--certificate", &stolen], b""));
    let exported: Vec<Value> =
        exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(exported.len(), 3);
    assert!(exported.iter().all(|line| line["unmapped"]["certificate"] == stolen.as_str()));
    assert_eq!(installation.stop(), 0);
    let verified = installation.verify(&installation.log());
    assert!(verified.status.success(), "{}", text(&verified.stderr));
}

#[test]
fn a_stolen_certificate_is_told_from_another_of_the_same_caller() {
    let installation = both_read();
    let i = &installation;
    // By its file, by what records have of it, by all of its fingerprint.
    let (file, ours_file) = (i.pem("stolen"), i.pem("app"));
    let of_stolen = i.shown(&["--certificate-file", &file]);
    assert_eq!(of_stolen.len(), 3);
    let stolen = of_stolen[0].1.clone();
    assert_eq!(of_stolen, i.shown(&["--certificate", &stolen]));
    let pairs: Vec<_> = (0..16).map(|at| stolen[2 * at..2 * at + 2].to_uppercase()).collect();
    let line = format!("sha256 Fingerprint={}{}", pairs.join(":"), ":00".repeat(16));
    assert_eq!(of_stolen, i.shown(&["--certificate", &line]));

    let breach = |more: &[&str]| i.audit(&[&["breach"], more].concat());
    let answer = breach(&["--certificate-file", &file]);
    assert_eq!((answer["rows"].as_array().unwrap().len(), field_count(&answer)), (1, 2));
    assert_eq!(answer["total"]["partition_count"], 1);
    assert_eq!(field_count(&breach(&["--certificate", &line, "--principal", APP])), 2);
    assert_eq!(field_count(&breach(&["--certificate-file", &ours_file])), 2);
    assert_eq!(field_count(&breach(&["--principal", APP])), 4);
    assert_eq!(field_count(&breach(&["--certificate", &line, "--principal", OPS])), 0);
    let names = i.path("names");
    std::fs::write(&names, "ada\nbob\n").unwrap();
    let affected = breach(&["--certificate-file", &file, "--candidates", &names]);
    let is_hit = affected["rows"].as_array().unwrap().iter().map(|row| row["affected"].clone());
    assert_eq!(is_hit.collect::<Vec<_>>(), [false, true]);
    let denials = i.audit(&["denials", "--certificate-file", &file]);
    assert_eq!(denials["total"]["event_count"], 1, "the second one is counted and not written yet");
    let unknown = breach(&["--certificate", &"00".repeat(32)]);
    assert_eq!(field_count(&unknown), 0);
    assert!(unknown["remarks"].to_string().contains("no call"), "{unknown}");
}

/// The digest that `config check` prints.
fn checked(installation: &Installation) -> String {
    let mut command: Command = program();
    command.args(["config", "check", "--output", "json", "--config"]).arg(installation.config());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    shown["settings_digest"].as_str().unwrap().to_owned()
}

/// Every start, the newest first.
fn starts(installation: &Installation) -> Vec<Value> {
    let listed = installation.audit(&["list"]);
    let events = listed["audit_events"].as_array().unwrap().clone();
    events.into_iter().filter(|event| event["kind"] == "START").collect()
}

#[test]
fn a_start_says_with_which_settings_and_certificates() {
    let mut installation = with_two();
    let before = checked(&installation);
    assert_eq!(before.len(), 64);
    let start = starts(&installation).remove(0);
    assert_eq!(start["settings_digest"], before.as_str());
    assert_eq!(start["settings"]["audit.refusal_window_seconds"], "60");
    assert_eq!(start["settings"]["audit.anchor_file"], "not set");
    let kinds: Vec<_> =
        start["certificates"].as_array().unwrap().iter().map(|c| c["usage"].clone()).collect();
    assert_eq!(kinds, ["server", "client_ca", "client_ca"]);
    let said = start.to_string();
    let home = installation.home();
    assert!(!said.contains(home.to_str().unwrap()) && !said.contains("callers.pem"), "{said}");

    // The same settings: nothing is said. Others: what changed, or that something did.
    assert_eq!(installation.stop(), 0);
    installation.serve();
    assert_eq!(installation.stop(), 0);
    installation.set("refusal_window_seconds = 60", "refusal_window_seconds = 0");
    let anchor = format!("anchor_file = \"{}\"", installation.path("anchor"));
    installation.set("anchor_file = \"\"", &anchor);
    installation.set("client_ca = \"tls/callers.pem\"", "client_ca = \"tls/ca.pem\"");
    installation.serve();
    let after = checked(&installation);
    assert_ne!(before, after);
    let answer = installation.audit(&["changes"]);
    let notes = answer["rows"].as_array().unwrap().iter().filter(|row| row["kind"] == "START");
    let notes: Vec<_> = notes.map(|row| row["note"].as_str().unwrap()).collect();
    let [newest, same, first] = notes[..] else { panic!("{notes:?}") };
    for part in [
        format!("settings changed: {} to {}", &before[..12], &after[..12]),
        "audit.refusal_window_seconds 60 to 0".to_owned(),
        "audit.anchor_file not set to set".to_owned(),
        "no more client_ca ".to_owned(),
    ] {
        assert!(newest.contains(&part), "{part} in {newest}");
    }
    assert!(!newest.contains("server") && !newest.contains("new client_ca"), "{newest}");
    assert!(!same.contains("settings") && !same.contains("client_ca"), "{same}");
    assert!(first.contains(&format!("settings {}", &before[..12])), "{first}");
    assert!(first.contains("server ") && first.contains(" until "), "{first}");
    // An overridden setting is another configuration as well.
    assert_eq!(installation.stop(), 0);
    let mut serve = installation.serve_command();
    serve.env("FIELDSEAL_AUDIT_REFUSAL_WINDOW_SECONDS", "60");
    installation.serve_as(serve);
    let newest = starts(&installation).remove(0);
    assert_eq!(newest["settings"]["audit.refusal_window_seconds"], "60");
    assert_ne!(newest["settings_digest"], after.as_str());
}
