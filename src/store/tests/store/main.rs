//! The store's contract: one suite that every backend passes, then what faults do to it, then what
//! is true of sled's files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod conformance;
mod copies;
mod faults;
mod place;
mod sled_files;
mod sled_process;
