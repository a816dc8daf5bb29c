//! Where the sidecar is, and who the caller is.

use std::path::PathBuf;
use std::{env, fmt};

use crate::failure::ClientError;

/// Where the sidecar is, and the files that prove who is who. It holds paths and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `https://{host}:{port}`. The server's certificate must be for this host.
    pub endpoint: String,
    /// The certificate authorities that issue the server's certificate, in PEM form.
    pub ca: PathBuf,
    /// The caller's certificate and its intermediates, in PEM form, its own first.
    pub certificate: PathBuf,
    /// The private key of that certificate, in PEM form.
    pub private_key: PathBuf,
}

/// The environment variables that [`Settings::from_env`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// `FIELDSEAL_CLIENT_ENDPOINT`
    Endpoint,
    /// `FIELDSEAL_CLIENT_CA`
    Ca,
    /// `FIELDSEAL_CLIENT_CERT`
    Certificate,
    /// `FIELDSEAL_CLIENT_KEY`
    PrivateKey,
}

impl Variable {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "FIELDSEAL_CLIENT_ENDPOINT",
            Self::Ca => "FIELDSEAL_CLIENT_CA",
            Self::Certificate => "FIELDSEAL_CLIENT_CERT",
            Self::PrivateKey => "FIELDSEAL_CLIENT_KEY",
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Settings {
    /// Reads the four variables.
    ///
    /// # Errors
    /// [`ClientError::Environment`] names every variable that is missing, empty or not UTF-8.
    pub fn from_env() -> Result<Self, ClientError> {
        Self::from_variables(|variable| env::var(variable.as_str()).ok())
    }

    /// Reads the four variables from somewhere else.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_variables(value: impl Fn(Variable) -> Option<String>) -> Result<Self, ClientError> {
        let mut missing = Vec::new();
        let mut take = |variable| match value(variable) {
            Some(value) if !value.is_empty() => value,
            _ => {
                missing.push(variable);
                String::new()
            }
        };
        let settings = Self {
            endpoint: take(Variable::Endpoint),
            ca: take(Variable::Ca).into(),
            certificate: take(Variable::Certificate).into(),
            private_key: take(Variable::PrivateKey).into(),
        };
        if missing.is_empty() { Ok(settings) } else { Err(ClientError::Environment(missing)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_variable_is_named_at_once() {
        let error = Settings::from_variables(|variable| match variable {
            Variable::Ca => Some("ca.pem".into()),
            Variable::PrivateKey => Some(String::new()),
            _ => None,
        })
        .expect_err("three are missing");
        let text = error.to_string();
        for name in ["FIELDSEAL_CLIENT_ENDPOINT", "FIELDSEAL_CLIENT_CERT", "FIELDSEAL_CLIENT_KEY"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(!text.contains("FIELDSEAL_CLIENT_CA"), "{text}");
    }

    #[test]
    fn all_four_make_settings() {
        let settings = Settings::from_variables(|variable| Some(variable.to_string()));
        assert_eq!(settings.expect("settings").endpoint, "FIELDSEAL_CLIENT_ENDPOINT");
    }
}
