//! The log lines that have a name, and the document that lists them.

use std::collections::BTreeSet;

use super::{root, rust_files};

/// What stands between `before` and the next quotation mark or backtick, as often as it occurs.
fn all_after<'t>(text: &'t str, before: &str) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(['"', '`']).next())
}

#[test]
fn the_document_lists_every_named_log_line() {
    let mark = ["event = ", "\""].concat();
    let sources = rust_files("src");
    let told: BTreeSet<_> = sources.iter().flat_map(|(_, text)| all_after(text, &mark)).collect();
    let document = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let (_, table) = document.split_once("| Event |").expect("docs/metrics.md has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let names = rows.filter_map(|row| row.split('|').nth(1));
    let listed: BTreeSet<_> =
        names.flat_map(|cell| cell.split(", ").map(|name| name.trim().trim_matches('`'))).collect();
    assert!(told.len() > 10, "the lines are written differently now");
    assert_eq!(told, listed);
}
