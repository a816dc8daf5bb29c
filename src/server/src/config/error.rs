//! Where a setting comes from, and what is wrong with it.

use std::fmt;
use std::path::PathBuf;

/// Where the value of a setting was stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In the configuration file.
    File {
        /// The file.
        file: PathBuf,
        /// The line, from 1; `None` where the whole file is meant.
        line: Option<usize>,
    },
    /// In this environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line: None } => write!(f, "{}", file.display()),
            Self::File { file, line: Some(line) } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was made.
    pub origin: Origin,
    /// The setting, as in `tls.principal`; empty where there is none.
    pub setting: String,
    /// What is expected.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.origin)?;
        if !self.setting.is_empty() {
            write!(f, " {}:", self.setting)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Every mistake in a configuration: those of the file in the order of its lines, then those of the
/// environment. Displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    newer: bool,
}

impl ConfigErrors {
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| match error.origin {
            Origin::Default => (0, None),
            Origin::File { line, .. } => (1, line),
            Origin::Variable(_) => (2, None),
        });
        Self { errors, newer: false }
    }

    /// Nothing else can be said of a file in a format of the future.
    pub(super) fn newer(error: ConfigError) -> Self {
        Self { errors: vec![error], newer: true }
    }

    /// The mistakes, at least one.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// Whether it is the file's format that is newer than this program.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        self.newer
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.errors.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
