//! `root drill`: whether the recovery identity opens everything.

use fieldseal_engine::offline::root;
use fieldseal_keys::keyring;
use serde_json::json;

use crate::arguments::DrillArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table};
use crate::recover::identity_of;
use crate::root::{config_of, failure, task};
use crate::serve;

/// Runs `root drill`.
pub(crate) async fn run(arguments: DrillArguments, output: &Output) -> Result<(), Failure> {
    let config = config_of(&arguments.config)?;
    let identity = identity_of(&arguments.identity)?;
    let path = config.state.keyring();
    let opened = keyring::open_with_identity(&path, &identity);
    let opened = opened.and_then(|keyring| {
        keyring.check_recipient(&path, &config.recovery_recipient)?;
        Ok(keyring)
    });
    let opened =
        opened.map_err(|e| serve::advise_missing(serve::keyring_failure(&e), &config.state))?;
    let recipient = opened.recipient().to_owned();
    let drilled = root::drill(task(&config, opened)?).await;
    let checked = drilled.map_err(|error| failure(&error, &config))?;
    output.show(
        || {
            json!({
                "recovery_recipient": recipient,
                "key_versions": checked.key_versions,
                "destroyed_key_versions": checked.destroyed,
                "data_keys": checked.data_keys,
                "data_keys_of_destroyed_versions": checked.lost,
                "broken": checked.broken,
                "broken_names": checked.named,
            })
        },
        || {
            let mut table = Table::bare();
            table.row(["recovery", &recipient]);
            table.row(["key versions opened", &checked.key_versions.to_string()]);
            table.row(["key versions destroyed", &checked.destroyed.to_string()]);
            table.row(["data keys opened", &checked.data_keys.to_string()]);
            table.row(["data keys of destroyed versions", &checked.lost.to_string()]);
            table.row(["not opened", &checked.broken.to_string()]);
            table.text()
        },
    )?;
    if checked.broken == 0 {
        return Ok(());
    }
    let named = checked.named.join(", ");
    let what = format!("{} keys do not open: {named}", checked.broken);
    Err(Failure::new(Exit::Corrupt, "STORE_CORRUPT", what)
        .advise("keep the files as they are, and put back a backup"))
}
