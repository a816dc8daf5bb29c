//! Settings from the environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::error::{ConfigError, ConfigErrors, Origin};
use super::root::ROOT_VARIABLE;
use super::setting::{PREFIX, Setting, Value};
use super::table::{OTHER_VARIABLES, SETTINGS};
use crate::telemetry;

/// The variables of an environment that are meant for this program: those that begin with
/// `FIELDSEAL_`. It holds no secret: the one such variable that may hold one is left out.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The names that state settings of the configuration.
    #[must_use]
    pub fn settings(&self) -> Vec<&str> {
        let names = self.0.keys().filter(|name| setting(name).is_some());
        names.map(String::as_str).collect()
    }

    /// The value of one of the other variables; nothing where it is empty.
    #[must_use]
    pub fn other(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Checks what it states, without any file.
    ///
    /// # Errors
    /// Every variable that nothing reads, or that states no legal value of its setting.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        self.stated(&mut errors);
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors::new(errors)) }
    }

    /// A mistake for each variable that nothing reads.
    fn unknown(&self) -> Vec<ConfigError> {
        let unknown = self.0.iter().filter(|(name, value)| !is_known(name, value));
        unknown
            .map(|(name, _)| ConfigError {
                origin: Origin::Variable(name.clone()),
                setting: String::new(),
                message: format!("unknown variable; expected one of {}", nearest(name)),
            })
            .collect()
    }

    /// What it states of the settings. Mistakes are added to the others.
    pub(super) fn stated(
        &self,
        errors: &mut Vec<ConfigError>,
    ) -> BTreeMap<&'static str, (Value, Origin)> {
        let mut stated = BTreeMap::new();
        for (name, text) in &self.0 {
            let Some(setting) = setting(name) else { continue };
            let origin = Origin::Variable(name.clone());
            match text.to_str().and_then(|text| setting.in_text(text)) {
                Some(value) => {
                    stated.insert(setting.name, (value, origin));
                }
                None => errors.push(ConfigError {
                    origin,
                    setting: setting.name.to_owned(),
                    message: format!("expected {}", setting.limits()),
                }),
            }
        }
        let level = self.other(telemetry::LEVEL_VARIABLE).map(OsStr::to_string_lossy);
        if level.is_some_and(|level| !telemetry::is_level(&level)) {
            errors.push(ConfigError {
                origin: Origin::Variable(telemetry::LEVEL_VARIABLE.to_owned()),
                setting: String::new(),
                message: "expected off, error, warn, info, debug or trace".to_owned(),
            });
        }
        errors.extend(self.unknown());
        stated
    }
}

impl<N: AsRef<OsStr>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let named = variables
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_string_lossy().into_owned(), value.into()));
        let ours = |name: &str| name.starts_with(PREFIX) && name != ROOT_VARIABLE;
        Self(named.filter(|(name, _)| ours(name)).collect())
    }
}

fn setting(variable: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.variable() == variable)
}

fn is_known(name: &str, value: &OsStr) -> bool {
    setting(name).is_some()
        || OTHER_VARIABLES.iter().any(|other| other.name == name)
        || is_service_link(name, value)
}

/// Kubernetes tells every container of the Services around it, in variables that begin with the
/// Service's name: with one called `fieldseal` or `fieldseal-…` they look like ours. (Kubernetes,
/// "Discovering services"; the values of `…_PORT` are URLs.)
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let url = |value: &str| ["tcp://", "udp://", "sctp://"].iter().any(|s| value.starts_with(s));
    let port = |rest: &str| {
        let mut parts = rest.splitn(3, '_');
        let (number, protocol) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && ["TCP", "UDP", "SCTP"].contains(&protocol)
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.to_str().is_some_and(url))
        || name
            .match_indices("_PORT_")
            .any(|(at, found)| name.get(at.saturating_add(found.len())..).is_some_and(port))
}

/// The variables of the section that the name seems to mean, or all sections.
fn nearest(name: &str) -> String {
    let first = |name: &str| name.split('_').nth(1).unwrap_or("").to_owned();
    let mut known: Vec<_> = SETTINGS.iter().map(Setting::variable).collect();
    known.extend(OTHER_VARIABLES.iter().map(|other| other.name.to_owned()));
    let near: Vec<_> = known.iter().filter(|k| first(k) == first(name)).cloned().collect();
    if !near.is_empty() {
        return near.join(", ");
    }
    let section = |known: &String| match known.matches('_').count() {
        1 => known.clone(),
        _ => format!("{PREFIX}{}_…", first(known)),
    };
    let mut sections: Vec<_> = known.iter().map(section).collect();
    sections.dedup();
    sections.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(name: &str, value: &str) -> Vec<String> {
        let environment: Environment = [(name, value)].into_iter().collect();
        environment.unknown().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_variable_that_nothing_reads_is_refused_with_those_it_may_mean() {
        let told = unknown("FIELDSEAL_SERVER_PORT", "7443");
        let names = "FIELDSEAL_SERVER_LISTEN, FIELDSEAL_SERVER_ADDRESS_FILE";
        assert!(told[0].starts_with("FIELDSEAL_SERVER_PORT: unknown variable; "), "{told:?}");
        assert!(told[0].contains(names) && !told[0].contains("FIELDSEAL_TLS_"), "{told:?}");
        let told = unknown("FIELDSEAL_COLOUR", "blue");
        assert!(told[0].contains("FIELDSEAL_TLS_…"), "{told:?}");
        assert!(!told[0].contains("blue"), "a value is nobody's business: {told:?}");
        for name in ["FIELDSEAL_FORMAT", "FIELDSEAL_", "FIELDSEAL_server_listen"] {
            assert_eq!(unknown(name, "1").len(), 1, "{name}");
        }
    }

    #[test]
    fn what_is_read_elsewhere_and_what_is_not_ours_passes() {
        for name in ["FIELDSEAL_CLIENT_CA", "FIELDSEAL_LOG", "FIELDSEALS", "PATH", "FIELDSEAL"] {
            assert!(unknown(name, "x").is_empty(), "{name}");
        }
    }

    #[test]
    fn a_service_of_our_name_in_kubernetes_stops_nothing() {
        for (name, value) in [
            ("FIELDSEAL_SERVICE_HOST", "10.0.0.1"),
            ("FIELDSEAL_SERVICE_PORT", "7443"),
            ("FIELDSEAL_SERVICE_PORT_GRPC", "7443"),
            ("FIELDSEAL_PORT", "tcp://10.0.0.1:7443"),
            ("FIELDSEAL_PORT_7443_TCP", "tcp://10.0.0.1:7443"),
            ("FIELDSEAL_PORT_7443_TCP_PROTO", "tcp"),
            ("FIELDSEAL_SERVER_PORT_7443_TCP_ADDR", "10.0.0.1"),
            ("FIELDSEAL_AUDIT_PORT", "udp://10.0.0.1:1"),
        ] {
            assert!(unknown(name, value).is_empty(), "{name}");
        }
        for (name, value) in [("FIELDSEAL_PORT", "7443"), ("FIELDSEAL_PORT_X_TCP", "tcp://a")] {
            assert_eq!(unknown(name, value).len(), 1, "{name}");
        }
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = SETTINGS.iter().map(Setting::variable).collect();
        names.extend(OTHER_VARIABLES.iter().map(|other| other.name.to_owned()));
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(names.iter().all(|name| !is_service_link(name, OsStr::new("tcp://a"))));
    }
}
