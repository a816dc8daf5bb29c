//! Verifying a log with nothing but its files and its public key.

mod certified;
mod entry;
mod evidence;
mod export;
mod known;
mod leaves;
mod lingering;
mod receipt;
mod report;
mod resume;
mod standing;
mod state;
mod walk;

use std::path::{Path, PathBuf};

use fieldseal_crypto::signing::LogPublicKey;
use fieldseal_model::KeyId;

use crate::checkpoint;
use crate::error::JournalError;
use crate::journal::{self, Identity};
use crate::merkle;
use crate::record::{Kind, LastChange};
use crate::redaction::Named;
use crate::segment;

pub use crate::checkpoint::{Remembered, line, remembered};
pub use crate::consistency::{Consistency, extends};
pub use crate::inclusion::Inclusion;
pub use entry::{Detail, Entry, Field};
pub use evidence::{Evidence, Proved, Times, evidence};
pub use export::{Tiled, TilesError, tiles};
pub use receipt::{check, newest, prove};
pub use report::{Range, Report, Verdict};
pub use resume::resume;
pub use standing::{Standing, standing};
pub use state::State;
use walk::{SeeDetail, Start, Walk};

const ARCHIVED: &str = "records are archived, and a record says so";
/// How many records are verified between two calls of the progress function.
const REPORT_EVERY: u64 = 1024;

/// What of a log verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The log's origin.
    pub origin: String,
    /// How many records are proved: all of a log that verifies, otherwise those up to and with the
    /// last frame that is.
    pub records: u64,
    /// In how many files.
    pub segments: u64,
    /// How many frames are signed and as they were then.
    pub checkpoints: u64,
    /// Of how many of them the header of the next segment says so: their signatures were not verified one by
    /// one.
    pub by_header: u64,
    /// How many details were compared with their commitments.
    pub details: u64,
    /// The root over them.
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
    /// Records that were signed are not there.
    #[error("{}, byte {offset}, record {record}: {what}", .file.display())]
    Missing {
        /// The segment that does not follow, or that ends too early.
        file: PathBuf,
        /// Where that is seen.
        offset: u64,
        /// The first record that is not there.
        record: u64,
        /// What is missing.
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
    /// What should be a checkpoint is none.
    #[error(
        "this is no checkpoint: it is a signed note, or the line that `audit anchor` writes: \
         origin, number of records, root and signature"
    )]
    Checkpoint,
    /// A checkpoint that this log's key did not sign.
    #[error(
        "the checkpoint is of {found:?} and not signed by this public key, which is that of \
         {expected:?}: it is another log's, or the key is not this log's"
    )]
    CheckpointForeign {
        /// Whose log it says to be of.
        found: String,
        /// Whose key it is.
        expected: String,
    },
    /// What should be the state of an earlier run is none.
    #[error(
        "this is no state of `audit verify`, or it was cut off or altered; without it everything is \
         read: move it away"
    )]
    State,
    /// The state of an earlier run is about another log.
    #[error(
        "the state is about the log {found:?}, not signed by this public key, which is that of \
         {expected:?}: name the state of this log, or a new file"
    )]
    StateForeign {
        /// Whose log it is about.
        found: String,
        /// Whose key it is.
        expected: String,
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
    /// What is asked needs records that are archived.
    #[error(
        "the records before {0} are archived: ask the archive, which is a log by itself (--log DIR), or name \
         it as well (--archive DIR)"
    )]
    Archived(u64),
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
            Self::Missing { .. } => "AUDIT_RECORDS_MISSING",
            Self::Foreign { .. } => "AUDIT_LOG_FOREIGN",
            Self::Torn { .. } => "AUDIT_LOG_TORN",
            Self::PublicKey => "PUBLIC_KEY_INVALID",
            Self::Checkpoint => "CHECKPOINT_INVALID",
            Self::CheckpointForeign { .. } => "CHECKPOINT_FOREIGN",
            Self::Archived(_) => "AUDIT_RECORDS_ARCHIVED",
            Self::State => "VERIFY_STATE_INVALID",
            Self::StateForeign { .. } => "VERIFY_STATE_FOREIGN",
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
/// the zeroes after the last frame. `progress` hears from time to time how many records were read.
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
    let walk = Walk::new(key, None, &mut progress, &mut change);
    let (found, _) = read(Files::of(directory), walk)?;
    if let Some(wrong) = found.first_wrong() {
        return Err(wrong);
    }
    let torn = found.torn();
    Ok(Examined { verified: found.verified, last_change: found.last_change, torn })
}

/// Reads every byte of a log and says of every range of records what is known of it: it goes on
/// behind what is wrong, where that is sound. `remembered` is a checkpoint that was kept elsewhere:
/// with it a log that was cut off or written anew is found too.
///
/// # Errors
/// `Foreign` and `Unreadable` only; everything else is in the report.
pub fn report(
    directory: &Path,
    key: &LogKey,
    remembered: Option<&Remembered>,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let change = &mut |_| {};
    let walk = Walk::new(key, remembered, &mut progress, change);
    let (found, _) = read(Files::of(directory), walk)?;
    Ok(found)
}

/// The same, and what records say was erased; `detail` sees every record whose detail fits as far as it
/// is there.
pub(crate) fn survey(
    directory: &Path,
    key: &LogKey,
    detail: SeeDetail<'_>,
) -> Result<(Report, Named), VerifyError> {
    let (mut progress, mut change) = (|_| {}, |_| {});
    let mut walk = Walk::new(key, None, &mut progress, &mut change);
    walk.detail = Some(detail);
    read(Files::of(directory), walk)
}

/// Where the segments of a log are.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The log's directory.
    pub directory: &'a Path,
    /// Directories of archives: a segment that is not in the log's is looked for there. With any given,
    /// what is in none of them is `MISSING`.
    pub archives: &'a [PathBuf],
}

impl<'a> Files<'a> {
    /// A log without its archives.
    #[must_use]
    pub const fn of(directory: &'a Path) -> Self {
        Self { directory, archives: &[] }
    }

    fn list(&self) -> Result<Vec<(u64, PathBuf)>, JournalError> {
        let mut all = segment::list(self.directory)?;
        for archive in self.archives {
            for (first, path) in segment::list(archive)? {
                if let Err(at) = all.binary_search_by_key(&first, |(first, _)| *first) {
                    all.insert(at, (first, path));
                }
            }
        }
        Ok(all)
    }
}

fn segments(files: Files<'_>, key: &LogKey) -> Result<Vec<(u64, PathBuf)>, VerifyError> {
    let directory = files.directory;
    let segments = files.list().map_err(VerifyError::Unreadable)?;
    let Some((_, first)) = segments.first() else {
        let missing = JournalError::NotInitialized(directory.to_owned());
        return Err(VerifyError::Unreadable(missing));
    };
    // Before any signature: under another log's key none verifies.
    match segment::claimed_origin(first) {
        Some(found) if found != key.origin => {
            Err(VerifyError::Foreign { found, expected: key.origin.clone() })
        }
        _ => Ok(segments),
    }
}

fn read(files: Files<'_>, walk: Walk<'_>) -> Result<(Report, Named), VerifyError> {
    let segments = segments(files, walk.key)?;
    read_segments(files, &segments, walk, None)
}

/// Reads segments, from their beginning or from where an earlier run came to; gives what records say was
/// erased as well.
fn read_segments(
    files: Files<'_>,
    segments: &[(u64, PathBuf)],
    mut walk: Walk<'_>,
    start: Option<&Start>,
) -> Result<(Report, Named), VerifyError> {
    if let Some(start) = start {
        walk.start(start);
    }
    walk.read(segments)?;
    let Walk { key, remembered, progress, mut found, mut ranges, .. } = walk;
    let said = std::mem::take(&mut found.said);
    if !said.covers(&found.absent) {
        // Something is not there that no record names. Now it can be said which.
        let mut unheard = |_| {};
        let mut again = Walk::new(key, remembered, progress, &mut unheard);
        again.redactions = Some(&said);
        if let Some(start) = start {
            again.start(start);
        }
        again.read(segments)?;
        (found, ranges) = (again.found, again.ranges);
    }
    let note = found.signed.as_ref().map(|signed| note(key, signed)).unwrap_or_default();
    let verified = Verified {
        origin: key.origin.clone(),
        records: found.tree.size(),
        segments: segments.len() as u64,
        checkpoints: found.checkpoints,
        by_header: found.by_header,
        details: found.details,
        root: found.tree.root(),
        closed_records: journal::closed_at(files.directory),
        checkpoint_note: note,
    };
    if files.archives.is_empty() {
        ranges.archived(found.archived.prefix(), ARCHIVED);
    }
    let mut report = Report {
        verified,
        last_change: found.last_change,
        ranges: ranges.into_vec(),
        resumed_from: 0,
        lingering: lingering::lingering(segments, key, &said)?,
        is_compared: !found.is_beyond,
        state: None,
    };
    let verdict = report.verdict();
    report.state =
        found.at.filter(|_| verdict <= Verdict::Archived).map(|(segment, frame)| State {
            segment,
            frame,
            tree: found.tree,
            last_change: found.last_change,
            verdict,
            note: report.verified.checkpoint_note.clone(),
        });
    Ok((report, said))
}

/// The signed note of a frame's checkpoint: its size, root and signature.
fn note(key: &LogKey, (size, root, signature): &(u64, merkle::Hash, [u8; 64])) -> String {
    let body = checkpoint::body(&key.origin, *size, root);
    checkpoint::note(&key.origin, &body, &key.key, signature)
}
