//! Backups: made while serving, checked with the log's public key alone, and put back so that what
//! happened later is not forgotten (docs/operations.md).

mod access;
mod copied;
mod create;
mod drill;
mod error;
mod manifest;
mod offline;
mod prune;
mod reading;
mod restore;
mod retention;
mod risk;
mod stream;
mod writing;

use std::path::PathBuf;

use fieldseal_model::Timestamp;
use parking_lot::Mutex;

pub use access::{Recipients, Unlock};
pub use create::Made;
pub use drill::{Drill, Drilled, drill};
pub use error::BackupError;
pub use manifest::{Manifest, list};
pub use offline::{create, prune as prune_stopped};
pub use prune::{Pruned, prune};
pub use reading::{Verified, verify};
pub use restore::{Copied, LogSource, Restore, Restored, restore};
pub use retention::{Class, Keep};

/// Where backups go, and who can open them.
#[derive(Clone)]
pub struct Settings {
    /// The directory of the backups.
    pub directory: PathBuf,
    /// Who can open them.
    pub recipients: Recipients,
    /// How long they are kept.
    pub keep: Keep,
    /// The keyring's file: a backup holds it.
    pub keyring: PathBuf,
}

/// How backups go, for the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupState {
    /// When the newest backup was made.
    pub newest: Option<Timestamp>,
    /// Why the last attempt since the start failed, if it did: the reason.
    pub failed: Option<&'static str>,
}

/// The backups of a running installation.
#[derive(Default)]
pub(crate) struct Backups {
    pub(crate) settings: Option<Settings>,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<BackupState>,
    pub(crate) risk: risk::Risk,
}

impl Backups {
    pub(crate) fn new(
        settings: Option<Settings>,
        newest: Option<Timestamp>,
        nothing_at_risk: bool,
    ) -> Self {
        let state = Mutex::new(BackupState { newest, failed: None });
        let risk = risk::Risk::new(nothing_at_risk);
        Self { settings, turn: tokio::sync::Mutex::default(), state, risk }
    }

    pub(crate) fn state(&self) -> BackupState {
        self.state.lock().clone()
    }
}
