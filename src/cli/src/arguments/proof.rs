//! The arguments of what proves a log: `audit verify`, `anchor`, `check-checkpoint`,
//! `check-receipt`, `tiles` and `pack`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct AuditVerifyArguments {
    /// The log's directory
    #[arg(long, value_name = "DIR")]
    pub log: PathBuf,
    /// The log's public key, kept apart from the log
    #[arg(long, value_name = "PATH")]
    pub public_key: PathBuf,
    /// A checkpoint that was kept elsewhere, as a signed note or as `audit anchor` writes it; `-` reads
    /// it from standard input
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Where archived segments are: they are verified too, and none of them may be missing (repeatable)
    #[arg(long, value_name = "DIR")]
    pub archive: Vec<PathBuf>,
    /// Remember in this file what was verified, and read only what is new next time
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Read everything again, whatever was verified before
    #[arg(long, requires = "state")]
    pub full: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditAnchorArguments {
    /// The log's directory; without it the running sidecar is asked
    #[arg(long, value_name = "DIR", requires = "public_key")]
    pub log: Option<PathBuf>,
    /// The log's public key: the checkpoint must be signed by it
    #[arg(long, value_name = "PATH")]
    pub public_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditTilesArguments {
    /// The log's directory
    #[arg(long, value_name = "DIR")]
    pub log: PathBuf,
    /// The log's public key, kept apart from the log
    #[arg(long, value_name = "PATH")]
    pub public_key: PathBuf,
    /// Where the checkpoint and the tiles go; what is there already stays
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Where archived segments are (repeatable)
    #[arg(long, value_name = "DIR")]
    pub archive: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditPackArguments {
    /// The log's directory
    #[arg(long, value_name = "DIR")]
    pub log: PathBuf,
    /// The log's public key, kept apart from the log
    #[arg(long, value_name = "PATH")]
    pub public_key: PathBuf,
    /// Where archived segments are (repeatable)
    #[arg(long, value_name = "DIR")]
    pub archive: Vec<PathBuf>,
    /// From this moment on: 2026-11-01, "2026-11-01 08:00", or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: String,
    /// Until before this moment; without it up to the log's end
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Read times without an offset as local time instead of UTC
    #[arg(long)]
    pub local: bool,
    /// The archive, a new file
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// A directory with a policy that was in force then (repeatable)
    #[arg(long, value_name = "DIR")]
    pub policy: Vec<PathBuf>,
    /// Ask the running sidecar for its keys, and put what it says into the archive
    #[arg(long)]
    pub with_keys: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditCheckCheckpointArguments {
    /// The checkpoint, as a signed note or as `audit anchor` writes it; `-` reads it from standard input
    pub file: PathBuf,
    /// The log's public key, kept apart from the log
    #[arg(long, value_name = "PATH")]
    pub public_key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct AuditCheckReceiptArguments {
    /// The receipt, as JSON: log, index, leaf_hash and tree_size; `-` reads it from standard input
    pub file: PathBuf,
    /// The log's public key, kept apart from the log
    #[arg(long, value_name = "PATH")]
    pub public_key: PathBuf,
    /// The log's directory; without it the running sidecar is asked
    #[arg(long, value_name = "DIR", conflicts_with = "proof")]
    pub log: Option<PathBuf>,
    /// Where archived segments are (repeatable)
    #[arg(long, value_name = "DIR", requires = "log")]
    pub archive: Vec<PathBuf>,
    /// A proof that was made with --save-proof, instead of the log (C2SP tlog-proof)
    #[arg(long, value_name = "FILE")]
    pub proof: Option<PathBuf>,
    /// Write the proof to a new file: with it, the receipt is checked without the log
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    pub save_proof: Option<PathBuf>,
}
