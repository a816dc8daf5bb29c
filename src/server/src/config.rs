//! The configuration: a TOML file with the environment over it, checked as a whole before anything
//! starts. All settings are in one table (`config/table.rs`).

mod anchors;
mod approving;
mod backup;
mod environment;
mod error;
mod exports;
mod group;
mod reader;
mod reference;
mod retaining;
mod root;
mod setting;
mod table;
#[cfg(test)]
mod tests;
mod told;
mod upkeep;
mod watching;

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fieldseal_engine::AnchorTarget;
use fieldseal_engine::CopyTarget;
use fieldseal_engine::Retention;
use fieldseal_engine::Upkeep;
use fieldseal_keys::Approving;
use fieldseal_model::PrincipalKind;

pub use anchors::AnchorAddress;
pub use backup::BackupSettings;
pub use environment::Environment;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use exports::ExportSettings;
pub use reader::Effective;
pub use root::{ROOT_VARIABLE, RootSettings};
pub use setting::{Setting, Value};
pub use table::{OTHER_VARIABLES, OtherVariable, SETTINGS};
pub use told::Told;
pub use watching::{DEFAULT_PROBES, ProbeSettings};

use crate::calls::CallLimits;
use crate::telemetry::LogSettings;
use crate::transport::Limits;

/// The largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Everything that an operator sets. All paths are absolute or relative to the working directory,
/// never to the file any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[probes]`.
    pub probes: ProbeSettings,
    /// `[log]`.
    pub log: LogSettings,
    /// `[tls]`.
    pub tls: TlsFiles,
    /// `[state]`.
    pub state: StateSettings,
    /// `[root]`: the root provider.
    pub root: RootSettings,
    /// `[root]`: who can recover the root key; empty is anybody.
    pub recovery_recipient: String,
    /// `[policy]`: the directory of the policies and their schema.
    pub policy_directory: PathBuf,
    /// `[audit]`.
    pub audit: AuditSettings,
    /// `[store]`: where everything is copied to.
    pub copy: Option<CopyTarget>,
    /// `[backup]`.
    pub backup: BackupSettings,
    /// `[store]`: what goes on beside the calls.
    pub upkeep: Upkeep,
    /// `[keys]`: how many data keys are held in memory.
    pub cached_data_keys: usize,
    /// How long a shredded partition can be restored.
    pub shred_window: Duration,
    /// The shortest such window that a caller may name.
    pub shred_window_least: Duration,
    /// What needs a second principal.
    pub approving: Approving,
    /// `[limits]` of the listener, with `server.drain_seconds`.
    pub listener: Limits,
    /// `[limits]` of calls.
    pub calls: CallLimits,
    /// `[limits]`: the largest message in either direction, in bytes.
    pub message_bytes: usize,
    /// `[limits]`: the most items in a batch.
    pub batch_items: usize,
    /// What the audit log is told of all this.
    pub told: Told,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the address is written once the server is ready.
    pub address_file: Option<PathBuf>,
    /// Whether gRPC reflection is offered.
    pub reflection: bool,
}

/// `[tls]`: files in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and its intermediates.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
    /// The authorities that issue client certificates.
    pub client_ca: PathBuf,
    /// Which name in a client certificate is the principal.
    pub principal: PrincipalKind,
}

/// `[state]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// The state directory.
    pub directory: PathBuf,
    /// What the store stands on.
    pub backend: Backend,
}

impl StateSettings {
    /// The keyring file.
    #[must_use]
    pub fn keyring(&self) -> PathBuf {
        self.directory.join("keyring.json")
    }

    /// The directory of the store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// The directory of the audit log.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.directory.join("audit")
    }
}

/// `state.backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded database.
    Sled,
    /// Nothing survives the process.
    Memory,
}

/// `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// The size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Free space below which nothing is recorded any more, in bytes.
    pub reserve_bytes: u64,
    /// The instance in the log's origin: `[a-z][a-z0-9-]{0,62}`.
    pub instance: String,
    /// How often the newest checkpoint goes to the log lines, where whoever collects them holds it.
    pub checkpoint_every: Duration,
    /// Where it is posted to as often.
    pub anchors: Vec<AnchorTarget>,
    /// The same, an address.
    pub anchor: AnchorAddress,
    /// Where it is handed on to.
    pub export: ExportSettings,
    /// The id of the group that may read it; `None`: the sidecar's user alone.
    pub group: Option<u32>,
    /// What becomes of it as it grows old.
    pub retention: Retention,
    /// How long refusals that are alike are counted; zero records each by itself.
    pub refusal_window: Duration,
}

impl Config {
    /// Reads and checks a file, with the environment of this process over it.
    ///
    /// # Errors
    /// Every mistake at once, or the one reason why the file cannot be read.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        Self::load_with_origins(file, &Environment::of_process()).map(|(config, _)| config)
    }

    /// Reads and checks a file with an environment over it. Also says of each setting which value
    /// holds and where it was stated.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with_origins(
        file: &Path,
        environment: &Environment,
    ) -> Result<(Self, Vec<Effective>), ConfigErrors> {
        let unreadable = |message: String| {
            let origin = Origin::File { file: file.to_owned(), line: None };
            ConfigErrors::new(vec![ConfigError { origin, setting: String::new(), message }])
        };
        let cannot =
            |e: std::io::Error| unreadable(format!("cannot read the configuration file: {e}"));
        let mut text = String::new();
        // One byte more than is allowed, and no more: it may be a device.
        let mut limited = File::open(file).map_err(cannot)?.take(MAX_FILE_BYTES + 1);
        let read = limited.read_to_string(&mut text);
        if limited.limit() == 0 {
            return Err(unreadable("a configuration file has at most 1 MiB".to_owned()));
        }
        read.map_err(cannot)?;
        Self::of(file, &text, environment)
    }

    /// Checks the text of a configuration file, without any environment. Relative paths begin
    /// beside `file`.
    ///
    /// # Errors
    /// Every mistake in the text at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        Self::of(file, text, &Environment::default()).map(|(config, _)| config)
    }

    /// A commented configuration file with every setting: at its default, but for the changes,
    /// given as name and text, which the environment would take too.
    ///
    /// # Errors
    /// If there is no setting of that name, or it does not take that value.
    pub fn example(changes: &[(&str, &str)]) -> Result<String, ConfigErrors> {
        reference::example(changes)
    }

    /// The reference of all settings and variables in Markdown: `docs/configuration.md`.
    #[must_use]
    pub fn reference() -> String {
        reference::markdown()
    }

    fn of(
        file: &Path,
        text: &str,
        environment: &Environment,
    ) -> Result<(Self, Vec<Effective>), ConfigErrors> {
        let (effective, mut errors) = reader::effective(file, text, environment)?;
        let mut config = Self::unset();
        for Effective { setting, value, .. } in &effective {
            setting.apply(&mut config, value);
        }
        config.told = Told::of(&effective);
        let directory = file.parent().unwrap_or(Path::new(""));
        let conflicts = root::conflicts(&config, directory, &effective, &errors);
        errors.extend(config.conflicts(&effective, &errors));
        errors.extend(conflicts);
        match errors.is_empty() {
            true => Ok((config, effective)),
            false => Err(ConfigErrors::new(errors)),
        }
    }

    /// Mistakes of several settings together. They are looked for among those that are right alone.
    fn conflicts(&self, effective: &[Effective], errors: &[ConfigError]) -> Vec<ConfigError> {
        let conflict = |names: [&str; 2], message: Option<String>| {
            if errors.iter().any(|error| names.contains(&error.setting.as_str())) {
                return None;
            }
            let stated = names.iter().filter_map(|name| {
                effective.iter().find(|e| e.setting.name == *name && e.origin != Origin::Default)
            });
            let origin = stated.map(|e| e.origin.clone()).next().unwrap_or(Origin::Default);
            let [setting, _] = names.map(ToOwned::to_owned);
            Some(ConfigError { origin, setting, message: message? })
        };
        let each = self.listener.connections_per_principal;
        let all = self.listener.connections;
        let limits = (each > all)
            .then(|| format!("expected at most limits.connections ({all}); it is {each}"));
        let (probes, listen) = (self.probes.listen, self.server.listen);
        let addresses = probes.filter(|probes| collide(*probes, listen)).map(|probes| {
            format!("expected another address than server.listen ({listen}); it is {probes}")
        });
        let requests = (self.calls.request_bytes / 2 < self.message_bytes)
            .then(|| "expected at least twice limits.message_mib".to_owned());
        let is_set = |name: &str| {
            let found = effective.iter().find(|e| e.setting.name == name);
            found.is_some_and(|found| found.value != found.setting.default_value())
        };
        let both = |directory, program| {
            (is_set(directory) && is_set(program))
                .then(|| "expected either a directory or a program, not both".to_owned())
        };
        let copies = both("store.copy", "store.copy_command");
        let archives = both("audit.archive_directory", "audit.archive_command");
        let authority =
            self.audit.export.lacks_ca().then(|| {
                "expected the authorities that issue the collector's certificate".to_owned()
            });
        let unreachable = retaining::KEPT.into_iter().filter_map(|(name, of)| {
            conflict([name, "audit.at_hand_days"], retaining::unreachable(self, of))
        });
        let unreachable: Vec<_> = unreachable.collect();
        [
            conflict(["audit.anchor_ca", "audit.anchor_url"], self.audit.anchor.conflict()),
            conflict(["audit.export_otlp_ca", "audit.export_otlp"], authority),
            conflict(["store.copy", "store.copy_command"], copies),
            conflict(["audit.archive_directory", "audit.archive_command"], archives),
            conflict(["audit.archive_directory", "state.directory"], retaining::misplaced(self)),
            conflict(["limits.request_mib", "limits.message_mib"], requests),
            conflict(["limits.connections_per_principal", "limits.connections"], limits),
            conflict(["probes.listen", "server.listen"], addresses),
        ]
        .into_iter()
        .flatten()
        .chain(unreachable)
        .collect()
    }

    /// Where the settings are put. Every field of it but the last has a setting in the table.
    fn unset() -> Self {
        Self {
            server: ServerSettings {
                listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                address_file: None,
                reflection: false,
            },
            probes: ProbeSettings { listen: None, address_file: None },
            log: LogSettings::default(),
            tls: TlsFiles {
                certificate: PathBuf::new(),
                private_key: PathBuf::new(),
                client_ca: PathBuf::new(),
                principal: PrincipalKind::Spiffe,
            },
            state: StateSettings { directory: PathBuf::new(), backend: Backend::Sled },
            root: RootSettings::default(),
            recovery_recipient: String::new(),
            policy_directory: PathBuf::new(),
            audit: AuditSettings {
                segment_bytes: 0,
                reserve_bytes: 0,
                instance: String::new(),
                checkpoint_every: Duration::ZERO,
                anchors: Vec::new(),
                anchor: AnchorAddress::default(),
                export: ExportSettings::default(),
                group: None,
                retention: Retention::default(),
                refusal_window: Duration::ZERO,
            },
            copy: None,
            backup: BackupSettings::default(),
            upkeep: Upkeep { scrub_every: None, generation_every: None },
            cached_data_keys: 0,
            shred_window: Duration::ZERO,
            shred_window_least: Duration::ZERO,
            approving: Approving::default(),
            listener: Limits::default(),
            calls: CallLimits::default(),
            message_bytes: 0,
            batch_items: 0,
            told: Told::default(),
        }
    }
}

/// Whether only one of the two can be listened on.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() != 0
        && one.port() == other.port()
        && (a == b || a.is_unspecified() || b.is_unspecified())
}
