//! How far a file is, for a person at a terminal.

use std::io::IsTerminal as _;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on standard error, or nothing where nobody watches.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins to show how much of `input` is done.
    pub(crate) fn begin(input: &Path, doing: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::silent();
        }
        let length = std::fs::metadata(input).ok().filter(std::fs::Metadata::is_file);
        let (bar, template) = match length {
            Some(file) => (
                ProgressBar::new(file.len()),
                "{msg} {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
            ),
            None => (ProgressBar::no_length(), "{msg} {spinner} {bytes}  {bytes_per_sec}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(doing.to_owned());
        Self(bar)
    }

    /// Shows nothing.
    pub(crate) fn silent() -> Self {
        Self(ProgressBar::hidden())
    }

    /// So many bytes of the input are done.
    pub(crate) fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
