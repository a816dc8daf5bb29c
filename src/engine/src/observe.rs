//! Looking at the log and at the process itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use fieldseal_audit::{
    CallEvent, Checkpoint, Health, Item, ItemOutcome, Outcome, Page, PageLimit, Query, QueryError,
    Reader, Statistics, Verdict, VerdictIndex,
};
use fieldseal_model::{
    AccessReason, Action, CertificateId, Column, KeyName, KeyVersion, Partition, Principal, Row,
    Table, Timestamp,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::backup::BackupState;
use crate::call::Caller;
use crate::engine::Engine;
use crate::export::ExportState;
use crate::outside::AnchorState;
use crate::refusal::{Refusal, RefusalCause};
use crate::retention::RetentionState;
use crate::upkeep::ScrubState;

/// What an auditor looks for. Lists are OR, fields are AND; what is empty or `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// `logs/{log}`; empty or `logs/-` for all.
    pub log: String,
    /// Inclusive.
    pub start: Option<Timestamp>,
    /// Exclusive.
    pub end: Option<Timestamp>,
    /// Who called.
    pub principals: Vec<Principal>,
    /// What was called.
    pub actions: Vec<Action>,
    /// On which key.
    pub keys: Vec<KeyName>,
    /// Under which key versions.
    pub key_versions: Vec<KeyVersion>,
    /// In which table.
    pub table: Option<Table>,
    /// In which column.
    pub column: Option<Column>,
    /// In which partition; it is turned into its token here.
    pub partition: Option<Partition>,
    /// Which row; it is turned into its token here, and needs `table`.
    pub row: Option<Row>,
    /// Of the event or of one of its items.
    pub outcomes: Vec<Outcome>,
    /// Purposes as stated.
    pub purposes: Vec<String>,
    /// Tickets as stated.
    pub tickets: Vec<String>,
    /// Issuer and subject of an end user; they are turned into their token here.
    pub end_user: Option<(String, String)>,
    /// Which certificate the caller showed.
    pub certificate: Option<CertificateId>,
    /// Only what is about keys, policy, the process and the log itself, not about values.
    pub administration_only: bool,
    /// Leave out what the sidecar notes for itself while it serves encrypts and decrypts.
    pub omit_housekeeping: bool,
    /// Leave out who read the log itself, but for those who were refused.
    pub omit_log_reads: bool,
    /// The oldest first instead of the newest.
    pub oldest_first: bool,
    /// Judge each item by itself, and leave out those that do not match.
    pub matching_items_only: bool,
    /// Leave out the items of calls that have more than one.
    pub omit_batch_items: bool,
}

/// Queries of the audit log at the same time. Each reads files on a thread of its own and holds a
/// page.
const MAX_QUERIES: usize = 4;

/// Places for queries of the audit log. One more is refused, not queued.
pub(crate) struct Queries(Arc<Semaphore>);

impl Default for Queries {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_QUERIES)))
    }
}

impl Queries {
    /// A place, given back when it is dropped.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, RefusalCause> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| RefusalCause::QueryBusy)
    }
}

/// A read of the log that is not on record yet.
pub(crate) struct Reading {
    event: CallEvent,
    verdict: VerdictIndex,
    partition: Option<Option<[u8; 16]>>,
    row: Option<[u8; 16]>,
    end_user: Option<[u8; 16]>,
}

impl Reading {
    /// The query in the log's own words.
    pub(crate) fn words(&self, query: AuditQuery) -> Query {
        Query { end_user: self.end_user, ..words(query, self.partition, self.row) }
    }
}

/// A page of events.
pub struct AuditPage {
    /// The events.
    pub page: Page,
    /// The snapshot that all pages show; on the first page only.
    pub checkpoint: Option<Checkpoint>,
    /// The instance that names the log.
    pub log: String,
}

/// How the process is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The product's version.
    pub version: &'static str,
    /// Whether every call can be served now.
    pub ready: bool,
    /// The store.
    pub store: fieldseal_store::Health,
    /// The audit log.
    pub audit: Health,
    /// The log's origin.
    pub log_origin: String,
    /// How many records the log has.
    pub log_tree_size: u64,
    /// How many keys there are.
    pub keys: usize,
    /// How many data keys are in memory.
    pub data_keys_cached: usize,
    /// How many can be.
    pub data_keys_cached_limit: usize,
    /// SHA-256 over schema and policies.
    pub policy_digest: [u8; 32],
    /// When it started.
    pub started_at: Timestamp,
    /// The audit log's writer.
    pub journal: Statistics,
    /// Backups.
    pub backup: BackupState,
    /// Data keys that are in no backup and in no copy.
    pub data_keys_at_risk: u64,
    /// True if everything is copied before it is written.
    pub copied: bool,
    /// Why the copy cannot be written, while it cannot.
    pub copy_trouble: Option<String>,
    /// True if the copy is on the volume of the store: both are lost together.
    pub copy_shares_volume: bool,
    /// What the scrub says of the store.
    pub scrub: ScrubState,
    /// How posting checkpoints goes, for each place.
    pub anchors: Vec<AnchorState>,
    /// How handing the log on goes, for each target.
    pub exports: Vec<ExportState>,
    /// What becomes of the log by itself as it grows old.
    pub retention: Vec<RetentionState>,
    /// A redaction of the log began that did not end, and none runs.
    pub redaction_unfinished: bool,
}

/// What a monitor may know, without a principal, a key or a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// The audit log's writer. Its reserve is the store's too.
    pub journal: fieldseal_audit::Measures,
    /// How many records the log has.
    pub log_records: u64,
    /// Keys and the cache of data keys.
    pub keys: fieldseal_keys::Statistics,
    /// Bytes that the store's file system has left, if it says so.
    pub store_free_bytes: Option<u64>,
    /// Values sealed since the start.
    pub sealed: u64,
    /// Values opened since the start.
    pub opened: u64,
    /// SHA-256 over schema and policies.
    pub policy_digest: [u8; 32],
    /// Seconds since the newest backup was made; `None` if there is none.
    pub backup_age: Option<Duration>,
    /// Whether the last attempt to make one failed.
    pub backup_failed: bool,
    /// Data keys that are in no backup and in no copy.
    pub data_keys_at_risk: u64,
    /// Whether the copy is written; `None` if there is none.
    pub copy_ok: Option<bool>,
    /// What the scrub says of the store.
    pub scrub: ScrubState,
    /// Scrubs that were finished since the start.
    pub scrubs: u64,
    /// When the newest generation was made.
    pub newest_generation: Option<SystemTime>,
    /// The time of the engine's clock.
    pub now: Timestamp,
    /// How posting checkpoints goes, for each place.
    pub anchors: Vec<AnchorState>,
    /// How handing the log on goes, for each target.
    pub exports: Vec<ExportState>,
    /// What becomes of the log by itself as it grows old.
    pub retention: Vec<RetentionState>,
}

impl Engine {
    /// Events that match. The query is itself on record, with how it ended, before the answer
    /// leaves.
    ///
    /// # Errors
    /// Denied, a log that is not here, a page token of another query, too many queries at the same
    /// time, or a log that cannot be read or written.
    pub async fn query_audit(
        &self,
        caller: &Caller,
        query: AuditQuery,
        limit: PageLimit,
        page_token: String,
        reason: &AccessReason,
    ) -> Result<AuditPage, Refusal> {
        let first = page_token.is_empty();
        let action = Action::QueryAuditEvents;
        let read = move |reader: &Reader, query: &Query, size| {
            reader.page(query, limit, size, &page_token)
        };
        let (page, checkpoint) = self.read_log(caller, action, query, reason, read).await?;
        let log = self.inner.journal.log().to_owned();
        Ok(AuditPage { page, checkpoint: first.then_some(checkpoint), log })
    }

    /// Reads the log for a caller. That it was read is on record, with how it ended, before the
    /// answer leaves.
    pub(crate) async fn read_log<T: Send + 'static>(
        &self,
        caller: &Caller,
        action: Action,
        query: AuditQuery,
        reason: &AccessReason,
        read: impl FnOnce(&Reader, &Query, u64) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<(T, Checkpoint), Refusal> {
        let reading = self.begin_reading(caller, action, &query, reason).await?;
        let checkpoint = self.inner.journal.checkpoint();
        let size = checkpoint.tree_size;
        let found = match self.check_log(&query.log) {
            Ok(()) => self.find(reading.words(query), size, read).await,
            Err(cause) => Err(cause),
        };
        Ok((self.record_reading(reading, found).await?, checkpoint))
    }

    /// Asks whether the log may be read, and begins the record of that it was.
    pub(crate) async fn begin_reading(
        &self,
        caller: &Caller,
        action: Action,
        query: &AuditQuery,
        reason: &AccessReason,
    ) -> Result<Reading, Refusal> {
        self.journal_ready()?;
        let permit = match self.decide_key(caller, action, None, reason) {
            Ok(permit) => permit,
            Err(denial) => return Err(self.denied(caller, action, None, reason, &denial).await),
        };
        let now = self.inner.clock.now();
        let mut event = CallEvent::new(&caller.principal, action, reason, now);
        let table = query.table.as_ref();
        let key = query.keys.first().or(query.key_versions.first().map(|version| &version.key));
        let verdict = event.verdict(Verdict::Permit(&permit), key, table, query.column.as_ref());
        let tokens = self.inner.keys.tokens();
        let partition = query.partition.as_ref();
        let partition = partition.map(|p| (!p.as_str().is_empty()).then(|| tokens.partition(p)));
        let row = query.row.as_ref().zip(table).map(|(row, table)| tokens.row(table, row));
        let user = query.end_user.as_ref();
        let end_user = user.map(|(issuer, subject)| tokens.end_user(issuer, subject));
        Ok(Reading { event, verdict, partition, row, end_user })
    }

    /// Puts a read on record, with how it ended.
    pub(crate) async fn record_reading<T>(
        &self,
        reading: Reading,
        found: Result<T, RefusalCause>,
    ) -> Result<T, Refusal> {
        let Reading { mut event, verdict, partition, row, end_user } = reading;
        if let Some(about) = end_user {
            event.about_end_user(about);
        }
        let outcome = match &found {
            Ok(_) => ItemOutcome::Ok,
            Err(cause) => ItemOutcome::Failed(cause.reason()),
        };
        event.item(verdict, Item { partition: partition.flatten(), row, key_version: 0, outcome });
        let receipt = self.inner.journal.record(event).await?;
        found.map_err(|cause| Refusal::recorded(cause, &receipt))
    }

    async fn find<T: Send + 'static>(
        &self,
        query: Query,
        size: u64,
        read: impl FnOnce(&Reader, &Query, u64) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, RefusalCause> {
        let place = self.inner.queries.enter()?;
        let reader =
            self.inner.journal.reader().with_archive(self.inner.retaining.archive_directory());
        let found = tokio::task::spawn_blocking(move || {
            // The thread reads on when its caller goes away, so it holds the place.
            let _place = place;
            read(&reader, &query, size)
        });
        Ok(found.await.map_err(|_| RefusalCause::Internal("a query was cut off"))??)
    }

    /// The log that is asked for must be this instance's.
    pub(crate) fn check_log(&self, name: &str) -> Result<(), RefusalCause> {
        let own = format!("logs/{}", self.inner.journal.log());
        if name.is_empty() || name == "logs/-" || name == own {
            return Ok(());
        }
        Err(RefusalCause::LogNotFound(own.into()))
    }

    /// The newest checkpoint of `logs/{log}`; empty: of this instance.
    ///
    /// # Errors
    /// Denied, or a log that is not here.
    pub async fn audit_checkpoint(
        &self,
        caller: &Caller,
        log: &str,
    ) -> Result<Checkpoint, Refusal> {
        self.permit_read(caller, Action::GetCheckpoint, None).await?;
        self.check_log(log)?;
        Ok(self.inner.journal.checkpoint())
    }

    /// How the process is.
    ///
    /// # Errors
    /// Denied.
    pub async fn status(&self, caller: &Caller) -> Result<Status, Refusal> {
        self.permit_read(caller, Action::GetStatus, None).await?;
        let inner = &self.inner;
        let (store, audit) = (inner.store.health(), inner.journal.health());
        let keys = inner.keys.statistics();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            ready: self.can_serve(),
            store,
            audit,
            log_origin: inner.journal.origin().to_owned(),
            log_tree_size: inner.journal.checkpoint().tree_size,
            keys: keys.keys,
            data_keys_cached: keys.cached_data_keys,
            data_keys_cached_limit: keys.cached_data_keys_limit,
            policy_digest: inner.policy.newest().digest(),
            started_at: inner.started_at,
            journal: inner.journal.statistics(),
            backup: inner.backups.state(),
            data_keys_at_risk: self.data_keys_at_risk(),
            copied: inner.store.is_copied(),
            copy_trouble: inner.store.copy_trouble(),
            copy_shares_volume: self.copy_shares_volume(),
            scrub: self.scrub_state(),
            anchors: self.anchor_states(),
            exports: self.export_states(),
            retention: self.retention_states(),
            redaction_unfinished: inner.journal.has_unfinished_redaction(),
        })
    }

    /// What a monitor may know, for the process itself. It takes a few short locks and asks for free
    /// space.
    #[must_use]
    pub fn measures(&self) -> Measures {
        let inner = &self.inner;
        let backup = inner.backups.state();
        let now = inner.clock.now();
        Measures {
            backup_age: backup.newest.map(|newest| now.since(newest)),
            backup_failed: backup.failed.is_some(),
            data_keys_at_risk: self.data_keys_at_risk(),
            copy_ok: inner.store.is_copied().then(|| inner.store.copy_trouble().is_none()),
            log_records: inner.journal.checkpoint().tree_size,
            keys: inner.keys.statistics(),
            store_free_bytes: inner.store.free_bytes(),
            journal: inner.journal.measures(),
            sealed: inner.sealed.load(Ordering::Relaxed),
            opened: inner.opened.load(Ordering::Relaxed),
            policy_digest: inner.policy.newest().digest(),
            anchors: self.anchor_states(),
            exports: self.export_states(),
            retention: self.retention_states(),
            scrub: self.scrub_state(),
            scrubs: self.scrubs(),
            newest_generation: self.newest_generation(),
            now: inner.clock.now(),
        }
    }

    /// Whether every call can be served now. It looks at the log's file and at free space.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        let inner = &self.inner;
        inner.store.health() == fieldseal_store::Health::Ok
            && inner.journal.look() == Health::Ok
            && !self.is_unreliable()
    }

    /// The store's health, for the process itself.
    #[must_use]
    pub fn store_health(&self) -> fieldseal_store::Health {
        self.inner.store.health()
    }

    /// The audit log's health and every change of it, for the process itself.
    #[must_use]
    pub fn audit_health(&self) -> watch::Receiver<Health> {
        self.inner.journal.watch()
    }

    /// Bytes that were written to the audit log since the start.
    #[must_use]
    pub fn audit_bytes_written(&self) -> u64 {
        self.inner.journal.bytes_written()
    }

    /// SHA-256 over schema and policies.
    #[must_use]
    pub fn policy_digest(&self) -> [u8; 32] {
        self.inner.policy.newest().digest()
    }

    /// The newest checkpoint, for the process itself: it goes to the log lines from time to time.
    #[must_use]
    pub fn newest_checkpoint(&self) -> Checkpoint {
        self.inner.journal.checkpoint()
    }
}

/// The query in the log's own words.
fn words(query: AuditQuery, partition: Option<Option<[u8; 16]>>, row: Option<[u8; 16]>) -> Query {
    Query {
        start: query.start,
        end: query.end,
        principals: query.principals.iter().map(|p| p.as_str().to_owned()).collect(),
        actions: query.actions,
        keys: query.keys.iter().map(|k| k.as_str().to_owned()).collect(),
        key_versions: query
            .key_versions
            .iter()
            .map(|v| (v.key.as_str().to_owned(), v.number.get()))
            .collect(),
        table: query.table.map(|t| t.as_str().to_owned()),
        column: query.column.map(|c| c.as_str().to_owned()),
        partition,
        row,
        outcomes: query.outcomes,
        purposes: query.purposes,
        tickets: query.tickets,
        end_user: None,
        certificate: query.certificate,
        administration_only: query.administration_only,
        omit_housekeeping: query.omit_housekeeping,
        omit_log_reads: query.omit_log_reads,
        oldest_first: query.oldest_first,
        matching_items_only: query.matching_items_only,
        omit_batch_items: query.omit_batch_items,
        erased_only: false,
    }
}
