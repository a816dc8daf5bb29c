//! The quickstart's directory: new, empty, or left by an earlier quickstart.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::steps::Callers;
use crate::failure::{Exit, Failure};

/// What marks a directory as a quickstart's. Whoever holds its lock works in the directory.
const MARKER: &str = "made-by-fieldseal-quickstart";
const INSTALLATION: &str = "installation";
const TABLE_FILE: &str = "customers.csv";
const SEALED_TABLE_FILE: &str = "customers.sealed.csv";
const LOG_FILE: &str = "sidecar.log";
const TAMPERED_LOG: &str = "tampered-audit-log";
/// The table that is sealed: 1,000 made-up customers.
const TABLE: &str = include_str!("../../data/customers.csv");

pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// The marker, locked for as long as the quickstart runs.
    _held: File,
}

impl Place {
    /// Takes the directory. What an earlier quickstart made there is removed; if there is anything
    /// else, nothing is.
    pub(super) fn claim(dir: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir).map_err(|e| Failure::io("cannot make", dir, &e))?;
        let dir = dir.canonicalize().map_err(|e| Failure::io("cannot use", dir, &e))?;
        let marker = dir.join(MARKER);
        let marked = marker.symlink_metadata().is_ok_and(|found| found.is_file());
        let names = names(&dir)?;
        let foreign = names.iter().find(|name| !marked || !is_ours(name));
        if let Some(name) = foreign {
            let what = format!(
                "{} holds something that no quickstart made: {}",
                dir.display(),
                Path::new(name).display()
            );
            return Err(in_use(what, "move it elsewhere, or name a new directory with --dir"));
        }
        let held = OpenOptions::new().write(true).create(true).truncate(false).open(&marker);
        let held = held.map_err(|e| Failure::io("cannot write", &marker, &e))?;
        if flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
            let what = format!("another quickstart works in {}", dir.display());
            return Err(in_use(what, "wait until it is over"));
        }
        let place = Self { dir, _held: held };
        place.refuse_running()?;
        place.clear()?;
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
        Err(in_use(what, "stop it first"))
    }

    fn clear(&self) -> Result<(), Failure> {
        for name in names(&self.dir)? {
            if name == MARKER || !is_ours(&name) {
                continue;
            }
            let path = self.dir.join(name);
            let removed = match path.symlink_metadata() {
                Ok(found) if found.is_dir() => std::fs::remove_dir_all(&path),
                _ => std::fs::remove_file(&path),
            };
            removed.map_err(|e| Failure::io("cannot remove", &path, &e))?;
        }
        Ok(())
    }

    pub(super) fn installation(&self) -> PathBuf {
        self.dir.join(INSTALLATION)
    }

    pub(super) fn table(&self) -> PathBuf {
        self.dir.join(TABLE_FILE)
    }

    pub(super) fn sealed_table(&self) -> PathBuf {
        self.dir.join(SEALED_TABLE_FILE)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join(LOG_FILE)
    }

    pub(super) fn tampered_log(&self) -> PathBuf {
        self.dir.join(TAMPERED_LOG)
    }

    pub(super) fn environment(&self, caller: &str) -> PathBuf {
        self.dir.join(environment_file(caller))
    }

    pub(super) fn write_table(&self) -> Result<(), Failure> {
        write(&self.table(), TABLE)
    }

    pub(super) fn write_environment(&self, caller: &str, text: &str) -> Result<(), Failure> {
        write(&self.environment(caller), text)
    }
}

fn environment_file(caller: &str) -> String {
    format!("{caller}.env")
}

fn names(dir: &Path) -> Result<Vec<OsString>, Failure> {
    let entries = std::fs::read_dir(dir).map_err(|e| Failure::io("cannot read", dir, &e))?;
    let names = entries.map(|entry| entry.map(|e| e.file_name()));
    names.collect::<Result<_, _>>().map_err(|e| Failure::io("cannot read", dir, &e))
}

/// Whether a quickstart makes something of this name: these and nothing else may be made anew.
fn is_ours(name: &OsStr) -> bool {
    let made = [MARKER, INSTALLATION, TABLE_FILE, SEALED_TABLE_FILE, LOG_FILE, TAMPERED_LOG];
    let text = name.to_string_lossy();
    made.iter().any(|ours| name == *ours)
        || Callers::NAMES.iter().any(|caller| name == environment_file(caller).as_str())
        || crate::csv::is_partial(&text)
}

fn in_use(what: String, advice: &str) -> Failure {
    Failure::new(Exit::Conflict, "DIRECTORY_IN_USE", what).advise(advice)
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
        assert!(Place::claim(dir.path()).is_err(), "the first one still works there");
        drop(place);
        let again = Place::claim(dir.path()).unwrap();
        assert!(!again.table().exists() && !again.installation().exists());
    }

    #[test]
    fn what_somebody_put_beside_a_quickstart_is_named_and_nothing_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::claim(dir.path()).unwrap();
        place.write_table().unwrap();
        drop(place);
        std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        let refused = Place::claim(dir.path()).map(drop).unwrap_err();
        assert_eq!((refused.exit(), refused.reason()), (Exit::Conflict, "DIRECTORY_IN_USE"));
        assert!(refused.what().contains("thesis.txt"), "{}", refused.what());
        assert!(dir.path().join("customers.csv").exists(), "the earlier table is still there");
        for (name, ours) in [
            ("app.env", true),
            (".fieldseal-x1.partial", true),
            ("other.env", false),
            ("customers.csv.bak", false),
            (".fieldseal-notes", false),
        ] {
            assert_eq!(is_ours(OsStr::new(name)), ours, "{name}");
        }
    }

    #[test]
    fn a_quickstart_that_is_served_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::claim(dir.path()).unwrap();
        let audit = place.installation().join("state/audit");
        std::fs::create_dir_all(&audit).unwrap();
        drop(place);
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
