//! The quickstart's directory: new, empty, or left by an earlier quickstart.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::failure::{Exit, Failure};

/// What marks a directory as a quickstart's: everything in it may be made anew.
const MARKER: &str = "made-by-fieldseal-quickstart";
/// The table that is sealed: 1,000 made-up customers.
const TABLE: &str = include_str!("../../data/customers.csv");

pub(super) struct Place {
    pub(super) dir: PathBuf,
}

impl Place {
    /// Takes the directory. What an earlier quickstart left there is removed.
    pub(super) fn claim(dir: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir).map_err(|e| Failure::io("cannot make", dir, &e))?;
        let dir = dir.canonicalize().map_err(|e| Failure::io("cannot use", dir, &e))?;
        let place = Self { dir };
        let marker = place.dir.join(MARKER);
        let mut entries = std::fs::read_dir(&place.dir)
            .map_err(|e| Failure::io("cannot read", &place.dir, &e))?;
        if entries.next().is_some() {
            if !marker.is_file() {
                let what = format!("{} holds something else", place.dir.display());
                return Err(Failure::new(Exit::Conflict, "DIRECTORY_IN_USE", what)
                    .advise("name a new directory with --dir"));
            }
            place.refuse_running()?;
            place.clear()?;
        }
        File::create(&marker).map_err(|e| Failure::io("cannot write", &marker, &e))?;
        Ok(place)
    }

    /// Somebody may have gone on with `serve`.
    fn refuse_running(&self) -> Result<(), Failure> {
        let lock = self.installation().join("state/audit/lock");
        let Ok(file) = File::open(&lock) else { return Ok(()) };
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(());
        }
        let pid = std::fs::read_to_string(&lock).unwrap_or_default();
        let what = format!("process {} still serves {}", pid.trim(), self.dir.display());
        Err(Failure::new(Exit::Conflict, "DIRECTORY_IN_USE", what).advise("stop it first"))
    }

    fn clear(&self) -> Result<(), Failure> {
        let failed = |e: &std::io::Error| Failure::io("cannot clear", &self.dir, e);
        for entry in std::fs::read_dir(&self.dir).map_err(|e| failed(&e))? {
            let path = entry.map_err(|e| failed(&e))?.path();
            if path.file_name().is_some_and(|name| name == MARKER) {
                continue;
            }
            let removed = match path.symlink_metadata() {
                Ok(found) if found.is_dir() => std::fs::remove_dir_all(&path),
                _ => std::fs::remove_file(&path),
            };
            removed.map_err(|e| Failure::io("cannot remove", &path, &e))?;
        }
        Ok(())
    }

    pub(super) fn installation(&self) -> PathBuf {
        self.dir.join("installation")
    }

    pub(super) fn table(&self) -> PathBuf {
        self.dir.join("customers.csv")
    }

    pub(super) fn sealed_table(&self) -> PathBuf {
        self.dir.join("customers.sealed.csv")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("sidecar.log")
    }

    pub(super) fn tampered_log(&self) -> PathBuf {
        self.dir.join("tampered-audit-log")
    }

    pub(super) fn environment(&self, caller: &str) -> PathBuf {
        self.dir.join(format!("{caller}.env"))
    }

    pub(super) fn write_table(&self) -> Result<(), Failure> {
        write(&self.table(), TABLE)
    }

    pub(super) fn write_environment(&self, caller: &str, text: &str) -> Result<(), Failure> {
        write(&self.environment(caller), text)
    }
}

/// For its owner alone: the table is plaintext, the environment names a private key.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::io("cannot write", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_something_else_in_it_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        let refused = Place::claim(dir.path()).map(|_| ()).map_err(|f| f.exit());
        assert_eq!(refused, Err(Exit::Conflict));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_earlier_quickstart_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::claim(dir.path()).unwrap();
        place.write_table().unwrap();
        std::fs::create_dir(place.installation()).unwrap();
        let again = Place::claim(dir.path()).unwrap();
        assert!(!again.table().exists() && !again.installation().exists());
    }

    #[test]
    fn a_quickstart_that_is_served_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::claim(dir.path()).unwrap();
        let audit = place.installation().join("state/audit");
        std::fs::create_dir_all(&audit).unwrap();
        let held = File::create(audit.join("lock")).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let refused = Place::claim(dir.path()).map(|_| ()).map_err(|f| f.exit());
        assert_eq!(refused, Err(Exit::Conflict));
    }

    #[test]
    fn the_table_has_every_kind_of_value() {
        let records = TABLE.lines().count();
        assert!(records > 1000, "some notes have two lines");
        for part in ["\\N", "🦊", "Łukasz", "\"\"quotes\"\"", ",,"] {
            assert!(TABLE.contains(part), "{part}");
        }
        assert!(TABLE.split(',').any(|field| field.len() == 65_536));
    }
}
