//! Reads settings one by one and gathers every mistake with its line.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` where the whole file is meant.
    pub line: Option<usize>,
    /// The setting, as in `tls.principal`; empty where it is the syntax.
    pub setting: String,
    /// What is expected.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.setting.is_empty() {
            write!(f, " {}:", self.setting)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Every mistake in a configuration file, in the order of its lines. Displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The mistakes, at least one.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A parsed file from which sections are taken.
pub(super) struct Document<'t> {
    file: &'t Path,
    text: &'t str,
    root: DeTable<'t>,
    known: Vec<&'static str>,
    errors: Vec<ConfigError>,
    /// What a broken line set is not known, so nothing is called missing.
    broken: bool,
}

impl<'t> Document<'t> {
    pub(super) fn parse(file: &'t Path, text: &'t str) -> Self {
        let (root, syntax) = DeTable::parse_recoverable(text);
        let mut document = Self {
            file,
            text,
            root: root.into_inner(),
            known: Vec::new(),
            errors: Vec::new(),
            broken: !syntax.is_empty(),
        };
        for error in syntax {
            document.mistake(error.span(), "", error.message().replace('\n', " "));
        }
        document
    }

    /// The number at the top of the file that says how to read the rest.
    pub(super) fn format(&mut self, expected: i64) {
        self.known.push("format");
        let (span, found) = match self.root.remove("format") {
            None if self.broken => return,
            None => (None, None),
            Some(value) => (Some(value.span()), integer(value.get_ref())),
        };
        if found != Some(i128::from(expected)) {
            let message = match found {
                Some(newer) if newer > i128::from(expected) => format!(
                    "the file has format {newer}, and this program knows formats up to {expected}; \
                     use a newer program"
                ),
                _ => format!("this program reads files that say format = {expected}"),
            };
            self.mistake(span, "format", message);
        }
    }

    /// The named table, empty if the file has none.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'_, 't> {
        self.known.push(name);
        let table = match self.root.remove(name) {
            None => DeTable::new(),
            Some(value) => {
                let span = value.span();
                match value.into_inner() {
                    DeValue::Table(table) => table,
                    _ => {
                        self.mistake(Some(span), name, format!("expected a table, [{name}]"));
                        DeTable::new()
                    }
                }
            }
        };
        Section { document: self, name, table, known: Vec::new() }
    }

    /// Notes a mistake that concerns several settings.
    pub(super) fn conflict(&mut self, setting: &str, message: &str) {
        self.mistake(None, setting, message.to_owned());
    }

    /// Every mistake, unknown tables included.
    pub(super) fn finish(mut self) -> Vec<ConfigError> {
        let left: Vec<_> = self.root.keys().map(|k| (k.span(), k.get_ref().to_string())).collect();
        for (span, name) in left {
            let message = unknown(&self.known);
            self.mistake(Some(span), &name, message);
        }
        self.errors.sort_by_key(|error| error.line);
        self.errors
    }

    fn mistake(&mut self, span: Option<Range<usize>>, setting: &str, message: String) {
        let line = span.map(|span| {
            let before = self.text.get(..span.start).unwrap_or(self.text);
            before.matches('\n').count().saturating_add(1)
        });
        let (file, setting) = (self.file.to_owned(), setting.to_owned());
        self.errors.push(ConfigError { file, line, setting, message });
    }
}

/// One table of the file.
pub(super) struct Section<'d, 't> {
    document: &'d mut Document<'t>,
    name: &'static str,
    table: DeTable<'t>,
    known: Vec<&'static str>,
}

impl Section<'_, '_> {
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.value(key, default, "expected true or false", |value| value.as_bool())
    }

    /// A whole number within `range`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> u32 {
        let expected = format!("expected a whole number from {} to {}", range.start(), range.end());
        self.value(key, default, &expected, |value| {
            integer(value).and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n))
        })
    }

    /// A text of which `parse` makes something.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        default: T,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        self.value(key, default, expected, |value| value.as_str().and_then(parse))
    }

    /// A path; a relative one begins where the file is.
    pub(super) fn path(&mut self, key: &'static str, default: &str) -> PathBuf {
        let expected = "expected the path of a file or directory";
        let path = self.text(key, PathBuf::from(default), expected, |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
        });
        self.beside_file(&path)
    }

    /// A path, or none where the text is empty.
    pub(super) fn optional_path(&mut self, key: &'static str) -> Option<PathBuf> {
        let expected = "expected the path of a file, or \"\" for none";
        let path = self.text(key, None, expected, |text| {
            (!text.contains('\0')).then(|| (!text.is_empty()).then(|| PathBuf::from(text)))
        });
        path.map(|path| self.beside_file(&path))
    }

    /// Whatever was not asked for is a mistake.
    pub(super) fn finish(self) {
        let left: Vec<_> =
            self.table.keys().map(|key| (key.span(), key.get_ref().to_string())).collect();
        for (span, key) in left {
            let setting = format!("{}.{key}", self.name);
            self.document.mistake(Some(span), &setting, unknown(&self.known));
        }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        expected: &str,
        read: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> T {
        self.known.push(key);
        let Some(value): Option<Spanned<DeValue<'_>>> = self.table.remove(key) else {
            return default;
        };
        read(value.get_ref()).unwrap_or_else(|| {
            let setting = format!("{}.{key}", self.name);
            self.document.mistake(Some(value.span()), &setting, expected.to_owned());
            default
        })
    }

    fn beside_file(&self, path: &Path) -> PathBuf {
        self.document.file.parent().unwrap_or(Path::new("")).join(path)
    }
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let number = value.as_integer()?;
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

fn unknown(known: &[&str]) -> String {
    format!("unknown setting; expected one of {}", known.join(", "))
}
