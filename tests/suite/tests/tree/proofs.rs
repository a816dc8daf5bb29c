//! The one way out: a withheld value is opened in one place, where its receipt is.

use super::rust_files;

/// Where a text stands in the sources of the audit floor, tests excluded: one path for each time.
fn places(of: &str) -> Vec<String> {
    let sources = rust_files("src/audit/src").into_iter();
    let sources = sources.filter(|(path, _)| !path.contains("tests"));
    sources.flat_map(|(path, text)| vec![path; written(&text).matches(of).count()]).collect()
}

/// A text without its comments and without its tests.
fn written(text: &str) -> String {
    let source = text.split("#[cfg(test)]").next().unwrap_or_default();
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_withheld_value_is_opened_in_one_place() {
    assert_eq!(places("fn release("), ["src/audit/src/proofs.rs"]);
    // Nobody outside the floor can call it.
    assert_eq!(places("pub(crate) fn release("), ["src/audit/src/proofs.rs"]);
    assert_eq!(places(".release("), ["src/audit/src/journal.rs"]);
    assert_eq!(places("::release"), [""; 0]);
    // Once into `Recorded`, and once out of it.
    assert_eq!(places("self.value"), ["src/audit/src/proofs.rs"; 2]);
    assert_eq!(places("Recorded {"), ["src/audit/src/proofs.rs"]);
}

#[test]
fn a_receipt_is_made_in_one_place() {
    assert_eq!(places("pub(crate) fn new(log"), ["src/audit/src/proofs.rs"]);
    assert_eq!(places("Receipt::new(").len(), 1);
}
