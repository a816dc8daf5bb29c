//! `config`: whether a configuration is good, what holds, and where that was stated.

use std::path::Path;

use fieldseal_model::hex;
use fieldseal_server::config::{Config, Effective, Environment, Origin, Value};
use serde_json::{Value as Json, json};

use crate::arguments::config::{ConfigCommand, ConfigFile};
use crate::failure::Failure;
use crate::output::{self, Output, Table, counted};
use crate::serve;

/// Runs `config`.
pub(crate) fn run(command: ConfigCommand, output: &Output) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(ConfigFile { config }) => check(&config, output),
        ConfigCommand::Show { file, origin } => show(&file.config, origin, output),
        ConfigCommand::Example => {
            let text = Config::example(&[]).map_err(|e| serve::config_failure(&e))?;
            output::bytes(text.as_bytes())
        }
        ConfigCommand::Reference => output::bytes(Config::reference().as_bytes()),
    }
}

fn load(file: &Path) -> Result<(Config, Vec<Effective>), Failure> {
    let loaded = Config::load_with_origins(file, &Environment::of_process());
    loaded.map_err(|e| serve::config_failure(&e))
}

fn check(file: &Path, output: &Output) -> Result<(), Failure> {
    let (config, effective) = load(file)?;
    let digest = hex::encode(&config.told.digest);
    let stated = |of: fn(&Origin) -> bool| effective.iter().filter(|e| of(&e.origin)).count();
    let in_file = stated(|origin| matches!(origin, Origin::File { .. }));
    let in_environment = stated(|origin| matches!(origin, Origin::Variable(_)));
    let warnings = warnings(&config);
    output.show(
        || {
            json!({
                "config": file, "good": true, "file": in_file, "environment": in_environment,
                "settings_digest": digest, "warnings": warnings,
            })
        },
        || {
            let good = format!(
                "{} is good: {} from it, {} from the environment, the rest are defaults",
                output::visible(&file.display().to_string()),
                counted(in_file as u64, "setting"),
                in_environment
            );
            let good = format!("{good}\nsettings digest  {digest}");
            warnings.iter().fold(good, |text, warning| format!("{text}\nwarning  {warning}"))
        },
    )
}

/// What is allowed and hardly meant, as far as this machine shows it.
fn warnings(config: &Config) -> Vec<&'static str> {
    let shared = fieldseal_server::engine_settings(config).copy_shares_volume();
    let shared = shared.then_some(
        "store.copy is on the volume of state.directory: whatever takes that takes the copy too",
    );
    shared.into_iter().collect()
}

fn show(file: &Path, origin: bool, output: &Output) -> Result<(), Failure> {
    let (config, effective) = load(file)?;
    let digest = hex::encode(&config.told.digest);
    output.show(
        || {
            let settings = effective.iter().map(as_json).collect::<Vec<_>>();
            json!({ "settings": settings, "settings_digest": digest })
        },
        || {
            let mut table = Table::bare();
            for Effective { setting, value, origin: stated, .. } in &effective {
                let mut row = vec![setting.name.to_owned(), value.to_toml()];
                if origin {
                    row.push(stated.to_string());
                }
                table.row(row);
            }
            table.text()
        },
    )
}

fn as_json(Effective { setting, value, origin, .. }: &Effective) -> Json {
    let value = match value {
        Value::Address(address) | Value::OptionalAddress(Some(address)) => json!(address),
        Value::Path(path) | Value::OptionalPath(Some(path)) => json!(path.to_string_lossy()),
        Value::OptionalAddress(None) | Value::OptionalPath(None) => Json::Null,
        Value::Flag(on) => json!(on),
        Value::Number(number) => json!(number),
        Value::Choice(word) => json!(word),
        Value::Name(name) | Value::Text(name) => json!(name),
        Value::Command(words) | Value::Texts(words) => json!(words),
    };
    let origin = match origin {
        Origin::Default => json!({ "kind": "default" }),
        Origin::File { file, line } => {
            json!({ "kind": "file", "file": file.to_string_lossy(), "line": line })
        }
        Origin::Variable(name) => json!({ "kind": "environment", "variable": name }),
    };
    json!({
        "name": setting.name, "value": value, "unit": setting.unit(),
        "variable": setting.variable(), "origin": origin,
    })
}

#[cfg(test)]
mod tests {
    use fieldseal_client::Variable;
    use fieldseal_server::config::OTHER_VARIABLES;

    #[test]
    fn the_client_s_variables_are_known_to_the_server() {
        use Variable::{Ca, Certificate, Endpoint, PrivateKey};
        for variable in [Endpoint, Ca, Certificate, PrivateKey] {
            assert!(OTHER_VARIABLES.iter().any(|v| v.name == variable.as_str()), "{variable}");
        }
    }
}
