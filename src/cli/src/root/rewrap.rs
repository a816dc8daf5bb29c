//! `root rewrap`: the same root key under another root provider.

use std::path::Path;
use std::sync::Arc;

use fieldseal_engine::offline::root::{self, Move, RootOpener};
use fieldseal_keys::keyring::{self, KeyringError, RootProvider};
use fieldseal_server::Config;
use fieldseal_server::config::RootSettings;
use serde_json::json;

use crate::arguments::{ProviderArguments, RewrapArguments};
use crate::connection::quoted_path;
use crate::failure::Failure;
use crate::installation::{Undo, root_key};
use crate::output::Output;
use crate::recover::identity_of;
use crate::root::{config_of, failure, task, unless_stopped};
use crate::serve;

/// Runs `root rewrap`.
pub(crate) async fn run(arguments: RewrapArguments, output: &Output) -> Result<(), Failure> {
    let config = config_of(&arguments.config)?;
    let settings = settings(&arguments.provider)?;
    let next = next(&arguments.config, &settings)?;
    let path = config.state.keyring();
    let refused =
        |e: KeyringError| serve::advise_missing(serve::keyring_failure(&e), &config.state);
    let before = keyring::wrapping(&path).map_err(refused)?;
    let opened = open(&config, &arguments).await?;
    let mut undo = Undo::default();
    let to: Arc<dyn RootProvider> = match &next {
        RootSettings::File { file } => {
            Arc::new(root_key(file, &config.state.directory, &mut undo)?)
        }
        other => unless_stopped(fieldseal_server::new_provider(other)).await?.map_err(refused)?,
    };
    let after = format!("{} {}", to.name(), to.id());
    let (by, opened) = opened;
    let recipient = arguments.recovery_recipient.clone();
    let to = Move { path, by, to, recipient: recipient.clone() };
    let moved = root::rewrap(task(&config, opened)?, to).await;
    moved.map_err(|error| failure(&error, &config))?;
    undo.keep();
    let lines = lines(&settings, &config, recipient.as_deref());
    let check = format!("fieldseal config check --config {}", quoted_path(&arguments.config));
    output.show(
        || {
            let settings = lines.iter().map(|(name, value)| json!({ "name": name, "toml": value }));
            json!({
                "before": before.to_string(), "after": after, "check": check,
                "settings": settings.collect::<Vec<_>>(),
            })
        },
        || {
            let mut text = format!(
                "The root key was wrapped by {before}; it is wrapped by {after} now.\n\n\
                 Write into [root] of {}, and leave out what else stands there:\n\n",
                arguments.config.display()
            );
            for (name, value) in &lines {
                text.push_str(&format!("{name} = {value}\n"));
            }
            text.push_str(&format!("\nThen run  {check}  and start the sidecar.\n"));
            text
        },
    )
}

/// The keyring, opened by the identity that was named or by the root provider so far.
async fn open(
    config: &Config,
    arguments: &RewrapArguments,
) -> Result<(RootOpener, keyring::Keyring), Failure> {
    let path = config.state.keyring();
    let refused =
        |e: KeyringError| serve::advise_missing(serve::keyring_failure(&e), &config.state);
    if let Some(file) = &arguments.identity {
        let identity = identity_of(file)?;
        let opened = keyring::open_with_identity(&path, &identity).map_err(refused)?;
        opened.check_recipient(&path, &config.recovery_recipient).map_err(refused)?;
        return Ok((RootOpener::Identity(identity), opened));
    }
    let provider = unless_stopped(fieldseal_server::provider(config)).await?.map_err(refused)?;
    let opened = fieldseal_server::open_with(config, Arc::clone(&provider)).await;
    Ok((RootOpener::Provider(provider), opened.map_err(refused)?))
}

/// The new provider's settings, by name and text; the key file with an absolute path.
fn settings(arguments: &ProviderArguments) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut settings = arguments.settings();
    if let Some(stated) = &arguments.root_key_file {
        let path = std::path::absolute(stated);
        let path = path.map_err(|e| Failure::io("cannot use", stated, &e))?;
        let text = path.to_str().ok_or_else(|| {
            Failure::usage("PATH_INVALID", "the root key file's path must be UTF-8 text")
        })?;
        settings.push(("root.file", text.to_owned()));
    }
    Ok(settings)
}

/// The new provider, if its settings are legal and go together.
fn next(file: &Path, settings: &[(&'static str, String)]) -> Result<RootSettings, Failure> {
    let changes: Vec<_> = settings.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let parsed = Config::example(&changes).and_then(|text| Config::parse(file, &text));
    Ok(parsed.map_err(|e| serve::config_failure(&e))?.root)
}

/// What must stand in `[root]` now, as it is written there.
fn lines(
    settings: &[(&'static str, String)],
    config: &Config,
    recipient: Option<&str>,
) -> Vec<(String, String)> {
    let recipient = recipient.unwrap_or(&config.recovery_recipient);
    let stated = settings.iter().map(|(name, text)| (*name, text.as_str()));
    let all = stated.chain([("root.recovery_recipient", recipient)]);
    let line = |(name, text): (&str, &str)| {
        let key = name.trim_start_matches("root.").to_owned();
        let is_text = !matches!(key.as_str(), "passphrase_fd" | "deadline_seconds" | "command");
        // A JSON text is a TOML one too.
        let value = if is_text { json!(text).to_string() } else { text.to_owned() };
        (key, value)
    };
    all.map(line).collect()
}
