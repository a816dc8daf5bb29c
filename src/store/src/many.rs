//! Reading many records at once: one visit of a thread that may block.

use crate::error::StoreError;
use crate::path::{Path, Prefix};
use crate::store::{Store, Versioned};
use crate::stored::open_value;

/// How many records one visit reads.
const PAGE: usize = 256;

/// Records that are read before other threads get their turn: some 0.2 ms where they are not in
/// memory. Whoever reads many has time; whoever waits for the processor may be a caller.
const SLICE: usize = 8;

impl Store {
    /// Hands every record under `prefix` to `see`, in the order of [`Store::range`]: each as it is when
    /// its page is read.
    ///
    /// # Errors
    /// As [`Store::get`], and the first refusal of `see`.
    pub async fn each<E: From<StoreError>>(
        &self,
        prefix: &Prefix,
        mut see: impl FnMut(Versioned) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = None;
        loop {
            let page = self.range(prefix, after.as_ref(), PAGE).await?;
            page.entries.into_iter().try_for_each(|(_, found)| see(found))?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

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
            let slices = paths.chunks(SLICE).enumerate();
            let in_turn = slices.flat_map(|(turn, slice)| {
                if turn > 0 {
                    std::thread::yield_now();
                }
                slice
            });
            in_turn.map(read).collect()
        })
        .await
    }
}
