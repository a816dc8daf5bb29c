//! What a storage backend must do: hold opaque bytes, apply a batch whole, and make it durable.

pub(crate) mod memory;
pub(crate) mod sled;

use std::io;

/// A change of one key.
#[derive(Clone)]
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

    /// Begins to write everything anew, into files that hold nothing but what there is, if so many
    /// bytes stay free. Until the end reads come from the files before; whatever is applied goes into
    /// both.
    fn rewrite_begin(&self, reserve: u64) -> io::Result<()>;

    /// Copies the next part; true once everything is copied and synced. After an error the files
    /// before go on as they are.
    fn rewrite_step(&self) -> io::Result<bool>;

    /// Writes this into the new files alone, and syncs them. After an error the files before go on as
    /// they are.
    fn rewrite_mark(&self, mark: RawWrite) -> io::Result<()>;

    /// Lets the new files count, all at once. After an error nobody knows which files count. What is
    /// left over of the files before is the caller's to remove.
    fn rewrite_end(&self) -> io::Result<LeftOver>;

    /// Forgets a rewrite that did not come to its end.
    fn rewrite_give_up(&self);
}

/// What is left over of a rewrite: the call closes and removes the files before. It takes its time.
pub(crate) type LeftOver = Box<dyn FnOnce() -> io::Result<()> + Send>;
