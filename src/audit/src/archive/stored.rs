//! An archive that is no directory: it keeps files by their names, and gives back what it keeps.

use std::path::{Path, PathBuf};

use fieldseal_crypto::sha256;

use super::copy::{CHECKPOINT, PUBLIC_KEY};
use super::{ArchiveContent, ArchiveStore};
use crate::error::JournalError;

pub(crate) struct Stored<'a>(&'a dyn ArchiveStore);

impl<'a> Stored<'a> {
    pub(super) fn open(
        store: &'a dyn ArchiveStore,
        public_key: &str,
    ) -> Result<Self, JournalError> {
        let stored = Self(store);
        let digest = sha256(&[public_key.as_bytes()]);
        let text = ArchiveContent::Text(public_key);
        let length = public_key.len() as u64;
        stored.put(PUBLIC_KEY, text, (&digest, length), "another log's public key", &|| ())?;
        Ok(stored)
    }

    /// Read back when this returns: what is removed from the log must come back from there.
    pub(super) fn add(
        &self,
        path: &Path,
        digest: &[u8; 32],
        written: &dyn Fn(),
    ) -> Result<(), JournalError> {
        let length = path.metadata().map_err(|e| JournalError::io("read", path, &e))?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let other = "another segment than the log's";
        self.put(&name, ArchiveContent::File(path), (digest, length), other, written)
    }

    pub(super) fn end(&self, note: &str) -> Result<(), JournalError> {
        let digest = sha256(&[note.as_bytes()]);
        self.keep(CHECKPOINT, ArchiveContent::Text(note), (&digest, note.len() as u64), &|| ())
    }

    fn put(
        &self,
        name: &str,
        content: ArchiveContent<'_>,
        (digest, length): (&[u8; 32], u64),
        other: &str,
        written: &dyn Fn(),
    ) -> Result<(), JournalError> {
        match self.0.kept(name, length).map_err(|why| trouble("look for", name, &why))? {
            Some(found) if found == *digest => Ok(()),
            Some(_) => {
                let what = format!("it is {other}");
                Err(JournalError::Foreign { file: PathBuf::from(name), what })
            }
            None => self.keep(name, content, (digest, length), written),
        }
    }

    fn keep(
        &self,
        name: &str,
        content: ArchiveContent<'_>,
        (digest, length): (&[u8; 32], u64),
        written: &dyn Fn(),
    ) -> Result<(), JournalError> {
        self.0.keep(name, content).map_err(|why| trouble("archive", name, &why))?;
        written();
        match self.0.kept(name, length).map_err(|why| trouble("read back", name, &why))? {
            Some(found) if found == *digest => Ok(()),
            Some(_) => Err(trouble("archive", name, "something else comes back than was kept")),
            None => Err(trouble("archive", name, "nothing comes back of what was kept")),
        }
    }
}

fn trouble(what: &'static str, name: &str, why: &str) -> JournalError {
    JournalError::Io { what, file: PathBuf::from(name), error: why.into() }
}
