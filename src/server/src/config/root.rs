//! `[root]`: which root provider wraps the root key, where it finds what it needs, and who can
//! recover the root key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Effective;
use super::setting::{Kind, Setting};
use super::{Config, ConfigError, Origin};

/// The root provider, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSettings {
    /// The root key is wrapped by a key in this file.
    File {
        /// 32 bytes.
        file: PathBuf,
    },
    /// By a key in a credential of systemd.
    Systemd {
        /// The credential's name.
        credential: String,
    },
    /// By a key that is made of a passphrase.
    Passphrase {
        /// Where it is read. 0 is standard input, or a prompt where that is a terminal.
        descriptor: u32,
    },
    /// By a program.
    Exec {
        /// The program, as an absolute path, and its first arguments.
        command: Vec<String>,
        /// How long it may take.
        deadline: Duration,
    },
    /// By a key in a variable of the environment.
    Env {
        /// The variable's name.
        variable: String,
    },
}

impl RootSettings {
    /// The words of `root.provider`. The first is the default.
    pub const PROVIDERS: &'static [&'static str] =
        &["file", "systemd", "passphrase", "exec", "env"];

    fn of(word: &str) -> Self {
        match word {
            "systemd" => Self::Systemd { credential: String::new() },
            "passphrase" => Self::Passphrase { descriptor: 0 },
            "exec" => Self::Exec { command: Vec::new(), deadline: Duration::ZERO },
            "env" => Self::Env { variable: String::new() },
            _ => Self::default(),
        }
    }

    /// The word of `root.provider`.
    #[must_use]
    pub const fn provider(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Systemd { .. } => "systemd",
            Self::Passphrase { .. } => "passphrase",
            Self::Exec { .. } => "exec",
            Self::Env { .. } => "env",
        }
    }
}

impl Default for RootSettings {
    fn default() -> Self {
        Self::File { file: PathBuf::new() }
    }
}

/// The variable of the root provider `env` where no other is named.
pub const ROOT_VARIABLE: &str = "FIELDSEAL_ROOT_KEY";

// Of each setting but the first, which provider it is for. A setting of another one that is stated
// all the same is a mistake.
const OWNERS: [(&str, &str); 6] = [
    ("root.file", "file"),
    ("root.credential", "systemd"),
    ("root.passphrase_fd", "passphrase"),
    ("root.command", "exec"),
    ("root.deadline_seconds", "exec"),
    ("root.variable", "env"),
];

pub(super) const PROVIDER: Setting = Setting {
    name: "root.provider",
    meaning: "What wraps the root key: a key in a file of its own, in a credential of systemd, made of \
        a passphrase, or in a variable of the environment; or a program, for a KMS.",
    kind: Kind::Choice {
        words: RootSettings::PROVIDERS,
        set: |config, word| config.root = RootSettings::of(word),
    },
};

pub(super) const FILE: Setting = Setting {
    name: "root.file",
    meaning: "With file: 32 bytes, mode 0600, outside of the state directory.",
    kind: Kind::Path {
        default: "root.key",
        set: |config, path| {
            if let RootSettings::File { file } = &mut config.root {
                *file = path;
            }
        },
    },
};

pub(super) const CREDENTIAL: Setting = Setting {
    name: "root.credential",
    meaning: "With systemd: the name of the credential with 32 bytes, as in \
        LoadCredentialEncrypted=NAME:PATH.",
    kind: Kind::Name {
        default: "fieldseal-root-key",
        set: |config, name| {
            if let RootSettings::Systemd { credential } = &mut config.root {
                *credential = name;
            }
        },
    },
};

pub(super) const PASSPHRASE_FD: Setting = Setting {
    name: "root.passphrase_fd",
    meaning: "With passphrase: the file descriptor on which its line comes. 0 is standard input; where \
        that is a terminal, it asks there.",
    kind: Kind::Number {
        unit: "file descriptor",
        default: 0,
        least: 0,
        most: 1_023,
        set: |config, number| {
            if let RootSettings::Passphrase { descriptor } = &mut config.root {
                *descriptor = number;
            }
        },
    },
};

pub(super) const COMMAND: Setting = Setting {
    name: "root.command",
    meaning: "With exec: a program with its first arguments. It is called with wrap or unwrap and the \
        installation's id behind them, reads bytes and answers with bytes. In the variable it stands as in \
        the file.",
    kind: Kind::Command {
        set: |config, words| {
            if let RootSettings::Exec { command, .. } = &mut config.root {
                *command = words;
            }
        },
    },
};

pub(super) const DEADLINE: Setting = Setting {
    name: "root.deadline_seconds",
    meaning: "With exec: how long the program may take before it is ended and asked again.",
    kind: Kind::Number {
        unit: "seconds",
        default: 10,
        least: 1,
        most: 300,
        set: |config, number| {
            if let RootSettings::Exec { deadline, .. } = &mut config.root {
                *deadline = Duration::from_secs(u64::from(number));
            }
        },
    },
};

pub(super) const VARIABLE: Setting = Setting {
    name: "root.variable",
    meaning: "With env: the variable with 32 bytes in base64 or hexadecimal.",
    kind: Kind::Text {
        default: ROOT_VARIABLE,
        takes: "a name of A-Z, 0-9 and _; of those that begin with FIELDSEAL_ only FIELDSEAL_ROOT_KEY",
        is: is_variable,
        set: |config, name| {
            if let RootSettings::Env { variable } = &mut config.root {
                *variable = name;
            }
        },
    },
};

pub(super) const RECOVERY_RECIPIENT: Setting = Setting {
    name: "root.recovery_recipient",
    meaning: "Who can recover the root key: a keyring that says otherwise is refused.",
    kind: Kind::Text {
        default: "",
        takes: "an age recipient, age1…, or \"\" for anybody",
        is: is_recipient,
        set: |config, recipient| config.recovery_recipient = recipient,
    },
};

/// Whatever begins like our own variables is one of ours.
fn is_variable(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.len() <= 128
        && name.bytes().all(plain)
        && (name == ROOT_VARIABLE || !name.starts_with(super::setting::PREFIX))
}

fn is_recipient(text: &str) -> bool {
    text.is_empty()
        || (text.len() == 62
            && text.starts_with("age1")
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// Settings that do not go together, among those that are right alone.
pub(super) fn conflicts(
    config: &Config,
    directory: &Path,
    effective: &[Effective],
    errors: &[ConfigError],
) -> Vec<ConfigError> {
    if errors.iter().any(|error| error.setting.starts_with("root.")) {
        return Vec::new();
    }
    let provider = config.root.provider();
    let chosen = effective.iter().find(|e| e.setting.name == PROVIDER.name).map(|e| &e.origin);
    let mut found = Vec::new();
    for Effective { setting, value, origin, .. } in effective {
        let mut mistake = |message: String| {
            // What is not stated is missed where the provider was chosen.
            let place = chosen.filter(|_| *origin == Origin::Default).unwrap_or(origin);
            let (origin, setting) = (place.clone(), setting.name.to_owned());
            found.push(ConfigError { origin, setting, message });
        };
        let owner = OWNERS.iter().find(|(name, _)| *name == setting.name).map(|(_, owner)| *owner);
        let stated =
            *origin != Origin::Default && *value != setting.default_value().below(directory);
        match (&config.root, owner) {
            (_, Some(owner)) if stated && owner != provider => {
                mistake(format!("expected only with root.provider = {owner:?}; it is {provider:?}"))
            }
            (RootSettings::Exec { command, .. }, Some("exec"))
                if command.is_empty() && setting.name == COMMAND.name =>
            {
                mistake("expected a program, because root.provider is \"exec\"".to_owned());
            }
            (RootSettings::Passphrase { descriptor: 1 | 2 }, Some("passphrase")) => {
                mistake("expected 0, or 3 and more: nothing is read from there".to_owned());
            }
            _ => {}
        }
    }
    found
}
