//! `RedactAuditEvents`: what is asked, and what is answered.

use fieldseal_api::v1;
use fieldseal_engine::{Redaction, RedactionRequest, RedactionSubject};
use fieldseal_model::{AccessReason, Malformed, MalformedReason, Partition, Row, Table};

use super::moment;
use crate::encryption::wire_receipt;
use crate::parse;

/// Parses the request.
pub(super) fn request(
    wire: v1::RedactAuditEventsRequest,
) -> Result<(RedactionRequest, AccessReason), Malformed> {
    let (issuer, user) = (&wire.end_user_issuer, &wire.end_user_subject);
    let named = [&wire.partition, &wire.table, &wire.row, issuer, user].map(|t| !t.is_empty());
    let subject = match named {
        [true, false, false, false, false] => {
            RedactionSubject::Partition(Partition::parse(&wire.partition)?)
        }
        [false, true, true, false, false] => {
            RedactionSubject::Row(Table::parse(&wire.table)?, Row::parse(wire.row)?)
        }
        [false, false, false, true, true] => {
            RedactionSubject::EndUser(wire.end_user_issuer, wire.end_user_subject)
        }
        [false, false, false, false, false] if wire.end_time.is_some() => {
            RedactionSubject::Everybody
        }
        _ => {
            let what = "name a partition, or a table and a row, or an end user with issuer and \
                        subject, or else the time before which the detail of everybody goes";
            return Err(Malformed::new(MalformedReason::QueryInvalid, what));
        }
    };
    let end = wire.end_time.map(|at| moment(&at)).transpose()?;
    let reason = parse::reason(wire.reason.as_ref())?;
    let (log, validate_only) = (wire.parent, wire.validate_only);
    Ok((RedactionRequest { log, subject, end, validate_only }, reason))
}

/// The answer on the wire.
pub(super) fn reply(done: &Redaction) -> v1::RedactAuditEventsResponse {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    v1::RedactAuditEventsResponse {
        event_count: number(done.redacted.records),
        item_count: number(done.redacted.items),
        receipt: done.receipt.as_ref().map(wire_receipt),
    }
}
