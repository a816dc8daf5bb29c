//! Signatures of which the header of the next segment says that they were made, and what such a header says.

use std::fs;
use std::path::Path;

use fieldseal_crypto::pae;

use crate::forge::{self, Forgery, Segment};
use crate::{Case, Expected, Logs, kit};

/// The tag of the hash in a header and its length. It stands last.
const HASH: [u8; 2] = [0x52, 32];
/// A field that nobody knows, of the same length.
const UNKNOWN: [u8; 2] = [0x7a, 32];

/// Where the tag of the hash over the signatures before stands, in a header that has one.
fn hash_at(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize;
    let at = (12 + len).checked_sub(34)?;
    (bytes.get(at..at + 2)? == HASH).then_some(at)
}

/// Copies a log, and lets every header that the log's own key signed say nothing of signatures.
pub(crate) fn copy_without_hashes(from: &Path, to: &Path) {
    let key = kit::identity(7).signing;
    crate::copy(from, to);
    for entry in fs::read_dir(to).unwrap().map(Result::unwrap) {
        let mut bytes = fs::read(entry.path()).unwrap();
        let Some(at) = hash_at(&bytes) else { continue };
        let message = pae::encode(&[b"fieldseal/v1/log/segment", &bytes[12..at + 34]]);
        let signature = bytes[at + 34..at + 98].try_into().unwrap();
        if key.public().verify(&message, signature).is_ok() {
            bytes[at..at + 2].copy_from_slice(&UNKNOWN);
            forge::sign_header(&mut bytes, &key);
            fs::write(entry.path(), bytes).unwrap();
        }
    }
}

/// Alters a header as only whoever has the log's key can.
fn header(forgery: &Forgery, segment: &Segment, edit: impl FnOnce(&mut [u8], usize)) {
    forgery.edit(segment, |bytes| {
        let at = hash_at(bytes).unwrap();
        edit(bytes, at);
        forge::sign_header(bytes, &kit::identity(7).signing);
    });
}

/// The second segment, whose signatures the header of the third one tells of, with a frame.
fn segment(logs: &Logs) -> (&Segment, forge::Frame) {
    assert!(hash_at(&logs.good[2].bytes).is_some(), "the third header says nothing of signatures");
    (&logs.good[1], logs.good[1].frames[3])
}

fn tampered(segment: &Segment, frame: forge::Frame) -> Expected {
    Expected::Range("TAMPERED", frame.first, segment.name.clone(), frame.at as u64)
}

fn flip_signature(forgery: &Forgery, segment: &Segment, frame: forge::Frame) {
    forgery.repaired(segment, frame, |bytes| bytes[frame.signature + 40 - frame.at] ^= 1);
}

/// Puts what these bytes are of one frame into the place of another frame's.
fn take(forgery: &Forgery, segment: &Segment, to: forge::Frame, places: [usize; 2], len: usize) {
    let [from, at] = places;
    let bytes = &segment.bytes[from..from + len];
    forgery.repaired(segment, to, |frame| frame[at - to.at..][..len].copy_from_slice(bytes));
}

fn take_signature(forgery: &Forgery, segment: &Segment, from: forge::Frame, to: forge::Frame) {
    take(forgery, segment, to, [from.signature, to.signature], 64);
}

fn take_root(forgery: &Forgery, segment: &Segment, from: forge::Frame, to: forge::Frame) {
    let places = [from, to].map(|frame| forge::root_of(&segment.bytes, frame));
    take(forgery, segment, to, places, 32);
}

fn case(name: &'static str, falsify: fn(&Logs, &Forgery) -> Expected) -> Case {
    Case { name, falsify, with_checkpoint: None, with_archive: None, believes_the_log: false }
}

pub(crate) fn all() -> Vec<Case> {
    [signatures(), appended(), headers()].concat()
}

/// What is done to the signatures.
fn signatures() -> Vec<Case> {
    vec![
        case("signature-of-the-last-frame-of-a-segment", |logs, forgery| {
            let (segment, _) = segment(logs);
            flip_signature(forgery, segment, segment.last());
            tampered(segment, segment.last())
        }),
        case("signatures-swapped", |logs, forgery| {
            let (segment, frame) = segment(logs);
            take_signature(forgery, segment, segment.frames[4], frame);
            take_signature(forgery, segment, frame, segment.frames[4]);
            tampered(segment, frame)
        }),
        case("roots-and-signatures-swapped", |logs, forgery| {
            let (segment, frame) = segment(logs);
            for (from, to) in [(segment.frames[4], frame), (frame, segment.frames[4])] {
                take_signature(forgery, segment, from, to);
                take_root(forgery, segment, from, to);
            }
            tampered(segment, frame)
        }),
        case("signature-of-the-frame-before", |logs, forgery| {
            let (segment, frame) = segment(logs);
            take_signature(forgery, segment, segment.frames[2], frame);
            tampered(segment, frame)
        }),
        case("signature-of-a-frame-and-no-next-segment", |logs, forgery| {
            let (segment, frame) = segment(logs);
            flip_signature(forgery, segment, frame);
            forgery.remove(&logs.good[2]);
            tampered(segment, frame)
        }),
    ]
}

/// A frame behind those of which the next header tells, by somebody without the key.
fn appended() -> Vec<Case> {
    vec![case("frame-behind-the-certified-ones", |logs, forgery| {
        let (segment, next) = (segment(logs).0, &logs.good[2]);
        let (after, key) = (segment.frames.len() - 1, kit::identity(9).signing);
        let forged = forge::forged_frame(&logs.good, 1, after, &key, crate::ORIGIN);
        forgery.edit(segment, |bytes| {
            bytes.truncate(segment.end());
            bytes.extend_from_slice(&forged);
        });
        let end = segment.end() as u64;
        Expected::Range("TAMPERED", next.first, segment.name.clone(), end)
    })]
}

/// What is done to the header of the next segment. Whoever has the log's key can let it say anything, and what
/// it says of signatures that are right makes nothing wrong.
fn headers() -> Vec<Case> {
    vec![
        case("hash-over-signatures-altered", |logs, forgery| {
            let (_, next) = (segment(logs), &logs.good[2]);
            forgery.edit(next, |bytes| {
                let at = hash_at(bytes).unwrap();
                bytes[at + 9] ^= 1;
                forge::repair(bytes, 0, at + 34 + 64);
            });
            Expected::Range("TAMPERED", next.first, next.name.clone(), 0)
        }),
        case("hash-over-signatures-wrong-and-signed", |logs, forgery| {
            segment(logs);
            header(forgery, &logs.good[2], |bytes, at| bytes[at + 9] ^= 1);
            Expected::Ok
        }),
        case("hash-over-the-signatures-of-another-segment-and-signed", |logs, forgery| {
            let before = &logs.good[1].bytes;
            let other = hash_at(before).unwrap();
            header(forgery, &logs.good[2], |bytes, at| {
                bytes[at..at + 34].copy_from_slice(&before[other..other + 34]);
            });
            Expected::Ok
        }),
        case("no-hash-over-signatures", |logs, forgery| {
            header(forgery, &logs.good[2], |bytes, at| bytes[at..at + 2].copy_from_slice(&UNKNOWN));
            Expected::Ok
        }),
        case("signature-of-a-frame-and-no-hash-over-it", |logs, forgery| {
            let (segment, frame) = segment(logs);
            flip_signature(forgery, segment, frame);
            header(forgery, &logs.good[2], |bytes, at| bytes[at..at + 2].copy_from_slice(&UNKNOWN));
            tampered(segment, frame)
        }),
        case("record-altered-and-a-wrong-hash-over-signatures", |logs, forgery| {
            let (segment, frame) = segment(logs);
            forgery.repaired(segment, frame, |bytes| bytes[frame.leaves + 9 - frame.at] ^= 1);
            header(forgery, &logs.good[2], |bytes, at| bytes[at + 9] ^= 1);
            tampered(segment, frame)
        }),
    ]
}
