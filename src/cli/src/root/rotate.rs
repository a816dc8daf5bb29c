//! `root rotate`: another root key.

use std::sync::Arc;

use fieldseal_engine::offline::root;
use serde_json::json;

use crate::arguments::RotateArguments;
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::root::{config_of, failure, task, unless_stopped};
use crate::serve;

/// Runs `root rotate`.
pub(crate) async fn run(arguments: RotateArguments, output: &Output) -> Result<(), Failure> {
    let config = config_of(&arguments.config)?;
    let refused = |e| serve::advise_missing(serve::keyring_failure(&e), &config.state);
    let provider = unless_stopped(fieldseal_server::provider(&config)).await?;
    let provider = provider.map_err(refused)?;
    let opened = fieldseal_server::open_with(&config, Arc::clone(&provider)).await;
    let task = task(&config, opened.map_err(refused)?)?;
    let rotated = root::rotate(task, config.state.keyring(), provider, |_| ()).await;
    let rotated = rotated.map_err(|error| {
        let failed = failure(&error, &config);
        let begun = fieldseal_keys::keyring::is_rotating(&config.state.keyring());
        match begun {
            Ok(true) => failed.advise(
                "both root keys are in the keyring, and the sidecar can serve; mend what is wrong, \
                 then run it again: it goes on where it was",
            ),
            _ => failed,
        }
    })?;
    output.show(
        || {
            json!({
                "key_versions": rotated.key_versions,
                "resumed": rotated.resumed,
                "recovery_recipient": rotated.recipient,
            })
        },
        || {
            let mut table = Table::bare();
            table.row(["root key", if rotated.resumed { "rotation finished" } else { "rotated" }]);
            table.row(["key versions", &rotated.key_versions.to_string()]);
            table.row(["recovery", &rotated.recipient]);
            format!(
                "{}\nThe root provider and the recovery identity are the same as before. Older copies of \
                 the\nkeyring still hold the old root key: docs/operations.md says how to make them \
                 useless.\n",
                table.text()
            )
        },
    )
}
