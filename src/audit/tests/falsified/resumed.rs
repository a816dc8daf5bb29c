//! What a verifier finds that reads on from where an earlier run came to.

use std::path::Path;

use fieldseal_audit::verify::{self, Files, Report, State, Verdict};

use crate::forge::Forgery;
use crate::{Logs, copy, key, logs, redaction};

fn resume(logs: &Logs, log: &Path, state: Option<&State>) -> Report {
    let key = key(&logs.at("good"));
    let found = verify::resume(Files::of(log), &key, state, false, None, |_| {}).unwrap();
    // What is kept of it is what is read again.
    let read = found.state.as_ref().map(|state| State::parse(&state.text(), &key).unwrap());
    assert_eq!(read, found.state);
    found
}

#[tokio::test]
async fn what_is_missing_and_not_named_is_found_in_what_is_new_too() {
    let logs = logs().await;
    let state = resume(&logs, &logs.at("old"), None).state;
    let segment = logs.good.last().unwrap();
    let frame = segment.frames[2];
    assert!(frame.first > state.as_ref().unwrap().records());
    let dir = logs.at("falsified");
    copy(&logs.at("good"), &dir);
    redaction::with_detail(&Forgery { dir: dir.clone() }, segment, frame, &[]);
    let found = resume(&logs, &dir, state.as_ref());
    let worst = found.worst().unwrap();
    assert_eq!((worst.verdict, worst.first), (Verdict::Tampered, frame.first));
    assert_eq!(found.resumed_from, state.unwrap().records());
    assert_eq!(found.state, None);
}

#[tokio::test]
async fn what_was_erased_before_is_said_again_and_what_is_new_is_judged_by_itself() {
    let logs = logs().await;
    let redacted = logs.at("redacted");
    let first = resume(&logs, &redacted, None);
    assert_eq!((first.verdict(), first.resumed_from), (Verdict::Redacted, 0));
    let state = first.state.unwrap();
    let again = resume(&logs, &redacted, Some(&state));
    assert_eq!((again.verdict(), again.resumed_from), (Verdict::Redacted, state.records()));
    let range = &again.ranges[0];
    assert_eq!((range.first, range.end), (0, Some(state.records())));
    assert_eq!(again.ranges.len(), 1, "nothing is new: {:?}", again.ranges);
    assert_eq!(again.state, Some(state));
}

#[tokio::test]
async fn a_log_that_is_read_on_is_judged_as_one_that_is_read_from_its_beginning() {
    let logs = logs().await;
    let state = resume(&logs, &logs.at("old"), None).state;
    let mut resumed = 0;
    for case in redaction::all() {
        let dir = logs.at(case.name);
        copy(&logs.at("good"), &dir);
        (case.falsify)(&logs, &Forgery { dir: dir.clone() });
        let (whole, rest) = (resume(&logs, &dir, None), resume(&logs, &dir, state.as_ref()));
        resumed += u32::from(rest.resumed_from > 0);
        let new = whole
            .ranges
            .iter()
            .filter(|range| range.verdict != Verdict::Ok && range.first >= rest.resumed_from);
        for range in new {
            assert!(rest.ranges.contains(range), "{}: {range:?} in {:?}", case.name, rest.ranges);
        }
    }
    assert!(resumed > 0, "some are read from where the earlier run came to");
}
