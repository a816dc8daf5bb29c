//! Every record reaches a collector; what it answers decides what becomes of it.

use std::collections::HashSet;
use std::time::Instant;

use serde_json::Value;
use tonic::Status;

use super::collector::{Collector, Mood, body, value};
use super::{assert_whole, says, until, used};
use crate::installation::Installation;
use crate::process::{ended, refused, text};

fn send_to(i: &Installation, scheme: &str, collector: &Collector) {
    let to = format!("export_otlp = \"{scheme}://{}\"", collector.address);
    i.set("export_otlp = \"\"", &to);
}

fn sent(mood: Mood) -> (Installation, Collector) {
    let (i, collector) = (Installation::new(), Collector::listening(mood, None));
    send_to(&i, "http", &collector);
    (i, collector)
}

fn export(i: &Installation) -> Value {
    i.json("ops", &["status"])["exports"][0].clone()
}

/// Waits until every record of the log has arrived.
fn caught_up(i: &mut Installation, collector: &Collector) {
    let records = i.json("ops", &["status"])["log_tree_size"].as_u64().unwrap();
    until(i, |_| (collector.records().len() as u64 >= records).then_some(()));
    until(i, |i| (export(i)["exported_records"].as_u64().unwrap() >= records).then_some(()));
}

#[test]
fn every_record_reaches_the_collector_in_its_order_and_once_over_restarts() {
    let (mut i, collector) = sent(Mood::Takes);
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    used(&i);
    caught_up(&mut i, &collector);
    assert_eq!(export(&i)["kind"], "otlp");
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &collector.lines());
    i.serve();
    used(&i);
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &collector.lines());

    let resource = collector.resource();
    assert!(
        resource.contains(&("service.name".to_owned(), "fieldseal".to_owned())),
        "{resource:?}"
    );
    let mut denied = 0;
    for record in collector.records() {
        let line: Value = serde_json::from_str(&body(&record)).unwrap();
        assert_eq!(record.attributes[0].key, "log.record.uid");
        assert_eq!(value(&record.attributes[0]), line["metadata"]["uid"]);
        assert_eq!(record.time_unix_nano / 1_000_000, line["time"].as_u64().unwrap());
        assert_eq!(record.time_unix_nano, record.observed_time_unix_nano);
        let is_well = line["status"] == "OK" || line["status"] == "UNSPECIFIED";
        assert_eq!(record.severity_number, if is_well { 9 } else { 13 }, "{line}");
        denied += usize::from(!is_well);
    }
    assert_eq!(denied, 0);
}

#[test]
fn after_kills_no_record_is_missing_and_what_comes_twice_is_the_same() {
    let (mut i, collector) = sent(Mood::Takes);
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    for _ in 0..5 {
        used(&i);
        let before = collector.requests();
        until(&mut i, |_| (collector.requests() > before).then_some(()));
        i.sidecar.take().unwrap().0.kill();
        i.serve();
    }
    assert_eq!(i.stop(), 0);
    let mut known = HashSet::new();
    let lines: String = collector
        .records()
        .iter()
        .filter(|record| known.insert(value(&record.attributes[0])))
        .map(|record| format!("{}\n", body(record)))
        .collect();
    assert_whole(&i, &lines);
}

#[test]
fn what_may_pass_is_tried_again_and_holds_up_no_call() {
    let (mut i, collector) = sent(Mood::Refuses(Status::unavailable("restarting")));
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    let said = says(&mut i, "audit_export_failed");
    assert!(said["error"].as_str().unwrap().contains("restarting"), "{said}");
    used(&i);
    assert!(export(&i)["failure"].as_str().unwrap().contains("Unavailable"), "{}", export(&i));
    collector.becomes(Mood::Takes);
    says(&mut i, "audit_export_ok");
    caught_up(&mut i, &collector);
    assert_eq!(export(&i)["failure"], "");

    collector.becomes(Mood::Hangs);
    let before = collector.requests();
    used(&i);
    until(&mut i, |_| (collector.requests() > before).then_some(()));
    used(&i);
    i.sidecar.take().unwrap().0.kill();
    collector.becomes(Mood::Takes);
    i.serve();
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &collector.lines());

    // Nobody listens any more: it starts, serves and stops, and keeps its place.
    let address = collector.address;
    let _held = collector.goes();
    i.serve();
    used(&i);
    let said = says(&mut i, "audit_export_failed");
    assert!(said["error"].as_str().unwrap().contains("refused"), "{address}: {said}");
    assert_eq!(i.stop(), 0);
}

#[test]
fn a_refusal_for_good_is_said_and_does_not_spin() {
    let (mut i, collector) = sent(Mood::Refuses(Status::permission_denied("no tenant")));
    let begun = Instant::now();
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    let said = says(&mut i, "audit_export_failed");
    assert_eq!(said["again_in_seconds"], 60);
    for _ in 0..10 {
        used(&i);
    }
    // More than 20 records came meanwhile: whoever spins calls for each.
    let status = i.json("ops", &["status"]);
    let log = status["log_origin"].as_str().unwrap();
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60).unwrap();
    let requests = collector.requests_of(log);
    assert!((1..=1 + minutes).contains(&requests), "{requests} in {minutes} min");
    let export = export(&i);
    let failure = export["failure"].as_str().unwrap();
    assert!(failure.contains("refuses the records, PermissionDenied: no tenant"), "{export}");
    assert!(export["records_behind"].as_u64().unwrap() > 10, "{export}");
    assert_eq!(i.stop(), 0);
    collector.becomes(Mood::Takes);
    i.serve();
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &collector.lines());
}

#[test]
fn records_that_the_collector_does_not_keep_are_counted_and_not_sent_again() {
    let (mut i, collector) = sent(Mood::Rejects(2));
    i.serve();
    let said = says(&mut i, "audit_export_rejected");
    assert_eq!((&said["rejected"], &said["said"]), (&2.into(), &"too old".into()));
    collector.becomes(Mood::Takes);
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    caught_up(&mut i, &collector);
    assert_eq!(export(&i)["rejected_records"], 2);
    let table = text(&i.ok("ops", &["status"], b""));
    assert!(table.contains("2 not kept there"), "{table}");
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &collector.lines());
}

#[test]
fn over_tls_only_the_authority_that_is_named_is_believed() {
    let mut i = Installation::new();
    let collector = Collector::listening(Mood::Takes, Some(&i.home().join("tls")));
    send_to(&i, "https", &collector);
    let output = i.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(2, "CONFIG_INVALID"), "{}", text(&output.stderr));

    let other = Installation::new();
    let named = i.path("authority.pem");
    i.set("export_otlp_ca = \"\"", &format!("export_otlp_ca = \"{named}\""));
    for text in [None, Some("no certificate")] {
        if let Some(text) = text {
            std::fs::write(&named, text).unwrap();
        }
        let output = i.serve_command().output().unwrap();
        assert_eq!(ended(&output), refused(2, "TLS_INVALID"));
    }
    std::fs::copy(other.home().join("tls/ca.pem"), &named).unwrap();
    i.serve();
    let said = says(&mut i, "audit_export_failed");
    assert!(said["error"].as_str().unwrap().contains("certificate"), "{said}");
    assert_eq!(collector.requests(), 0);
    assert_eq!(i.stop(), 0);

    std::fs::copy(i.home().join("tls/ca.pem"), &named).unwrap();
    i.serve();
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &collector.lines());
}
