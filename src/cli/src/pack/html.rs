//! Pieces of a page. Whatever stands in a record was chosen by somebody else: nothing of it gets onto
//! the page but through [`escape`].

use crate::output::{grouped, shortened};

/// Characters of a cell that are shown; `records.csv` has all of them.
const CELL_COLUMNS: usize = 160;

/// A text that is nothing but text, whatever stands in it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in shortened(text, CELL_COLUMNS).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// What stands in a table.
pub(super) enum Cell {
    Text(String),
    /// A name or a digest, in letters of one width.
    Name(String),
    /// A moment or a word of this program's own, which stays in one line.
    Word(String),
    Number(u64),
}

impl Cell {
    pub(super) fn name(text: impl Into<String>) -> Self {
        Self::Name(text.into())
    }

    pub(super) fn word(text: impl Into<String>) -> Self {
        Self::Word(text.into())
    }

    fn html(&self) -> String {
        match self {
            Self::Text(text) | Self::Name(text) | Self::Word(text) if text.is_empty() => {
                "<td class=\"none\">–</td>".to_owned()
            }
            Self::Text(text) => format!("<td>{}</td>", escape(text)),
            Self::Name(text) => format!("<td class=\"name\">{}</td>", escape(text)),
            Self::Word(text) => format!("<td class=\"name word\">{}</td>", escape(text)),
            Self::Number(0) => "<td class=\"number none\">0</td>".to_owned(),
            Self::Number(number) => format!("<td class=\"number\">{}</td>", grouped(*number)),
        }
    }
}

/// A table: names of columns (those of numbers begin with `#`), rows, how many rows more there are, and
/// what is said if there are none.
pub(super) fn table(columns: &[&str], rows: &[Vec<Cell>], more: u64, none: &str) -> String {
    if rows.is_empty() {
        return format!("<p class=\"nothing\">{}</p>\n", escape(none));
    }
    let head = columns.iter().map(|name| match name.strip_prefix('#') {
        Some(name) => format!("<th class=\"number\">{name}</th>"),
        None => format!("<th>{name}</th>"),
    });
    let head: String = head.collect();
    let row = |row: &Vec<Cell>| {
        let cells: String = row.iter().map(Cell::html).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = rows.iter().map(row).collect();
    let more = match more {
        0 => String::new(),
        more => format!("<p class=\"more\">and {} more in records.csv</p>\n", grouped(more)),
    };
    format!("<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_caller_wrote_is_more_than_text() {
        assert_eq!(
            escape("<script>\"&'\n\u{202e}x"),
            "&lt;script&gt;&quot;&amp;&#39;\\n\\u{202e}x"
        );
        assert!(escape(&"<".repeat(10_000)).len() < 1000);
        let shown = table(&["A", "#B"], &[vec![Cell::name("<b>"), Cell::Number(1234)]], 2, "");
        assert!(shown.contains("<td class=\"name\">&lt;b&gt;</td><td class=\"number\">1,234</td>"));
        assert!(shown.contains("and 2 more"));
        assert_eq!(table(&["A"], &[], 0, "none"), "<p class=\"nothing\">none</p>\n");
    }
}
