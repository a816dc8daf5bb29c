//! `key update`, and settings as they are given and shown.

use std::time::Duration;

use fieldseal_api::v1;
use serde_json::{Map, Value, json};

use super::{event, key_json, no_key};
use crate::arguments::{KeyUpdateArguments, Requirement, SettingArguments};
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::times;
use crate::values;

pub(super) async fn update(arguments: KeyUpdateArguments, output: &Output) -> Result<(), Failure> {
    let KeyUpdateArguments { change, settings, etag } = arguments;
    let name = format!("keys/{}", change.key);
    let mut key = v1::Key { name: name.clone(), etag, ..Default::default() };
    let paths = fill(&mut key, &settings);
    if paths.is_empty() {
        return Err(Failure::usage(
            "UPDATE_MASK_INVALID",
            "no setting is given, so nothing changes",
        )
        .advise("see `fieldseal key update --help` for the settings"));
    }
    let request = v1::UpdateKeyRequest {
        key: Some(key),
        update_mask: Some(prost_types::FieldMask { paths: paths.clone() }),
        request_id: change.request_id,
        validate_only: change.validate_only,
        reason: Some(values::reason(&change.reason)),
    };
    let mut client = connection::connect().await?.keys();
    let updated = client.update_key(request).await.map_err(|s| failure(&s))?.into_inner();
    let key = updated.key.ok_or_else(no_key)?;
    let paths = paths.join(", ");
    if change.validate_only {
        return output.show(
            || json!({ "valid": true, "key": key_json(&key) }),
            || format!("{paths} of {name} could be set; nothing was changed"),
        );
    }
    output.show(
        || json!({ "key": key_json(&key), "event": event(updated.receipt.as_ref()) }),
        || format!("set {paths} of {name}"),
    )
}

/// Puts the settings that are given into the message; returns which they are.
pub(super) fn fill(key: &mut v1::Key, given: &SettingArguments) -> Vec<String> {
    let mut paths = Vec::new();
    let mut is_set = |path: &str| paths.push(path.to_owned());
    if let Some(period) = given.rotation_period {
        key.rotation_period = Some(wire(period));
        is_set("rotation_period");
    }
    if let Some(lifetime) = given.data_key_lifetime {
        key.data_key_lifetime = Some(wire(lifetime));
        is_set("data_key_lifetime");
    }
    if let Some(limit) = given.seal_limit {
        key.seal_limit = limit;
        is_set("seal_limit");
    }
    if !given.suites.is_empty() {
        key.suites.clone_from(&given.suites);
        is_set("suites");
    }
    if let Some(on) = given.log_encrypts {
        key.log_encrypts = on;
        is_set("log_encrypts");
    }
    if !given.require.is_empty() {
        let has = |what| given.require.contains(&what);
        key.row_required = has(Requirement::Row);
        key.partition_required = has(Requirement::Partition);
        key.purpose_required = has(Requirement::Purpose);
        key.end_user_required = has(Requirement::EndUser);
        ["row_required", "partition_required", "purpose_required", "end_user_required"]
            .into_iter()
            .for_each(&mut is_set);
    }
    if !given.allow_purpose.is_empty() || given.any_purpose {
        key.allowed_purposes.clone_from(&given.allow_purpose);
        is_set("allowed_purposes");
    }
    if !given.ticket_pattern.is_empty() || given.any_ticket {
        key.ticket_patterns.clone_from(&given.ticket_pattern);
        is_set("ticket_patterns");
    }
    if !given.label.is_empty() || given.no_labels {
        key.labels = given.label.iter().cloned().collect();
        is_set("labels");
    }
    paths
}

/// A time for the wire. One that is too long for it is outside every limit.
pub(super) fn wire(time: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: 0 }
}

/// A time for people: in the greatest unit that it is a whole number of.
fn shown(time: Option<&prost_types::Duration>) -> String {
    let seconds = time.map_or(0, |time| time.seconds);
    let units = [(24 * 3600, "d"), (3600, "h"), (60, "m")];
    match units.into_iter().find(|(unit, _)| seconds % unit == 0) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// The settings as rows of a table.
pub(super) fn rows(table: &mut Table, key: &v1::Key) {
    let period = key.rotation_period.as_ref().filter(|period| period.seconds > 0);
    let next = key.next_rotation_time.as_ref();
    let rotation = match period {
        Some(_) => format!("every {}, next {}", shown(period), times::shown(next)),
        None => "off".to_owned(),
    };
    table.row(["rotation", &rotation]);
    table.row(["destroy window", &shown(key.destroy_window.as_ref())]);
    table.row([
        "data keys",
        &format!(
            "for {}, {} values at most",
            shown(key.data_key_lifetime.as_ref()),
            key.seal_limit
        ),
    ]);
    let suites: Vec<String> = key.suites.iter().map(u32::to_string).collect();
    table.row(["suites", &suites.join(", ")]);
    table.row(["encrypts", if key.log_encrypts { "recorded" } else { "counted" }]);
    let required = [
        (key.row_required, "row"),
        (key.partition_required, "partition"),
        (key.purpose_required, "purpose"),
        (key.end_user_required, "end user"),
    ];
    let required: Vec<_> =
        required.into_iter().filter(|(on, _)| *on).map(|(_, what)| what).collect();
    let required = if required.is_empty() { "nothing".to_owned() } else { required.join(", ") };
    table.row(["required", &required]);
    for (name, texts) in [("purposes", &key.allowed_purposes), ("tickets", &key.ticket_patterns)] {
        if !texts.is_empty() {
            table.row([name, &texts.join(", ")]);
        }
    }
    let mut labels: Vec<_> =
        key.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    if !labels.is_empty() {
        table.row(["labels", &labels.join(" ")]);
    }
}

/// The settings as JSON.
pub(super) fn json(key: &v1::Key) -> Map<String, Value> {
    let seconds = |time: Option<&prost_types::Duration>| time.map_or(0, |time| time.seconds);
    let labels: Map<String, Value> =
        key.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    [
        ("rotation_period_seconds", seconds(key.rotation_period.as_ref()).into()),
        ("next_rotation_time", times::json(key.next_rotation_time.as_ref()).into()),
        ("destroy_window_seconds", seconds(key.destroy_window.as_ref()).into()),
        ("data_key_lifetime_seconds", seconds(key.data_key_lifetime.as_ref()).into()),
        ("seal_limit", key.seal_limit.into()),
        ("suites", key.suites.clone().into()),
        ("log_encrypts", key.log_encrypts.into()),
        ("row_required", key.row_required.into()),
        ("partition_required", key.partition_required.into()),
        ("purpose_required", key.purpose_required.into()),
        ("end_user_required", key.end_user_required.into()),
        ("allowed_purposes", key.allowed_purposes.clone().into()),
        ("ticket_patterns", key.ticket_patterns.clone().into()),
        ("labels", labels.into()),
    ]
    .map(|(name, value): (&str, Value)| (name.to_owned(), value))
    .into_iter()
    .collect()
}
