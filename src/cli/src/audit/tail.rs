//! `audit tail`: what comes, as it comes.

use fieldseal_api::v1;
use fieldseal_client::AuditClient;
use tonic::{Status, Streaming};
use unicode_width::UnicodeWidthStr as _;

use super::{HEADER, event_json, lines, narrowed};
use crate::arguments::AuditTailArguments;
use crate::beginning::Beginning;
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::output::{self, Output, note, visible};
use crate::questions::Zone;
use crate::signals::StopSignals;
use crate::values;

/// Runs `audit tail`: until a signal, until the sidecar stops, or for as many events as were asked
/// for.
pub(crate) async fn run(arguments: AuditTailArguments, output: &Output) -> Result<(), Failure> {
    let mut stop = StopSignals::listen()?;
    let mut tail = Tail::new(&arguments)?;
    let ended = tokio::select! {
        ended = tail.follow(output) => ended,
        () = stop.received() => Ok(""),
    };
    // What never came to a message has no place to go on from.
    if let Some(next) = tail.request.start_index.filter(|_| tail.began || ended.is_ok()) {
        let why = ended.as_ref().copied().unwrap_or_default();
        note(&format!("{why}go on with --from {next}"));
    }
    ended.map(|_| ())
}

/// Where it came to, and what is left.
struct Tail {
    request: v1::TailAuditEventsRequest,
    columns: Columns,
    zone: Zone,
    items: bool,
    left: Option<u64>,
    /// True once the sidecar has sent something.
    began: bool,
    /// The first record that was asked for, until it was said that it is archived.
    from: Option<i64>,
}

impl Tail {
    fn new(arguments: &AuditTailArguments) -> Result<Self, Failure> {
        let zone = Zone::new(arguments.local);
        let query = v1::AuditEventQuery {
            start_time: arguments.since.as_deref().map(|text| zone.since(text)).transpose()?,
            purposes: arguments.with.with_purpose.clone(),
            tickets: arguments.with.with_ticket.clone(),
            ..narrowed(&arguments.filter)
        };
        let request = v1::TailAuditEventsRequest {
            parent: String::new(),
            query: Some(query),
            start_index: arguments.from.map(|index| i64::try_from(index).unwrap_or(i64::MAX)),
            include_items: arguments.items,
            matching_items_only: false,
            reason: Some(values::reason(&arguments.reason)),
        };
        let columns = Columns::default();
        let from =
            request.start_index.or(request.query.as_ref().and_then(|q| q.start_time).map(|_| 0));
        let (items, left) = (arguments.items, arguments.count);
        Ok(Self { request, columns, zone, items, left, began: false, from })
    }

    /// Follows from one connection to the next; why it ended. A sidecar leaves each connection after
    /// a while, and says with an orderly end that it does.
    async fn follow(&mut self, output: &Output) -> Result<&'static str, Failure> {
        let mut client = connection::connect().await?.audit();
        loop {
            let mut stream = self.open(&mut client).await?;
            while let Some(message) = stream.message().await.map_err(|s| failure(&s))? {
                if self.take(message, output)? {
                    return Ok("");
                }
            }
            match connection::connect().await {
                Ok(next) => client = next.audit(),
                Err(_) => return Ok("the sidecar stopped; "),
            }
        }
    }

    async fn open(
        &self,
        client: &mut AuditClient,
    ) -> Result<Streaming<v1::TailAuditEventsResponse>, Failure> {
        let refused = |status: Status| failure(&status);
        Ok(client.tail_audit_events(self.request.clone()).await.map_err(refused)?.into_inner())
    }

    /// Shows the events of a message; whether these were all that were asked for.
    fn take(
        &mut self,
        message: v1::TailAuditEventsResponse,
        output: &Output,
    ) -> Result<bool, Failure> {
        self.began = true;
        self.say_what_is_archived(&message);
        let mut text = String::new();
        for event in &message.audit_events {
            if output.is_json() {
                text.push_str(&format!("{}\n", event_json(event, self.zone)));
            } else {
                lines(event, self.items, self.zone)
                    .iter()
                    .for_each(|line| self.columns.add(line, &mut text));
            }
            self.request.start_index = number(event).or(self.request.start_index);
            self.left = self.left.map(|left| left.saturating_sub(1));
            if self.left == Some(0) {
                break;
            }
        }
        output::bytes(text.as_bytes())?;
        let over = self.left == Some(0);
        if !over {
            self.request.start_index = Some(message.next_index);
        }
        Ok(over)
    }

    /// Says once that it does not begin where it was asked to.
    fn say_what_is_archived(&mut self, message: &v1::TailAuditEventsResponse) {
        let begins = Beginning { index: message.log_first_index, time: message.log_start_time };
        let since = self.request.query.as_ref().and_then(|query| query.start_time);
        let is_archived = self.from.take().is_some_and(|from| from < begins.index);
        if is_archived && begins.cuts(since.as_ref()) {
            note(&begins.remark(|at| self.zone.show(at)));
        }
    }
}

/// The record after this one.
fn number(event: &v1::AuditEvent) -> Option<i64> {
    event.name.rsplit('/').next()?.parse::<i64>().ok()?.checked_add(1)
}

/// Columns under each other, of lines that are not known yet: each is as wide as its widest cell
/// was so far.
#[derive(Default)]
struct Columns {
    widths: [usize; HEADER.len()],
}

impl Columns {
    /// Adds a line, and the header before the first.
    fn add(&mut self, cells: &[String; HEADER.len()], text: &mut String) {
        let shown = cells.each_ref().map(|cell| visible(cell));
        let is_first = self.widths == [0; HEADER.len()];
        for ((width, cell), name) in self.widths.iter_mut().zip(&shown).zip(HEADER) {
            *width = (*width).max(cell.width()).max(name.width());
        }
        if is_first {
            self.line(&HEADER, text);
        }
        self.line(&shown.each_ref().map(String::as_str), text);
    }

    fn line(&self, cells: &[&str; HEADER.len()], text: &mut String) {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(self.widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width.saturating_sub(cell.width()) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_under_the_header_and_grow_with_their_cells() {
        let (mut columns, mut text) = (Columns::default(), String::new());
        let line = |who: &str| {
            let mut cells: [String; HEADER.len()] = Default::default();
            (cells[0], cells[2], cells[9]) = ("10:00".into(), who.into(), "OK".into());
            cells
        };
        columns.add(&line("dns:a"), &mut text);
        columns.add(&line("dns:longer\u{1b}"), &mut text);
        columns.add(&line("dns:a"), &mut text);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("TIME   EVENT  WHO    WHAT"), "{text}");
        assert!(lines[2].contains("dns:longer\\u{1b}  "), "{text}");
        assert_eq!(lines[2].len(), lines[3].len(), "{text}");
        assert_eq!(lines.len(), 4, "the header comes once");
    }
}
