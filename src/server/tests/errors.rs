//! The page of errors says what the code says, no more and no less.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a page that cannot be read fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fieldseal_model::MalformedReason;
use fieldseal_server::CallRefusal;
use fieldseal_service::errors::ANSWERS;
use tonic::Code;
use tonic_types::StatusExt as _;

/// Its code, and whether waiting alone helps.
type Row = (String, bool);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The part of the page under one heading of the second level.
fn part(heading: &str) -> String {
    let page = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

/// `Code::InvalidArgument` as the page writes it.
fn written(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// What stands in backticks.
fn names(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The cells of a table's row that begins with a name.
fn cells(line: &str) -> Option<Vec<&str>> {
    line.starts_with("| `").then(|| line.trim_matches('|').split('|').map(str::trim).collect())
}

fn page() -> BTreeMap<String, Row> {
    let mut code = String::new();
    let mut rows = BTreeMap::new();
    for line in part("Reasons of the wire").lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            code = names(heading).next().unwrap();
        }
        let Some(cells) = cells(line) else { continue };
        assert_eq!(cells.len(), 4, "{line}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{line}");
        let again = cells[3] == "yes, `RetryInfo`";
        let reason = names(cells[0]).next().unwrap();
        assert!(rows.insert(reason, (code.clone(), again)).is_none(), "twice: {line}");
    }
    rows
}

fn code() -> BTreeMap<String, Row> {
    let malformed = MalformedReason::ALL
        .iter()
        .map(|reason| (reason.as_str().to_owned(), (written(Code::InvalidArgument), false)));
    let handlers =
        ANSWERS.iter().map(|row| (row.reason.to_owned(), (written(row.code), row.retry)));
    let transport = CallRefusal::ALL.iter().map(|refusal| {
        let status = refusal.status();
        let again = status.get_details_retry_info().is_some();
        (refusal.reason().to_owned(), (written(status.code()), again))
    });
    let mut rows = BTreeMap::new();
    for (reason, row) in malformed.chain(handlers).chain(transport) {
        assert!(rows.insert(reason.clone(), row).is_none(), "{reason} has two rows");
    }
    rows
}

#[test]
fn the_page_lists_every_reason_of_the_wire_with_its_code() {
    let (page, code) = (page(), code());
    assert!(code.len() > 50, "{}", code.len());
    for (reason, row) in &code {
        assert_eq!(page.get(reason), Some(row), "docs/errors.md: {reason}");
    }
    for reason in page.keys() {
        assert!(code.contains_key(reason), "docs/errors.md lists {reason}, which nothing says");
    }
}

/// The sources from which the command line takes its own reasons, without their tests.
fn sources(below: &Path, found: &mut String) {
    if below.is_dir() {
        for entry in fs::read_dir(below).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if below.extension().is_some_and(|kind| kind == "rs") {
        let text = fs::read_to_string(below).unwrap();
        found.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap());
    }
}

/// Kinds of records that the command line tells apart.
const KINDS: [&str; 3] = ["KEY_UPDATED", "POLICY_RELOADED", "SCRUB_PENDING"];

/// The names in quotation marks that are reasons and not parts of one, variables or titles.
fn quoted(text: &str) -> BTreeSet<String> {
    let is_reason = |part: &str| {
        let letters = part.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        let whole = part.contains('_') && !part.ends_with('_');
        letters && whole && !part.starts_with("FIELDSEAL_") && !part.starts_with("CARGO_")
    };
    text.lines()
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(|part| is_reason(part))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_page_lists_every_reason_of_the_command_line() {
    let mut text = String::new();
    let places = [
        "src/cli/src",
        "src/server/src/run.rs",
        "src/audit/src/verify.rs",
        "src/server/src/failure.rs",
        "src/engine/src/backup/error.rs",
        "src/engine/src/export.rs",
        "src/engine/src/outside.rs",
        "src/store/src/copy.rs",
    ];
    for source in places {
        sources(&root().join(source), &mut text);
    }
    let said = quoted(&text);
    assert!(said.len() > 50, "the reasons are written differently now: {said:?}");
    let mut listed: BTreeSet<_> = part("Reasons of the command line")
        .lines()
        .filter_map(cells)
        .flat_map(|cells| names(cells[0]).collect::<Vec<_>>())
        .collect();
    for reason in &listed {
        // A name without an underscore is looked for as it is.
        let quoted = format!("\"{reason}\"");
        assert!(text.contains(&quoted), "docs/errors.md lists {reason}, which nothing says");
    }
    listed.extend(code().into_keys());
    // The names of gRPC's codes, which stand where a server gives no reason.
    listed.extend((0..17).map(|number| written(Code::from_i32(number))));
    for reason in said.iter().filter(|reason| !KINDS.contains(&reason.as_str())) {
        assert!(listed.contains(reason), "docs/errors.md does not list {reason}");
    }
}
