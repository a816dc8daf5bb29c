//! What looks like a redaction and is none, and what is done to one.

use std::fs;

use fieldseal_audit::merkle::{self, Hash};

use crate::forge::{self, Forgery, Frame, Segment};
use crate::{Case, Expected, Logs};

fn case(name: &'static str, falsify: fn(&Logs, &Forgery) -> Expected) -> Case {
    Case { name, falsify, with_checkpoint: None, with_archive: None, believes_the_log: false }
}

fn at(verdict: &'static str, segment: &Segment, frame: Frame) -> Expected {
    Expected::Range(verdict, frame.first, segment.name.clone(), frame.at as u64)
}

/// The redacted log in the place of the other one.
fn instead(logs: &Logs, forgery: &Forgery) {
    logs.good.iter().for_each(|segment| forgery.remove(segment));
    for segment in &logs.redacted {
        fs::write(forgery.path(segment), &segment.bytes).unwrap();
    }
}

fn detail(segment: &Segment, frame: Frame) -> &[u8] {
    forge::parts(&segment.bytes[frame.details..frame.crc])[0]
}

/// Where the items of a detail begin: its salt and its head are before them.
fn items_at(detail: &[u8]) -> usize {
    17 + usize::from(detail[16])
}

/// An item that was not redacted, and what is behind it.
fn cut(items: &[u8]) -> (&[u8], &[u8]) {
    items.split_at(17 + usize::from(items[16]))
}

/// What stands in an item's place once it is redacted.
fn erased(item: &[u8]) -> Vec<u8> {
    let salted = [&item[..16], &item[17..]].concat();
    [&[0; 16], &merkle::leaf_hash(&salted)[..]].concat()
}

/// Writes a segment with another detail of one record, so well that nothing but its detail is wrong.
pub(crate) fn with_detail(forgery: &Forgery, segment: &Segment, of: Frame, detail: &[u8]) {
    let mut out = segment.bytes[..segment.frames[0].at].to_vec();
    for frame in &segment.frames {
        let bytes = &segment.bytes;
        let start = out.len();
        let root: Hash = bytes[forge::root_of(bytes, *frame)..][..32].try_into().unwrap();
        let head = forge::head(frame.first, 1, &root, start as u64);
        let kept = bytes[frame.details..frame.crc].to_vec();
        let other = [&(detail.len() as u32).to_le_bytes()[..], detail].concat();
        let details = if frame.first == of.first { other } else { kept };
        out.extend_from_slice(b"FSFR");
        for len in [head.len(), frame.details - frame.leaves, details.len()] {
            out.extend_from_slice(&(len as u32).to_le_bytes());
        }
        out.extend_from_slice(&head);
        out.extend_from_slice(&bytes[frame.signature..frame.details]);
        out.extend_from_slice(&details);
        let sum = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out.resize(out.len().max(segment.bytes.len()), 0);
    fs::write(forgery.path(segment), out).unwrap();
}

/// Frames of the redacted log whose record this says something of.
fn find(logs: &Logs, is: impl Fn(&[u8]) -> bool, nth: usize) -> (&Segment, Frame) {
    let frames = logs.redacted.iter().flat_map(|s| s.frames.iter().map(move |f| (s, *f)));
    frames.filter(|(segment, frame)| is(detail(segment, *frame))).nth(nth).unwrap()
}

/// A call of the row that was redacted and of nothing else.
fn single(logs: &Logs) -> (&Segment, Frame) {
    let is_call = |frame: &Frame| frame.first < logs.records;
    let frames = logs.redacted.iter().flat_map(|s| s.frames.iter().map(move |f| (s, *f)));
    frames.filter(|(_, f)| is_call(f)).find(|(s, f)| detail(s, *f).is_empty()).unwrap()
}

/// A batch of three of which the second item was redacted.
fn batch(logs: &Logs) -> (&Segment, Frame) {
    nth_batch(logs, 1)
}

/// The first record of which something was redacted.
fn first(logs: &Logs) -> (&Segment, Frame) {
    let (batch, single) = (nth_batch(logs, 0), single(logs));
    if batch.1.first < single.1.first { batch } else { single }
}

fn nth_batch(logs: &Logs, nth: usize) -> (&Segment, Frame) {
    let redacted = |d: &[u8]| {
        let items = if d.is_empty() { &[][..] } else { &d[items_at(d)..] };
        items.len() > 100 && cut(items).1[..16] == [0; 16]
    };
    find(logs, redacted, nth)
}

/// A call that no redaction is about.
fn other(logs: &Logs) -> (&Segment, Frame) {
    find(logs, |detail| !detail.is_empty() && detail.len() < 130, 7)
}

/// The parts of the detail of [`batch`]: up to its items, and each item.
fn batch_parts(detail: &[u8]) -> (&[u8], &[u8], &[u8], &[u8]) {
    let (head, items) = detail.split_at(items_at(detail));
    let (first, rest) = cut(items);
    let (second, third) = rest.split_at(48);
    (head, first, second, third)
}

/// A case in which the batch gets other items.
macro_rules! of_batch {
    ($name:literal, |$first:ident, $second:ident, $third:ident| $items:expr) => {
        case($name, |logs, forgery| {
            instead(logs, forgery);
            let (segment, frame) = batch(logs);
            let (head, $first, $second, $third) = batch_parts(detail(segment, frame));
            let items: Vec<Vec<u8>> = $items;
            with_detail(forgery, segment, frame, &[head.to_vec(), items.concat()].concat());
            at("TAMPERED", segment, frame)
        })
    };
}

pub(crate) fn all() -> Vec<Case> {
    [forged(), altered(), said()].into_iter().flatten().collect()
}

/// Redactions that no record names.
fn forged() -> Vec<Case> {
    vec![
        case("redaction-of-a-detail-that-no-record-names", |logs, forgery| {
            instead(logs, forgery);
            let (segment, frame) = other(logs);
            with_detail(forgery, segment, frame, &[]);
            at("TAMPERED", segment, frame)
        }),
        case("redaction-in-a-log-without-any", |logs, forgery| {
            let (segment, frame) = (&logs.good[1], logs.good[1].frames[3]);
            with_detail(forgery, segment, frame, &[]);
            at("TAMPERED", segment, frame)
        }),
        case("redaction-of-an-item-that-no-record-names", |logs, forgery| {
            instead(logs, forgery);
            let (segment, frame) = other(logs);
            let detail = detail(segment, frame);
            let (head, item) = detail.split_at(items_at(detail));
            with_detail(forgery, segment, frame, &[head, &erased(item)].concat());
            at("TAMPERED", segment, frame)
        }),
        case("redaction-of-a-batch-where-one-item-is-named", |logs, forgery| {
            instead(logs, forgery);
            let (segment, frame) = batch(logs);
            with_detail(forgery, segment, frame, &[]);
            at("TAMPERED", segment, frame)
        }),
        of_batch!("redaction-of-an-item-beside-the-one-that-is-named", |first, second, third| {
            vec![first.to_vec(), second.to_vec(), erased(third)]
        }),
    ]
}

/// What is left of a redacted detail, and altered.
fn altered() -> Vec<Case> {
    vec![
        of_batch!("hash-of-a-redacted-item-altered", |first, second, third| {
            let mut second = second.to_vec();
            second[20] ^= 1;
            vec![first.to_vec(), second, third.to_vec()]
        }),
        of_batch!("redacted-item-replaced-by-its-neighbour", |first, _second, third| {
            vec![first.to_vec(), first.to_vec(), third.to_vec()]
        }),
        of_batch!("redacted-item-moved", |first, second, third| {
            vec![second.to_vec(), first.to_vec(), third.to_vec()]
        }),
        of_batch!("redacted-item-removed", |first, _second, third| {
            vec![first.to_vec(), third.to_vec()]
        }),
        of_batch!("redacted-item-cut-off", |first, second, _third| {
            vec![first.to_vec(), second[..40].to_vec()]
        }),
        of_batch!("item-of-which-the-salt-is-zeroed", |first, second, third| {
            vec![first.to_vec(), second.to_vec(), [&[0; 16], &third[16..]].concat()]
        }),
        case("redacted-detail-replaced-by-another-s", |logs, forgery| {
            instead(logs, forgery);
            let ((segment, frame), (from, another)) = (single(logs), other(logs));
            with_detail(forgery, segment, frame, detail(from, another));
            at("TAMPERED", segment, frame)
        }),
        case("redacted-detail-without-its-length", |logs, forgery| {
            instead(logs, forgery);
            let (segment, frame) = single(logs);
            let mut bytes = segment.bytes[frame.at..frame.details].to_vec();
            bytes[12..16].fill(0);
            let crc = bytes.len();
            bytes.resize((crc + 4).next_multiple_of(8), 0);
            forge::repair(&mut bytes, 0, crc);
            forgery.replace(segment, frame, &bytes);
            at("TAMPERED", segment, frame)
        }),
    ]
}

/// The record that names what was erased, and segments as they were before.
fn said() -> Vec<Case> {
    vec![
        case("redaction-as-it-was-done", |logs, forgery| {
            instead(logs, forgery);
            let (segment, frame) = first(logs);
            at("REDACTED", segment, frame)
        }),
        case("record-of-a-redaction-cut-off", |logs, forgery| {
            instead(logs, forgery);
            let last = logs.redacted.last().unwrap();
            forgery.edit(last, |bytes| bytes[last.frames[0].at..].fill(0));
            let (segment, frame) = first(logs);
            at("TAMPERED", segment, frame)
        }),
        case("record-of-a-redaction-altered", |logs, forgery| {
            instead(logs, forgery);
            let last = logs.redacted.last().unwrap();
            let frame = last.frames[0];
            forgery.repaired(last, frame, |bytes| bytes[frame.leaves + 9 - frame.at] ^= 1);
            let (segment, frame) = first(logs);
            at("TAMPERED", segment, frame)
        }),
        case("segment-put-back-as-it-was-before-its-redaction", |logs, forgery| {
            instead(logs, forgery);
            let (first, frame) = first(logs);
            assert_eq!(first.name, logs.good[0].name);
            let second = &logs.good[1];
            fs::write(forgery.path(second), &second.bytes).unwrap();
            at("REDACTED", first, frame)
        }),
        case("frame-put-back-as-it-was-before-its-redaction", |logs, forgery| {
            instead(logs, forgery);
            let (segment, frame) = single(logs);
            let before = logs.good[0].frames.iter().find(|f| f.first == frame.first).unwrap();
            forgery.replace(segment, frame, &logs.good[0].bytes[before.at..before.end]);
            at("TAMPERED", segment, frame)
        }),
    ]
}
