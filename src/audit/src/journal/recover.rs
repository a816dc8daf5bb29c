//! Making a log, and opening one: what the last process left behind is checked before anything is
//! signed again.

use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use fieldseal_crypto::signing::{LogPublicKey, LogSigningKey};
use fieldseal_model::Clock;
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use tokio::sync::watch;

use super::queue::Queue;
use super::refusals::Refusals;
use super::settle::{self, create};
use super::space::{self, FreeSpace, Lock, StatVfs};
use super::writer::{self, OpenSegment, Writer};
use super::{Identity, Journal, Published, Settings, Shared};
use crate::access;
use crate::archive;
use crate::checkpoint;
use crate::error::{Health, JournalError};
use crate::event::SystemEvent;
use crate::index::{Indexes, Keeper, Maker};
use crate::merkle::{Frontier, Hash};
use crate::record::{COMMITMENT_BYTES, LastChange, Record};
use crate::segment::{self, At, FORMAT, Frame, Segment, SegmentHead};
use crate::verify::LogKey;

/// The file with the verifier key, beside the segments.
pub(crate) const PUBLIC_KEY: &str = "log.pub";

/// What was found when the log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Records in the log.
    pub records: u64,
    /// True if the last process ended without closing the log.
    pub unclean: bool,
    /// Bytes of a torn frame that were kept aside and cut off. Nobody had an answer for them.
    pub torn_bytes: u64,
    /// How many records the log had when it was last closed, if that is more than it has now: it
    /// was cut off or put back since.
    pub shortened_from: Option<u64>,
}

impl Journal {
    /// Makes an empty log: its first segment and its public key.
    ///
    /// # Errors
    /// `Exists` if there is one already; `Unavailable` if there is no space.
    pub fn create(settings: &Settings, identity: &Identity) -> Result<(), JournalError> {
        Self::begin(settings, identity, 0, Vec::new())
    }

    /// The same for a store that has come to this revision and anchor already, and whose log is lost.
    ///
    /// # Errors
    /// As [`Journal::create`].
    pub fn create_after(
        settings: &Settings,
        identity: &Identity,
        revision: u64,
        anchor: [u8; 32],
    ) -> Result<(), JournalError> {
        Self::begin(settings, identity, revision, anchor.to_vec())
    }

    fn begin(
        settings: &Settings,
        identity: &Identity,
        revision: u64,
        anchor: Vec<u8>,
    ) -> Result<(), JournalError> {
        let directory = &settings.directory;
        let failed = |e: &io::Error| JournalError::io("make", directory, e);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| failed(&e))?;
        let lock = Lock::acquire(directory)?;
        if !segment::list(directory)?.is_empty() {
            return Err(JournalError::Exists(directory.clone()));
        }
        let origin = identity.origin();
        write_public_key(directory, &origin, &identity.signing.public())?;
        share(settings)?;
        let spare = space::zeroed(settings, &StatVfs, (space::SPARE, settings.segment_bytes))?;
        let head =
            SegmentHead { format: FORMAT, origin, revision, anchor, ..SegmentHead::default() };
        writer::begin(&lock, settings, &spare, &head, |message| identity.signing.sign(message))?;
        settle::mark_closed(&lock, (directory, settings.group), 0)
    }

    /// Looks whether a process holds the log, and lets it go again.
    ///
    /// # Errors
    /// `Locked` if one does, or trouble with the files.
    pub fn check_unused(directory: &Path) -> Result<(), JournalError> {
        Lock::acquire(directory).map(drop)
    }

    /// Opens a log. A torn end is kept aside and cut off; anything that was synced and is damaged is
    /// refused.
    ///
    /// # Errors
    /// `NotInitialized`, `Locked`, `FormatNewer`, `Foreign`, `Corrupt`, or trouble with the files.
    pub fn open(
        settings: Settings,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, OpenReport), JournalError> {
        Self::open_with(settings, identity, clock, Arc::new(StatVfs))
    }

    /// [`Journal::open`] with another source of how much space is left.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_with(
        settings: Settings,
        identity: Identity,
        clock: Arc<dyn Clock>,
        space: Arc<dyn FreeSpace>,
    ) -> Result<(Self, OpenReport), JournalError> {
        let directory = &settings.directory;
        if segment::list(directory)?.is_empty() {
            return Err(JournalError::NotInitialized(directory.clone()));
        }
        let lock = Lock::acquire(directory)?;
        // Looked at again: whoever held the lock may have begun another one.
        let segments = segment::list(directory)?;
        let Some((_, last)) = segments.last() else {
            return Err(JournalError::NotInitialized(directory.clone()));
        };
        let (origin, key): (Arc<str>, _) = (identity.origin().into(), identity.signing.public());
        let known = check_public_key(directory, &identity, &key)?;
        let archived = check_chain(directory, &segments, &identity)?;
        if !known {
            write_public_key(directory, &origin, &key)?;
        }
        let end = scan(last, &key)?;
        let (size, root) = (end.frontier.size(), end.frontier.root());
        let settled = settle::settle(&lock, directory, last, (end.offset, size, end.torn))?;
        share(&settings)?;
        let open = OpenSegment::open(last.clone(), end.first, end.offset)
            .map_err(|e| JournalError::io("open", last, &e))?;
        let signature = end.signature.unwrap_or_else(|| {
            // Nothing was written into this segment yet: the checkpoint is signed anew.
            identity.signing.sign(checkpoint::body(&origin, size, &root).as_bytes())
        });
        let writer = Writer {
            segment: open,
            checkpoints: end.checkpoints(),
            frontier: end.frontier,
            newest: end.newest,
            spare: None,
            buffer: Vec::new(),
            broken: None,
            watched: false,
            lock,
        };
        let log_key = LogKey::of(&identity);
        let (signing, files) = (Arc::new(identity.signing), Arc::default());
        let indexes = indexes(&settings, log_key, &signing, (&space, &files));
        let shared = Shared {
            log: identity.instance.into(),
            origin,
            settings,
            signing,
            indexes,
            clock,
            space,
            queue: Mutex::new(Queue::new(end.newest.map_or(0, |newest| newest.revision))),
            writer: Mutex::new(writer),
            published: RwLock::new(Published { tree_size: size, root, signature }),
            grown: watch::Sender::new(size),
            health: watch::Sender::new(Health::Ok),
            statistics: Mutex::default(),
            refusals: Refusals::default(),
            files,
            archived: Arc::new(archived.into()),
            redacting: Arc::default(),
        };
        let journal = Self { shared: Arc::new(shared) };
        journal.record_torn()?;
        Ok((journal, settled.report(size)))
    }

    /// Records what was cut off, by this start or by one that did not come so far.
    fn record_torn(&self) -> Result<(), JournalError> {
        let directory = &self.shared.settings.directory;
        for torn in settle::unrecorded(directory)? {
            let now = self.shared.clock.now();
            self.record_now(SystemEvent::tail_recovered(now, torn.bytes, &torn.name))?;
            torn.recorded(&self.shared.writer.lock().lock, directory)?;
        }
        Ok(())
    }

    /// Records before anybody else can.
    fn record_now(&self, event: SystemEvent) -> Result<(), JournalError> {
        let mut queue = self.shared.queue.lock();
        let (_ticket, _lead) = queue.push(event.encode()?)?;
        let Some(batch) = queue.take() else { return Err(JournalError::Inconsistent) };
        let written = self.shared.writer.lock().write(&self.shared, &batch);
        queue.end_lead(&batch, written.is_ok());
        written.map(|_| ())
    }
}

/// Lets in who may read the log, and closes it to everybody else.
fn share(settings: &Settings) -> Result<(), JournalError> {
    let index = crate::index::directory(&settings.directory);
    let all = [settings.directory.as_path(), &index];
    for directory in all.into_iter().filter(|directory| directory.is_dir()) {
        access::everything(directory, settings.group)
            .map_err(|e| JournalError::io("let audit.group read", directory, &e))?;
    }
    Ok(())
}

fn write_public_key(
    directory: &Path,
    origin: &str,
    key: &LogPublicKey,
) -> Result<(), JournalError> {
    let path = directory.join(PUBLIC_KEY);
    let text = format!("{}\n", checkpoint::verifier_key(origin, key));
    let written = create(&path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| JournalError::io("write", &path, &e))
}

/// Whether the public key is there, and this log's.
fn check_public_key(
    directory: &Path,
    identity: &Identity,
    key: &LogPublicKey,
) -> Result<bool, JournalError> {
    let path = directory.join(PUBLIC_KEY);
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(JournalError::io("read", &path, &e)),
        Ok(text) => text,
    };
    if text.trim() == checkpoint::verifier_key(&identity.origin(), key) {
        return Ok(true);
    }
    let origin = match checkpoint::parse_verifier_key(text.trim()) {
        Some((origin, found)) if found == *key => origin,
        _ => String::new(),
    };
    Err(of_another(identity, &origin, &path, "another public key".to_owned()))
}

/// A log of another origin: of this installation under another name, or of somebody else.
fn of_another(identity: &Identity, origin: &str, file: &Path, what: String) -> JournalError {
    match identity.other_instance(origin) {
        Some(was) => JournalError::Renamed { was: was.to_owned(), is: identity.instance.clone() },
        None => JournalError::Foreign { file: file.to_owned(), what },
    }
}

/// Every segment's header is signed for this log, and none is missing between two others. Up to which
/// record it is archived.
fn check_chain(
    directory: &Path,
    segments: &[(u64, std::path::PathBuf)],
    identity: &Identity,
) -> Result<u64, JournalError> {
    let (origin, key) = (identity.origin(), identity.signing.public());
    let archived = archive::marked(directory, &LogKey::of(identity))?;
    let mut previous = None;
    for (first, path) in segments {
        let head = Segment::open(path, &key)?.head;
        if head.origin != origin {
            let what = format!("it belongs to {}", head.origin);
            return Err(of_another(identity, &head.origin, path, what));
        }
        // The first one begins with the first record, and names itself as the one before; or all before
        // it was archived.
        let follows = match previous {
            None => head.first <= archived,
            Some(previous) => head.previous == previous,
        };
        if head.first != *first || !follows {
            return Err(JournalError::corrupt(path, 0, "a segment before it is missing"));
        }
        previous = Some(*first);
    }
    Ok(archived)
}

/// Where the log ends.
struct End {
    first: u64,
    /// After the last whole frame.
    offset: u64,
    /// True if something stands there that is no frame.
    torn: bool,
    frontier: Frontier,
    /// The newest change in the log.
    newest: Option<LastChange>,
    signature: Option<[u8; 64]>,
}

impl End {
    /// The hash over the checkpoints of the segment, if it has no frame yet: of those that another process
    /// wrote only the last one's signature was verified.
    fn checkpoints(&self) -> Option<Hash> {
        self.signature.is_none().then(Hash::default)
    }
}

/// The indexes of the log, and the thread that makes them.
fn indexes(
    settings: &Settings,
    key: LogKey,
    signing: &Arc<LogSigningKey>,
    (space, files): (&Arc<dyn FreeSpace>, &Arc<RwLock<()>>),
) -> Arc<Indexes> {
    let (signing, space) = (Arc::clone(signing), Arc::clone(space));
    let maker = Maker::new(settings.clone(), key.clone(), signing, space, Arc::clone(files));
    Arc::new(Indexes::new(&settings.directory, key, Keeper::start(maker)))
}

/// Reads the last segment: rebuilds the tree, and verifies the last signature, which covers all.
fn scan(path: &Path, key: &LogPublicKey) -> Result<End, JournalError> {
    let segment = Segment::open(path, key)?;
    let mut end = End {
        first: segment.head.first,
        offset: segment.start,
        torn: false,
        frontier: segment.frontier()?,
        newest: segment.head.last_change(),
        signature: None,
    };
    loop {
        match segment.at(end.offset)? {
            At::Frame(frame) => take_frame(&segment, &mut end, &frame)?,
            At::Nothing => {
                end.torn = segment.first_nonzero(end.offset)?.is_some();
                break;
            }
            At::Bad(_) => {
                end.torn = true;
                break;
            }
        }
    }
    if end.torn && segment.synced_beyond(end.offset)?.is_some() {
        let what = "it was synced and does not read back";
        return Err(JournalError::corrupt(path, end.offset, what));
    }
    if let Some(signature) = &end.signature {
        let body =
            checkpoint::body(&segment.head.origin, end.frontier.size(), &end.frontier.root());
        key.verify(body.as_bytes(), signature).map_err(|_| {
            JournalError::corrupt(path, end.offset, "the last frame's signature does not verify")
        })?;
    }
    Ok(end)
}

fn take_frame(segment: &Segment, end: &mut End, frame: &Frame) -> Result<(), JournalError> {
    let corrupt = |what| JournalError::corrupt(&segment.path, frame.offset, what);
    if frame.head.first != end.frontier.size() {
        return Err(corrupt("a frame does not follow the one before"));
    }
    for leaf in frame.leaves() {
        let leaf = leaf.ok_or(corrupt("a record is cut off"))?;
        let index = end.frontier.size();
        end.frontier.append(crate::merkle::leaf_hash(leaf));
        let public = leaf.len().checked_sub(COMMITMENT_BYTES).and_then(|len| leaf.get(..len));
        let record = public.and_then(|public| Record::decode(public).ok());
        let record = record.ok_or(corrupt("a record is none"))?;
        end.newest = LastChange::of(&record, index).or(end.newest);
    }
    if frame.head.root != end.frontier.root() {
        return Err(corrupt("a frame's records are not those that were signed"));
    }
    end.signature = Some(frame.signature);
    end.offset = frame.end;
    Ok(())
}
