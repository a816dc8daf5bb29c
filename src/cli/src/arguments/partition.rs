//! The arguments of the commands about partitions.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{ReasonArguments, key_name};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub(crate) struct PartitionArguments {
    /// The key's name
    #[arg(value_parser = key_name)]
    pub key: String,
    /// The tenant or person
    #[arg(
        long,
        value_name = "TEXT",
        group = "which",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub partition: Option<String>,
    /// The default partition: everything that was encrypted without one
    #[arg(long, group = "which")]
    pub default_partition: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PartitionChangeArguments {
    #[command(flatten)]
    pub place: PartitionArguments,
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
pub(crate) struct ShredArguments {
    #[command(flatten)]
    pub change: PartitionChangeArguments,
    /// How long it can be restored [default: as the sidecar is configured]
    #[arg(long, value_name = "HOURS")]
    pub window_hours: Option<u32>,
    /// The key's name again, in place of an answer to the question
    #[arg(long, value_name = "NAME", value_parser = key_name)]
    pub confirm: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowPartitionArguments {
    #[command(flatten)]
    pub place: PartitionArguments,
    /// Write the signed receipt of its erasure to this file, which must be new
    #[arg(long, value_name = "PATH")]
    pub receipt: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckReceiptArguments {
    /// The receipt
    pub file: PathBuf,
    /// The log's public key: log.pub
    #[arg(long, value_name = "PATH")]
    pub public_key: PathBuf,
    /// The tenant or person that it must be about; without it the default partition
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub partition: String,
}
