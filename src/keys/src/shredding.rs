//! Shredding a partition: at once for readers, after a window for the key material. Until then it can
//! be restored; afterwards it takes new values only if somebody opens it anew.

use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind, Receipt};
use fieldseal_model::{AccessReason, Action, KeyId, KeyName, Partition, PartitionClass, RequestId};
use fieldseal_policy::Permit;
use fieldseal_store::{Path, Store, Txn};
use prost::Message;

use crate::approvals::{Approved, Wanted};
use crate::cache::PartitionOf;
use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::partition_view::PartitionView;
use crate::partitions::PartitionCells;
use crate::records::{
    DataKeyFacts, PartitionRecord, PartitionState, SHREDDING, ShreddingRecord, decode,
};
use crate::request::{Asked, NewRequest, digest};
use crate::sealing::PartitionFound;

/// The longest window.
pub(crate) const LONGEST_WINDOW: Duration = Duration::from_secs(90 * 24 * 3600);
/// Ids of data keys in one record of the log.
pub(crate) const IDS_IN_A_RECORD: usize = 512;
/// How often a lost race for a partition is tried again.
pub(crate) const ATTEMPTS: usize = 8;
/// How many records one page of a scan has.
const PAGE: usize = 256;

/// A change of a partition that an operator asks for.
#[derive(Debug, Clone)]
pub struct PartitionChange {
    /// The key.
    pub key: KeyName,
    /// The partition under it.
    pub partition: Partition,
    /// That the empty partition is meant: everything without one. Shredding it needs this.
    pub default_partition: bool,
    /// How long it can be restored; `None` for what is configured. Of shredding only.
    pub window: Option<Duration>,
    /// The caller's id for this request.
    pub request_id: Option<RequestId>,
    /// Check everything, change nothing.
    pub validate_only: bool,
    /// Why.
    pub reason: AccessReason,
}

/// What a change of a partition came to.
pub struct PartitionChanged {
    /// The partition afterwards; with `validate_only` as it would be.
    pub partition: PartitionView,
    /// The audit record's receipt; `None` when nothing was changed, or when the same request id
    /// had its answer before.
    pub receipt: Option<Receipt>,
}

/// What a repeated request needs no more of than that it was answered: the state is read.
#[derive(Clone, PartialEq, Message)]
struct Done {}

impl PartitionChange {
    fn of(&self) -> PartitionOf {
        PartitionOf { key: self.key.clone(), partition: self.partition.clone() }
    }

    fn digest(&self) -> [u8; 32] {
        let window = self.window.map_or_else(Vec::new, |w| w.as_nanos().to_le_bytes().to_vec());
        digest(&[
            self.key.as_str().as_bytes(),
            self.partition.as_str().as_bytes(),
            &window,
            self.reason.purpose.as_str().as_bytes(),
            self.reason.ticket.as_str().as_bytes(),
        ])
    }
}

/// What becomes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionStep {
    /// Nothing of it opens or is sealed any more, and its data keys go when its window is over.
    Shred,
    /// A shred is taken back whose window is not over.
    Restore,
    /// It was erased, and takes new values. What was sealed before never opens again.
    Reopen,
}

impl PartitionStep {
    /// The action that a caller is allowed.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Shred => Action::ShredPartition,
            Self::Restore => Action::RestorePartition,
            Self::Reopen => Action::ReopenPartition,
        }
    }
}

impl Keys {
    /// Changes a partition. When a shred returns, no call that began afterwards opens or seals
    /// anything in it, and the calls that began before are over.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, `PartitionNotFound`, `PartitionState`, `ShredWindow`,
    /// `DefaultPartition`, `RequestIdReused`, `ApprovalRequired`, or trouble of journal and store.
    pub async fn change_partition(
        &self,
        permit: &Permit,
        step: PartitionStep,
        change: PartitionChange,
    ) -> Result<PartitionChanged, KeyError> {
        self.partition_change(permit, step, change, None).await
    }

    pub(crate) async fn partition_change(
        &self,
        permit: &Permit,
        step: PartitionStep,
        change: PartitionChange,
        approved: Option<Approved>,
    ) -> Result<PartitionChanged, KeyError> {
        if !permit.covers_partition(step.action(), &change.key, &change.partition) {
            return Err(KeyError::NotPermitted);
        }
        let is_default = change.partition.class() == PartitionClass::Default;
        if step == PartitionStep::Shred && is_default != change.default_partition {
            return Err(KeyError::DefaultPartition);
        }
        let (inner, permit) = (Arc::clone(&self.inner), permit.clone());
        let work =
            async move { inner.change_partition(&permit, step, change, approved.as_ref()).await };
        self.inner.finish(work).await
    }
}

/// The partitions that wait to be erased, closed, and those whose last change the log tells of in part.
pub(crate) async fn load(store: &Store) -> Result<PartitionCells, KeyError> {
    const WHAT: &str = "a partition that waits to be erased";
    let cells = PartitionCells::default();
    let mut after = None;
    loop {
        let page = store.range(&store.prefix(SHREDDING, &[]), after.as_ref(), PAGE).await?;
        for (_, found) in &page.entries {
            let record: ShreddingRecord = decode(WHAT, &found.value)?;
            let key = KeyName::parse(&record.key).map_err(|_| KeyError::Corrupt(WHAT))?;
            let partition = Partition::parse(&record.partition);
            let partition = partition.map_err(|_| KeyError::Corrupt(WHAT))?;
            let of = PartitionOf { key, partition };
            // Whether its change was cut off, its record says: the first time that due things are done.
            cells.note_unlogged(of.clone());
            if !record.restored {
                cells.close(of, Duration::from_nanos(record.due));
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(cells);
        }
    }
}

/// A change that was checked, and is not yet written.
struct Next {
    kind: Kind,
    record: PartitionRecord,
    /// What it has.
    chain: Vec<DataKeyFacts>,
}

impl Inner {
    async fn change_partition(
        &self,
        permit: &Permit,
        step: PartitionStep,
        change: PartitionChange,
        approved: Option<&Approved>,
    ) -> Result<PartitionChanged, KeyError> {
        // A change before this one may wait for the log to come back: nobody need queue for that.
        self.ledger.ready()?;
        let _one_at_a_time = self.changes.lock().await;
        for _ in 0..ATTEMPTS {
            let request = change.request_id.as_ref();
            let request = match self.asked(permit, request, change.digest()).await? {
                Asked::Before(answered) => {
                    let _: Done = answered.decode()?;
                    return self.unchanged_partition(&change).await;
                }
                Asked::New(request) => request,
            };
            match self.try_partition(permit, step, &change, request, approved).await {
                // A data key was made or moved meanwhile: look again.
                Err(KeyError::Conflict) => {}
                other => return other,
            }
        }
        Err(KeyError::Conflict)
    }

    async fn unchanged_partition(
        &self,
        change: &PartitionChange,
    ) -> Result<PartitionChanged, KeyError> {
        let of = change.of();
        let partition = self.seen_partition(&of).await?;
        Ok(PartitionChanged { partition, receipt: None })
    }

    async fn try_partition(
        &self,
        permit: &Permit,
        step: PartitionStep,
        change: &PartitionChange,
        request: NewRequest,
        approved: Option<&Approved>,
    ) -> Result<PartitionChanged, KeyError> {
        self.ledger.ready()?;
        self.registry.key(&change.key)?;
        let of = change.of();
        let found = self.partition(&of).await?.ok_or(KeyError::PartitionNotFound)?;
        Approved::check(approved, found.revision)?;
        let seen = self.seen.now();
        let next = match step {
            PartitionStep::Shred => self.shredded(change, &found.record, seen).await?,
            PartitionStep::Restore => self.restored(&of, &found.record).await?,
            PartitionStep::Reopen => reopened(&found)?,
        };
        let after = PartitionFound { revision: found.revision, record: next.record.clone() };
        let partition = self.partition_view(&of, &after, next.chain.len() as u64)?;
        if change.validate_only {
            return Ok(PartitionChanged { partition, receipt: None });
        }
        if approved.is_none() && self.settings.approving.shred && step == PartitionStep::Shred {
            let wanted = Wanted::shred(change, found.revision);
            return Err(self.request_approval(permit, &change.reason, wanted).await?);
        }
        let at = self.clock.now();
        let ids: Vec<KeyId> = next.chain.iter().map(|facts| facts.key_id).collect();
        let (first, rest) = ids.split_at(ids.len().min(IDS_IN_A_RECORD));
        let record = PartitionRecord { unlogged: rest.len() as u64, ..next.record.clone() };
        let by = ChangedBy::Caller(permit, &change.reason);
        let event = self.partition_event(by, next.kind, &of, first);
        let event = Approved::note(approved, event.erased_key_id(found.record.erased_before()));
        let fill = |txn: Txn| {
            let path = self.partition_path(&of);
            let txn = txn.at(path.clone(), found.revision).put(path, record.encode_to_vec());
            let txn = match next.kind {
                Kind::PartitionShredded => {
                    let pending = pending_record(&of, &next.record).encode_to_vec();
                    self.see(txn.put(self.pending_path(&of), pending), seen)
                }
                // The last of the records that follow removes it.
                _ if !rest.is_empty() => {
                    let pending = pending_record(&of, &next.record);
                    let pending = ShreddingRecord { restored: true, ..pending }.encode_to_vec();
                    txn.put(self.pending_path(&of), pending)
                }
                _ => txn.delete(self.pending_path(&of)),
            };
            request.answer(Approved::fill(approved, txn), at, &Done {})
        };
        let receipt = self.ledger.commit(event, fill).await?.receipt;
        self.publish_partition(&next, &of, &ids).await;
        if !rest.is_empty()
            && let Err(error) = self.log_rest(Some(by), &of).await
        {
            // The change took effect and is on record; what is left is logged when things are due.
            tracing::error!(event = "job_failed", job = "shred", %error, "tried again later");
            self.partitions.note_unlogged(of);
        }
        Ok(PartitionChanged { partition, receipt: Some(receipt) })
    }

    /// Makes a change visible, and waits for the calls that began before it.
    async fn publish_partition(&self, next: &Next, of: &PartitionOf, ids: &[KeyId]) {
        if next.kind != Kind::PartitionShredded {
            self.partitions.open(of.clone());
            return;
        }
        self.partitions.close(of.clone(), Duration::from_nanos(next.record.due));
        self.forget_partition(of, ids);
        self.eras.turn().await;
        // One of those calls may have loaded a data key meanwhile.
        self.forget_partition(of, ids);
        self.wake.notify_one();
    }

    /// Wipes what is in memory of a partition, once its last user lets go of it.
    pub(crate) fn forget_partition(&self, of: &PartitionOf, ids: &[KeyId]) {
        self.cache.forget_newest(of);
        for id in ids {
            self.cache.forget(*id);
        }
    }

    async fn shredded(
        &self,
        change: &PartitionChange,
        record: &PartitionRecord,
        seen: Duration,
    ) -> Result<Next, KeyError> {
        match record.state()? {
            PartitionState::Open => {}
            PartitionState::Shredding => {
                return Err(refused(
                    "being shredded already",
                    "restore it, or wait until it is erased",
                ));
            }
            PartitionState::Erasing => {
                return Err(refused("being erased", "its data keys go now"));
            }
            PartitionState::Erased => {
                return Err(refused(
                    "erased already",
                    "open it anew if it is to take values again",
                ));
            }
        }
        let least = self.settings.shred_window_least;
        let window = change.window.unwrap_or(self.settings.shred_window);
        if change.window.is_some_and(|window| window < least || window > LONGEST_WINDOW) {
            let (least, most) = (least.as_secs(), LONGEST_WINDOW.as_secs());
            return Err(KeyError::ShredWindow { least, most });
        }
        let chain = self.chain(&change.of(), record).await?;
        if chain.is_empty() {
            return Err(KeyError::PartitionNotFound);
        }
        let due = seen.saturating_add(window).as_nanos();
        let record = PartitionRecord {
            state: PartitionState::Shredding.code(),
            shredded_at: self.clock.now().unix_nanos(),
            due: u64::try_from(due).unwrap_or(u64::MAX),
            ..record.clone()
        };
        Ok(Next { kind: Kind::PartitionShredded, record, chain })
    }

    async fn restored(&self, of: &PartitionOf, record: &PartitionRecord) -> Result<Next, KeyError> {
        match record.state()? {
            PartitionState::Shredding => {}
            PartitionState::Open => {
                return Err(refused("not shredded", "there is nothing to restore"));
            }
            PartitionState::Erasing | PartitionState::Erased => {
                return Err(refused(
                    "erased",
                    "nothing brings its values back; open it anew for others",
                ));
            }
        }
        let chain = self.chain(of, record).await?;
        let record = PartitionRecord {
            state: PartitionState::Open.code(),
            shredded_at: 0,
            due: 0,
            ..record.clone()
        };
        Ok(Next { kind: Kind::PartitionRestored, record, chain })
    }

    /// An event of a partition. The ids are those of its data keys: a restore from an older backup
    /// knows them by nothing else.
    pub(crate) fn partition_event(
        &self,
        by: ChangedBy<'_>,
        kind: Kind,
        of: &PartitionOf,
        ids: &[KeyId],
    ) -> ChangeEvent {
        let named = of.partition.class() == PartitionClass::Named;
        let token = named.then(|| self.tokens.partition(&of.partition));
        ChangeEvent::new(by, self.clock.now(), kind, Some(&of.key))
            .partition(token)
            .count(ids.len() as u64)
            .key_ids(ids)
    }

    pub(crate) fn pending_path(&self, of: &PartitionOf) -> Path {
        let parts = [of.key.as_str().as_bytes(), of.partition.as_str().as_bytes()];
        self.store.path(SHREDDING, &parts)
    }
}

/// An erased partition, opened anew. It keeps what it knows of its data keys that are gone.
fn reopened(found: &PartitionFound) -> Result<Next, KeyError> {
    let record = &found.record;
    match record.state()? {
        PartitionState::Erased => {}
        PartitionState::Open => return Err(refused("open", "it takes new values as it is")),
        PartitionState::Shredding => {
            return Err(refused("shredded and not yet erased", "restore it instead"));
        }
        PartitionState::Erasing => return Err(refused("being erased", "wait until that is done")),
    }
    let mut record = PartitionRecord { state: PartitionState::Open.code(), ..record.clone() };
    if let Some(erased) = &mut record.erased {
        erased.revision = found.revision;
    }
    Ok(Next { kind: Kind::PartitionReopened, record, chain: Vec::new() })
}

fn refused(is: &'static str, instead: &'static str) -> KeyError {
    KeyError::PartitionState { is, instead }
}

fn pending_record(of: &PartitionOf, record: &PartitionRecord) -> ShreddingRecord {
    ShreddingRecord {
        key: of.key.as_str().to_owned(),
        partition: of.partition.as_str().to_owned(),
        due: record.due,
        restored: false,
    }
}
