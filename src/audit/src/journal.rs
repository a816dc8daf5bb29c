//! The journal: takes records, writes them in groups, and hands out receipts.
//!
//! Nobody is woken to write. The first caller who finds no leader takes the group that waits,
//! hashes, signs, writes and syncs it on its own worker of the runtime, and wakes the others;
//! what came meanwhile is the next group, led by a task of its own.

mod archive;
mod leisure;
mod measures;
mod queue;
mod recover;
mod redact;
mod refusals;
mod settle;
mod space;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use fieldseal_crypto::signing::LogSigningKey;
use fieldseal_model::{Clock, InstallationId};
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use tokio::sync::watch;

use crate::checkpoint::Checkpoint;
use crate::error::{Health, JournalError};
use crate::event::{CallEvent, SystemEvent, Waiting};
use crate::index::{Indexed, Indexes};
use crate::proofs::{Receipt, Recorded, Withheld};
use crate::query::{Follower, Query, Reader};
use crate::record::{Encoded, LastChange};
use crate::verify::LogKey;
use queue::{Queue, Ticket};
use writer::Writer;

pub use measures::{Distribution, Measures, Written};
pub use recover::OpenReport;
pub use redact::Held;
pub(crate) use settle::closed_at;
pub(crate) use space::has_space;
pub use space::{FreeSpace, StatVfs, Statistics};
pub(crate) use writer::create_new;

/// Where the log is and how large its files are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The log's directory.
    pub directory: PathBuf,
    /// Bytes of a segment file; it is zeroed beforehand.
    pub segment_bytes: u64,
    /// Free bytes that must be left after a new segment was made.
    pub reserve_bytes: u64,
    /// The id of a group that may read the files; `None`: their owner alone.
    pub group: Option<u32>,
}

/// Whose log it is.
pub struct Identity {
    /// The installation.
    pub installation: InstallationId,
    /// The instance, as in `logs/{instance}`.
    pub instance: String,
    /// Signs segments and checkpoints.
    pub signing: LogSigningKey,
}

impl Identity {
    /// The log's origin: `fieldseal.dev/{installation}/{instance}`.
    pub(crate) fn origin(&self) -> String {
        format!("{}{}", self.installation_origin(), self.instance)
    }

    fn installation_origin(&self) -> String {
        format!("fieldseal.dev/{}/", self.installation)
    }

    /// The instance of an origin that is of the same installation.
    pub(crate) fn other_instance<'o>(&self, origin: &'o str) -> Option<&'o str> {
        origin.strip_prefix(&self.installation_origin())
    }
}

/// What became of a change's event.
#[derive(Debug, Clone)]
pub enum Relayed {
    /// It is on disk now.
    Recorded(Receipt),
    /// It was there already.
    Already,
}

/// What everybody may know of the log without waiting for the writer.
pub(crate) struct Published {
    pub(crate) tree_size: u64,
    pub(crate) root: [u8; 32],
    pub(crate) signature: [u8; 64],
}

pub(crate) struct Shared {
    log: Arc<str>,
    origin: Arc<str>,
    settings: Settings,
    signing: Arc<LogSigningKey>,
    indexes: Arc<Indexes>,
    clock: Arc<dyn Clock>,
    space: Arc<dyn FreeSpace>,
    queue: Mutex<Queue>,
    writer: Mutex<Writer>,
    published: RwLock<Published>,
    /// How many records are published, for whoever follows the log.
    grown: watch::Sender<u64>,
    health: watch::Sender<Health>,
    statistics: Mutex<space::Measured>,
    refusals: refusals::Refusals,
    /// Whoever reads segments that another one could replace holds it for reading.
    files: Arc<RwLock<()>>,
    /// Before this record the log may be in an archive.
    archived: Arc<AtomicU64>,
    /// Held by the one redaction or archiving that runs.
    redacting: Arc<tokio::sync::Mutex<()>>,
}

impl Shared {
    fn log_key(&self) -> LogKey {
        LogKey::new(self.origin.to_string(), self.signing.public())
    }
}

/// The log of one instance. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    /// Records a call, and hands out what it withheld together with its receipt. The record is
    /// queued when this is first polled: a caller who goes away afterwards is on record. Poll it to
    /// its end or drop it: it may be the one that writes for others.
    ///
    /// # Errors
    /// The value is dropped: `Inconsistent` if the event says of more or fewer items that they are
    /// OK than were withheld, or of one that has no permit; otherwise why the record could not be
    /// written.
    pub async fn commit<T>(
        &self,
        event: CallEvent,
        withheld: Withheld<T>,
    ) -> Result<Recorded<T>, JournalError> {
        if event.released() != Some(withheld.count()) {
            return Err(JournalError::Inconsistent);
        }
        let receipt = self.put(event).await?;
        Ok(withheld.release(receipt))
    }

    /// Records a call that releases nothing. One that is refused may be counted with those that are like it
    /// ([`Journal::count_refusals`]): the receipt is then that of the first of them.
    ///
    /// # Errors
    /// Why the record could not be written.
    pub async fn record(&self, event: CallEvent) -> Result<Receipt, JournalError> {
        self.put(event).await
    }

    /// Records something about the process itself.
    ///
    /// # Errors
    /// Why the record could not be written.
    pub async fn record_system(&self, event: SystemEvent) -> Result<Receipt, JournalError> {
        self.write(event.encode()?).await
    }

    /// Records a change from the store's outbox. Every revision has its record, so they come one
    /// after the other; the record is queued when this is first polled.
    ///
    /// # Errors
    /// `Inconsistent` if the bytes are no event or if it is not the next revision; otherwise why the
    /// record could not be written. Relay it again then.
    pub async fn relay(&self, outbox: &[u8]) -> Result<Relayed, JournalError> {
        let waiting = Waiting::decode(outbox).map_err(|_| JournalError::Inconsistent)?;
        if waiting.revision == 0 {
            return Err(JournalError::Inconsistent);
        }
        if waiting.revision <= self.shared.queue.lock().written_revision() {
            return Ok(Relayed::Already);
        }
        self.write(waiting.into_record()?).await.map(Relayed::Recorded)
    }

    async fn write(&self, record: Encoded) -> Result<Receipt, JournalError> {
        let leaf_hash = record.leaf_hash;
        let (ticket, lead) = self.shared.queue.lock().push(record)?;
        if lead {
            Lead(Some(Arc::clone(&self.shared))).run().await;
        }
        let (first, tree_size) = ticket.written().await?;
        let index = first.saturating_add(ticket.place());
        Ok(Receipt::new(Arc::clone(&self.shared.log), index, leaf_hash, tree_size))
    }

    /// Whether records can be written, as far as the last write showed. Cheap.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health.borrow().clone()
    }

    /// Looks whether records can be written now: the open segment is in its place and has room, or
    /// the next one can be made. A few system calls; where somebody writes, that write shows it.
    #[must_use]
    pub fn look(&self) -> Health {
        let found = match self.shared.writer.try_lock() {
            Some(mut writer) => writer.look(&self.shared),
            None => return self.health(),
        };
        if found != Health::Ok {
            space::watch_for_return(&self.shared);
        }
        found
    }

    /// The health and every change of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// True once it takes no more records.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.queue.lock().is_closed()
    }

    /// The newest checkpoint: everything that was acknowledged.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let published = self.shared.published.read();
        let (size, root) = (published.tree_size, published.root);
        let body = crate::checkpoint::body(&self.shared.origin, size, &root);
        let key = self.shared.signing.public();
        let note = crate::checkpoint::note(&self.shared.origin, &body, &key, &published.signature);
        Checkpoint { log: Arc::clone(&self.shared.log), tree_size: size, root, note }
    }

    /// The log's origin.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// Signs a statement of this log: [`LogKey::verify_statement`] checks it.
    #[must_use]
    pub fn sign_statement(&self, label: &str, parts: &[&[u8]]) -> [u8; 64] {
        self.shared.signing.sign(&crate::statement::message(label, self.origin(), parts))
    }

    /// The key that checks this log and its statements.
    #[must_use]
    pub fn public_key(&self) -> LogKey {
        self.shared.log_key()
    }

    /// The instance that names the log.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.shared.log
    }

    /// Finds records again.
    #[must_use]
    pub fn reader(&self) -> Reader {
        let directory = self.shared.settings.directory.clone();
        let log = Arc::clone(&self.shared.log);
        let origin = Arc::clone(&self.shared.origin);
        let indexes = Arc::clone(&self.shared.indexes);
        let files = Arc::clone(&self.shared.files);
        let archived = Arc::clone(&self.shared.archived);
        Reader::new(
            directory,
            self.shared.signing.public(),
            log,
            origin,
            (indexes, files, archived),
        )
    }

    /// Reads on from a record, the oldest first, as the log grows.
    #[must_use]
    pub fn follow(&self, query: Query, position: u64) -> Follower {
        Follower::new(self.reader(), query, position)
    }

    /// Reads on from a record, every record in its order, however far the log has come.
    #[must_use]
    pub fn follow_all(&self, position: u64) -> Follower {
        Follower::of_all(self.reader(), position)
    }

    /// How many records were acknowledged, and every change of that.
    #[must_use]
    pub fn grown(&self) -> watch::Receiver<u64> {
        self.shared.grown.subscribe()
    }

    /// Makes the indexes of full segments that are missing. A thread does the same by itself; this is
    /// for whoever cannot wait for it. Blocks for as long as that takes.
    ///
    /// # Errors
    /// Trouble with the files, or no space for them beside the log's next segment. Questions are
    /// answered all the same.
    pub fn build_indexes(&self) -> Result<Indexed, JournalError> {
        self.shared.indexes.build()
    }

    /// The newest revision of the store whose record is on disk, or 0.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.queue.lock().written_revision()
    }

    /// The newest change whose record is on disk. It waits for a write that is under way.
    #[must_use]
    pub fn last_change(&self) -> Option<LastChange> {
        self.shared.writer.lock().newest
    }

    /// How the writer does.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.shared.statistics.lock().summary()
    }

    /// Takes no more records, waits for those that were taken, and says where the log ends.
    ///
    /// # Errors
    /// If the last records could not be written.
    pub async fn close(&self) -> Result<Checkpoint, JournalError> {
        let last = self.shared.queue.lock().close();
        if let Some(last) = last {
            last.written().await?;
        }
        if let Health::Broken(why) = self.health() {
            return Err(JournalError::Broken(why));
        }
        let checkpoint = self.checkpoint();
        let (writer, settings) = (self.shared.writer.lock(), &self.shared.settings);
        let of = (settings.directory.as_path(), settings.group);
        let marked = settle::mark_closed(&writer.lock, of, checkpoint.tree_size);
        if let Err(error) = marked {
            // Everything is on disk. Without the mark the next start only works a little more.
            tracing::warn!(%error, "the audit log is closed, and not marked so");
        }
        Ok(checkpoint)
    }
}

/// Writes one group, then hands the lead on. It blocks for as long as the disk takes.
fn lead_one(shared: &Arc<Shared>) {
    while write_one(shared) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(Lead(Some(Arc::clone(shared))).run());
            return;
        }
    }
}

/// Writes one group. True if somebody must lead on.
fn write_one(shared: &Arc<Shared>) -> bool {
    let Some(batch) = shared.queue.lock().take() else { return false };
    // A panic half way would leave everybody waiting for a leader that is gone.
    let write = AssertUnwindSafe(|| shared.writer.lock().write(shared, &batch));
    let result = catch_unwind(write)
        .unwrap_or_else(|_| Err(shared.writer.lock().give_up(shared, "the writer panicked")));
    // What waits after a failure came later, and changes must not overtake each other: it fails
    // with it, and nobody can queue in between.
    let (late, more) = shared.queue.lock().end_lead(&batch, result.is_ok());
    let failed = result.is_err();
    if let Err(error) = &result {
        late.iter().for_each(|batch| batch.answer(Err(error.clone())));
    }
    batch.answer(result);
    if failed {
        space::watch_for_return(shared);
    }
    more
}

/// Most turns that a leader gives to callers who are about to queue.
const GATHER_TURNS: u32 = 4;

/// The lead, until its group is written. If whoever has it goes away first, another task takes it.
struct Lead(Option<Arc<Shared>>);

impl Lead {
    /// Gives callers who are ready to run a turn as long as that brings more records, and writes
    /// the group: fewer and larger groups cost each record less of a sync and of a signature. A
    /// caller who is alone waits for nobody.
    async fn run(mut self) {
        if let Some(shared) = &self.0 {
            let mut waiting = shared.queue.lock().expected();
            for _ in 0..GATHER_TURNS {
                let Some(before) = waiting else { break };
                tokio::task::yield_now().await;
                waiting = shared.queue.lock().more_than(before);
            }
        }
        if let Some(shared) = self.0.take() {
            lead_one(&shared);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { lead_one(&shared) })),
            // The runtime is ending, and nobody is left to wait.
            Err(_) => lead_one(&shared),
        }
    }
}

/// A caller's place in a batch.
impl Ticket {
    fn place(&self) -> u64 {
        self.index
    }
}
