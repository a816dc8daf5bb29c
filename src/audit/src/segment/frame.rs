//! What frames are made of, and what stands where one should begin.

use std::ops::Range;

use prost::Message as _;

use super::{FRAME_PREFIX, MAX_HEADER, SIGNATURE_BYTES, le32, u32_at};

pub(crate) const FRAME_MAGIC: &[u8; 4] = b"FSFR";
/// The longest leaves, and the longest details, that a reader believes in.
const MAX_PART: usize = 1 << 30;

/// What stands at the beginning of a frame.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FrameHead {
    #[prost(uint64, tag = "1")]
    pub first: u64,
    #[prost(uint32, tag = "2")]
    pub count: u32,
    /// The root of the tree with the frame's records.
    #[prost(bytes = "vec", tag = "3")]
    pub root: Vec<u8>,
    /// Up to this byte of the file everything was on disk before the frame was written.
    #[prost(uint64, tag = "4")]
    pub synced: u64,
}

/// A frame, whole and with a CRC that fits. It has its bytes, or borrows them.
pub(crate) struct Frame<B = Vec<u8>> {
    pub head: FrameHead,
    pub signature: [u8; 64],
    pub offset: u64,
    pub end: u64,
    bytes: B,
    /// Where among the bytes they stand.
    leaves: Range<usize>,
    details: Range<usize>,
}

/// What stands at a place of a segment.
pub(crate) enum At<B = Vec<u8>> {
    Frame(Box<Frame<B>>),
    /// Zeroes, or the end of the file.
    Nothing,
    /// Neither; what is wrong.
    Bad(&'static str),
}

/// What the first bytes at a place look like.
pub(super) enum Look {
    /// A frame with a head, leaves and details of these lengths.
    Frame([usize; 3]),
    Nothing,
    Bad(&'static str),
}

impl<B: AsRef<[u8]>> Frame<B> {
    /// The leaves; `None` in the place of one that is cut off.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = Option<&[u8]>> {
        parts(self.leaf_bytes())
    }

    /// The details, one for each leaf.
    pub(crate) fn details(&self) -> impl Iterator<Item = Option<&[u8]>> {
        parts(self.bytes.as_ref().get(self.details.clone()).unwrap_or_default())
    }

    fn leaf_bytes(&self) -> &[u8] {
        self.bytes.as_ref().get(self.leaves.clone()).unwrap_or_default()
    }

    /// The frame at another place of a file, with other details: what is signed stays as it is.
    pub(crate) fn moved(&self, offset: u64, details: &[u8]) -> Vec<u8> {
        let head = FrameHead { synced: offset, ..self.head.clone() };
        let mut out = Vec::new();
        encode_frame(&mut out, &head, &self.signature, self.leaf_bytes(), details);
        out
    }
}

/// Writes a frame in the place of what is in the buffer.
pub(crate) fn encode_frame(
    out: &mut Vec<u8>,
    head: &FrameHead,
    signature: &[u8; 64],
    leaves: &[u8],
    details: &[u8],
) {
    let head = head.encode_to_vec();
    out.clear();
    out.extend_from_slice(FRAME_MAGIC);
    for part in [head.len(), leaves.len(), details.len()] {
        out.extend_from_slice(&le32(part));
    }
    for part in [head.as_slice(), signature, leaves, details] {
        out.extend_from_slice(part);
    }
    finish(out, 0);
}

fn parts(mut rest: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let part = rest
            .split_first_chunk::<4>()
            .and_then(|(len, after)| after.split_at_checked(u32::from_le_bytes(*len) as usize));
        rest = part.map_or(&[], |(_, after)| after);
        Some(part.map(|(part, _)| part))
    })
}

/// Ends a header or frame that begins at `start`: its CRC, and zeroes up to a multiple of 8.
pub(super) fn finish(out: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(8), 0);
}

/// What the bytes at a place, of which the file has so many left, look like.
pub(super) fn look(prefix: &[u8], left: u64) -> Look {
    let prefix = prefix.get(..FRAME_PREFIX).unwrap_or(prefix);
    if prefix.iter().all(|b| *b == 0) {
        return Look::Nothing;
    }
    let Some(lengths) = lengths(prefix) else { return Look::Bad("a frame is cut off") };
    let [head, leaves, details] = lengths;
    if !prefix.starts_with(FRAME_MAGIC) {
        return Look::Bad("no frame begins where one should");
    }
    if head > MAX_HEADER || leaves > MAX_PART || details > MAX_PART {
        return Look::Bad("a frame's lengths are impossible");
    }
    if frame_bytes(lengths) as u64 > left {
        return Look::Bad("a frame is cut off");
    }
    Look::Frame(lengths)
}

fn lengths(prefix: &[u8]) -> Option<[usize; 3]> {
    let at = |at| u32_at(prefix, at).map(|length| length as usize);
    Some([at(4)?, at(8)?, at(12)?])
}

/// A frame whose checksum fits, or what is wrong.
pub(super) fn checked<B: AsRef<[u8]>>(bytes: B, offset: u64, lengths: [usize; 3]) -> At<B> {
    if let Err(what) = check_end(bytes.as_ref(), body_bytes(lengths)) {
        return At::Bad(what);
    }
    match parse(bytes, offset, lengths) {
        Some(frame) => At::Frame(Box::new(frame)),
        None => At::Bad("a frame's head is none"),
    }
}

pub(super) fn parse<B: AsRef<[u8]>>(
    bytes: B,
    offset: u64,
    lengths: [usize; 3],
) -> Option<Frame<B>> {
    let [head, leaves, details] = lengths;
    let whole = bytes.as_ref();
    let (_, rest) = whole.split_at_checked(FRAME_PREFIX)?;
    let (head_bytes, rest) = rest.split_at_checked(head)?;
    let (signature, rest) = rest.split_first_chunk::<64>()?;
    rest.get(..leaves + details)?;
    let first = FRAME_PREFIX + head + SIGNATURE_BYTES;
    Some(Frame {
        head: FrameHead::decode(head_bytes).ok()?,
        signature: *signature,
        offset,
        end: offset + whole.len() as u64,
        leaves: first..first + leaves,
        details: first + leaves..first + leaves + details,
        bytes,
    })
}

/// Head and signature of the frame that begins with these bytes, and where it ends.
pub(super) fn skipped(bytes: &[u8], offset: u64) -> Option<(FrameHead, [u8; 64], u64)> {
    let lengths = lengths(bytes).filter(|_| bytes.starts_with(FRAME_MAGIC))?;
    let [head, ..] = lengths;
    let (head, rest) = bytes.get(FRAME_PREFIX..)?.split_at_checked(head)?;
    let signature = rest.first_chunk::<64>()?;
    let end = offset.saturating_add(frame_bytes(lengths) as u64);
    Some((FrameHead::decode(head).ok()?, *signature, end))
}

/// All bytes of a frame.
pub(super) fn frame_bytes(lengths: [usize; 3]) -> usize {
    (body_bytes(lengths) + 4).next_multiple_of(8)
}

/// The bytes of a frame that its checksum covers.
fn body_bytes([head, leaves, details]: [usize; 3]) -> usize {
    FRAME_PREFIX + head + SIGNATURE_BYTES + leaves + details
}

pub(super) fn check_end(bytes: &[u8], body: usize) -> Result<(), &'static str> {
    let (covered, end) = bytes.split_at_checked(body).ok_or("it is cut off")?;
    let (crc, padding) = end.split_first_chunk::<4>().ok_or("it is cut off")?;
    if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
        return Err("its checksum does not fit");
    }
    if padding.iter().any(|b| *b != 0) {
        return Err("its padding is not zero");
    }
    Ok(())
}
