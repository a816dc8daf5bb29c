//! `[audit]`: where the log is handed on to.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use fieldseal_engine::ExportTarget;
use http::Uri;

use super::setting::{Kind, Setting};

/// Where the log is handed on to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportSettings {
    /// A file of lines.
    pub file: Option<PathBuf>,
    /// A collector; empty for none.
    pub otlp: String,
    /// Who issued its certificate.
    pub otlp_ca: Option<PathBuf>,
}

impl ExportSettings {
    /// The targets; the cursor of a collector stands beside the log.
    pub(crate) fn targets(&self, log: &Path) -> Vec<ExportTarget> {
        let collector = (!self.otlp.is_empty()).then(|| ExportTarget::Otlp {
            endpoint: self.otlp.clone(),
            ca: self.otlp_ca.clone(),
            cursor: log.join("otlp.cursor"),
        });
        self.file.clone().map(ExportTarget::File).into_iter().chain(collector).collect()
    }

    /// Whether TLS is asked for, and nobody to believe is named.
    pub(super) fn lacks_ca(&self) -> bool {
        self.otlp.starts_with("https:") && self.otlp_ca.is_none()
    }
}

pub(super) const FILE: Setting = Setting {
    name: "audit.export_file",
    meaning: "A file of JSON lines (OCSF) to which every record of the log is added, once a second, for a \
        SIEM. Beside it, with .cursor behind its name, stands how far it came.",
    kind: Kind::OptionalPath { set: |config, path| config.audit.export.file = path },
};

pub(super) const OTLP: Setting = Setting {
    name: "audit.export_otlp",
    meaning: "An OpenTelemetry collector to which every record is sent, as log records over OTLP/gRPC.",
    kind: Kind::Text {
        default: "",
        takes: "\"https://HOST:PORT\", or \"http://\" with a loopback address and a port, or \"\" for none",
        is: is_endpoint,
        set: |config, endpoint| config.audit.export.otlp = endpoint,
    },
};

pub(super) const OTLP_CA: Setting = Setting {
    name: "audit.export_otlp_ca",
    meaning: "The authorities that issue the collector's certificate, in PEM form. No other is believed.",
    kind: Kind::OptionalPath { set: |config, path| config.audit.export.otlp_ca = path },
};

/// Records leave the machine over TLS or not at all.
fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return text.is_empty() };
    let Some(authority) = uri.authority() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_plain = authority.port_u16().is_some()
        && !authority.as_str().contains('@')
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none();
    is_plain
        && match uri.scheme_str() {
            Some("https") => true,
            Some("http") => host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::is_endpoint;

    #[test]
    fn records_leave_the_machine_over_tls_only() {
        for taken in [
            "",
            "https://collector:4317",
            "https://[::1]:4317/",
            "http://127.0.0.1:1",
            "http://[::1]:1",
        ] {
            assert!(is_endpoint(taken), "{taken}");
        }
        for refused in [
            "collector:4317",
            "https://collector",
            "http://collector:4317",
            "http://localhost:4317",
            "http://10.0.0.1:4317",
            "http://127.0.0.1.example:4317",
            "https://name:password@collector:4317",
            "https://collector:4317/v1/logs",
            "https://collector:4317/?a",
            "ftp://127.0.0.1:4317",
        ] {
            assert!(!is_endpoint(refused), "{refused}");
        }
    }
}
