//! The questions of auditors.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::certificate::CertificateArguments;
use super::{ReasonArguments, key_name};

/// What every question has: when, how much, and why.
#[derive(Debug, Clone, Args)]
pub(crate) struct AskArguments {
    /// From this moment on: 2026-11-01, "2026-11-01 08:00", or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until before this moment
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only what this end user was behind, in clear: who vouches (iss) and whom it names (sub)
    #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"])]
    pub end_user: Vec<String>,
    #[command(flatten)]
    pub certificate: CertificateArguments,
    /// Read times without an offset as local time, and show all times so, instead of UTC
    #[arg(long)]
    pub local: bool,
    /// Most rows to show
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = limit)]
    pub limit: u32,
    /// Go on where the output before this one ended
    #[arg(long, value_name = "TOKEN", default_value = "")]
    pub page_token: String,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("subject").required(true).multiple(true))]
pub(crate) struct SubjectQuestion {
    /// The person or tenant, in clear
    #[arg(long, group = "subject")]
    pub partition: Option<String>,
    /// The row, in clear; needs --table
    #[arg(long, group = "subject", requires = "table")]
    pub row: Option<String>,
    /// The row's table
    #[arg(long)]
    pub table: Option<String>,
    #[command(flatten)]
    pub ask: AskArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PrincipalQuestion {
    /// The caller: spiffe://…, dns:…, cn:… or local:…
    pub principal: String,
    #[command(flatten)]
    pub ask: AskArguments,
}

#[derive(Debug, Args)]
pub(crate) struct FieldQuestion {
    /// The table and the column, for example users.iban
    #[arg(value_name = "TABLE.COLUMN", value_parser = field)]
    pub field: (String, String),
    /// Only under this key
    #[arg(long, value_parser = key_name)]
    pub key: Option<String>,
    #[command(flatten)]
    pub ask: AskArguments,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("leaked")
    .required(true)
    .multiple(true)
    .args(["certificate", "certificate_file"]))]
pub(crate) struct BreachQuestion {
    /// What this caller read
    #[arg(long, group = "leaked")]
    pub principal: Option<String>,
    /// What was read under this key version
    #[arg(long, value_name = "KEY/N", group = "leaked", value_parser = key_version)]
    pub key_version: Option<String>,
    /// A file with names of partitions, one a line, in clear: which of them are affected. Each is
    /// asked about in a call of its own, which is recorded with the token of the name
    #[arg(long, value_name = "FILE")]
    pub candidates: Option<PathBuf>,
    #[command(flatten)]
    pub ask: AskArguments,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeQuestion {
    /// Only this caller
    #[arg(long)]
    pub principal: Option<String>,
    /// Only this table and column, for example users.iban
    #[arg(long, value_name = "TABLE.COLUMN", value_parser = field)]
    pub field: Option<(String, String)>,
    #[command(flatten)]
    pub ask: AskArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DenialsQuestion {
    /// Only this caller
    #[arg(long)]
    pub principal: Option<String>,
    #[command(flatten)]
    pub ask: AskArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ChangesQuestion {
    /// Leave out who read this log, but for those who were refused
    #[arg(long)]
    pub without_reads: bool,
    #[command(flatten)]
    pub ask: AskArguments,
}

pub(super) fn limit(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or("a limit is a number above 0".to_owned())
}

/// A table's name may hold points, a column's may not.
pub(super) fn field(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('.') {
        Some((table, column)) if !table.is_empty() && !column.is_empty() => {
            Ok((table.to_owned(), column.to_owned()))
        }
        _ => Err("a field is written TABLE.COLUMN, for example users.iban".to_owned()),
    }
}

/// `customer-pii/2` and the resource's name are the same.
fn key_version(text: &str) -> Result<String, String> {
    let (key, version) = text
        .split_once("/versions/")
        .or_else(|| text.rsplit_once('/'))
        .ok_or("a key version is written KEY/N, for example customer-pii/2")?;
    let name = format!("keys/{}/versions/{version}", key_name(key)?);
    fieldseal_model::KeyVersion::parse_resource(&name).map_err(|e| e.to_string())?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_versions_are_read() {
        assert_eq!(field("a.users.iban"), Ok(("a.users".to_owned(), "iban".to_owned())));
        for bad in ["users", ".iban", "users.", ""] {
            assert!(field(bad).is_err(), "{bad}");
        }
        for good in ["pii/2", "keys/pii/2", "keys/pii/versions/2"] {
            assert_eq!(key_version(good).as_deref(), Ok("keys/pii/versions/2"), "{good}");
        }
        for bad in ["pii", "pii/0", "pii/x", "P/1", "pii/"] {
            assert!(key_version(bad).is_err(), "{bad}");
        }
    }
}
