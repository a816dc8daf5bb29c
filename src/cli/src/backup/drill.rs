//! `backup drill`.

use std::path::Path;
use std::sync::Arc;

use fieldseal_engine::backup::{self, Drill};
use fieldseal_model::SystemClock;
use serde_json::json;

use super::restore::Opener;
use super::{access, config, failure, local, rows};
use crate::arguments::BackupDrillArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, grouped};

/// Runs `backup drill`.
pub(super) async fn run(arguments: BackupDrillArguments, output: &Output) -> Result<(), Failure> {
    let config = config(&arguments.config)?;
    let parent = arguments.scratch.clone().unwrap_or_else(std::env::temp_dir);
    // For its owner alone, and removed however this ends.
    let scratch = tempfile::Builder::new().prefix("fieldseal-drill-").tempdir_in(&parent);
    let scratch = scratch.map_err(|e| Failure::io("cannot make a directory in", &parent, &e))?;
    let plan = Drill {
        backup: arguments.backup,
        unlock: access::needed(&arguments.unlock).await?,
        scratch: scratch.path().to_owned(),
        settings: fieldseal_server::engine_settings(&config),
        local: local()?,
    };
    let opener = Opener { config: &config, identity: None };
    let open = async |directory: &Path| opener.open(directory).await;
    let drilled = backup::drill(plan, Arc::new(SystemClock), open).await;
    let drilled = drilled.map_err(|e| failure(&e))?;
    let place = scratch.path().to_owned();
    scratch.close().map_err(|e| Failure::io("cannot remove", &place, &e))?;
    let checked = &drilled.checked;
    let canaries: Vec<&str> = drilled.canaries.iter().map(|key| key.as_str()).collect();
    output.show(
        || {
            json!({
                "backup": drilled.manifest.name, "key_versions": checked.key_versions,
                "data_keys": checked.data_keys, "broken": checked.broken, "named": checked.named,
                "destroyed_versions": checked.destroyed, "canaries": canaries,
                "milliseconds": drilled.took.as_millis() as u64, "recorded": drilled.recorded,
            })
        },
        || {
            let mut table = Table::bare();
            rows(&mut table, &drilled.manifest);
            table.row(["started in", &format!("{} ms", drilled.took.as_millis())]);
            table.row(["key versions", &format!("{} open", grouped(checked.key_versions))]);
            table.row(["data keys", &format!("{} open", grouped(checked.data_keys))]);
            table.row(["canaries", &canaries.join(", ")]);
            let recorded = if drilled.recorded { "yes" } else { "no: a sidecar has the log" };
            table.row(["on record", recorded]);
            table.text()
        },
    )?;
    if checked.broken > 0 {
        let what =
            format!("{} of its keys do not open: {}", checked.broken, checked.named.join(", "));
        return Err(Failure::new(Exit::Tampered, "BACKUP_ALTERED", what));
    }
    Ok(())
}
