//! Reads the file, lays the environment over it, and gathers every mistake with its place.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::error::{ConfigError, ConfigErrors, Origin};
use super::setting::{Setting, Value, integer};
use super::table::SETTINGS;

/// The format that this program reads.
const FORMAT: i128 = 1;

/// A setting with the value that holds.
#[derive(Debug, Clone)]
pub struct Effective {
    /// Which setting.
    pub setting: &'static Setting,
    /// Its value. Relative paths begin where the file is.
    pub value: Value,
    /// The same with relative paths as they are stated.
    pub as_stated: Value,
    /// Where that value was stated.
    pub origin: Origin,
}

/// The value of every setting, in the order of the table: the environment's, else the file's, else
/// the default; and every mistake.
///
/// # Errors
/// If the file's format is newer, which leaves nothing else to say.
pub(super) fn effective(
    file: &Path,
    text: &str,
    environment: &Environment,
) -> Result<(Vec<Effective>, Vec<ConfigError>), ConfigErrors> {
    let mut document = Document { file, text, broken: false, errors: Vec::new() };
    let mut in_file = document.read()?;
    let mut errors = document.errors;
    let mut in_environment = environment.stated(&mut errors);
    let directory = file.parent().unwrap_or(Path::new(""));
    let holding = SETTINGS.iter().map(|setting| {
        let stated = in_environment.remove(setting.name).or(in_file.remove(setting.name));
        let (value, origin) = stated.unwrap_or((setting.default_value(), Origin::Default));
        Effective { setting, as_stated: value.clone(), value: value.below(directory), origin }
    });
    Ok((holding.collect(), errors))
}

struct Document<'t> {
    file: &'t Path,
    text: &'t str,
    /// What a broken line set is not known, so nothing is called missing.
    broken: bool,
    errors: Vec<ConfigError>,
}

type Stated = BTreeMap<&'static str, (Value, Origin)>;

impl Document<'_> {
    /// What the file states; nothing at all if its format is newer.
    fn read(&mut self) -> Result<Stated, ConfigErrors> {
        let (root, syntax) = DeTable::parse_recoverable(self.text);
        let root = root.into_inner();
        self.broken = !syntax.is_empty();
        for error in syntax {
            self.mistake(error.span(), "", error.message().replace('\n', " "));
        }
        self.format(&root)?;
        let mut stated = BTreeMap::new();
        for (name, value) in root.iter().filter(|(name, _)| name.get_ref() != "format") {
            let section = name.get_ref().as_ref();
            let known: Vec<_> = SETTINGS.iter().filter(|s| s.section() == section).collect();
            match value.get_ref() {
                _ if known.is_empty() => {
                    let mut sections = vec!["format"];
                    sections.extend(SETTINGS.iter().map(Setting::section));
                    sections.dedup();
                    self.mistake(Some(name.span()), section, unknown(&sections));
                }
                DeValue::Table(table) => self.section(section, &known, table, &mut stated),
                _ => {
                    let message = format!("expected a table, [{section}]");
                    self.mistake(Some(value.span()), section, message);
                }
            }
        }
        Ok(stated)
    }

    /// The number at the top of the file that says how to read the rest.
    fn format(&mut self, root: &DeTable<'_>) -> Result<(), ConfigErrors> {
        let Some(value) = root.get("format") else {
            if !self.broken {
                let message = format!("write format = {FORMAT} at the top of the file");
                self.mistake(None, "format", message);
            }
            return Ok(());
        };
        match integer(value.get_ref()) {
            Some(FORMAT) => {}
            Some(newer) if newer > FORMAT => {
                let message = format!(
                    "the file has format {newer}, and this program knows format {FORMAT}; use a newer \
                     program, or write the file for format {FORMAT}"
                );
                let origin = self.origin(Some(value.span()));
                let setting = "format".to_owned();
                return Err(ConfigErrors::newer(ConfigError { origin, setting, message }));
            }
            _ => self.mistake(Some(value.span()), "format", format!("expected {FORMAT}")),
        }
        Ok(())
    }

    fn section(
        &mut self,
        section: &str,
        known: &[&'static Setting],
        table: &DeTable<'_>,
        stated: &mut Stated,
    ) {
        for (key, value) in table {
            let name = format!("{section}.{}", key.get_ref());
            let Some(setting) = known.iter().find(|setting| setting.name == name) else {
                let keys: Vec<_> = known.iter().map(|setting| setting.key()).collect();
                self.mistake(Some(key.span()), &name, unknown(&keys));
                continue;
            };
            match setting.in_file(value.get_ref()) {
                Some(value_of) => {
                    let origin = self.origin(Some(value.span()));
                    stated.insert(setting.name, (value_of, origin));
                }
                None => {
                    let message = format!("expected {}", setting.limits());
                    self.mistake(Some(value.span()), &name, message);
                }
            }
        }
    }

    fn mistake(&mut self, span: Option<Range<usize>>, setting: &str, message: String) {
        let (origin, setting) = (self.origin(span), setting.to_owned());
        self.errors.push(ConfigError { origin, setting, message });
    }

    fn origin(&self, span: Option<Range<usize>>) -> Origin {
        let line = span.map(|span| {
            let before = self.text.get(..span.start).unwrap_or(self.text);
            before.matches('\n').count().saturating_add(1)
        });
        Origin::File { file: self.file.to_owned(), line }
    }
}

fn unknown(known: &[&str]) -> String {
    format!("unknown setting; expected one of {}", known.join(", "))
}
