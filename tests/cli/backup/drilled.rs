//! A drill beside what the log is handed on to.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Backed;
use crate::archiving;

/// Every file of a directory.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

#[test]
fn a_drill_works_beside_an_export_and_an_anchor_and_tells_them_nothing() {
    let mut outside = PathBuf::new();
    let mut backed = Backed::configured(|at| {
        archiving::configure(at);
        outside = at.path("outside").into();
        std::fs::create_dir(&outside).unwrap();
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o700)).unwrap();
        for (name, file) in [("anchor_file", "anchor"), ("export_file", "events.jsonl")] {
            let to = format!("{name} = \"{}\"", outside.join(file).display());
            at.set(&format!("{name} = \"\""), &to);
        }
    });
    backed.seal("acme", "value");
    let backup = backed.back_up();
    assert_eq!(backed.at.stop(), 0);
    let before = files(&outside);
    assert!(before.len() >= 2 && before.values().all(|bytes| !bytes.is_empty()));
    let (config, backup) = (backed.at.config(), backup.to_str().unwrap().to_owned());
    let drill = |backed: &Backed| {
        let config = config.to_str().unwrap();
        backed.ok(&["drill", &backup, "--config", config, "--identity", "identity"])
    };
    let drilled = drill(&backed);
    assert_eq!(
        (&drilled["recorded"], &drilled["broken"], &drilled["canaries"]),
        (&true.into(), &0.into(), &serde_json::json!(["customer-pii"]))
    );
    assert!(files(&outside) == before, "nothing was posted or exported");
    assert!(!backed.at.home().join("archive").exists());
    // The log goes on from what they have.
    backed.at.serve();
    assert_eq!(drill(&backed)["recorded"], false);
    assert_eq!(backed.at.stop(), 0);
    let after = files(&outside);
    let exported = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        let lines = String::from_utf8(files[&outside.join("events.jsonl")].clone()).unwrap();
        lines.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (before, after) = (exported(&before), exported(&after));
    assert_eq!(after[..before.len()], before);
    let drills = after.iter().filter(|line| line.contains("BACKUP_DRILLED"));
    assert_eq!(drills.count(), 1, "the one that is on record");
}
