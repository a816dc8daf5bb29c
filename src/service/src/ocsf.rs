//! Records as OCSF events: class 6005, Datastore Activity, of the schema's version 1.3.0
//! (docs/export.md has the mapping, schema.ocsf.io the schema).

use fieldseal_api::v1;
use fieldseal_audit::Event;
use fieldseal_model::hex;
use serde_json::{Map, Value, json};

use crate::audit::wire_event;

/// The version of the schema.
const SCHEMA: &str = "1.3.0";
const CATEGORY: i64 = 6;
const CLASS: i64 = 6005;
/// What the schema calls everything that it has no number for.
const OTHER: i64 = 99;

/// Records of the log of this name, each as one line of JSON with its end.
#[must_use]
pub fn lines(log: &str, events: Vec<Event>) -> String {
    let mut text = String::new();
    for event in events {
        text.push_str(&event_line(log, event));
        text.push('\n');
    }
    text
}

/// A record of the log of this name, as one line of JSON without its end.
#[must_use]
pub fn event_line(log: &str, event: Event) -> String {
    line(&wire_event(log, event))
}

/// An event as one line of JSON, without the end of the line.
#[must_use]
pub fn line(event: &v1::AuditEvent) -> String {
    let activity = activity(event);
    let what = if event.action.is_empty() { &event.kind } else { &event.action };
    let (log, index) = event.name.split_once("/events/").unwrap_or_default();
    let who = match event.principal.as_str() {
        "" => "fieldseal",
        principal => principal,
    };
    let mut shown = json!({
        "category_uid": CATEGORY,
        "class_uid": CLASS,
        "activity_id": activity,
        "activity_name": what,
        "type_uid": CLASS * 100 + activity,
        "time": millis(event.event_time.unwrap_or_default()),
        "severity_id": severity(event.outcome()),
        "status_id": status(event.outcome()),
        "status": outcome(event.outcome()),
        "metadata": {
            "version": SCHEMA,
            "product": {
                "name": "Fieldseal",
                "vendor_name": "Fieldseal",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "uid": hex::encode(&event.leaf_hash),
            "event_code": event.kind,
            "log_name": log,
            "sequence": index.parse::<u64>().unwrap_or_default(),
        },
        "actor": actor(event),
        "src_endpoint": { "svc_name": who },
        "unmapped": unmapped(event),
    });
    if let Some(shown) = shown.as_object_mut() {
        places(event, shown);
        // How many refusals it stands for, and between when.
        if event.call_count > 1 {
            shown.insert("count".to_owned(), json!(event.call_count));
            let first = event.first_time.unwrap_or_default();
            shown.insert("start_time".to_owned(), json!(millis(first)));
            let last = event.event_time.unwrap_or_default();
            shown.insert("end_time".to_owned(), json!(millis(last)));
        }
        if let Some(why) = only(event, |item| &item.error_reason) {
            shown.insert("status_code".to_owned(), json!(why));
        }
    }
    shown.to_string()
}

/// Key and table: what all items have in common.
fn places(event: &v1::AuditEvent, shown: &mut Map<String, Value>) {
    let key = only(event, |item| &item.key).map(|key| key.strip_prefix("keys/").unwrap_or(key));
    let database = json!({
        "name": key.unwrap_or("fieldseal"), "type_id": OTHER, "type": "Fieldseal key",
    });
    shown.insert("database".to_owned(), database);
    let table = only(event, |item| &item.table);
    shown.insert("type_id".to_owned(), json!(if table.is_some() { 3 } else { 1 }));
    if let Some(table) = table {
        shown.insert("table".to_owned(), json!({ "name": table }));
    }
}

/// The text that every item has, if it is the same and not empty.
fn only(event: &v1::AuditEvent, text: fn(&v1::AuditEventItem) -> &String) -> Option<&str> {
    let first = text(event.items.first()?);
    let same = !first.is_empty() && event.items.iter().all(|item| text(item) == first);
    same.then_some(first.as_str())
}

fn actor(event: &v1::AuditEvent) -> Value {
    match event.principal.as_str() {
        "" => json!({ "app_name": "fieldseal" }),
        principal => json!({ "user": { "uid": principal, "name": principal } }),
    }
}

/// What the schema has no attribute for, in the words of AuditService.
fn unmapped(event: &v1::AuditEvent) -> Value {
    let item = |item: &v1::AuditEventItem| {
        json!({
            "key_version": item.key_version, "key": item.key, "table": item.table,
            "column": item.column, "partition_token": item.partition_token,
            "row_token": item.row_token, "outcome": outcome(item.outcome()),
            "error_reason": item.error_reason, "policy_rule": item.policy_rule,
            "call_count": item.call_count,
            "redacted": item.redacted,
        })
    };
    json!({
        "name": event.name, "purpose": event.purpose, "ticket": event.ticket,
        "end_user_token": event.end_user_token, "policy_rule": event.policy_rule,
        "item_count": event.item_count, "redacted": event.redacted,
        "items": event.items.iter().map(item).collect::<Vec<_>>(), "note": event.note,
        "policy_digest": event.policy_digest,
        "previous_policy_digest": event.previous_policy_digest, "data_keys": event.data_keys,
        "certificate": event.certificate, "settings_digest": event.settings_digest,
        "settings": event.settings.iter().map(setting).collect::<Map<_, _>>(),
        "certificates": event.certificates.iter().map(certificate).collect::<Vec<_>>(),
    })
}

fn setting(setting: &v1::ProcessSetting) -> (String, Value) {
    (setting.name.clone(), json!(setting.value))
}

fn certificate(certificate: &v1::ProcessCertificate) -> Value {
    let expires = certificate.expire_time.unwrap_or_default();
    json!({
        "usage": certificate.usage, "fingerprint": certificate.fingerprint,
        "expire_time": millis(expires),
    })
}

/// The schema's number for what was done.
fn activity(event: &v1::AuditEvent) -> i64 {
    match event.action.as_str() {
        "Decrypt" | "BatchDecrypt" | "Recover" => 10,
        "Encrypt" | "BatchEncrypt" => 9,
        "QueryAuditEvents" | "SummarizeAccess" | "TailAuditEvents" => 4,
        "ListKeys" => 8,
        get if get.starts_with("Get") => 1,
        "CreateKey" => 6,
        "ShredPartition" | "ScheduleDestroyKeyVersion" => 7,
        update if update.ends_with("Key") || update.ends_with("KeyVersion") => 2,
        _ => OTHER,
    }
}

fn severity(outcome: v1::AuditOutcome) -> i64 {
    match outcome {
        v1::AuditOutcome::Denied => 3,
        v1::AuditOutcome::Failed | v1::AuditOutcome::Partial => 2,
        v1::AuditOutcome::Ok | v1::AuditOutcome::Unspecified => 1,
    }
}

fn status(outcome: v1::AuditOutcome) -> i64 {
    match outcome {
        v1::AuditOutcome::Ok => 1,
        v1::AuditOutcome::Denied | v1::AuditOutcome::Failed => 2,
        v1::AuditOutcome::Partial => OTHER,
        v1::AuditOutcome::Unspecified => 0,
    }
}

/// `OK`, `DENIED`, `FAILED` or `PARTIAL`.
fn outcome(outcome: v1::AuditOutcome) -> &'static str {
    let name = outcome.as_str_name();
    name.strip_prefix("AUDIT_OUTCOME_").unwrap_or(name)
}

fn millis(at: prost_types::Timestamp) -> i64 {
    at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, principal: &str, items: &[(&str, &str)]) -> v1::AuditEvent {
        let item = |(key, table): &(&str, &str)| v1::AuditEventItem {
            key: (*key).to_owned(),
            table: (*table).to_owned(),
            ..Default::default()
        };
        v1::AuditEvent {
            name: "logs/main/events/7".to_owned(),
            kind: "CALL".to_owned(),
            action: action.to_owned(),
            principal: principal.to_owned(),
            event_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 }),
            outcome: v1::AuditOutcome::Ok.into(),
            items: items.iter().map(item).collect(),
            leaf_hash: vec![0xab; 32].into(),
            ..Default::default()
        }
    }

    fn shown(event: &v1::AuditEvent) -> Value {
        let line = line(event);
        assert!(!line.contains('\n'));
        serde_json::from_str(&line).unwrap()
    }

    /// The required attributes of class 6005 and of the objects that are used, and its constraints.
    fn check(shown: &Value) {
        for required in [
            "/activity_id",
            "/category_uid",
            "/class_uid",
            "/type_uid",
            "/severity_id",
            "/time",
            "/metadata/version",
            "/metadata/product/vendor_name",
            "/actor",
            "/src_endpoint/svc_name",
            "/database/type_id",
        ] {
            assert!(shown.pointer(required).is_some_and(|v| !v.is_null()), "{required}: {shown}");
        }
        assert_eq!((&shown["category_uid"], &shown["class_uid"]), (&json!(6), &json!(6005)));
        let activity = shown["activity_id"].as_i64().unwrap();
        assert!((1..=10).contains(&activity) || activity == OTHER, "{shown}");
        assert_eq!(shown["type_uid"], 600_500 + activity);
        let actor = shown["actor"].as_object().unwrap();
        assert!(actor.contains_key("user") || actor.contains_key("app_name"), "{shown}");
    }

    #[test]
    fn every_action_and_what_has_none_has_the_required_attributes() {
        let actions = fieldseal_model::Action::ALL.iter().map(|action| action.as_str());
        for action in actions.chain([""]) {
            for principal in ["dns:app", ""] {
                let mut event = event(action, principal, &[("keys/pii", "users")]);
                for outcome in 0..5 {
                    event.outcome = outcome;
                    check(&shown(&event));
                }
                event.items.clear();
                check(&shown(&event));
            }
        }
    }

    #[test]
    fn a_decrypt_says_who_what_where_when_and_which_record() {
        let mut decrypt = event("Decrypt", "dns:app", &[("keys/pii", "users")]);
        decrypt.outcome = v1::AuditOutcome::Denied.into();
        decrypt.items[0].error_reason = "NO_RULE".to_owned();
        let shown = shown(&decrypt);
        for (path, expected) in [
            ("/activity_id", json!(10)),
            ("/type_uid", json!(600_510)),
            ("/time", json!(1_700_000_000_005_i64)),
            ("/severity_id", json!(3)),
            ("/status_id", json!(2)),
            ("/status_code", json!("NO_RULE")),
            ("/actor/user/uid", json!("dns:app")),
            ("/database/name", json!("pii")),
            ("/table/name", json!("users")),
            ("/type_id", json!(3)),
            ("/metadata/uid", json!("ab".repeat(32))),
            ("/metadata/log_name", json!("logs/main")),
            ("/metadata/sequence", json!(7)),
        ] {
            assert_eq!(shown.pointer(path), Some(&expected), "{path}");
        }
    }

    #[test]
    fn refusals_that_were_counted_are_one_event_with_their_number() {
        let mut refused = event("Decrypt", "dns:app", &[("keys/pii", "users")]);
        assert_eq!(shown(&refused).get("count"), None);
        refused.call_count = 49;
        refused.first_time = Some(prost_types::Timestamp { seconds: 1_699_999_990, nanos: 0 });
        let shown = shown(&refused);
        assert_eq!(shown["count"], 49);
        assert_eq!(shown["start_time"], 1_699_999_990_000_i64);
        assert_eq!((&shown["end_time"], &shown["time"]), (&shown["time"], &shown["end_time"]));
        check(&shown);
    }

    #[test]
    fn of_a_batch_only_what_all_items_share_is_named_outside_of_them() {
        let batch =
            event("BatchDecrypt", "dns:app", &[("keys/pii", "users"), ("keys/pii", "bills")]);
        let shown = shown(&batch);
        assert_eq!((&shown["database"]["name"], shown.get("table")), (&json!("pii"), None));
        assert_eq!(shown["unmapped"]["items"][1]["table"], "bills");
    }
}
