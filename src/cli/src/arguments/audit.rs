//! The commands of the audit log, and the arguments of `audit list`.

use clap::{Args, Subcommand, ValueEnum};

use super::key_name;
use super::proof::{AuditAnchorArguments, AuditCheckReceiptArguments, AuditVerifyArguments};
use super::questions::{
    BreachQuestion, ChangesQuestion, DenialsQuestion, FieldQuestion, PrincipalQuestion,
    SubjectQuestion, VolumeQuestion,
};
use super::redact::AuditRedactArguments;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List events, the newest first
    List(Box<AuditListArguments>),
    /// Show every access to one person or tenant, or to one row
    Subject(SubjectQuestion),
    /// Count what one caller touched, and what it was refused
    Principal(PrincipalQuestion),
    /// Show who reads a column, and who started to this week
    Field(FieldQuestion),
    /// List what a caller or a key version read between two times: whom to notify
    Breach(BreachQuestion),
    /// Count decrypts per hour, by caller and field
    Volume(VolumeQuestion),
    /// Count what policy refused, by rule and caller
    Denials(DenialsQuestion),
    /// List changes of keys, policy and backups, starts and stops, and who read this log
    Changes(ChangesQuestion),
    /// Erase personal detail of one person or tenant, of one row, or of everything before a time
    Redact(AuditRedactArguments),
    /// Verify a log with nothing but its files and its public key
    Verify(AuditVerifyArguments),
    /// Print the newest checkpoint in one line, to be kept elsewhere
    Anchor(AuditAnchorArguments),
    /// Check that the record of a receipt is in the log, or under a checkpoint
    CheckReceipt(AuditCheckReceiptArguments),
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AuditListArguments {
    /// From this moment on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until before this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Who called (repeatable)
    #[arg(long)]
    pub principal: Vec<String>,
    /// What was called, for example Decrypt (repeatable)
    #[arg(long)]
    pub action: Vec<String>,
    /// Which key (repeatable)
    #[arg(long, value_parser = key_name)]
    pub key: Vec<String>,
    /// Which table
    #[arg(long)]
    pub table: Option<String>,
    /// Which column
    #[arg(long)]
    pub column: Option<String>,
    /// Which partition, in clear; empty is the default partition
    #[arg(long)]
    pub partition: Option<String>,
    /// Which row, in clear; needs --table
    #[arg(long, requires = "table")]
    pub row: Option<String>,
    /// How it ended (repeatable)
    #[arg(long, value_enum)]
    pub outcome: Vec<Outcome>,
    /// The stated purpose (repeatable)
    #[arg(long)]
    pub purpose: Vec<String>,
    /// The stated ticket (repeatable)
    #[arg(long)]
    pub ticket: Vec<String>,
    /// Most events to list
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// List the oldest first
    #[arg(long)]
    pub oldest_first: bool,
    /// Show each item of a batch on a line of its own
    #[arg(long)]
    pub items: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outcome {
    Ok,
    Denied,
    Failed,
    Partial,
}
