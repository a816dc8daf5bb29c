//! `ArchiveAuditEvents`: what is asked, and what is answered.

use fieldseal_api::v1;
use fieldseal_engine::{ArchiveRequest, Archiving};
use fieldseal_model::{AccessReason, Malformed, MalformedReason};

use super::moment;
use crate::encryption::wire_receipt;
use crate::parse;

/// Parses the request.
pub(super) fn request(
    wire: v1::ArchiveAuditEventsRequest,
) -> Result<(ArchiveRequest, AccessReason), Malformed> {
    let needs = "name the time before which records move";
    let before = wire.before_time.as_ref();
    let before = before.ok_or_else(|| Malformed::new(MalformedReason::QueryInvalid, needs))?;
    let (before, reason) = (moment(before)?, parse::reason(wire.reason.as_ref())?);
    let (log, validate_only) = (wire.parent, wire.validate_only);
    Ok((ArchiveRequest { log, before, validate_only }, reason))
}

/// The answer on the wire.
pub(super) fn reply(done: &Archiving) -> v1::ArchiveAuditEventsResponse {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let archived = &done.archived;
    v1::ArchiveAuditEventsResponse {
        event_count: number(archived.end.saturating_sub(archived.first)),
        segment_count: number(archived.segments),
        byte_count: number(archived.bytes),
        end_index: number(archived.end),
        receipt: done.receipt.as_ref().map(wire_receipt),
    }
}
