//! Checking a backup and reading what is in it. It blocks.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use age::stream::StreamReader;
use fieldseal_audit::verify::LogKey;
use fieldseal_store::RawEntry;
use sha2::{Digest as _, Sha256};

use super::access::Unlock;
use super::error::BackupError;
use super::manifest::{Manifest, file_path, hex};
use super::stream::{Header, Part, Reader};

/// A backup that is as it was made.
pub struct Verified {
    /// What it holds.
    pub manifest: Manifest,
    /// Whether it was decrypted to its end and everything counted.
    pub opened: bool,
}

/// Checks signature and hash of a backup; decrypts it to its end too if there is something that
/// opens it.
///
/// # Errors
/// `NotFound`, `Altered`, `Foreign`, `FormatNewer`, `IdentityWrong`, or what cannot be read.
pub fn verify(path: &Path, key: &LogKey, unlock: Option<&Unlock>) -> Result<Verified, BackupError> {
    let manifest = Manifest::read(path)?;
    manifest.check(key)?;
    check_file(path, &manifest)?;
    if let Some(unlock) = unlock {
        let mut opened = Opened::open(path, manifest.clone(), unlock)?;
        while opened.entries()?.is_some() {}
    }
    Ok(Verified { manifest, opened: unlock.is_some() })
}

/// The file is the one of which the manifest speaks.
pub(super) fn check_file(path: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let path = file_path(path);
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => BackupError::NotFound(path.clone()),
        _ => BackupError::io("read", &path, e),
    };
    let mut file = File::open(&path).map_err(failed)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    let mut chunk = vec![0; 1 << 17];
    loop {
        let read = file.read(&mut chunk).map_err(failed)?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hash.update(chunk.get(..read).unwrap_or_default());
    }
    if bytes != manifest.file_bytes {
        let what = format!("it has {bytes} bytes, and had {}", manifest.file_bytes);
        return Err(BackupError::altered(&manifest.name, what));
    }
    if hex(&hash.finalize()) != manifest.file_sha256 {
        return Err(BackupError::altered(&manifest.name, "its SHA-256 is another one"));
    }
    Ok(())
}

/// A backup that is being read.
pub(super) struct Opened {
    pub(super) manifest: Manifest,
    reader: Reader<StreamReader<BufReader<File>>>,
    pub(super) keyring: Vec<u8>,
}

impl Opened {
    pub(super) fn open(
        path: &Path,
        manifest: Manifest,
        unlock: &Unlock,
    ) -> Result<Self, BackupError> {
        let path = file_path(path);
        let file = File::open(&path).map_err(|e| BackupError::io("read", &path, e))?;
        let stream = unlock.decrypt(&manifest.name, BufReader::with_capacity(1 << 17, file))?;
        let (reader, header, keyring) =
            Reader::begin(stream).map_err(|e| unreadable(&manifest, &e))?;
        let expected = Header {
            installation: manifest.installation.clone(),
            incarnation: manifest.incarnation,
            revision: manifest.revision,
            anchor: manifest.anchor.clone(),
        };
        if header != expected {
            return Err(BackupError::altered(&manifest.name, "its manifest is another backup's"));
        }
        Ok(Self { manifest, reader, keyring })
    }

    /// The next entries; `None` once everything was read and counted.
    pub(super) fn entries(&mut self) -> Result<Option<Vec<RawEntry>>, BackupError> {
        match self.reader.part().map_err(|e| unreadable(&self.manifest, &e))? {
            Part::Entries(entries) => Ok(Some(entries)),
            Part::End(counts) => {
                let Manifest { records, data_keys, .. } = self.manifest;
                if (counts.records, counts.data_keys) != (records, data_keys) {
                    let what = "it has more or fewer records than its manifest says";
                    return Err(BackupError::altered(&self.manifest.name, what));
                }
                Ok(None)
            }
        }
    }
}

/// What age refuses is no trouble of the disk.
fn unreadable(manifest: &Manifest, error: &io::Error) -> BackupError {
    BackupError::altered(&manifest.name, error.to_string())
}
