//! `backup restore`.

use std::path::Path;
use std::sync::Arc;

use fieldseal_audit::verify::LogKey;
use fieldseal_engine::StoreBackend;
use fieldseal_engine::backup::{self, BackupError, LogSource, Restore, Restored};
use fieldseal_keys::keyring::{self, Keyring, KeyringError};
use fieldseal_model::SystemClock;
use fieldseal_server::Config;
use serde_json::json;

use super::{access, config, failure, local, open_keyring, public_key, rows};
use crate::arguments::BackupRestoreArguments;
use crate::connection::quoted_path;
use crate::failure::Failure;
use crate::output::{Output, Table, counted, grouped};
use crate::recover::identity_of;

/// Runs `backup restore`.
pub(super) async fn run(arguments: BackupRestoreArguments, output: &Output) -> Result<(), Failure> {
    let mut config = config(&arguments.config)?;
    let into = arguments.into.clone().unwrap_or(config.state.directory.clone());
    let scratch = scratch(&arguments, &config)?;
    if let Some(into) =
        scratch.as_ref().map(|dir| dir.path().join("state")).or(arguments.into.clone())
    {
        config.state.directory = into;
    }
    let log = match (&arguments.log, &arguments.without_log) {
        (Some(directory), _) => LogSource::Surviving(directory.clone()),
        (None, Some(name)) => {
            LogSource::Lost { instance: name.clone(), key: Some(key(&arguments)?) }
        }
        (None, None) => return Err(failure(&BackupError::WithoutLog)),
    };
    let unlock = access::needed(&arguments.unlock).await?;
    let mut settings = fieldseal_server::engine_settings(&config);
    settings.store = StoreBackend::Sled(config.state.store());
    settings.backup = None;
    settings.copy = None;
    if let LogSource::Lost { instance: name, .. } = &log {
        settings.instance = instance(name)?;
    }
    let plan = Restore {
        backup: arguments.backup.clone(),
        unlock,
        log,
        copy: arguments.copy.clone(),
        into: config.state.directory.clone(),
        settings,
        local: local()?,
    };
    let opener = Opener { config: &config, identity: arguments.recovery_identity.as_deref() };
    let open = async |directory: &Path| opener.open(directory).await;
    let restored = backup::restore(plan, Arc::new(SystemClock), open).await;
    let restored = restored.map_err(|e| failure(&e))?;
    show(&arguments, &into, &restored, output)
}

/// The public key of the lost log: whoever can write to the place of the backups could hand over one
/// of an installation of his own, and nothing in it would tell.
fn key(arguments: &BackupRestoreArguments) -> Result<LogKey, Failure> {
    let key = arguments.public_key.as_deref().ok_or_else(|| {
        let what =
            "--without-log needs --public-key, the lost log's log.pub that was kept elsewhere";
        Failure::usage("ARGUMENT_MISSING", what)
    });
    public_key(key?)
}

/// With --dry-run, everything is done in a place that goes away.
fn scratch(
    arguments: &BackupRestoreArguments,
    config: &Config,
) -> Result<Option<tempfile::TempDir>, Failure> {
    if !arguments.dry_run {
        return Ok(None);
    }
    let into = arguments.into.as_ref().unwrap_or(&config.state.directory);
    let beside = into.ancestors().skip(1).find(|path| path.is_dir()).unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix(".fieldseal-dry-run-").tempdir_in(beside);
    made.map(Some).map_err(|e| Failure::io("cannot make a directory in", beside, &e))
}

/// Opens the keyring of a backup.
pub(super) struct Opener<'a> {
    pub(super) config: &'a Config,
    /// The recovery identity, instead of the root provider.
    pub(super) identity: Option<&'a Path>,
}

impl Opener<'_> {
    /// Opens the keyring in this directory.
    pub(super) async fn open(&self, directory: &Path) -> Result<Keyring, KeyringError> {
        let mut config = self.config.clone();
        config.state.directory = directory.to_owned();
        let Some(path) = self.identity else {
            return open_keyring(&config).await;
        };
        let identity =
            identity_of(path).map_err(|f| KeyringError::Identity(f.what().to_owned()))?;
        keyring::open_with_identity(&config.state.keyring(), &identity)
    }
}

/// The name of a new log is one that the configuration takes.
fn instance(name: &str) -> Result<String, Failure> {
    match Config::example(&[("audit.instance", name)]) {
        Ok(_) => Ok(name.to_owned()),
        Err(error) => Err(Failure::usage("LOG_NAME_INVALID", error.to_string())),
    }
}

fn show(
    arguments: &BackupRestoreArguments,
    into: &Path,
    restored: &Restored,
    output: &Output,
) -> Result<(), Failure> {
    let Restored { manifest, copied, replayed, revision, incarnation, receipt } = restored;
    let event = format!("logs/{}/events/{}", receipt.log(), receipt.index());
    output.show(
        || {
            json!({
                "dry_run": arguments.dry_run, "into": into, "backup": manifest.name,
                "installation": manifest.installation, "incarnation": incarnation,
                "copied": copied.map(|copied| copied.revision),
                "copy_torn": copied.is_some_and(|copied| copied.is_torn), "revision": revision, "backup_revision": manifest.revision,
                "applied": replayed.applied, "shredded_data_keys": replayed.shredded,
                "lost_data_keys": replayed.lost_data_keys,
                "lost_versions": replayed.lost_versions, "lost_keys": replayed.lost_keys,
                "unknown_settings": replayed.unknown_settings,
                "without_log": arguments.without_log, "event": event,
            })
        },
        || {
            let mut table = Table::bare();
            rows(&mut table, manifest);
            if let Some(copied) = copied {
                table.row(["copy", &format!("up to revision {}", grouped(copied.revision))]);
            }
            table.row(["applied", &counted(replayed.applied, "later change")]);
            table.row(["shredded", &counted(replayed.shredded, "data key")]);
            table.row(["goes on from", &grouped(*revision)]);
            table.row(["now incarnation", &incarnation.to_string()]);
            table.row(["record", &event]);
            let mut text = table.text();
            text.push_str(&lost(arguments, restored));
            match arguments.dry_run {
                true => text.push_str("\nThis was a trial: nothing was left.\n"),
                false => text.push_str(&next(arguments, into)),
            }
            text
        },
    )
}

/// What the restore could not bring back.
fn lost(arguments: &BackupRestoreArguments, restored: &Restored) -> String {
    let replayed = &restored.replayed;
    let mut text = String::new();
    if arguments.without_log.is_some() {
        text.push_str(
            "\nLost with the audit log: the proof of who read what, and every disable, destroy and \
             shred since the\nbackup. What was disabled, destroyed or shredded since then is back: do \
             it again now. Numbers of key\nversions that were made since then will be used a second \
             time. Nobody can count what else is lost.\n",
        );
        return text;
    }
    if restored.copied.is_some_and(|copied| copied.is_torn) {
        text.push_str("\nThe last write of the copy is torn, as when a disk is lost, or damaged.");
    }
    let mut say = |count: u64, what: &str, then: &str| {
        if count > 0 {
            text.push_str(&format!("\n{} made after the backup: {then}", counted(count, what)));
        }
    };
    say(replayed.lost_data_keys, "data key was lost,", "what was sealed under it does not open.");
    say(replayed.lost_versions, "key version was lost,", "its number is not used again.");
    for key in &replayed.lost_keys {
        text.push_str(&format!("\nkeys/{key} was made after the backup and is lost."));
    }
    for key in &replayed.unknown_settings {
        text.push_str(&format!(
            "\nkeys/{key} has the settings of the backup: what they were set to since is not in the log."
        ));
    }
    if text.is_empty() {
        text.push_str("\nNothing that the audit log tells of is lost.");
    }
    text.push('\n');
    text
}

fn next(arguments: &BackupRestoreArguments, into: &Path) -> String {
    let config = quoted_path(&arguments.config);
    let mut steps = Vec::new();
    if arguments.into.is_some() {
        // The configuration reads a relative path from where it stands itself.
        let into = std::path::absolute(into).unwrap_or_else(|_| into.to_owned());
        let into = quoted_path(&into);
        steps.push(format!("set state.directory in {config} to {into}, or move it there"));
    }
    if let Some(name) = &arguments.without_log {
        steps.push(format!("set audit.instance in {config} to {name:?}"));
    }
    steps.push(format!("run  fieldseal serve --config {config}"));
    let mut text = "\nnext\n".to_owned();
    for (step, what) in steps.iter().enumerate() {
        text.push_str(&format!("{}. {what}\n", step + 1));
    }
    text
}
