//! The file that says where a running server listens.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::failure::ServeError;

/// The address of a running server, in a file that is there exactly while it can serve: written
/// by rename, removed when this is dropped.
#[derive(Debug)]
pub struct AddressFile {
    path: PathBuf,
    text: String,
}

impl AddressFile {
    /// Writes `address` and a line break. A file that a killed server left behind is replaced.
    ///
    /// # Errors
    /// If the directory does not exist or cannot be written.
    pub fn write(path: &Path, address: SocketAddr) -> io::Result<Self> {
        let text = format!("{address}\n");
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        // What stands under this name is no business of ours: a link must not be followed.
        let _ = std::fs::remove_file(&temporary);
        let written = std::fs::File::create_new(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| std::fs::rename(&temporary, path));
        if let Err(error) = written {
            // What failed is reported; the rest of it may not even exist.
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        Ok(Self { path: path.to_owned(), text })
    }
}

impl AddressFile {
    /// [`AddressFile::write`] of the file that a setting names.
    pub(crate) fn of(
        setting: &'static str,
        path: &Path,
        address: SocketAddr,
    ) -> Result<Self, ServeError> {
        let failed = |error| ServeError::AddressFile { setting, path: path.to_owned(), error };
        Self::write(path, address).map_err(failed)
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        // Another server may have taken the name over meanwhile: its file stays.
        if std::fs::read_to_string(&self.path).is_ok_and(|found| found == self.text)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(event = "address_file_left", path = %self.path.display(), %error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn it_is_refused_where_it_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        assert!(AddressFile::write(&directory.path().join("no/address"), address(1)).is_err());
        assert!(AddressFile::write(Path::new(""), address(1)).is_err());
        assert!(AddressFile::write(directory.path(), address(1)).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_is_there_exactly_while_it_is_held() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("address");
        std::fs::write(&path, "left behind").unwrap();
        let file = AddressFile::write(&path, address(7443)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "127.0.0.1:7443\n");
        let successor = AddressFile::write(&path, address(7444)).unwrap();
        drop(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "127.0.0.1:7444\n");
        drop(successor);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
