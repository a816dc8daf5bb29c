//! `records.csv`: one row for each item of a record, or for each decision, or for the record.
//!
//! `verify.py` makes the same bytes from `records.bin`, so what is written here is a format
//! (docs/evidence.md).

use chrono::DateTime;
use fieldseal_audit::verify::{Detail, Entry, Field};
use fieldseal_audit::{Kind, Outcome};
use fieldseal_model::{Action, Timestamp, hex};

use crate::questions::safe;

/// The first line.
pub(super) const HEADER: &str = "index,time,in_scope,kind,principal,certificate,action,outcome,purpose,ticket,end_user,item,key,\
     key_version,table,column,row,partition,item_outcome,rule,cause,note,detail\n";

/// The rows of a record.
pub(super) fn rows(entry: &Entry, in_scope: bool) -> String {
    let none = [Field { outcome: entry.outcome, ..Field::default() }];
    let fields = if entry.fields.is_empty() { &none[..] } else { &entry.fields };
    fields.iter().map(|field| row(entry, field, in_scope)).collect()
}

fn row(entry: &Entry, field: &Field, in_scope: bool) -> String {
    let version =
        if field.key_version == 0 { String::new() } else { field.key_version.to_string() };
    let cells = [
        entry.index.to_string(),
        instant(entry.time),
        if in_scope { "yes" } else { "no" }.to_owned(),
        kind(entry.kind),
        safe(&entry.principal),
        hex::encode(&entry.certificate),
        action(entry.action),
        outcome(entry.outcome),
        safe(&entry.purpose),
        safe(&entry.ticket),
        hex::encode(&entry.end_user),
        field.item.map(|item| item.to_string()).unwrap_or_default(),
        safe(&field.key),
        version,
        safe(&field.table),
        safe(&field.column),
        hex::encode(&field.row),
        hex::encode(&field.partition),
        outcome(field.outcome),
        safe(&field.rule),
        safe(&field.cause),
        safe(&entry.note),
        detail(entry.detail).to_owned(),
    ];
    format!("{}\n", cells.join(","))
}

/// RFC 3339, UTC, to the nanosecond: as it stands in the log.
pub(super) fn instant(at: Timestamp) -> String {
    DateTime::from_timestamp_nanos(at.unix_nanos()).format("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()
}

/// A name, or the number of one that a newer program wrote.
pub(super) fn kind(code: u32) -> String {
    Kind::from_code(code).map_or_else(|| code.to_string(), |kind| kind.as_str().to_owned())
}

/// The same; empty for the process itself.
pub(super) fn action(code: u32) -> String {
    match u8::try_from(code).ok().and_then(Action::from_code) {
        Some(action) => action.as_str().to_owned(),
        None if code == 0 => String::new(),
        None => code.to_string(),
    }
}

/// The same; empty for an item that was redacted.
pub(super) fn outcome(code: u32) -> String {
    match Outcome::from_code(code) {
        Some(outcome) => outcome.as_str().to_owned(),
        None if code == 0 => String::new(),
        None => code.to_string(),
    }
}

fn detail(there: Detail) -> &'static str {
    match there {
        Detail::None => "none",
        Detail::Whole => "whole",
        Detail::Partly => "partly",
        Detail::Gone => "redacted",
    }
}

#[cfg(test)]
mod tests {
    use fieldseal_audit::Started;

    use super::*;

    fn entry() -> Entry {
        Entry {
            index: 7,
            kind: 1,
            time: Timestamp::from_unix_nanos(1_700_000_000_000_000_001),
            principal: "dns:a".into(),
            certificate: vec![0xcd; 2],
            action: 4,
            outcome: 4,
            purpose: "=1,\"x\"".into(),
            ticket: "a\nb".into(),
            end_user: vec![0xab; 2],
            note: String::new(),
            policy_digest: vec![],
            previous_policy_digest: vec![],
            started: Started::default(),
            count: 0,
            fields: vec![],
            detail: Detail::Gone,
        }
    }

    #[test]
    fn a_record_has_a_row_for_each_item_and_one_if_it_has_none() {
        let bare = rows(&entry(), true);
        assert_eq!(
            bare,
            "7,2023-11-14T22:13:20.000000001Z,yes,CALL,dns:a,cdcd,BatchDecrypt,PARTIAL,\
             \"'=1,\"\"x\"\"\",a\\nb,abab,,,,,,,,PARTIAL,,,,redacted\n"
        );
        assert_eq!(bare.matches(',').count() - 1, HEADER.matches(',').count(), "one is quoted");
        let field = |item, outcome| Field { item, outcome, key_version: 2, ..Field::default() };
        let mut two = entry();
        two.fields = vec![field(Some(0), 1), field(Some(1), 3)];
        let two = rows(&two, false);
        assert_eq!(two.lines().count(), 2);
        assert!(two.contains(",no,") && two.contains(",0,,2,,,,,OK,") && two.contains("FAILED"));
    }

    #[test]
    fn what_a_newer_program_wrote_has_a_number() {
        assert_eq!(
            (kind(9999), action(9999), outcome(99)),
            ("9999".into(), "9999".into(), "99".into())
        );
        assert_eq!(
            (kind(16), action(0), action(2)),
            ("START".into(), String::new(), "Decrypt".into())
        );
    }

    /// The tables of names in the verifier are those of the log.
    #[test]
    fn the_verifier_has_the_same_names() {
        let script = include_str!("verify.py");
        let table = |name: &str| -> Vec<(u32, String)> {
            let (_, rest) = script.split_once(&format!("\n{name} = {{\n")).unwrap();
            let lines = rest.split("\n}").next().unwrap().lines();
            let pair = |line: &str| {
                let (number, name) = line.trim().trim_end_matches(',').split_once(": ").unwrap();
                (number.parse().unwrap(), name.trim_matches('"').to_owned())
            };
            lines.map(pair).collect()
        };
        let all = |name: &dyn Fn(u32) -> Option<String>| -> Vec<(u32, String)> {
            (0..1000).filter_map(|code| Some((code, name(code)?))).collect()
        };
        let kinds = all(&|code| Some(Kind::from_code(code)?.as_str().to_owned()));
        let actions =
            all(&|code| Some(Action::from_code(u8::try_from(code).ok()?)?.as_str().to_owned()));
        let outcomes = all(&|code| Some(Outcome::from_code(code)?.as_str().to_owned()));
        assert_eq!((table("KINDS"), table("ACTIONS")), (kinds, actions));
        assert_eq!(table("OUTCOMES"), outcomes);
    }
}
