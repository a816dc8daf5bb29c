//! A key's settings: as they stand in its record, and their change.

use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind, Receipt};
use fieldseal_model::{
    Action, AllowedPurposes, KeyName, KeySettings, Labels, Malformed, Required, Setting,
    TicketPatterns, Timestamp,
};
use fieldseal_policy::Permit;
use prost::Message;

use crate::change::KeyChange;
use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::records::{ChangeAnswer, KEY, KeyRecord, LabelRecord};
use crate::registry::{KeySnapshot, KeyView, etag};
use crate::request::{Answered, Asked, digest};

/// What calls under a key must keep to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallRules {
    /// What they must state.
    pub required: Required,
    /// Which purposes they may state.
    pub purposes: AllowedPurposes,
    /// Tickets of which forms they may state.
    pub tickets: TicketPatterns,
    /// Each encrypt is recorded before it is answered.
    pub log_encrypts: bool,
}

/// A change of settings that an operator asks for.
#[derive(Debug, Clone)]
pub struct SettingsChange {
    /// Of which key, why, and the rest.
    pub change: KeyChange,
    /// Which settings.
    pub which: Vec<Setting>,
    /// Where their new values stand.
    pub settings: KeySettings,
}

/// What a change of settings came to.
pub struct SettingsChanged {
    /// The key afterwards.
    pub key: KeyView,
    /// The audit record's receipt; `None` when nothing was changed, or when the same request id
    /// had its answer before.
    pub receipt: Option<Receipt>,
}

impl Keys {
    /// What calls under this key must keep to; nothing if it does not exist.
    #[must_use]
    pub fn call_rules(&self, key: &KeyName) -> CallRules {
        let rules = |key: Arc<KeySnapshot>| CallRules {
            required: key.settings.required(),
            purposes: key.settings.allowed_purposes().clone(),
            tickets: key.settings.ticket_patterns().clone(),
            log_encrypts: key.settings.log_encrypts(),
        };
        self.inner.registry.key(key).map(rules).unwrap_or_default()
    }

    /// Changes settings. The next request sees them.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, `EtagMismatch`, `RequestIdReused`, or trouble of journal and
    /// store.
    pub async fn update(
        &self,
        permit: &Permit,
        asked: SettingsChange,
    ) -> Result<SettingsChanged, KeyError> {
        if !permit.covers_key(Action::UpdateKey, &asked.change.key) {
            return Err(KeyError::NotPermitted);
        }
        let (inner, permit) = (Arc::clone(&self.inner), permit.clone());
        self.inner.finish(async move { inner.update(&permit, asked).await }).await
    }
}

impl Inner {
    async fn update(
        &self,
        permit: &Permit,
        asked: SettingsChange,
    ) -> Result<SettingsChanged, KeyError> {
        let SettingsChange { change, which, settings } = asked;
        self.ledger.ready()?;
        let _one_at_a_time = self.changes.lock().await;
        let names: Vec<_> = which.iter().map(|setting| setting.as_str()).collect();
        let names = names.join(",");
        let values = record(&change.key, Timestamp::default(), &settings).encode_to_vec();
        let digest = digest(&[&change.digest(), names.as_bytes(), &values]);
        let request = match self.asked(permit, change.request_id.as_ref(), digest).await? {
            Asked::Before(answered) => return self.updated_before(&answered),
            Asked::New(request) => request,
        };
        self.ledger.ready()?;
        let before = self.check_etag(&change)?;
        let mut after = KeySettings::clone(&before.settings);
        which.iter().for_each(|setting| after.take(*setting, &settings));
        let mut snapshot = KeySnapshot { settings: Arc::new(after), ..KeySnapshot::clone(&before) };
        if change.validate_only {
            return Ok(SettingsChanged { key: self.view(&snapshot), receipt: None });
        }
        let now = self.clock.now();
        let by = ChangedBy::Caller(permit, &change.reason);
        let next = record(&change.key, before.created_at, &snapshot.settings);
        let recorded = KeyRecord { name: String::new(), created_at: 0, ..next.clone() };
        let event = ChangeEvent::new(by, now, Kind::KeyUpdated, Some(&change.key))
            .note(&names)
            .settings(&recorded.encode_to_vec());
        let answer = ChangeAnswer { key: change.key.as_str().to_owned(), version: 0 };
        let path = self.store.path(KEY, &[change.key.as_str().as_bytes()]);
        let next = next.encode_to_vec();
        let fill = |txn: fieldseal_store::Txn| {
            let txn = txn.at(path.clone(), before.settings_revision).put(path, next);
            request.answer(txn, now, &answer)
        };
        let committed = self.ledger.commit(event, fill).await?;
        snapshot.settings_revision = committed.revision;
        snapshot.revision = committed.revision;
        let key = self.view(&snapshot);
        self.registry.put(snapshot);
        // A shorter rotation period may have made the key due.
        self.wake.notify_one();
        Ok(SettingsChanged { key, receipt: Some(committed.receipt) })
    }

    fn updated_before(&self, answered: &Answered) -> Result<SettingsChanged, KeyError> {
        let answer: ChangeAnswer = answered.decode()?;
        let name = KeyName::parse(&answer.key).map_err(|_| KeyError::Corrupt("a request's key"))?;
        let key = self.view(&*self.registry.key(&name)?);
        Ok(SettingsChanged { key: KeyView { etag: etag(answered.revision), ..key }, receipt: None })
    }
}

/// The record of a key with these settings.
pub(crate) fn record(key: &KeyName, created_at: Timestamp, settings: &KeySettings) -> KeyRecord {
    let label = |(name, value): (&str, &str)| LabelRecord {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let required = settings.required();
    KeyRecord {
        name: key.as_str().to_owned(),
        created_at: created_at.unix_nanos(),
        rotation_period_seconds: settings.rotation_period().map_or(0, |period| period.as_secs()),
        destroy_window_seconds: settings.destroy_window().as_secs(),
        data_key_lifetime_seconds: settings.data_key_lifetime().as_secs(),
        seal_limit: settings.seal_limit(),
        suites: settings.suites().to_vec(),
        log_encrypts: settings.log_encrypts(),
        row_required: required.row,
        partition_required: required.partition,
        purpose_required: required.purpose,
        labels: settings.labels().iter().map(label).collect(),
        end_user_required: required.end_user,
        allowed_purposes: settings.allowed_purposes().iter().map(str::to_owned).collect(),
        ticket_patterns: settings.ticket_patterns().iter().map(str::to_owned).collect(),
    }
}

/// The settings of a key's record.
pub(crate) fn of_record(record: &KeyRecord) -> Result<KeySettings, KeyError> {
    checked(record).map_err(|_| KeyError::Corrupt("a key's settings"))
}

fn checked(record: &KeyRecord) -> Result<KeySettings, Malformed> {
    let mut settings = KeySettings::default();
    settings.set_rotation_period(Duration::from_secs(record.rotation_period_seconds))?;
    settings.set_destroy_window(Duration::from_secs(record.destroy_window_seconds))?;
    settings.set_data_key_lifetime(Duration::from_secs(record.data_key_lifetime_seconds))?;
    settings.set_seal_limit(record.seal_limit)?;
    settings.set_suites(&record.suites)?;
    settings.set_log_encrypts(record.log_encrypts);
    settings.set_required(Required {
        row: record.row_required,
        partition: record.partition_required,
        purpose: record.purpose_required,
        end_user: record.end_user_required,
    });
    settings.set_allowed_purposes(AllowedPurposes::parse(&record.allowed_purposes)?);
    settings.set_ticket_patterns(TicketPatterns::parse(&record.ticket_patterns)?);
    let pairs = record.labels.iter().map(|label| (label.name.clone(), label.value.clone()));
    settings.set_labels(Labels::parse(pairs)?);
    Ok(settings)
}

/// The settings with these names, separated by commas, of what a record of their change has: each with its
/// value, for people. Nothing of a record that was written by another version.
#[must_use]
pub fn settings_told(recorded: &[u8], names: &str) -> Vec<(String, String)> {
    let Some(record) = KeyRecord::decode(recorded).ok().filter(|_| !recorded.is_empty()) else {
        return Vec::new();
    };
    let which = Setting::ALL.into_iter();
    let which = which.filter(|setting| names.split(',').any(|name| name == setting.as_str()));
    which.map(|setting| (setting.as_str().to_owned(), value(setting, &record))).collect()
}

fn value(setting: Setting, record: &KeyRecord) -> String {
    let suites = || record.suites.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let labels = || {
        let labels = record.labels.iter();
        labels.map(|label| format!("{}={}", label.name, label.value)).collect::<Vec<_>>().join(",")
    };
    match setting {
        Setting::RotationPeriod => format!("{}s", record.rotation_period_seconds),
        Setting::DataKeyLifetime => format!("{}s", record.data_key_lifetime_seconds),
        Setting::SealLimit => record.seal_limit.to_string(),
        Setting::Suites => suites(),
        Setting::LogEncrypts => record.log_encrypts.to_string(),
        Setting::RowRequired => record.row_required.to_string(),
        Setting::PartitionRequired => record.partition_required.to_string(),
        Setting::PurposeRequired => record.purpose_required.to_string(),
        Setting::EndUserRequired => record.end_user_required.to_string(),
        Setting::AllowedPurposes => record.allowed_purposes.join(","),
        Setting::TicketPatterns => record.ticket_patterns.join(","),
        Setting::Labels => labels(),
    }
}
