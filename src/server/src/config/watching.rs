//! `[probes]`: what whoever watches over the process asks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where probes are answered unless the configuration says otherwise.
pub const DEFAULT_PROBES: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7480);

/// `[probes]`: the second listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSettings {
    /// Where to answer probes and scrapes. Port 0 takes a free one; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// Where its address is written while it answers.
    pub address_file: Option<PathBuf>,
}
