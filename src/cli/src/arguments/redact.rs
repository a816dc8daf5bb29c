//! The arguments of `audit redact`.

use clap::{ArgGroup, Args};

use super::ReasonArguments;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true))]
pub(crate) struct AuditRedactArguments {
    /// The detail of this person or tenant, in clear
    #[arg(long, group = "whose")]
    pub partition: Option<String>,
    /// The detail of this row, in clear; needs --table
    #[arg(long, group = "whose", requires = "table")]
    pub row: Option<String>,
    /// The whole detail of the calls of this end user, and of questions about it: who vouches (iss) and whom
    /// it names (sub), in clear
    #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"], group = "whose")]
    pub end_user: Vec<String>,
    /// The row's table
    #[arg(long, requires = "row")]
    pub table: Option<String>,
    /// Everybody's detail of calls that began before this moment: 2026-11-01, "2026-11-01 08:00", or
    /// RFC 3339
    #[arg(long, value_name = "TIME", group = "whose")]
    pub before: Option<String>,
    /// Of a person, a row or an end user only calls that began before this moment
    #[arg(long, value_name = "TIME", conflicts_with = "before")]
    pub until: Option<String>,
    /// Read times without an offset as local time, and show times so, instead of UTC
    #[arg(long)]
    pub local: bool,
    /// Only say how much would go; nothing is changed
    #[arg(long)]
    pub validate_only: bool,
    /// The partition, the row, the end user's subject or the time again, in place of an answer to the question
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
    #[command(flatten)]
    pub reason: ReasonArguments,
}
