//! The policy: written, checked, explained, and read again.

use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;

use crate::installation::{Installation, place};
use crate::process::{ended, program, refused, text};

/// A policy command without a sidecar.
pub(crate) fn policy(arguments: &[&str]) -> Output {
    program().arg("policy").args(arguments).output().unwrap()
}

pub(crate) fn policy_json(arguments: &[&str]) -> (i32, Value) {
    let output = program().args(["--output", "json", "policy"]).args(arguments).output().unwrap();
    let shown = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), shown.unwrap_or_else(|e| panic!("{e}: {output:?}")))
}

/// Replaces a file as an editor does.
pub(crate) fn write(path: &Path, text: &str) {
    let staged = path.with_extension("staged");
    std::fs::write(&staged, text).unwrap();
    std::fs::rename(staged, path).unwrap();
}

impl Installation {
    fn members(&self) -> PathBuf {
        self.home().join("policy/members.toml")
    }

    pub(crate) fn rules(&self) -> PathBuf {
        self.home().join("policy/roles.cedar")
    }

    /// Reloads on record, the newest first.
    pub(crate) fn reloads(&self) -> Vec<Value> {
        let listed = self.json("auditor", &["audit", "list", "--action", "ReloadPolicy"]);
        let events = listed["audit_events"].as_array().unwrap().iter();
        events.filter(|event| event["kind"] == "POLICY_RELOADED").cloned().collect()
    }

    fn digest(&self) -> String {
        self.json("ops", &["status"])["policy_digest"].as_str().unwrap().to_owned()
    }
}

#[test]
fn the_variable_names_the_configuration_unless_an_argument_names_the_policy() {
    let installation = Installation::new();
    let check = |arguments: &[&str], config: &Path| {
        let mut check = program();
        check.args(["policy", "check"]).args(arguments).env("FIELDSEAL_CONFIG", config);
        ended(&check.output().unwrap())
    };
    let nothing = (0, String::new());
    assert_eq!(check(&[], &installation.config()), nothing);
    let dir = installation.home().join("policy");
    assert_eq!(check(&["--dir", dir.to_str().unwrap()], Path::new("nowhere.toml")), nothing);
    assert_eq!(check(&[], Path::new("nowhere.toml")).0, 2);
    assert_eq!(ended(&policy(&["check"])), refused(2, "POLICY_UNNAMED"));
}

#[test]
fn init_writes_a_policy_and_adding_a_service_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("a/policy");
    let at = dir.to_str().unwrap();
    let made = policy(&["init", "--dir", at, "--app", "spiffe://d/app"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let again = policy(&["init", "--dir", at]);
    assert_eq!(ended(&again), refused(6, "FILE_EXISTS"));

    let checked = policy(&["check", "--dir", at]);
    let said = text(&checked.stdout);
    assert!(checked.status.success(), "{said}");
    let rules = std::fs::read_to_string(dir.join("roles.cedar")).unwrap();
    let rules = format!("{} rules", rules.matches("\n@id(").count());
    assert!(said.contains("nobody has the role operator") && said.contains(&rules), "{said}");
    let of_orders = ["--principal", "spiffe://d/orders", "--action", "Encrypt", "--key", "k"];
    let of_orders = [&["explain", "--dir", at][..], &of_orders, &["--table", "t", "--column", "c"]];
    let of_orders = of_orders.concat();
    assert_eq!(ended(&policy(&of_orders)), refused(4, "PERMISSION_DENIED"));
    let members = dir.join("members.toml");
    let text = std::fs::read_to_string(&members).unwrap();
    write(&members, &text.replacen("app = [\n", "app = [\n    \"spiffe://d/orders\",\n", 1));
    assert!(policy(&of_orders).status.success());

    // One file that is there is enough, and the others are not written.
    let other = dir.join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("members.toml"), "").unwrap();
    let refused_again = policy(&["init", "--dir", other.to_str().unwrap()]);
    assert_eq!(ended(&refused_again), refused(6, "FILE_EXISTS"));
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
}

#[test]
fn check_finds_every_mistake_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    assert!(policy(&["init", "--dir", at]).status.success());
    let (code, shown) = policy_json(&["check", "--dir", at]);
    assert_eq!(
        (code, &shown["valid"], shown["warnings"].as_array().unwrap().len()),
        (0, &true.into(), 4)
    );
    std::fs::write(
        dir.path().join("members.toml"),
        "app = [\n  \"app\",\n]\noperator = []\nauditor = []\nprivacy = []\n",
    )
    .unwrap();
    std::fs::write(
        dir.path().join("more.cedar"),
        "// two mistakes\npermit (principal, action, resource);\n\
         @id(\"never\") permit (principal, action == Action::\"Shred\", resource);\n",
    )
    .unwrap();
    let (code, shown) = policy_json(&["check", "--dir", at]);
    assert_eq!((code, &shown["valid"]), (2, &false.into()), "{shown}");
    let place = |error: &Value| {
        let file = Path::new(error["file"].as_str().unwrap()).file_name().unwrap();
        format!("{}:{}", file.to_str().unwrap(), error["line"])
    };
    let places: Vec<_> = shown["errors"].as_array().unwrap().iter().map(place).collect();
    for place in ["members.toml:2", "more.cedar:2", "more.cedar:3"] {
        assert!(places.contains(&place.to_owned()), "{place}: {shown}");
    }
    let plain = policy(&["check", "--dir", at]);
    assert_eq!(ended(&plain), refused(2, "POLICY_INVALID"));
    let said = text(&plain.stdout);
    assert!(said.contains("more.cedar:3:") && said.contains("members.toml:2:3:"), "{said}");
    let missing = dir.path().join("missing");
    let missing = policy(&["check", "--dir", missing.to_str().unwrap()]);
    assert_eq!(ended(&missing), refused(2, "POLICY_INVALID"));
    assert_eq!(policy(&["check"]).status.code(), Some(2));
}

#[test]
fn explain_says_by_which_rule_or_why_not() {
    let installation = Installation::new();
    let config = installation.config();
    let explain = |principal: &str, action: &str, more: &[&str]| {
        let principal = format!("spiffe://dev.local/{principal}");
        let call = ["--principal", &principal, "--action", action];
        policy_json(&[&["explain", "--config", config.to_str().unwrap()], &call[..], more].concat())
    };
    let field = ["--key", "keys/customer-pii", "--table", "users", "--column", "email"];
    let (code, shown) = explain("app", "Decrypt", &field);
    assert_eq!((code, &shown["allowed"], &shown["rule"]), (0, &true.into(), &"app-decrypt".into()));
    let rule = &shown["rules"][0];
    assert!(rule["text"].as_str().unwrap().starts_with("@id(\"app-decrypt\")"), "{shown}");
    let written = std::fs::read_to_string(installation.rules()).unwrap();
    let line = rule["line"].as_u64().unwrap() as usize;
    assert_eq!(written.lines().nth(line - 1), Some("@id(\"app-decrypt\")"));

    let (code, shown) = explain("ops", "Decrypt", &field);
    assert_eq!((code, &shown["cause"]), (4, &"NO_RULE".into()), "{shown}");
    assert_eq!(shown["roles"], serde_json::json!(["operator", "privacy"]));
    let missing = &shown["near"][0]["missing"];
    assert_eq!(missing, &serde_json::json!(["principal in Role::\"app\""]), "{shown}");

    let narrow = "@id(\"no-iban\") forbid (principal, action, resource is Field)\n\
                  when { resource.column == \"iban\" && context.ticket == \"\" };\n";
    std::fs::write(installation.home().join("policy/narrow.cedar"), narrow).unwrap();
    let iban = ["--key", "customer-pii", "--table", "users", "--column", "iban"];
    let (code, shown) = explain("app", "Decrypt", &iban);
    assert_eq!(
        (code, &shown["cause"], &shown["rule"]),
        (4, &"FORBIDDEN".into(), &"no-iban".into())
    );
    let (code, _) = explain("app", "Decrypt", &[&iban[..], &["--ticket", "CASE-1"]].concat());
    assert_eq!(code, 0);

    let named = ["--principal", "spiffe://dev.local/app", "--dir"];
    let dir = installation.home().join("policy");
    let call = [&["explain"][..], &named, &[dir.to_str().unwrap(), "--action", "Decrypt"]].concat();
    assert_eq!(ended(&policy(&call)), refused(2, "SUBJECT_INVALID"));
    let plain = policy(&[&call[..], &iban].concat());
    let said = text(&plain.stdout);
    for part in ["REFUSED", "forbidden by no-iban", "narrow.cedar:1", "context.ticket == \"\""] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn what_explain_says_is_what_the_sidecar_does() {
    let installation = Installation::with_key();
    let config = installation.config();
    let sealed = installation.ok("app", &place("encrypt", &[]), b"x");
    let mut seen = [0, 0];
    for caller in ["app", "ops", "auditor"] {
        for (action, call, subject) in [
            ("Decrypt", place("decrypt", &[]), &crate::installation::PLACE[..]),
            ("GetKey", vec!["key", "show", "customer-pii"], &["--key", "customer-pii"]),
            ("ListKeys", vec!["key", "list"], &[]),
            ("RotateKey", vec!["key", "rotate", "customer-pii"], &["--key", "customer-pii"]),
            ("QueryAuditEvents", vec!["audit", "list"], &[]),
            ("GetStatus", vec!["status"], &[]),
            ("ReloadPolicy", vec!["policy", "reload"], &[]),
        ] {
            let does = installation.run(caller, &call, &sealed).status.code();
            let principal = format!("spiffe://dev.local/{caller}");
            let explain = ["explain", "--config", config.to_str().unwrap(), "--principal"];
            let says = policy(&[&explain[..], &[&principal, "--action", action], subject].concat());
            assert_eq!(does, says.status.code(), "{caller} {action}: {}", text(&says.stdout));
            seen[usize::from(does == Some(0))] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
}

#[test]
fn a_reload_gives_and_takes_rights_and_is_on_record() {
    let installation = Installation::with_key();
    let i = &installation;
    let sealed = i.ok("app", &place("encrypt", &[]), b"x");
    let open = |caller: &str| ended(&i.run(caller, &place("decrypt", &[]), &sealed));
    let (good, may_not) = ((0, String::new()), refused(4, "PERMISSION_DENIED"));
    assert_eq!((open("app"), open("ops")), (good.clone(), may_not.clone()));
    let before = i.digest();

    let members = std::fs::read_to_string(i.members()).unwrap();
    let swapped = "app = [\"spiffe://dev.local/ops\"]\noperator = [\"spiffe://dev.local/ops\"]\n\
                   auditor = [\"spiffe://dev.local/auditor\"]\nprivacy = []\n";
    write(&i.members(), swapped);
    assert_eq!((open("app"), open("ops")), (good.clone(), may_not.clone()));
    let reloaded = i.json("ops", &["policy", "reload", "--purpose", "new team", "--ticket", "C-1"]);
    assert_eq!((open("app"), open("ops")), (may_not.clone(), good.clone()));
    let now = i.digest();
    assert_eq!(reloaded["previous_policy_digest"], before.as_str());
    assert_eq!(reloaded["policy_digest"], now.as_str());
    assert_ne!(before, now);
    assert_eq!(ended(&i.run("app", &["policy", "reload"], b"")), may_not);

    // What is no policy is told with its place, and the good one stays.
    write(&i.members(), "app = [\n  \"nobody\",\n]\noperator = []\nauditor = []\nprivacy = []\n");
    let refusal = i.run("ops", &["policy", "reload"], b"");
    assert_eq!(ended(&refusal), refused(2, "POLICY_INVALID"));
    let said = text(&refusal.stderr);
    assert!(said.contains("members.toml:2:3:") && said.contains("record  logs/"), "{said}");
    assert!(!said.contains(i.home().to_str().unwrap()), "{said}");
    assert_eq!((open("ops"), i.digest()), (good.clone(), now.clone()));

    write(&i.members(), &members);
    i.ok("ops", &["policy", "reload"], b"");
    assert_eq!((open("app"), open("ops"), i.digest()), (good, may_not, before.clone()));

    let found = i.reloads();
    let short: Vec<_> = found
        .iter()
        .map(|e| {
            let part = |name: &str| e[name].as_str().unwrap().to_owned();
            (part("outcome"), part("previous_policy_digest"), part("policy_digest"))
        })
        .collect();
    let (ok, failed) = ("OK".to_owned(), "FAILED".to_owned());
    let expected = [
        (ok.clone(), now.clone(), before.clone()),
        (failed, now.clone(), String::new()),
        (ok, before, now),
    ];
    assert_eq!(short, expected);
    assert_eq!((&found[2]["ticket"], &found[2]["purpose"]), (&"C-1".into(), &"new team".into()));
    assert_eq!(found[2]["name"], reloaded["event"]);
    assert!(found[1]["note"].as_str().unwrap().contains("members.toml:2:3:"), "{}", found[1]);
    let listed = text(&i.ok("auditor", &["audit", "list"], b""));
    assert!(listed.contains("POLICY_RELOADED") && listed.contains("FAILED members.toml:2:3:"));
}

#[test]
fn a_policy_that_would_end_or_hold_the_sidecar_is_refused() {
    let mut installation = Installation::with_key();
    let more = installation.home().join("policy/more.cedar");
    let config = installation.config();
    let check = || policy(&["check", "--config", config.to_str().unwrap()]);
    let deep = |levels| {
        let (open, close) = ("(".repeat(levels), ")".repeat(levels));
        format!("@id(\"deep\") permit (principal, action, resource) when {{ {open}true{close} }};")
    };
    for (levels, says) in [(200, "more.cedar:1:"), (800, "nest deeper"), (100_000, "more.cedar:1:")]
    {
        write(&more, &deep(levels));
        let refusal = installation.run("ops", &["policy", "reload"], b"");
        assert_eq!(ended(&refusal), refused(2, "POLICY_INVALID"));
        assert!(text(&refusal.stderr).contains(says), "{}", text(&refusal.stderr));
        assert_eq!(ended(&check()), refused(2, "POLICY_INVALID"));
    }
    std::fs::remove_file(&more).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &more, rustix::fs::Mode::RUSR).unwrap();
    let refusal = installation.run("ops", &["policy", "reload"], b"");
    assert_eq!(ended(&refusal), refused(2, "POLICY_INVALID"));
    let said = text(&refusal.stderr);
    assert!(said.contains("more.cedar: ") && said.contains("not a regular file"), "{said}");
    assert_eq!(ended(&check()), refused(2, "POLICY_INVALID"));
    std::fs::remove_file(&more).unwrap();
    installation.ok("ops", &["policy", "reload"], b"");
    assert_eq!(installation.stop(), 0);
}

/// The log line of a sidecar that says this of a reload.
fn reload_line(line: &str, event: &str) -> Option<Value> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["event"] == event).then_some(line)
}

#[test]
fn a_hangup_reloads_too_and_a_bad_file_is_told_in_the_log_lines() {
    let mut installation = Installation::with_key();
    let sealed = installation.ok("app", &place("encrypt", &[]), b"x");
    let before = installation.digest();
    let good = std::fs::read_to_string(installation.rules()).unwrap();
    let (mut running, mut lines) = installation.sidecar.take().unwrap();

    write(
        &installation.rules(),
        &good.replace("@id(\"app-decrypt\")\npermit", "@id(\"app-decrypt\")\npermits"),
    );
    running.signal(Signal::HUP);
    let told = lines.wait(|line| reload_line(line, "policy_problem"));
    let line = 1 + good.lines().position(|line| line == "@id(\"app-decrypt\")").unwrap() + 1;
    assert!(told.to_string().contains(&format!("roles.cedar:{line}:1")), "{told}");
    lines.wait(|line| reload_line(line, "policy_not_reloaded"));
    assert_eq!(installation.digest(), before);
    assert_eq!(installation.ok("app", &place("decrypt", &[]), &sealed), b"x");

    let (head, tail) = good.split_once("@id(\"app-decrypt\")").unwrap();
    let (_, tail) = tail.split_once(";\n").unwrap();
    write(&installation.rules(), &format!("{head}{tail}"));
    running.signal(Signal::HUP);
    let told = lines.wait(|line| reload_line(line, "policy_reloaded"));
    let denied = installation.run("app", &place("decrypt", &[]), &sealed);
    assert_eq!(ended(&denied), refused(4, "PERMISSION_DENIED"));
    let now = installation.digest();
    assert_eq!(told["policy_digest"], now.as_str(), "{told}");

    // The process itself did it: there is no caller.
    let found = installation.reloads();
    let who: Vec<_> = found.iter().map(|event| (&event["principal"], &event["outcome"])).collect();
    assert_eq!(who, [(&"".into(), &"OK".into()), (&"".into(), &"FAILED".into())]);
    assert_eq!(found[0]["previous_policy_digest"], before.as_str());
    assert_eq!(found[0]["policy_digest"], now.as_str());
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
    assert!(installation.verify(&installation.log()).status.success());
}
