//! Results on standard output: an aligned table, one JSON document, or CSV.

use std::io::{self, IsTerminal as _, Write};

use unicode_width::UnicodeWidthStr as _;

use crate::arguments::OutputForm;
use crate::failure::{Exit, Failure};

/// Where a command writes its results.
pub(crate) struct Output {
    form: OutputForm,
}

impl Output {
    pub(crate) fn new(form: OutputForm) -> Self {
        Self { form }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.form == OutputForm::Json
    }

    pub(crate) fn is_csv(&self) -> bool {
        self.form == OutputForm::Csv
    }

    /// Shows one of the two, whichever was asked for.
    pub(crate) fn show(
        &self,
        json: impl FnOnce() -> serde_json::Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let mut shown = if self.is_json() { format!("{:#}", json()) } else { text() };
        if !shown.ends_with('\n') {
            shown.push('\n');
        }
        bytes(shown.as_bytes())
    }

    /// Shows an error on standard error, in the form that was asked for.
    pub(crate) fn error(&self, failure: &Failure) {
        let shown =
            if self.is_json() { format!("{:#}", failure.json()) } else { failure.to_string() };
        note(&shown);
    }
}

/// The reason of an output that nobody reads to its end, as in `… | head`. It is not an error to
/// tell anybody.
pub(crate) const CLOSED: &str = "OUTPUT_CLOSED";

/// Writes bytes to standard output as they are.
pub(crate) fn bytes(all: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(all).and_then(|()| out.flush()).map_err(|e| unwritten(&e))
}

/// Why there is no output.
pub(crate) fn unwritten(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => {
            Failure::new(Exit::Interrupted, CLOSED, "nobody reads the output any more")
        }
        io::ErrorKind::StorageFull => {
            Failure::new(Exit::Full, "NO_SPACE", format!("cannot write the output: {error}"))
        }
        _ => Failure::new(Exit::Internal, "IO_ERROR", format!("cannot write the output: {error}")),
    }
}

/// Writes a line to standard error. If nobody hears it, nothing is lost that could be told.
pub(crate) fn note(line: &str) {
    let _nobody_hears = writeln!(io::stderr().lock(), "{line}");
}

/// Whether a person sees what is written to standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of text, aligned.
pub(crate) struct Table {
    indent: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a header line in upper case.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { indent: 0, rows: vec![header.iter().map(|&h| h.to_owned()).collect()] }
    }

    /// A table without a header, for example names and what they are.
    pub(crate) fn bare() -> Self {
        Self { indent: 0, rows: Vec::new() }
    }

    /// Indents every line by so many blanks.
    pub(crate) fn indented(mut self, blanks: usize) -> Self {
        self.indent = blanks;
        self
    }

    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|c| visible(&c.into())).collect());
    }

    /// Two blanks between columns, none at the end of a line.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|r| r.get(column)).map(|c| c.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width.saturating_sub(cell.width()) + 2));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Text that can be shown on a terminal: control characters are written out, and nothing turns the
/// direction of what follows.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            c if c.is_control()
                || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// At most `width` columns of a text, with an ellipsis where something is left out.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let shown = visible(&text.chars().take(4 * width).collect::<String>());
    if shown.width() <= width && text.chars().nth(4 * width).is_none() {
        return shown;
    }
    let mut short = String::new();
    for character in shown.chars() {
        short.push(character);
        if short.width() >= width {
            short.pop();
            break;
        }
    }
    short.push('…');
    short
}

/// 1234567 as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 key`, `2 keys`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {what}{end}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["Zoë 🦊", "ENABLED"]);
        table.row(["a-longer-name", ""]);
        assert_eq!(table.text(), "NAME           STATE\nZoë 🦊         ENABLED\na-longer-name\n");
    }

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(visible("a\u{1b}[2Jb\nc\u{202e}"), "a\\u{1b}[2Jb\\nc\\u{202e}");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened(&"x".repeat(70_000), 5), "xxxx…");
        assert_eq!(shortened("🦊🦊🦊", 4), "🦊…");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "key"), "1 key");
    }
}
