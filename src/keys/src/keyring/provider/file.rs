//! `file`: a key in a file of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fieldseal_crypto::ProviderKey;
use zeroize::Zeroizing;

use super::super::error::KeyringError;
use super::{HoldsKey, KEY_BYTES};

/// A key in a file that only its owner can read: 32 random bytes.
pub struct FileProvider {
    key: ProviderKey,
}

impl FileProvider {
    /// Makes the file, for its owner alone.
    ///
    /// # Errors
    /// `Exists` if there is a file already, or what could not be written.
    pub fn create(path: &Path) -> Result<Self, KeyringError> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = match made {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(KeyringError::Exists(path.to_owned()));
            }
            other => other.map_err(|e| KeyringError::io("make", path, e))?,
        };
        let key = ProviderKey::generate()?;
        let written = file.write_all(key.expose()).and_then(|()| file.sync_all());
        let directory = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
        written
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(|e| KeyringError::io("write", path, e))?;
        Ok(Self { key })
    }

    /// Opens the file. It must be a plain file of 32 bytes that belongs to the user who runs this,
    /// and that nobody else can read or write; and it must not lie in the state directory, whose
    /// backups would then open themselves, unless that is wanted.
    ///
    /// # Errors
    /// `Unsafe` says what is wrong and what to do.
    pub fn open(path: &Path, state: &Path, allow_inside_state: bool) -> Result<Self, KeyringError> {
        let failed = |e: io::Error| KeyringError::io("open", path, e);
        let wrong = |what: String| KeyringError::unsafe_file(path, what);
        // Without blocking: a named pipe in its place must not hang the start.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = flags.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(e) if path.is_symlink() => {
                return Err(wrong(format!("is a symbolic link; name the file itself ({e})")));
            }
            other => other.map_err(failed)?,
        };
        let found = file.metadata().map_err(failed)?;
        let user = rustix::process::geteuid().as_raw();
        if !found.is_file() {
            return Err(wrong("is not a plain file".to_owned()));
        }
        if found.uid() != user {
            let what =
                format!("belongs to user {}, and this is user {user}; chown it", found.uid());
            return Err(wrong(what));
        }
        if found.mode() & 0o077 != 0 {
            let mode = found.mode() & 0o7777;
            return Err(wrong(format!("can be used by others (mode {mode:04o}); chmod 600 it")));
        }
        if !allow_inside_state && lies_in(path, state).map_err(failed)? {
            let what = "lies in the state directory: whoever copies that would have the key too; \
                        move it elsewhere";
            return Err(wrong(what.to_owned()));
        }
        read_key(path, file).map(|key| Self { key })
    }
}

/// The key in a file that holds nothing else.
pub(super) fn read_key(path: &Path, mut file: File) -> Result<ProviderKey, KeyringError> {
    let mut bytes = Zeroizing::new([0_u8; KEY_BYTES + 1]);
    let mut len = 0;
    while let Some(room) = bytes.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read(room).map_err(|e| KeyringError::io("read", path, e))? {
            0 => break,
            read => len += read,
        }
    }
    let key = bytes.first_chunk_mut().filter(|_| len == KEY_BYTES).map(ProviderKey::from_bytes);
    key.ok_or_else(|| {
        KeyringError::unsafe_file(path, format!("does not have exactly {KEY_BYTES} bytes"))
    })
}

/// True if the file lies in the directory, whatever links lead there.
fn lies_in(path: &Path, directory: &Path) -> io::Result<bool> {
    let directory = match directory.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let path: PathBuf = path.canonicalize()?;
    Ok(path.starts_with(directory))
}

impl HoldsKey for FileProvider {
    const NAME: &'static str = "file";

    fn key(&self) -> &ProviderKey {
        &self.key
    }
}
