//! `backup`: made while serving, checked, and put back.

mod access;
mod drill;
mod prune;
mod restore;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fieldseal_api::v1;
use fieldseal_audit::verify::{self, LogKey};
use fieldseal_engine::backup::{self, BackupError, Made, Manifest, Recipients};
use fieldseal_engine::{BootError, CopyError};
use fieldseal_keys::keyring::{Keyring, KeyringError};
use fieldseal_model::{
    AccessReason, Principal, PrincipalKind, Purpose, SystemClock, Ticket, Timestamp,
};
use fieldseal_server::Config;
use rustix::process::getuid;
use serde_json::{Value, json};

use crate::arguments::{
    BackupCommand, BackupCreateArguments, BackupPlace, BackupVerifyArguments, ReasonArguments,
};
use crate::connection;
use crate::failure::{Exit, Failure};
use crate::keys::event;
use crate::output::{Output, Table, grouped};
use crate::recover::refuse_other_user;
use crate::times;
use crate::{serve, values};

/// Runs `backup …`.
pub(crate) async fn run(command: BackupCommand, output: &Output) -> Result<(), Failure> {
    match command {
        BackupCommand::Create(arguments) => create(arguments, output).await,
        BackupCommand::List(place) => list(&place, output),
        BackupCommand::Verify(arguments) => check(arguments, output).await,
        BackupCommand::Restore(arguments) => restore::run(arguments, output).await,
        BackupCommand::Prune(arguments) => prune::run(arguments, output).await,
        BackupCommand::Drill(arguments) => drill::run(arguments, output).await,
    }
}

async fn create(arguments: BackupCreateArguments, output: &Output) -> Result<(), Failure> {
    match arguments.config.clone() {
        Some(config) => create_stopped(&config, arguments, output).await,
        None => create_serving(arguments, output).await,
    }
}

async fn create_serving(arguments: BackupCreateArguments, output: &Output) -> Result<(), Failure> {
    let request = v1::CreateBackupRequest { reason: Some(values::reason(&arguments.reason)) };
    let mut client = connection::connect().await?.system();
    let made = client.create_backup(request).await;
    let made = made.map_err(|s| connection::failure(&s))?.into_inner();
    let event = event(made.receipt.as_ref());
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let shown = Shown {
        name: &made.name,
        path: &made.path,
        revision: unsigned(made.revision),
        records: unsigned(made.records),
        data_keys: unsigned(made.data_keys),
        bytes: unsigned(made.file_bytes),
        sha256: &made.file_sha256,
        expires: times::shown(made.expire_time.as_ref()),
        event: event.as_deref().unwrap_or_default(),
    };
    shown.show(output)
}

async fn create_stopped(
    file: &Path,
    arguments: BackupCreateArguments,
    output: &Output,
) -> Result<(), Failure> {
    let config = config(file)?;
    refuse_other_user(&config.state.directory, "backup create")?;
    let mut settings = fieldseal_server::engine_settings(&config);
    let recipients = match arguments.passphrase_fd {
        Some(descriptor) => Recipients::passphrase(access::new_passphrase(descriptor).await?),
        None => {
            let stated = match arguments.recipient.is_empty() {
                true => &config.backup.recipients,
                false => &arguments.recipient,
            };
            Recipients::parse(stated.iter().map(String::as_str)).map_err(|e| failure(&e))?
        }
    };
    let none = || failure(&BackupError::NotConfigured("name --dir, or set backup.directory"));
    settings.backup = Some(backup::Settings {
        directory: arguments.dir.or(config.backup.directory.clone()).ok_or_else(none)?,
        recipients,
        keep: config.backup.keep,
        keyring: config.state.keyring(),
    });
    let keyring = open_keyring(&config).await;
    let keyring =
        keyring.map_err(|e| serve::advise_missing(serve::keyring_failure(&e), &config.state))?;
    let reason = reason(&arguments.reason)?;
    let made = backup::create(settings, keyring, Arc::new(SystemClock), local()?, reason).await;
    let Made { manifest, path, receipt } = made.map_err(|e| failure(&e))?;
    let event = format!("logs/{}/events/{}", receipt.log(), receipt.index());
    let path = path.display().to_string();
    let shown = Shown {
        name: &manifest.name,
        path: &path,
        revision: manifest.revision,
        records: manifest.records,
        data_keys: manifest.data_keys,
        bytes: manifest.file_bytes,
        sha256: &manifest.file_sha256,
        expires: moment(manifest.expires_at()),
        event: &event,
    };
    shown.show(output)
}

/// A backup that was made, whoever made it.
struct Shown<'a> {
    name: &'a str,
    path: &'a str,
    revision: u64,
    records: u64,
    data_keys: u64,
    bytes: u64,
    sha256: &'a str,
    expires: String,
    event: &'a str,
}

impl Shown<'_> {
    fn show(&self, output: &Output) -> Result<(), Failure> {
        output.show(
            || {
                json!({
                    "name": self.name, "path": self.path, "revision": self.revision,
                    "records": self.records, "data_keys": self.data_keys,
                    "file_bytes": self.bytes, "file_sha256": self.sha256,
                    "expires": self.expires, "event": self.event,
                })
            },
            || {
                let mut table = Table::bare();
                table.row(["backup", self.path]);
                table.row(["revision", &grouped(self.revision)]);
                table.row(["records", &grouped(self.records)]);
                table.row(["data keys", &grouped(self.data_keys)]);
                table.row(["bytes", &grouped(self.bytes)]);
                table.row(["kept until", &self.expires]);
                table.row(["record", self.event]);
                table.text()
            },
        )
    }
}

fn list(place: &BackupPlace, output: &Output) -> Result<(), Failure> {
    let directory = directory(place)?;
    let (found, wrong) = backup::list(&directory).map_err(|e| failure(&e))?;
    output.show(
        || {
            json!({
                "directory": directory,
                "backups": found.iter().map(manifest_json).collect::<Vec<_>>(),
                "errors": wrong.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        },
        || {
            let mut table =
                Table::new(&["NAME", "REVISION", "DATA KEYS", "BYTES", "KEPT AS", "UNTIL"]);
            for one in &found {
                table.row([
                    one.name.clone(),
                    grouped(one.revision),
                    grouped(one.data_keys),
                    grouped(one.file_bytes),
                    one.class.as_str().to_owned(),
                    moment(one.expires_at()),
                ]);
            }
            let mut text = table.text();
            for error in &wrong {
                text.push_str(&format!("error  {error}\n"));
            }
            text
        },
    )
}

async fn check(arguments: BackupVerifyArguments, output: &Output) -> Result<(), Failure> {
    let key = public_key(&arguments.public_key)?;
    let unlock = access::unlock(&arguments.unlock).await?;
    let verified = backup::verify(&arguments.backup, &key, unlock.as_ref());
    let verified = verified.map_err(|e| failure(&e))?;
    let manifest = &verified.manifest;
    output.show(
        || json!({ "backup": manifest_json(manifest), "decrypted": verified.opened }),
        || {
            let mut table = Table::bare();
            let said = match verified.opened {
                true => "signature and hash are right; it decrypts to its end, and all is there",
                false => "signature and hash are right; with --identity it is also decrypted",
            };
            table.row(["verified", said]);
            rows(&mut table, manifest);
            table.text()
        },
    )
}

fn directory(place: &BackupPlace) -> Result<PathBuf, Failure> {
    match (&place.dir, &place.config) {
        (Some(directory), _) => Ok(directory.clone()),
        (None, Some(file)) => config(file)?.backup.directory.ok_or_else(|| {
            failure(&BackupError::NotConfigured("set backup.directory, or name --dir"))
        }),
        (None, None) => Err(Failure::usage("ARGUMENT_MISSING", "name --dir or --config")),
    }
}

fn config(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(|e| serve::config_failure(&e))
}

/// Opens the keyring of a configuration with its root provider.
async fn open_keyring(config: &Config) -> Result<Keyring, KeyringError> {
    let provider = fieldseal_server::provider(config).await?;
    fieldseal_server::open_with(config, provider).await
}

/// Why, for a command that no sidecar is asked for.
fn reason(stated: &ReasonArguments) -> Result<AccessReason, Failure> {
    let purpose = Purpose::parse(&stated.purpose)?;
    Ok(AccessReason { purpose, ticket: Ticket::parse(&stated.ticket)?, end_user: None })
}

/// The user who runs this, as the log names it.
fn local() -> Result<Principal, Failure> {
    Ok(Principal::new(PrincipalKind::Local, &getuid().as_raw().to_string())?)
}

fn public_key(path: &Path) -> Result<LogKey, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::io("cannot read", path, &e))?;
    verify::public_key(&String::from_utf8_lossy(&bytes))
        .map_err(|e| Failure::usage(e.reason(), e.to_string()))
}

/// A moment for people and programs: to the second, UTC.
fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

fn rows(table: &mut Table, manifest: &Manifest) {
    table.row(["backup", &manifest.name]);
    table.row(["installation", &manifest.installation]);
    table.row(["incarnation", &manifest.incarnation.to_string()]);
    table.row(["revision", &grouped(manifest.revision)]);
    table.row(["records", &grouped(manifest.records)]);
    table.row(["data keys", &grouped(manifest.data_keys)]);
    table.row(["made", &moment(manifest.created_at())]);
    table.row(["kept until", &moment(manifest.expires_at())]);
}

fn manifest_json(manifest: &Manifest) -> Value {
    json!({
        "name": manifest.name, "installation": manifest.installation,
        "incarnation": manifest.incarnation, "revision": manifest.revision,
        "records": manifest.records, "data_keys": manifest.data_keys,
        "created": moment(manifest.created_at()), "expires": moment(manifest.expires_at()),
        "class": manifest.class.as_str(), "file_bytes": manifest.file_bytes,
        "file_sha256": manifest.file_sha256, "log_origin": manifest.log_origin,
        "log_size": manifest.log_size,
    })
}

/// Why there is no backup, or no installation of it.
fn failure(error: &BackupError) -> Failure {
    let exit = match error {
        BackupError::NotFound(_) => Exit::NotFound,
        BackupError::Altered { .. } | BackupError::Canary(_) => Exit::Tampered,
        BackupError::Running
        | BackupError::NotEmpty(_)
        | BackupError::Living(_)
        | BackupError::Foreign { .. }
        | BackupError::LogOther(_)
        | BackupError::LogArchived(_) => Exit::Conflict,
        BackupError::Overrun | BackupError::LogBehind => Exit::Unavailable,
        BackupError::Io { error, path, doing } => {
            return Failure::io(&format!("cannot {doing}"), path, error);
        }
        BackupError::Copy(error) => copy_exit(error),
        BackupError::Keyring(error) => return serve::keyring_failure(error),
        BackupError::Boot(error) => return booted(error),
        BackupError::Interrupted | BackupError::Keys(_) => Exit::Internal,
        _ => Exit::Usage,
    };
    let failure = Failure::new(exit, error.reason(), error.to_string());
    match error {
        BackupError::WithoutLog => failure.advise(
            "name the log that survived with --log DIR; if it is lost too, --without-log NAME \
             --public-key FILE begins a new one of that name",
        ),
        BackupError::Foreign { .. } => failure.advise(
            "take a backup of the same installation, or the keyring, log and public key that belong to \
             this one; nothing was changed",
        ),
        BackupError::NotEmpty(_) | BackupError::Living(_) => {
            failure.advise("name a new directory with --into; nothing was changed")
        }
        _ => failure,
    }
}

fn copy_exit(error: &CopyError) -> Exit {
    match error {
        CopyError::Foreign { .. } | CopyError::Newer { .. } => Exit::Conflict,
        CopyError::Altered { .. } => Exit::Tampered,
        _ => Exit::Unavailable,
    }
}

fn booted(error: &BootError) -> Failure {
    let failure = serve::boot_failure(error);
    match failure.reason() {
        "STORE_LOCKED" | "AUDIT_LOG_LOCKED" => failure.advise(
            "the sidecar is running: without --config the running one makes or removes backups, and \
             a log is taken from a stopped one",
        ),
        _ => failure,
    }
}
