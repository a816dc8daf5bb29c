//! Key versions and settings, as operators change them while others are at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fieldseal_api::v1;
use fieldseal_client::{Client, Failure};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::installation::{Installation, place};
use crate::process::{PATIENCE, text};
use crate::terminal::Person;
use crate::trouble::block_on;

const FIRST: &str = "keys/customer-pii/versions/1";
const CALLERS: usize = 64;
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 5;
/// So many calls must have opened the value before each disable, and been refused after it.
const CALLS: u32 = 320;

fn decrypt(sealed: &[u8]) -> v1::DecryptRequest {
    let field = v1::Field {
        key: "keys/customer-pii".into(),
        table: "users".into(),
        column: "email".into(),
        ..Default::default()
    };
    let ciphertext = sealed.to_vec().into();
    v1::DecryptRequest { field: Some(field), ciphertext, ..Default::default() }
}

/// What the callers have seen.
struct Seen {
    opened: Semaphore,
    refused: Semaphore,
    over: AtomicBool,
}

/// Decrypts without pause; when the calls began and ended that opened the value.
async fn caller(client: Client, sealed: Vec<u8>, seen: Arc<Seen>) -> Vec<[Instant; 2]> {
    let (request, mut client) = (decrypt(&sealed), client.encryption());
    let mut opened = Vec::new();
    while !seen.over.load(Ordering::Relaxed) {
        let began = Instant::now();
        match client.decrypt(request.clone()).await {
            Ok(_) => {
                opened.push([began, Instant::now()]);
                seen.opened.add_permits(1);
            }
            Err(status) => {
                assert_eq!(Failure::from(&status).reason(), "KEY_VERSION_DISABLED");
                seen.refused.add_permits(1);
            }
        }
    }
    opened
}

/// Waits until so many more calls have ended so.
async fn calls(of: &Semaphore) {
    // What was counted before does not count.
    of.forget_permits(usize::MAX >> 3);
    let enough = tokio::time::timeout(PATIENCE, of.acquire_many(CALLS)).await;
    enough.expect("too few calls").unwrap().forget();
}

#[test]
fn nobody_opens_a_value_in_a_call_that_began_after_a_disable_was_acknowledged() {
    let installation = Installation::with_key();
    let sealed = installation.json("app", &place("encrypt", &[]));
    let sealed = sealed["ciphertext"].as_str().unwrap().as_bytes().to_vec();
    installation.ok("ops", &["key", "rotate", "customer-pii"], b"");
    block_on(async {
        let ops = installation.client("ops").await;
        let seen = Arc::new(Seen {
            opened: Semaphore::new(0),
            refused: Semaphore::new(0),
            over: AtomicBool::new(false),
        });
        let mut callers = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = installation.client("app").await;
            for _ in 0..CALLERS / CONNECTIONS {
                let call = caller(client.clone(), sealed.clone(), Arc::clone(&seen));
                callers.push(tokio::spawn(call));
            }
        }
        let mut disabled = Vec::new();
        for _ in 0..ROUNDS {
            calls(&seen.opened).await;
            let name = FIRST.to_owned();
            let request = v1::DisableKeyVersionRequest { name, ..Default::default() };
            ops.keys().disable_key_version(request).await.unwrap();
            let acknowledged = Instant::now();
            calls(&seen.refused).await;
            disabled.push((acknowledged, Instant::now()));
            let request =
                v1::EnableKeyVersionRequest { name: FIRST.to_owned(), ..Default::default() };
            ops.keys().enable_key_version(request).await.unwrap();
        }
        calls(&seen.opened).await;
        seen.over.store(true, Ordering::Relaxed);
        let mut opened = Vec::new();
        for caller in callers {
            opened.extend(caller.await.unwrap());
        }
        assert!(opened.len() > ROUNDS * CALLS as usize, "{}", opened.len());
        for (acknowledged, enabling) in disabled {
            // One that began then and ended later may have met the version enabled again.
            let late =
                |[began, ended]: &&[Instant; 2]| *began >= acknowledged && *ended <= enabling;
            let late = opened.iter().filter(late).count();
            assert_eq!(late, 0, "calls that began after the acknowledgement opened the value");
        }
    });
}

/// A command of the operator that must be refused: its exit code and reason.
fn refused(installation: &Installation, arguments: &[&str]) -> (i32, String) {
    let all = [&["--output", "json"], arguments].concat();
    let output = installation.run("ops", &all, b"");
    let failure: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let reason = failure["error"]["reason"].as_str().unwrap_or_else(|| panic!("{failure}"));
    (output.status.code().unwrap(), reason.to_owned())
}

fn states(installation: &Installation) -> Vec<String> {
    let shown = installation.json("ops", &["key", "show", "customer-pii"]);
    let versions = shown["key"]["versions"].as_array().unwrap().iter();
    versions.map(|version| version["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_version_is_disabled_enabled_and_scheduled_and_the_question_must_be_answered() {
    let installation = Installation::with_key();
    let key = |verb: &'static str, more: &[&'static str]| {
        [&["key", verb, "customer-pii", "--version", "1"], more].concat()
    };
    let sealed = installation.ok("app", &place("encrypt", &[]), b"ada@example.com");
    assert_eq!(refused(&installation, &key("disable", &[])), (6, "KEY_VERSION_IS_PRIMARY".into()));
    installation.ok("ops", &["key", "rotate", "customer-pii"], b"");
    let dry = installation.json("ops", &key("disable", &["--validate-only"]));
    assert_eq!((&dry["valid"], states(&installation)[0].as_str()), (&true.into(), "ENABLED"));
    let disabled = installation.json("ops", &key("disable", &["--ticket", "CASE-1"]));
    assert_eq!(disabled["key_version"]["state"], "DISABLED");
    assert!(disabled["event"].as_str().unwrap().starts_with("logs/main/events/"));
    let output = installation.run("app", &place("decrypt", &[]), &sealed);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    let wrong = (6, "KEY_VERSION_STATE_WRONG".into());
    assert_eq!(refused(&installation, &key("restore", &[])), wrong);
    installation.ok("ops", &key("enable", &[]), b"");
    installation.ok("app", &place("decrypt", &[]), &sealed);

    // One data key would be lost; nobody is asked before its number is repeated.
    let would = (6, "DATA_KEYS_WOULD_BE_LOST".into());
    assert_eq!(refused(&installation, &key("schedule-destroy", &[])), would);
    let lost = ["--data-keys-lost", "1"];
    let destroy = |more: &[&'static str]| key("schedule-destroy", &[&lost[..], more].concat());
    let said = text(&installation.ok("ops", &destroy(&["--validate-only"]), b""));
    assert!(said.contains("1 data key would be lost for good with it at 20"), "{said}");
    let dry = installation.json("ops", &destroy(&["--validate-only"]));
    assert_eq!(dry["key_version"]["state"], "DESTROY_SCHEDULED");
    let refused_with = |more| refused(&installation, &destroy(more));
    assert_eq!(refused_with(&[]), (2, "CONFIRMATION_REQUIRED".into()));
    assert_eq!(refused_with(&["--confirm", "customer"]), (2, "CONFIRMATION_REQUIRED".into()));
    assert_eq!(states(&installation), ["ENABLED", "ENABLED"]);
    let scheduled = installation.json("ops", &destroy(&["--confirm", "customer-pii"]));
    assert!(scheduled["key_version"]["destroy_time"].is_string(), "{scheduled}");
    let shown = text(&installation.ok("ops", &["key", "show", "customer-pii"], b""));
    assert!(shown.contains("DESTROY_SCHEDULED") && shown.contains("due 20"), "{shown}");
    installation.ok("ops", &key("restore", &[]), b"");
    assert_eq!(states(&installation), ["DISABLED", "ENABLED"]);
    let kinds = installation.json("auditor", &["audit", "list"]);
    for kind in ["VERSION_DISABLED", "VERSION_DESTROY_SCHEDULED", "VERSION_RESTORED"] {
        assert!(kinds.to_string().contains(kind), "{kind}: {kinds}");
    }
}

#[test]
fn a_person_at_a_terminal_is_asked_for_the_name() {
    let installation = Installation::with_key();
    installation.ok("ops", &["key", "rotate", "customer-pii"], b"");
    let destroy = ["key", "schedule-destroy", "customer-pii", "--version", "1"];
    for (answer, code) in [("yes", 2), ("", 2), ("customer-pii", 0)] {
        let mut person = Person::new();
        let running = person.run(&mut installation.command("ops", &destroy));
        person.answers(
            "destroyed for good when its window is over; no data key is lost with it.",
            "",
        );
        person.answers("Type customer-pii to go on: ", &format!("{answer}\n"));
        if code == 2 {
            person.answers("CONFIRMATION_REQUIRED", "");
            assert_eq!(states(&installation), ["ENABLED", "ENABLED"]);
        }
        assert_eq!(running.output().status.code(), Some(code), "{answer:?}");
    }
    assert_eq!(states(&installation), ["DESTROY_SCHEDULED", "ENABLED"]);
}

#[test]
fn settings_are_given_changed_and_shown() {
    let installation = Installation::served();
    let create = ["key", "create", "orders", "--rotation-period", "off", "--destroy-window", "2d"];
    let more = ["--seal-limit", "1048576", "--label", "team=billing", "--log-encrypts"];
    let suites = ["--suites", "1"];
    installation.ok("ops", &[&create[..], &more, &suites].concat(), b"");
    let shown = installation.json("ops", &["key", "show", "orders"]);
    let key = &shown["key"];
    assert_eq!(key["rotation_period_seconds"], 0);
    assert!(key["next_rotation_time"].is_null());
    assert_eq!(key["destroy_window_seconds"], 2 * 24 * 3600);
    assert_eq!(key["data_key_lifetime_seconds"], 90 * 24 * 3600);
    assert_eq!((&key["seal_limit"], &key["suites"]), (&1_048_576.into(), &json!([1])));
    assert_eq!((&key["log_encrypts"], &key["labels"]["team"]), (&true.into(), &"billing".into()));

    let etag = key["etag"].as_str().unwrap();
    let update =
        ["key", "update", "orders", "--rotation-period", "30d", "--require", "row,purpose"];
    let first = [&update[..], &["--etag", etag]].concat();
    installation.ok("ops", &first, b"");
    assert_eq!(refused(&installation, &first), (6, "ETAG_MISMATCH".into()));
    let shown = text(&installation.ok("ops", &["key", "show", "orders"], b""));
    let suites = installation.ok("ops", &["key", "update", "orders", "--suites", "1"], b"");
    assert_eq!(text(&suites).trim(), "set suites of keys/orders");
    for part in ["every 30d, next 20", "row, purpose", "team=billing", "destroy window  2d"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    installation.ok(
        "ops",
        &["key", "update", "orders", "--require", "nothing", "--no-labels"],
        b"",
    );
    let shown = installation.json("ops", &["key", "show", "orders"]);
    assert_eq!(
        (&shown["key"]["row_required"], &shown["key"]["labels"]),
        (&false.into(), &json!({}))
    );
    for (more, reason) in [
        (&[][..], "UPDATE_MASK_INVALID"),
        (&["--rotation-period", "1h"], "SETTING_INVALID"),
        (&["--data-key-lifetime", "59m"], "SETTING_INVALID"),
        (&["--seal-limit", "1000"], "SETTING_INVALID"),
        (&["--label", "Team=x"], "LABEL_INVALID"),
        (&["--suites", "2"], "SETTING_INVALID"),
        (&["--suites", "1,2"], "SETTING_INVALID"),
    ] {
        let all = [&["key", "update", "orders"], more].concat();
        assert_eq!(refused(&installation, &all), (2, reason.to_owned()), "{more:?}");
    }
    let short = ["key", "create", "short", "--destroy-window", "23h"];
    assert_eq!(refused(&installation, &short), (2, "SETTING_INVALID".into()));
}

#[test]
fn the_runbook_s_commands_for_keys_do_what_it_says() {
    let installation = Installation::with_key();
    let sealed = installation.ok("app", &place("encrypt", &[]), b"ada@example.com");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = std::fs::read_to_string(path).unwrap();
    let follow = |heading: &str, count: usize| {
        let (_, rest) = document.split_once(&format!("\n### {heading}\n")).expect("the heading");
        let (_, block) = rest.split_once("\n```sh\n").unwrap();
        let (block, _) = block.split_once("\n```\n").unwrap();
        let commands = block.lines().filter_map(|line| line.strip_prefix("fieldseal "));
        let commands: Vec<Vec<&str>> = commands.map(|line| line.split(' ').collect()).collect();
        assert_eq!(commands.len(), count, "{heading}");
        commands.iter().map(|command| installation.ok("ops", command, b"")).collect::<Vec<_>>()
    };
    let opens = || installation.run("app", &place("decrypt", &[]), &sealed).status.code();
    let rotated = follow("Rotate a key", 3);
    assert!(text(&rotated[2]).contains("every 90d"), "{}", text(&rotated[2]));
    follow("Someone left with a copy of a key", 3);
    assert_eq!(states(&installation), ["ENABLED", "ENABLED", "ENABLED"]);
    assert_eq!(opens(), Some(0));
    let destroyed = follow("Destroy a key version", 4);
    assert!(text(&destroyed[2]).contains("DESTROY_SCHEDULED"), "{}", text(&destroyed[2]));
    assert_eq!(states(&installation), ["DISABLED", "ENABLED", "ENABLED"]);
    assert_eq!(opens(), Some(6));
}
