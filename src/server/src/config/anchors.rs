//! `[audit]`: where checkpoints of the log are posted to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use fieldseal_engine::{AnchorTarget, HttpAnchor};
use http::Uri;

use super::setting::{Kind, Setting};
use crate::anchors::Address;

/// The address that checkpoints are posted to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnchorAddress {
    /// Empty for none.
    pub url: String,
    /// Who issues its certificate.
    pub ca: Option<PathBuf>,
    /// The file with the token that it is shown.
    pub token: Option<PathBuf>,
}

impl AnchorAddress {
    /// The target, if there is one.
    pub(crate) fn target(&self) -> Option<AnchorTarget> {
        let Self { url, ca, token } = self.clone();
        (!url.is_empty()).then(|| {
            let service = Address { url: url.clone(), ca, token };
            AnchorTarget::Http(HttpAnchor { url, service: Arc::new(service) })
        })
    }

    /// What does not fit together, for the setting of the authorities.
    pub(super) fn conflict(&self) -> Option<String> {
        let what = match (self.url.starts_with("https:"), self.ca.is_some()) {
            (true, false) => "expected the authorities that issue the certificate of that address",
            (false, true) => "expected an https address with it",
            _ => return None,
        };
        Some(what.to_owned())
    }
}

pub(super) const FILE: Setting = Setting {
    name: "audit.anchor_file",
    meaning: "A file on another machine's volume, where the newest checkpoint is written every \
        audit.checkpoint_seconds and at the stop. A log that does not go on from it is not started.",
    kind: Kind::OptionalPath {
        set: |config, path| config.audit.anchors.extend(path.map(AnchorTarget::File)),
    },
};

pub(super) const COMMAND: Setting = Setting {
    name: "audit.anchor_command",
    meaning: "The same by a program with its first arguments: with put behind them it keeps the line on its \
        standard input, with get it writes the newest one, or nothing. It has 10 seconds.",
    kind: Kind::Command {
        set: |config, words| {
            let command = Some(words).filter(|words| !words.is_empty());
            config.audit.anchors.extend(command.map(AnchorTarget::Command));
        },
    },
};

pub(super) const URL: Setting = Setting {
    name: "audit.anchor_url",
    meaning: "The same by an address: PUT has it keep the line, GET answers with the newest one, or with 404 if \
        there is none yet.",
    kind: Kind::Text {
        default: "",
        takes: "\"https://HOST/PATH\", or \"http://\" with a loopback address, or \"\" for none",
        is: is_address,
        set: |config, url| config.audit.anchor.url = url,
    },
};

pub(super) const CA: Setting = Setting {
    name: "audit.anchor_ca",
    meaning: "The authorities that issue the certificate of audit.anchor_url, in PEM form. No other is believed.",
    kind: Kind::OptionalPath { set: |config, path| config.audit.anchor.ca = path },
};

pub(super) const TOKEN: Setting = Setting {
    name: "audit.anchor_token_file",
    meaning: "A file of its owner alone (0600) with the token that audit.anchor_url is shown, as Authorization: \
        Bearer. It is read for each request.",
    kind: Kind::OptionalPath { set: |config, path| config.audit.anchor.token = path },
};

/// Over TLS, or on this machine.
fn is_address(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return text.is_empty() };
    let Some(authority) = uri.authority() else { return text.is_empty() };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_plain = !host.is_empty() && !authority.as_str().contains('@') && uri.query().is_none();
    is_plain
        && match uri.scheme_str() {
            Some("https") => true,
            Some("http") => host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn checkpoints_are_posted_over_tls_or_on_this_machine() {
        for taken in ["", "https://anchors.example/prod-1", "http://127.0.0.1:1/a", "http://[::1]/"]
        {
            assert!(is_address(taken), "{taken}");
        }
        for refused in [
            "anchors.example/prod-1",
            "http://anchors.example/prod-1",
            "http://localhost:1/a",
            "https://name:word@anchors.example/",
            "https://anchors.example/?key=1",
            "ftp://127.0.0.1/",
            "/a",
        ] {
            assert!(!is_address(refused), "{refused}");
        }
    }
}
