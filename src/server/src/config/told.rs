//! What the audit log is told of the configuration by every start: a digest of all settings, and those
//! that matter to an auditor. The log's readers know no path, no address and no program from it.

use fieldseal_crypto::sha256;

use super::reader::Effective;
use super::setting::Value;

/// Sections whose settings are told by name and value.
const SECTIONS: [&str; 2] = ["audit", "keys"];
/// Other settings that are.
const OTHERS: [&str; 4] =
    ["tls.principal", "state.backend", "root.provider", "backup.schedule_hours"];

/// What the log is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// SHA-256 over all settings as they are stated (docs/audit-log.md).
    pub digest: [u8; 32],
    /// Some of them, by name and value.
    pub settings: Vec<(String, String)>,
}

impl Told {
    pub(super) fn of(effective: &[Effective]) -> Self {
        let told = effective.iter().filter(|Effective { setting, .. }| {
            SECTIONS.contains(&setting.section()) || OTHERS.contains(&setting.name)
        });
        let told = told.map(|e| (e.setting.name.to_owned(), shown(&e.as_stated)));
        Self { digest: digest(effective), settings: told.collect() }
    }
}

fn digest(effective: &[Effective]) -> [u8; 32] {
    let mut sorted: Vec<_> = effective.iter().collect();
    sorted.sort_by_key(|e| e.setting.name);
    let mut message = Vec::new();
    let length = |message: &mut Vec<u8>, length: usize| {
        message.extend_from_slice(&(length as u64).to_le_bytes());
    };
    let part = |message: &mut Vec<u8>, text: &str| {
        length(message, text.len());
        message.extend_from_slice(text.as_bytes());
    };
    part(&mut message, "fieldseal/v1/settings");
    for Effective { setting, as_stated, .. } in sorted {
        let texts = texts(as_stated);
        part(&mut message, setting.name);
        length(&mut message, texts.len());
        texts.iter().for_each(|text| part(&mut message, text));
    }
    sha256(&[&message])
}

/// A value as texts: none if it is not set, one for each word of a list or program, else one.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Address(address) | Value::OptionalAddress(Some(address)) => {
            vec![address.to_string()]
        }
        Value::Path(path) | Value::OptionalPath(Some(path)) => {
            vec![path.to_string_lossy().into_owned()]
        }
        Value::OptionalAddress(None) | Value::OptionalPath(None) => Vec::new(),
        Value::Flag(on) => vec![on.to_string()],
        Value::Number(number) => vec![number.to_string()],
        Value::Choice(word) => vec![(*word).to_owned()],
        Value::Name(text) | Value::Text(text) if text.is_empty() => Vec::new(),
        Value::Name(text) | Value::Text(text) => vec![text.clone()],
        Value::Command(words) | Value::Texts(words) => words.clone(),
    }
}

/// As the log's readers see it. Of what could name a person, a place or a program only whether it is set.
fn shown(value: &Value) -> String {
    match value {
        Value::Flag(_) | Value::Number(_) | Value::Choice(_) | Value::Name(_) | Value::Texts(_) => {
            texts(value).join(",")
        }
        _ if texts(value).is_empty() => "not set".to_owned(),
        _ => "set".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, SETTINGS};
    use super::*;

    const AT: &str = "/etc/fieldseal/fieldseal.toml";

    fn told(at: &str, text: &str) -> Told {
        let text = format!("format = 1\n{text}");
        Config::parse(Path::new(at), &text).unwrap_or_else(|e| panic!("{e}")).told
    }

    fn value<'t>(told: &'t Told, name: &str) -> &'t str {
        let found = told.settings.iter().find(|(of, _)| of == name);
        found.map_or_else(|| panic!("{name} is not told"), |(_, value)| value)
    }

    #[test]
    fn the_digest_is_of_what_is_stated_wherever_the_file_is() {
        let plain = told(AT, "");
        assert_eq!(plain.digest, told("elsewhere/other.toml", "").digest);
        let stated = "[audit]\nrefusal_window_seconds = 60\n";
        assert_eq!(plain.digest, told(AT, stated).digest, "a default that is stated");
        for text in [
            "[audit]\nrefusal_window_seconds = 0\n",
            "[state]\ndirectory = \"other\"\n",
            "[server]\nreflection = true\n",
            "[limits]\nstreams = 129\n",
            "[keys]\nrequire_approval = [\"destroy\"]\n",
            "[keys]\nrequire_approval = [\"destroy\", \"shred\"]\n",
        ] {
            assert_ne!(plain.digest, told(AT, text).digest, "{text}");
        }
        assert_ne!(
            told(AT, "[keys]\nrequire_approval = [\"destroy\"]\n").digest,
            told(AT, "[keys]\nrequire_approval = [\"shred\"]\n").digest
        );
    }

    #[test]
    fn an_auditor_reads_numbers_and_words_and_no_path() {
        let told = told(
            AT,
            "[audit]\nrefusal_window_seconds = 0\nanchor_file = \"/home/ada/anchor\"\n\
             anchor_command = [\"/opt/post\", \"ada\"]\nexport_otlp = \"http://127.0.0.1:4317\"\n\
             [keys]\nrequire_approval = [\"destroy\", \"shred\"]\n",
        );
        for (name, expected) in [
            ("audit.refusal_window_seconds", "0"),
            ("audit.anchor_file", "set"),
            ("audit.anchor_command", "set"),
            ("audit.export_otlp", "set"),
            ("audit.export_file", "not set"),
            ("audit.archive_directory", "not set"),
            ("keys.require_approval", "destroy,shred"),
            ("keys.shred_window_least_hours", "24"),
            ("tls.principal", "spiffe"),
            ("state.backend", "sled"),
        ] {
            assert_eq!(value(&told, name), expected, "{name}");
        }
        let all = format!("{:?}", told.settings);
        assert!(!all.contains("ada") && !all.contains('/') && !all.contains("127"), "{all}");
    }

    #[test]
    fn what_is_told_are_settings() {
        for name in OTHERS {
            assert!(SETTINGS.iter().any(|setting| setting.name == name), "{name}");
        }
        for section in SECTIONS {
            assert!(SETTINGS.iter().any(|setting| setting.section() == section), "{section}");
        }
    }
}
