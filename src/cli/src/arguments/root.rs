//! `root`, and the root provider of `init`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum RootCommand {
    /// Open every key with the recovery identity, and change nothing
    Drill(DrillArguments),
    /// Make a new root key, and wrap every key with it; goes on where an earlier attempt ended
    Rotate(RotateArguments),
    /// Wrap the same root key with another root provider
    Rewrap(RewrapArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DrillArguments {
    /// The installation's configuration file; it must be stopped
    #[arg(long, value_name = "PATH", env = "FIELDSEAL_CONFIG", hide_env_values = true)]
    pub config: PathBuf,
    /// A file with the age identity (AGE-SECRET-KEY-1…)
    #[arg(long, value_name = "PATH")]
    pub identity: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArguments {
    /// The installation's configuration file; it must be stopped
    #[arg(long, value_name = "PATH", env = "FIELDSEAL_CONFIG", hide_env_values = true)]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RewrapArguments {
    /// The installation's configuration file, as it is now; it must be stopped
    #[arg(long, value_name = "PATH", env = "FIELDSEAL_CONFIG", hide_env_values = true)]
    pub config: PathBuf,
    /// Open the keyring with this age identity instead of the root provider of the configuration
    #[arg(long, value_name = "PATH")]
    pub identity: Option<PathBuf>,
    /// Encrypt the root key to this recipient instead of the one before
    #[arg(long, value_name = "age1…")]
    pub recovery_recipient: Option<String>,
    #[command(flatten)]
    pub provider: ProviderArguments,
}

/// The root provider of a keyring that is made or wrapped anew.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProviderArguments {
    /// What wraps the root key
    #[arg(long, visible_alias = "provider", value_enum, value_name = "PROVIDER", default_value_t)]
    pub root_provider: Provider,
    /// With file: where the key file is made; never inside the state directory
    /// [default: root.key beside the configuration]
    #[arg(long, value_name = "PATH")]
    pub root_key_file: Option<PathBuf>,
    /// With systemd: the credential's name, in $CREDENTIALS_DIRECTORY
    #[arg(long, value_name = "NAME")]
    pub root_credential: Option<String>,
    /// With passphrase: the file descriptor on which its line comes
    #[arg(long, value_name = "FD")]
    pub root_passphrase_fd: Option<u32>,
    /// With exec: the program, and again for each of its arguments
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub root_command: Vec<String>,
    /// With exec: how long the program may take
    #[arg(long, value_name = "SECONDS")]
    pub root_deadline_seconds: Option<u32>,
    /// With env: the variable with the key
    #[arg(long, value_name = "NAME")]
    pub root_variable: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Provider {
    /// A key in a file of its own, which is made
    #[default]
    File,
    /// A key in a credential of systemd
    Systemd,
    /// A key that is made of a passphrase
    Passphrase,
    /// A program, for a KMS
    Exec,
    /// A key in a variable of the environment
    Env,
}

impl ProviderArguments {
    /// As settings, by name and text.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let provider = match self.root_provider {
            Provider::File => "file",
            Provider::Systemd => "systemd",
            Provider::Passphrase => "passphrase",
            Provider::Exec => "exec",
            Provider::Env => "env",
        };
        let mut settings = vec![("root.provider", provider.to_owned())];
        let mut put = |name, value: Option<String>| settings.extend(value.map(|v| (name, v)));
        put("root.credential", self.root_credential.clone());
        put("root.passphrase_fd", self.root_passphrase_fd.map(|number| number.to_string()));
        put("root.deadline_seconds", self.root_deadline_seconds.map(|number| number.to_string()));
        put("root.variable", self.root_variable.clone());
        let command = (!self.root_command.is_empty()).then(|| {
            // A JSON array of texts is a TOML one too.
            serde_json::Value::from(self.root_command.clone()).to_string()
        });
        put("root.command", command);
        settings
    }
}
