//! Everything that is wrong with a policy, at once and with its place.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the operator named its directory.
    pub file: String,
    /// The line, from 1; 0 if the whole file is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 if the whole file is meant.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            _ => write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message),
        }
    }
}

/// A policy that was not loaded, with every reason: one line each, sorted by file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors(Vec<Problem>);

impl PolicyErrors {
    /// `Ok` if there is nothing to report.
    pub(crate) fn check(mut problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort();
        problems.dedup();
        Err(Self(problems))
    }

    pub(crate) fn one(problem: Problem) -> Self {
        Self(vec![problem])
    }

    /// A directory that was not read in time.
    #[must_use]
    pub fn unread(dir: &Path, limit: Duration) -> Self {
        let message = format!(
            "the policy directory was not read within {} seconds; look at its file system, and \
             reload again",
            limit.as_secs()
        );
        Self::one(whole_file(&dir.display().to_string(), message))
    }

    /// The first problems in at most `max_bytes` bytes (but always one, cut if need be), one a line
    /// and with the bare names of their files: for whoever is not on the sidecar's machine.
    #[must_use]
    pub fn brief(&self, max_bytes: usize) -> String {
        let mut text = String::new();
        let mut left_out = self.0.len();
        for problem in &self.0 {
            let name = Path::new(&problem.file).file_name().and_then(|name| name.to_str());
            let file = name.unwrap_or(&problem.file).to_owned();
            let line = Problem { file, ..problem.clone() }.to_string();
            let line = line.replace('\n', " ");
            if text.is_empty() {
                text.push_str(line.get(..line.floor_char_boundary(max_bytes)).unwrap_or_default());
            } else if text.len() + 1 + line.len() <= max_bytes {
                text.push('\n');
                text.push_str(&line);
            } else {
                break;
            }
            left_out -= 1;
        }
        if left_out > 0 {
            text.push_str(&format!("\nand {left_out} more; `fieldseal policy check` shows all"));
        }
        text
    }

    /// The problems, sorted by file and line.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// A file's text and its name: what a problem's place is computed from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The bare file name: part of the digest.
    pub(crate) name: String,
    /// The name in messages.
    pub(crate) shown: String,
    pub(crate) text: String,
}

impl Source {
    /// A problem at a byte offset.
    pub(crate) fn problem_at(&self, offset: usize, message: impl Into<String>) -> Problem {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        let column = 1 + before.get(line_start..).map_or(0, |l| l.chars().count());
        Problem { file: self.shown.clone(), line, column, message: message.into() }
    }

    /// A problem at the start of a span, or with the whole file if there is none.
    pub(crate) fn problem(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) -> Problem {
        match span {
            Some(span) => self.problem_at(span.start, message),
            None => whole_file(&self.shown, message),
        }
    }
}

/// A problem with a whole file.
pub(crate) fn whole_file(shown: &str, message: impl Into<String>) -> Problem {
    Problem { file: shown.to_owned(), line: 0, column: 0, message: message.into() }
}
