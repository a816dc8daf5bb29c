//! `[probes]` and `[log]`: what whoever watches over the process sees of it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::loopback;
use super::reader::Document;
use crate::telemetry::{self, LogFormat, LogSettings};

/// Where probes are answered unless the configuration says otherwise.
pub const DEFAULT_PROBES: SocketAddr = loopback(7480);

/// `[probes]`: the second listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSettings {
    /// Where to answer probes and scrapes. Port 0 takes a free one; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// Where its address is written while it answers.
    pub address_file: Option<PathBuf>,
}

pub(super) fn probes(document: &mut Document<'_>) -> ProbeSettings {
    let mut section = document.section("probes");
    let expected = "expected an address and a port, such as \"127.0.0.1:7480\", or \"\" for none";
    let settings = ProbeSettings {
        listen: section.text("listen", Some(DEFAULT_PROBES), expected, |text| match text {
            "" => Some(None),
            address => address.parse().ok().map(Some),
        }),
        address_file: section.optional_path("address_file"),
    };
    section.finish();
    settings
}

pub(super) fn log(document: &mut Document<'_>) -> LogSettings {
    let mut section = document.section("log");
    let default = LogSettings::default();
    let levels = "expected \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\"";
    let formats = "expected \"auto\", \"text\" or \"json\"";
    let settings = LogSettings {
        level: section.text("level", default.level, levels, telemetry::level),
        format: section.text("format", default.format, formats, LogFormat::parse),
    };
    section.finish();
    settings
}
