//! `status`: how the sidecar is.

use fieldseal_api::v1;
use serde_json::json;

use crate::connection::{self, failure};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, grouped, visible};
use crate::times;

const UNFINISHED: &str = "not finished: what it names may still be there; see the log lines, then redact again or \
                          start again";

/// Runs `status`. A sidecar that cannot serve ends the command as unavailable, after it is shown.
pub(crate) async fn run(output: &Output) -> Result<(), Failure> {
    let mut client = connection::connect().await?.system();
    let request = v1::GetStatusRequest {};
    let status = client.get_status(request).await.map_err(|s| failure(&s))?.into_inner();
    output.show(|| status_json(&status), || table(&status))?;
    if status.ready {
        return Ok(());
    }
    let health = [status.store_health(), status.audit_health()];
    let full = health.contains(&v1::HealthState::NoSpace);
    let exit = if full { Exit::Full } else { Exit::Unavailable };
    Err(Failure::new(exit, "NOT_READY", format!("it cannot serve: {}", status.health_detail)))
}

fn table(status: &v1::GetStatusResponse) -> String {
    let mut table = Table::bare();
    table.row(["ready", if status.ready { "yes" } else { "no" }]);
    if !status.health_detail.is_empty() {
        table.row(["trouble", &status.health_detail]);
    }
    table.row(["version", &status.version]);
    table.row(["installation", &status.installation]);
    table.row(["started", &times::shown(status.start_time.as_ref())]);
    table.row(["store", health(status.store_health())]);
    table.row(["scrub", &scrub(status)]);
    table.row(["audit log", health(status.audit_health())]);
    table.row(["log", &status.log_origin]);
    table.row(["records", &grouped(unsigned(status.log_tree_size))]);
    if status.audit_redaction_unfinished {
        table.row(["redaction", UNFINISHED]);
    }
    for anchor in &status.anchors {
        table.row([&format!("anchor ({})", anchor.kind), &anchored(anchor)]);
    }
    for export in &status.exports {
        table.row([&format!("export ({})", export.kind), &exported(export)]);
    }
    for retained in &status.retention {
        table.row([&format!("retention ({})", retained.job), &retention(retained)]);
    }
    table.row(["keys", &grouped(unsigned(status.keys))]);
    let (cached, limit) = (status.data_keys_cached, status.data_keys_cached_limit);
    let cached = format!("{} of {} cached", grouped(unsigned(cached)), grouped(unsigned(limit)));
    table.row(["data keys", &cached]);
    table.row(["key pages", protection(status)]);
    table.row(["policy", &status.policy_digest]);
    if let Some(journal) = &status.journal {
        let text = format!(
            "p50 {} µs, p99 {} µs, {:.1} records each",
            journal.sync_p50_us, journal.sync_p99_us, journal.group_size_mean
        );
        table.row(["syncs", &text]);
    }
    if let Some(backup) = &status.backup {
        let newest = match &backup.newest_time {
            Some(at) => times::shown(Some(at)),
            None => "none".to_owned(),
        };
        table.row(["newest backup", &newest]);
        if !backup.failure.is_empty() {
            table.row(["last backup", &format!("failed: {}", backup.failure)]);
        }
    }
    if let Some(backup) = &status.backup {
        let risk = grouped(unsigned(backup.data_keys_at_risk));
        table.row(["at risk", &format!("{risk} data keys are in no backup")]);
        let copy = match (backup.copied, backup.copy_trouble.as_str()) {
            (false, _) => "none",
            (true, "") if backup.copy_shares_volume => {
                "written, but on the volume of the state: whatever takes that takes the copy too"
            }
            (true, "") => "written",
            (true, trouble) => trouble,
        };
        table.row(["copy", copy]);
    }
    table.text()
}

fn anchored(anchor: &v1::AnchorStatus) -> String {
    let behind = grouped(unsigned(anchor.records_behind));
    match (&anchor.post_time, anchor.failure.as_str()) {
        (_, trouble) if !trouble.is_empty() => {
            format!("{behind} records behind; posting failed: {}", visible(trouble))
        }
        (Some(at), _) => format!("{behind} records behind, posted {}", times::shown(Some(at))),
        (None, _) => format!("{behind} records behind"),
    }
}

fn exported(export: &v1::ExportStatus) -> String {
    let behind = match unsigned(export.records_behind) {
        0 => "every record".to_owned(),
        records => {
            format!("{} records behind, {} seconds", grouped(records), export.seconds_behind)
        }
    };
    let behind = match unsigned(export.rejected_records) {
        0 => behind,
        rejected => format!("{behind}; {} not kept there", grouped(rejected)),
    };
    match export.failure.as_str() {
        "" => behind,
        trouble => format!("{behind}; it failed: {}", visible(trouble)),
    }
}

fn retention(retained: &v1::RetentionStatus) -> String {
    if !retained.off.is_empty() {
        return format!("off: {}", visible(&retained.off));
    }
    let of = match &retained.before_time {
        Some(before) => format!("what is older than {}: ", times::shown(Some(before))),
        None => String::new(),
    };
    let unit = if retained.job == "archive" { "segments" } else { "records" };
    let due = match unsigned(retained.due) {
        0 => "nothing".to_owned(),
        due => format!("{} {unit}", grouped(due)),
    };
    let next = match &retained.next_run_time {
        Some(at) => format!(", next run {}", times::shown(Some(at))),
        None => String::new(),
    };
    let failed = match retained.failure.as_str() {
        "" => String::new(),
        reason => format!("; it failed: {}", visible(reason)),
    };
    format!("{of}{due} due{next}{failed}")
}

fn status_json(status: &v1::GetStatusResponse) -> serde_json::Value {
    json!({
        "version": status.version,
        "installation": status.installation,
        "ready": status.ready,
        "store_health": health(status.store_health()),
        "audit_health": health(status.audit_health()),
        "health_detail": status.health_detail,
        "log_origin": status.log_origin,
        "log_tree_size": status.log_tree_size,
        "audit_redaction_unfinished": status.audit_redaction_unfinished,
        "keys": status.keys,
        "data_keys_cached": status.data_keys_cached,
        "data_keys_cached_limit": status.data_keys_cached_limit,
        "policy_digest": status.policy_digest,
        "memory_protection": protection(status),
        "start_time": times::json(status.start_time.as_ref()),
        "backup": status.backup.as_ref().map(|backup| json!({
            "newest": times::json(backup.newest_time.as_ref()),
            "failure": backup.failure,
            "data_keys_at_risk": backup.data_keys_at_risk,
            "copied": backup.copied,
            "copy_trouble": backup.copy_trouble,
            "copy_shares_volume": backup.copy_shares_volume,
        })),
        "scrub": status.scrub.as_ref().map(|scrub| json!({
            "state": scrub_state(scrub),
            "finish_time": times::json(scrub.finish_time.as_ref()),
            "records": scrub.records,
            "data_keys": scrub.data_keys,
            "findings": scrub.findings,
            "detail": scrub.detail,
        })),
        "exports": status.exports.iter().map(|export| json!({
            "kind": export.kind,
            "exported_records": export.exported_records,
            "records_behind": export.records_behind,
            "seconds_behind": export.seconds_behind,
            "failure": export.failure,
            "rejected_records": export.rejected_records,
        })).collect::<Vec<_>>(),
        "retention": status.retention.iter().map(|retained| json!({
            "job": retained.job,
            "off": retained.off,
            "before_time": times::json(retained.before_time.as_ref()),
            "due": retained.due,
            "run_time": times::json(retained.run_time.as_ref()),
            "next_run_time": times::json(retained.next_run_time.as_ref()),
            "failure": retained.failure,
        })).collect::<Vec<_>>(),
        "anchors": status.anchors.iter().map(|anchor| json!({
            "kind": anchor.kind,
            "posted_records": anchor.posted_records,
            "post_time": times::json(anchor.post_time.as_ref()),
            "records_behind": anchor.records_behind,
            "failure": anchor.failure,
        })).collect::<Vec<_>>(),
        "journal": status.journal.as_ref().map(|journal| json!({
            "syncs": journal.syncs,
            "records": journal.records,
            "sync_p50_us": journal.sync_p50_us,
            "sync_p99_us": journal.sync_p99_us,
            "group_size_mean": journal.group_size_mean,
        })),
    })
}

fn health(state: v1::HealthState) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("HEALTH_STATE_").unwrap_or(name)
}

fn scrub(status: &v1::GetStatusResponse) -> String {
    let Some(scrub) = &status.scrub else { return "unknown".to_owned() };
    if scrub.finish_time.is_none() {
        return "SCRUB_PENDING".to_owned();
    }
    let records = grouped(unsigned(scrub.records));
    let at = times::shown(scrub.finish_time.as_ref());
    match scrub.findings {
        0 => format!("{}, {records} records, {at}", scrub_state(scrub)),
        _ => format!("{}, {records} records, {at}: {}", scrub_state(scrub), scrub.detail),
    }
}

fn scrub_state(scrub: &v1::ScrubStatus) -> &'static str {
    scrub.state().as_str_name().strip_prefix("SCRUB_STATE_").unwrap_or_default()
}

fn protection(status: &v1::GetStatusResponse) -> &'static str {
    let name = status.memory_protection().as_str_name();
    name.strip_prefix("MEMORY_PROTECTION_").unwrap_or(name)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{scrub, v1};

    #[test]
    fn a_store_that_nothing_has_looked_through_yet_is_said_to_wait_for_it() {
        let pending =
            v1::ScrubStatus { state: v1::ScrubState::Pending.into(), ..Default::default() };
        let mut status =
            v1::GetStatusResponse { scrub: Some(pending.clone()), ..Default::default() };
        assert_eq!(scrub(&status), "SCRUB_PENDING");
        let finish_time = Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 });
        let state = v1::ScrubState::Clean.into();
        status.scrub = Some(v1::ScrubStatus { state, finish_time, records: 3, ..pending });
        assert!(scrub(&status).starts_with("CLEAN, 3 records, "), "{}", scrub(&status));
    }
}
