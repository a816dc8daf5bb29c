//! Bytes in, durable bytes out: the store and the committer that seals everything above it.
//!
//! **For:** keeping small records so that an acknowledged write survives `kill -9` and power loss,
//! and so that a stolen directory shows neither names nor values.
//! **May use:** `crypto`, `model`. It knows nothing of what the records mean.
//! **Must hold:** one thread commits; guards, revisions and the sum of the whole store belong to
//! one transaction; nothing is acknowledged before it is synced; after an I/O error nothing is
//! written any more; every transaction leaves an event in the outbox.

mod backend;
mod committer;
mod copy;
mod copying;
mod damage;
mod error;
mod generations;
mod import;
mod lock;
mod many;
mod path;
mod rewrite;
mod scrub;
mod snapshot;
mod store;
mod stored;
mod txn;

pub use backend::memory::{Faults, MemoryDisk};
pub use copy::{COPIED_KEYRING, CopyError, CopyOwner, CopyPart, CopyReader, CopyTarget};
pub use copying::copy_files;
pub use error::{StoreError, TxnError};
pub use generations::{Generation, Generations};
pub use import::Import;
pub use path::{Kind, Path, Prefix};
pub use scrub::{Found, Pass, Sums};
pub use snapshot::{RawEntry, Snapshot};
pub use store::{
    BackendSettings, Health, OutboxEntry, Position, RangePage, Secrets, Settings, Store, Versioned,
};
pub use txn::{Event, Txn, Update};
