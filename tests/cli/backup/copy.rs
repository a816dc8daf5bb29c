//! A copy of the store elsewhere: losing the disk loses nothing that was acknowledged.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::{Backed, reason};
use crate::installation::{Installation, place};
use crate::probes;
use crate::process::{event, program, text};

impl Backed {
    /// The same, with `store.copy` in `copy`.
    fn with_copy() -> Self {
        let made = Self::configured(|at| {
            std::fs::create_dir(at.path("copy")).unwrap();
            at.set("copy = \"\"", "copy = \"../copy\"");
        });
        let status = made.at.json("ops", &["status"]);
        assert_eq!(status["backup"]["copied"], true, "{status}");
        made
    }

    fn at_risk(&self) -> Value {
        self.at.json("ops", &["status"])["backup"]["data_keys_at_risk"].clone()
    }
}

/// A command on the stopped or running installation, as JSON.
fn asked(at: &Installation, command: &[&str]) -> Value {
    let mut program = program();
    program.args(["--output", "json"]).args(command).arg("--config").arg(at.config());
    let output = program.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_copy_on_the_volume_of_the_state_is_warned_of_wherever_somebody_looks() {
    let mut at = Installation::new();
    assert_eq!(asked(&at, &["config", "check"])["warnings"], serde_json::json!([]));
    std::fs::create_dir(at.path("copy")).unwrap();
    at.set("copy = \"\"", "copy = \"../copy\"");
    let checked = asked(&at, &["config", "check"]);
    assert_eq!(checked["warnings"].as_array().unwrap().len(), 1, "{checked}");
    at.serve();
    let (running, mut lines) = at.sidecar.take().unwrap();
    let said = lines.so_far();
    let warned = said.lines().filter_map(|line| event("store_copy_shares_volume", line));
    assert_eq!(warned.count(), 1, "{said}");
    at.sidecar = Some((running, lines));
    let status = at.json("ops", &["status"]);
    assert_eq!(status["backup"]["copy_shares_volume"], true, "{status}");
    assert_eq!(at.stop(), 0);
    let seen = asked(&at, &["doctor"]);
    assert_eq!(seen["findings"][0]["reason"], "STORE_COPY_SHARES_VOLUME", "{seen}");
}

#[test]
fn backup_log_and_copy_bring_back_everything_that_was_acknowledged() {
    let mut backed = Backed::with_copy();
    let mut sealed = vec![("acme".to_owned(), backed.seal("acme", "0"), "0".to_owned())];
    let backup = backed.back_up();
    for round in 1..4 {
        for tenant in ["acme", "umbrella", "initech"] {
            let (partition, value) = (format!("{tenant}-{round}"), format!("{tenant} {round}"));
            let ciphertext = backed.seal(&partition, &value);
            sealed.push((partition, ciphertext, value));
        }
        backed.at.ok("ops", &["key", "rotate", "customer-pii"], b"");
    }
    // Killed, and the disk with the state is gone, except for the log.
    let (mut running, _) = backed.at.sidecar.take().unwrap();
    running.signal(Signal::KILL);
    running.code();
    std::fs::rename(backed.at.home().join("state"), backed.at.path("lost")).unwrap();
    let name = backup.to_str().unwrap();
    let restored = backed.restored(name, &["--log", "lost/audit", "--copy", "copy"]);
    assert_eq!((&restored["lost_data_keys"], &restored["lost_versions"]), (&0.into(), &0.into()));
    assert!(restored["copied"].as_u64().unwrap() >= 14, "{restored}");
    backed.at.serve();
    assert_eq!(sealed.len(), 10);
    for (partition, ciphertext, value) in &sealed {
        assert_eq!(backed.open(partition, ciphertext).as_ref(), Ok(value), "{partition}");
    }
    // The next life has a copy of its own; the one before is kept.
    let kept = Path::new(&backed.at.path("copy")).join("store.incarnation-1.copy");
    assert!(kept.is_file());
    let again = backed.back_up();
    let more = backed.seal("hooli", "more");
    backed.lose_to("second");
    let restored = backed
        .restored(again.to_str().unwrap(), &["--log", "second/audit", "--copy", "copy/store.copy"]);
    assert_eq!(restored["incarnation"], 3);
    backed.at.serve();
    assert_eq!(backed.open("hooli", &more).as_deref(), Ok("more"));
}

#[test]
fn without_the_copy_nothing_new_is_sealed_and_what_is_sealed_still_opens() {
    let backed = Backed::with_copy();
    let sealed = backed.seal("acme", "value");
    let (copy, away) = (backed.at.path("copy"), backed.at.path("away"));
    std::fs::rename(&copy, &away).unwrap();
    let refused = backed.at.run("app", &place("encrypt", &["--partition", "new"]), b"x");
    assert!(text(&refused.stderr).contains("STORE_COPY_UNAVAILABLE"), "{}", text(&refused.stderr));
    assert_eq!(backed.open("acme", &sealed).as_deref(), Ok("value"));
    // A value under a data key that is there needs no change.
    let more = backed.seal("acme", "more");
    assert_eq!(backed.open("acme", &more).as_deref(), Ok("more"));
    let status = backed.at.json("ops", &["status"]);
    assert_ne!(status["backup"]["copy_trouble"], "", "{status}");
    std::fs::rename(&away, &copy).unwrap();
    let sealed = loop {
        let again = backed.at.run("app", &place("encrypt", &["--partition", "new"]), b"x");
        if again.status.success() {
            break again.stdout;
        }
        assert!(text(&again.stderr).contains("STORE_COPY_UNAVAILABLE"));
    };
    assert_eq!(backed.open("new", &sealed).as_deref(), Ok("x"));
}

#[test]
fn a_copy_of_another_installation_or_that_is_altered_is_refused() {
    let mut backed = Backed::with_copy();
    backed.seal("acme", "value");
    let backup = backed.back_up();
    for partition in ["a", "b", "c"] {
        backed.seal(partition, "value");
    }
    backed.lose();
    let other = Backed::with_copy();
    let foreign = other.at.path("copy");
    let name = backup.to_str().unwrap();
    let refused = backed.restore(name, &["--log", "lost/audit", "--copy", &foreign]);
    assert_eq!(reason(&refused), "STORE_COPY_FOREIGN");
    let path = Path::new(&backed.at.path("copy")).join("store.copy");
    let whole = std::fs::read(&path).unwrap();
    let (mut refused, mut told) = (0, 0);
    for part in 0..24 {
        let mut bytes = whole.clone();
        let at = part * (whole.len() - 1) / 23;
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        let output = backed.restore(name, &["--log", "lost/audit", "--copy", "copy", "--dry-run"]);
        if output.status.success() {
            // Only the end may be missing, and that is said, with what it costs.
            let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
            let (copied, revision) = (shown["copied"].as_u64(), shown["revision"].as_u64());
            assert!(shown["copy_torn"] == true && copied < revision, "{at}: {shown}");
            told += 1;
        } else {
            assert_eq!(reason(&output), "STORE_COPY_ALTERED", "{at}");
            refused += 1;
        }
    }
    assert!(refused > 12 && told > 0, "{refused} {told}");
    // A sidecar does not write over another installation's copy either.
    drop(other);
    std::fs::write(&path, whole).unwrap();
    let mut next = Installation::new();
    next.set("copy = \"\"", &format!("copy = {:?}", backed.at.path("copy")));
    let served = next.serve_command().output().unwrap();
    assert_eq!(served.status.code(), Some(6));
    assert!(text(&served.stderr).contains("STORE_COPY_FOREIGN"), "{}", text(&served.stderr));
    next.sidecar = None;
}

#[test]
fn without_a_copy_the_data_keys_that_are_in_no_backup_are_counted() {
    let mut backed = Backed::new();
    assert_eq!(backed.at_risk(), 0);
    backed.seal("a", "value");
    backed.seal("b", "value");
    backed.seal("b", "again");
    assert_eq!(backed.at_risk(), 2);
    backed.back_up();
    assert_eq!(backed.at_risk(), 0);
    backed.seal("c", "value");
    assert_eq!(backed.at_risk(), 1);
    assert_eq!(backed.at.stop(), 0);
    backed.at.serve();
    // What was there before is counted beside the calls.
    assert!((0..200).any(|_| backed.at_risk() == 1), "{}", backed.at_risk());
    let metrics = probes::scrape(&backed.at);
    assert_eq!(probes::sample(&metrics, "fieldseal_data_keys_at_risk"), Some(1.0));
    assert_eq!(probes::sample(&metrics, "fieldseal_backup_failed"), Some(0.0));
    assert!(probes::sample(&metrics, "fieldseal_backup_age_seconds").is_some());
}
