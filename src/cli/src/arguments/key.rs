//! The arguments of `key`: settings, and what becomes of versions.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{KeyChangeArguments, pair};

/// Settings of a key; without one of them its default, or what it is now.
#[derive(Debug, Args)]
pub(crate) struct SettingArguments {
    /// Rotate by itself when the primary version is that old: 1d to 3650d, or `off` [default: 365d]
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub rotation_period: Option<Duration>,
    /// How long a data key encrypts: 1h to 3650d [default: 90d]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub data_key_lifetime: Option<Duration>,
    /// How many values a data key encrypts: 1048576 to 4294967296 [default: 4294967296]
    #[arg(long, value_name = "COUNT")]
    pub seal_limit: Option<u64>,
    /// The ciphertext suites under which values are encrypted and opened; replaces those the key has.
    /// There is one: 1 [default: 1]
    #[arg(long, value_name = "NUMBER", value_delimiter = ',')]
    pub suites: Vec<u32>,
    /// Record every call that encrypts before it is answered
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub log_encrypts: Option<bool>,
    /// What every call must state; replaces what had to be stated before
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    pub require: Vec<Requirement>,
    /// A purpose that whoever decrypts may state (repeatable); replaces all that the key allows
    #[arg(long, value_name = "TEXT")]
    pub allow_purpose: Vec<String>,
    /// Take any purpose, and none
    #[arg(long, conflicts_with = "allow_purpose")]
    pub any_purpose: bool,
    /// The form of a ticket that whoever decrypts may state (repeatable), such as OPS-#: # is one digit or
    /// more, ? one character, * any number; replaces all that the key has
    #[arg(long, value_name = "PATTERN")]
    pub ticket_pattern: Vec<String>,
    /// Take any ticket, and none
    #[arg(long, conflicts_with = "ticket_pattern")]
    pub any_ticket: bool,
    /// A label (repeatable); replaces all labels the key has
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub label: Vec<(String, String)>,
    /// Take all labels away
    #[arg(long, conflicts_with = "label")]
    pub no_labels: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Requirement {
    /// The row, of whoever encrypts or decrypts
    Row,
    /// The partition, of whoever encrypts or decrypts
    Partition,
    /// The purpose, of whoever decrypts
    Purpose,
    /// The token of an end user, of whoever decrypts
    EndUser,
    /// Nothing
    Nothing,
}

#[derive(Debug, Args)]
pub(crate) struct KeyCreateArguments {
    #[command(flatten)]
    pub change: KeyChangeArguments,
    #[command(flatten)]
    pub settings: SettingArguments,
    /// How long a version waits for its destruction: 1d to 366d. It never changes [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub destroy_window: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct KeyUpdateArguments {
    #[command(flatten)]
    pub change: KeyChangeArguments,
    #[command(flatten)]
    pub settings: SettingArguments,
    /// Change it only if the key is still as `key show` showed it
    #[arg(long, value_name = "ETAG", default_value = "")]
    pub etag: String,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArguments {
    #[command(flatten)]
    pub change: KeyChangeArguments,
    /// The version's number
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub version: u32,
    /// Change it only if the key is still as `key show` showed it
    #[arg(long, value_name = "ETAG", default_value = "")]
    pub etag: String,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleDestroyArguments {
    #[command(flatten)]
    pub of: VersionArguments,
    /// How many data keys the version wraps: what they encrypted is lost for good
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub data_keys_lost: u64,
    /// The key's name again, where nobody is there to be asked
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
}

fn period(text: &str) -> Result<Duration, String> {
    if text == "off" { Ok(Duration::ZERO) } else { time(text) }
}

/// A time as a person writes it: a number and s, m, h or d.
fn time(text: &str) -> Result<Duration, String> {
    let invalid = || "write a whole number and s, m, h or d, for example 90d".to_owned();
    let unit = text.chars().next_back().ok_or_else(invalid)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(invalid()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number: Option<u64> = number.parse().ok().filter(|_| plain);
    let all = number.and_then(|number| number.checked_mul(seconds)).ok_or_else(invalid)?;
    Ok(Duration::from_secs(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let days = |days: u64| Ok(Duration::from_secs(days * 24 * 3600));
        assert_eq!((time("90d"), time("24h"), period("off")), (days(90), days(1), days(0)));
        for bad in ["", "d", "90", "-1d", "+1d", "1.5d", "1w", "99999999999999999999d", "1é"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
