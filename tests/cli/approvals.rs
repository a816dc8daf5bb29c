//! What cannot be taken back waits for a second principal: through the command line, over mutual TLS.

use serde_json::Value;

use crate::installation::{Installation, place};
use crate::policy::write;
use crate::process::{ended, refused, text};

const SHRED: [&str; 7] =
    ["key", "shred", "customer-pii", "--partition", PERSON, "--confirm", "customer-pii"];
const ALL: &str = "[\"destroy\", \"shred\", \"redact\", \"archive\"]";
/// Nothing that hexadecimal digits could spell.
const PERSON: &str = "tenant-ada";
const SECRET: &str = "ada@example.com";

/// Where the auditor is an operator and redacts too, and every kind of change waits.
fn installation() -> Installation {
    let mut installation = Installation::new();
    installation.set("require_approval = []", &format!("require_approval = {ALL}"));
    let members = installation.home().join("policy/members.toml");
    let text = std::fs::read_to_string(&members).unwrap();
    let more = "operator = [\n    \"spiffe://dev.local/auditor\",\n";
    let text = text.replacen("operator = [\n", more, 1);
    write(&members, &text.replacen("privacy = [\n", &more.replace("operator", "privacy"), 1));
    installation.serve();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    installation
}

impl Installation {
    /// Has a change wait, and says under which id.
    fn waits(&self, arguments: &[&str]) -> String {
        let output = self.run("ops", arguments, b"");
        assert_eq!(ended(&output), refused(6, "APPROVAL_REQUIRED"));
        let said = text(&output.stderr);
        let id = said.split("approvals/").nth(1).unwrap()[..16].to_owned();
        assert!(said.contains(&format!("fieldseal approval approve {id}")), "{said}");
        assert!(said.contains("record  logs/"), "{said}");
        id
    }

    fn approve(&self, caller: &str, id: &str, more: &[&str]) -> (i32, String) {
        let command = ["approval", "approve", id, "--confirm", "customer-pii"];
        ended(&self.run(caller, &[&command[..], more].concat(), b""))
    }

    fn of_kind(&self, action: &str, kind: &str) -> Vec<Value> {
        let listed = self.json("auditor", &["audit", "list", "--action", action]);
        let events = listed["audit_events"].as_array().unwrap().iter();
        events.filter(|event| event["kind"] == kind).cloned().collect()
    }
}

#[test]
fn a_shred_waits_is_refused_to_its_requester_and_done_by_another_after_a_restart() {
    let mut at = installation();
    let seal = place("encrypt", &["--row", "1", "--partition", PERSON]);
    let sealed = at.ok("app", &seal, SECRET.as_bytes());
    let open = place("decrypt", &["--row", "1", "--partition", PERSON]);
    let nothing = at.ok("auditor", &["approval", "list"], b"");
    assert_eq!(text(&nothing), "nothing waits for a second principal\n");
    let id = at.waits(&SHRED);
    assert_eq!(at.waits(&SHRED), id, "it waits once");
    assert_eq!(at.ok("app", &open, &sealed), SECRET.as_bytes());

    // Whoever asked cannot, and neither can the same name under another authority's certificate.
    assert_eq!(at.approve("ops", &id, &[]), refused(4, "APPROVAL_OWN"));
    assert_eq!(at.stop(), 0);
    let other = Installation::new();
    let ca = at.home().join("tls/ca.pem");
    let both =
        [std::fs::read(&ca).unwrap(), std::fs::read(other.home().join("tls/ca.pem")).unwrap()];
    std::fs::write(&ca, both.concat()).unwrap();
    at.serve();
    let mut again = at.command("ops", &["approval", "approve", &id, "--confirm", "customer-pii"]);
    again.env("FIELDSEAL_CLIENT_CERT", other.home().join("tls/ops.pem"));
    again.env("FIELDSEAL_CLIENT_KEY", other.home().join("tls/ops.key"));
    assert_eq!(ended(&again.output().unwrap()), refused(4, "APPROVAL_OWN"));
    assert_eq!(at.approve("app", &id, &[]), refused(4, "PERMISSION_DENIED"));

    // The list names no person; what is approved is shown in full.
    let listed = text(&at.ok("auditor", &["approval", "list"], b""));
    assert!(
        listed.contains(&id) && listed.contains("pending") && !listed.contains(PERSON),
        "{listed}"
    );
    let shown = at.json("auditor", &["approval", "show", &id]);
    assert_eq!((&shown["partition"], &shown["state"]), (&PERSON.into(), &"pending".into()));
    assert_eq!(shown["requester"], "spiffe://dev.local/ops");
    assert_eq!(at.approve("auditor", &id, &["--etag", "00"]), refused(6, "APPROVAL_ALTERED"));
    let unconfirmed = at.run("auditor", &["approval", "approve", &id], b"");
    assert_eq!(ended(&unconfirmed), refused(2, "CONFIRMATION_REQUIRED"));
    let etag = shown["etag"].as_str().unwrap();
    let approve = ["--etag", etag, "--ticket", "CHG-7"];
    assert_eq!(at.approve("auditor", &id, &approve), (0, String::new()));
    assert_eq!(ended(&at.run("app", &open, &sealed)), refused(6, "PARTITION_SHREDDED"));
    assert_eq!(at.approve("auditor", &id, &approve), refused(6, "APPROVAL_CLOSED"));

    let done = &at.of_kind("ShredPartition", "PARTITION_SHREDDED")[0];
    assert_eq!(done["principal"], "spiffe://dev.local/auditor");
    let both = format!("approvals/{id}, requested by spiffe://dev.local/ops");
    assert_eq!((&done["note"], &done["ticket"]), (&both.as_str().into(), &"CHG-7".into()));
    let asked = &at.of_kind("ShredPartition", "APPROVAL_REQUESTED");
    assert_eq!((asked.len(), &asked[0]["principal"]), (1, &"spiffe://dev.local/ops".into()));
    let changes = text(&at.ok("auditor", &["audit", "changes"], b""));
    assert!(changes.contains(&both) && changes.contains("APPROVAL_REQUESTED"), "{changes}");
    assert_eq!(at.stop(), 0);
    assert!(at.verify(&at.log()).status.success());
}

#[test]
fn a_destruction_is_rejected_or_approved_and_what_can_be_taken_back_is_not_held_up() {
    let at = installation();
    at.ok("ops", &["key", "rotate", "customer-pii"], b"");
    let destroy = ["key", "schedule-destroy", "customer-pii", "--version", "1"];
    let destroy = [&destroy[..], &["--confirm", "customer-pii"]].concat();
    let id = at.waits(&destroy);
    let unknown = at.run("auditor", &["approval", "show", "0123456789abcdef"], b"");
    assert_eq!(ended(&unknown), refused(3, "APPROVAL_NOT_FOUND"));
    let malformed = at.run("auditor", &["approval", "reject", "x"], b"");
    assert_eq!(ended(&malformed), refused(2, "RESOURCE_NAME_INVALID"));
    let reject = ["approval", "reject", &id, "--purpose", "wrong key"];
    let rejected = at.json("auditor", &reject);
    assert_eq!((&rejected["state"], rejected["event"].is_string()), (&"rejected".into(), true));
    assert_eq!(ended(&at.run("auditor", &reject, b"")), refused(6, "APPROVAL_CLOSED"));
    assert_eq!(at.approve("auditor", &id, &[]), refused(6, "APPROVAL_CLOSED"));
    let record = &at.of_kind("RejectChange", "APPROVAL_REJECTED")[0];
    assert_eq!(record["principal"], "spiffe://dev.local/auditor");

    let id = at.waits(&destroy);
    at.ok("ops", &["key", "rotate", "customer-pii"], b"");
    assert_eq!(at.approve("auditor", &id, &[]), refused(6, "APPROVAL_OUTDATED"));
    let id = at.waits(&destroy);
    assert_eq!(at.approve("auditor", &id, &[]), (0, String::new()));
    let key = at.json("ops", &["key", "show", "customer-pii"]);
    assert!(key.to_string().contains("DESTROY_SCHEDULED"), "{key}");
    at.ok("ops", &["key", "restore", "customer-pii", "--version", "1"], b"");
    at.ok("ops", &["key", "enable", "customer-pii", "--version", "1"], b"");
}

#[test]
fn a_redaction_waits_is_refused_to_its_requester_and_done_by_another() {
    let at = installation();
    let seal = place("encrypt", &["--row", "1", "--partition", "heidi"]);
    let sealed = at.ok("app", &seal, SECRET.as_bytes());
    at.ok("app", &place("decrypt", &["--row", "1", "--partition", "heidi"]), &sealed);
    let why = ["--purpose", "article-17", "--ticket", "DSAR-18"];
    let redact = ["audit", "redact", "--partition", "heidi", "--confirm", "heidi"];
    let redact = [&redact[..], &why].concat();
    let would = at.json("ops", &[&redact[..], &["--validate-only"]].concat());
    let id = at.waits(&redact);
    assert_eq!(at.waits(&redact), id, "it waits once");
    let of_heidi = ["audit", "list", "--partition", "heidi"];
    let count = |of: &Value| of["audit_events"].as_array().unwrap().len();
    let before = at.json("auditor", &of_heidi);
    assert!(count(&before) > 0);

    // Whoever approves sees how much, and a token; the person's events have the same.
    for command in [&["approval", "list"][..], &["approval", "show", &id]] {
        let said = at.ok("auditor", command, b"");
        let said = text(&said);
        assert!(said.contains("erase the detail of the partition with the token "), "{said}");
        assert!(!said.contains("heidi"), "{said}");
    }
    let shown = at.json("auditor", &["approval", "show", &id]);
    let token = shown["partition_token"].as_str().unwrap();
    assert!(before.to_string().contains(token), "{token} {before}");
    for (name, value) in
        [("event_count", &would["event_count"]), ("item_count", &would["item_count"])]
    {
        assert_eq!(&shown[name], value, "{name}");
    }
    assert_eq!((&shown["key"], &shown["action"]), (&"".into(), &"RedactAuditEvents".into()));

    let decide = |caller: &str, more: &[&str]| {
        ended(&at.run(caller, &[&["approval", "approve", &id], more].concat(), b""))
    };
    assert_eq!(decide("auditor", &[]), refused(2, "CONFIRMATION_REQUIRED"));
    let confirm = ["--confirm", id.as_str()];
    assert_eq!(decide("ops", &confirm), refused(4, "APPROVAL_OWN"));
    assert_eq!(decide("app", &confirm), refused(4, "PERMISSION_DENIED"));
    let altered = [&confirm[..], &["--etag", "00"]].concat();
    assert_eq!(decide("auditor", &altered), refused(6, "APPROVAL_ALTERED"));
    let approve = [&confirm[..], &["--ticket", "CHG-8"]].concat();
    assert_eq!(decide("auditor", &approve), (0, String::new()));
    assert_eq!(decide("auditor", &approve), refused(6, "APPROVAL_CLOSED"));

    let done = &at.of_kind("RedactAuditEvents", "DETAILS_REDACTED")[0];
    let both = format!("approvals/{id}, requested by spiffe://dev.local/ops");
    assert_eq!(done["principal"], "spiffe://dev.local/auditor");
    assert_eq!((&done["note"], &done["ticket"]), (&both.as_str().into(), &"CHG-8".into()));
    let granted = &at.of_kind("RedactAuditEvents", "APPROVAL_GRANTED")[0];
    assert_eq!(granted["note"], both);
    let asked = &at.of_kind("RedactAuditEvents", "APPROVAL_REQUESTED")[0];
    assert_eq!((&asked["note"], &asked["ticket"]), (&both.as_str().into(), &"DSAR-18".into()));
    assert!(!asked.to_string().contains(token), "{asked}");
}

/// The commands of the guide, each about a request of its own.
#[test]
fn the_commands_of_the_guide_work() {
    let at = installation();
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, section) = guide.split_once("\n### A second principal\n").unwrap();
    let (settings, section) = section.split_once("\n```sh\n").unwrap();
    let config = std::fs::read_to_string(at.config()).unwrap();
    for line in settings.lines().filter(|line| line.contains(" = ")) {
        let setting = line.split('#').next().unwrap().trim();
        assert!(config.contains(setting), "{setting}");
    }
    let (block, _) = section.split_once("\n```").unwrap();
    for (hours, line) in block.lines().enumerate() {
        at.ok("app", &place("encrypt", &["--row", "1", "--partition", PERSON]), b"x");
        let hours = (24 + hours).to_string();
        let id = at.waits(&[&SHRED[..], &["--window-hours", &hours]].concat());
        let etag = at.json("auditor", &["approval", "show", &id])["etag"].to_string();
        let line = line.replace("ETAG", etag.trim_matches('"')).replace("ID", &id);
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..2], ["fieldseal", "approval"], "{line}");
        assert!(!at.ok("auditor", &words[1..], b"").is_empty(), "{line}");
        if line.contains(" approve ") {
            at.ok("ops", &["key", "unshred", "customer-pii", "--partition", PERSON], b"");
        }
    }
}
