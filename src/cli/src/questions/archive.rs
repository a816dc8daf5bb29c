//! `audit archive`: moving the oldest part of the log to the archive.

use fieldseal_api::v1;
use serde_json::json;

use super::asked::with_deadline;
use super::zone::Zone;
use crate::arguments::AuditArchiveArguments;
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::output::{Output, counted};
use crate::values;

pub(super) async fn run(arguments: AuditArchiveArguments, output: &Output) -> Result<(), Failure> {
    let zone = Zone::new(arguments.local);
    let before = zone.before(&arguments.before)?;
    let validate_only = arguments.validate_only;
    let request = with_deadline(v1::ArchiveAuditEventsRequest {
        parent: String::new(),
        before_time: Some(before),
        validate_only,
        reason: Some(values::reason(&arguments.reason)),
    });
    let mut client = connection::connect().await?.audit();
    let done = client.archive_audit_events(request).await.map_err(|s| failure(&s))?.into_inner();
    let receipt = done.receipt.as_ref();
    let event = receipt.map(|receipt| format!("{}/events/{}", receipt.log, receipt.index));
    let event = event.unwrap_or_default();
    let json = || {
        json!({
            "event_count": done.event_count, "segment_count": done.segment_count,
            "byte_count": done.byte_count, "end_index": done.end_index, "event": event,
        })
    };
    let count = |count: i64, one: &str| counted(u64::try_from(count).unwrap_or(0), one);
    let amount =
        format!("{} in {}", count(done.event_count, "event"), count(done.segment_count, "segment"));
    let text = || match (done.segment_count, validate_only) {
        (0, _) => {
            let before = zone.show(&before);
            let would = if validate_only { "would move" } else { "was moved" };
            format!("no whole segment is older than {before} ({}); nothing {would}", zone.name())
        }
        (_, true) => format!("{amount} would move to the archive; nothing was changed"),
        (_, false) => format!("archived: {amount} are in the archive; {event} says so"),
    };
    output.show(json, text)
}
