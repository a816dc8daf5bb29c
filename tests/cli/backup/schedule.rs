//! The schedule of the configuration, with the real server: a backup is made when it is due, and before
//! it those go that are over, each on record.

use std::sync::Arc;
use std::time::Duration;

use fieldseal_engine::backup::Keep;
use fieldseal_model::{Clock as _, ManualClock, SystemClock, Timestamp};
use fieldseal_server::Config;
use serde_json::Value;

use super::{Backed, reason};
use crate::installation::Installation;
use crate::process::{ended, event, refused};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// None is the first of anything that is kept: over after two days.
const SHORT: Keep = Keep { daily: 0, weekly: 0, monthly: 0 };

/// Makes a backup of the stopped installation on each of these days before today, as its schedule
/// would have: by a process whose clock was there. Returns their names.
fn made(at: &Installation, keep: Keep, days_ago: &[u32]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config::load(&at.config()).unwrap();
        let provider = fieldseal_server::provider(&config).await.unwrap();
        let keyring = fieldseal_server::open_with(&config, provider).await.unwrap();
        let mut settings = fieldseal_server::engine_settings(&config);
        settings.backup.as_mut().unwrap().keep = keep;
        let then = |days: u32| {
            let back = DAY * days;
            let nanos = SystemClock.now().unix_nanos() - i64::try_from(back.as_nanos()).unwrap();
            Timestamp::from_unix_nanos(nanos)
        };
        let clock = Arc::new(ManualClock::at(then(days_ago[0])));
        let installation = fieldseal_engine::Installation::new(settings, keyring);
        let engine = installation.start(clock.clone()).await.unwrap();
        let mut names = Vec::new();
        for days in days_ago {
            clock.advance(then(*days).since(clock.now()));
            names.push(engine.create_scheduled_backup().await.unwrap().manifest.name);
        }
        engine.stop().await.unwrap();
        names
    })
}

impl Backed {
    /// The names in this directory, the oldest first.
    fn names(&self, directory: &str) -> Vec<String> {
        let listed = self.ok(&["list", "--dir", directory]);
        let all = listed["backups"].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The records of what was pruned, the oldest first: by whom, by which rule and what.
    fn pruned(&self) -> Vec<[String; 3]> {
        let list = ["audit", "list", "--action", "PruneBackups", "--oldest-first"];
        let listed = self.at.json("auditor", &list);
        let done = listed["audit_events"].as_array().unwrap().iter();
        let done = done.filter(|event| event["kind"] == "BACKUP_PRUNED");
        let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
        done.map(|e| [text(e, "principal"), text(e, "policy_rule"), text(e, "note")]).collect()
    }
}

fn note(name: &str) -> String {
    format!("removed {name}: its time is over")
}

#[test]
fn the_schedule_makes_what_is_due_and_prunes_what_is_over_but_never_the_newest() {
    let mut at = Backed::stopped();
    // Kept for 30 days: the oldest, and not over.
    let kept = made(&at, Keep { daily: 30, ..SHORT }, &[12]).remove(0);
    // All of these are over, the newest too.
    let over = made(&at, SHORT, &[10, 9, 8]);
    at.set("schedule_hours = 0", "schedule_hours = 1");
    at.serve();
    let (running, mut lines) = at.sidecar.take().unwrap();
    let new = lines.wait(|line| event("backup_created", line));
    let new = new["name"].as_str().unwrap().to_owned();
    let said = lines.so_far();
    let gone: Vec<_> = said.lines().filter_map(|line| event("backup_pruned", line)).collect();
    assert_eq!(gone.iter().map(|line| &line["name"]).collect::<Vec<_>>(), [&over[0], &over[1]]);
    at.sidecar = Some((running, lines));
    let backed = Backed { at };
    let directory = backed.at.path("backups");
    // The newest of those was the only one of the last week when it was looked at: it stays.
    assert_eq!(backed.names(&directory), [kept.clone(), over[2].clone(), new.clone()]);
    let by_schedule = |name: &String| [String::new(), "schedule".to_owned(), note(name)];
    assert_eq!(backed.pruned(), [by_schedule(&over[0]), by_schedule(&over[1])]);
    let status = backed.at.json("ops", &["status"]);
    assert!(status["backup"]["newest"].as_str().is_some(), "{status}");

    // By hand it goes through the running sidecar, and only there.
    let config = backed.at.config();
    let offline = backed.backup(&["prune", "--config", config.to_str().unwrap()]);
    assert_eq!(reason(&{ offline }.output().unwrap()), "STORE_LOCKED");
    let denied = backed.at.run("app", &["backup", "prune", "--dry-run"], b"");
    assert_eq!(ended(&denied), refused(4, "PERMISSION_DENIED"));
    let look = backed.at.json("ops", &["backup", "prune", "--dry-run"]);
    assert_eq!(look["removed"], serde_json::json!([over[2]]));
    assert_eq!(backed.names(&directory).len(), 3);
    let done = backed.at.json("ops", &["backup", "prune", "--ticket", "OPS-7"]);
    assert_eq!((&done["removed"], &done["kept"]), (&look["removed"], &look["kept"]));
    assert!(done["events"][0].as_str().unwrap().starts_with("logs/"), "{done}");
    assert_eq!(backed.names(&directory), [kept, new]);
    let by_hand = &backed.pruned()[2];
    assert!(by_hand[0].ends_with("/ops") && by_hand[1] == "operator-manage", "{by_hand:?}");
    assert_eq!(by_hand[2], note(&over[2]));
}

#[test]
fn a_stopped_installation_is_pruned_on_record_as_its_owner_and_its_newest_backup_stays() {
    let at = Backed::stopped();
    let over = made(&at, SHORT, &[10, 9, 8, 7, 6]);
    let mut backed = Backed { at };
    let (config, directory) = (backed.at.config(), backed.at.path("backups"));
    let prune = ["prune", "--config", config.to_str().unwrap()];
    // Four at once: by the name of their directory only.
    let refused = backed.backup(&prune).output().unwrap();
    assert_eq!(reason(&refused), "CONFIRMATION_REQUIRED");
    assert_eq!(backed.names(&directory), over);
    // Whoever only keeps backups has no log, and says so.
    let elsewhere = backed.at.path("elsewhere");
    let copied = std::process::Command::new("cp").args(["-a", &directory, &elsewhere]).status();
    assert!(copied.unwrap().success());
    let key = backed.at.log().join("log.pub");
    let there = ["prune", "--dir", &elsewhere, "--public-key", key.to_str().unwrap()];
    let there = backed.ok(&[&there[..], &["--confirm", "elsewhere"]].concat());
    assert_eq!(there["events"], serde_json::json!([null, null, null, null]));
    assert_eq!(backed.names(&elsewhere), over[4..]);

    let done = backed.ok(&[&prune[..], &["--confirm", "backups"]].concat());
    assert_eq!(done["removed"], serde_json::json!(over[..4]));
    assert_eq!(backed.names(&directory), over[4..]);
    assert_eq!(backed.ok(&prune)["removed"], serde_json::json!([]));
    backed.at.serve();
    let uid = rustix::process::getuid().as_raw();
    let by = |name| [format!("local:{uid}"), "backup-offline".to_owned(), note(name)];
    assert_eq!(backed.pruned(), over[..4].iter().map(|name| by(name)).collect::<Vec<_>>());
}
