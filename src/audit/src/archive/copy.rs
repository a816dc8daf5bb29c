//! The directory that segments move to. It is a log by itself: segments, public key, and the checkpoint
//! that ends it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fieldseal_crypto::sha256_of;
use fieldseal_crypto::signing::LogPublicKey;

use crate::access;
use crate::error::JournalError;
use crate::redaction::erase;
use crate::segment::{At, Segment};

pub(super) const PUBLIC_KEY: &str = "log.pub";
pub(super) const CHECKPOINT: &str = "checkpoint";

/// An archive's directory.
pub(crate) struct Directory<'a> {
    directory: &'a Path,
    /// Who may read it beside its owner.
    group: Option<u32>,
    key: &'a LogPublicKey,
}

impl<'a> Directory<'a> {
    pub(super) const fn path(&self) -> &'a Path {
        self.directory
    }

    pub(super) fn open(
        directory: &'a Path,
        (log, group): (&Path, Option<u32>),
        (key, public_key): (&'a LogPublicKey, &str),
    ) -> Result<Self, JournalError> {
        let failed = |e: &io::Error| JournalError::io("make", directory, e);
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&e)),
            _ => {}
        }
        let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino()));
        let foreign = |what: &str| JournalError::Foreign {
            file: directory.to_owned(),
            what: what.to_owned(),
        };
        if identity(directory).map_err(|e| failed(&e))? == identity(log).map_err(|e| failed(&e))? {
            return Err(foreign("it is the directory of the log itself"));
        }
        access::everything(directory, group).map_err(|e| failed(&e))?;
        let path = directory.join(PUBLIC_KEY);
        match fs::read_to_string(&path) {
            Ok(text) if text == public_key => {}
            Ok(_) => return Err(foreign("it holds another public key")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let write = |file: &mut File| file.write_all(public_key.as_bytes());
                replace(&path, group, write).map_err(|e| failed(&e))?;
            }
            Err(e) => return Err(failed(&e)),
        }
        Ok(Self { directory, group, key })
    }

    /// On disk, and read back, when this returns. `written` is called before it has its name.
    pub(super) fn add(
        &self,
        path: &Path,
        digest_of_it: &[u8; 32],
        written: &dyn Fn(),
    ) -> Result<(), JournalError> {
        let to = self.directory.join(path.file_name().unwrap_or_default());
        let failed = |e: &io::Error| JournalError::io("archive", &to, e);
        match digest(&to) {
            Ok(found) if found == *digest_of_it => return self.sync(),
            // An archiving was cut off there, and details were redacted since.
            Ok(_) if self.is_earlier(path, &to)? => erase(&to).map_err(|e| failed(&e))?,
            Ok(_) => {
                let what = "it is another segment than the log's".to_owned();
                return Err(JournalError::Foreign { file: to, what });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&e)),
        }
        let new = self.new_name(&to);
        let mut from = File::open(path).map_err(|e| failed(&e))?;
        let copied = create(&new).and_then(|mut file| {
            access::file(&new, self.group)?;
            io::copy(&mut from, &mut file)?;
            file.sync_all()
        });
        copied.map_err(|e| failed(&e))?;
        if digest(&new).map_err(|e| failed(&e))? != *digest_of_it {
            let what = "what was written does not read back as it was";
            return Err(JournalError::corrupt(&new, 0, what));
        }
        written();
        fs::rename(&new, &to).map_err(|e| failed(&e))?;
        self.sync()
    }

    /// Whether a file of the archive is the same segment as one of the log but for details.
    fn is_earlier(&self, ours: &Path, theirs: &Path) -> Result<bool, JournalError> {
        let ours = Segment::open(ours, self.key)?;
        let Ok(theirs) = Segment::open(theirs, self.key) else { return Ok(false) };
        if ours.header()? != theirs.header()? {
            return Ok(false);
        }
        let (mut here, mut there) = (ours.start, theirs.start);
        loop {
            match (ours.at(here)?, theirs.at(there)?) {
                (At::Frame(one), At::Frame(other))
                    if one.signature == other.signature && one.leaves().eq(other.leaves()) =>
                {
                    (here, there) = (one.end, other.end);
                }
                (At::Nothing, At::Nothing) => return Ok(true),
                _ => return Ok(false),
            }
        }
    }

    pub(super) fn end(&self, note: &str) -> Result<(), JournalError> {
        let path = self.directory.join(CHECKPOINT);
        let write = |file: &mut File| file.write_all(note.as_bytes());
        let written = replace(&path, self.group, write);
        written.map_err(|e| JournalError::io("write", &path, &e))?;
        self.sync()
    }

    fn new_name(&self, to: &Path) -> PathBuf {
        self.directory.join(to.with_extension("new").file_name().unwrap_or_default())
    }

    fn sync(&self) -> Result<(), JournalError> {
        let synced = File::open(self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|e| JournalError::io("sync", self.directory, &e))
    }
}

/// A file for its owner alone, empty.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Puts a file in its place at once. The directory is not synced.
pub(super) fn replace(
    path: &Path,
    group: Option<u32>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = create(&new)?;
    access::file(&new, group)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// SHA-256 over a file.
pub(crate) fn digest(path: &Path) -> io::Result<[u8; 32]> {
    sha256_of(&mut File::open(path)?)
}
