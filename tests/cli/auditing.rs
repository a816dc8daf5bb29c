//! The questions of auditors, and docs/auditing.md.

mod answers;
mod tail;

use std::path::Path;

use serde_json::Value;

use crate::installation::Installation;
use crate::process::{ended, refused, text};

const APP: &str = "spiffe://dev.local/app";
const OPS: &str = "spiffe://dev.local/ops";
const AUDITOR: &str = "spiffe://dev.local/auditor";
const PERSON: &str = "customer-4711";

fn value(
    command: &'static str,
    column: &'static str,
    row: &'static str,
    of: &'static str,
) -> Vec<&'static str> {
    let mut arguments = vec![command, "--key", "customer-pii", "--table", "users"];
    arguments.extend(["--column", column, "--row", row, "--partition", of]);
    arguments
}

/// Two callers, of whom one may decrypt; three people, of whom two are read.
fn read() -> Installation {
    let installation = Installation::with_key();
    let i = &installation;
    for (column, row, of, times) in [
        ("email", "42", PERSON, 2),
        ("iban", "42", PERSON, 1),
        ("email", "7", "bob", 1),
        ("email", "8", "eve", 0),
    ] {
        let sealed = i.ok("app", &value("encrypt", column, row, of), b"secret");
        let reason = ["--purpose", "=HYPERLINK(\"http://x\")", "--ticket", "CASE-1"];
        let decrypt = [value("decrypt", column, row, of), reason.to_vec()].concat();
        for _ in 0..times {
            i.ok("app", &decrypt, &sealed);
        }
        if column == "iban" {
            assert_eq!(ended(&i.run("ops", &decrypt, &sealed)), refused(4, "PERMISSION_DENIED"));
        }
    }
    installation
}

impl Installation {
    fn ask(&self, arguments: &[&str]) -> Value {
        self.json("auditor", &[&["audit"], arguments].concat())
    }

    fn asked(&self, arguments: &[&str]) -> String {
        text(&self.ok("auditor", &[&["audit"], arguments].concat(), b""))
    }

    fn no_answer(&self, caller: &str, arguments: &[&str]) -> (i32, String) {
        ended(&self.run(caller, &[&["audit"], arguments].concat(), b""))
    }
}

/// Some columns of every row.
fn rows(answer: &Value, columns: &[&str]) -> Vec<Vec<String>> {
    let cell = |row: &Value, column: &&str| match &row[*column] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = answer["rows"].as_array().unwrap().iter();
    rows.map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect()
}

#[test]
fn a_question_that_cannot_be_understood_or_is_not_allowed_is_refused() {
    let installation = Installation::with_key();
    let i = &installation;
    let backwards = ["changes", "--since", "2026-02-01", "--until", "2026-01-01"];
    let long = "x".repeat(257);
    for (arguments, reason) in [
        (&backwards[..], "QUERY_INVALID"),
        (&["volume", "--since", "2026-02-01", "--until", "2026-01-01"], "QUERY_INVALID"),
        (&["volume", "--since", "yesterday"], "TIME_INVALID"),
        (&["principal", "app"], "PRINCIPAL_INVALID"),
        (&["breach", "--principal", "user:app"], "PRINCIPAL_INVALID"),
        (&["subject", "--partition", &long], "PARTITION_INVALID"),
        (&["changes", "--page-token", "x"], "PAGE_INVALID"),
        (&["denials", "--page-token", "x"], "PAGE_INVALID"),
        // Without a subject, a field or a version that could be meant: clap says so.
        (&["subject"], ""),
        (&["subject", "--table", "users"], ""),
        (&["subject", "--row", "1"], ""),
        (&["breach"], ""),
        (&["breach", "--key-version", "customer-pii"], ""),
        (&["field", "iban"], ""),
        (&["volume", "--limit", "0"], ""),
        (&["list", "--limit", "0"], ""),
        (&["list", "--since", "2026-02-01", "--until", "2026-01-01"], "QUERY_INVALID"),
        (&["list", "--page-token", "x"], "PAGE_INVALID"),
        (&["export", "--until", "1.1.2026"], "TIME_INVALID"),
    ] {
        assert_eq!(i.no_answer("auditor", arguments), refused(2, reason), "{arguments:?}");
    }
    for question in [
        &["subject", "--partition", "x"][..],
        &["principal", APP],
        &["field", "users.iban"],
        &["breach", "--principal", APP],
        &["volume"],
        &["denials"],
        &["changes"],
    ] {
        assert_eq!(i.no_answer("app", question), refused(4, "PERMISSION_DENIED"), "{question:?}");
    }
    for other in [
        &["tail", "--count", "1"][..],
        &["export"],
        &["anchor"],
        &["check-checkpoint", "kept", "--public-key", "log.pub"],
        &["check-receipt", "receipt.json", "--public-key", "log.pub"],
        &["verify", "--log", "audit", "--public-key", "log.pub"],
        &["tiles", "--log", "audit", "--public-key", "log.pub", "--to", "tiles"],
        &["archive", "--before", "2020-01-01"],
        &["redact", "--partition", "x"],
    ] {
        let in_csv = [other, &["--output", "csv"]].concat();
        let expected = refused(2, "OUTPUT_FORM_UNSUPPORTED");
        assert_eq!(i.no_answer("auditor", &in_csv), expected, "{other:?}");
    }
    let gone = i.path("gone");
    let gone = ["breach", "--principal", APP, "--candidates", &gone];
    assert_eq!(i.no_answer("auditor", &gone), refused(3, "FILE_NOT_FOUND"));
}

#[test]
fn every_access_to_a_person_or_a_row_is_shown_and_the_name_is_nowhere() {
    let mut installation = read();
    let i = &installation;
    let answer = i.ask(&["subject", "--partition", PERSON]);
    let columns = ["principal", "action", "table", "column", "ticket", "rule", "outcome", "cause"];
    let app = |column| vec![APP, "Decrypt", "users", column, "CASE-1", "app-decrypt", "OK", ""];
    let ops = vec![OPS, "Decrypt", "users", "iban", "CASE-1", "", "DENIED"];
    let shown = rows(&answer, &columns);
    assert_eq!(shown[0][..7], ops, "{shown:?}");
    assert_eq!(shown[1..], [app("iban"), app("email"), app("email")]);
    assert_eq!((&answer["total"]["field_count"], &answer["time_zone"]), (&4.into(), &"UTC".into()));

    let row = i.ask(&["subject", "--table", "users", "--row", "7"]);
    assert_eq!(row["total"]["field_count"], 1);
    assert_eq!(i.ask(&["subject", "--partition", "eve"])["rows"], Value::Array(Vec::new()));

    // Pages: each row once, and the total is that of all, of the log as it was at the first.
    let sealed = i.ok("app", &value("encrypt", "email", "42", PERSON), b"later");
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = ["subject", "--partition", PERSON, "--limit", "1", "--page-token", &token];
        let page = i.ask(&page);
        assert_eq!(page["total"]["field_count"], 4);
        found.extend(rows(&page, &["event"]).into_iter().map(|mut row| row.remove(0)));
        assert_eq!(page["total"]["row_count"], Value::Null);
        token = page["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
        // What comes later is in no page and in no total.
        i.ok("app", &value("decrypt", "email", "42", PERSON), &sealed);
    }
    assert_eq!(found.len(), 4, "no page is empty");
    assert_eq!(found, rows(&answer, &["event"]).concat());

    // A spreadsheet must not take what a caller wrote for a formula.
    let csv = i.asked(&["subject", "--partition", PERSON, "--output", "csv"]);
    assert!(csv.contains(",\"'=HYPERLINK(\"\"http://x\"\")\","), "{csv}");
    assert!(!csv.contains(",=") && !csv.contains(",\"="), "{csv}");
    assert_eq!(csv.lines().count(), 8, "three came later");

    for entry in std::fs::read_dir(i.log()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(PERSON.len()).any(|part| part == PERSON.as_bytes()));
    }
    let (_, mut lines) = installation.sidecar.take().unwrap();
    let said = lines.so_far();
    assert!(!said.contains(PERSON), "{said}");
}

#[test]
fn callers_columns_hours_and_refusals_are_counted() {
    let installation = read();
    let i = &installation;
    let answer = i.ask(&["principal", APP]);
    let columns = ["action", "key", "column", "outcome", "field_count", "partition_count"];
    assert_eq!(
        rows(&answer, &columns),
        [
            ["Decrypt", "customer-pii", "email", "OK", "3", "2"],
            ["Decrypt", "customer-pii", "iban", "OK", "1", "1"],
        ]
    );
    let total = &answer["total"];
    assert_eq!((&total["field_count"], &total["partition_count"]), (&4.into(), &2.into()));
    assert_eq!(total["denied_count"], 0);
    assert_eq!(i.ask(&["principal", OPS])["total"]["denied_count"], 1);
    assert_eq!(i.ask(&["principal", APP, "--until", "2020-01-01"])["total"]["field_count"], 0);

    let answer = i.ask(&["field", "users.iban"]);
    let shown = rows(&answer, &["principal", "field_count", "new"]);
    assert_eq!(shown, [[APP, "1", "true"]]);
    let remark = answer["remarks"][0].as_str().unwrap();
    assert!(remark.contains("the log begins at"), "{remark}");
    assert!(i.asked(&["field", "users.email"]).contains("NEW"));

    let answer = i.ask(&["volume", "--principal", APP]);
    let fields = rows(&answer, &["field", "field_count"]);
    assert!(fields.contains(&vec!["users.iban".to_owned(), "1".to_owned()]), "{fields:?}");
    let hour = answer["rows"][0]["hour"].as_str().unwrap();
    assert!(hour.ends_with(":00:00Z"), "{hour}");
    let drawn = i.asked(&["volume"]);
    assert!(drawn.contains(&"█".repeat(32)) && drawn.contains("times are UTC"), "{drawn}");
    let csv = i.asked(&["volume", "--output", "csv"]);
    assert!(csv.starts_with("hour,principal,field,field_count\n") && !csv.contains('█'), "{csv}");

    let answer = i.ask(&["denials"]);
    let shown = rows(&answer, &["rule", "cause", "principal", "action", "field", "event_count"]);
    assert_eq!(shown, [["", "NO_RULE", OPS, "Decrypt", "users.iban", "1"]]);
}

#[test]
fn whoever_was_read_is_listed_and_can_be_told_from_who_was_not() {
    let installation = read();
    let i = &installation;
    let answer = i.ask(&["breach", "--principal", APP, "--key-version", "customer-pii/1"]);
    let shown =
        rows(&answer, &["key_version", "column", "partition_token", "row_token", "field_count"]);
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(
        shown
            .iter()
            .all(|row| row[0] == "customer-pii/1" && row[2].len() == 32 && row[3].len() == 32)
    );
    assert_eq!(answer["total"]["partition_count"], 2);
    for nothing in
        [&["breach", "--principal", OPS][..], &["breach", "--key-version", "customer-pii/2"]]
    {
        assert_eq!(i.ask(nothing)["total"]["field_count"], 0, "{nothing:?}");
    }

    let names = i.path("candidates.txt");
    std::fs::write(&names, format!("{PERSON}\n\neve\nbob\neve\n")).unwrap();
    let answer = i.ask(&["breach", "--principal", APP, "--candidates", &names]);
    assert_eq!(
        rows(&answer, &["partition", "affected", "field_count"]),
        [[PERSON, "true", "3"], ["eve", "false", "0"], ["bob", "true", "1"]]
    );
    let many: String = (0..1001).map(|n| format!("n{n}\n")).collect();
    std::fs::write(&names, many).unwrap();
    let many = ["breach", "--principal", APP, "--candidates", &names];
    assert_eq!(i.no_answer("auditor", &many), refused(2, "CANDIDATES_TOO_MANY"));
}

#[test]
fn changes_and_readers_of_the_log_are_listed() {
    let installation = read();
    let i = &installation;
    i.ok("ops", &["key", "rotate", "customer-pii"], b"");
    i.ask(&["volume", "--purpose", "review", "--ticket", "AUDIT-9"]);
    let answer = i.ask(&["changes"]);
    let shown = rows(&answer, &["kind", "principal", "action", "key", "ticket"]);
    for expected in [
        ["CALL", AUDITOR, "SummarizeAccess", "", "AUDIT-9"],
        ["KEY_ROTATED", OPS, "RotateKey", "customer-pii/2", ""],
        ["KEY_CREATED", OPS, "CreateKey", "customer-pii/1", ""],
    ] {
        let expected = expected.map(str::to_owned).to_vec();
        assert!(shown.contains(&expected), "{expected:?} in {shown:?}");
    }
    assert!(shown.iter().any(|row| row[0] == "START"), "{shown:?}");
    assert!(shown.iter().all(|row| !row[2].ends_with("crypt") && row[0] != "DATA_KEY_CREATED"));
    // The count is a later question. It counts the log as it was at the first.
    assert_eq!(answer["total"]["event_count"], shown.len());
    assert_eq!(answer["total"]["row_count"], Value::Null, "nobody counted rows");
}

#[test]
fn local_time_is_read_and_shown_where_it_is_asked_for() {
    let installation = read();
    let i = &installation;
    let line = ["audit", "volume", "--since", "2026-01-01 02:00", "--output", "json"];
    for (more, since) in
        [(&[][..], "2026-01-01T02:00:00Z"), (&["--local"][..], "2026-01-01T02:00:00+02:00")]
    {
        let mut command = i.command("auditor", &[&line, more].concat());
        let output = command.env("TZ", "TST-2").output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let hour = answer["rows"][0]["hour"].as_str().unwrap();
        assert_eq!((&answer["since"], &hour[13..19]), (&since.into(), ":00:00"), "{answer}");
        assert_eq!(hour[19..], since[19..]);
    }
}

#[test]
fn events_are_exported_once_each_in_their_order_and_to_a_new_file_only() {
    let installation = read();
    let i = &installation;
    let lines = i.asked(&["export", "--purpose", "siem", "--ticket", "AUDIT-5"]);
    let exported: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let numbers: Vec<_> =
        exported.iter().map(|line| line["metadata"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..exported.len() as u64).collect::<Vec<_>>());
    assert!(exported.iter().all(|line| line["class_uid"] == 6005));
    let decrypts = exported.iter().filter(|line| line["type_uid"] == 600_510);
    assert_eq!(decrypts.count(), 5, "four that were done and one that was denied");
    assert!(!lines.contains(PERSON) && !lines.contains("secret"));
    let found = i.ask(&["list", "--ticket", "AUDIT-5"]);
    assert_eq!(found["audit_events"][0]["purpose"], "siem", "the export is on record");

    let file = i.path("denied.jsonl");
    let denied = ["export", "--outcome", "denied", "--file", &file];
    assert_eq!(i.asked(&denied), "");
    let denied_lines = std::fs::read_to_string(&file).unwrap();
    let expected: Vec<_> = lines.lines().filter(|line| line.contains("NO_RULE")).collect();
    assert_eq!(denied_lines.lines().collect::<Vec<_>>(), expected);
    assert_eq!(i.no_answer("auditor", &denied), refused(6, "FILE_EXISTS"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), denied_lines);
    let other = i.path("other.jsonl");
    let by_app = ["export", "--file", &other];
    assert_eq!(i.no_answer("app", &by_app), refused(4, "PERMISSION_DENIED"));
    assert!(!Path::new(&other).exists(), "nothing is made for a question that is refused");
}

#[test]
fn every_question_can_be_about_one_end_user() {
    let installation = read();
    let i = &installation;
    let questions: [&[&str]; 6] = [
        &["subject", "--partition", PERSON],
        &["principal", APP],
        &["field", "users.email"],
        &["breach", "--principal", APP],
        &["volume"],
        &["denials"],
    ];
    for question in questions {
        assert_ne!(i.ask(question)["total"]["event_count"], 0, "{question:?}");
        // No call of these had one.
        let narrowed = [question, &["--end-user", "https://login.example.com", "alice"]].concat();
        let answer = i.ask(&narrowed);
        assert_eq!(answer["total"]["event_count"], 0, "{question:?}");
        assert_eq!(answer["rows"], Value::Array(Vec::new()), "{question:?}");
        let half = [question, &["--end-user", "https://login.example.com", ""]].concat();
        assert_eq!(i.no_answer("auditor", &half), refused(2, "QUERY_INVALID"), "{question:?}");
        let alone = [question, &["--end-user", "alice"]].concat();
        assert_eq!(i.no_answer("auditor", &alone), refused(2, ""), "{question:?}");
    }
}

#[test]
fn every_command_of_the_guide_answers() {
    let mut installation = read();
    assert_eq!(installation.stop(), 0);
    crate::archiving::configure(&installation);
    installation.serve();
    let i = &installation;
    std::fs::write(i.path("candidates.txt"), format!("{PERSON}\n")).unwrap();
    std::fs::copy(i.home().join("tls/app.pem"), i.path("stolen.pem")).unwrap();
    std::fs::copy(i.log().join("log.pub"), i.path("log.pub")).unwrap();
    std::os::unix::fs::symlink(i.home().join("state"), i.path("STATE")).unwrap();
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/auditing.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let mut questions = std::collections::BTreeSet::new();
    let mut in_block = false;
    for line in guide.lines() {
        if line.starts_with("```") {
            in_block = line == "```sh";
        } else if in_block {
            let (line, kept) = line.split_once(" > ").map_or((line, None), |(a, b)| (a, Some(b)));
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[0], "fieldseal", "{line}");
            questions.insert(words[2]);
            // Reading does not mean erasing or moving.
            let caller = match words[2] {
                "redact" | "archive" => "ops",
                _ => "auditor",
            };
            let run = i.command(caller, &words[1..]).current_dir(i.dir.path()).output().unwrap();
            assert!(run.status.success(), "{line}: {}", text(&run.stderr));
            let silent = words.contains(&"--file");
            assert_eq!(run.stdout.is_empty(), silent, "{line}");
            if let Some(kept) = kept {
                std::fs::write(i.path(kept), &run.stdout).unwrap();
            }
        }
    }
    assert_eq!(questions.len(), 17, "{questions:?}");
}

#[test]
fn a_person_s_detail_is_erased_once_that_was_confirmed() {
    let installation = read();
    let i = &installation;
    let redact =
        |more: &[&'static str]| [&["audit", "redact", "--partition", PERSON], more].concat();
    let ops = |more: &[&'static str]| ended(&i.run("ops", &redact(more), b""));
    assert_eq!(i.no_answer("auditor", &redact(&[])[1..]), refused(4, "PERMISSION_DENIED"));
    for (more, reason) in
        [(&[][..], "CONFIRMATION_REQUIRED"), (&["--confirm", "bob"], "CONFIRMATION_REQUIRED")]
    {
        assert_eq!(ops(more), refused(2, reason), "{more:?}");
    }
    let later = ["audit", "redact", "--before", "2999-01-01"];
    assert_eq!(ended(&i.run("ops", &later, b"")), refused(2, "QUERY_INVALID"));
    assert_eq!(i.run("ops", &["audit", "redact"], b"").status.code(), Some(2));
    let would = i.json("ops", &redact(&["--validate-only"]));
    let count = would["event_count"].as_u64().unwrap();
    assert!(count >= 4, "{would}");
    let subject = ["subject", "--partition", PERSON];
    assert!(!rows(&i.ask(&subject), &["event"]).is_empty());
    // The question of the auditor has named the person as well.
    let done = i.json("ops", &redact(&["--confirm", PERSON, "--ticket", "DSAR-18"]));
    assert!(done["event_count"].as_u64().unwrap() > count, "{done}");
    assert!(rows(&i.ask(&subject), &["event"]).is_empty());
    let listed = i.ask(&["list", "--action", "Decrypt"]);
    let erased = listed["audit_events"].as_array().unwrap().iter();
    assert!(erased.filter(|event| event["redacted"] == true).count() >= 3, "{listed}");
    let log = i.log();
    let key = log.join("log.pub");
    let (log, key) = (log.to_str().unwrap(), key.to_str().unwrap());
    let verify = ["audit", "verify", "--log", log, "--public-key", key];
    assert_eq!(ended(&i.run("ops", &verify, b"")), refused(10, "AUDIT_LOG_REDACTED"));
    // The next run reads what is new, and does not forget what the one before said.
    let state = i.path("state");
    let on = [&verify[..], &["--state", &state]].concat();
    for _ in 0..2 {
        assert_eq!(ended(&i.run("ops", &on, b"")), refused(10, "AUDIT_LOG_REDACTED"));
    }
    let read_on = i.run("ops", &[&on[..], &["--output", "json"]].concat(), b"");
    let read_on: serde_json::Value = serde_json::from_slice(&read_on.stdout).unwrap();
    assert!(read_on["resumed_from"].as_u64().unwrap() > 0, "{read_on}");
    // Asking about the person again left a token; that goes as well, and then there is nothing.
    ops(&["--confirm", PERSON]);
    assert_eq!(ops(&["--confirm", PERSON]), refused(3, "NOTHING_TO_REDACT"));
}
