//! The configuration file: TOML, checked as a whole before anything starts.

mod reader;
mod watching;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fieldseal_model::PrincipalKind;

pub use reader::{ConfigError, ConfigErrors};
pub use watching::{DEFAULT_PROBES, ProbeSettings};

use crate::calls::CallLimits;
use crate::telemetry::LogSettings;
use crate::transport::Limits;
use reader::Document;
use watching::{log, probes};

/// The format that this program reads.
const FORMAT: i64 = 1;
/// The largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
const MIB: usize = 1024 * 1024;

const LISTEN: SocketAddr = loopback(7443);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

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
    /// `[root]`.
    pub root: RootSettings,
    /// `[policy]`: the directory of the policies and their schema.
    pub policy_directory: PathBuf,
    /// `[audit]`.
    pub audit: AuditSettings,
    /// `[keys]`: how many data keys are held in memory.
    pub cached_data_keys: usize,
    /// `[limits]` of the listener, with `server.drain_seconds`.
    pub listener: Limits,
    /// `[limits]` of calls.
    pub calls: CallLimits,
    /// `[limits]`: the largest message in either direction, in bytes.
    pub message_bytes: usize,
    /// `[limits]`: the most items in a batch.
    pub batch_items: usize,
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

/// `[root]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSettings {
    /// The root key is wrapped by a key in this file.
    File(PathBuf),
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
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every mistake in the file at once, or the one reason why it cannot be read.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        let unreadable = |message: String| {
            let file = file.to_owned();
            ConfigErrors(vec![ConfigError { file, line: None, setting: String::new(), message }])
        };
        let size = std::fs::metadata(file)
            .map_err(|e| unreadable(format!("cannot read the configuration file: {e}")))?
            .len();
        if size > MAX_FILE_BYTES {
            return Err(unreadable("a configuration file has at most 1 MiB".to_owned()));
        }
        let text = std::fs::read_to_string(file)
            .map_err(|e| unreadable(format!("cannot read the configuration file: {e}")))?;
        Self::parse(file, &text)
    }

    /// Checks the text of a configuration file. Relative paths begin beside `file`.
    ///
    /// # Errors
    /// Every mistake in the text at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let mut document = Document::parse(file, text);
        document.format(FORMAT);
        let (server, drain) = server(&mut document);
        let probes = probes(&mut document);
        let log = log(&mut document);
        let tls = tls(&mut document);
        let state = state(&mut document);
        let root = root(&mut document);
        let mut policy = document.section("policy");
        let policy_directory = policy.path("directory", "policy");
        policy.finish();
        let audit = audit(&mut document);
        let mut keys = document.section("keys");
        let cached_data_keys = count(keys.number("cached_data_keys", 16_384, 1..=1_000_000));
        keys.finish();
        let limits = limits(&mut document, drain);
        let errors = document.finish();
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let (listener, calls, message_bytes, batch_items) = limits;
        Ok(Self {
            server,
            probes,
            log,
            tls,
            state,
            root,
            policy_directory,
            audit,
            cached_data_keys,
            listener,
            calls,
            message_bytes,
            batch_items,
        })
    }

    /// A commented configuration file with every setting at its default.
    #[must_use]
    pub fn example() -> &'static str {
        include_str!("config/example.toml")
    }

    /// The same for another address, with the file that the server writes it to (empty for none).
    ///
    /// Both are written as they are between quotation marks, so they must hold none, no
    /// backslashes and no line breaks.
    #[must_use]
    pub fn example_for(listen: SocketAddr, address_file: &str) -> String {
        let line = |name: &str, value: &str| format!("{name} = \"{value}\"");
        Self::example()
            .replacen(&line("listen", &LISTEN.to_string()), &line("listen", &listen.to_string()), 1)
            .replacen(&line("address_file", ""), &line("address_file", address_file), 1)
    }
}

fn server(document: &mut Document<'_>) -> (ServerSettings, Duration) {
    let mut section = document.section("server");
    let expected = "expected an address and a port, such as \"127.0.0.1:7443\"";
    let settings = ServerSettings {
        listen: section.text("listen", LISTEN, expected, |text| text.parse().ok()),
        address_file: section.optional_path("address_file"),
        reflection: section.flag("reflection", false),
    };
    let drain = seconds(section.number("drain_seconds", 10, 0..=600));
    section.finish();
    (settings, drain)
}

fn tls(document: &mut Document<'_>) -> TlsFiles {
    let mut section = document.section("tls");
    let expected = "expected \"spiffe\", \"dns\" or \"cn\"";
    let files = TlsFiles {
        certificate: section.path("certificate", "tls/server.pem"),
        private_key: section.path("private_key", "tls/server.key"),
        client_ca: section.path("client_ca", "tls/ca.pem"),
        principal: section.text("principal", PrincipalKind::Spiffe, expected, |text| {
            use PrincipalKind::{CommonName, Dns, Spiffe};
            [Spiffe, Dns, CommonName].into_iter().find(|kind| kind.prefix() == text)
        }),
    };
    section.finish();
    files
}

fn state(document: &mut Document<'_>) -> StateSettings {
    let mut section = document.section("state");
    let directory = section.path("directory", "state");
    let expected = "expected \"sled\" or \"memory\"";
    let backend = section.text("backend", Backend::Sled, expected, |text| match text {
        "sled" => Some(Backend::Sled),
        "memory" => Some(Backend::Memory),
        _ => None,
    });
    section.finish();
    StateSettings { directory, backend }
}

fn root(document: &mut Document<'_>) -> RootSettings {
    let mut section = document.section("root");
    section.text("provider", (), "expected \"file\"", |text| (text == "file").then_some(()));
    let file = section.path("file", "root.key");
    section.finish();
    RootSettings::File(file)
}

fn audit(document: &mut Document<'_>) -> AuditSettings {
    let mut section = document.section("audit");
    let segment = section.number("segment_mib", 64, 1..=1_024);
    let reserve = section.number("reserve_mib", 64, 1..=65_536);
    let expected = "expected a lower-case letter and at most 62 of a-z, 0-9 and -";
    let instance = section.text("instance", "main".to_owned(), expected, |text| {
        let legal = text.len() <= 63
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        legal.then(|| text.to_owned())
    });
    let checkpoint_every = seconds(section.number("checkpoint_seconds", 300, 1..=86_400));
    section.finish();
    let bytes = |mib: u32| u64::from(mib).saturating_mul(1024 * 1024);
    AuditSettings {
        segment_bytes: bytes(segment),
        reserve_bytes: bytes(reserve),
        instance,
        checkpoint_every,
    }
}

fn limits(document: &mut Document<'_>, drain: Duration) -> (Limits, CallLimits, usize, usize) {
    let mut section = document.section("limits");
    let listener = Limits {
        connections: count(section.number("connections", 4_000, 1..=100_000)),
        connections_per_principal: count(section.number(
            "connections_per_principal",
            1_000,
            1..=100_000,
        )),
        streams: section.number("streams", 128, 1..=10_000),
        handshake: seconds(section.number("handshake_seconds", 5, 1..=60)),
        handshakes: count(section.number("handshakes", 256, 1..=10_000)),
        drain,
        ..Limits::default()
    };
    let deadline = seconds(section.number("deadline_seconds", 10, 1..=300));
    let calls = CallLimits {
        in_flight: count(section.number("in_flight", 1_024, 1..=100_000)),
        deadline,
        longest_deadline: deadline.max(CallLimits::default().longest_deadline),
    };
    let message_bytes = count(section.number("message_mib", 4, 1..=64)).saturating_mul(MIB);
    let batch_items = count(section.number("batch_items", 1_000, 1..=10_000));
    section.finish();
    if listener.connections_per_principal > listener.connections {
        document.conflict(
            "limits.connections_per_principal",
            "must not be larger than limits.connections",
        );
    }
    (listener, calls, message_bytes, batch_items)
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<(Option<usize>, String, String)> {
        let errors = Config::parse(Path::new("/etc/fieldseal/f.toml"), text).unwrap_err();
        let parts = |e: &ConfigError| (e.line, e.setting.clone(), e.message.clone());
        errors.errors().iter().map(parts).collect()
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_line() {
        let text = "format = 1\n\
            [server]\n\
            listen = \"nowhere\"\n\
            reflection = \"yes\"\n\
            colour = 1\n\
            [log]\n\
            level = \"loud\"\n\
            [tls]\n\
            principal = \"email\"\n\
            certificate = \"\"\n\
            [state]\n\
            backend = 7\n\
            [audit]\n\
            instance = \"Main\"\n\
            segment_mib = 0\n\
            [limits]\n\
            streams = 4294967297\n\
            in_flight = -1\n\
            deadline_seconds = 1.5\n\
            connections = 10\n\
            [limit]\n\
            x = 1\n";
        let found = mistakes(text);
        let lines: Vec<_> =
            found.iter().map(|(line, setting, _)| (line.unwrap_or(0), setting.as_str())).collect();
        assert_eq!(
            lines,
            [
                (0, "limits.connections_per_principal"),
                (3, "server.listen"),
                (4, "server.reflection"),
                (5, "server.colour"),
                (7, "log.level"),
                (9, "tls.principal"),
                (10, "tls.certificate"),
                (12, "state.backend"),
                (14, "audit.instance"),
                (15, "audit.segment_mib"),
                (17, "limits.streams"),
                (18, "limits.in_flight"),
                (19, "limits.deadline_seconds"),
                (21, "limit"),
            ]
        );
        let unknown = &found[3].2;
        assert!(unknown.contains("unknown setting") && unknown.contains("reflection"), "{unknown}");
        assert_eq!(found[11].2, "expected a whole number from 1 to 100000");
    }

    #[test]
    fn the_format_must_be_known() {
        for (text, line) in [("", None), ("\nformat = 2\n", Some(2)), ("format = \"1\"", Some(1))] {
            let found = mistakes(text);
            assert_eq!(found.len(), 1, "{text:?}");
            assert_eq!((found[0].0, found[0].1.as_str()), (line, "format"), "{text:?}");
        }
    }

    #[test]
    fn broken_syntax_is_reported_with_the_other_mistakes() {
        let found = mistakes("format = 1\n[server]\nlisten =\nreflection = 3\n[tls\n");
        let lines: Vec<_> = found.iter().filter_map(|(line, _, _)| *line).collect();
        assert!([3, 4, 5].iter().all(|line| lines.contains(line)), "{found:?}");
        let twice = mistakes("format = 1\n[keys]\ncached_data_keys = 1\ncached_data_keys = 2\n");
        assert_eq!(twice[0].0, Some(4), "{twice:?}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.toml");
        let error = Config::load(&missing).unwrap_err().to_string();
        assert!(error.starts_with(missing.to_str().unwrap()), "{error}");
    }

    #[test]
    fn mistakes_read_like_a_compiler_s() {
        let error = Config::parse(Path::new("f.toml"), "format = 1\n[state]\nbackend = \"x\"\n");
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "f.toml:3: state.backend: expected \"sled\" or \"memory\"");
    }

    #[test]
    fn the_example_says_the_defaults() {
        let file = Path::new("/etc/fieldseal/fieldseal.toml");
        let defaults = Config::parse(file, "format = 1").unwrap();
        assert_eq!(Config::parse(file, Config::example()), Ok(defaults.clone()));
        assert_eq!(defaults.listener, Limits::default());
        assert_eq!(defaults.calls, CallLimits::default());
        assert_eq!(defaults.message_bytes, crate::transport::MAX_MESSAGE_BYTES);
        assert_eq!(defaults.tls.client_ca, Path::new("/etc/fieldseal/tls/ca.pem"));
        assert_eq!(defaults.state.keyring(), Path::new("/etc/fieldseal/state/keyring.json"));
        assert_eq!(defaults.server.address_file, None);
        for setting in ["deadline_seconds", "address_file", "cached_data_keys"] {
            assert!(Config::example().contains(setting));
        }
    }

    #[test]
    fn paths_begin_beside_the_file_and_values_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f.toml");
        let text = Config::example_for("127.0.0.1:0".parse().unwrap(), "run/address");
        let text = text.replace("\"root.key\"", "\"/secure/root.key\"");
        std::fs::write(&file, text.replace("\"spiffe\"\n", "\"cn\"\n")).unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.server.listen.port(), 0);
        assert_eq!(config.probes.listen, Some(DEFAULT_PROBES));
        assert_eq!(config.probes.address_file, None);
        assert_eq!(config.server.address_file, Some(directory.path().join("run/address")));
        assert_eq!(config.root, RootSettings::File("/secure/root.key".into()));
        assert_eq!(config.tls.principal, PrincipalKind::CommonName);
    }
}
