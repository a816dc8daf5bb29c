//! `config`: what a configuration says.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file and the environment, and report every mistake
    Check(ConfigFile),
    /// Show the value of every setting
    Show {
        #[command(flatten)]
        file: ConfigFile,
        /// Also show where each value was stated: file and line, variable, or default
        #[arg(long)]
        origin: bool,
    },
    /// Print a commented configuration file with every setting at its default
    Example,
    /// Print the reference of all settings and variables, in Markdown
    #[command(hide = true)]
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "PATH", env = "FIELDSEAL_CONFIG", hide_env_values = true)]
    pub config: PathBuf,
}
