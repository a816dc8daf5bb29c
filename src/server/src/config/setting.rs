//! What a setting is: its name, what it takes, and where its value goes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::Config;

/// What every variable begins with.
pub(super) const PREFIX: &str = "FIELDSEAL_";

/// One setting. Everything that is said of it anywhere comes from here.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `section.key`, as in `server.listen`.
    pub name: &'static str,
    /// What it does, in sentences.
    pub meaning: &'static str,
    pub(super) kind: Kind,
}

/// What a setting takes, its default, and the place in the configuration that it sets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Address {
        default: SocketAddr,
        set: fn(&mut Config, SocketAddr),
    },
    /// `""` is none.
    OptionalAddress {
        default: Option<SocketAddr>,
        set: fn(&mut Config, Option<SocketAddr>),
    },
    Path {
        default: &'static str,
        set: fn(&mut Config, PathBuf),
    },
    /// Nothing unless it is set.
    OptionalPath {
        set: fn(&mut Config, Option<PathBuf>),
    },
    Flag {
        default: bool,
        set: fn(&mut Config, bool),
    },
    Number {
        unit: &'static str,
        default: u32,
        least: u32,
        most: u32,
        set: fn(&mut Config, u32),
    },
    /// One of these words; the first is the default.
    Choice {
        words: &'static [&'static str],
        set: fn(&mut Config, &'static str),
    },
    /// `[a-z][a-z0-9-]{0,62}`.
    Name {
        default: &'static str,
        set: fn(&mut Config, String),
    },
    /// Text of some form.
    Text {
        default: &'static str,
        takes: &'static str,
        is: fn(&str) -> bool,
        set: fn(&mut Config, String),
    },
    /// A program with its arguments; none unless it is set.
    Command {
        set: fn(&mut Config, Vec<String>),
    },
    /// Any number of texts of some form.
    Texts {
        takes: &'static str,
        is: fn(&str) -> bool,
        set: fn(&mut Config, Vec<String>),
    },
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An address and a port.
    Address(SocketAddr),
    /// An address and a port, or none.
    OptionalAddress(Option<SocketAddr>),
    /// A file or directory.
    Path(PathBuf),
    /// A file or directory, or none.
    OptionalPath(Option<PathBuf>),
    /// On or off.
    Flag(bool),
    /// A whole number in the setting's unit.
    Number(u32),
    /// One of the setting's words.
    Choice(&'static str),
    /// A name.
    Name(String),
    /// Text.
    Text(String),
    /// A program with its arguments.
    Command(Vec<String>),
    /// Texts.
    Texts(Vec<String>),
}

impl Value {
    /// As it is written in the file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let text = |text: &str| toml::Value::from(text).to_string();
        match self {
            Self::Address(address) | Self::OptionalAddress(Some(address)) => {
                text(&address.to_string())
            }
            Self::Path(path) | Self::OptionalPath(Some(path)) => text(&path.to_string_lossy()),
            Self::OptionalAddress(None) | Self::OptionalPath(None) => text(""),
            Self::Flag(on) => on.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Choice(word) => text(word),
            Self::Name(name) | Self::Text(name) => text(name),
            Self::Command(words) | Self::Texts(words) => {
                toml::Value::from(words.clone()).to_string()
            }
        }
    }

    /// A relative path begins there; everything else stays.
    pub(super) fn below(self, directory: &Path) -> Self {
        match self {
            Self::Path(path) => Self::Path(directory.join(path)),
            Self::OptionalPath(path) => Self::OptionalPath(path.map(|path| directory.join(path))),
            other => other,
        }
    }
}

impl Setting {
    /// The section of the file.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The key in its section.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, key)| key)
    }

    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// The value where nothing is stated; a path as it would be written in the file.
    #[must_use]
    pub fn default_value(&self) -> Value {
        match self.kind {
            Kind::Address { default, .. } => Value::Address(default),
            Kind::OptionalAddress { default, .. } => Value::OptionalAddress(default),
            Kind::Path { default, .. } => Value::Path(default.into()),
            Kind::OptionalPath { .. } => Value::OptionalPath(None),
            Kind::Flag { default, .. } => Value::Flag(default),
            Kind::Number { default, .. } => Value::Number(default),
            Kind::Choice { words, .. } => Value::Choice(words.first().copied().unwrap_or("")),
            Kind::Name { default, .. } => Value::Name(default.to_owned()),
            Kind::Text { default, .. } => Value::Text(default.to_owned()),
            Kind::Command { .. } => Value::Command(Vec::new()),
            Kind::Texts { .. } => Value::Texts(Vec::new()),
        }
    }

    /// What a number counts; empty for everything else.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.kind {
            Kind::Number { unit, .. } => unit,
            _ => "",
        }
    }

    /// What may be stated, as in `1 to 600`.
    #[must_use]
    pub fn limits(&self) -> String {
        match self.kind {
            Kind::Address { .. } => "an address and a port, such as \"127.0.0.1:7443\"".to_owned(),
            Kind::OptionalAddress { .. } => {
                "an address and a port, such as \"127.0.0.1:7480\", or \"\" for none".to_owned()
            }
            Kind::Path { .. } => "the path of a file or directory".to_owned(),
            Kind::OptionalPath { .. } => "the path of a file, or \"\" for none".to_owned(),
            Kind::Flag { .. } => "true or false".to_owned(),
            Kind::Number { least, most, .. } => format!("a whole number from {least} to {most}"),
            Kind::Choice { words, .. } => alternatives(words),
            Kind::Name { .. } => "a lower-case letter and at most 62 of a-z, 0-9 and -".to_owned(),
            Kind::Text { takes, .. } | Kind::Texts { takes, .. } => takes.to_owned(),
            Kind::Command { .. } => {
                "an array of texts, the first of which is an absolute path, or [] for none"
                    .to_owned()
            }
        }
    }

    /// The value that stands in the file, if it is a legal one.
    pub(super) fn in_file(&self, stated: &DeValue<'_>) -> Option<Value> {
        match self.kind {
            Kind::Flag { .. } => stated.as_bool().map(Value::Flag),
            Kind::Number { .. } => self.number(integer(stated)?),
            Kind::Command { .. } => command(stated),
            Kind::Texts { is, .. } => texts(stated, is),
            _ => self.in_text(stated.as_str()?),
        }
    }

    /// The value of a variable, if it is a legal one.
    pub(super) fn in_text(&self, text: &str) -> Option<Value> {
        let path = |text: &str| (!text.contains('\0')).then(|| PathBuf::from(text));
        Some(match self.kind {
            Kind::Address { .. } => Value::Address(text.parse().ok()?),
            Kind::OptionalAddress { .. } if text.is_empty() => Value::OptionalAddress(None),
            Kind::OptionalAddress { .. } => Value::OptionalAddress(Some(text.parse().ok()?)),
            Kind::Path { .. } => Value::Path(path(text).filter(|path| path != Path::new(""))?),
            Kind::OptionalPath { .. } => {
                Value::OptionalPath(Some(path(text)?).filter(|path| path != Path::new("")))
            }
            Kind::Flag { .. } => Value::Flag(text.parse().ok()?),
            Kind::Number { .. } if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.number(text.parse().ok()?)?
            }
            Kind::Number { .. } => return None,
            Kind::Choice { words, .. } => {
                Value::Choice(words.iter().find(|word| **word == text).copied()?)
            }
            Kind::Name { .. } => Value::Name(is_name(text).then(|| text.to_owned())?),
            Kind::Text { is, .. } => Value::Text(is(text).then(|| text.to_owned())?),
            Kind::Texts { is, .. } => {
                let (value, mistakes) = DeValue::parse_recoverable(text);
                texts(value.get_ref(), is).filter(|_| mistakes.is_empty())?
            }
            Kind::Command { .. } => {
                let (value, mistakes) = DeValue::parse_recoverable(text);
                command(value.get_ref()).filter(|_| mistakes.is_empty())?
            }
        })
    }

    fn number(&self, number: i128) -> Option<Value> {
        let Kind::Number { least, most, .. } = self.kind else { return None };
        let number = u32::try_from(number).ok()?;
        (least..=most).contains(&number).then_some(Value::Number(number))
    }

    /// Puts a value where it belongs. Values come from this setting, so that the kinds agree.
    pub(super) fn apply(&self, config: &mut Config, value: &Value) {
        match (self.kind, value) {
            (Kind::Address { set, .. }, Value::Address(address)) => set(config, *address),
            (Kind::OptionalAddress { set, .. }, Value::OptionalAddress(address)) => {
                set(config, *address);
            }
            (Kind::Path { set, .. }, Value::Path(path)) => set(config, path.clone()),
            (Kind::OptionalPath { set }, Value::OptionalPath(path)) => set(config, path.clone()),
            (Kind::Flag { set, .. }, Value::Flag(on)) => set(config, *on),
            (Kind::Number { set, .. }, Value::Number(number)) => set(config, *number),
            (Kind::Choice { set, .. }, Value::Choice(word)) => set(config, word),
            (Kind::Name { set, .. }, Value::Name(name)) => set(config, name.clone()),
            (Kind::Text { set, .. }, Value::Text(text)) => set(config, text.clone()),
            (Kind::Texts { set, .. }, Value::Texts(words)) => set(config, words.clone()),
            (Kind::Command { set }, Value::Command(words)) => set(config, words.clone()),
            _ => {}
        }
    }
}

/// A whole number in any of TOML's four notations.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i128> {
    let number = value.as_integer()?;
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A program by its absolute path, and its arguments.
fn command(value: &DeValue<'_>) -> Option<Value> {
    let words = value.as_array()?.iter().map(|word| word.get_ref().as_str().map(str::to_owned));
    let words: Vec<_> = words.collect::<Option<_>>()?;
    let absolute = words.first().is_none_or(|program| Path::new(program).is_absolute());
    let whole = words.iter().all(|word| !word.contains('\0'));
    (absolute && whole).then_some(Value::Command(words))
}

fn texts(value: &DeValue<'_>, is: fn(&str) -> bool) -> Option<Value> {
    let words = value.as_array()?.iter().map(|word| word.get_ref().as_str().map(str::to_owned));
    let words: Vec<_> = words.collect::<Option<_>>()?;
    words.iter().all(|word| is(word)).then_some(Value::Texts(words))
}

fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// `"a", "b" or "c"`.
fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => quoted.concat(),
    }
}
