//! `audit tail`: what comes, as it comes.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use super::{OPS, PERSON, read, value};
use crate::installation::Installation;
use crate::process::{Lines, Running, event, refused, text};

/// A tail that runs, and the lines that it writes.
fn follow(i: &Installation, arguments: &[&str]) -> (Running, Lines, Lines) {
    let mut command = i.command("auditor", &[&["audit", "tail"], arguments].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::new(&mut command);
    let child = running.child();
    let lines = Lines::of(child.stdout.take().unwrap());
    let said = Lines::of(child.stderr.take().unwrap());
    (running, lines, said)
}

fn record(line: &str) -> Option<(u64, String)> {
    let event: Value = serde_json::from_str(line).ok()?;
    let index = event["name"].as_str()?.rsplit('/').next()?.parse().ok()?;
    Some((index, event["action"].as_str()?.to_owned()))
}

#[test]
fn a_tail_shows_what_comes_ends_when_it_is_told_to_and_goes_on_where_it_was() {
    let installation = read();
    let i = &installation;
    let sealed = i.ok("app", &value("encrypt", "email", "9", PERSON), b"secret");
    let decrypt = value("decrypt", "email", "9", PERSON);
    let why = ["--output", "json", "--purpose", "watch", "--ticket", "AUDIT-3"];
    let (mut running, mut lines, mut said) = follow(i, &why);
    let (opened, action) = lines.wait(record);
    assert_eq!(action, "TailAuditEvents", "its own opening comes first");
    i.ok("app", &decrypt, &sealed);
    assert_eq!(lines.wait(record), (opened + 1, "Decrypt".to_owned()));
    running.signal(Signal::INT);
    assert_eq!(running.code(), 0);
    let next = said.wait(|line| line.strip_prefix("go on with --from ")?.parse::<u64>().ok());
    assert_eq!(next, opened + 2);
    // What comes while nobody follows is shown later: nothing is left out, nothing comes twice.
    i.ok("app", &decrypt, &sealed);
    let next = next.to_string();
    let later = i.asked(&["tail", "--output", "json", "--from", &next, "--count", "2"]);
    let later: Vec<_> = later.lines().filter_map(record).collect();
    let expected = [(opened + 2, "Decrypt"), (opened + 3, "TailAuditEvents")];
    assert_eq!(later, expected.map(|(index, action)| (index, action.to_owned())));

    let by_ops = ["tail", "--since", "2026-01-01", "--principal", OPS, "--action", "Decrypt"];
    let table = i.asked(&[&by_ops[..], &["--count", "1"]].concat());
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.starts_with("TIME") && table.contains("DENIED NO_RULE"), "{table}");
    let found = i.ask(&["list", "--action", "TailAuditEvents", "--ticket", "AUDIT-3"]);
    assert_eq!(found["audit_events"][0]["purpose"], "watch");
    assert_eq!(found["audit_events"].as_array().unwrap().len(), 1);

    assert_eq!(i.no_answer("app", &["tail"]), refused(4, "PERMISSION_DENIED"));
    let beyond = ["tail", "--from", "1000000"];
    assert_eq!(i.no_answer("auditor", &beyond), refused(2, "QUERY_INVALID"));
    let said = i.run("auditor", &[&["audit"], &beyond[..]].concat(), b"");
    assert!(!text(&said.stderr).contains("go on with"), "{}", text(&said.stderr));
    let unknown = ["audit", "list", "--action", "Decrypt", "--action", "decrypt"];
    let unknown = i.run("auditor", &unknown, b"");
    assert!(text(&unknown.stderr).contains("\"decrypt\" is the name of no call"));
    assert_eq!(i.no_answer("auditor", &["tail", "--since", "x"]), refused(2, "TIME_INVALID"));
}

#[test]
fn a_stop_does_not_wait_for_a_tail() {
    let mut installation = read();
    // One that is read, and one whose output nobody takes.
    let (mut running, mut lines, mut said) = follow(&installation, &["--output", "json"]);
    lines.wait(record);
    let mut stuck = installation.command("auditor", &["audit", "tail", "--since", "2026-01-01"]);
    let mut stuck = Running::new(stuck.stdout(Stdio::piped()).stderr(Stdio::null()));
    assert_eq!(lines.wait(record).1, "TailAuditEvents");
    let (mut sidecar, mut of_sidecar) = installation.sidecar.take().unwrap();
    sidecar.signal(Signal::TERM);
    let drained = of_sidecar.wait(|line| event("drained", line));
    assert_eq!(drained["cut_off"], 0, "the streams end by themselves");
    assert_eq!(sidecar.code(), 0);
    said.wait(|line| line.starts_with("the sidecar stopped; go on with --from ").then_some(()));
    assert_eq!((running.code(), stuck.code()), (0, 0));
}
