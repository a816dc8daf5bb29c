//! An answer in rows, in each of the forms.

use prost_types::Timestamp;
use serde_json::{Map, Value, json};

use super::zone::Zone;
use crate::beginning::Beginning;
use crate::failure::Failure;
use crate::output::{self, Output, Table, counted, grouped, note, visible};

/// Blocks from an eighth to a whole.
const BLOCKS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
/// The longest bar, in columns of the terminal.
const BAR_COLUMNS: u64 = 32;
/// Digits of a token that a table shows. JSON and CSV have them all.
const TOKEN_DIGITS: usize = 12;

/// A value in a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    /// Shown shortened in a table.
    Token(String),
    /// Text that a table shows in fewer words.
    Long {
        all: String,
        shown: String,
    },
    Number(i64),
    Time(Option<Timestamp>),
    Flag(bool),
}

impl Cell {
    fn json(&self, zone: Zone) -> Value {
        match self {
            Self::Text(text) | Self::Token(text) | Self::Long { all: text, .. } => json!(text),
            Self::Number(number) => json!(number),
            Self::Time(at) => json!(at.as_ref().map(|at| zone.show(at))),
            Self::Flag(flag) => json!(flag),
        }
    }

    fn csv(&self, zone: Zone) -> String {
        match self {
            Self::Text(text) | Self::Token(text) | Self::Long { all: text, .. } => safe(text),
            Self::Number(number) => number.to_string(),
            Self::Time(at) => at.as_ref().map(|at| zone.show(at)).unwrap_or_default(),
            Self::Flag(flag) => flag.to_string(),
        }
    }

    fn shown(&self, zone: Zone, header: &str) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "-".to_owned(),
            Self::Token(token) => token.chars().take(TOKEN_DIGITS).collect(),
            Self::Number(number) => grouped(number.unsigned_abs()),
            Self::Flag(true) => header.to_owned(),
            Self::Flag(false) => String::new(),
            Self::Long { shown, .. } => shown.clone(),
            Self::Text(_) | Self::Time(_) => self.text(zone),
        }
    }

    fn text(&self, zone: Zone) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Time(Some(at)) => zone.show(at),
            _ => String::new(),
        }
    }
}

/// An answer.
pub(super) struct Report {
    zone: Zone,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    total: Vec<(&'static str, Cell)>,
    next: String,
    begins: Beginning,
    redacted: Option<i64>,
    remarks: Vec<String>,
    bar: Option<usize>,
}

impl Report {
    pub(super) fn new(zone: Zone, since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let (columns, rows, total, remarks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (next, begins) = (String::new(), Beginning::default());
        let (redacted, bar) = (None, None);
        Self { zone, since, until, columns, rows, total, next, begins, redacted, remarks, bar }
    }

    /// Of how many events detail was erased that could belong to this answer, and what follows from that.
    pub(super) fn redacted(mut self, events: i64, so: &str) -> Self {
        self.remarks.extend(redaction(events, so));
        self.redacted = Some(events);
        self
    }

    /// Where the log begins that the answer is taken from.
    pub(super) fn begins(mut self, begins: &Beginning) -> Self {
        if begins.cuts(self.since.as_ref()) {
            self.remarks.push(begins.remark(|at| self.zone.show(at)));
        }
        self.begins = begins.clone();
        self
    }

    /// Names of the columns, as JSON and CSV have them; a table has them in upper case.
    pub(super) fn columns(mut self, columns: &[&'static str]) -> Self {
        self.columns = columns.to_vec();
        self
    }

    pub(super) fn rows(mut self, rows: impl IntoIterator<Item = Vec<Cell>>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// What all pages together come to.
    pub(super) fn total(mut self, name: &'static str, cell: Cell) -> Self {
        self.total.push((name, cell));
        self
    }

    /// Where to go on.
    pub(super) fn next(mut self, token: String) -> Self {
        self.next = token;
        self
    }

    /// What the reader must know to understand the answer.
    pub(super) fn remark(mut self, text: impl Into<String>) -> Self {
        self.remarks.push(text.into());
        self
    }

    pub(super) fn remarks(mut self, texts: Vec<String>) -> Self {
        self.remarks.extend(texts);
        self
    }

    /// Draws the numbers of this column behind a table.
    pub(super) fn drawn(mut self, column: usize) -> Self {
        self.bar = Some(column);
        self
    }

    pub(super) fn show(&self, output: &Output) -> Result<(), Failure> {
        if output.is_json() {
            return output.show(|| self.json(), String::new);
        }
        let text = if output.is_csv() { self.csv() } else { self.table() };
        output::bytes(text.as_bytes())?;
        if output.is_csv() {
            note(&self.summary());
        }
        self.remarks.iter().for_each(|remark| note(&visible(remark)));
        if !self.next.is_empty() {
            note(&format!("there is more; go on with --page-token {}", self.next));
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let zone = self.zone;
        let named = |cells: &mut dyn Iterator<Item = (&'static str, &Cell)>| {
            let named = cells.map(|(name, cell)| (name.to_owned(), cell.json(zone)));
            Value::Object(named.collect::<Map<_, _>>())
        };
        let rows = self.rows.iter();
        let rows = rows.map(|row| named(&mut self.columns.iter().copied().zip(row)));
        let time = |at: &Option<Timestamp>| at.as_ref().map(|at| zone.show(at));
        let mut shown = json!({
            "time_zone": zone.name(),
            "since": time(&self.since),
            "until": time(&self.until),
            "rows": rows.collect::<Vec<_>>(),
            "total": named(&mut self.total.iter().map(|(name, cell)| (*name, cell))),
            "next_page_token": self.next,
            "remarks": self.remarks,
        });
        if let Some(shown) = shown.as_object_mut() {
            shown.extend(self.redacted.map(|n| ("redacted_event_count".to_owned(), n.into())));
            shown.extend(self.begins.json(self.since.as_ref(), |at| zone.show(at)));
        }
        shown
    }

    fn csv(&self) -> String {
        let mut text = self.columns.join(",");
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<_> = row.iter().map(|cell| cell.csv(self.zone)).collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }

    fn table(&self) -> String {
        let mut headers: Vec<_> =
            self.columns.iter().map(|name| name.replace('_', " ").to_uppercase()).collect();
        if self.bar.is_some() {
            headers.push(String::new());
        }
        let mut table = Table::new(&headers.iter().map(String::as_str).collect::<Vec<_>>());
        let most = self.rows.iter().filter_map(|row| self.drawn_number(row)).max().unwrap_or(0);
        for row in &self.rows {
            let cells = row.iter().zip(&headers).map(|(cell, name)| cell.shown(self.zone, name));
            let bar = self.drawn_number(row).map(|number| bar(number, most));
            table.row(cells.chain(bar));
        }
        format!("{}\n{}\n", table.text(), self.summary())
    }

    fn drawn_number(&self, row: &[Cell]) -> Option<u64> {
        match row.get(self.bar?)? {
            Cell::Number(number) => Some(number.unsigned_abs()),
            _ => None,
        }
    }

    /// The total, the range and the zone, in one line.
    fn summary(&self) -> String {
        let zone = self.zone;
        let said = self.total.iter().filter(|(_, cell)| !matches!(cell, Cell::Time(None)));
        let total = said
            .map(|(name, cell)| format!("{} {}", name.replace('_', " "), cell.shown(zone, name)));
        format!(
            "total: {}; {}",
            visible(&total.collect::<Vec<_>>().join(", ")),
            zone.range(self.since.as_ref(), self.until.as_ref()),
        )
    }
}

/// What the reader of an answer must know from which detail was erased; nothing if none was.
pub(crate) fn redaction(events: i64, so: &str) -> Option<String> {
    let count = u64::try_from(events).ok().filter(|count| *count > 0)?;
    let events = counted(count, "event");
    Some(format!("the detail of {events} in this range is redacted, so {so}"))
}

/// A bar for a number, so long that the largest one fills its place.
fn bar(number: u64, most: u64) -> String {
    let eighths = BAR_COLUMNS.saturating_mul(8);
    let length = u128::from(number) * u128::from(eighths) / u128::from(most.max(1));
    let length = usize::try_from(length).unwrap_or(0).max(usize::from(number > 0));
    let mut bar = "█".repeat(length / 8);
    bar.extend((length % 8).checked_sub(1).and_then(|rest| BLOCKS.get(rest)));
    bar
}

/// A cell that no spreadsheet takes for a formula: callers choose names, purposes and tickets.
pub(crate) fn safe(text: &str) -> String {
    let text = visible(text);
    let formula = text.starts_with(['=', '+', '-', '@']);
    if !formula && !text.contains(['"', ',', ';', '\'']) {
        return text;
    }
    let mark = if formula { "'" } else { "" };
    format!("\"{mark}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(safe("plain text"), "plain text");
        assert_eq!(safe("a,b \"c\""), "\"a,b \"\"c\"\"\"");
        for bad in ["=1+1", "+1", "-1", "@x", "=HYPERLINK(\"x\",\"y\")"] {
            assert!(safe(bad).starts_with("\"'"), "{bad}");
        }
        // A tab or a line end before it is written out, and cannot hide it.
        assert_eq!(safe("\t=1"), "\\u{9}=1");
        assert_eq!(safe("\r=1"), "\\u{d}=1");
    }

    #[test]
    fn bars_are_as_long_as_their_numbers() {
        assert_eq!(bar(0, 100), "");
        assert_eq!(bar(100, 100), "█".repeat(32));
        assert_eq!(bar(50, 100), "█".repeat(16));
        assert_eq!(bar(1, 1_000_000), "▏", "what is there can be seen");
        assert_eq!(bar(u64::MAX, u64::MAX).chars().count(), 32);
    }

    fn report() -> Report {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let row = |name: &str, number| {
            vec![Cell::Text(name.into()), Cell::Number(number), Cell::Time(at(0))]
        };
        Report::new(Zone::Utc, at(0), None)
            .columns(&["who", "field_count", "first_time"])
            .rows([row("=cmd", 2000), row("dns:a", 1000)])
            .total("field_count", Cell::Number(3000))
            .drawn(1)
    }

    #[test]
    fn each_form_says_the_same() {
        let table = report().table();
        assert!(table.contains("WHO    FIELD COUNT  FIRST TIME"), "{table}");
        assert!(
            table.contains(&format!("1,000        1970-01-01T00:00:00Z  {}\n", "█".repeat(16)))
        );
        let total =
            "total: field count 3,000; since 1970-01-01T00:00:00Z, until now; times are UTC";
        assert!(table.ends_with(&format!("\n\n{total}\n")), "{table}");
        assert_eq!(
            report().csv(),
            "who,field_count,first_time\n\"'=cmd\",2000,1970-01-01T00:00:00Z\n\
             dns:a,1000,1970-01-01T00:00:00Z\n"
        );
        let json = report().json();
        assert_eq!(json["rows"][0]["who"], "=cmd");
        assert_eq!(json["rows"][1]["field_count"], 1000);
        assert_eq!(
            (&json["total"]["field_count"], &json["time_zone"]),
            (&3000.into(), &"UTC".into())
        );
    }
}
