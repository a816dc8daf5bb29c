//! Reading many records at once: one visit of a thread that may block.

use crate::error::StoreError;
use crate::path::Path;
use crate::store::{Store, Versioned};
use crate::stored::open_value;

impl Store {
    /// Reads these records, each as [`Store::get`] does; the answers stand in the same order.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn get_many(&self, paths: Vec<Path>) -> Result<Vec<Option<Versioned>>, StoreError> {
        self.read(move |inner| {
            let read = |path: &Path| {
                let found = inner.backend.get(&path.0)?;
                found.map(|stored| open_value(&inner.secrets, &path.0, &stored)).transpose()
            };
            paths.iter().map(read).collect()
        })
        .await
    }
}
