//! The command line, as clap reads it. No argument ever carries a value to encrypt.

mod approval;
mod archive;
mod audit;
mod backup;
mod certificate;
pub(crate) mod config;
pub(crate) mod dev;
mod doctor;
#[cfg(test)]
mod documents;
mod health;
mod key;
pub(crate) mod manual;
mod partition;
mod policy;
mod proof;
mod questions;
mod redact;
mod rewrap;
mod root;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use fieldseal_model::Principal;

pub(crate) use approval::{ApprovalCommand, ApproveArguments, RejectArguments};
pub(crate) use archive::AuditArchiveArguments;
pub(crate) use audit::{
    AuditCommand, AuditExportArguments, AuditListArguments, AuditTailArguments, FilterArguments,
    Outcome,
};
pub(crate) use backup::{
    BackupCommand, BackupCreateArguments, BackupDrillArguments, BackupPlace, BackupPruneArguments,
    BackupRestoreArguments, BackupVerifyArguments, UnlockArguments,
};
pub(crate) use doctor::DoctorArguments;
pub(crate) use health::{HealthArguments, ProbeKind};
pub(crate) use key::{
    KeyCreateArguments, KeyUpdateArguments, Requirement, ScheduleDestroyArguments,
    SettingArguments, VersionArguments,
};
pub(crate) use partition::{
    CheckReceiptArguments, PartitionArguments, PartitionChangeArguments, ShowPartitionArguments,
    ShredArguments,
};
pub(crate) use policy::{
    ExplainArguments, MemberArguments, PolicyCommand, PolicyInitArguments, PolicySource,
    PolicyTestArguments, WhoCanArguments,
};
pub(crate) use proof::{
    AuditAnchorArguments, AuditCheckCheckpointArguments, AuditCheckReceiptArguments,
    AuditPackArguments, AuditTilesArguments, AuditVerifyArguments,
};
pub(crate) use questions::{
    AskArguments, BreachQuestion, ChangesQuestion, DenialsQuestion, FieldQuestion,
    PrincipalQuestion, SubjectQuestion, VolumeQuestion,
};
pub(crate) use redact::AuditRedactArguments;
pub(crate) use rewrap::KeyRewrapArguments;
pub(crate) use root::{
    DrillArguments, Provider, ProviderArguments, RewrapArguments, RootCommand, RotateArguments,
};

/// Exit codes, shown at the end of the help.
const EXIT_CODES: &str = "Exit codes: 0 ok, 1 internal, 2 usage, 3 not found, 4 denied, \
    5 unavailable, 6 conflict, 7 decryption failed or tampering found, 8 store full, \
    9 store corrupt, 10 detail of the audit log was redacted, 11 records of it are archived, \
    12 records of it are missing, 13 its end is not proved, 14 `policy test` found another answer, \
    130 interrupted, or nobody read the output to its end.\n\n\
    Client commands read FIELDSEAL_CLIENT_ENDPOINT, FIELDSEAL_CLIENT_CA, FIELDSEAL_CLIENT_CERT \
    and FIELDSEAL_CLIENT_KEY. Without any argument FIELDSEAL_DEV=1 stands for `dev`.";

/// Encrypts sensitive database fields, and proves who read them.
#[derive(Debug, Parser)]
#[command(name = "fieldseal", version, about, after_help = EXIT_CODES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// How results and errors are written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: OutputForm,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OutputForm {
    /// Aligned text for people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// Comma-separated values with a header line: `audit list` and the questions of `audit`
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole job once: a real sidecar seals, opens, rotates, refuses and proves it
    Quickstart(QuickstartArguments),
    /// Run a sidecar in the foreground with keys in memory, for development
    Dev(dev::DevArguments),
    /// Make an installation: keyring, store, audit log, policy and configuration
    Init(InitArguments),
    /// Run the sidecar
    Serve(config::ConfigFile),
    /// Check or show a configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Open a value of a stopped installation with the recovery identity
    Recover(RecoverArguments),
    /// Rotate the root key of a stopped installation, or move it to another root provider
    #[command(subcommand)]
    Root(RootCommand),
    /// Look at a stopped installation, say what is wrong with it and what to do
    Doctor(DoctorArguments),
    /// Create, show, list, rotate and rewrap keys, and shred partitions
    #[command(subcommand)]
    Key(KeyCommand),
    /// Approve or reject what needs a second principal
    #[command(subcommand)]
    Approval(ApprovalCommand),
    /// Encrypt a value from standard input
    Encrypt(EncryptArguments),
    /// Decrypt a value from standard input
    Decrypt(DecryptArguments),
    /// Encrypt or decrypt columns of a CSV file of any size
    #[command(subcommand)]
    Csv(CsvCommand),
    /// Ask who read what, and verify the log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Make, check, restore and try out backups
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Write, check, explain and reload the policy: who may do what
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Say how the sidecar is
    Status,
    /// Ask the sidecar's second listener whether it lives or can serve; needs no certificate
    Health(HealthArguments),
    /// Write the completions of a shell to standard output
    Completions(manual::CompletionsArguments),
    /// Write man pages
    Man(manual::ManArguments),
}

#[derive(Debug, Args)]
pub(crate) struct QuickstartArguments {
    /// Where to put it; must be new, empty, or from an earlier quickstart
    #[arg(long, value_name = "DIR", default_value = "./fieldseal-quickstart")]
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// Where to make it; must be new or empty
    #[arg(long, value_name = "DIR", default_value = "./fieldseal")]
    pub dir: PathBuf,
    /// Encrypt the root key to this recipient instead of showing a new identity once
    #[arg(long, value_name = "age1…")]
    pub recovery_recipient: Option<String>,
    /// The address that `serve` listens on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub provider: ProviderArguments,
    #[command(flatten)]
    pub members: MemberArguments,
    /// Also make a development CA and certificates for the server and the callers app, ops, auditor
    #[arg(long)]
    pub dev_certificates: bool,
}

/// What a value is bound to, apart from row and partition.
#[derive(Debug, Clone, Args)]
pub(crate) struct FieldArguments {
    /// The key's name
    #[arg(long, value_name = "KEY", value_parser = key_name)]
    pub key: String,
    /// The database table
    #[arg(long)]
    pub table: String,
    /// A further pair that the value is bound to (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub context: Vec<(String, String)>,
}

/// The place of one value.
#[derive(Debug, Args)]
pub(crate) struct PlaceArguments {
    #[command(flatten)]
    pub field: FieldArguments,
    /// The column
    #[arg(long)]
    pub column: String,
    /// The row's primary key as text; without it the value is not bound to a row
    #[arg(long, default_value = "")]
    pub row: String,
    /// The tenant or person; without it the default partition
    #[arg(long, default_value = "")]
    pub partition: String,
}

/// Why a caller asks.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReasonArguments {
    /// Why you ask, for example `support`: recorded, and seen by policy
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub purpose: String,
    /// The ticket, for example CASE-4711: recorded, and seen by policy
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub ticket: String,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArguments {
    /// The installation's configuration file; it must be stopped
    #[arg(long, value_name = "PATH", env = "FIELDSEAL_CONFIG", hide_env_values = true)]
    pub config: PathBuf,
    /// A file with the age identity (AGE-SECRET-KEY-1…)
    #[arg(long, value_name = "PATH")]
    pub identity: PathBuf,
    #[command(flatten)]
    pub place: PlaceArguments,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create a key with one enabled version
    Create(KeyCreateArguments),
    /// Show a key and its versions
    Show {
        /// The key's name
        #[arg(value_parser = key_name)]
        key: String,
    },
    /// List all keys
    List,
    /// Show what each version of a key protects, and whether it can be destroyed
    Status {
        /// The key's name
        #[arg(value_parser = key_name)]
        key: String,
    },
    /// Move the data keys of a key under its primary version; ciphertexts stay as they are
    Rewrap(KeyRewrapArguments),
    /// Make a new version and make it primary; old values still open
    Rotate {
        #[command(flatten)]
        change: KeyChangeArguments,
        /// Rotate only if the key is still as `key show` showed it
        #[arg(long, value_name = "ETAG", default_value = "")]
        etag: String,
    },
    /// Change settings of a key
    Update(KeyUpdateArguments),
    /// Let values under a disabled version open again
    Enable(VersionArguments),
    /// Let no value under a version open, until it is enabled again
    Disable(VersionArguments),
    /// Disable a version and destroy it for good when the key's window is over
    ScheduleDestroy(ScheduleDestroyArguments),
    /// Keep a version that waits for its destruction; it is disabled then
    Restore(VersionArguments),
    /// Make every value of a partition, a tenant or one person, unreadable for good
    Shred(ShredArguments),
    /// Take a shred back whose window is not over
    Unshred(PartitionChangeArguments),
    /// Let an erased partition take new values
    Reopen(PartitionChangeArguments),
    /// Show the state of a partition, and the receipt of its erasure
    Partition(ShowPartitionArguments),
    /// Check the receipt of an erasure, without the sidecar
    CheckReceipt(CheckReceiptArguments),
}

#[derive(Debug, Args)]
pub(crate) struct KeyChangeArguments {
    /// The key's name
    #[arg(value_parser = key_name)]
    pub key: String,
    /// A UUID: with it a repeated command changes nothing twice
    #[arg(long, value_name = "UUID", default_value = "")]
    pub request_id: String,
    /// Check everything, the permission too, and change nothing
    #[arg(long)]
    pub validate_only: bool,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

#[derive(Debug, Args)]
pub(crate) struct EncryptArguments {
    #[command(flatten)]
    pub place: PlaceArguments,
    /// What an application that decrypts gets: text or bytes [default: text if it is UTF-8]
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Option<ValueKind>,
    /// Write the binary form instead of fs1. text
    #[arg(long)]
    pub binary: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ValueKind {
    /// UTF-8 text
    Text,
    /// Bytes as they are
    Bytes,
}

#[derive(Debug, Args)]
pub(crate) struct DecryptArguments {
    #[command(flatten)]
    pub place: PlaceArguments,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CsvCommand {
    /// Write a copy of a CSV file with some columns encrypted, as fs1. text
    Encrypt(CsvArguments),
    /// Write a copy of a CSV file with some columns decrypted
    Decrypt {
        #[command(flatten)]
        csv: CsvArguments,
        #[command(flatten)]
        reason: ReasonArguments,
    },
}

#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("rows").required(true))]
pub(crate) struct CsvArguments {
    /// The file to read, with a header line; `-` is standard input
    pub input: PathBuf,
    /// The file to write, not `-`; it appears when it is complete
    pub destination: PathBuf,
    #[command(flatten)]
    pub field: FieldArguments,
    /// A column to encrypt or decrypt, by its header (repeatable)
    #[arg(long, required = true, value_name = "HEADER")]
    pub column: Vec<String>,
    /// The column that names the row
    #[arg(long, value_name = "HEADER", group = "rows")]
    pub row_column: Option<String>,
    /// Do not bind values to rows: they can then be moved between rows unnoticed
    #[arg(long, group = "rows")]
    pub any_row: bool,
    /// The partition of every row
    #[arg(long, value_name = "PARTITION", conflicts_with = "partition_column")]
    pub partition: Option<String>,
    /// The column that names the row's partition
    #[arg(long, value_name = "HEADER")]
    pub partition_column: Option<String>,
    /// Unquoted text that stands for NULL and stays as it is, for example '\N'
    #[arg(long, value_name = "TEXT")]
    pub null: Option<String>,
    /// What separates fields
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    pub delimiter: u8,
    /// Replace the file to write if it exists
    #[arg(long)]
    pub force: bool,
}

fn principal(text: &str) -> Result<Principal, String> {
    Principal::parse(text).map_err(|e| e.to_string())
}

/// `customer-pii` and `keys/customer-pii` name the same key.
fn key_name(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("keys/").unwrap_or(text);
    fieldseal_model::KeyName::parse(bare).map(|n| n.as_str().to_owned()).map_err(|e| e.to_string())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a pair is written NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [b'"' | b'\n' | b'\r'] => Err("a quote or a line ending separates no fields".to_owned()),
        [one] if one.is_ascii() => Ok(*one),
        _ if text == "\\t" => Ok(b'\t'),
        _ => Err("a delimiter is one ASCII character, or \\t".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        use crate::failure::Exit;
        for exit in [
            Exit::Internal,
            Exit::Usage,
            Exit::NotFound,
            Exit::Denied,
            Exit::Unavailable,
            Exit::Conflict,
            Exit::Tampered,
            Exit::Full,
            Exit::Corrupt,
            Exit::Missing,
            Exit::UnprovenTail,
            Exit::Interrupted,
        ] {
            assert!(EXIT_CODES.contains(&format!(" {} ", exit as u8)), "{exit:?}");
        }
    }

    #[test]
    fn a_value_has_no_place_in_the_arguments() {
        let line = "fieldseal encrypt --key k --table t --column c secret";
        assert!(Arguments::try_parse_from(line.split(' ')).is_err());
    }

    #[test]
    fn a_csv_file_states_how_its_values_are_bound_to_rows() {
        let line = "fieldseal csv encrypt in out --key k --table t --column c";
        assert!(Arguments::try_parse_from(line.split(' ')).is_err());
        for more in ["--row-column id", "--any-row"] {
            let line = format!("{line} {more}");
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{more}");
        }
        let both = format!("{line} --any-row --row-column id");
        assert!(Arguments::try_parse_from(both.split(' ')).is_err());
    }

    #[test]
    fn a_key_has_two_spellings() {
        assert_eq!(key_name("keys/a").as_deref(), Ok("a"));
        assert_eq!(key_name("a").as_deref(), Ok("a"));
        assert!(key_name("A b").is_err());
    }
}
