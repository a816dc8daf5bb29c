//! Memory that keeps secrets: key pages, a wiping allocator, a process that leaves no core dump.
//!
//! **For:** holding keys where they are not swapped out, not dumped, and wiped when let go.
//! **May use:** the operating system, `mimalloc`, `zeroize`. No floor of ours.
//! **Must hold:** this is the only crate with `unsafe`, and each use says why it is sound. A secret
//! has no `Debug`, `Clone` or `Serialize`, and is built in place.

mod allocator;
mod environment;
mod pool;
mod process;
mod secret;

pub use allocator::{WipingAllocator, give_back};
pub use environment::{NotTaken, take_variable};
pub use pool::{Protection, key_page_bytes, protection};
pub use process::harden_process;
pub use secret::SecretBox;
