//! What only something that was kept elsewhere tells, and what is no falsification.

use std::fs;

use crate::forge::{self, Forgery, Segment};
use crate::{Case, Expected, Logs, ORIGIN, kit};

fn case(
    name: &'static str,
    falsify: fn(&Logs, &Forgery) -> Expected,
    with_checkpoint: fn(&Logs) -> Expected,
) -> Case {
    let with_checkpoint = Some(with_checkpoint);
    Case { name, falsify, with_checkpoint, with_archive: None, believes_the_log: false }
}

/// What the checkpoint tells of a log that ends with this segment.
fn missing(segment: &Segment, record: u64, offset: usize) -> Expected {
    Expected::Range("MISSING", record, segment.name.clone(), offset as u64)
}

/// Puts these segments in the place of all.
fn instead(logs: &Logs, forgery: &Forgery, segments: &[Segment]) {
    logs.good.iter().for_each(|segment| forgery.remove(segment));
    for segment in segments {
        fs::write(forgery.path(segment), &segment.bytes).unwrap();
    }
}

/// The number of records of the old log.
fn old_records(logs: &Logs) -> u64 {
    logs.old.last().unwrap().last().first + 1
}

pub(crate) fn all() -> Vec<Case> {
    [cut(), rewritten(), harmless()].into_iter().flatten().collect()
}

fn cut() -> Vec<Case> {
    vec![
        case(
            "last-frame-removed",
            |logs, forgery| {
                let last = logs.good.last().unwrap();
                forgery.edit(last, |bytes| bytes[last.last().at..].fill(0));
                Expected::Ok
            },
            |logs| {
                let last = logs.good.last().unwrap();
                missing(last, last.last().first, last.last().at)
            },
        ),
        case(
            "last-segment-cut-at-a-frame",
            |logs, forgery| {
                let last = logs.good.last().unwrap();
                forgery.edit(last, |bytes| bytes.truncate(last.frames[1].at));
                Expected::Ok
            },
            |logs| {
                let last = logs.good.last().unwrap();
                missing(last, last.frames[1].first, last.frames[1].at)
            },
        ),
        case(
            "last-segment-removed",
            |logs, forgery| {
                forgery.remove(logs.good.last().unwrap());
                Expected::Ok
            },
            |logs| {
                let before = &logs.good[logs.good.len() - 2];
                missing(before, logs.good.last().unwrap().first, before.end())
            },
        ),
        case(
            "all-but-the-first-segment-removed",
            |logs, forgery| {
                logs.good.iter().skip(1).for_each(|segment| forgery.remove(segment));
                Expected::Ok
            },
            |logs| missing(&logs.good[0], logs.good[1].first, logs.good[0].end()),
        ),
        case(
            "old-copy-put-back",
            |logs, forgery| {
                instead(logs, forgery, &logs.old);
                Expected::Ok
            },
            |logs| {
                let last = logs.old.last().unwrap();
                missing(last, old_records(logs), last.end())
            },
        ),
    ]
}

fn rewritten() -> Vec<Case> {
    vec![
        case(
            "end-that-was-posted-is-torn",
            |logs, forgery| {
                let last = logs.good.last().unwrap();
                let (first, at) = (last.last().first, last.last().at as u64);
                forgery.flip(last, last.last().leaves + 9);
                Expected::Range("UNPROVEN-TAIL", first, last.name.clone(), at)
            },
            |logs| {
                let last = logs.good.last().unwrap();
                let (first, at) = (last.last().first, last.last().at as u64);
                Expected::Range("TAMPERED", first, last.name.clone(), at)
            },
        ),
        case(
            "written-anew-with-the-same-key",
            |logs, forgery| {
                instead(logs, forgery, &logs.fork);
                Expected::Ok
            },
            |logs| Expected::Range("TAMPERED", 0, logs.fork[0].name.clone(), 0),
        ),
        Case {
            believes_the_log: true,
            ..case(
                "all-signed-by-another-key-that-the-log-shows",
                |logs, forgery| {
                    let key = kit::identity(9);
                    forge::sign_anew(forgery, &logs.good, &key.signing, ORIGIN);
                    fs::write(forgery.dir.join("log.pub"), forge::log_pub(&key)).unwrap();
                    Expected::Ok
                },
                |_| Expected::Refused("CHECKPOINT_FOREIGN"),
            )
        },
    ]
}

/// What stands beside the records proves nothing, and altering it hides nothing.
fn harmless() -> Vec<Case> {
    vec![
        case(
            "mark-of-the-closed-log-altered",
            |_, forgery| {
                fs::write(forgery.dir.join("closed"), "7\n").unwrap();
                Expected::Ok
            },
            |_| Expected::Ok,
        ),
        case(
            "mark-of-the-closed-log-removed",
            |_, forgery| {
                fs::remove_file(forgery.dir.join("closed")).unwrap();
                Expected::Ok
            },
            |_| Expected::Ok,
        ),
        case(
            "public-key-in-the-log-replaced",
            |_, forgery| {
                fs::write(forgery.dir.join("log.pub"), forge::log_pub(&kit::identity(9))).unwrap();
                Expected::Ok
            },
            |_| Expected::Ok,
        ),
        Case {
            believes_the_log: true,
            ..case(
                "public-key-in-the-log-replaced-and-believed",
                |logs, forgery| {
                    let key = kit::identity(9);
                    fs::write(forgery.dir.join("log.pub"), forge::log_pub(&key)).unwrap();
                    Expected::Range("TAMPERED", 0, logs.good[0].name.clone(), 0)
                },
                |_| Expected::Refused("CHECKPOINT_FOREIGN"),
            )
        },
        case(
            "directory-moved",
            |logs, forgery| {
                let aside = logs.at("moved");
                fs::rename(&forgery.dir, &aside).unwrap();
                fs::rename(&aside, &forgery.dir).unwrap();
                Expected::Ok
            },
            |_| Expected::Ok,
        ),
        case(
            "file-that-is-no-segment",
            |logs, forgery| {
                let forged = forgery.dir.join("segment-1.log");
                fs::write(forged, &logs.good[1].bytes).unwrap();
                Expected::Ok
            },
            |_| Expected::Ok,
        ),
    ]
}
