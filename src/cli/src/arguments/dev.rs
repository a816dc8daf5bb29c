//! `dev`: arguments that a container can state in its environment instead.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Default, Args)]
pub(crate) struct DevArguments {
    /// The address to listen on; port 0 takes a free one
    /// [env: FIELDSEAL_DEV_LISTEN] [default: 127.0.0.1:0]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Write what a client needs to know into this new file, for `. FILE` in a shell; it is removed
    /// when dev ends
    /// [env: FIELDSEAL_DEV_ENV_FILE]
    #[arg(long, value_name = "PATH")]
    pub env_file: Option<PathBuf>,
    /// The name by which clients elsewhere reach it; the server's certificate gets it too
    /// [env: FIELDSEAL_DEV_SERVER_NAME]
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    pub server_name: Option<String>,
}

/// A DNS name or an IPv4 address, as they stand in a URL.
pub(crate) fn server_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-')
    };
    match text.len() <= 253 && text.split('.').all(label) {
        true => Ok(text.to_owned()),
        false => Err("expected a DNS name, such as fieldseal or fieldseal.example.org".to_owned()),
    }
}
