//! Connecting to the sidecar, and its errors as this command's errors.

use std::error::Error as _;
use std::path::Path;

use fieldseal_client::{Client, ClientError, EncryptionClient, Settings};
use tonic::{Code, Status};

use crate::failure::{Exit, Failure};

pub(crate) type Encryption = EncryptionClient;

/// Connects as the environment says.
pub(crate) async fn connect() -> Result<Client, Failure> {
    connect_with(Settings::from_env().map_err(|e| refused(&e))?).await
}

/// Connects with these settings.
pub(crate) async fn connect_with(settings: Settings) -> Result<Client, Failure> {
    Client::connect(settings).await.map_err(|e| refused(&e))
}

/// Why there is no connection.
pub(crate) fn refused(error: &ClientError) -> Failure {
    if let Some(rejected) = certificate_refused(&error.to_string()) {
        return rejected;
    }
    let (exit, reason, advice) = match error {
        ClientError::Environment(_) => (
            Exit::Usage,
            "CLIENT_SETTINGS_MISSING",
            "they say where the sidecar is and who you are; `. FILE` loads what \
             `fieldseal dev --env-file FILE` wrote",
        ),
        ClientError::Endpoint => {
            (Exit::Usage, "CLIENT_ENDPOINT_INVALID", "set FIELDSEAL_CLIENT_ENDPOINT")
        }
        ClientError::Connect { .. } | ClientError::Knock { .. } => (
            Exit::Unavailable,
            "NOT_CONNECTED",
            "is the sidecar running there, and does FIELDSEAL_CLIENT_CA belong to it?",
        ),
        _ => (
            Exit::Usage,
            "CLIENT_FILES_INVALID",
            "check FIELDSEAL_CLIENT_CA, FIELDSEAL_CLIENT_CERT and FIELDSEAL_CLIENT_KEY",
        ),
    };
    Failure::new(exit, reason, error.to_string()).advise(advice)
}

/// Why a call failed.
pub(crate) fn failure(status: &Status) -> Failure {
    let told = fieldseal_client::Failure::from(status);
    if told.reason().is_empty() {
        return broken(status);
    }
    Failure::refused(told.code(), told.reason(), told.message(), told.event())
}

/// An error that does not come from a sidecar: the connection broke, or the TLS layer refused the
/// caller. What happened stands at the end of the chain.
fn broken(status: &Status) -> Failure {
    let mut message = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        message = error.to_string();
        source = error.source();
    }
    if let Some(rejected) = certificate_refused(&message) {
        return rejected;
    }
    match status.code() {
        Code::Unknown | Code::Unavailable | Code::Cancelled | Code::Internal => {
            let what = format!("the connection to the sidecar broke: {message}");
            Failure::new(Exit::Unavailable, "CONNECTION_LOST", what)
                .advise("see the sidecar's own output, then try again")
        }
        code => Failure::refused(code, "", &message, None),
    }
}

/// The server's alert is the only word of it that a refused caller gets (RFC 8446, section 6.2).
fn certificate_refused(message: &str) -> Option<Failure> {
    const ALERTS: [&str; 9] = [
        "CertificateRequired",
        "BadCertificate",
        // A signature that does not verify: another authority of the same name issued it.
        "DecryptError",
        "UnsupportedCertificate",
        "CertificateRevoked",
        "CertificateExpired",
        "CertificateUnknown",
        "UnknownCA",
        "AccessDenied",
    ];
    if !ALERTS.iter().any(|alert| message.contains(&format!("alert: {alert}"))) {
        return None;
    }
    let what = format!("the sidecar refused the certificate: {message}");
    Some(
        Failure::new(Exit::Denied, "CERTIFICATE_REFUSED", what)
            .advise("check FIELDSEAL_CLIENT_CERT; the sidecar's tls.client_ca must have issued it"),
    )
}

/// Why an item of a batch failed.
pub(crate) fn item_failure(status: &tonic_types::Status) -> Failure {
    let told = fieldseal_client::Failure::from(status);
    Failure::refused(told.code(), told.reason(), told.message(), told.event())
}

/// What a client needs to know, as lines for `. FILE` in a shell.
pub(crate) fn environment(settings: &Settings) -> String {
    let paths = [
        ("FIELDSEAL_CLIENT_CA", &settings.ca),
        ("FIELDSEAL_CLIENT_CERT", &settings.certificate),
        ("FIELDSEAL_CLIENT_KEY", &settings.private_key),
    ];
    let mut text = format!("export FIELDSEAL_CLIENT_ENDPOINT={}\n", quoted(&settings.endpoint));
    for (name, path) in paths {
        text.push_str(&format!("export {name}={}\n", quoted_path(path)));
    }
    text
}

/// A path as a shell reads it.
pub(crate) fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-:=@%+,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_a_reason_is_the_connection_s() {
        let failure = failure(&Status::unavailable("gone"));
        assert_eq!((failure.exit(), failure.reason()), (Exit::Unavailable, "CONNECTION_LOST"));
        for alert in ["CertificateRequired", "UnknownCA", "DecryptError"] {
            let alert = Status::unknown(format!("received fatal alert: {alert}"));
            let refused = super::failure(&alert);
            assert_eq!((refused.exit(), refused.reason()), (Exit::Denied, "CERTIFICATE_REFUSED"));
        }
    }

    #[test]
    fn a_shell_reads_every_path() {
        assert_eq!(quoted("/a/b-c.pem"), "/a/b-c.pem");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("~x"), "'~x'");
    }
}
