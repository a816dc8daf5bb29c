//! `key …`: creating, showing and changing keys.

mod settings;
mod versions;

mod partitions;
mod receipts;
mod rewrap;
mod rotation;

use fieldseal_api::v1;
use serde_json::{Value, json};

use crate::arguments::{KeyChangeArguments, KeyCommand, KeyCreateArguments};
use crate::connection::{self, failure};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, counted};
use crate::pages::Pages;
use crate::times;
use crate::values;

/// Keys on a page; the sidecar gives no more at a time.
const PAGE: i32 = 1000;

/// Runs `key …`.
pub(crate) async fn run(command: KeyCommand, output: &Output) -> Result<(), Failure> {
    match command {
        KeyCommand::Create(arguments) => create(arguments, output).await,
        KeyCommand::Show { key } => show(&key, output).await,
        KeyCommand::List => list(output).await,
        KeyCommand::Status { key } => rotation::status(&key, output).await,
        KeyCommand::Rewrap(arguments) => rewrap::run(arguments, output).await,
        KeyCommand::Rotate { change, etag } => rotate(change, etag, output).await,
        KeyCommand::Update(arguments) => settings::update(arguments, output).await,
        KeyCommand::Enable(of) => versions::enable(of, output).await,
        KeyCommand::Disable(of) => versions::disable(of, output).await,
        KeyCommand::ScheduleDestroy(arguments) => {
            versions::schedule_destroy(arguments, output).await
        }
        KeyCommand::Restore(of) => versions::restore(of, output).await,
        KeyCommand::Shred(arguments) => partitions::shred(arguments, output).await,
        KeyCommand::Unshred(change) => partitions::unshred(change, output).await,
        KeyCommand::Reopen(change) => partitions::reopen(change, output).await,
        KeyCommand::Partition(arguments) => partitions::show(arguments, output).await,
        KeyCommand::CheckReceipt(arguments) => receipts::check(&arguments, output),
    }
}

async fn create(arguments: KeyCreateArguments, output: &Output) -> Result<(), Failure> {
    let KeyCreateArguments { change, settings, destroy_window } = arguments;
    let mut key = v1::Key::default();
    settings::fill(&mut key, &settings);
    key.destroy_window = destroy_window.map(settings::wire);
    let request = v1::CreateKeyRequest {
        key_id: change.key,
        request_id: change.request_id,
        validate_only: change.validate_only,
        reason: Some(values::reason(&change.reason)),
        key: Some(key),
    };
    let mut client = connection::connect().await?.keys();
    let created = client.create_key(request).await.map_err(|s| failure(&s))?.into_inner();
    let key = created.key.ok_or_else(no_key)?;
    if change.validate_only {
        return output.show(
            || json!({ "valid": true, "key": key_json(&key) }),
            || format!("{} could be created; nothing was changed", key.name),
        );
    }
    output.show(
        || json!({ "key": key_json(&key), "event": event(created.receipt.as_ref()) }),
        || format!("created {}, version {}", key.name, number(&key.primary_version)),
    )
}

async fn show(name: &str, output: &Output) -> Result<(), Failure> {
    let mut client = connection::connect().await?.keys();
    let request = v1::GetKeyRequest { name: format!("keys/{name}") };
    let found = client.get_key(request).await.map_err(|s| failure(&s))?.into_inner();
    let key = found.key.ok_or_else(no_key)?;
    output.show(
        || json!({ "key": key_json(&key) }),
        || {
            let mut table = Table::bare();
            table.row(["name", &key.name]);
            table.row(["primary", &number(&key.primary_version)]);
            table.row(["created", &times::shown(key.create_time.as_ref())]);
            table.row(["etag", &key.etag]);
            settings::rows(&mut table, &key);
            let mut versions = Table::new(&["VERSION", "STATE", "CREATED", "DESTROYED"]);
            for version in &key.versions {
                let created = times::shown(version.create_time.as_ref());
                let state = state(version).to_owned();
                versions.row([number(&version.name), state, created, destroyed(version)]);
            }
            format!("{}\n{}", table.text(), versions.text())
        },
    )
}

/// Every key of the running sidecar.
pub(crate) async fn all() -> Result<Vec<v1::Key>, Failure> {
    let mut client = connection::connect().await?.keys();
    let (mut keys, mut pages) = (Vec::new(), Pages::default());
    let mut next = Some(String::new());
    while let Some(page_token) = next {
        let request = v1::ListKeysRequest { page_size: PAGE, page_token };
        let page = client.list_keys(request).await.map_err(|s| failure(&s))?.into_inner();
        keys.extend(page.keys);
        next = pages.next(page.next_page_token)?;
    }
    Ok(keys)
}

async fn list(output: &Output) -> Result<(), Failure> {
    let keys = all().await?;
    output.show(
        || json!({ "keys": keys.iter().map(key_json).collect::<Vec<_>>() }),
        || {
            if keys.is_empty() {
                return "no keys yet; make one: fieldseal key create NAME".to_owned();
            }
            let mut table = Table::new(&["KEY", "PRIMARY", "VERSIONS", "CREATED"]);
            for key in &keys {
                table.row([
                    key.name.clone(),
                    number(&key.primary_version),
                    key.versions.len().to_string(),
                    times::shown(key.create_time.as_ref()),
                ]);
            }
            format!("{}{}", table.text(), counted(keys.len() as u64, "key"))
        },
    )
}

async fn rotate(change: KeyChangeArguments, etag: String, output: &Output) -> Result<(), Failure> {
    let request = v1::RotateKeyRequest {
        name: format!("keys/{}", change.key),
        etag,
        request_id: change.request_id,
        validate_only: change.validate_only,
        reason: Some(values::reason(&change.reason)),
    };
    let mut client = connection::connect().await?.keys();
    let rotated = client.rotate_key(request).await.map_err(|s| failure(&s))?.into_inner();
    let name = format!("keys/{}", change.key);
    let (primary, previous) = (&rotated.primary_version, &rotated.previous_primary_version);
    if change.validate_only {
        return output.show(
            || json!({ "valid": true, "primary_version": primary }),
            || format!("{name} could be rotated; nothing was changed"),
        );
    }
    output.show(
        || {
            json!({
                "primary_version": primary, "previous_primary_version": previous,
                "etag": rotated.etag, "event": event(rotated.receipt.as_ref()),
            })
        },
        || {
            format!(
                "rotated {name}: version {} is primary; what version {} protects still opens",
                number(primary),
                number(previous)
            )
        },
    )
}

pub(crate) fn key_json(key: &v1::Key) -> Value {
    let mut shown = settings::json(key);
    let versions: Vec<_> = key.versions.iter().map(version_json).collect();
    shown.insert("name".into(), key.name.as_str().into());
    shown.insert("primary_version".into(), key.primary_version.as_str().into());
    shown.insert("versions".into(), versions.into());
    shown.insert("create_time".into(), times::json(key.create_time.as_ref()).into());
    shown.insert("etag".into(), key.etag.as_str().into());
    shown.into()
}

fn version_json(version: &v1::KeyVersion) -> Value {
    json!({
        "name": version.name, "state": state(version),
        "create_time": times::json(version.create_time.as_ref()),
        "destroy_time": times::json(version.destroy_time.as_ref()),
        "destroy_event_time": times::json(version.destroy_event_time.as_ref()),
    })
}

/// When a version was destroyed, or will be.
fn destroyed(version: &v1::KeyVersion) -> String {
    match (&version.destroy_event_time, &version.destroy_time) {
        (Some(at), _) => times::shown(Some(at)),
        (None, Some(at)) => format!("due {}", times::shown(Some(at))),
        (None, None) => String::new(),
    }
}

pub(crate) fn state(version: &v1::KeyVersion) -> &'static str {
    state_name(version.state())
}

fn state_name(state: v1::KeyVersionState) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("KEY_VERSION_STATE_").unwrap_or(name)
}

/// The number in `keys/{key}/versions/{n}`.
pub(crate) fn number(version: &str) -> String {
    version.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The audit record that a receipt is for.
pub(crate) fn event(receipt: Option<&v1::AuditReceipt>) -> Option<String> {
    receipt.map(|r| format!("{}/events/{}", r.log, r.index))
}

fn no_key() -> Failure {
    Failure::new(Exit::Internal, "INTERNAL", "the sidecar answered without a key")
}
