//! The bytes of a copy.
//!
//! ```text
//! frame    "FSCF" | le32 length of payload | kind 1 | payload | le32 CRC-32 of all before
//! header   "FSCOPY" | le32 format | installation 16 | le64 incarnation | life 16
//! base     writes*                                what there is, in several frames
//! base end le64 revision | anchor 32 | le64 entries
//! part     writes*                                of a group, which counts once it is whole
//! group    le64 revision | anchor 32 | writes*
//! write    1 | le16 length | path | le32 length | revision 8 | sealed        put
//!          2 | le16 length | path                                            remove
//! ```

use fieldseal_model::InstallationId;

use super::{CopyOwner, Moment};

pub(super) const MAGIC: &[u8; 4] = b"FSCF";
const COPY: &[u8; 6] = b"FSCOPY";
pub(super) const FORMAT: u32 = 1;
/// Bytes before a payload.
pub(super) const HEAD: usize = 9;
/// The longest payload that a reader believes in.
pub(super) const MAX_PAYLOAD: usize = 4 * 1024 * 1024;
/// Bytes of writes that make a frame.
const FRAME: usize = 512 * 1024;

pub(super) const HEADER: u8 = 1;
pub(super) const BASE: u8 = 2;
pub(super) const BASE_END: u8 = 3;
pub(super) const PART: u8 = 4;
pub(super) const GROUP: u8 = 5;

const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// A frame, whole.
pub(super) type Frame = Vec<u8>;
/// A path, and what is put there; `None` if it is removed.
pub(super) type Write<'a> = (&'a [u8], Option<&'a [u8]>);

pub(super) fn frame(kind: u8, payload: &[u8]) -> Frame {
    let mut frame = Vec::with_capacity(HEAD + payload.len() + 4);
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.push(kind);
    frame.extend_from_slice(payload);
    let crc = crc32fast::hash(&frame);
    frame.extend_from_slice(&crc.to_le_bytes());
    frame
}

pub(super) fn header(owner: CopyOwner) -> Frame {
    let mut payload = COPY.to_vec();
    payload.extend_from_slice(&FORMAT.to_le_bytes());
    payload.extend_from_slice(owner.installation.as_bytes());
    payload.extend_from_slice(&owner.incarnation.to_le_bytes());
    payload.extend_from_slice(&owner.life);
    frame(HEADER, &payload)
}

/// What a header says: the format, and whose copy it is.
pub(super) fn parse_header(payload: &[u8]) -> Option<(u32, CopyOwner)> {
    let rest = payload.strip_prefix(COPY)?;
    let (format, rest) = rest.split_first_chunk::<4>()?;
    let (installation, rest) = rest.split_first_chunk::<16>()?;
    let (incarnation, rest) = rest.split_first_chunk::<8>()?;
    let owner = CopyOwner {
        installation: InstallationId::new(*installation),
        incarnation: u64::from_le_bytes(*incarnation),
        life: rest.try_into().ok()?,
    };
    Some((u32::from_le_bytes(*format), owner))
}

pub(super) fn base_end(now: Moment, count: u64) -> Frame {
    let mut payload = moment(now);
    payload.extend_from_slice(&count.to_le_bytes());
    frame(BASE_END, &payload)
}

/// The frames of a group. Only the last one makes it count.
pub(super) fn group<'a>(after: Moment, writes: impl Iterator<Item = Write<'a>>) -> Vec<Frame> {
    let writes: Vec<Write<'a>> = writes.collect();
    let mut pieces = pieces(&writes);
    let mut payload = moment(after);
    payload.extend_from_slice(&pieces.pop().unwrap_or_default());
    let mut frames: Vec<Frame> = pieces.iter().map(|piece| frame(PART, piece)).collect();
    frames.push(frame(GROUP, &payload));
    frames
}

/// Writes in as many frames of one kind as they need.
pub(super) fn parts(kind: u8, writes: &[Write<'_>]) -> Vec<Frame> {
    pieces(writes).iter().map(|piece| frame(kind, piece)).collect()
}

fn pieces(writes: &[Write<'_>]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    for (path, stored) in writes {
        piece.push(if stored.is_some() { PUT } else { REMOVE });
        piece.extend_from_slice(&u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
        piece.extend_from_slice(path);
        if let Some(stored) = stored {
            piece.extend_from_slice(&u32::try_from(stored.len()).unwrap_or(u32::MAX).to_le_bytes());
            piece.extend_from_slice(stored);
        }
        if piece.len() >= FRAME {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// A path, and what is put there; `None` if it is removed.
pub(super) type OwnedWrite = (Vec<u8>, Option<Vec<u8>>);

pub(super) fn parse_writes(mut payload: &[u8]) -> Option<Vec<OwnedWrite>> {
    let mut writes = Vec::new();
    while let Some((kind, rest)) = payload.split_first() {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (path, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (stored, rest) = match *kind {
            PUT => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
                let (stored, rest) = rest.split_at_checked(length)?;
                (Some(stored.to_vec()), rest)
            }
            REMOVE => (None, rest),
            _ => return None,
        };
        writes.push((path.to_vec(), stored));
        payload = rest;
    }
    Some(writes)
}

fn moment(at: Moment) -> Vec<u8> {
    let mut bytes = at.revision.to_le_bytes().to_vec();
    bytes.extend_from_slice(&at.anchor);
    bytes
}

/// A revision and an anchor, and what follows them.
pub(super) fn parse_moment(payload: &[u8]) -> Option<(Moment, &[u8])> {
    let (revision, rest) = payload.split_first_chunk::<8>()?;
    let (anchor, rest) = rest.split_first_chunk::<32>()?;
    Some((Moment { revision: u64::from_le_bytes(*revision), anchor: *anchor }, rest))
}
