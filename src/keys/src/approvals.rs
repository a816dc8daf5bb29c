//! A second principal for what cannot be taken back.
//!
//! Where the configuration asks for it, a destruction or a shred that was checked in every way waits
//! here instead of happening. Somebody else approves it: the change, its record in the log, and that
//! the request is used up are one transaction. A change of the log itself waits too (`of_log`).

mod ending;
mod of_log;
mod record;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind, Receipt};
use fieldseal_model::{
    AccessReason, Action, KeyName, Partition, PartitionClass, Principal, Timestamp, VersionNumber,
    hex,
};
use fieldseal_policy::Permit;
use fieldseal_store::{Path, Txn};
use prost::Message;

use self::ending::{Room, removing, room};
pub use self::of_log::{LogSubject, OfLog};
use self::record::{APPROVED, ApprovalRecord, EXPIRED, Moment, PENDING, REJECTED};
use crate::change::KeyChange;
use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::records::{APPROVAL, decode};
use crate::shredding::{PartitionChange, PartitionStep};
use crate::version_state::StateChange;

/// Requests of one principal that may wait at the same time.
pub const PENDING_OF_ONE: usize = 16;
/// Requests that may wait at the same time, and those that are kept once they do not.
const MOST: usize = 1_000;
/// Bytes of a request's id.
const ID_BYTES: usize = 8;
/// How long a request is kept once its time is over, so that its approval is told why it comes too late.
const KEPT: Duration = Duration::from_secs(24 * 3600);
const PAGE: usize = 256;
const WHAT: &str = "a request for approval";

/// What needs a second principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approving {
    /// Scheduling the destruction of a key version.
    pub destroy: bool,
    /// Shredding a partition.
    pub shred: bool,
    /// Redacting the audit log.
    pub redact: bool,
    /// Archiving the audit log.
    pub archive: bool,
    /// How long a request waits.
    pub lifetime: Duration,
}

impl Default for Approving {
    fn default() -> Self {
        let lifetime = Duration::from_secs(24 * 3600);
        Self { destroy: false, shred: false, redact: false, archive: false, lifetime }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalState {
    /// It waits.
    Pending,
    /// It was approved, and is done.
    Approved,
    /// It was rejected.
    Rejected,
    /// Nobody decided in time.
    Expired,
}

impl ApprovalState {
    /// In lower case, for messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

/// A request for approval.
#[derive(Debug, Clone)]
pub struct Approval {
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// What is approved: every parameter of the request. Whoever approves states what it saw.
    pub etag: String,
    /// What became of it.
    pub state: ApprovalState,
    /// What is asked for.
    pub action: Action,
    /// The key; `None` of a change of the audit log.
    pub key: Option<KeyName>,
    /// The key version, of a destruction.
    pub version: Option<VersionNumber>,
    /// How many data keys are lost with it, as its requester stated.
    pub data_keys_lost: u64,
    /// The partition, of a shred; `None` too for whoever is not to know its name.
    pub partition: Option<Partition>,
    /// The token of a partition that has a name.
    pub partition_token: Option<[u8; 16]>,
    /// The window of a shred; `None` for what is configured.
    pub window: Option<Duration>,
    /// What of the audit log it is about.
    pub log: Option<OfLog>,
    /// Who asked.
    pub requester: Principal,
    /// Why.
    pub reason: AccessReason,
    /// When.
    pub created_at: Timestamp,
    /// Until when it can be approved.
    pub expires_at: Timestamp,
    /// Who approved or rejected it.
    pub decider: Option<Principal>,
}

/// What a decision about a request came to.
pub struct Decided {
    /// The request afterwards.
    pub approval: Approval,
    /// The audit record: of the change, or of the rejection.
    pub receipt: Receipt,
}

/// What is asked for, once it was checked.
pub(crate) struct Wanted<'a> {
    key: Option<&'a KeyName>,
    version: u32,
    data_keys_lost: u64,
    partition: Option<&'a Partition>,
    window: Option<Duration>,
    /// The revision of what it is about.
    bound_to: u64,
    log: Option<OfLog>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn destruction(
        key: &'a KeyName,
        version: VersionNumber,
        data_keys_lost: u64,
        bound_to: u64,
    ) -> Self {
        let (version, partition, window) = (version.get(), None, None);
        Self { key: Some(key), version, data_keys_lost, partition, window, bound_to, log: None }
    }

    pub(crate) fn shred(change: &'a PartitionChange, bound_to: u64) -> Self {
        let PartitionChange { key, partition, window, .. } = change;
        let (key, partition, window) = (Some(key), Some(partition), *window);
        Self { key, version: 0, data_keys_lost: 0, partition, window, bound_to, log: None }
    }

    fn of_log(log: OfLog) -> Self {
        let (key, partition, window, log) = (None, None, None, Some(log));
        Self { key, version: 0, data_keys_lost: 0, partition, window, bound_to: 0, log }
    }
}

/// A request that a change uses up.
#[derive(Clone)]
pub(crate) struct Approved {
    path: Path,
    revision: u64,
    /// As it is afterwards.
    record: ApprovalRecord,
}

impl Approved {
    /// Uses the request up, unless somebody else has.
    pub(crate) fn fill(this: Option<&Self>, txn: Txn) -> Txn {
        match this {
            None => txn,
            Some(Self { path, revision, record }) => {
                txn.at(path.clone(), *revision).put(path.clone(), record.encode_to_vec())
            }
        }
    }

    /// Puts both principals on record.
    pub(crate) fn note(this: Option<&Self>, event: ChangeEvent) -> ChangeEvent {
        match this {
            None => event,
            Some(approved) => event.note(&approved.record.note()),
        }
    }

    /// What it is about must be as it was when it was asked for.
    pub(crate) fn check(this: Option<&Self>, revision: u64) -> Result<(), KeyError> {
        match this {
            Some(approved) if approved.record.bound_to != revision => {
                Err(KeyError::ApprovalOutdated("what it is about was changed since"))
            }
            _ => Ok(()),
        }
    }
}

/// A record and where it stands.
#[derive(Clone)]
struct Found {
    path: Path,
    revision: u64,
    record: ApprovalRecord,
}

impl Keys {
    /// Every request that is kept, the newest first.
    ///
    /// # Errors
    /// `NotPermitted`, or the store's trouble.
    pub async fn approvals(&self, permit: &Permit) -> Result<Vec<Approval>, KeyError> {
        covers(permit, &[Action::ListApprovals])?;
        let now = self.inner.moment().await?;
        let all = self.inner.all_approvals().await?;
        let all: Result<Vec<_>, _> =
            all.iter().map(|found| found.record.view(&now, &self.inner.tokens)).collect();
        let mut all = all?;
        all.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(all)
    }

    /// One request, for whoever may decide about it.
    ///
    /// # Errors
    /// `NotPermitted`, `ApprovalNotFound`, or the store's trouble.
    pub async fn approval(&self, permit: &Permit, id: &str) -> Result<Approval, KeyError> {
        covers(permit, &[Action::ApproveChange, Action::RejectChange])?;
        self.inner.approval(id).await?.record.view(&self.inner.moment().await?, &self.inner.tokens)
    }

    /// Does what was asked for; of a change of the audit log only uses its request up, so that whoever holds
    /// the log may do it. `gate` permits approving at all, `permit` what was asked for; both are of the one
    /// who approves. `etag` is that of the request as it was seen.
    ///
    /// # Errors
    /// `NotPermitted`, `ApprovalNotFound`, `ApprovalClosed`, `ApprovalOwn`, `ApprovalAltered`,
    /// `ApprovalOutdated`, and those of the change itself.
    pub async fn approve(
        &self,
        gate: &Permit,
        permit: &Permit,
        id: &str,
        etag: &str,
        reason: &AccessReason,
    ) -> Result<Decided, KeyError> {
        covers(gate, &[Action::ApproveChange])?;
        if gate.principal() != permit.principal() {
            return Err(KeyError::NotPermitted);
        }
        let found = self.inner.approval(id).await?;
        let now = self.inner.moment().await?;
        let seen = self.open_approval(&found, &now).await?;
        if seen.requester == *permit.principal() {
            return Err(KeyError::ApprovalOwn);
        }
        if seen.etag != etag {
            return Err(KeyError::ApprovalAltered);
        }
        let decider = permit.principal().as_str().to_owned();
        let record = ApprovalRecord { state: APPROVED, decider, ..found.record };
        let approved = Approved { path: found.path, revision: found.revision, record };
        let receipt = self.apply(permit, &seen, reason, approved.clone()).await?;
        let approval = approved.record.view(&now, &self.inner.tokens)?;
        Ok(Decided { approval, receipt: receipt.ok_or(KeyError::Corrupt(WHAT))? })
    }

    /// Lets a request go: by anybody who may decide, or by whoever made it.
    ///
    /// # Errors
    /// `NotPermitted`, `ApprovalNotFound`, `ApprovalClosed`, or trouble of journal and store.
    pub async fn reject(
        &self,
        gate: &Permit,
        id: &str,
        reason: &AccessReason,
    ) -> Result<Decided, KeyError> {
        covers(gate, &[Action::RejectChange])?;
        let found = self.inner.approval(id).await?;
        let now = self.inner.moment().await?;
        let seen = self.open_approval(&found, &now).await?;
        let decider = gate.principal().as_str().to_owned();
        let record = ApprovalRecord { state: REJECTED, decider, ..found.record };
        let rejected = Approved { path: found.path, revision: found.revision, record };
        let approval = rejected.record.view(&now, &self.inner.tokens)?;
        let by = ChangedBy::Caller(gate, reason);
        let event = ChangeEvent::new(by, now.at, Kind::ApprovalRejected, seen.key.as_ref());
        let event = Approved::note(Some(&rejected), Inner::about(event, &seen));
        let ledger = self.inner.ledger.clone();
        let work = async move {
            Ok(ledger.commit(event, |txn| Approved::fill(Some(&rejected), txn)).await?.receipt)
        };
        Ok(Decided { approval, receipt: self.inner.finish(work).await? })
    }

    /// A request that can still be decided. One that is late is so for good, whatever the clock says
    /// later.
    async fn open_approval(&self, found: &Found, now: &Moment) -> Result<Approval, KeyError> {
        let seen = found.record.view(now, &self.inner.tokens)?;
        let is_late = seen.state == ApprovalState::Expired;
        if is_late && found.record.state == PENDING {
            let (inner, found) = (Arc::clone(&self.inner), found.clone());
            self.inner.finish(async move { inner.expire(&found).await }).await?;
        }
        if is_late && found.record.is_of_another(now) {
            return Err(KeyError::ApprovalOutdated("the installation was restored since"));
        }
        match seen.state {
            ApprovalState::Pending => Ok(seen),
            state => Err(KeyError::ApprovalClosed { state: state.as_str() }),
        }
    }

    async fn apply(
        &self,
        permit: &Permit,
        seen: &Approval,
        reason: &AccessReason,
        approved: Approved,
    ) -> Result<Option<Receipt>, KeyError> {
        if seen.log.is_some() {
            return self.grant(permit, seen, reason, approved).await.map(Some);
        }
        let (request_id, validate_only) = (None, false);
        let (key, reason) = (seen.key.clone().ok_or(KeyError::Corrupt(WHAT))?, reason.clone());
        match (seen.action, seen.version, &seen.partition) {
            (Action::ScheduleDestroyKeyVersion, Some(number), None) => {
                let what = StateChange::ScheduleDestroy { data_keys_lost: seen.data_keys_lost };
                let etag = String::new();
                let change = KeyChange { key, etag, request_id, validate_only, reason };
                let changed = self.version_change(permit, change, number, what, Some(approved));
                Ok(changed.await?.receipt)
            }
            (Action::ShredPartition, None, Some(partition)) => {
                let change = PartitionChange {
                    key,
                    default_partition: partition.class() == PartitionClass::Default,
                    partition: partition.clone(),
                    window: seen.window,
                    request_id,
                    validate_only,
                    reason,
                };
                let step = PartitionStep::Shred;
                let changed = self.partition_change(permit, step, change, Some(approved));
                Ok(changed.await?.receipt)
            }
            _ => Err(KeyError::Corrupt(WHAT)),
        }
    }
}

impl Inner {
    /// Has a checked change wait for a second principal, and says so. The same request again is told
    /// of the one that waits.
    pub(crate) async fn request_approval(
        &self,
        permit: &Permit,
        reason: &AccessReason,
        wanted: Wanted<'_>,
    ) -> Result<KeyError, KeyError> {
        let now = self.moment().await?;
        let id: [u8; ID_BYTES] = fieldseal_crypto::random::array()?;
        let lifetime = self.settings.approving.lifetime;
        let due = now.seen.saturating_add(lifetime).as_nanos();
        let window = wanted.window.map(|w| u64::try_from(w.as_nanos()).unwrap_or(u64::MAX));
        let mut record = ApprovalRecord {
            id: id.to_vec(),
            requester: permit.principal().as_str().to_owned(),
            action: permit.action().code().into(),
            key: wanted.key.map_or("", KeyName::as_str).to_owned(),
            version: wanted.version,
            partition: wanted.partition.map_or("", Partition::as_str).to_owned(),
            window_nanos: window,
            data_keys_lost: wanted.data_keys_lost,
            purpose: reason.purpose.as_str().to_owned(),
            ticket: reason.ticket.as_str().to_owned(),
            bound_to: wanted.bound_to,
            created_at: now.at.unix_nanos(),
            expires_at: now.at.plus(lifetime).unix_nanos(),
            state: PENDING,
            decider: String::new(),
            incarnation: now.incarnation.to_vec(),
            due: u64::try_from(due).unwrap_or(u64::MAX),
            ..ApprovalRecord::default()
        };
        if let Some(log) = &wanted.log {
            log.write(&mut record);
        }
        let all = self.all_approvals().await?;
        let over = match room(&all, &record, &now)? {
            Room::Waits(other) => return waits(other, None),
            Room::For(over) => over,
        };
        let by = ChangedBy::Caller(permit, reason);
        let event = ChangeEvent::new(by, now.at, Kind::ApprovalRequested, wanted.key);
        let event = Self::about(event, &record.view(&now, &self.tokens)?).note(&record.note());
        let path = self.store.path(APPROVAL, &[&id]);
        let fill = |txn: Txn| {
            let txn = txn.absent(path.clone()).put(path, record.encode_to_vec());
            removing(self.see(txn, now.seen), &over)
        };
        let receipt = self.ledger.commit(event, fill).await?.receipt;
        self.approvals_wait.store(true, Ordering::Relaxed);
        waits(&record, Some(receipt))
    }

    /// What a request is about, on its record.
    fn about(event: ChangeEvent, approval: &Approval) -> ChangeEvent {
        let event = event.partition(approval.partition_token);
        match (approval.version, approval.log) {
            (Some(version), _) => event.version(version.get()).count(approval.data_keys_lost),
            // Whose detail is to go, no record says.
            (None, Some(log)) => event.count(log.records),
            (None, None) => event,
        }
    }

    async fn approval(&self, id: &str) -> Result<Found, KeyError> {
        let bytes = hex::decode(id).ok_or(KeyError::ApprovalNotFound)?;
        let path = self.store.path(APPROVAL, &[&bytes]);
        let found = self.store.get(&path).await?.ok_or(KeyError::ApprovalNotFound)?;
        Ok(Found { record: decode(WHAT, &found.value)?, revision: found.revision, path })
    }

    async fn all_approvals(&self) -> Result<Vec<Found>, KeyError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let prefix = self.store.prefix(APPROVAL, &[]);
            let page = self.store.range(&prefix, after.as_ref(), PAGE).await?;
            for (path, found) in page.entries {
                let record = decode(WHAT, &found.value)?;
                all.push(Found { record, revision: found.revision, path });
            }
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}

fn waits(record: &ApprovalRecord, receipt: Option<Receipt>) -> Result<KeyError, KeyError> {
    let expires_at = Timestamp::from_unix_nanos(record.expires_at);
    Ok(KeyError::ApprovalRequired { id: record.name(), expires_at, receipt })
}

fn covers(permit: &Permit, actions: &[Action]) -> Result<(), KeyError> {
    match permit.key().is_none() && actions.contains(&permit.action()) {
        true => Ok(()),
        false => Err(KeyError::NotPermitted),
    }
}
