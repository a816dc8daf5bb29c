//! What is no backup, or not this one, is refused, and nothing is changed.

use std::path::Path;

use super::{Backed, reason};
use crate::process::text;

/// Copies both files of a backup.
fn copy(backup: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for ending in ["age", "json"] {
        let from = backup.with_extension(ending);
        std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
}

#[test]
fn every_part_of_a_backup_that_is_cut_or_altered_is_refused() {
    let mut backed = Backed::new();
    backed.seal("acme", "value");
    let backup = backed.back_up();
    backed.lose();
    let key = backed.at.path("lost/audit/log.pub");
    let altered = Path::new(&backed.at.path("altered")).join(backup.file_name().unwrap());
    let (mut flips, mut cuts) = (0, 0);
    for ending in ["age", "json"] {
        let whole = std::fs::read(backup.with_extension(ending)).unwrap();
        // Every part of both files is met: header, frames, end; each field and the signature.
        for part in 0..24 {
            // The end of the line is nothing of the manifest.
            let at = part * (whole.len() - 2) / 23;
            for cut in [false, true] {
                copy(&backup, altered.parent().unwrap());
                let mut bytes = whole.clone();
                match cut {
                    true => bytes.truncate(at),
                    // A letter becomes another letter, white space something else.
                    false => bytes[at] ^= 0x01,
                }
                std::fs::write(altered.with_extension(ending), bytes).unwrap();
                let path = altered.to_str().unwrap();
                let verify = ["verify", path, "--public-key", &key, "--identity", "identity"];
                let output = backed.backup(&verify).output().unwrap();
                let why = reason(&output);
                let expected = ["BACKUP_ALTERED", "BACKUP_FOREIGN", "FORMAT_NEWER"];
                assert!(expected.contains(&why.as_str()), "{ending} {at} {cut}: {why}");
                if part % 6 == 0 {
                    let refused = backed.restore(path, &["--log", "lost/audit"]);
                    assert!(expected.contains(&reason(&refused).as_str()));
                    assert!(!backed.at.home().join("state").exists());
                }
                if cut { cuts += 1 } else { flips += 1 }
            }
        }
    }
    assert_eq!((flips, cuts), (48, 48));
    assert_eq!(
        backed.restored(backup.to_str().unwrap(), &["--log", "lost/audit"])["incarnation"],
        2
    );
}

#[test]
fn a_restore_is_refused_over_what_is_there_and_with_what_does_not_belong() {
    let mut backed = Backed::new();
    let sealed = backed.seal("acme", "value");
    let first = backed.back_up();
    let name = first.to_str().unwrap();
    let refused = |backed: &Backed, more: &[&str]| reason(&backed.restore(name, more));
    let log = backed.at.log();
    let log = log.to_str().unwrap();
    assert_eq!(refused(&backed, &["--log", log]), "RESTORE_LIVING");
    assert_eq!(backed.at.stop(), 0);
    assert_eq!(refused(&backed, &["--log", log]), "RESTORE_NOT_EMPTY");
    // Neither the log nor the word that it is lost.
    assert_eq!(refused(&backed, &["--into", "new"]), "RESTORE_WITHOUT_LOG");
    // A log from before the backup, and one of another installation.
    let other = Backed::new();
    other.seal("acme", "other");
    let others = other.back_up();
    let foreign = other.at.log();
    let foreign = foreign.to_str().unwrap();
    assert_eq!(refused(&backed, &["--into", "new", "--log", foreign]), "AUDIT_LOG_LOCKED");
    let mut other = other;
    assert_eq!(other.at.stop(), 0);
    assert_eq!(refused(&backed, &["--into", "new", "--log", foreign]), "AUDIT_LOG_FOREIGN");
    // A backup of another installation does not open with this one's identity, nor with its root key.
    let path = others.to_str().unwrap();
    let restored = backed.restore(path, &["--into", "new", "--log", log]);
    assert_eq!(reason(&restored), "BACKUP_IDENTITY_WRONG");
    std::fs::copy(other.at.path("identity"), backed.at.path("identity")).unwrap();
    let restored = backed.restore(path, &["--into", "new", "--log", log]);
    assert_eq!(reason(&restored), "ROOT_KEY_WRONG", "{}", text(&restored.stderr));
    let key = format!("{log}/log.pub");
    let verified = backed.backup(&["verify", path, "--public-key", &key]).output().unwrap();
    assert_eq!(reason(&verified), "BACKUP_FOREIGN");
    assert_eq!(refused(&backed, &["--into", "new", "--log", log]), "BACKUP_IDENTITY_WRONG");
    std::fs::write(backed.at.path("identity"), &backed.at.identity).unwrap();
    assert!(!Path::new(&backed.at.path("new")).exists(), "nothing was left");

    // Forced by name, and the name is another one.
    let without = |name, key| ["--into", "new", "--without-log", name, "--public-key", key];
    assert_eq!(refused(&backed, &without("main", &key)), "RESTORE_LOG_NAME");
    // Whose backup it is, nothing in it says: the log's public key does.
    assert_eq!(refused(&backed, &without("second", &key)[..4]), "ARGUMENT_MISSING");
    let others = format!("{foreign}/log.pub");
    assert_eq!(refused(&backed, &without("second", &others)), "BACKUP_FOREIGN");
    assert!(!Path::new(&backed.at.path("new")).exists(), "nothing was left");
    let restored = backed.restored(name, &without("second", &key));
    assert_eq!(restored["without_log"], "second");
    std::fs::rename(backed.at.home().join("state"), backed.at.path("first")).unwrap();
    std::fs::rename(backed.at.path("new"), backed.at.home().join("state")).unwrap();
    backed.at.set("instance = \"main\"", "instance = \"second\"");
    backed.at.serve();
    assert_eq!(backed.open("acme", &sealed).as_deref(), Ok("value"));
    // A log that ends before the backup was made is not its log.
    let second = backed.back_up();
    assert_eq!(backed.at.stop(), 0);
    let shorter =
        backed.restore(second.to_str().unwrap(), &["--into", "x", "--log", "first/audit"]);
    assert_eq!(reason(&shorter), "AUDIT_INSTANCE_WRONG");
}
