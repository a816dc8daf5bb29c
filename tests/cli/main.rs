//! The `fieldseal` program from outside, as people and scripts use it: every process here is the real
//! binary, over real mutual TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot be set up fails"
)]

mod anchors;
mod approvals;
mod archiving;
mod auditing;
mod backup;
mod certificates;
mod config;
mod crash;
mod csv;
mod dev;
mod disk;
mod doctor;
mod drain;
mod exporting;
mod flood;
mod golden;
mod hostile;
mod init;
mod installation;
mod issuers;
mod job;
mod lifecycle;
mod manual;
mod marker;
mod operations;
mod output;
mod packing;
mod policy;
mod probes;
mod process;
mod proof;
mod quickstart;
mod recover;
mod reload;
mod rewrap;
mod root;
mod root_provider;
mod shredding;
mod terminal;
mod trouble;
mod verifying;
mod web;
mod who_can;
