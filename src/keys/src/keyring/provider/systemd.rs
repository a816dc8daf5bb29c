//! `systemd`: a key that systemd hands to the service as a credential (systemd.exec(5),
//! `LoadCredential=`, `LoadCredentialEncrypted=`).

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use fieldseal_crypto::ProviderKey;

use super::super::error::KeyringError;
use super::HoldsKey;
use super::file::read_key;

/// The variable in which systemd says where the credentials are.
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The 32 bytes of a credential.
pub struct SystemdProvider {
    key: ProviderKey,
}

impl SystemdProvider {
    /// Reads the credential of this name from `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// `Missing` if there are no credentials, `Unsafe` if the file is not what systemd makes, or why
    /// it cannot be read.
    pub fn open(name: &str) -> Result<Self, KeyringError> {
        let directory = std::env::var_os(DIRECTORY).filter(|directory| !directory.is_empty());
        let directory = directory.ok_or_else(|| {
            KeyringError::Missing(format!(
                "the credential {name} is missing: {DIRECTORY} is not set; have the unit load it with \
                 LoadCredential="
            ))
        })?;
        Self::open_in(&directory, name)
    }

    fn open_in(directory: &OsStr, name: &str) -> Result<Self, KeyringError> {
        let path = Path::new(directory).join(name);
        let wrong = |what: &str| KeyringError::unsafe_file(&path, what);
        // Without blocking: a named pipe in its place must not hang the start.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = flags.bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let file = opened.map_err(|e| KeyringError::io("open", &path, e))?;
        let found = file.metadata().map_err(|e| KeyringError::io("open", &path, e))?;
        if !found.is_file() {
            return Err(wrong("is not a plain file"));
        }
        // The service's user may come by an access list, whose mask shows as the group's rights.
        if found.mode() & 0o007 != 0 {
            return Err(wrong("can be used by everybody; chmod o-rwx it"));
        }
        read_key(&path, file).map(|key| Self { key })
    }
}

impl HoldsKey for SystemdProvider {
    const NAME: &'static str = "systemd";

    fn key(&self) -> &ProviderKey {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::RootProvider as _;
    use super::*;

    #[test]
    fn a_credential_is_32_bytes_that_not_everybody_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        let open = || SystemdProvider::open_in(dir.path().as_os_str(), "root");
        assert!(matches!(open(), Err(KeyringError::Io { .. })));
        std::fs::write(&path, [7; 32]).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(open(), Err(KeyringError::Unsafe { .. })));
        std::fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        let opened = open().unwrap();
        assert_eq!((opened.name(), opened.id().len()), ("systemd", 16));
        for bytes in [0, 31, 33] {
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            std::fs::write(&path, vec![7; bytes]).unwrap();
            assert!(matches!(open(), Err(KeyringError::Unsafe { .. })), "{bytes}");
        }
    }
}
