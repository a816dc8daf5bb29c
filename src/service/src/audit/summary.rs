//! `SummarizeAccess`: what is asked, and what is answered.

use fieldseal_api::v1;
use fieldseal_audit::{Counts, GroupKey, Grouping};
use fieldseal_engine::{AccessPage, AccessQuestion};
use fieldseal_model::{AccessReason, Action, Malformed, MalformedReason, Timestamp, hex};

use super::{query, wire_checkpoint, wire_index, wire_outcome};
use crate::keys::page_size;
use crate::parse;
use crate::wire_key::wire_time;

/// Parses the request.
pub(super) fn question(
    wire: v1::SummarizeAccessRequest,
) -> Result<(AccessQuestion, AccessReason), Malformed> {
    let mut group_by = Vec::new();
    for code in &wire.group_by {
        let grouping = grouping(*code).filter(|grouping| !group_by.contains(grouping));
        group_by.push(grouping.ok_or_else(|| {
            let what = "group_by has ACCESS_GROUPING_HOUR, _PRINCIPAL and so on, each once";
            Malformed::new(MalformedReason::QueryInvalid, what)
        })?);
    }
    let size = u64::try_from(wire.tree_size).map_err(|_| {
        Malformed::new(MalformedReason::QueryInvalid, "tree_size is a number of records")
    })?;
    let question = AccessQuestion {
        query: query(wire.query.unwrap_or_default(), wire.parent, "")?,
        group_by,
        limit: page_size(wire.page_size)?,
        page_token: wire.page_token,
        tree_size: Some(size).filter(|size| *size > 0),
    };
    Ok((question, parse::reason(wire.reason.as_ref())?))
}

fn grouping(code: i32) -> Option<Grouping> {
    Some(match v1::AccessGrouping::try_from(code).ok()? {
        v1::AccessGrouping::Hour => Grouping::Hour,
        v1::AccessGrouping::Principal => Grouping::Principal,
        v1::AccessGrouping::Action => Grouping::Action,
        v1::AccessGrouping::Key => Grouping::Key,
        v1::AccessGrouping::KeyVersion => Grouping::KeyVersion,
        v1::AccessGrouping::Table => Grouping::Table,
        v1::AccessGrouping::Column => Grouping::Column,
        v1::AccessGrouping::Outcome => Grouping::Outcome,
        v1::AccessGrouping::Rule => Grouping::Rule,
        v1::AccessGrouping::Partition => Grouping::Partition,
        v1::AccessGrouping::Row => Grouping::Row,
        v1::AccessGrouping::Cause => Grouping::Cause,
        v1::AccessGrouping::Unspecified => return None,
    })
}

/// The answer on the wire.
pub(super) fn reply(page: AccessPage) -> v1::SummarizeAccessResponse {
    let AccessPage { summary, checkpoint, by_hour } = page;
    let groups = summary.groups.into_iter().map(|(key, counts)| v1::AccessGroup {
        hour: by_hour.then(|| hour(key.hour)),
        ..group(key, counts)
    });
    v1::SummarizeAccessResponse {
        access_groups: groups.collect(),
        next_page_token: summary.next.unwrap_or_default(),
        total_size: i64::try_from(summary.group_count).unwrap_or(i64::MAX),
        total: Some(group(GroupKey::default(), summary.total)),
        log_start_time: summary.begins.time.map(wire_time),
        log_first_index: wire_index(summary.begins.index),
        tree_size: wire_index(summary.tree_size),
        redacted_event_count: wire_index(summary.erased),
        checkpoints: checkpoint.as_ref().map(wire_checkpoint).into_iter().collect(),
    }
}

fn hour(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn group(key: GroupKey, counts: Counts) -> v1::AccessGroup {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let time = |at: Option<Timestamp>| at.map(wire_time);
    let (action, outcome) = (key.called(), key.ended());
    let named = |suffix: String| match key.key.as_str() {
        "" => String::new(),
        name => format!("keys/{name}{suffix}"),
    };
    v1::AccessGroup {
        hour: None,
        action: action.map_or("", Action::as_str).to_owned(),
        key: named(String::new()),
        key_version: match key.key_version {
            0 => String::new(),
            version => named(format!("/versions/{version}")),
        },
        outcome: wire_outcome(outcome),
        partition_token: hex::encode(&key.partition),
        row_token: hex::encode(&key.row),
        principal: key.principal,
        table: key.table,
        column: key.column,
        policy_rule: key.rule,
        error_reason: key.cause,
        field_count: number(counts.fields),
        event_count: number(counts.events),
        partition_count: number(counts.partitions),
        first_time: time(counts.first),
        last_time: time(counts.last),
    }
}
