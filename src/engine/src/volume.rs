//! Whether the copy of the store is on a disk of its own: one on the store's is lost with it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fieldseal_store::CopyTarget;

use crate::boot::{Settings, StoreBackend};
use crate::engine::Engine;

/// Where a store and its copy are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    store: PathBuf,
    copy: PathBuf,
}

impl Places {
    /// `None` without a store or a copy in a directory.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        match (&settings.store, &settings.copy) {
            (StoreBackend::Sled(store), Some(CopyTarget::Directory(copy))) => {
                Some(Self { store: store.clone(), copy: copy.clone() })
            }
            _ => None,
        }
    }

    fn share_a_volume(&self) -> bool {
        let store = volume(&self.store).or_else(|error| match self.store.parent() {
            // It is not made yet, or gone.
            Some(state) if error.kind() == io::ErrorKind::NotFound => volume(state),
            _ => Err(error),
        });
        matches!((store, volume(&self.copy)), (Ok(store), Ok(copy)) if store == copy)
    }
}

fn volume(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.dev())
}

impl Settings {
    /// True if the copy of the store is in a directory on the same volume (`st_dev`) as the store. Two
    /// volumes of one disk are not told apart from two disks, and a place that cannot be looked at is
    /// not judged.
    #[must_use]
    pub fn copy_shares_volume(&self) -> bool {
        Places::of(self).is_some_and(|places| places.share_a_volume())
    }
}

impl Engine {
    /// The same, as it is now.
    #[must_use]
    pub fn copy_shares_volume(&self) -> bool {
        self.inner.places.as_ref().is_some_and(Places::share_a_volume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_on_its_parent_s_volume_and_proc_is_on_one_of_its_own() {
        let at = tempfile::tempdir().unwrap();
        let store = at.path().join("store");
        let places = |copy: &Path| Places { store: store.clone(), copy: copy.to_owned() };
        // Before the store is made, the state directory says where it will be.
        assert!(places(at.path()).share_a_volume());
        std::fs::create_dir(&store).unwrap();
        assert!(places(at.path()).share_a_volume());
        assert!(!places(Path::new("/proc")).share_a_volume());
        assert!(!places(&at.path().join("missing")).share_a_volume(), "nobody knows");
    }
}
