//! Writing the encrypted file of a backup. It blocks.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fieldseal_store::{Snapshot, StoreError};
use sha2::{Digest as _, Sha256};

use super::access::Recipients;
use super::error::BackupError;
use super::manifest::{TEMPORARY, create, sync_directory};
use super::stream::{Counts, Header, Writer};

/// What was written, under a name that is no backup's yet.
pub(super) struct Staged {
    directory: PathBuf,
    name: String,
    pub(super) counts: Counts,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
}

/// Counts and hashes what goes through.
struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Makes the directory if it is not there, and removes what a process left that died while it wrote.
pub(super) fn prepare(directory: &Path) -> Result<(), BackupError> {
    let failed = |e| BackupError::io("make", directory, e);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.to_string_lossy().ends_with(TEMPORARY) {
            fs::remove_file(&path).map_err(|e| BackupError::io("remove", &path, e))?;
        }
    }
    Ok(())
}

/// Writes everything and syncs it. What fails leaves nothing.
pub(super) fn write(
    directory: &Path,
    name: &str,
    recipients: &Recipients,
    header: &Header,
    keyring: &[u8],
    snapshot: Snapshot,
) -> Result<Staged, BackupError> {
    let path = directory.join(format!("{name}.age{TEMPORARY}"));
    let failed = |e: io::Error| BackupError::io("write", &path, e);
    let file = create(&path).map_err(failed)?;
    let written = fill(file, recipients, header, keyring, snapshot);
    let (counts, out) = match written {
        Ok(written) => written,
        Err(why) => {
            // It is told why either way.
            let _unless_gone = fs::remove_file(&path);
            return Err(match why {
                Unwritten::File(error) => failed(error),
                Unwritten::Store(error) => error.into(),
            });
        }
    };
    let sha256 = out.hash.finalize().into();
    let (directory, name) = (directory.to_owned(), name.to_owned());
    Ok(Staged { directory, name, counts, bytes: out.bytes, sha256 })
}

enum Unwritten {
    File(io::Error),
    Store(StoreError),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

fn fill(
    file: File,
    recipients: &Recipients,
    header: &Header,
    keyring: &[u8],
    mut snapshot: Snapshot,
) -> Result<(Counts, Hashed), Unwritten> {
    let file = BufWriter::with_capacity(1 << 17, file);
    let hashed = Hashed { file, hash: Sha256::new(), bytes: 0 };
    let mut writer = Writer::begin(recipients.encrypt(hashed)?, header, keyring)?;
    while let Some(page) = snapshot.page().map_err(Unwritten::Store)? {
        for entry in &page {
            writer.entry(entry)?;
        }
    }
    let (encrypted, counts) = writer.finish()?;
    let mut out = encrypted.finish()?;
    out.flush()?;
    out.file.get_ref().sync_all()?;
    Ok((counts, out))
}

impl Staged {
    /// Gives it its name.
    pub(super) fn place(&self) -> Result<PathBuf, BackupError> {
        let path = self.directory.join(format!("{}.age", self.name));
        let staged = self.directory.join(format!("{}.age{TEMPORARY}", self.name));
        fs::rename(&staged, &path).map_err(|e| BackupError::io("name", &path, e))?;
        sync_directory(&self.directory)?;
        Ok(path)
    }
}
