//! Writing a segment anew without what was named. It is never altered in place: the new one is written
//! under another name, synced, and renamed over the old one.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use parking_lot::RwLock;

use crate::access;
use crate::checkpoint;
use crate::error::JournalError;
use crate::journal::create_new;
use crate::merkle::{self, Frontier};
use crate::record::{COMMITMENT_BYTES, DetailParts, REDACTED};
use crate::segment::{At, Frame, Segment, le32};
use crate::verify::LogKey;
use crate::wire;

use super::erase::{NEW, erase_if_there, old_name, overwrite, sync_directory};
use super::{NO_DETAIL, Named, Standing, Step, standing};

const PROBE: &str = "redact.probe";

/// What rewriting a segment needs.
pub(crate) struct Rewriting<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) key: &'a LogKey,
    /// Everything that the log says is erased.
    pub(crate) named: &'a Named,
    /// Whether a file of so many bytes can be made.
    pub(crate) has_space: &'a dyn Fn(u64) -> bool,
    /// Called while nobody reads the segment, before another is in its place.
    pub(crate) forget: &'a dyn Fn(u64) -> io::Result<()>,
    /// Whoever reads segments holds it for reading.
    pub(crate) files: &'a RwLock<()>,
    /// The group that may read the new one.
    pub(crate) group: Option<u32>,
    pub(crate) step: &'a dyn Fn(Step),
}

/// The most bytes that a segment of so many has when it is written anew: what stays of an erased item can
/// be longer than a short item was.
pub(crate) fn room(len: u64) -> u64 {
    len.saturating_add(len / 2)
}

/// Writes a segment anew that gets no more records; the next one begins with `next`. False if nothing
/// of what is named is there any more.
///
/// # Errors
/// `Corrupt` if it is not as it was signed: then it stays as it is. `Unavailable` without space.
pub(crate) fn rewrite(with: &Rewriting<'_>, path: &Path, next: u64) -> Result<bool, JournalError> {
    let segment = Segment::open(path, &with.key.key)?;
    if !(with.has_space)(room(segment.len)) {
        return Err(JournalError::Unavailable);
    }
    let new = with.directory.join(NEW);
    let failed = |e: io::Error| JournalError::io("write anew", path, &e);
    let written = write(with, &segment, next, &new);
    if !matches!(written, Ok(true)) {
        // What it has may have to be erased one day.
        erase_if_there(&new).map_err(failed)?;
        return written;
    }
    (with.step)(Step::Written);
    let _alone = with.files.write();
    replace(with, &segment, &new).map_err(failed)?;
    Ok(true)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Sees that a file of the directory can have a second name, and be renamed.
///
/// # Errors
/// If the file system does not do that.
pub(crate) fn probe(directory: &Path) -> io::Result<()> {
    let (new, second) = (directory.join(NEW), directory.join(PROBE));
    erase_if_there(&new)?;
    remove(&second)?;
    drop(create_new(&new)?);
    std::fs::hard_link(&new, &second)?;
    std::fs::rename(&second, &new)?;
    remove(&second)?;
    remove(&new)
}

/// Puts the new segment in the old one's place, and erases the old one.
fn replace(with: &Rewriting<'_>, segment: &Segment, new: &Path) -> io::Result<()> {
    let old = old_name(with.directory, segment.head.first);
    (with.forget)(segment.head.first)?;
    std::fs::hard_link(&segment.path, &old)?;
    sync_directory(with.directory)?;
    (with.step)(Step::Linked);
    std::fs::rename(new, &segment.path)?;
    sync_directory(with.directory)?;
    (with.step)(Step::Renamed);
    overwrite(&old)?;
    (with.step)(Step::Overwritten);
    std::fs::remove_file(&old)?;
    sync_directory(with.directory)
}

/// Writes the new file. False if it would be the same.
fn write(
    with: &Rewriting<'_>,
    segment: &Segment,
    next: u64,
    new: &Path,
) -> Result<bool, JournalError> {
    let failed = |e: io::Error| JournalError::io("write", new, &e);
    let mut out = BufWriter::with_capacity(256 * 1024, create_new(new).map_err(failed)?);
    let (mut tree, mut changed) = (segment.frontier()?, false);
    let (mut from, mut to) = (segment.start, segment.start);
    out.write_all(&segment.header()?).map_err(failed)?;
    while tree.size() < next {
        let corrupt = |what| JournalError::corrupt(&segment.path, from, what);
        let frame = match segment.at(from)? {
            At::Frame(frame) => frame,
            At::Bad(what) => return Err(corrupt(what)),
            At::Nothing => return Err(corrupt("a frame is gone")),
        };
        let details = details(with, &frame, &mut tree).map_err(corrupt)?;
        changed |= details.1;
        let bytes = frame.moved(to, &details.0);
        out.write_all(&bytes).map_err(failed)?;
        (from, to) = (frame.end, to.saturating_add(bytes.len() as u64));
    }
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    access::file(new, with.group).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(changed)
}

/// The frame's details without what is named, and whether something was. The frame must be as it was
/// signed, and so must be what goes: a detail that was altered is evidence.
fn details(
    with: &Rewriting<'_>,
    frame: &Frame,
    tree: &mut Frontier,
) -> Result<(Vec<u8>, bool), &'static str> {
    let (mut out, mut changed) = (Vec::new(), false);
    let mut details = frame.details();
    if frame.head.first != tree.size() || frame.head.synced != frame.offset {
        return Err("a frame does not stand where it was written");
    }
    for leaf in frame.leaves() {
        let leaf = leaf.ok_or("a record is cut off")?;
        let detail = details.next().flatten().ok_or(NO_DETAIL)?;
        let at = leaf.len().checked_sub(COMMITMENT_BYTES).ok_or("a record is too short")?;
        let commitment = leaf.get(at..).unwrap_or_default();
        let index = tree.size();
        let found = standing(commitment, detail)?;
        if !with.named.allows(index, &found) {
            return Err("a detail is missing that no record names");
        }
        let kept = without(with.named, index, detail, &found).ok_or("a detail is cut off")?;
        changed |= kept != detail;
        out.extend_from_slice(&le32(kept.len()));
        out.extend_from_slice(&kept);
        tree.append(merkle::leaf_hash(leaf));
    }
    let root = tree.root();
    let body = checkpoint::body(with.key.origin(), tree.size(), &root);
    if frame.head.root != root || details.next().is_some() {
        return Err("a frame's records are not those that were signed");
    }
    let signed = with.key.key.verify(body.as_bytes(), &frame.signature);
    signed.map_err(|_| "a frame's signature does not verify")?;
    Ok((out, changed))
}

/// What stays of a detail.
fn without(named: &Named, index: u64, detail: &[u8], found: &Standing) -> Option<Vec<u8>> {
    if detail.is_empty() || *found == Standing::Gone || named.has_whole(index) {
        return Some(Vec::new());
    }
    if !named.meets(&(index..index.saturating_add(1))) {
        return Some(detail.to_vec());
    }
    let parts = DetailParts::cut(detail)?;
    let mut kept = Vec::with_capacity(detail.len());
    kept.extend_from_slice(parts.salt);
    wire::varint(&mut kept, parts.head.len() as u64);
    kept.extend_from_slice(parts.head);
    for (item, number) in parts.items().zip(0..) {
        let item = item?;
        if item.message.is_some() && named.has_item(index, number) {
            kept.extend_from_slice(&REDACTED);
            kept.extend_from_slice(&item.leaf_hash()?);
        } else {
            kept.extend_from_slice(item.raw);
        }
    }
    Some(kept)
}
