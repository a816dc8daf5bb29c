//! The settings of a key, each within its limits.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::allowed::{AllowedPurposes, TicketPatterns};
use crate::malformed::{Malformed, MalformedReason};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEARS_10: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Seals are reserved in blocks of this many.
pub const SEAL_BLOCK: u64 = 1 << 20;
/// Every ciphertext suite.
const SUITES: [u32; 1] = [1];
/// Most labels of a key.
pub const MAX_LABELS: usize = 32;

/// Why a key behaves as it does. Made by [`KeySettings::default`] and changed by its setters only, so
/// that each setting is always within its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    rotation_period: Option<Duration>,
    destroy_window: Duration,
    data_key_lifetime: Duration,
    seal_limit: u64,
    log_encrypts: bool,
    required: Required,
    purposes: AllowedPurposes,
    tickets: TicketPatterns,
    labels: Labels,
}

/// A setting that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Setting {
    /// [`KeySettings::rotation_period`]
    RotationPeriod,
    /// [`KeySettings::data_key_lifetime`]
    DataKeyLifetime,
    /// [`KeySettings::seal_limit`]
    SealLimit,
    /// [`KeySettings::suites`]
    Suites,
    /// [`KeySettings::log_encrypts`]
    LogEncrypts,
    /// [`Required::row`]
    RowRequired,
    /// [`Required::partition`]
    PartitionRequired,
    /// [`Required::purpose`]
    PurposeRequired,
    /// [`Required::end_user`]
    EndUserRequired,
    /// [`KeySettings::allowed_purposes`]
    AllowedPurposes,
    /// [`KeySettings::ticket_patterns`]
    TicketPatterns,
    /// [`KeySettings::labels`]
    Labels,
}

impl Setting {
    /// Every setting that can be changed.
    pub const ALL: [Self; 12] = [
        Self::RotationPeriod,
        Self::DataKeyLifetime,
        Self::SealLimit,
        Self::Suites,
        Self::LogEncrypts,
        Self::RowRequired,
        Self::PartitionRequired,
        Self::PurposeRequired,
        Self::EndUserRequired,
        Self::AllowedPurposes,
        Self::TicketPatterns,
        Self::Labels,
    ];

    /// The name, as it stands in an update mask and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RotationPeriod => "rotation_period",
            Self::DataKeyLifetime => "data_key_lifetime",
            Self::SealLimit => "seal_limit",
            Self::Suites => "suites",
            Self::LogEncrypts => "log_encrypts",
            Self::RowRequired => "row_required",
            Self::PartitionRequired => "partition_required",
            Self::PurposeRequired => "purpose_required",
            Self::EndUserRequired => "end_user_required",
            Self::AllowedPurposes => "allowed_purposes",
            Self::TicketPatterns => "ticket_patterns",
            Self::Labels => "labels",
        }
    }
}

/// What every call under a key must state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Required {
    /// A row.
    pub row: bool,
    /// A partition other than the default one.
    pub partition: bool,
    /// A purpose, of whoever decrypts.
    pub purpose: bool,
    /// The token of an end user, of whoever decrypts.
    pub end_user: bool,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            rotation_period: Some(365 * DAY),
            destroy_window: 30 * DAY,
            data_key_lifetime: 90 * DAY,
            seal_limit: 1 << 32,
            log_encrypts: false,
            required: Required::default(),
            purposes: AllowedPurposes::default(),
            tickets: TicketPatterns::default(),
            labels: Labels::default(),
        }
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Malformed {
    Malformed::new(MalformedReason::SettingInvalid, message)
}

/// A time in whole seconds within limits.
fn within(
    name: &str,
    limits: (Duration, Duration),
    said: &str,
    value: Duration,
) -> Result<Duration, Malformed> {
    if value < limits.0 || value > limits.1 || value.subsec_nanos() != 0 {
        return Err(invalid(format!("{name} is {said}, in whole seconds")));
    }
    Ok(value)
}

impl KeySettings {
    /// How old the primary version becomes before the sidecar rotates; `None`: never by itself.
    #[must_use]
    pub fn rotation_period(&self) -> Option<Duration> {
        self.rotation_period
    }

    /// Sets the rotation period: zero switches it off.
    ///
    /// # Errors
    /// `SETTING_INVALID` unless it is 0 or 1 day to 10 years.
    pub fn set_rotation_period(&mut self, period: Duration) -> Result<(), Malformed> {
        self.rotation_period = if period.is_zero() {
            None
        } else {
            Some(within("rotation_period", (DAY, YEARS_10), "0 or 1 to 3650 days", period)?)
        };
        Ok(())
    }

    /// How long a version waits, unusable, before its key material is destroyed.
    #[must_use]
    pub fn destroy_window(&self) -> Duration {
        self.destroy_window
    }

    /// Sets the destroy window: of a new key only.
    ///
    /// # Errors
    /// `SETTING_INVALID` unless it is 1 to 366 days.
    pub fn set_destroy_window(&mut self, window: Duration) -> Result<(), Malformed> {
        let limits = (DAY, 366 * DAY);
        self.destroy_window = within("destroy_window", limits, "1 to 366 days", window)?;
        Ok(())
    }

    /// How long a data key seals before the next seal of its partition makes a new one.
    #[must_use]
    pub fn data_key_lifetime(&self) -> Duration {
        self.data_key_lifetime
    }

    /// Sets the data-key lifetime.
    ///
    /// # Errors
    /// `SETTING_INVALID` unless it is 1 hour to 10 years.
    pub fn set_data_key_lifetime(&mut self, lifetime: Duration) -> Result<(), Malformed> {
        let (limits, said) = ((HOUR, YEARS_10), "1 hour to 3650 days");
        self.data_key_lifetime = within("data_key_lifetime", limits, said, lifetime)?;
        Ok(())
    }

    /// How many values a data key seals at most.
    #[must_use]
    pub fn seal_limit(&self) -> u64 {
        self.seal_limit
    }

    /// Sets the seal limit.
    ///
    /// # Errors
    /// `SETTING_INVALID` unless it is 2^20 to 2^32.
    pub fn set_seal_limit(&mut self, limit: u64) -> Result<(), Malformed> {
        if !(SEAL_BLOCK..=1 << 32).contains(&limit) {
            return Err(invalid(format!("seal_limit is {SEAL_BLOCK} to {}", 1_u64 << 32)));
        }
        self.seal_limit = limit;
        Ok(())
    }

    /// The ciphertext suites under which values are sealed and opened. There is one.
    #[must_use]
    pub fn suites(&self) -> &'static [u32] {
        &SUITES
    }

    /// Sets the suites.
    ///
    /// # Errors
    /// `SETTING_INVALID` unless each is known and there is one.
    pub fn set_suites(&mut self, suites: &[u32]) -> Result<(), Malformed> {
        if suites != SUITES {
            return Err(invalid(
                "suites is [1]: there is no other suite, and one must be accepted",
            ));
        }
        Ok(())
    }

    /// Whether each encrypt call is recorded before it is answered.
    #[must_use]
    pub fn log_encrypts(&self) -> bool {
        self.log_encrypts
    }

    /// Sets whether encrypts are recorded.
    pub fn set_log_encrypts(&mut self, on: bool) {
        self.log_encrypts = on;
    }

    /// What every call must state.
    #[must_use]
    pub fn required(&self) -> Required {
        self.required
    }

    /// Sets what every call must state.
    pub fn set_required(&mut self, required: Required) {
        self.required = required;
    }

    /// The purposes that whoever decrypts may state.
    #[must_use]
    pub fn allowed_purposes(&self) -> &AllowedPurposes {
        &self.purposes
    }

    /// Sets the purposes that are taken.
    pub fn set_allowed_purposes(&mut self, purposes: AllowedPurposes) {
        self.purposes = purposes;
    }

    /// The forms of the tickets that whoever decrypts may state.
    #[must_use]
    pub fn ticket_patterns(&self) -> &TicketPatterns {
        &self.tickets
    }

    /// Sets the forms of tickets that are taken.
    pub fn set_ticket_patterns(&mut self, tickets: TicketPatterns) {
        self.tickets = tickets;
    }

    /// Takes one setting over from others.
    pub fn take(&mut self, setting: Setting, from: &Self) {
        match setting {
            Setting::RotationPeriod => self.rotation_period = from.rotation_period,
            Setting::DataKeyLifetime => self.data_key_lifetime = from.data_key_lifetime,
            Setting::SealLimit => self.seal_limit = from.seal_limit,
            // There is one suite.
            Setting::Suites => {}
            Setting::LogEncrypts => self.log_encrypts = from.log_encrypts,
            Setting::RowRequired => self.required.row = from.required.row,
            Setting::PartitionRequired => self.required.partition = from.required.partition,
            Setting::PurposeRequired => self.required.purpose = from.required.purpose,
            Setting::EndUserRequired => self.required.end_user = from.required.end_user,
            Setting::AllowedPurposes => self.purposes = from.purposes.clone(),
            Setting::TicketPatterns => self.tickets = from.tickets.clone(),
            Setting::Labels => self.labels = from.labels.clone(),
        }
    }

    /// The labels.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Sets all labels.
    pub fn set_labels(&mut self, labels: Labels) {
        self.labels = labels;
    }
}

/// An operator's own words about a key, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The labels of these names and values.
    ///
    /// # Errors
    /// `LABEL_INVALID` for more than [`MAX_LABELS`], for a name that does not match
    /// `[a-z][a-z0-9_-]{0,62}`, and for a value of more than 63 bytes or with control characters.
    pub fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, Malformed> {
        let invalid = |message: String| Malformed::new(MalformedReason::LabelInvalid, message);
        let labels: BTreeMap<String, String> = pairs.into_iter().collect();
        if labels.len() > MAX_LABELS {
            return Err(invalid(format!("a key has at most {MAX_LABELS} labels")));
        }
        for (name, value) in &labels {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
            let legal = name.len() <= 63
                && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
                && name.bytes().all(inner);
            if !legal {
                return Err(invalid("a label's name matches [a-z][a-z0-9_-]{0,62}".to_owned()));
            }
            if value.len() > 63 || value.chars().any(char::is_control) {
                return Err(invalid(
                    "a label's value has at most 63 bytes and no control characters".to_owned(),
                ));
            }
        }
        Ok(Self(labels))
    }

    /// Every name and value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_limits() {
        let second = Duration::from_secs(1);
        let mut settings = KeySettings::default();
        let before = settings.clone();
        for bad in [second, DAY - second, YEARS_10 + second, DAY + Duration::from_nanos(1)] {
            assert!(settings.set_rotation_period(bad).is_err(), "{bad:?}");
        }
        for bad in [Duration::ZERO, DAY - second, 366 * DAY + second] {
            assert!(settings.set_destroy_window(bad).is_err(), "{bad:?}");
        }
        for bad in [Duration::ZERO, HOUR - second, YEARS_10 + second] {
            assert!(settings.set_data_key_lifetime(bad).is_err(), "{bad:?}");
        }
        for bad in [0, SEAL_BLOCK - 1, (1 << 32) + 1] {
            assert!(settings.set_seal_limit(bad).is_err(), "{bad}");
        }
        assert_eq!(settings, before);
        for bad in [&[][..], &[2], &[1, 2], &[1, 1]] {
            assert!(settings.set_suites(bad).is_err(), "{bad:?}");
        }
        assert!(settings.set_suites(&[1]).is_ok());
        assert!(settings.set_rotation_period(Duration::ZERO).is_ok());
        assert_eq!(settings.rotation_period(), None);
        for ok in [DAY, YEARS_10] {
            assert!(settings.set_rotation_period(ok).is_ok());
        }
        assert!(settings.set_destroy_window(DAY).is_ok());
        assert!(settings.set_seal_limit(SEAL_BLOCK).is_ok());
    }

    #[test]
    fn labels_have_their_limits() {
        let of = |name: &str, value: &str| {
            Labels::parse([(name.to_owned(), value.to_owned())]).map_err(|e| e.reason())
        };
        let (long, longest) = ("a".repeat(64), "a".repeat(63));
        assert!(of(&longest, &longest).is_ok() && of("team_1-x", "").is_ok());
        for (name, value) in [("", "x"), ("Team", "x"), ("1a", "x"), (&*long, "x"), ("a b", "x")] {
            assert_eq!(of(name, value), Err(MalformedReason::LabelInvalid), "{name}");
        }
        assert_eq!(of("a", &long), Err(MalformedReason::LabelInvalid));
        assert_eq!(of("a", "x\n"), Err(MalformedReason::LabelInvalid));
        let many = |n: usize| (0..n).map(|i| (format!("l{i}"), String::new()));
        assert!(Labels::parse(many(32)).is_ok() && Labels::parse(many(33)).is_err());
    }
}
