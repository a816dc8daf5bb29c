//! What a container states in its environment instead of arguments.

use std::ffi::OsStr;

use fieldseal_server::config::Environment;

use crate::arguments::dev::{DevArguments, server_name};
use crate::failure::Failure;
use crate::output::note;
use crate::serve;

/// Stands for the subcommand where there are no arguments at all.
pub(crate) const VARIABLE: &str = "FIELDSEAL_DEV";
const LISTEN: &str = "FIELDSEAL_DEV_LISTEN";
const ENV_FILE: &str = "FIELDSEAL_DEV_ENV_FILE";
const SERVER_NAME: &str = "FIELDSEAL_DEV_SERVER_NAME";

/// Whether the value of [`VARIABLE`] means `dev`.
pub(crate) fn stands_for_dev(value: Option<&OsStr>) -> Result<bool, Failure> {
    match value.map(OsStr::as_encoded_bytes) {
        None | Some(b"" | b"0") => Ok(false),
        Some(b"1") => Ok(true),
        Some(_) => Err(Failure::usage("VARIABLE_INVALID", format!("{VARIABLE}: expected 1 or 0"))
            .advise("1 runs `fieldseal dev`; to run anything else, name it")),
    }
}

/// Takes what the arguments leave out from the environment. All mistakes are told at once.
///
/// It makes its own settings, and says which variables it passes over: an image may bring those of
/// a production.
pub(crate) fn complete(
    given: DevArguments,
    environment: &Environment,
) -> Result<DevArguments, Failure> {
    environment.check().map_err(|e| serve::config_failure(&e))?;
    let mut mistakes = Vec::new();
    let mut wrong = |name: &str, expected: &str| mistakes.push(format!("{name}: {expected}"));
    let text = |name| environment.other(name).map(OsStr::to_string_lossy);
    let listen = given.listen.or_else(|| {
        let address = text(LISTEN)?.parse();
        let expected = "expected an address and a port, such as 0.0.0.0:7443";
        address.map_err(|_| wrong(LISTEN, expected)).ok()
    });
    let named = given.server_name.or_else(|| {
        server_name(&text(SERVER_NAME)?).map_err(|expected| wrong(SERVER_NAME, &expected)).ok()
    });
    let env_file = given.env_file.or_else(|| environment.other(ENV_FILE).map(Into::into));
    if !mistakes.is_empty() {
        return Err(Failure::usage("VARIABLE_INVALID", mistakes.join("\n")));
    }
    for name in environment.settings() {
        note(&format!("{name} is passed over: dev makes its own settings"));
    }
    Ok(DevArguments { listen, env_file, server_name: named })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldseal_server::config::OTHER_VARIABLES;

    #[test]
    fn one_is_dev_and_nothing_else_is_guessed() {
        for (value, means) in
            [(None, false), (Some(""), false), (Some("0"), false), (Some("1"), true)]
        {
            assert_eq!(stands_for_dev(value.map(OsStr::new)).ok(), Some(means), "{value:?}");
        }
        for value in ["true", "yes", "01", " 1", "dev"] {
            let refused = stands_for_dev(Some(OsStr::new(value))).unwrap_err();
            assert_eq!(refused.reason(), "VARIABLE_INVALID", "{value}");
        }
    }

    #[test]
    fn an_argument_wins_over_a_variable_and_an_empty_one_says_nothing() {
        let environment: Environment =
            [(LISTEN, "0.0.0.0:1"), (ENV_FILE, ""), (SERVER_NAME, "fieldseal")]
                .into_iter()
                .collect();
        let taken = complete(DevArguments::default(), &environment).unwrap();
        assert_eq!(taken.listen, Some("0.0.0.0:1".parse().unwrap()));
        assert_eq!(taken.env_file, None);
        assert_eq!(taken.server_name.as_deref(), Some("fieldseal"));
        let given = DevArguments { listen: "127.0.0.1:2".parse().ok(), ..DevArguments::default() };
        let taken = complete(given, &environment).unwrap();
        assert_eq!(taken.listen, Some("127.0.0.1:2".parse().unwrap()));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let environment: Environment =
            [(LISTEN, "7443"), (SERVER_NAME, "a b")].into_iter().collect();
        let told = complete(DevArguments::default(), &environment).unwrap_err().to_string();
        assert!(told.contains("FIELDSEAL_DEV_LISTEN: expected an address"), "{told}");
        assert!(told.contains("FIELDSEAL_DEV_SERVER_NAME: expected a DNS name"), "{told}");
        let environment: Environment = [("FIELDSEAL_DEV_LISTN", "0.0.0.0:1")].into_iter().collect();
        let told = complete(DevArguments::default(), &environment).unwrap_err().to_string();
        assert!(told.contains("FIELDSEAL_DEV_LISTN: unknown variable"), "{told}");
    }

    #[test]
    fn every_variable_is_in_the_reference() {
        for name in [VARIABLE, LISTEN, ENV_FILE, SERVER_NAME] {
            assert!(OTHER_VARIABLES.iter().any(|other| other.name == name), "{name}");
        }
    }
}
