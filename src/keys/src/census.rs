//! What there is under each version of a key: from the counts that are kept with the data, so that
//! no data key is looked at. The scrub counts anew.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;

use fieldseal_model::{Action, KeyName, KeyVersionState, Timestamp, VersionNumber};
use fieldseal_policy::Permit;
use fieldseal_store::Versioned;

use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::records::{COUNTS, CountsRecord, decode};
use crate::usage::Day;

/// What there is under a key version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Data keys that the version wraps.
    pub data_keys: u64,
    /// Partitions that have at least one of them.
    pub partitions: u64,
    /// Seals that these data keys have reserved, in blocks.
    pub reserved_seals: u64,
}

/// Whether a version can be destroyed without losing anything, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It wraps nothing.
    Safe,
    /// New values are sealed under it.
    Primary,
    /// It wraps so many data keys.
    InUse(u64),
    /// It wraps so many data keys, and a rewrap leaves them, because it is disabled.
    InUseDisabled(u64),
    /// It is going to be destroyed already, and so many data keys with it.
    Scheduled(u64),
    /// It is destroyed already, and so many data keys with it.
    Destroyed(u64),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Safe => f.write_str("yes: it wraps no data key"),
            Self::Primary => f.write_str("no: it is the primary version; rotate the key first"),
            Self::InUse(n) => {
                write!(f, "no: it wraps {}; rewrap them first, or their values are lost", keys(n))
            }
            Self::InUseDisabled(n) => write!(
                f,
                "no: it wraps {}, which a rewrap leaves while it is disabled; enable it and rewrap \
                 them first, or their values are lost",
                keys(n)
            ),
            Self::Scheduled(0) => f.write_str("it is going to be; it wraps no data key"),
            Self::Scheduled(n) => write!(
                f,
                "it is going to be, and the values of {} will be lost; restore it to keep them",
                keys(n)
            ),
            Self::Destroyed(0) => f.write_str("it is destroyed; nothing was lost with it"),
            Self::Destroyed(n) => {
                write!(f, "it is destroyed, and the values of {} are lost", keys(n))
            }
        }
    }
}

fn keys(count: u64) -> String {
    if count == 1 { "1 data key".to_owned() } else { format!("{count} data keys") }
}

impl Verdict {
    /// True if nothing is lost by destroying it.
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Safe)
    }
}

/// How one version is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStatus {
    /// The number.
    pub number: VersionNumber,
    /// The state.
    pub state: KeyVersionState,
    /// When it was created.
    pub created_at: Timestamp,
    /// What there is under it.
    pub totals: Totals,
    /// When a value was sealed under it last.
    pub last_sealed: Option<Day>,
    /// When a value was opened under it last.
    pub last_opened: Option<Day>,
    /// Whether it can be destroyed.
    pub verdict: Verdict,
}

/// How far the rotation of a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationStatus {
    /// The key.
    pub key: KeyName,
    /// The version under which new values are sealed.
    pub primary: VersionNumber,
    /// Every version, oldest first.
    pub versions: Vec<VersionStatus>,
}

impl RotationStatus {
    /// In one sentence, whether the rotation is finished.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |wanted: fn(Verdict) -> u64| -> u64 {
            self.versions.iter().map(|version| wanted(version.verdict)).sum()
        };
        let open = count(|verdict| match verdict {
            Verdict::InUse(n) => n,
            _ => 0,
        });
        let left = count(|verdict| match verdict {
            Verdict::InUseDisabled(n) | Verdict::Scheduled(n) => n,
            _ => 0,
        });
        match (open, left) {
            (0, 0) => "the rotation is finished: the primary version wraps every data key".into(),
            (0, left) => format!(
                "the rotation is finished but for {} of versions that are disabled or going to be \
                 destroyed",
                keys(left)
            ),
            (open, _) => {
                let wait = if open == 1 { "waits" } else { "wait" };
                format!("the rotation is not finished: {} {wait} for a rewrap", keys(open))
            }
        }
    }
}

impl Keys {
    /// How far the rotation of a key is.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, the store's trouble.
    pub async fn rotation(
        &self,
        permit: &Permit,
        name: &KeyName,
    ) -> Result<RotationStatus, KeyError> {
        if !permit.covers_key(Action::GetRotationStatus, name) {
            return Err(KeyError::NotPermitted);
        }
        let totals = self.inner.totals(name).await?;
        let snapshot = self.inner.registry.key(name)?;
        let primary = snapshot.primary.version.number;
        let versions = snapshot.versions.iter().map(|(number, cell)| {
            let totals = totals.get(number).copied().unwrap_or_default();
            let (last_sealed, last_opened) = cell.used.days();
            let state = cell.state();
            VersionStatus {
                number: *number,
                state,
                created_at: cell.created_at,
                totals,
                last_sealed,
                last_opened,
                verdict: verdict(state, *number == primary, totals.data_keys),
            }
        });
        Ok(RotationStatus { key: name.clone(), primary, versions: versions.collect() })
    }
}

fn verdict(state: KeyVersionState, is_primary: bool, data_keys: u64) -> Verdict {
    match state {
        KeyVersionState::Destroyed => Verdict::Destroyed(data_keys),
        KeyVersionState::DestroyScheduled => Verdict::Scheduled(data_keys),
        _ if is_primary => Verdict::Primary,
        _ if data_keys == 0 => Verdict::Safe,
        KeyVersionState::Disabled => Verdict::InUseDisabled(data_keys),
        KeyVersionState::Enabled => Verdict::InUse(data_keys),
    }
}

impl Inner {
    /// What there is under the versions of a key.
    pub(crate) async fn totals(
        &self,
        key: &KeyName,
    ) -> Result<BTreeMap<VersionNumber, Totals>, KeyError> {
        const WHAT: &str = "the counts of a key version";
        // Somebody may destroy a version because of what they say.
        if self.doubtful_counts.load(Ordering::Acquire) {
            return Err(KeyError::Corrupt(WHAT));
        }
        let prefix = self.store.prefix(COUNTS, &[key.as_str().as_bytes()]);
        let mut totals = BTreeMap::new();
        let add = |found: Versioned| {
            let record: CountsRecord = decode(WHAT, &found.value)?;
            let version = VersionNumber::new(record.version)
                .filter(|_| record.key == key.as_str())
                .ok_or(KeyError::Corrupt(WHAT))?;
            let of_version = Totals {
                data_keys: record.data_keys,
                partitions: record.partitions,
                reserved_seals: record.reserved,
            };
            totals.insert(version, of_version);
            Ok(())
        };
        self.store.each::<KeyError>(&prefix, add).await?;
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_waits_and_what_is_left() {
        let said = |verdicts: &[Verdict]| {
            let of = |verdict: &Verdict| VersionStatus {
                number: VersionNumber::FIRST,
                state: KeyVersionState::Enabled,
                created_at: Timestamp::default(),
                totals: Totals::default(),
                last_sealed: None,
                last_opened: None,
                verdict: *verdict,
            };
            let versions = verdicts.iter().map(of).collect();
            let key = KeyName::parse("pii").unwrap();
            RotationStatus { key, primary: VersionNumber::FIRST, versions }.summary()
        };
        let left = [Verdict::InUseDisabled(1), Verdict::Scheduled(2), Verdict::Primary];
        assert_eq!(
            said(&[Verdict::InUse(1), Verdict::Safe]),
            "the rotation is not finished: 1 data key waits for a rewrap"
        );
        assert!(said(&[Verdict::InUse(2)]).ends_with(": 2 data keys wait for a rewrap"));
        assert!(
            said(&left).starts_with("the rotation is finished but for 3 data keys of versions")
        );
        assert!(said(&[Verdict::Destroyed(7)]).starts_with("the rotation is finished: "));
    }
}
