//! What is done to a log whose oldest segments were archived, and to the archive.

use std::fs;

use crate::forge::{Forgery, Segment};
use crate::{Case, Expected, Logs};

fn case(
    name: &'static str,
    falsify: fn(&Logs, &Forgery) -> Expected,
    with_archive: fn(&Logs) -> Expected,
) -> Case {
    let with_archive = Some(with_archive);
    Case { name, falsify, with_checkpoint: None, with_archive, believes_the_log: false }
}

/// The archived log in the place of the other one, and the archive beside it.
fn instead(logs: &Logs, forgery: &Forgery) -> Forgery {
    logs.good.iter().for_each(|segment| forgery.remove(segment));
    let name = forgery.dir.file_name().unwrap().to_str().unwrap();
    let archive = Forgery { dir: forgery.dir.with_file_name(format!("{name}.archive")) };
    fs::create_dir(&archive.dir).unwrap();
    for (forgery, segments) in [(forgery, &logs.archived.0), (&archive, &logs.archived.1)] {
        for segment in segments {
            fs::write(forgery.path(segment), &segment.bytes).unwrap();
        }
    }
    archive
}

/// The verdict of what is said to be archived.
fn beginning(verdict: &'static str, logs: &Logs) -> Expected {
    Expected::Range(verdict, 0, logs.archived.1[0].name.clone(), 0)
}

fn at(verdict: &'static str, segment: &Segment, nth: usize) -> Expected {
    let frame = segment.frames[nth];
    Expected::Range(verdict, frame.first, segment.name.clone(), frame.at as u64)
}

/// The segment with the record of what was archived, and its frame.
fn record(logs: &Logs) -> (&Segment, usize) {
    let of = |segment: &Segment| segment.frames.iter().position(|f| f.first == logs.records);
    logs.archived.0.iter().find_map(|segment| Some((segment, of(segment)?))).unwrap()
}

pub(crate) fn all() -> Vec<Case> {
    [archives(), records()].concat()
}

/// What is done to the archive.
fn archives() -> Vec<Case> {
    vec![
        case(
            "archived-as-it-was-done",
            |logs, forgery| {
                instead(logs, forgery);
                beginning("ARCHIVED", logs)
            },
            |_| Expected::Ok,
        ),
        case(
            "archived-segment-altered",
            |logs, forgery| {
                let first = &logs.archived.1[0];
                let frame = first.frames[4];
                let archive = instead(logs, forgery);
                archive.repaired(first, frame, |bytes| bytes[frame.leaves + 9 - frame.at] ^= 1);
                beginning("ARCHIVED", logs)
            },
            |logs| at("TAMPERED", &logs.archived.1[0], 4),
        ),
        case(
            "archived-segment-missing-in-the-archive",
            |logs, forgery| {
                instead(logs, forgery).remove(&logs.archived.1[1]);
                beginning("ARCHIVED", logs)
            },
            |logs| {
                let second = &logs.archived.1[1];
                Expected::Range("MISSING", second.first, second.name.clone(), 0)
            },
        ),
        case(
            "archived-segment-replaced-by-another-log-s",
            |logs, forgery| {
                let (archive, second) = (instead(logs, forgery), &logs.archived.1[1]);
                fs::write(archive.path(second), &logs.other[0].bytes).unwrap();
                beginning("ARCHIVED", logs)
            },
            |logs| {
                let second = &logs.archived.1[1];
                Expected::Range("TAMPERED", second.first, second.name.clone(), 0)
            },
        ),
    ]
}

/// What is done to the log.
fn records() -> Vec<Case> {
    vec![
        case(
            "record-of-an-archiving-cut-off",
            |logs, forgery| {
                instead(logs, forgery);
                let (last, nth) = record(logs);
                let at = last.frames[nth].at;
                forgery.edit(last, |bytes| bytes[at..].fill(0));
                beginning("MISSING", logs)
            },
            |_| Expected::Ok,
        ),
        case(
            "record-of-an-archiving-altered",
            |logs, forgery| {
                instead(logs, forgery);
                let (last, nth) = record(logs);
                let frame = last.frames[nth];
                forgery.repaired(last, frame, |bytes| bytes[frame.leaves + 9 - frame.at] ^= 1);
                at("TAMPERED", last, nth)
            },
            |logs| {
                let (last, nth) = record(logs);
                at("TAMPERED", last, nth)
            },
        ),
        case(
            "more-removed-than-was-archived",
            |logs, forgery| {
                instead(logs, forgery);
                let third = &logs.archived.0[0];
                forgery.remove(third);
                Expected::Range("MISSING", third.first, third.name.clone(), 0)
            },
            |logs| {
                let third = &logs.archived.0[0];
                Expected::Range("MISSING", third.first, third.name.clone(), 0)
            },
        ),
        case(
            "archived-segments-removed-and-the-record-of-a-log-that-archived-nothing",
            |logs, forgery| {
                instead(logs, forgery);
                logs.archived.0.iter().for_each(|segment| forgery.remove(segment));
                for segment in &logs.good[2..] {
                    fs::write(forgery.path(segment), &segment.bytes).unwrap();
                }
                beginning("MISSING", logs)
            },
            |_| Expected::Ok,
        ),
    ]
}
