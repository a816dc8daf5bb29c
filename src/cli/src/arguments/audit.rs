//! The commands of the audit log, and the arguments of `audit list`, `tail` and `export`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::archive::AuditArchiveArguments;
use super::certificate::CertificateArguments;
use super::proof::{
    AuditAnchorArguments, AuditCheckCheckpointArguments, AuditCheckReceiptArguments,
    AuditPackArguments, AuditTilesArguments, AuditVerifyArguments,
};
use super::questions::{
    BreachQuestion, ChangesQuestion, DenialsQuestion, FieldQuestion, PrincipalQuestion,
    SubjectQuestion, VolumeQuestion, limit,
};
use super::redact::AuditRedactArguments;
use super::{ReasonArguments, key_name};

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
    /// List what a caller, a certificate or a key version read between two times: whom to notify
    Breach(BreachQuestion),
    /// Count decrypts per hour, by caller and field
    Volume(VolumeQuestion),
    /// Count what was refused, by rule, cause and caller
    Denials(DenialsQuestion),
    /// List changes of keys, policy, settings, certificates and backups, and who read this log
    Changes(ChangesQuestion),
    /// Erase personal detail of one person or tenant, of one row, or of everything before a time
    Redact(AuditRedactArguments),
    /// Move the oldest segments of the log to the archive
    Archive(AuditArchiveArguments),
    /// Follow the log as it grows, until Ctrl-C
    Tail(Box<AuditTailArguments>),
    /// Write events as OCSF Datastore Activity, one JSON document a line
    Export(Box<AuditExportArguments>),
    /// Verify a log with nothing but its files and its public key
    Verify(AuditVerifyArguments),
    /// Print the newest checkpoint in one line, to be kept elsewhere
    Anchor(AuditAnchorArguments),
    /// Check that the running sidecar's log goes on from a checkpoint that was kept
    CheckCheckpoint(AuditCheckCheckpointArguments),
    /// Check that the record of a receipt is in the log, or under a checkpoint
    CheckReceipt(AuditCheckReceiptArguments),
    /// Write a verified log as C2SP tlog-tiles, for other programs
    Tiles(AuditTilesArguments),
    /// Write the records between two times, with their proof, into one archive for an outside auditor
    Pack(Box<AuditPackArguments>),
}

impl AuditCommand {
    /// True of those that answer in rows, and so in CSV too.
    pub(crate) fn has_csv(&self) -> bool {
        matches!(
            self,
            Self::List(_)
                | Self::Subject(_)
                | Self::Principal(_)
                | Self::Field(_)
                | Self::Breach(_)
                | Self::Volume(_)
                | Self::Denials(_)
                | Self::Changes(_)
        )
    }
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AuditListArguments {
    /// From this moment on: 2026-11-01, "2026-11-01 08:00", or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until before this moment
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Read times without an offset as local time, and show all times so, instead of UTC
    #[arg(long)]
    pub local: bool,
    #[command(flatten)]
    pub filter: FilterArguments,
    /// The stated purpose (repeatable)
    #[arg(long)]
    pub purpose: Vec<String>,
    /// The stated ticket (repeatable)
    #[arg(long)]
    pub ticket: Vec<String>,
    /// Most events to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit)]
    pub limit: u32,
    /// Go on where the output before this one ended
    #[arg(long, value_name = "TOKEN", default_value = "")]
    pub page_token: String,
    /// List the oldest first
    #[arg(long)]
    pub oldest_first: bool,
    /// Show each item of a batch on a line of its own
    #[arg(long)]
    pub items: bool,
}

/// What every list of events can be narrowed to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArguments {
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
    /// The end user behind the call, in clear: who vouches (iss) and whom it names (sub)
    #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"])]
    pub end_user: Vec<String>,
    #[command(flatten)]
    pub certificate: CertificateArguments,
}

/// What the events state, where `--purpose` and `--ticket` are why they are asked for.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WithArguments {
    /// The purpose that the events state (repeatable)
    #[arg(long, value_name = "TEXT")]
    pub with_purpose: Vec<String>,
    /// The ticket that the events state (repeatable)
    #[arg(long, value_name = "TEXT")]
    pub with_ticket: Vec<String>,
}

/// Those of `audit tail`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditTailArguments {
    /// Begin with what is on record from this moment on: 2026-11-01, "2026-11-01 08:00", or RFC 3339; instead
    /// of now
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Read a time without an offset as local time, and show all times so, instead of UTC
    #[arg(long)]
    pub local: bool,
    /// Begin with this record: a tail says at its end where to go on
    #[arg(long, value_name = "INDEX", conflicts_with = "since")]
    pub from: Option<u64>,
    #[command(flatten)]
    pub filter: FilterArguments,
    #[command(flatten)]
    pub with: WithArguments,
    /// Show each item of a batch on a line of its own
    #[arg(long)]
    pub items: bool,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

/// Those of `audit export`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditExportArguments {
    /// From this moment on: 2026-11-01, "2026-11-01 08:00", or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until before this moment
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Read times without an offset as local time instead of UTC; an export has its times in milliseconds
    /// since 1970
    #[arg(long)]
    pub local: bool,
    #[command(flatten)]
    pub filter: FilterArguments,
    #[command(flatten)]
    pub with: WithArguments,
    /// Write to this new file instead of standard output
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outcome {
    Ok,
    Denied,
    Failed,
    Partial,
}
