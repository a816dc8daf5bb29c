//! The tools of a forger: a log that was read into memory, and what can be done to its files.

use std::fs;
use std::path::{Path, PathBuf};

use fieldseal_audit::merkle::{self, Hash};
use fieldseal_crypto::signing::LogSigningKey;

/// A frame of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) at: usize,
    pub(crate) end: usize,
    pub(crate) first: u64,
    /// Where head, signature, leaves, details and checksum begin.
    pub(crate) head: usize,
    pub(crate) signature: usize,
    pub(crate) leaves: usize,
    pub(crate) details: usize,
    pub(crate) crc: usize,
}

/// A segment, as it was written.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) first: u64,
    pub(crate) frames: Vec<Frame>,
}

impl Segment {
    pub(crate) fn last(&self) -> Frame {
        *self.frames.last().unwrap()
    }

    /// Where its frames end.
    pub(crate) fn end(&self) -> usize {
        self.last().end
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Where the first frame begins.
fn header_end(bytes: &[u8]) -> usize {
    (12 + u32_at(bytes, 8) + 64 + 4).next_multiple_of(8)
}

/// Reads the segments of a log that is whole.
pub(crate) fn read(directory: &Path) -> Vec<Segment> {
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "log"));
    names.sort();
    // The oldest ones may be archived.
    let number = names[0].file_stem().unwrap().to_str().unwrap().strip_prefix("segment-").unwrap();
    let mut index = number.parse().unwrap();
    names.into_iter().map(|path| segment(&path, &mut index)).collect()
}

fn segment(path: &Path, index: &mut u64) -> Segment {
    let bytes = fs::read(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let (first, mut at, mut frames) = (*index, header_end(&bytes), Vec::new());
    while bytes.get(at..at + 4).is_some_and(|magic| magic == b"FSFR") {
        let head = at + 16;
        let signature = head + u32_at(&bytes, at + 4);
        let leaves = signature + 64;
        let details = leaves + u32_at(&bytes, at + 8);
        let crc = details + u32_at(&bytes, at + 12);
        let end = (crc + 4).next_multiple_of(8);
        frames.push(Frame { at, end, first: *index, head, signature, leaves, details, crc });
        *index += parts(&bytes[leaves..details]).len() as u64;
        at = end;
    }
    Segment { name, bytes, first, frames }
}

/// The parts of `(le32 length | part)*`.
pub(crate) fn parts(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0);
        found.push(&bytes[4..4 + length]);
        bytes = &bytes[4 + length..];
    }
    found
}

/// A copy of a log that is being falsified.
pub(crate) struct Forgery {
    pub(crate) dir: PathBuf,
}

impl Forgery {
    pub(crate) fn path(&self, segment: &Segment) -> PathBuf {
        self.dir.join(&segment.name)
    }

    /// Alters the bytes of a segment.
    pub(crate) fn edit(&self, segment: &Segment, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(segment)).unwrap();
        edit(&mut bytes);
        fs::write(self.path(segment), bytes).unwrap();
    }

    /// Alters a frame and makes its checksum fit again.
    pub(crate) fn repaired(&self, segment: &Segment, frame: Frame, edit: impl FnOnce(&mut [u8])) {
        self.edit(segment, |bytes| {
            edit(&mut bytes[frame.at..frame.crc]);
            repair(bytes, frame.at, frame.crc);
        });
    }

    pub(crate) fn flip(&self, segment: &Segment, at: usize) {
        self.edit(segment, |bytes| bytes[at] ^= 1);
    }

    pub(crate) fn remove(&self, segment: &Segment) {
        fs::remove_file(self.path(segment)).unwrap();
    }

    /// Puts this in the place of a frame; what follows moves.
    pub(crate) fn replace(&self, segment: &Segment, frame: Frame, by: &[u8]) {
        self.edit(segment, |bytes| {
            bytes.splice(frame.at..frame.end, by.iter().copied());
        });
    }
}

/// Makes the checksum of what begins at `at` fit.
pub(crate) fn repair(bytes: &mut [u8], at: usize, crc: usize) {
    let sum = crc32fast::hash(&bytes[at..crc]).to_le_bytes();
    bytes[crc..crc + 4].copy_from_slice(&sum);
}

/// Signs every header and every frame of a log with another key, over the roots that are right.
pub(crate) fn sign_anew(
    forgery: &Forgery,
    segments: &[Segment],
    key: &LogSigningKey,
    origin: &str,
) {
    for segment in segments {
        forgery.edit(segment, |bytes| {
            sign_header(bytes, key);
            for frame in &segment.frames {
                sign_frame(bytes, *frame, key, origin);
            }
        });
    }
}

/// Signs a header with this key and makes its checksum fit.
pub(crate) fn sign_header(bytes: &mut [u8], key: &LogSigningKey) {
    let end = 12 + u32_at(bytes, 8);
    let message = fieldseal_crypto::pae::encode(&[b"fieldseal/v1/log/segment", &bytes[12..end]]);
    bytes[end..end + 64].copy_from_slice(&key.sign(&message));
    repair(bytes, 0, end + 64);
}

/// Signs a frame with this key, over the root that its head names.
pub(crate) fn sign_frame(bytes: &mut [u8], frame: Frame, key: &LogSigningKey, origin: &str) {
    let size = frame.first + parts(&bytes[frame.leaves..frame.details]).len() as u64;
    let root: Hash = bytes[root_of(bytes, frame)..][..32].try_into().unwrap();
    let body = checkpoint(origin, size, &root);
    bytes[frame.signature..frame.leaves].copy_from_slice(&key.sign(body.as_bytes()));
    repair(bytes, frame.at, frame.crc);
}

/// Where a frame's root stands: field 3 of its head, 32 bytes.
pub(crate) fn root_of(bytes: &[u8], frame: Frame) -> usize {
    let head = &bytes[frame.head..frame.signature];
    frame.head + head.windows(2).position(|pair| pair == [0x1a, 32]).unwrap() + 2
}

fn checkpoint(origin: &str, size: u64, root: &Hash) -> String {
    use base64::Engine as _;
    let root = base64::engine::general_purpose::STANDARD.encode(root);
    format!("{origin}\n{size}\n{root}\n")
}

/// A frame of one record that continues the log, signed with this key.
pub(crate) fn forged_frame(
    segments: &[Segment],
    segment: usize,
    after: usize,
    key: &LogSigningKey,
    origin: &str,
) -> Vec<u8> {
    let model = segments[segment].frames[after];
    let mut bytes = segments[segment].bytes[model.at..model.end].to_vec();
    let next = segments[segment].frames.get(after + 1).map_or(model.first + 1, |next| next.first);
    let moved = Frame {
        at: 0,
        end: bytes.len(),
        first: next,
        head: 16,
        signature: model.signature - model.at,
        leaves: model.leaves - model.at,
        details: model.details - model.at,
        crc: model.crc - model.at,
    };
    let mut leaves = Vec::new();
    for frame in segments.iter().flat_map(|s| s.frames.iter().map(move |f| (s, f))) {
        let (from, frame) = frame;
        if frame.first < next {
            let of_frame = parts(&from.bytes[frame.leaves..frame.details]);
            leaves.extend(of_frame.into_iter().map(merkle::leaf_hash));
        }
    }
    leaves.extend(parts(&bytes[moved.leaves..moved.details]).into_iter().map(merkle::leaf_hash));
    let root = merkle::root(leaves);
    let head = head(next, 1, &root, model.end as u64);
    bytes.splice(moved.head..moved.signature, head.iter().copied());
    let shift = head.len() as isize - (moved.signature - moved.head) as isize;
    let at = |place: usize| place.checked_add_signed(shift).unwrap();
    let (signature, leaves) = (at(moved.signature), at(moved.leaves));
    let (details, crc) = (at(moved.details), at(moved.crc));
    let moved = Frame { signature, leaves, details, crc, ..moved };
    bytes[4..8].copy_from_slice(&(head.len() as u32).to_le_bytes());
    bytes.truncate(crc);
    bytes.resize((crc + 4).next_multiple_of(8), 0);
    sign_frame(&mut bytes, moved, key, origin);
    bytes
}

/// A frame without records behind this one, with its root and its signature.
pub(crate) fn empty_frame(bytes: &[u8], after: Frame, next: u64) -> Vec<u8> {
    let at = root_of(bytes, after);
    let root: Hash = bytes[at..at + 32].try_into().unwrap();
    let head = head(next, 0, &root, after.end as u64);
    let mut out = b"FSFR".to_vec();
    out.extend_from_slice(&(head.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&head);
    out.extend_from_slice(&bytes[after.signature..after.signature + 64]);
    let crc = out.len();
    out.resize((crc + 4).next_multiple_of(8), 0);
    repair(&mut out, 0, crc);
    out
}

/// The head of a frame of so many records.
pub(crate) fn head(first: u64, count: u8, root: &Hash, synced: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if first > 0 {
        out.push(0x08);
        varint(&mut out, first);
    }
    out.extend_from_slice(&[0x10, count, 0x1a, 32]);
    out.extend_from_slice(root);
    out.push(0x20);
    varint(&mut out, synced);
    out
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The public key file of a log that says to be this one's, with another key.
pub(crate) fn log_pub(identity: &fieldseal_audit::Identity) -> String {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("audit");
    let settings = fieldseal_audit::Settings {
        directory,
        segment_bytes: 16 * 1024,
        reserve_bytes: 0,
        group: None,
    };
    fieldseal_audit::Journal::create(&settings, identity).unwrap();
    fs::read_to_string(settings.directory.join("log.pub")).unwrap()
}
