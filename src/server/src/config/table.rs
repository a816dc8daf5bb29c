//! Every setting, in one table. The parser, the environment, the example and
//! `docs/configuration.md` are made from it: a new setting is one entry here, and a field of
//! [`Config`] that it sets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fieldseal_model::PrincipalKind;

use super::setting::{Kind, Setting};
use super::{
    Backend, DEFAULT_PROBES, anchors, approving, backup, exports, group, retaining, root, upkeep,
};
use crate::calls::CallLimits;
use crate::telemetry::{self, LogFormat};

const MIB: usize = 1024 * 1024;

/// All settings, section by section.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "server.listen",
        meaning: "Where callers connect (mutual TLS). Port 0 takes a free port; see address_file.",
        kind: Kind::Address {
            default: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443),
            set: |config, address| config.server.listen = address,
        },
    },
    Setting {
        name: "server.address_file",
        meaning: "Written once the sidecar can serve, removed when it stops: the address that it \
            listens on.",
        kind: Kind::OptionalPath { set: |config, path| config.server.address_file = path },
    },
    Setting {
        name: "server.reflection",
        meaning: "Whether callers may ask for the services' descriptions (gRPC reflection).",
        kind: Kind::Flag { default: false, set: |config, on| config.server.reflection = on },
    },
    Setting {
        name: "server.drain_seconds",
        meaning: "How long calls may go on after SIGTERM.",
        kind: Kind::Number {
            unit: "seconds",
            default: 10,
            least: 0,
            most: 600,
            set: |config, number| config.listener.drain = seconds(number),
        },
    },
    Setting {
        name: "probes.listen",
        meaning: "Where /livez, /readyz and /metrics are answered, in plain text and without \
            certificates: whoever can reach this address can read them. Port 0 takes a free port.",
        kind: Kind::OptionalAddress {
            default: Some(DEFAULT_PROBES),
            set: |config, address| config.probes.listen = address,
        },
    },
    Setting {
        name: "probes.address_file",
        meaning: "Written while they are answered: the address.",
        kind: Kind::OptionalPath { set: |config, path| config.probes.address_file = path },
    },
    Setting {
        name: "log.level",
        meaning: "How much is logged. The variable FIELDSEAL_LOG counts for more.",
        kind: Kind::Choice {
            words: &["info", "off", "error", "warn", "debug", "trace"],
            set: |config, word| {
                if let Some(level) = telemetry::level(word) {
                    config.log.level = level;
                }
            },
        },
    },
    Setting {
        name: "log.format",
        meaning: "How log lines look: one JSON object a line, text for people, or text on a \
            terminal and JSON elsewhere.",
        kind: Kind::Choice {
            words: &["auto", "text", "json"],
            set: |config, word| {
                if let Some(format) = LogFormat::parse(word) {
                    config.log.format = format;
                }
            },
        },
    },
    Setting {
        name: "tls.certificate",
        meaning: "The server's certificate and its intermediates, in PEM form.",
        kind: Kind::Path {
            default: "tls/server.pem",
            set: |config, path| config.tls.certificate = path,
        },
    },
    Setting {
        name: "tls.private_key",
        meaning: "The private key of that certificate, in PEM form.",
        kind: Kind::Path {
            default: "tls/server.key",
            set: |config, path| config.tls.private_key = path,
        },
    },
    Setting {
        name: "tls.client_ca",
        meaning: "The authorities that issue client certificates, in PEM form.",
        kind: Kind::Path { default: "tls/ca.pem", set: |config, path| config.tls.client_ca = path },
    },
    Setting {
        name: "tls.principal",
        meaning: "Which name in a client certificate says who calls: a SPIFFE id (URI), a DNS name \
            or the common name. A certificate must have exactly one of that kind.",
        kind: Kind::Choice {
            words: &["spiffe", "dns", "cn"],
            set: |config, word| {
                config.tls.principal = match word {
                    "dns" => PrincipalKind::Dns,
                    "cn" => PrincipalKind::CommonName,
                    _ => PrincipalKind::Spiffe,
                }
            },
        },
    },
    Setting {
        name: "state.directory",
        meaning: "Holds keyring.json, store/, generations/ and audit/. One running sidecar at a time.",
        kind: Kind::Path { default: "state", set: |config, path| config.state.directory = path },
    },
    Setting {
        name: "state.backend",
        meaning: "What the store stands on: the embedded database, or nothing but memory, for a \
            sidecar that forgets everything.",
        kind: Kind::Choice {
            words: &["sled", "memory"],
            set: |config, word| {
                config.state.backend = match word {
                    "memory" => Backend::Memory,
                    _ => Backend::Sled,
                }
            },
        },
    },
    root::PROVIDER,
    root::FILE,
    root::CREDENTIAL,
    root::PASSPHRASE_FD,
    root::COMMAND,
    root::DEADLINE,
    root::VARIABLE,
    root::RECOVERY_RECIPIENT,
    backup::COPY,
    backup::COPY_COMMAND,
    upkeep::SCRUB,
    upkeep::GENERATIONS,
    Setting {
        name: "policy.directory",
        meaning: "Cedar policies (*.cedar), their schema, who has which role, and whose tokens of end \
            users are taken.",
        kind: Kind::Path { default: "policy", set: |config, path| config.policy_directory = path },
    },
    Setting {
        name: "audit.segment_mib",
        meaning: "The size of one file of the audit log, which is zeroed beforehand.",
        kind: Kind::Number {
            unit: "MiB",
            default: 64,
            least: 1,
            most: 1_024,
            set: |config, number| config.audit.segment_bytes = mebibytes(number) as u64,
        },
    },
    Setting {
        name: "audit.reserve_mib",
        meaning: "Less free space than this: no store writes; records only while a segment made before has room.",
        kind: Kind::Number {
            unit: "MiB",
            default: 64,
            least: 1,
            most: 65_536,
            set: |config, number| config.audit.reserve_bytes = mebibytes(number) as u64,
        },
    },
    Setting {
        name: "audit.instance",
        meaning: "The last part of the log's origin, fieldseal.dev/<installation>/<instance>.",
        kind: Kind::Name { default: "main", set: |config, name| config.audit.instance = name },
    },
    Setting {
        name: "audit.checkpoint_seconds",
        meaning: "How often the newest checkpoint goes to the log lines. Keep those elsewhere: what a \
            checkpoint covers cannot be cut off unnoticed.",
        kind: Kind::Number {
            unit: "seconds",
            default: 300,
            least: 1,
            most: 86_400,
            set: |config, number| config.audit.checkpoint_every = seconds(number),
        },
    },
    Setting {
        name: "audit.refusal_window_seconds",
        meaning: "How long refusals of one caller that are alike are counted after the first: one record says \
            then how many there were. 0 records each by itself.",
        kind: Kind::Number {
            unit: "seconds",
            default: 60,
            least: 0,
            most: 3_600,
            set: |config, number| config.audit.refusal_window = seconds(number),
        },
    },
    anchors::FILE,
    anchors::COMMAND,
    anchors::URL,
    anchors::CA,
    anchors::TOKEN,
    exports::FILE,
    exports::OTLP,
    exports::OTLP_CA,
    retaining::DIRECTORY,
    retaining::COMMAND,
    retaining::AT_HAND,
    retaining::CALLS,
    retaining::REFUSALS,
    retaining::QUESTIONS,
    retaining::CHANGES,
    retaining::SHREDDED,
    group::GROUP,
    backup::DIRECTORY,
    backup::RECIPIENTS,
    backup::SCHEDULE,
    backup::DAILY,
    backup::WEEKLY,
    backup::MONTHLY,
    Setting {
        name: "keys.cached_data_keys",
        meaning: "Data keys held in memory, unwrapped.",
        kind: Kind::Number {
            unit: "data keys",
            default: 16_384,
            least: 1,
            most: 1_000_000,
            set: |config, number| config.cached_data_keys = count(number),
        },
    },
    Setting {
        name: "keys.shred_window_hours",
        meaning: "How long a shredded partition can be restored, where the caller names no window.",
        kind: Kind::Number {
            unit: "hours",
            default: 168,
            least: 0,
            most: 2_160,
            set: |config, number| config.shred_window = hours(number),
        },
    },
    Setting {
        name: "keys.shred_window_least_hours",
        meaning: "The shortest such window that a caller may name. With 0 one caller can make key \
            material go at once; nobody else has time to notice.",
        kind: Kind::Number {
            unit: "hours",
            default: 24,
            least: 0,
            most: 2_160,
            set: |config, number| config.shred_window_least = hours(number),
        },
    },
    approving::REQUIRE,
    approving::LIFETIME,
    Setting {
        name: "limits.connections",
        meaning: "Connections at the same time, pending handshakes included.",
        kind: Kind::Number {
            unit: "connections",
            default: 4_000,
            least: 1,
            most: 100_000,
            set: |config, number| config.listener.connections = count(number),
        },
    },
    Setting {
        name: "limits.connections_per_principal",
        meaning: "Connections of one caller at the same time; at most limits.connections.",
        kind: Kind::Number {
            unit: "connections",
            default: 1_000,
            least: 1,
            most: 100_000,
            set: |config, number| config.listener.connections_per_principal = count(number),
        },
    },
    Setting {
        name: "limits.streams",
        meaning: "Calls at the same time on one connection.",
        kind: Kind::Number {
            unit: "calls",
            default: 128,
            least: 1,
            most: 10_000,
            set: |config, number| config.listener.streams = number,
        },
    },
    Setting {
        name: "limits.in_flight",
        meaning: "Calls at the same time in the whole process. One caller has at most seven eighths.",
        kind: Kind::Number {
            unit: "calls",
            default: 1_024,
            least: 1,
            most: 100_000,
            set: |config, number| config.calls.in_flight = count(number),
        },
    },
    Setting {
        name: "limits.request_mib",
        meaning: "Memory for requests that are on their way or being handled, in the whole process; at \
            least twice limits.message_mib. One caller has at most seven eighths.",
        kind: Kind::Number {
            unit: "MiB",
            default: 128,
            least: 2,
            most: 65_536,
            set: |config, number| config.calls.request_bytes = mebibytes(number),
        },
    },
    Setting {
        name: "limits.message_mib",
        meaning: "The largest message in either direction.",
        kind: Kind::Number {
            unit: "MiB",
            default: 4,
            least: 1,
            most: 64,
            set: |config, number| config.message_bytes = mebibytes(number),
        },
    },
    Setting {
        name: "limits.batch_items",
        meaning: "The most items in a batch.",
        kind: Kind::Number {
            unit: "items",
            default: 1_000,
            least: 1,
            most: 10_000,
            set: |config, number| config.batch_items = count(number),
        },
    },
    Setting {
        name: "limits.deadline_seconds",
        meaning: "For callers that set no deadline of their own. No caller gets a longer one than \
            60 seconds, or than this where this is longer.",
        kind: Kind::Number {
            unit: "seconds",
            default: 10,
            least: 1,
            most: 300,
            set: |config, number| {
                let longest = CallLimits::default().longest_deadline;
                config.calls.deadline = seconds(number);
                config.calls.longest_deadline = seconds(number).max(longest);
            },
        },
    },
    Setting {
        name: "limits.handshake_seconds",
        meaning: "How long a TLS handshake may take.",
        kind: Kind::Number {
            unit: "seconds",
            default: 5,
            least: 1,
            most: 60,
            set: |config, number| config.listener.handshake = seconds(number),
        },
    },
    Setting {
        name: "limits.handshakes",
        meaning: "TLS handshakes at the same time; the next ones wait.",
        kind: Kind::Number {
            unit: "handshakes",
            default: 256,
            least: 1,
            most: 10_000,
            set: |config, number| config.listener.handshakes = count(number),
        },
    },
];

/// A variable that is no setting of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct OtherVariable {
    /// Its name.
    pub name: &'static str,
    /// The commands that read it.
    pub read_by: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

/// The other variables that the program reads. Whatever else begins with `FIELDSEAL_` is refused.
pub static OTHER_VARIABLES: &[OtherVariable] = &[
    OtherVariable {
        name: "FIELDSEAL_CLIENT_ENDPOINT",
        read_by: "client commands",
        meaning: "Where the sidecar is: `https://HOST:PORT`.",
    },
    OtherVariable {
        name: "FIELDSEAL_CLIENT_CA",
        read_by: "client commands",
        meaning: "The file of the authorities that issue the server's certificate.",
    },
    OtherVariable {
        name: "FIELDSEAL_CLIENT_CERT",
        read_by: "client commands",
        meaning: "The file of the caller's certificate.",
    },
    OtherVariable {
        name: "FIELDSEAL_CLIENT_KEY",
        read_by: "client commands",
        meaning: "The file of its private key.",
    },
    OtherVariable {
        name: "FIELDSEAL_CONFIG",
        read_by: "`serve`, `config`, `recover`, `root`, `doctor`, `health`, `policy`",
        meaning: "The configuration file, where `--config` is not given.",
    },
    OtherVariable {
        name: "FIELDSEAL_DEV",
        read_by: "`fieldseal` alone",
        meaning: "`1`: without any argument the program runs `dev`. `0` or empty: it does not. With an \
            argument it means nothing.",
    },
    OtherVariable {
        name: "FIELDSEAL_DEV_LISTEN",
        read_by: "`dev`",
        meaning: "The address to listen on, where `--listen` is not given: `0.0.0.0:7443` in a \
            container.",
    },
    OtherVariable {
        name: "FIELDSEAL_DEV_ENV_FILE",
        read_by: "`dev`",
        meaning: "The file for what a client needs to know, where `--env-file` is not given. It is \
            removed when `dev` ends; a file that something else wrote is refused.",
    },
    OtherVariable {
        name: "FIELDSEAL_DEV_SERVER_NAME",
        read_by: "`dev`",
        meaning: "The name by which clients reach it, where `--server-name` is not given: the name of \
            its container, say.",
    },
    OtherVariable {
        name: root::ROOT_VARIABLE,
        read_by: "`serve`, `init`, `root`",
        meaning: "With `root.provider = \"env\"`: the root provider's key, 32 bytes in base64 or \
            hexadecimal, unless `root.variable` names another. It is overwritten and removed as soon as \
            it is read.",
    },
    OtherVariable {
        name: "FIELDSEAL_HEALTH_ADDRESS",
        read_by: "`health`",
        meaning: "The address of `[probes]`, where `--address` is not given.",
    },
    OtherVariable {
        name: telemetry::LEVEL_VARIABLE,
        read_by: "`serve`, `dev`",
        meaning: "How much is logged: `off`, `error`, `warn`, `info` (the default), `debug` or \
            `trace`.",
    },
];

fn seconds(number: u32) -> Duration {
    Duration::from_secs(u64::from(number))
}

fn hours(number: u32) -> Duration {
    seconds(number).saturating_mul(3600)
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn mebibytes(number: u32) -> usize {
    count(number).saturating_mul(MIB)
}
