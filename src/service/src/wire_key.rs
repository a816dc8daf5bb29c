//! Keys and times as the wire shows them.

use std::time::Duration;

use fieldseal_api::v1;
use fieldseal_keys::{KeyView, VersionView};
use fieldseal_model::{KeyVersionState, Timestamp};

pub(crate) fn wire_key(key: &KeyView) -> v1::Key {
    let name = key.name.resource();
    let settings = &key.settings;
    let (required, labels) = (settings.required(), settings.labels().iter());
    v1::Key {
        primary_version: format!("{name}/versions/{}", key.primary),
        versions: key.versions.iter().map(|version| wire_version(&name, version)).collect(),
        create_time: Some(wire_time(key.created_at)),
        etag: key.etag.clone(),
        rotation_period: Some(wire_duration(settings.rotation_period().unwrap_or_default())),
        destroy_window: Some(wire_duration(settings.destroy_window())),
        data_key_lifetime: Some(wire_duration(settings.data_key_lifetime())),
        seal_limit: settings.seal_limit(),
        suites: settings.suites().to_vec(),
        log_encrypts: settings.log_encrypts(),
        row_required: required.row,
        partition_required: required.partition,
        purpose_required: required.purpose,
        end_user_required: required.end_user,
        allowed_purposes: settings.allowed_purposes().iter().map(str::to_owned).collect(),
        ticket_patterns: settings.ticket_patterns().iter().map(str::to_owned).collect(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        next_rotation_time: key.next_rotation.map(wire_time),
        name,
    }
}

pub(crate) fn wire_version(key: &str, version: &VersionView) -> v1::KeyVersion {
    v1::KeyVersion {
        name: format!("{key}/versions/{}", version.number),
        state: wire_state(version.state).into(),
        create_time: Some(wire_time(version.created_at)),
        destroy_time: version.destroy_at.map(wire_time),
        destroy_event_time: version.destroyed_at.map(wire_time),
    }
}

fn wire_duration(duration: Duration) -> prost_types::Duration {
    // Settings have whole seconds and at most ten years.
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: 0 }
}

pub(crate) fn wire_state(state: KeyVersionState) -> v1::KeyVersionState {
    match state {
        KeyVersionState::Enabled => v1::KeyVersionState::Enabled,
        KeyVersionState::Disabled => v1::KeyVersionState::Disabled,
        KeyVersionState::DestroyScheduled => v1::KeyVersionState::DestroyScheduled,
        KeyVersionState::Destroyed => v1::KeyVersionState::Destroyed,
    }
}

pub(crate) fn wire_time(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.unix_nanos();
    prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        // The remainder is below 10^9 and fits.
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}
