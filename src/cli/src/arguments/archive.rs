//! The arguments of `audit archive`.

use clap::Args;

use super::ReasonArguments;

#[derive(Debug, Args)]
pub(crate) struct AuditArchiveArguments {
    /// Only segments whose records were all made before this moment: 2026-11-01, "2026-11-01 08:00", or
    /// RFC 3339
    #[arg(long, value_name = "TIME")]
    pub before: String,
    /// Read a time without an offset as local time, and show times so, instead of UTC
    #[arg(long)]
    pub local: bool,
    /// Only say how much would move; nothing is changed
    #[arg(long)]
    pub validate_only: bool,
    #[command(flatten)]
    pub reason: ReasonArguments,
}
