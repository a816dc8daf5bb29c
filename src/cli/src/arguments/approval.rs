//! The arguments of `approval`.

use clap::{Args, Subcommand};

use super::ReasonArguments;

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalCommand {
    /// List the changes that wait for a second principal, and what became of those that did
    List,
    /// Show one, with every parameter; the name of a partition is for who may shred it
    Show {
        /// The request's id
        id: String,
    },
    /// Do what somebody else asked for
    Approve(ApproveArguments),
    /// Let a change that waits go
    Reject(RejectArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArguments {
    /// The request's id
    pub id: String,
    /// The etag of what was looked at [default: what is shown before the question]
    #[arg(long)]
    pub etag: Option<String>,
    /// The key's name, of a change of the audit log the request's id, for scripts: nobody is asked
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

#[derive(Debug, Args)]
pub(crate) struct RejectArguments {
    /// The request's id
    pub id: String,
    #[command(flatten)]
    pub reason: ReasonArguments,
}
