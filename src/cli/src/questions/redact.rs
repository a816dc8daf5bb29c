//! `audit redact`: erasing personal detail of the log.

use fieldseal_api::v1;
use serde_json::json;

use super::asked::with_deadline;
use super::zone::Zone;
use crate::arguments::AuditRedactArguments;
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::output::{Output, counted};
use crate::{confirm, values};

pub(super) async fn run(arguments: AuditRedactArguments, output: &Output) -> Result<(), Failure> {
    let zone = Zone::new(arguments.local);
    let end = arguments.before.as_deref().or(arguments.until.as_deref());
    let end_time = end.map(|time| zone.before(time)).transpose()?;
    let request = |validate_only| {
        with_deadline(v1::RedactAuditEventsRequest {
            parent: String::new(),
            partition: arguments.partition.clone().unwrap_or_default(),
            table: arguments.table.clone().unwrap_or_default(),
            row: arguments.row.clone().unwrap_or_default(),
            end_time,
            validate_only,
            reason: Some(values::reason(&arguments.reason)),
            end_user_issuer: arguments.end_user.first().cloned().unwrap_or_default(),
            end_user_subject: arguments.end_user.get(1).cloned().unwrap_or_default(),
        })
    };
    let mut client = connection::connect().await?.audit();
    // What would go is said before it is asked for.
    let would = client.redact_audit_events(request(true)).await.map_err(|s| failure(&s))?;
    let would = would.into_inner();
    let until = end_time.map_or(String::new(), |end| {
        format!(" of calls before {} ({})", zone.show(&end), zone.name())
    });
    let goes = format!("the detail of {}{until} will be gone for good", amount(&would));
    if arguments.validate_only {
        return output.show(
            || {
                json!({
                    "valid": true, "event_count": would.event_count, "item_count": would.item_count,
                })
            },
            || format!("{goes}; nothing was changed"),
        );
    }
    let name = [&arguments.partition, &arguments.row, &arguments.before];
    let name = name
        .into_iter()
        .flatten()
        .chain(arguments.end_user.get(1))
        .next()
        .map_or("", String::as_str);
    // With nothing of the kind there is nothing to ask: the sidecar refuses it.
    if would.event_count > 0 {
        confirm::by_name(name, arguments.confirm.as_deref(), &goes)?;
    }
    let done = client.redact_audit_events(request(false)).await.map_err(|s| failure(&s))?;
    let done = done.into_inner();
    let event =
        done.receipt.as_ref().map(|receipt| format!("{}/events/{}", receipt.log, receipt.index));
    let event = event.unwrap_or_default();
    output.show(
        || {
            json!({
                "event_count": done.event_count, "item_count": done.item_count, "event": event,
            })
        },
        || format!("redacted: the detail of {}{until} is gone; {event} says so", amount(&done)),
    )
}

fn amount(of: &v1::RedactAuditEventsResponse) -> String {
    let count = |count: i64, one: &str| counted(u64::try_from(count).unwrap_or(0), one);
    format!("{} ({})", count(of.event_count, "event"), count(of.item_count, "field"))
}
