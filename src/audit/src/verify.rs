//! Verifying a log with nothing but its files and its public key.

use std::path::{Path, PathBuf};

use fieldseal_crypto::sha256;
use fieldseal_crypto::signing::LogPublicKey;
use fieldseal_model::KeyId;
use prost::Message as _;

use crate::checkpoint;
use crate::error::JournalError;
use crate::journal::{self, Identity};
use crate::merkle::{self, Frontier};
use crate::record::{COMMITMENT_BYTES, DetailHead, DetailParts, Kind, LastChange, Record};
use crate::segment::{self, At, Frame, Segment};

/// How many records are verified between two calls of the progress function.
const REPORT_EVERY: u64 = 1024;

/// A log that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The log's origin.
    pub origin: String,
    /// How many records it has.
    pub records: u64,
    /// In how many files.
    pub segments: u64,
    /// How many frames were signed.
    pub checkpoints: u64,
    /// How many details were compared with their commitments.
    pub details: u64,
    /// The root over all records.
    pub root: merkle::Hash,
    /// How many records it had when it was last closed, as its mark says. Nobody signed that; if it
    /// is more than there are, the log was cut off or put back.
    pub closed_records: Option<u64>,
    /// The last checkpoint. One that was kept elsewhere must be this one or an earlier one.
    pub checkpoint_note: String,
}

/// A log as it is found while nobody writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Everything up to the last whole frame.
    pub verified: Verified,
    /// The newest change in it.
    pub last_change: Option<LastChange>,
    /// What stands after the last whole frame, if its process was killed: `Torn`. The next start
    /// settles it.
    pub torn: Option<VerifyError>,
}

/// A record that tells of a change of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The store's revision.
    pub revision: u64,
    /// The HMAC over the sum of the whole store after it.
    pub anchor: [u8; 32],
    /// Of what kind; `None` for one that a newer program wrote.
    pub kind: Option<Kind>,
    /// Of a data key: its id.
    pub key_id: Option<KeyId>,
}

/// Why a log does not verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Something in the files is not what was signed.
    #[error("{}, byte {offset}, record {record}: {what}", .file.display())]
    Tampered {
        /// The segment.
        file: PathBuf,
        /// Where the first thing that is wrong begins.
        offset: u64,
        /// The first record that is not proved any more.
        record: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Bytes after the last whole frame.
    #[error(
        "{}, byte {offset}: bytes after the last signed frame: the log was altered there, or copied \
         while it was written, or its process was killed (the next start settles that)",
        .file.display()
    )]
    Torn {
        /// The segment.
        file: PathBuf,
        /// Where they begin.
        offset: u64,
    },
    /// The public key cannot be read.
    #[error("this is no public key of a log: it is one line, origin+hash+key, as in log.pub")]
    PublicKey,
    /// The log names another installation or instance. Whether that is true, only the public key
    /// of that one can tell.
    #[error(
        "the log says that it belongs to {found:?}, and this public key belongs to {expected:?}: \
         either it is another log's key, or the log was altered or replaced"
    )]
    Foreign {
        /// Whose log it is.
        found: String,
        /// Whose key it is.
        expected: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Unreadable(JournalError),
}

impl VerifyError {
    /// The stable name.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Tampered { .. } => "AUDIT_LOG_TAMPERED",
            Self::Foreign { .. } => "AUDIT_LOG_FOREIGN",
            Self::Torn { .. } => "AUDIT_LOG_TORN",
            Self::PublicKey => "PUBLIC_KEY_INVALID",
            Self::Unreadable(JournalError::NotInitialized(_)) => "LOG_NOT_FOUND",
            Self::Unreadable(_) => "AUDIT_LOG_UNREADABLE",
        }
    }
}

/// The public key of a log, with the origin that it signs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    pub(crate) origin: String,
    pub(crate) key: LogPublicKey,
}

impl LogKey {
    /// The public key of the log that this identity writes.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        Self { origin: identity.origin(), key: identity.signing.public() }
    }
}

/// Reads a public key as it stands in `log.pub` (C2SP verifier key).
///
/// # Errors
/// `PublicKey` if it is none.
pub fn public_key(text: &str) -> Result<LogKey, VerifyError> {
    let (origin, key) = checkpoint::parse_verifier_key(text).ok_or(VerifyError::PublicKey)?;
    Ok(LogKey { origin, key })
}

/// Reads every byte of a log: headers, frames, checksums, signatures, the tree, the details, and
/// the zeroes after the last frame. `progress` hears from time to time how many records were good.
///
/// # Errors
/// The first thing that is wrong.
pub fn log(
    directory: &Path,
    key: &LogKey,
    progress: impl FnMut(u64),
) -> Result<Verified, VerifyError> {
    let found = examine(directory, key, progress, |_| {})?;
    found.torn.map_or(Ok(found.verified), Err)
}

/// The same, for a log that its process may have left behind half written; `change` sees every
/// change that the log tells of, the oldest first.
///
/// # Errors
/// As [`log`], but for `Torn`.
pub fn examine(
    directory: &Path,
    key: &LogKey,
    mut progress: impl FnMut(u64),
    mut change: impl FnMut(Change),
) -> Result<Examined, VerifyError> {
    let segments = segment::list(directory).map_err(VerifyError::Unreadable)?;
    if segments.is_empty() {
        let missing = JournalError::NotInitialized(directory.to_owned());
        return Err(VerifyError::Unreadable(missing));
    }
    // Before any signature: under another log's key none verifies.
    let claimed = segments.first().and_then(|(_, path)| segment::claimed_origin(path));
    if let Some(found) = claimed.filter(|origin| *origin != key.origin) {
        return Err(VerifyError::Foreign { found, expected: key.origin.clone() });
    }
    let (tree, change) = (Frontier::default(), &mut change as &mut dyn FnMut(Change));
    let (signature, last_change) = (None, None);
    let mut state = State { key, tree, checkpoints: 0, details: 0, signature, last_change, change };
    let mut torn = None;
    let mut previous = 0;
    let last = segments.len() - 1;
    for (at, (first, path)) in segments.iter().enumerate() {
        let segment = Segment::open(path, &key.key).map_err(|e| state.unreadable(e))?;
        if segment.head.origin != key.origin {
            let (found, expected) = (segment.head.origin.clone(), key.origin.clone());
            return Err(VerifyError::Foreign { found, expected });
        }
        let tree = segment.frontier().map_err(|e| state.unreadable(e))?;
        let follows = tree == state.tree && segment.head.first == *first;
        if !follows || segment.head.previous != previous {
            return Err(state.wrong(path, 0, "it does not continue the log: records are missing"));
        }
        if *first == 0 {
            // A log that began when the one before was lost goes on from where the store was.
            state.last_change = segment.head.last_change();
        }
        if segment.head.last_change() != state.last_change {
            return Err(state.wrong(path, 0, "its header names another change than the last one"));
        }
        previous = *first;
        match state.segment(&segment, at == last, &mut progress) {
            Err(end @ VerifyError::Torn { .. }) => torn = Some(end),
            other => other?,
        }
    }
    let root = state.tree.root();
    let body = checkpoint::body(&key.origin, state.tree.size(), &root);
    let note = state.signature.map_or_else(String::new, |signature| {
        checkpoint::note(&key.origin, &body, &key.key, &signature)
    });
    progress(state.tree.size());
    let verified = Verified {
        origin: key.origin.clone(),
        records: state.tree.size(),
        segments: segments.len() as u64,
        checkpoints: state.checkpoints,
        details: state.details,
        root,
        closed_records: journal::closed_at(directory),
        checkpoint_note: note,
    };
    Ok(Examined { verified, last_change: state.last_change, torn })
}

struct State<'a> {
    key: &'a LogKey,
    tree: Frontier,
    checkpoints: u64,
    details: u64,
    signature: Option<[u8; 64]>,
    last_change: Option<LastChange>,
    change: &'a mut dyn FnMut(Change),
}

impl State<'_> {
    fn wrong(&self, file: &Path, offset: u64, what: &'static str) -> VerifyError {
        VerifyError::Tampered { file: file.to_owned(), offset, record: self.tree.size(), what }
    }

    fn unreadable(&self, error: JournalError) -> VerifyError {
        match error {
            JournalError::Corrupt { file, offset, what } => self.wrong(&file, offset, what),
            other => VerifyError::Unreadable(other),
        }
    }

    fn segment(
        &mut self,
        segment: &Segment,
        is_last: bool,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), VerifyError> {
        let mut offset = segment.start;
        loop {
            match segment.at(offset).map_err(|e| self.unreadable(e))? {
                At::Frame(frame) => {
                    self.frame(segment, &frame)?;
                    offset = frame.end;
                    if self.tree.size() % REPORT_EVERY < u64::from(frame.head.count) {
                        progress(self.tree.size());
                    }
                }
                At::Nothing => break,
                At::Bad(what) => return Err(self.bad_end(segment, offset, is_last, what)),
            }
        }
        match segment.first_nonzero(offset).map_err(|e| self.unreadable(e))? {
            None => Ok(()),
            Some(_) => {
                let what = "bytes where zeroes should be";
                Err(self.bad_end(segment, offset, is_last, what))
            }
        }
    }

    /// What stands after the last frame that could be read: perhaps the end of a killed process.
    fn bad_end(
        &self,
        segment: &Segment,
        offset: u64,
        is_last: bool,
        what: &'static str,
    ) -> VerifyError {
        match segment.was_synced(offset) {
            Ok(false) if is_last => VerifyError::Torn { file: segment.path.clone(), offset },
            Ok(_) => self.wrong(&segment.path, offset, what),
            Err(error) => self.unreadable(error),
        }
    }

    fn frame(&mut self, segment: &Segment, frame: &Frame) -> Result<(), VerifyError> {
        let (path, offset) = (segment.path.as_path(), frame.offset);
        if frame.head.first != self.tree.size() {
            return Err(self.wrong(path, offset, "a frame does not follow the one before"));
        }
        if frame.head.synced != offset {
            return Err(self.wrong(path, offset, "a frame does not stand where it was written"));
        }
        let mut tree = self.tree.clone();
        let (mut count, mut compared) = (0_u32, 0);
        let mut details = frame.details();
        for leaf in frame.leaves() {
            let leaf = leaf.ok_or_else(|| self.wrong(path, offset, "a record is cut off"))?;
            let detail = details.next().flatten();
            let detail =
                detail.ok_or_else(|| self.wrong(path, offset, "a record's detail is missing"))?;
            compared += u64::from(!detail.is_empty());
            let record = record(leaf, detail).map_err(|what| self.wrong(path, offset, what))?;
            if let Some(found) = LastChange::of(&record, tree.size()) {
                let kind = Kind::from_code(record.kind);
                let key_id = record.key_id.as_slice().try_into().ok().map(KeyId::new);
                let LastChange { revision, anchor, .. } = found;
                (self.change)(Change { revision, anchor, kind, key_id });
                self.last_change = Some(found);
            }
            tree.append(merkle::leaf_hash(leaf));
            count = count.saturating_add(1);
        }
        if details.next().is_some() || count != frame.head.count {
            return Err(self.wrong(path, offset, "a frame's count is not that of its records"));
        }
        let root = tree.root();
        if frame.head.root != root {
            return Err(self.wrong(
                path,
                offset,
                "a frame's records are not those that were signed",
            ));
        }
        let body = checkpoint::body(&self.key.origin, tree.size(), &root);
        self.key
            .key
            .verify(body.as_bytes(), &frame.signature)
            .map_err(|_| self.wrong(path, offset, "a frame's signature does not verify"))?;
        self.tree = tree;
        self.checkpoints += 1;
        self.details += compared;
        self.signature = Some(frame.signature);
        Ok(())
    }
}

/// A record is one, and its detail is the one that the leaf commits to.
fn record(leaf: &[u8], detail: &[u8]) -> Result<Record, &'static str> {
    let public =
        leaf.len().checked_sub(COMMITMENT_BYTES).and_then(|len| leaf.split_at_checked(len));
    let (public, commitment) = public.ok_or("a record is too short")?;
    let record = Record::decode(public).map_err(|_| "a record is none")?;
    if detail.is_empty() {
        let none = commitment.iter().all(|b| *b == 0);
        return if none { Ok(record) } else { Err("a record's detail is missing") };
    }
    let parts = DetailParts::cut(detail).ok_or("a record's detail is cut off")?;
    if sha256(&[parts.salt, parts.head]) != commitment {
        return Err("a record's detail is not the one it commits to");
    }
    let head = DetailHead::decode(parts.head).map_err(|_| "a record's detail is none")?;
    let mut tree = Frontier::default();
    for item in parts.items() {
        let (salted, _) = item.ok_or("an item is cut off")?;
        tree.append(merkle::leaf_hash(&salted));
    }
    let root = if tree.size() == 0 { Vec::new() } else { tree.root().to_vec() };
    if root != head.items_root || tree.size() != u64::from(head.item_count) {
        return Err("a record's items are not those it commits to");
    }
    Ok(record)
}
