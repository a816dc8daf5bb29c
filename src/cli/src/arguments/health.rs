//! `health`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct HealthArguments {
    /// What to ask
    #[arg(value_enum, default_value_t)]
    pub probe: ProbeKind,
    /// Where the sidecar answers probes ([probes] listen)
    /// [default: what --config says, or FIELDSEAL_PROBES_LISTEN, or 127.0.0.1:7480]
    #[arg(long, env = "FIELDSEAL_HEALTH_ADDRESS", value_name = "ADDRESS")]
    pub address: Option<SocketAddr>,
    /// The sidecar's configuration file, which says the address
    #[arg(long, value_name = "PATH", env = "FIELDSEAL_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ProbeKind {
    /// Whether the process does anything at all
    Liveness,
    /// Whether it can serve every call
    #[default]
    Readiness,
}
