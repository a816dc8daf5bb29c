//! A backup that is older than the archived part of the log.

use std::path::Path;

use super::{Backed, reason};
use crate::archiving;
use crate::process::text;

/// Moves what the log has up to now to the archive; the record with which the log begins then.
fn archive(backed: &Backed) -> u64 {
    let i = &backed.at;
    // The segment in which something is erased ends with that.
    i.ok("ops", &["audit", "redact", "--partition", "gone", "--confirm", "gone"], b"");
    i.json("auditor", &["audit", "list", "--limit", "1"]);
    let newest = i.json("auditor", &["audit", "list", "--limit", "1"]);
    let now = newest["audit_events"][0]["event_time"].as_str().unwrap().to_owned();
    let done = i.json("ops", &["audit", "archive", "--before", &now]);
    done["end_index"].as_u64().unwrap()
}

fn copy_segments(from: &Path, to: &Path) {
    for path in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|e| e == "log") {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_backup_that_is_older_than_the_archived_records_is_restored_with_them() {
    let mut backed = Backed::configured(archiving::configure);
    let kept = backed.seal("kept", "kept");
    let gone = backed.seal("gone", "gone");
    backed.open("gone", &gone).unwrap();
    let older = backed.back_up();
    let shred = ["key", "shred", "customer-pii", "--confirm", "customer-pii", "--partition"];
    backed.at.ok("ops", &[&shred[..], &["gone"]].concat(), b"");
    let end = archive(&backed);
    let newer = backed.back_up();
    assert!(end > 0);
    backed.lose();
    let (older, newer) = (older.to_str().unwrap(), newer.to_str().unwrap());
    // What it needs is in the archive, and is not done without.
    let refused = backed.restore(older, &["--log", "lost/audit"]);
    assert_eq!(reason(&refused), "RESTORE_LOG_ARCHIVED", "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains(&format!("before {end}")), "{}", text(&refused.stderr));
    assert!(!backed.at.home().join("state").exists());
    // A newer one needs nothing of it.
    backed.restored(newer, &["--log", "lost/audit", "--dry-run"]);
    // The segments may be put back by hand.
    let lost = Path::new(&backed.at.path("lost")).join("audit");
    copy_segments(&backed.at.home().join("archive"), &lost);
    let restored = backed.restored(older, &["--log", "lost/audit"]);
    assert_eq!(restored["applied"], 1);
    backed.at.serve();
    assert_eq!(backed.open("kept", &kept).as_deref(), Ok("kept"));
    assert_eq!(backed.open("gone", &gone), Err("PARTITION_SHREDDED".to_owned()));
    // It goes on from there, and what is archived already moves again.
    assert!(archive(&backed) > end);
}

#[test]
fn a_copy_whose_history_is_archived_is_no_other_logs() {
    let mut backed = Backed::configured(|at| {
        archiving::configure(at);
        std::fs::create_dir(at.path("copy")).unwrap();
        at.set("copy = \"\"", "copy = \"../copy\"");
    });
    let kept = backed.seal("kept", "kept");
    let gone = backed.seal("gone", "gone");
    backed.open("gone", &gone).unwrap();
    let backup = backed.back_up();
    archive(&backed);
    // Killed: an orderly stop may have changes to make.
    let (mut running, _) = backed.at.sidecar.take().unwrap();
    running.kill();
    drop(running);
    std::fs::rename(backed.at.home().join("state"), backed.at.path("lost")).unwrap();
    let changes = |log: &Path| {
        let bytes = std::fs::read(log).unwrap();
        bytes.windows(12).filter(|bytes| bytes == b"customer-pii").count()
    };
    let lost = Path::new(&backed.at.path("lost")).join("audit");
    let segments = std::fs::read_dir(&lost).unwrap().map(|entry| entry.unwrap().path());
    let segments = segments.filter(|path| path.extension().is_some_and(|e| e == "log"));
    assert!(segments.map(|path| changes(&path)).sum::<usize>() == 0, "nothing of a key is here");
    let more = ["--log", "lost/audit", "--copy", "copy"];
    let name = backup.to_str().unwrap();
    assert_eq!(reason(&backed.restore(name, &more)), "RESTORE_LOG_ARCHIVED");
    copy_segments(&backed.at.home().join("archive"), &lost);
    assert_eq!(backed.restored(name, &more)["lost_data_keys"], 0);
    backed.at.serve();
    assert_eq!(backed.open("kept", &kept).as_deref(), Ok("kept"));
}
