//! `key enable`, `key disable`, `key schedule-destroy` and `key restore`.

use fieldseal_api::v1;
use fieldseal_client::Client;
use serde_json::json;

use super::{event, number, state, version_json};
use crate::arguments::{ScheduleDestroyArguments, VersionArguments};
use crate::confirm;
use crate::connection::{self, failure};
use crate::failure::{Exit, Failure};
use crate::output::{Output, counted};
use crate::times;
use crate::values;

/// What the sidecar answers to each of the four.
type Answered = (Option<v1::KeyVersion>, String, Option<v1::AuditReceipt>);

/// A request of one of the four, filled in from the arguments.
macro_rules! request {
    ($request:ident, $of:expr $(, $field:ident: $value:expr)*) => {
        v1::$request {
            name: name(&$of),
            request_id: $of.change.request_id.clone(),
            validate_only: $of.change.validate_only,
            reason: Some(values::reason(&$of.change.reason)),
            etag: $of.etag.clone(),
            $($field: $value,)*
        }
    };
}

fn name(of: &VersionArguments) -> String {
    format!("keys/{}/versions/{}", of.change.key, of.version)
}

pub(super) async fn enable(of: VersionArguments, output: &Output) -> Result<(), Failure> {
    let client: Client = connection::connect().await?;
    let answer = client.keys().enable_key_version(request!(EnableKeyVersionRequest, of)).await;
    let answer = answer.map_err(|s| failure(&s))?.into_inner();
    show(
        &of,
        if of.change.validate_only {
            "values under it would open"
        } else {
            "values under it open again"
        },
        answer_of(answer.key_version, answer.etag, answer.receipt),
        output,
    )
}

pub(super) async fn disable(of: VersionArguments, output: &Output) -> Result<(), Failure> {
    let client: Client = connection::connect().await?;
    let answer = client.keys().disable_key_version(request!(DisableKeyVersionRequest, of)).await;
    let answer = answer.map_err(|s| failure(&s))?.into_inner();
    show(
        &of,
        if of.change.validate_only {
            "no value under it would open"
        } else {
            "no value under it opens"
        },
        answer_of(answer.key_version, answer.etag, answer.receipt),
        output,
    )
}

pub(super) async fn restore(of: VersionArguments, output: &Output) -> Result<(), Failure> {
    let client: Client = connection::connect().await?;
    let answer = client.keys().restore_key_version(request!(RestoreKeyVersionRequest, of)).await;
    let answer = answer.map_err(|s| failure(&s))?.into_inner();
    let said = match of.change.validate_only {
        true => "it would not be destroyed",
        false => "it is not destroyed; enable it to open values under it",
    };
    show(&of, said, answer_of(answer.key_version, answer.etag, answer.receipt), output)
}

pub(super) async fn schedule_destroy(
    arguments: ScheduleDestroyArguments,
    output: &Output,
) -> Result<(), Failure> {
    let ScheduleDestroyArguments { of, data_keys_lost, confirm: confirmed } = arguments;
    let client: Client = connection::connect().await?;
    let request = |validate_only| v1::ScheduleDestroyKeyVersionRequest {
        validate_only,
        ..request!(ScheduleDestroyKeyVersionRequest, of, data_keys_lost: data_keys_lost)
    };
    if !of.change.validate_only {
        // What the sidecar refuses anyway needs no question.
        let dry = client.keys().schedule_destroy_key_version(request(true)).await;
        dry.map_err(|s| failure(&s))?;
        let what = format!(
            "{} is disabled at once, and destroyed for good when its window is over; {} lost with it",
            name(&of),
            lost(data_keys_lost, if data_keys_lost > 1 { "are" } else { "is" }),
        );
        confirm::by_name(&of.change.key, confirmed.as_deref(), &what)?;
    }
    let answer = client.keys().schedule_destroy_key_version(request(of.change.validate_only)).await;
    let answer = answer.map_err(|s| failure(&s))?.into_inner();
    let due = answer.key_version.as_ref().and_then(|version| version.destroy_time.as_ref());
    let due = times::shown(due);
    let said = match of.change.validate_only {
        true => format!(
            "nothing under it would open, and {} lost for good with it at {due}",
            lost(data_keys_lost, "would be")
        ),
        false => format!("no value under it opens; it is destroyed at {due}"),
    };
    show(&of, &said, answer_of(answer.key_version, answer.etag, answer.receipt), output)
}

/// How many data keys, and that they are.
fn lost(data_keys: u64, are: &str) -> String {
    match data_keys {
        0 => format!("no data key {are}"),
        some => format!("{} {are}", counted(some, "data key")),
    }
}

fn answer_of(
    version: Option<v1::KeyVersion>,
    etag: String,
    receipt: Option<v1::AuditReceipt>,
) -> Answered {
    (version, etag, receipt)
}

fn show(
    of: &VersionArguments,
    said: &str,
    (version, etag, receipt): Answered,
    output: &Output,
) -> Result<(), Failure> {
    let version = version.ok_or_else(|| {
        Failure::new(Exit::Internal, "INTERNAL", "the sidecar answered without a version")
    })?;
    let key = &of.change.key;
    if of.change.validate_only {
        return output.show(
            || json!({ "valid": true, "key_version": version_json(&version) }),
            || {
                let (number, state) = (number(&version.name), state(&version));
                format!("version {number} of keys/{key} could become {state}: {said}; nothing was changed")
            },
        );
    }
    output.show(
        || {
            json!({
                "key_version": version_json(&version), "etag": etag,
                "event": event(receipt.as_ref()),
            })
        },
        || {
            let number = number(&version.name);
            format!("version {number} of keys/{key} is {}: {said}", state(&version))
        },
    )
}
