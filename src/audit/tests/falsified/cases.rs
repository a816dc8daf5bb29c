//! What the files and the public key alone tell.

use std::fs;

use crate::forge::{self, Forgery, Frame, Segment};
use crate::{Case, Expected, Logs, ORIGIN, kit};

/// A range that begins with this frame.
fn at(verdict: &'static str, segment: &Segment, frame: Frame) -> Expected {
    Expected::Range(verdict, frame.first, segment.name.clone(), frame.at as u64)
}

fn tampered(segment: &Segment, frame: Frame) -> Expected {
    at("TAMPERED", segment, frame)
}

/// A segment of which nothing is judged.
fn header(segment: &Segment) -> Expected {
    Expected::Range("TAMPERED", segment.first, segment.name.clone(), 0)
}

fn missing(first: u64, file: &Segment, offset: usize) -> Expected {
    Expected::Range("MISSING", first, file.name.clone(), offset as u64)
}

/// The batch of three in the second segment or behind it.
fn batch(logs: &Logs) -> (&Segment, Frame) {
    let frames = logs.good.iter().skip(1).flat_map(|s| s.frames.iter().map(move |f| (s, *f)));
    frames.max_by_key(|(_, frame)| frame.crc - frame.details).unwrap()
}

/// Two neighbours of the same length.
fn twins(segment: &Segment) -> (Frame, Frame) {
    let pairs = segment.frames.windows(2).map(|pair| (pair[0], pair[1]));
    let alike = |f: &Frame| (f.end - f.at, f.details - f.leaves, f.crc - f.details);
    pairs.into_iter().find(|(a, b)| alike(a) == alike(b)).unwrap()
}

fn swap(bytes: &mut [u8], a: usize, b: usize, length: usize) {
    let (left, right) = bytes.split_at_mut(b);
    left[a..a + length].swap_with_slice(&mut right[..length]);
}

/// A case in which a frame of the second segment is altered.
macro_rules! frame {
    ($name:literal, |$forgery:ident, $segment:ident, $frame:ident| $edit:expr) => {
        case($name, |logs, $forgery| {
            let $segment = &logs.good[1];
            let $frame = $segment.frames[3];
            $edit;
            tampered($segment, $frame)
        })
    };
}

fn case(name: &'static str, falsify: fn(&Logs, &Forgery) -> Expected) -> Case {
    Case { name, falsify, with_checkpoint: None, with_archive: None, believes_the_log: false }
}

pub(crate) fn all() -> Vec<Case> {
    [frames(), lengths(), order(), headers(), files(), ends()].into_iter().flatten().collect()
}

/// Bytes of a frame that are altered in place.
fn frames() -> Vec<Case> {
    vec![
        frame!("record-bit", |forgery, segment, frame| forgery.flip(segment, frame.leaves + 9)),
        frame!("record-and-checksum", |forgery, segment, frame| forgery.repaired(
            segment,
            frame,
            |bytes| bytes[frame.leaves + 9 - frame.at] ^= 1
        )),
        frame!("detail-bit", |forgery, segment, frame| forgery.flip(segment, frame.details + 30)),
        frame!("detail-and-checksum", |forgery, segment, frame| forgery.repaired(
            segment,
            frame,
            |bytes| bytes[frame.details + 30 - frame.at] ^= 1
        )),
        frame!("commitment", |forgery, segment, frame| forgery.repaired(segment, frame, |bytes| {
            bytes[frame.details - 1 - frame.at] ^= 1;
        })),
        frame!("salt-of-a-detail", |forgery, segment, frame| forgery.repaired(
            segment,
            frame,
            |bytes| bytes[frame.details + 4 - frame.at] ^= 1
        )),
        case("item-of-a-batch", |logs, forgery| {
            let (segment, frame) = batch(logs);
            forgery.repaired(segment, frame, |bytes| bytes[frame.crc - 3 - frame.at] ^= 1);
            tampered(segment, frame)
        }),
        case("details-swapped", |logs, forgery| {
            let segment = &logs.good[1];
            let (a, b) = twins(segment);
            forgery.edit(segment, |bytes| {
                swap(bytes, a.details, b.details, a.crc - a.details);
                forge::repair(bytes, a.at, a.crc);
                forge::repair(bytes, b.at, b.crc);
            });
            tampered(segment, a)
        }),
        frame!("signature-of-a-frame", |forgery, segment, frame| forgery.repaired(
            segment,
            frame,
            |bytes| bytes[frame.signature + 7 - frame.at] ^= 1
        )),
        frame!("root-of-a-frame", |forgery, segment, frame| {
            let at = forge::root_of(&segment.bytes, frame);
            forgery.repaired(segment, frame, |bytes| bytes[at - frame.at] ^= 1);
        }),
        frame!("first-record-of-a-frame", |forgery, segment, frame| forgery.repaired(
            segment,
            frame,
            |bytes| bytes[frame.head + 1 - frame.at] ^= 1
        )),
        frame!("count-of-a-frame", |forgery, segment, frame| {
            let at = forge::root_of(&segment.bytes, frame) - 3;
            forgery.repaired(segment, frame, |bytes| bytes[at - frame.at] = 2);
        }),
        frame!("synced-of-a-frame", |forgery, segment, frame| forgery.repaired(
            segment,
            frame,
            |bytes| bytes[frame.signature - 2 - frame.at] ^= 1
        )),
        frame!("checksum-alone", |forgery, segment, frame| forgery.flip(segment, frame.crc)),
        frame!("magic-of-a-frame", |forgery, segment, frame| forgery.flip(segment, frame.at)),
        case("padding-of-a-frame", |logs, forgery| {
            let segment = &logs.good[1];
            let frame = segment.frames.iter().find(|f| f.crc + 4 < f.end).unwrap();
            forgery.flip(segment, frame.end - 1);
            tampered(segment, *frame)
        }),
    ]
}

/// Signatures, lengths and what is not where it was.
fn lengths() -> Vec<Case> {
    vec![
        frame!("another-key-s-frame", |forgery, segment, frame| forgery.edit(segment, |bytes| {
            forge::sign_frame(bytes, frame, &kit::identity(9).signing, ORIGIN);
        })),
        frame!("length-of-leaves", |forgery, segment, frame| forgery.flip(segment, frame.at + 8)),
        frame!("impossible-length", |forgery, segment, frame| {
            forgery.edit(segment, |bytes| bytes[frame.at + 15] = 0x7f);
        }),
        frame!("frame-zeroed", |forgery, segment, frame| {
            forgery.edit(segment, |bytes| bytes[frame.at..frame.end].fill(0));
        }),
        frame!("half-a-frame-zeroed", |forgery, segment, frame| {
            forgery.edit(segment, |bytes| bytes[frame.leaves..frame.end].fill(0));
        }),
        frame!("record-removed", |forgery, segment, frame| forgery.replace(segment, frame, &[])),
        frame!("detail-removed", |forgery, segment, frame| {
            let mut bytes = segment.bytes[frame.at..frame.details].to_vec();
            bytes.extend_from_slice(&[0; 4]);
            bytes[12..16].copy_from_slice(&4_u32.to_le_bytes());
            let crc = bytes.len();
            bytes.resize((crc + 4).next_multiple_of(8), 0);
            forge::repair(&mut bytes, 0, crc);
            forgery.replace(segment, frame, &bytes);
        }),
        case("record-inserted", |logs, forgery| {
            let (segment, key) = (&logs.good[1], kit::identity(9).signing);
            let forged = forge::forged_frame(&logs.good, 1, 3, &key, ORIGIN);
            let next = segment.frames[4];
            forgery.edit(segment, |bytes| {
                bytes.splice(next.at..next.at, forged);
            });
            tampered(segment, next)
        }),
        case("frame-without-records", |logs, forgery| {
            // Root and signature of the frame before fit it: nobody needs a key for that.
            let segment = &logs.good[1];
            let (frame, next) = (segment.frames[3], segment.frames[4]);
            forgery.edit(segment, |bytes| {
                let empty = forge::empty_frame(bytes, frame, next.first);
                bytes.splice(next.at..next.at, empty);
            });
            tampered(segment, next)
        }),
        case("record-twice", |logs, forgery| {
            let segment = &logs.good[1];
            let (frame, next) = (segment.frames[3], segment.frames[4]);
            forgery.edit(segment, |bytes| {
                let again = bytes[frame.at..frame.end].to_vec();
                bytes.splice(next.at..next.at, again);
            });
            tampered(segment, next)
        }),
    ]
}

/// What was signed, in another order.
fn order() -> Vec<Case> {
    vec![
        case("records-swapped", |logs, forgery| {
            let segment = &logs.good[1];
            let (a, b) = twins(segment);
            forgery.edit(segment, |bytes| swap(bytes, a.at, b.at, a.end - a.at));
            tampered(segment, a)
        }),
        case("frame-of-another-segment", |logs, forgery| {
            let (segment, from) = (&logs.good[2], &logs.good[1]);
            let frame = segment.frames[3];
            let old = &from.bytes[from.frames[3].at..from.frames[3].end];
            forgery.replace(segment, frame, old);
            tampered(segment, frame)
        }),
        case("segments-swapped", |logs, forgery| {
            fs::write(forgery.path(&logs.good[1]), &logs.good[2].bytes).unwrap();
            fs::write(forgery.path(&logs.good[2]), &logs.good[1].bytes).unwrap();
            header(&logs.good[1])
        }),
        case("old-segment-as-the-newest", |logs, forgery| {
            let name = format!("segment-{:020}.log", logs.records);
            fs::write(forgery.dir.join(&name), &logs.good[1].bytes).unwrap();
            Expected::Range("TAMPERED", logs.records, name, 0)
        }),
        case("old-segment-in-the-place-of-the-next", |logs, forgery| {
            fs::write(forgery.path(&logs.good[2]), &logs.good[1].bytes).unwrap();
            header(&logs.good[2])
        }),
        case("segment-of-another-installation", |logs, forgery| {
            fs::write(forgery.path(&logs.good[2]), &logs.other[0].bytes).unwrap();
            header(&logs.good[2])
        }),
        case("first-segment-of-another-installation", |logs, forgery| {
            fs::write(forgery.path(&logs.good[0]), &logs.other[0].bytes).unwrap();
            Expected::Refused("AUDIT_LOG_FOREIGN")
        }),
        case("end-of-the-other-of-two-histories", |logs, forgery| {
            // Both signed by the same key: a log that was put back and gone on with twice.
            let last = logs.fork.last().unwrap();
            fs::write(forgery.dir.join(&last.name), &last.bytes).unwrap();
            let kept = logs.good.iter().filter(|s| s.first < last.first).count();
            logs.good.iter().skip(kept).for_each(|s| {
                if s.name != last.name {
                    forgery.remove(s);
                }
            });
            Expected::Range("TAMPERED", last.first, last.name.clone(), 0)
        }),
    ]
}

fn headers() -> Vec<Case> {
    vec![
        case("header-bit", |logs, forgery| {
            forgery.flip(&logs.good[2], 20);
            header(&logs.good[2])
        }),
        case("header-and-checksum", |logs, forgery| {
            let segment = &logs.good[2];
            forgery.edit(segment, |bytes| {
                let crc = 12 + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize + 64;
                bytes[crc - 70] ^= 1;
                forge::repair(bytes, 0, crc);
            });
            header(segment)
        }),
        case("header-signed-by-another-key", |logs, forgery| {
            forgery.edit(&logs.good[2], |bytes| {
                forge::sign_header(bytes, &kit::identity(9).signing);
            });
            header(&logs.good[2])
        }),
        case("magic-of-a-segment", |logs, forgery| {
            forgery.flip(&logs.good[2], 0);
            header(&logs.good[2])
        }),
        case("header-zeroed", |logs, forgery| {
            let start = logs.good[2].frames[0].at;
            forgery.edit(&logs.good[2], |bytes| bytes[..start].fill(0));
            header(&logs.good[2])
        }),
        case("segment-emptied", |logs, forgery| {
            forgery.edit(&logs.good[2], Vec::clear);
            header(&logs.good[2])
        }),
        case("all-signed-by-another-key", |logs, forgery| {
            forge::sign_anew(forgery, &logs.good, &kit::identity(9).signing, ORIGIN);
            header(&logs.good[0])
        }),
    ]
}

fn files() -> Vec<Case> {
    vec![
        case("segment-removed", |logs, forgery| {
            forgery.remove(&logs.good[2]);
            missing(logs.good[2].first, &logs.good[2], 0)
        }),
        case("first-segment-removed", |logs, forgery| {
            forgery.remove(&logs.good[0]);
            missing(0, &logs.good[0], 0)
        }),
        case("two-segments-removed", |logs, forgery| {
            forgery.remove(&logs.good[1]);
            forgery.remove(&logs.good[2]);
            missing(logs.good[1].first, &logs.good[1], 0)
        }),
        case("all-segments-removed", |logs, forgery| {
            logs.good.iter().for_each(|segment| forgery.remove(segment));
            Expected::Refused("LOG_NOT_FOUND")
        }),
        case("segment-renamed", |logs, forgery| {
            let name = format!("segment-{:020}.log", logs.good[2].first + 1);
            fs::rename(forgery.path(&logs.good[2]), forgery.dir.join(&name)).unwrap();
            Expected::Range("TAMPERED", logs.good[2].first, name, 0)
        }),
        case("segment-cut-at-a-frame", |logs, forgery| {
            let (segment, frame) = (&logs.good[1], logs.good[1].frames[5]);
            forgery.edit(segment, |bytes| bytes.truncate(frame.at));
            missing(frame.first, segment, frame.at)
        }),
        case("frames-at-the-end-of-a-segment-zeroed", |logs, forgery| {
            let (segment, frame) = (&logs.good[1], logs.good[1].frames[5]);
            forgery.edit(segment, |bytes| bytes[frame.at..].fill(0));
            missing(frame.first, segment, frame.at)
        }),
        case("segment-cut-inside-a-frame", |logs, forgery| {
            let (segment, frame) = (&logs.good[1], logs.good[1].frames[5]);
            forgery.edit(segment, |bytes| bytes.truncate(frame.details));
            tampered(segment, frame)
        }),
        case("bytes-behind-the-frames-of-a-segment", |logs, forgery| {
            let (segment, next) = (&logs.good[1], &logs.good[2]);
            forgery.edit(segment, |bytes| bytes.extend_from_slice(b"something else"));
            let end = segment.end() as u64;
            Expected::Range("TAMPERED", next.first, segment.name.clone(), end)
        }),
    ]
}

/// The end of the log, where a killed process leaves things behind too.
fn ends() -> Vec<Case> {
    fn tail(logs: &Logs) -> (&Segment, Frame) {
        let segment = logs.good.last().unwrap();
        (segment, segment.last())
    }
    vec![
        case("bit-of-the-last-frame", |logs, forgery| {
            let (segment, frame) = tail(logs);
            forgery.flip(segment, frame.leaves + 9);
            at("UNPROVEN-TAIL", segment, frame)
        }),
        case("last-frame-cut-inside", |logs, forgery| {
            let (segment, frame) = tail(logs);
            forgery.edit(segment, |bytes| bytes.truncate(frame.details));
            at("UNPROVEN-TAIL", segment, frame)
        }),
        case("bytes-behind-the-last-frame", |logs, forgery| {
            let (segment, frame) = tail(logs);
            forgery.edit(segment, |bytes| {
                bytes.truncate(frame.end);
                bytes.extend_from_slice(b"something else than a frame");
            });
            let end = frame.end as u64;
            Expected::Range("UNPROVEN-TAIL", logs.records, segment.name.clone(), end)
        }),
        case("last-frame-altered-with-its-checksum", |logs, forgery| {
            let (segment, frame) = tail(logs);
            forgery.repaired(segment, frame, |bytes| bytes[frame.leaves + 9 - frame.at] ^= 1);
            tampered(segment, frame)
        }),
        case("record-appended-by-another-key", |logs, forgery| {
            let (segment, frame) = tail(logs);
            let (last, key) = (logs.good.len() - 1, kit::identity(9).signing);
            let after = segment.frames.len() - 1;
            let forged = forge::forged_frame(&logs.good, last, after, &key, ORIGIN);
            forgery.edit(segment, |bytes| {
                bytes.truncate(frame.end);
                bytes.extend_from_slice(&forged);
            });
            let end = frame.end as u64;
            Expected::Range("TAMPERED", logs.records, segment.name.clone(), end)
        }),
        case("zeroes-at-the-end-cut-off", |logs, forgery| {
            let (segment, frame) = tail(logs);
            forgery.edit(segment, |bytes| bytes.truncate(frame.end));
            Expected::Ok
        }),
    ]
}
