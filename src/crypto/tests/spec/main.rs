//! The cryptography against its specifications: published vectors, our vectors
//! (docs/ciphertext.md), and what must hold for every input.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod headers;
mod place;
mod properties;
mod published;
mod separation;
mod vectors;
mod wraps;
mod wycheproof_sets;
