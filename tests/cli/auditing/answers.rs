//! What an answer says of itself: its times, its totals, and what is not in it.

use serde_json::Value;

use super::{APP, OPS, PERSON, read};
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

#[test]
fn totals_are_those_of_the_log_as_its_rows_show_it() {
    let installation = read();
    let i = &installation;
    let auditor = ["principal", "spiffe://dev.local/auditor"];
    // Each of these asks more than once, and is on record more than once.
    let mut before = 0;
    for _ in 0..2 {
        let answer = i.ask(&auditor);
        let rows = answer["rows"].as_array().unwrap().iter();
        let calls: i64 = rows.map(|row| row["event_count"].as_i64().unwrap()).sum();
        assert_eq!(answer["total"]["event_count"], calls);
        before = calls.max(before);
    }
    assert!(before > 0);
    let refused_ones = [["ops", OPS], ["app", APP]];
    for [caller, principal] in refused_ones {
        let question = ["audit", "principal", principal];
        i.run(caller, &question, b"");
        let answer = i.ask(&["principal", principal]);
        let denied = answer["rows"].as_array().unwrap().iter();
        let denied = denied.filter(|row| row["outcome"] == "DENIED");
        let denied: i64 = denied.map(|row| row["event_count"].as_i64().unwrap()).sum();
        assert_eq!(answer["total"]["denied_count"], denied, "{principal}");
    }
    // Of nothing there is no first and no last.
    let nothing = i.asked(&["denials", "--until", "2020-01-01"]);
    assert!(!nothing.contains("time ,") && !nothing.contains("time ;"), "{nothing}");
}

#[test]
fn an_answer_says_that_detail_is_redacted_which_could_belong_to_it() {
    let installation = read();
    let i = &installation;
    let names = i.path("names.txt");
    std::fs::write(&names, PERSON).unwrap();
    let questions: [&[&str]; 9] = [
        &["subject", "--partition", PERSON],
        &["subject", "--partition", "bob"],
        &["principal", APP],
        &["field", "users.iban"],
        &["breach", "--key-version", "customer-pii/1"],
        &["breach", "--principal", APP, "--candidates", &names],
        &["volume"],
        &["denials"],
        // Whoever asked about the person before.
        &["changes"],
    ];
    for question in questions {
        assert_eq!(i.ask(question)["redacted_event_count"], 0, "{question:?}");
    }
    i.ok("ops", &["audit", "redact", "--partition", PERSON, "--confirm", PERSON], b"");
    for (question, events) in questions.into_iter().zip([4, 4, 3, 1, 3, 3, 3, 1, 3]) {
        let answer = i.ask(question);
        assert_eq!(answer["redacted_event_count"], events, "{question:?}");
        let said = format!("the detail of {events} event");
        let remarks = answer["remarks"].as_array().unwrap();
        assert!(
            remarks.iter().any(|remark| remark.as_str().unwrap().starts_with(&said)),
            "{answer}"
        );
        let shown = i.run("auditor", &[&["audit"], question].concat(), b"");
        assert!(text(&shown.stderr).contains(&said), "{}", text(&shown.stderr));
        // Nothing of another time, and nothing that was about something else.
        let before = [question, &["--until", "2020-01-01"]].concat();
        assert_eq!(i.ask(&before)["redacted_event_count"], 0, "{question:?}");
    }
    assert_eq!(i.ask(&["field", "orders.total"])["redacted_event_count"], 0);
    assert_eq!(i.ask(&["breach", "--key-version", "other/1"])["redacted_event_count"], 0);
}

/// Whether a remark of the answer holds these words, in JSON and beside the table alike.
fn remarks(i: &Installation, question: &[&str], words: &str) -> bool {
    let answer = i.ask(question);
    let in_json = answer["remarks"].as_array().unwrap().iter();
    let in_json = in_json.filter(|remark| remark.as_str().unwrap().contains(words)).count() > 0;
    let asked = i.run("auditor", &[&["audit"], question].concat(), b"");
    assert_eq!(text(&asked.stderr).contains(words), in_json, "{question:?}");
    in_json
}

#[test]
fn a_name_that_no_record_has_is_not_an_answer_of_nobody() {
    let installation = read();
    let i = &installation;
    let nobody = "spiffe://dev.local/app1";
    for (question, name) in [
        (&["principal", nobody][..], nobody),
        (&["field", "users.ibam"], "users.ibam"),
        (&["field", "users.iban", "--key", "other"], "users.iban under other"),
        (&["breach", "--principal", nobody], nobody),
        (&["breach", "--key-version", "customer-pii/7"], "customer-pii/7"),
        (&["volume", "--principal", nobody], nobody),
        (&["volume", "--field", "users.ibam"], "users.ibam"),
        (&["denials", "--principal", nobody], nobody),
    ] {
        // Asked twice: the question itself names it, and that does not count.
        for _ in 0..2 {
            assert!(remarks(i, question, &format!("no record of this log names {name},")));
        }
    }
    let names = i.path("names.txt");
    std::fs::write(&names, PERSON).unwrap();
    let candidates = ["breach", "--principal", nobody, "--candidates", &names];
    assert!(remarks(i, &candidates, "no record of this log names"));
    for named in [
        &["principal", APP, "--until", "2020-01-01"][..],
        &["field", "users.iban", "--until", "2020-01-01"],
        &["breach", "--principal", OPS],
        &["breach", "--key-version", "customer-pii/1", "--until", "2020-01-01"],
        &["volume", "--principal", OPS],
        &["denials", "--principal", APP],
        &["breach", "--principal", OPS, "--candidates", &names],
    ] {
        assert!(!remarks(i, named, "no record of this log names"), "{named:?}");
    }
}

#[test]
fn lists_tails_and_exports_take_the_times_that_the_questions_take_and_say_which_they_mean() {
    let installation = read();
    let i = &installation;
    for (zone, local, since) in [
        ("TST-2", &[][..], "2026-01-01T02:00:00Z"),
        ("TST-2", &["--local"][..], "2026-01-01T02:00:00+02:00"),
    ] {
        let range = [&["--since", "2026-01-01 02:00"][..], local].concat();
        let list = asked_in(i, zone, &[&["list", "--limit", "1"], &range[..]].concat());
        assert_eq!(list["since"], since);
        let at = list["audit_events"][0]["event_time"].as_str().unwrap();
        assert_eq!(at[23..], since[19..], "to the millisecond, with its offset: {at}");
        let said = |question: &[&str]| {
            let line = [&["audit"], question, &range[..]].concat();
            let output = i.command("auditor", &line).env("TZ", zone).output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            (text(&output.stdout), text(&output.stderr))
        };
        assert!(
            said(&["list", "--limit", "1"])
                .0
                .contains(&format!("since {since}, until now; times are"))
        );
        assert!(said(&["export"]).1.contains(&format!("exported; since {since}, until now")));
        let tail = said(&["tail", "--count", "1"]).0;
        let at = tail.lines().nth(1).unwrap().split(' ').next().unwrap();
        assert_eq!(at[19..], since[19..], "{tail}");
    }
}

#[test]
fn a_list_has_pages_and_csv() {
    let installation = read();
    let i = &installation;
    let decrypts = ["list", "--action", "Decrypt", "--items"];
    let whole = i.ask(&decrypts);
    let whole = whole["audit_events"].as_array().unwrap();
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = i.ask(&[&decrypts[..], &["--limit", "2", "--page-token", &token]].concat());
        let events = page["audit_events"].as_array().unwrap();
        assert!(!events.is_empty(), "no page is empty");
        found.extend(events.clone());
        token = page["next_page_token"].as_str().unwrap().to_owned();
        assert_eq!(page["more"], !token.is_empty());
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(&found, whole);
    let csv = i.asked(&[&decrypts[..], &["--output", "csv"]].concat());
    let lines: Vec<_> = csv.lines().collect();
    assert!(lines[0].starts_with("time,event,kind,principal,"), "{csv}");
    assert_eq!(lines.len(), 1 + whole.len());
    assert!(lines[1..].iter().all(|line| line.contains(",\"'=HYPERLINK(")), "{csv}");
    assert_eq!(lines.iter().filter(|line| line.contains(",DENIED,NO_RULE,1,false,")).count(), 1);
    // Of what was erased a list by partition knows nothing, and says so.
    i.ok("ops", &["audit", "redact", "--partition", PERSON, "--confirm", PERSON], b"");
    assert!(remarks(i, &["list", "--partition", "bob"], "the detail of "));
    assert!(!remarks(
        i,
        &["list", "--partition", "bob", "--until", "2020-01-01"],
        "the detail of "
    ));
    let all = i.ask(&["list"]);
    assert_eq!(all["redacted_event_count"], Value::Null, "each of them is in the list");
}

#[test]
fn changes_say_what_was_set_and_which_policy_decides_and_can_leave_reads_out() {
    let installation = read();
    let i = &installation;
    let update = ["key", "update", "customer-pii", "--seal-limit", "2000000"];
    i.ok("ops", &[&update[..], &["--label", "owner=crm"]].concat(), b"");
    i.ok("ops", &["policy", "reload"], b"");
    i.ask(&["volume"]);
    assert_eq!(i.no_answer("app", &["changes"]), refused(4, "PERMISSION_DENIED"));
    let notes = |more: &[&str], columns: &[&str]| {
        super::rows(&i.ask(&[&["changes"], more].concat()), columns)
    };
    let shown = notes(&[], &["kind", "note"]);
    let updated = shown.iter().find(|row| row[0] == "KEY_UPDATED").unwrap();
    assert_eq!(updated[1], "seal_limit=2000000 labels=owner=crm");
    let reloaded = shown.iter().find(|row| row[0] == "POLICY_RELOADED").unwrap();
    assert_eq!(reloaded[1].len(), "policy  to ".len() + 2 * 64, "{reloaded:?}");
    let table = i.asked(&["changes"]);
    assert!(!table.contains(&reloaded[1]) && table.contains(&reloaded[1][..19]), "{table}");

    let all = notes(&[], &["action", "outcome"]);
    assert!(all.contains(&vec!["SummarizeAccess".to_owned(), "OK".to_owned()]));
    let without = notes(&["--without-reads"], &["action", "outcome"]);
    let reads = without.iter().filter(|row| row[0].contains("Access") || row[0].contains("Audit"));
    let reads: Vec<_> = reads.map(|row| row[1].as_str()).collect();
    assert_eq!(reads, ["DENIED"], "who was refused is always shown");
    assert!(without.iter().any(|row| row[0] == "UpdateKey") && without.len() < all.len());
}
