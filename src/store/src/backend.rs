//! What a storage backend must do: hold opaque bytes, apply a batch whole, and make it durable.

pub(crate) mod memory;
pub(crate) mod sled;

use std::io;

/// A change of one key.
pub(crate) enum RawWrite {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

/// Opaque keys and values in bytewise order.
pub(crate) trait Backend: Send + Sync {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// At most `limit` entries under `prefix`, beyond `after`, in order.
    fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>>;

    /// Applies all writes or none.
    fn apply(&self, writes: Vec<RawWrite>) -> io::Result<()>;

    /// Returns once everything applied survives a loss of power.
    fn sync(&self) -> io::Result<()>;

    /// True while its files are where it was opened. What is written into files that were removed or
    /// replaced is gone with the process.
    fn is_in_place(&self) -> bool;

    /// Free bytes where it writes; `None` where there is no such limit.
    fn free_bytes(&self) -> io::Result<Option<u64>>;
}
