//! `backup prune`: the backups whose time is over go, each on record before it does.

use std::path::Path;
use std::sync::Arc;

use fieldseal_api::v1;
use fieldseal_audit::verify::LogKey;
use fieldseal_engine::backup::{self, BackupError, Pruned};
use fieldseal_model::{Clock as _, SystemClock};
use serde_json::json;

use super::{config, failure, local, open_keyring, public_key, reason};
use crate::arguments::BackupPruneArguments;
use crate::confirm;
use crate::connection;
use crate::failure::Failure;
use crate::keys::event;
use crate::output::{Output, counted};
use crate::recover::refuse_other_user;
use crate::{serve, values};

/// Runs `backup prune`: through the running sidecar, on a stopped installation, or in a directory that
/// has no installation beside it.
pub(super) async fn run(arguments: BackupPruneArguments, output: &Output) -> Result<(), Failure> {
    let shown = match (&arguments.config, &arguments.dir, &arguments.public_key) {
        (Some(config), _, _) => stopped(config, &arguments).await?,
        (None, Some(directory), Some(key)) => {
            kept_elsewhere(directory, &public_key(key)?, &arguments)?
        }
        _ => serving(&arguments).await?,
    };
    shown.show(arguments.dry_run, output)
}

async fn serving(arguments: &BackupPruneArguments) -> Result<Shown, Failure> {
    let mut client = connection::connect().await?.system();
    let mut ask = async |validate_only| {
        let reason = Some(values::reason(&arguments.reason));
        let request = v1::PruneBackupsRequest { reason, validate_only };
        let pruned = client.prune_backups(request).await;
        pruned.map(tonic::Response::into_inner).map_err(|s| connection::failure(&s))
    };
    let over = ask(true).await?;
    if arguments.dry_run {
        return Ok(over.into());
    }
    let name = Path::new(&over.directory).file_name().unwrap_or_default().to_string_lossy();
    confirm_many(over.removed.len(), &name, arguments.confirm.as_deref())?;
    Ok(ask(false).await?.into())
}

async fn stopped(file: &Path, arguments: &BackupPruneArguments) -> Result<Shown, Failure> {
    let config = config(file)?;
    let none = || failure(&BackupError::NotConfigured("set backup.directory, or name --dir"));
    let directory = config.backup.directory.clone().ok_or_else(none)?;
    let key = public_key(&config.state.audit().join("log.pub"))?;
    let over = look(&directory, &key)?;
    if arguments.dry_run {
        return Ok(over.into());
    }
    refuse_other_user(&config.state.directory, "backup prune")?;
    confirm_many(over.removed.len(), &last_part(&directory)?, arguments.confirm.as_deref())?;
    let keyring = open_keyring(&config).await;
    let keyring =
        keyring.map_err(|e| serve::advise_missing(serve::keyring_failure(&e), &config.state))?;
    let settings = fieldseal_server::engine_settings(&config);
    let reason = reason(&arguments.reason)?;
    let clock = Arc::new(SystemClock);
    let pruned = backup::prune_stopped(settings, keyring, clock, local()?, reason).await;
    Ok(pruned.map_err(|e| failure(&e))?.into())
}

/// Whoever only keeps backups has no log to write to.
fn kept_elsewhere(
    directory: &Path,
    key: &LogKey,
    arguments: &BackupPruneArguments,
) -> Result<Shown, Failure> {
    let over = look(directory, key)?;
    if arguments.dry_run {
        return Ok(over.into());
    }
    confirm_many(over.removed.len(), &last_part(directory)?, arguments.confirm.as_deref())?;
    let pruned = backup::prune(directory, key, SystemClock.now(), false);
    Ok(pruned.map_err(|e| failure(&e))?.into())
}

fn look(directory: &Path, key: &LogKey) -> Result<Pruned, Failure> {
    backup::prune(directory, key, SystemClock.now(), true).map_err(|e| failure(&e))
}

/// What went, or would go.
struct Shown {
    /// The names, each with its audit record.
    removed: Vec<(String, Option<String>)>,
    kept: Vec<String>,
    passed_over: Vec<String>,
}

impl From<Pruned> for Shown {
    fn from(pruned: Pruned) -> Self {
        let events = pruned.receipts.iter();
        let events = events.map(|of| Some(format!("logs/{}/events/{}", of.log(), of.index())));
        let events = events.chain(std::iter::repeat(None));
        let names = pruned.removed.into_iter().map(|manifest| manifest.name);
        Self {
            removed: names.zip(events).collect(),
            kept: pruned.kept.into_iter().map(|manifest| manifest.name).collect(),
            passed_over: pruned.passed_over,
        }
    }
}

impl From<v1::PruneBackupsResponse> for Shown {
    fn from(pruned: v1::PruneBackupsResponse) -> Self {
        let removed = pruned.removed.into_iter().map(|one| {
            let event = event(one.receipt.as_ref());
            (one.name, event)
        });
        Self { removed: removed.collect(), kept: pruned.kept, passed_over: pruned.passed_over }
    }
}

impl Shown {
    fn show(&self, dry: bool, output: &Output) -> Result<(), Failure> {
        output.show(
            || {
                let names: Vec<_> = self.removed.iter().map(|(name, _)| name).collect();
                let events: Vec<_> = self.removed.iter().map(|(_, event)| event).collect();
                json!({
                    "dry_run": dry, "removed": names, "events": events, "kept": self.kept,
                    "passed_over": self.passed_over,
                })
            },
            || self.text(dry),
        )
    }

    fn text(&self, dry: bool) -> String {
        let verb = if dry { "would be removed" } else { "removed" };
        let mut text = String::new();
        for (name, event) in &self.removed {
            let record = match event {
                Some(event) => format!("  {event}"),
                None if dry => String::new(),
                None => "  not on record: there is no log here".to_owned(),
            };
            text.push_str(&format!("{name}  {verb}{record}\n"));
        }
        for what in &self.passed_over {
            text.push_str(&format!("left alone  {what}\n"));
        }
        let kept = counted(self.kept.len() as u64, "backup");
        text + &format!("{kept} kept, {} {verb}\n", self.removed.len())
    }
}

/// Backups that are removed at once without a question: a clock that is years ahead makes all of them
/// look over.
const UNASKED: usize = 3;

/// The last part of a directory's path.
fn last_part(directory: &Path) -> Result<String, Failure> {
    let whole = directory.canonicalize();
    let whole = whole.map_err(|e| Failure::io("cannot find", directory, &e))?;
    Ok(whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned())
}

fn confirm_many(removed: usize, name: &str, given: Option<&str>) -> Result<(), Failure> {
    if removed <= UNASKED {
        return Ok(());
    }
    let what = format!(
        "{} go for good, by the machine's clock: look at it, and at --dry-run, first",
        counted(removed as u64, "backup")
    );
    confirm::by_name(name, given, &what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_backups_go_only_by_the_name_of_their_directory() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("nightly");
        std::fs::create_dir(&directory).unwrap();
        let name = last_part(&directory).unwrap();
        assert!(confirm_many(UNASKED, &name, None).is_ok());
        let refused = confirm_many(UNASKED + 1, &name, Some("other")).unwrap_err();
        assert_eq!(refused.reason(), "CONFIRMATION_REQUIRED");
        assert!(confirm_many(UNASKED + 1, &name, Some("nightly")).is_ok());
    }
}
