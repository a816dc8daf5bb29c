//! Whether a log goes on from a checkpoint that was kept elsewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use std::fs;
use std::path::Path;

use fieldseal_audit::verify::{self, LogKey, Remembered, Standing};
use kit::{Log, commit, policy, stop};

fn key(log: &Log) -> LogKey {
    verify::public_key(&fs::read_to_string(log.path().join("log.pub")).unwrap()).unwrap()
}

/// Writes so many records, and remembers every checkpoint on the way.
async fn go_on(log: &Log, rows: std::ops::Range<u8>) -> Vec<Remembered> {
    let (journal, policy) = (log.open(), policy());
    let mut all = Vec::new();
    for row in rows {
        commit(&journal, &policy, row).await.unwrap();
        let checkpoint = journal.checkpoint();
        all.push(Remembered { size: checkpoint.tree_size, root: checkpoint.root });
    }
    stop(&journal).await;
    let last = verify::newest(log.path(), &key(log)).unwrap().unwrap();
    all.push(verify::remembered(&last, &key(log)).unwrap());
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_log_extends_every_checkpoint_of_its_own_and_none_of_another_history() {
    let log = Log::new(32 * 1024);
    let early = go_on(&log, 0..120).await;
    let older = log.dir.path().join("older");
    copy(log.path(), &older);
    let late = go_on(&log, 120..240).await;
    assert!(log.segments().len() >= 3, "{}", log.segments().len());
    let (now, before) = (late.last().unwrap(), early.last().unwrap());
    let key = key(&log);
    let standing = |then: &Remembered, now: &Remembered| {
        verify::standing(log.path(), &key, then, now).unwrap()
    };
    for then in early.iter().chain(&late) {
        assert_eq!(standing(then, now), Standing::Extends, "{}", then.size);
    }
    let nothing = Remembered { size: 0, root: fieldseal_audit::merkle::root([]) };
    assert_eq!(standing(&nothing, now), Standing::Extends);
    // What is on disk goes on, but the log is looked at as it was.
    assert_eq!(standing(&early[3], before), Standing::Extends);

    let other = Remembered { root: [9; 32], ..early[60].clone() };
    assert_eq!(standing(&other, now), Standing::Other);
    let size = early[60].size + 1;
    assert_eq!(standing(&Remembered { size, ..early[60].clone() }, now), Standing::Other);
    assert_eq!(standing(now, before), Standing::Shorter);
    assert_eq!(standing(&early[0], &Remembered { root: [9; 32], ..now.clone() }), Standing::Other);
    let beyond = Remembered { size: now.size + 5, ..now.clone() };
    assert_eq!(standing(&early[0], &beyond), Standing::Other, "it has not so many");

    // The older copy goes on in its own way, with the same key.
    let branch = log.dir.path().join("branch");
    fs::rename(log.path(), &branch).unwrap();
    fs::rename(&older, log.path()).unwrap();
    let own = go_on(&log, 0..130).await;
    let end = own.last().unwrap();
    assert_eq!(verify::standing(log.path(), &key, before, end).unwrap(), Standing::Extends);
    for then in &late[3..] {
        let found = verify::standing(log.path(), &key, then, end).unwrap();
        assert_ne!(found, Standing::Extends, "{}", then.size);
    }
}

#[tokio::test]
async fn a_leaf_that_was_altered_since_is_found_and_what_cannot_be_read_is_an_error() {
    let log = Log::new(32 * 1024);
    let all = go_on(&log, 0..60).await;
    let (key, now) = (key(&log), all.last().unwrap());
    let path = log.segments().remove(0);
    let good = fs::read(&path).unwrap();
    let at = good.windows(4).position(|w| w == b"FSFR").unwrap() + 200;
    let mut bad = good.clone();
    bad[at] ^= 1;
    fs::write(&path, &bad).unwrap();
    let found = verify::standing(log.path(), &key, &all[5], now).unwrap();
    assert_eq!(found, Standing::Other);
    fs::write(&path, &good).unwrap();
    assert_eq!(verify::standing(log.path(), &key, &all[5], now).unwrap(), Standing::Extends);
    fs::remove_dir_all(log.path()).unwrap();
    assert!(verify::standing(log.path(), &key, &all[5], now).is_err());
}
