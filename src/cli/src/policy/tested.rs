//! `policy test`: what a file expects of a policy, and what it says.

use std::fs::File;
use std::io::Read as _;

use fieldseal_policy::{Answer, MAX_TEST_BYTES, Policy, Tested};
use serde_json::{Value, json};

use super::{invalid, source};
use crate::arguments::PolicyTestArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, counted};

/// Runs `policy test`. An answer that differs fails the command, after all of them are shown.
pub(super) fn run(arguments: &PolicyTestArguments, output: &Output) -> Result<(), Failure> {
    let (settings, _) = source(&arguments.source)?;
    let text = read(arguments)?;
    let policy = Policy::load(&settings).map_err(|e| invalid(&e))?;
    let shown = arguments.file.display().to_string();
    let tested = policy.test(&shown, text);
    let tested = tested.map_err(|e| Failure::usage("POLICY_TEST_INVALID", e.to_string()))?;
    let differ: Vec<&Tested> = tested.iter().filter(|test| !test.passed).collect();
    let passed = tested.len() - differ.len();
    output.show(
        || {
            json!({
                "passed": passed, "differ": differ.len(),
                "tests": tested.iter().map(|test| test_json(&shown, test)).collect::<Vec<_>>(),
            })
        },
        || {
            let mut table = Table::bare();
            for test in &differ {
                table.row([
                    format!("{shown}:{}", test.line),
                    label(test),
                    format!("expected {}", said(&test.expected)),
                    format!("is {}", said(&test.found)),
                ]);
            }
            let passed = counted(passed as u64, "test");
            format!("{}{passed} passed, {} differ", table.text(), differ.len())
        },
    )?;
    match differ.len() {
        0 => Ok(()),
        count => {
            let what = format!("{} of {shown} differ", counted(count as u64, "answer"));
            Err(Failure::new(Exit::Differs, "POLICY_TEST_DIFFERS", what))
        }
    }
}

fn read(arguments: &PolicyTestArguments) -> Result<String, Failure> {
    let file = &arguments.file;
    let failed = |e: &std::io::Error| Failure::io("cannot read", file, e);
    let mut text = String::new();
    let opened = File::open(file).map_err(|e| failed(&e))?;
    opened.take(MAX_TEST_BYTES + 1).read_to_string(&mut text).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => {
            Failure::usage("POLICY_TEST_INVALID", format!("{} is not UTF-8", file.display()))
        }
        _ => failed(&e),
    })?;
    if text.len() as u64 > MAX_TEST_BYTES {
        let what = format!("{} is longer than {MAX_TEST_BYTES} bytes", file.display());
        return Err(Failure::usage("POLICY_TEST_INVALID", what));
    }
    Ok(text)
}

/// The test's name, or its call.
fn label(test: &Tested) -> String {
    match test.name.is_empty() {
        true => format!("{} by {}", test.action.as_str(), test.principal),
        false => test.name.clone(),
    }
}

fn said(answer: &Answer) -> String {
    let word = if answer.allowed { "allow" } else { "deny" };
    match answer.rule.as_deref() {
        None => word.to_owned(),
        Some("") => format!("{word} (no rule)"),
        Some(rule) => format!("{word} by {rule}"),
    }
}

fn test_json(file: &str, test: &Tested) -> Value {
    let answer =
        |answer: &Answer| json!({ "allowed": answer.allowed, "rule": answer.rule.as_deref() });
    json!({
        "file": file, "line": test.line, "name": test.name, "passed": test.passed,
        "principal": test.principal.as_str(), "action": test.action.as_str(),
        "expected": answer(&test.expected), "found": answer(&test.found),
    })
}
