//! The clear part of a backup: what it is, signed by the log's key, so that it can be checked with
//! the log's public key alone.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fieldseal_audit::verify::LogKey;
use fieldseal_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::BackupError;
use super::retention::Class;
pub(super) use fieldseal_model::hex::encode as hex;

pub(super) const FORMAT: u32 = 1;
/// The largest manifest that is read.
const MAX_BYTES: u64 = 64 * 1024;
/// What the signature says it is about.
pub(super) const LABEL: &str = "backup";

/// What a backup holds. Its signature covers every field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// The name of its files, without an ending.
    pub name: String,
    /// The installation's id, hexadecimal.
    pub installation: String,
    /// How often the installation has been restored, and once more.
    pub incarnation: u64,
    /// Tells two restores of the same backup apart, hexadecimal; zeroes before the first.
    pub life: String,
    /// The store's revision.
    pub revision: u64,
    /// The HMAC of the sum of the whole store at that revision, hexadecimal: the one that the audit
    /// log has of it.
    pub anchor: String,
    /// Records of the store.
    pub records: u64,
    /// How many of them are data keys.
    pub data_keys: u64,
    /// Seconds since 1970.
    pub created_unix: i64,
    /// Seconds since 1970 until it may be removed.
    pub expires_unix: i64,
    /// What it is kept as.
    pub class: Class,
    /// The audit log's origin.
    pub log_origin: String,
    /// How many records the audit log had. It holds every change up to `revision`.
    pub log_size: u64,
    /// The root over them, hexadecimal.
    pub log_root: String,
    /// Bytes of the encrypted file.
    pub file_bytes: u64,
    /// SHA-256 of the encrypted file, hexadecimal.
    pub file_sha256: String,
    /// Ed25519 by the log's key, hexadecimal.
    pub signature: String,
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u32,
}

impl Manifest {
    /// When the backup was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.created_unix.saturating_mul(1_000_000_000))
    }

    /// Until when it is kept.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.expires_unix.saturating_mul(1_000_000_000))
    }

    /// Every field but the signature, in the order of the file, as the signature covers them.
    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        let text = |text: &str| text.as_bytes().to_vec();
        let number = |number: &dyn ToString| number.to_string().into_bytes();
        vec![
            number(&self.format),
            text(&self.name),
            text(&self.installation),
            number(&self.incarnation),
            text(&self.life),
            number(&self.revision),
            text(&self.anchor),
            number(&self.records),
            number(&self.data_keys),
            number(&self.created_unix),
            number(&self.expires_unix),
            text(self.class.as_str()),
            text(&self.log_origin),
            number(&self.log_size),
            text(&self.log_root),
            number(&self.file_bytes),
            text(&self.file_sha256),
        ]
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// `Foreign` for the key of another log, `Altered` for another signature.
    pub fn check(&self, key: &LogKey) -> Result<(), BackupError> {
        if key.origin() != self.log_origin {
            return Err(BackupError::Foreign {
                name: self.name.clone(),
                found: self.log_origin.clone(),
                what: "the public key",
                expected: key.origin().to_owned(),
            });
        }
        let parts = self.parts();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let signature =
            fieldseal_model::hex::decode(&self.signature).and_then(|bytes| bytes.try_into().ok());
        let signed = signature.is_some_and(|s| key.verify_statement(LABEL, &parts, &s));
        match signed {
            true => Ok(()),
            false => Err(BackupError::altered(&self.name, "its signature does not verify")),
        }
    }

    /// Reads the manifest of a backup: the path of its `.json` or `.age` file, or without an ending.
    ///
    /// # Errors
    /// `NotFound`, `FormatNewer`, `Altered`, or what cannot be read.
    pub fn read(path: &Path) -> Result<Self, BackupError> {
        let path = manifest_path(path);
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::NotFound(path));
            }
            other => other.map_err(|e| BackupError::io("read", &path, e))?,
        };
        let mut text = Vec::new();
        let read = file.take(MAX_BYTES + 1).read_to_end(&mut text);
        read.map_err(|e| BackupError::io("read", &path, e))?;
        let none = |_| BackupError::altered(&name, "its manifest is none");
        let OnlyFormat { format } = serde_json::from_slice(&text).map_err(none)?;
        if format != FORMAT {
            return Err(BackupError::FormatNewer { name, format });
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(none)?;
        if manifest.name != name {
            let what = format!("its manifest is that of {}", manifest.name);
            return Err(BackupError::altered(&name, what));
        }
        Ok(manifest)
    }

    /// Writes it so that it is there whole or not at all.
    pub(super) fn write(&self, directory: &Path) -> Result<(), BackupError> {
        let path = directory.join(format!("{}.json", self.name));
        let failed = |e: io::Error| BackupError::io("write", &path, e);
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(e.into()))?;
        let staged = directory.join(format!("{}.json{TEMPORARY}", self.name));
        let mut file = create(&staged).map_err(failed)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&staged, &path))
            .map_err(failed)?;
        sync_directory(directory)
    }

    #[cfg(test)]
    pub(super) fn example(created: Timestamp, class: Class, expires: Timestamp) -> Self {
        let seconds = |at: Timestamp| at.unix_nanos() / 1_000_000_000;
        Self {
            format: FORMAT,
            name: created.to_string(),
            installation: String::new(),
            incarnation: 1,
            life: String::new(),
            revision: 1,
            anchor: String::new(),
            records: 0,
            data_keys: 0,
            created_unix: seconds(created),
            expires_unix: seconds(expires),
            class,
            log_origin: String::new(),
            log_size: 0,
            log_root: String::new(),
            file_bytes: 0,
            file_sha256: String::new(),
            signature: String::new(),
        }
    }
}

/// What a file is called until it is whole.
pub(super) const TEMPORARY: &str = ".unfinished";

/// Every backup of a directory, the oldest first, and what is wrong with the others.
///
/// # Errors
/// If the directory cannot be read.
pub fn list(directory: &Path) -> Result<(Vec<Manifest>, Vec<BackupError>), BackupError> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => BackupError::NotFound(directory.to_owned()),
        _ => BackupError::io("read", directory, e),
    };
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        match Manifest::read(&path) {
            Ok(manifest) => found.push(manifest),
            Err(error) => wrong.push(error),
        }
    }
    found.sort_by_key(|one| (one.created_unix, one.revision));
    Ok((found, wrong))
}

/// A manifest's path, whichever of the two files was named.
fn manifest_path(path: &Path) -> PathBuf {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => path.to_owned(),
        Some("age") => path.with_extension("json"),
        _ => {
            let mut name = path.as_os_str().to_owned();
            name.push(".json");
            name.into()
        }
    }
}

/// The encrypted file of a backup, whichever of the two files was named.
pub(super) fn file_path(path: &Path) -> PathBuf {
    manifest_path(path).with_extension("age")
}

/// A file for its owner alone that was not there.
pub(super) fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), BackupError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|e| BackupError::io("sync", directory, e))
}
