//! The keys of the running sidecar, as it says: nothing in the log proves them.

use std::time::{SystemTime, UNIX_EPOCH};

use fieldseal_api::v1;
use fieldseal_model::Timestamp;
use serde_json::{Value, json};

use super::rows;
use crate::failure::Failure;
use crate::keys;

const DAY: i64 = 86_400;

/// What a sidecar answered, and when.
pub(super) struct Inventory {
    pub(super) at: Timestamp,
    pub(super) keys: Vec<v1::Key>,
}

/// Asks the sidecar.
pub(super) async fn ask() -> Result<Inventory, Failure> {
    let keys = keys::all().await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Inventory { at: Timestamp::default().plus(now), keys })
}

impl Inventory {
    pub(super) fn json(&self) -> Value {
        let key = |key: &v1::Key| {
            let mut shown = keys::key_json(key);
            if let Some(members) = shown.as_object_mut() {
                members.insert("algorithm".into(), algorithm(key).into());
                members.insert("primary_age_days".into(), self.age(key).into());
            }
            shown
        };
        json!({
            "asked_at": rows::instant(self.at),
            "proved_by_the_log": false,
            "keys": self.keys.iter().map(key).collect::<Vec<_>>(),
        })
    }

    /// Days since the primary version came into being.
    pub(super) fn age(&self, key: &v1::Key) -> Option<i64> {
        let primary = key.versions.iter().find(|version| version.name == key.primary_version)?;
        let made = primary.create_time.as_ref()?.seconds;
        Some((self.at.unix_nanos() / 1_000_000_000).saturating_sub(made).max(0) / DAY)
    }
}

/// What values of the key are encrypted with.
pub(super) fn algorithm(key: &v1::Key) -> String {
    let name = |suite: &u32| match suite {
        1 => "ChaCha20-Poly1305 with key commitment (suite 1)".to_owned(),
        other => format!("suite {other}"),
    };
    key.suites.iter().map(name).collect::<Vec<_>>().join(", ")
}
