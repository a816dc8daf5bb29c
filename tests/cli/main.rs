//! The `fieldseal` program from outside, as people and scripts use it: every process here is the real
//! binary, over real mutual TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot be set up fails"
)]

mod csv;
mod dev;
mod drain;
mod hostile;
mod init;
mod installation;
mod job;
mod marker;
mod output;
mod probes;
mod process;
mod quickstart;
mod recover;
mod trouble;
