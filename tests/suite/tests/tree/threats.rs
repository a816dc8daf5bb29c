//! The threat model names tests: each exists, and each measure has one.

use super::{files, nothing_in};

const DOCUMENT: &str = "docs/threat-model.md";
/// The head of a table whose rows each need a test.
const LAST_COLUMN: &str = "| Shown by |";

/// The tests that a text names, as (file, test).
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|name| name.split_once("::")).filter(|(file, _)| file.contains('/')).collect()
}

/// True if a file holds a test of this name: in Rust a function under `#[test]`, in a shell script a
/// function that a `check` runs.
fn holds(file: &str, text: &str, test: &str) -> bool {
    if !file.ends_with(".rs") {
        let defined = text.lines().any(|line| line == format!("{test}() {{"));
        let run = text
            .lines()
            .any(|line| line.starts_with("check '") && line.ends_with(&format!("' {test}")));
        return defined && run;
    }
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if function.and_then(|rest| rest.strip_prefix(test)).is_some_and(|r| r.starts_with('(')) {
            let attributes = lines.iter().rev().take_while(|line| line.starts_with(['#', '/']));
            return attributes
                .into_iter()
                .any(|line| line.ends_with("test]") || line.contains("::test("));
        }
        lines.push(line);
    }
    false
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let all = files("");
    let text_of = |path: &str| {
        let found = all.iter().find(|(found, _)| found == path);
        found.map(|(_, content)| String::from_utf8_lossy(content).into_owned())
    };
    let document = text_of(DOCUMENT).unwrap();
    let named = named(&document);
    assert!(named.len() > 50, "{} tests are named", named.len());
    let breaches = named.iter().filter_map(|(file, test)| match text_of(file) {
        None => Some(format!("{DOCUMENT}: there is no {file}")),
        Some(text) if holds(file, &text, test) => None,
        Some(_) => Some(format!("{DOCUMENT}: {file} has no test {test}")),
    });
    nothing_in(breaches.collect());
}

#[test]
fn every_measure_has_a_test() {
    let all = files("docs");
    let (_, content) = all.iter().find(|(path, _)| path == DOCUMENT).unwrap();
    let document = String::from_utf8_lossy(content);
    let (mut inside, mut rows, mut breaches) = (false, 0, Vec::new());
    for (at, line) in document.lines().enumerate() {
        if line.ends_with(LAST_COLUMN) {
            inside = true;
        } else if !line.starts_with('|') {
            inside = false;
        } else if inside && !line.starts_with("|---") {
            rows += 1;
            if named(line).is_empty() {
                breaches.push(format!("{DOCUMENT}:{}: no test shows this", at + 1));
            }
        }
    }
    assert!(rows > 30, "{rows} rows");
    nothing_in(breaches);
}

#[test]
fn a_test_that_is_none_would_be_found() {
    let rust = "#[tokio::test]\nasync fn one() {}\n\n/// Not a test.\nfn two() {}\n\
                #[test]\n#[ignore = \"slow\"]\nfn three() {}\n#[tokio::test(flavor = \"x\")]\nasync fn four() {}\n";
    for (test, is) in
        [("one", true), ("two", false), ("three", true), ("four", true), ("on", false)]
    {
        assert_eq!(holds("a/b.rs", rust, test), is, "{test}");
    }
    let shell = "one() {\n}\ntwo() {\n}\ncheck 'it works' one\n";
    assert!(holds("a/run", shell, "one"));
    assert!(!holds("a/run", shell, "two"));
    assert_eq!(named("`a/b.rs::c` and `d::e` and `f`"), [("a/b.rs", "c")]);
}
