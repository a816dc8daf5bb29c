//! What an answer says of itself: its times, its totals, and what is not in it.

use serde_json::Value;

use crate::installation::Installation;
use crate::process::{ended, refused, text};

/// Berlin, whose clocks are put back at 3 o'clock on 2026-10-25.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// An answer of the audit commands to somebody in this time zone.
fn asked_in(i: &Installation, zone: &str, question: &[&str]) -> Value {
    let line = [&["audit"], question, &["--output", "json"]].concat();
    let mut command = i.command("auditor", &line);
    let output = command.env("TZ", zone).output().unwrap();
    assert!(output.status.success(), "{question:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_hour_that_comes_twice_is_in_a_range_from_its_first_to_its_second_time() {
    let installation = Installation::with_key();
    let range = ["--since", "2026-10-25 02:30", "--until", "2026-10-25 02:30", "--local"];
    let answer = asked_in(&installation, BERLIN, &[&["volume"], &range[..]].concat());
    assert_eq!(answer["since"], "2026-10-25T02:30:00+02:00");
    assert_eq!(answer["until"], "2026-10-25T02:30:00+01:00");
    let mut skipped = installation
        .command("auditor", &["audit", "volume", "--local", "--since", "2026-03-29 02:30"]);
    let skipped = skipped.env("TZ", BERLIN).output().unwrap();
    assert_eq!(ended(&skipped), refused(2, "TIME_INVALID"));
}
