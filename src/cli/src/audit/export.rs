//! `audit export`: events as OCSF, one JSON document a line.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fieldseal_api::v1;
use fieldseal_service::ocsf;

use super::{PAGE, narrowed};
use crate::arguments::AuditExportArguments;
use crate::beginning::Beginning;
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::output::{self, counted, note};
use crate::pages::Pages;
use crate::questions::Zone;
use crate::values;

/// Runs `audit export`.
pub(crate) async fn run(arguments: AuditExportArguments) -> Result<(), Failure> {
    let zone = Zone::new(arguments.local);
    let since = arguments.since.as_deref().map(|text| zone.since(text)).transpose()?;
    let until = arguments.until.as_deref().map(|text| zone.until(text)).transpose()?;
    let query = v1::AuditEventQuery {
        start_time: since,
        end_time: until,
        purposes: arguments.with.with_purpose.clone(),
        tickets: arguments.with.with_ticket.clone(),
        ..narrowed(&arguments.filter)
    };
    let mut client = connection::connect().await?.audit();
    let mut request = v1::QueryAuditEventsRequest {
        query: Some(query),
        page_size: i32::try_from(PAGE).unwrap_or(i32::MAX),
        order_by: "event_time".to_owned(),
        include_items: true,
        reason: Some(values::reason(&arguments.reason)),
        ..Default::default()
    };
    // Asked first: nothing is made for a question that is refused.
    let mut page = client.query_audit_events(request.clone()).await.map_err(|s| failure(&s))?;
    let mut target = Target::new(arguments.file)?;
    let (mut pages, mut events) = (Pages::default(), 0_u64);
    let mut begins;
    loop {
        let found = page.into_inner();
        begins = Beginning { index: found.log_first_index, time: found.log_start_time };
        events = events.saturating_add(found.audit_events.len() as u64);
        target.write(&found.audit_events)?;
        let Some(next) = pages.next(found.next_page_token)? else { break };
        request.page_token = next;
        page = client.query_audit_events(request.clone()).await.map_err(|s| failure(&s))?;
    }
    target.end()?;
    let range = zone.range(since.as_ref(), until.as_ref());
    note(&format!("{} exported; {range}", counted(events, "event")));
    if begins.cuts(since.as_ref()) {
        note(&begins.remark(|at| zone.show(at)));
    }
    Ok(())
}

/// Where the lines go.
enum Target {
    Output,
    File(File, PathBuf),
}

impl Target {
    /// A file must be new, and is closed to others.
    fn new(file: Option<PathBuf>) -> Result<Self, Failure> {
        let Some(path) = file else { return Ok(Self::Output) };
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        Ok(Self::File(made.map_err(|e| unwritten(&path, &e))?, path))
    }

    fn write(&mut self, events: &[v1::AuditEvent]) -> Result<(), Failure> {
        let text: String = events.iter().map(|event| format!("{}\n", ocsf::line(event))).collect();
        match self {
            Self::Output => output::bytes(text.as_bytes()),
            Self::File(file, path) => {
                file.write_all(text.as_bytes()).map_err(|e| unwritten(path, &e))
            }
        }
    }

    fn end(&self) -> Result<(), Failure> {
        match self {
            Self::Output => Ok(()),
            Self::File(file, path) => file.sync_all().map_err(|e| unwritten(path, &e)),
        }
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::io("cannot write", path, error)
}
