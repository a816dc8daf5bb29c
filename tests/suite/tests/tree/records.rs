//! The kinds of audit records, and the document that says what each is.

use std::collections::BTreeSet;
use std::fs::read_to_string;

use super::root;

fn is_name(text: &str) -> bool {
    text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[test]
fn the_document_says_of_every_kind_of_record_when_there_is_one() {
    let proto = read_to_string(root().join("proto/fieldseal/log/v1/log.proto")).unwrap();
    let (comment, _) = proto.split_once("uint32 kind = 1;").expect("a record has a kind");
    let (_, comment) = comment.rsplit_once("message Record {").unwrap();
    let kinds: BTreeSet<_> =
        comment.split([' ', ',', '.', '\n']).filter(|word| is_name(word)).collect();
    let document = read_to_string(root().join("docs/audit-log.md")).unwrap();
    let (_, table) =
        document.split_once("| Record | When |").expect("docs/audit-log.md has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let names = rows.filter_map(|row| row.split('|').nth(1));
    let told: BTreeSet<_> = names.flat_map(|cell| cell.split('`')).filter(|w| is_name(w)).collect();
    assert!(kinds.len() > 30, "the kinds are written differently now: {kinds:?}");
    assert_eq!(kinds, told);
}
