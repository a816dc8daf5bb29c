//! The arguments of `backup`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::ReasonArguments;

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make a backup: of the running sidecar, or with --config of a stopped installation
    Create(BackupCreateArguments),
    /// List the backups of a directory
    List(BackupPlace),
    /// Check that a backup is as it was made, with the log's public key
    Verify(BackupVerifyArguments),
    /// Put an installation back from a backup, into an empty directory
    Restore(BackupRestoreArguments),
    /// Remove the backups whose time is over: of the running sidecar, or with --config of a stopped
    /// installation
    Prune(BackupPruneArguments),
    /// Restore a backup to a scratch place, start on it, open every key, and remove it
    Drill(BackupDrillArguments),
}

impl BackupCommand {
    /// The configuration whose root provider opens a keyring.
    pub(crate) fn config(&self) -> Option<&PathBuf> {
        match self {
            Self::Create(arguments) => arguments.config.as_ref(),
            Self::Restore(arguments) => Some(&arguments.config),
            Self::Drill(arguments) => Some(&arguments.config),
            Self::Prune(arguments) => arguments.config.as_ref(),
            Self::List(_) | Self::Verify(_) => None,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BackupCreateArguments {
    /// The configuration file of a stopped installation
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Who can open it, instead of backup.recipients (repeatable)
    #[arg(long, value_name = "age1…", requires = "config")]
    pub recipient: Vec<String>,
    /// Encrypt it to a passphrase, which comes as a line on this file descriptor; 0 asks on a terminal
    #[arg(long, value_name = "FD", requires = "config", conflicts_with = "recipient")]
    pub passphrase_fd: Option<u32>,
    /// Where to write it, instead of backup.directory
    #[arg(long, value_name = "DIR", requires = "config")]
    pub dir: Option<PathBuf>,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

/// Where backups are.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct BackupPlace {
    /// The directory of the backups
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The configuration file, for its backup.directory
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
}

/// What opens a backup.
#[derive(Debug, Args)]
pub(crate) struct UnlockArguments {
    /// A file with the age identity (AGE-SECRET-KEY-1…) of one of its recipients
    #[arg(long, value_name = "PATH", group = "unlock")]
    pub identity: Option<PathBuf>,
    /// Its passphrase comes as a line on this file descriptor; 0 asks on a terminal
    #[arg(long, value_name = "FD", group = "unlock")]
    pub passphrase_fd: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupVerifyArguments {
    /// The backup: NAME.age, NAME.json, or NAME
    pub backup: PathBuf,
    /// The log's public key, kept apart from the log
    #[arg(long, value_name = "PATH")]
    pub public_key: PathBuf,
    /// Also decrypt all of it and count
    #[command(flatten)]
    pub unlock: UnlockArguments,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("unlock").required(true))]
#[command(group = ArgGroup::new("what_came_later"))]
pub(crate) struct BackupRestoreArguments {
    /// The backup: NAME.age, NAME.json, or NAME
    pub backup: PathBuf,
    /// The configuration file of the new place: its root provider and audit.instance
    #[arg(long, value_name = "PATH", env = "FIELDSEAL_CONFIG", hide_env_values = true)]
    pub config: PathBuf,
    #[command(flatten)]
    pub unlock: UnlockArguments,
    /// The audit log that survived: everything that was disabled, destroyed or shredded since the
    /// backup is so again
    #[arg(long, value_name = "DIR", group = "what_came_later")]
    pub log: Option<PathBuf>,
    /// The audit log is lost: begin a new one of this name, and let come back what was disabled,
    /// destroyed or shredded since the backup
    #[arg(long, value_name = "NAME", group = "what_came_later")]
    pub without_log: Option<String>,
    /// With --without-log: the lost log's public key (log.pub), kept elsewhere, says whose backup it is
    #[arg(long, value_name = "PATH", conflicts_with = "log")]
    pub public_key: Option<PathBuf>,
    /// The copy of the store that survived (store.copy): nothing that was acknowledged is lost
    #[arg(long, value_name = "PATH")]
    pub copy: Option<PathBuf>,
    /// The new state directory, empty or not there yet [default: state.directory]
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// Open the keyring with this recovery identity instead of the root provider
    #[arg(long, value_name = "PATH")]
    pub recovery_identity: Option<PathBuf>,
    /// Check everything, and leave nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupPruneArguments {
    /// The configuration file of a stopped installation
    #[arg(long, value_name = "PATH", conflicts_with = "dir")]
    pub config: Option<PathBuf>,
    /// A directory of backups without their installation: nothing is put on record
    #[arg(long, value_name = "DIR", requires = "public_key")]
    pub dir: Option<PathBuf>,
    /// With --dir: the log's public key, kept apart from the log
    #[arg(long, value_name = "PATH", requires = "dir")]
    pub public_key: Option<PathBuf>,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The last part of the directory's path, to confirm that more than three go at once
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("unlock").required(true))]
pub(crate) struct BackupDrillArguments {
    /// The backup: NAME.age, NAME.json, or NAME
    pub backup: PathBuf,
    /// The configuration file of the installation: its root provider
    #[arg(long, value_name = "PATH", env = "FIELDSEAL_CONFIG", hide_env_values = true)]
    pub config: PathBuf,
    #[command(flatten)]
    pub unlock: UnlockArguments,
    /// Where the scratch directory is made and removed again
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}
