//! Changes of a key version's state: enable, disable, schedule its destruction, restore.

use std::sync::Arc;
use std::time::Duration;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind, Receipt};
use fieldseal_model::{Action, KeyName, KeyVersion, KeyVersionState, VersionNumber};
use fieldseal_policy::Permit;
use fieldseal_store::Txn;
use prost::Message;

use crate::approvals::{Approved, Wanted};
use crate::change::KeyChange;
use crate::counts;
use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::ledger::Committed;
use crate::records::{ChangeAnswer, PRIMARY, VERSION, VersionRecord};
use crate::registry::{KeySnapshot, VersionCell, VersionFacts, VersionView, etag};
use crate::request::{Answered, Asked, digest};

/// What becomes of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateChange {
    /// `DISABLED` becomes `ENABLED`.
    Enable,
    /// `ENABLED` becomes `DISABLED`.
    Disable,
    /// `ENABLED` or `DISABLED` becomes `DESTROY_SCHEDULED`.
    ScheduleDestroy {
        /// How many data keys its caller knows to be lost.
        data_keys_lost: u64,
    },
    /// `DESTROY_SCHEDULED` becomes `DISABLED`.
    Restore,
}

impl StateChange {
    /// The action that a caller is allowed.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Enable => Action::EnableKeyVersion,
            Self::Disable => Action::DisableKeyVersion,
            Self::ScheduleDestroy { .. } => Action::ScheduleDestroyKeyVersion,
            Self::Restore => Action::RestoreKeyVersion,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Enable => Kind::VersionEnabled,
            Self::Disable => Kind::VersionDisabled,
            Self::ScheduleDestroy { .. } => Kind::VersionDestroyScheduled,
            Self::Restore => Kind::VersionRestored,
        }
    }

    /// The state that it leads to from this one; `None` if it does not.
    fn target(self, from: KeyVersionState) -> Option<KeyVersionState> {
        use KeyVersionState::{DestroyScheduled, Destroyed, Disabled, Enabled};
        match (self, from) {
            (Self::Enable, Disabled) => Some(Enabled),
            (Self::Disable, Enabled) | (Self::Restore, DestroyScheduled) => Some(Disabled),
            (Self::ScheduleDestroy { .. }, Enabled | Disabled) => Some(DestroyScheduled),
            (_, Enabled | Disabled | DestroyScheduled | Destroyed) => None,
        }
    }
}

/// What can be done with a version in this state.
fn allowed(state: KeyVersionState, is_primary: bool) -> &'static str {
    match state {
        KeyVersionState::Enabled if is_primary => "replaced: it is the primary one; rotate the key",
        KeyVersionState::Enabled => "disabled or scheduled for destruction",
        KeyVersionState::Disabled => "enabled or scheduled for destruction",
        KeyVersionState::DestroyScheduled => "restored, which leaves it disabled",
        KeyVersionState::Destroyed => "looked at: its key material is gone for good",
    }
}

/// What a change of a version's state came to.
pub struct VersionChanged {
    /// Which version.
    pub name: KeyVersion,
    /// The version afterwards; as it would be if nothing was changed.
    pub version: VersionView,
    /// The key's etag.
    pub etag: String,
    /// The audit record's receipt; `None` when nothing was changed, or when the same request id
    /// had its answer before.
    pub receipt: Option<Receipt>,
}

/// A change that was found to be allowed.
struct Step {
    snapshot: Arc<KeySnapshot>,
    cell: Arc<VersionCell>,
    before: VersionFacts,
    target: KeyVersionState,
    next: VersionRecord,
    /// How much time has been seen, where a window begins.
    seen: Option<Duration>,
    /// The revision of the version's counts, where they were looked at.
    counts: Option<Option<u64>>,
}

impl Keys {
    /// Changes a version's state. If it may not be used afterwards, this returns when every call
    /// that began before is over.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, `VersionNotFound`, `EtagMismatch`, `VersionIsPrimary`,
    /// `VersionStateWrong`, `DataKeysWouldBeLost`, `RequestIdReused`, `ApprovalRequired`, or trouble
    /// of journal and store.
    pub async fn change_version(
        &self,
        permit: &Permit,
        change: KeyChange,
        number: VersionNumber,
        what: StateChange,
    ) -> Result<VersionChanged, KeyError> {
        self.version_change(permit, change, number, what, None).await
    }

    pub(crate) async fn version_change(
        &self,
        permit: &Permit,
        change: KeyChange,
        number: VersionNumber,
        what: StateChange,
        approved: Option<Approved>,
    ) -> Result<VersionChanged, KeyError> {
        if !permit.covers_key(what.action(), &change.key) {
            return Err(KeyError::NotPermitted);
        }
        let (inner, permit) = (Arc::clone(&self.inner), permit.clone());
        let work =
            async move { inner.change_version(&permit, change, number, what, approved).await };
        self.inner.finish(work).await
    }
}

impl Inner {
    async fn change_version(
        &self,
        permit: &Permit,
        change: KeyChange,
        number: VersionNumber,
        what: StateChange,
        approved: Option<Approved>,
    ) -> Result<VersionChanged, KeyError> {
        self.ledger.ready()?;
        let one_at_a_time = self.changes.lock().await;
        let lost = match what {
            StateChange::ScheduleDestroy { data_keys_lost } => data_keys_lost,
            _ => 0,
        };
        let parts = [&change.digest(), &number.get().to_be_bytes()[..], &lost.to_be_bytes()];
        let request = match self.asked(permit, change.request_id.as_ref(), digest(&parts)).await? {
            Asked::Before(answered) => {
                drop(one_at_a_time);
                // The first answer may still wait for the calls before it.
                self.eras.turn().await;
                return self.changed_before(&answered);
            }
            Asked::New(request) => request,
        };
        self.ledger.ready()?;
        let approved = approved.as_ref();
        Approved::check(approved, self.registry.key(&change.key)?.revision)?;
        let step = self.check_step(&change, number, what).await?;
        let now = self.clock.now();
        let name = step.cell.version.clone();
        if change.validate_only {
            let version = self.shown(&step.cell, step.target, &step.next);
            let etag = etag(step.snapshot.revision);
            return Ok(VersionChanged { name, version, etag, receipt: None });
        }
        let needs =
            self.settings.approving.destroy && what.action() == Action::ScheduleDestroyKeyVersion;
        if needs && approved.is_none() {
            let wanted = Wanted::destruction(&change.key, number, lost, step.snapshot.revision);
            return Err(self.request_approval(permit, &change.reason, wanted).await?);
        }
        let by = ChangedBy::Caller(permit, &change.reason);
        let mut event =
            ChangeEvent::new(by, now, what.kind(), Some(&change.key)).version(number.get());
        if lost > 0 {
            event = event.count(lost);
        }
        let event = Approved::note(approved, event);
        let answer = ChangeAnswer { key: change.key.as_str().to_owned(), version: number.get() };
        let fill = |txn: Txn| {
            request.answer(Approved::fill(approved, self.fill_step(txn, &step)), now, &answer)
        };
        let committed = self.ledger.commit(event, fill).await?;
        self.publish_step(&step, &committed)?;
        drop(one_at_a_time);
        self.settle(&step.cell).await;
        let version = self.version_view(&step.cell);
        let (etag, receipt) = (etag(committed.revision), Some(committed.receipt));
        Ok(VersionChanged { name, version, etag, receipt })
    }

    async fn check_step(
        &self,
        change: &KeyChange,
        number: VersionNumber,
        what: StateChange,
    ) -> Result<Step, KeyError> {
        let snapshot = self.check_etag(change)?;
        let cell = snapshot.versions.get(&number).cloned();
        let cell = cell.ok_or(KeyError::VersionNotFound(number))?;
        let before = cell.facts();
        let state = cell.state();
        let takes_away = matches!(what, StateChange::Disable | StateChange::ScheduleDestroy { .. });
        let is_primary = snapshot.primary.version.number == number;
        if takes_away && is_primary {
            return Err(KeyError::VersionIsPrimary(number));
        }
        let wrong = KeyError::VersionStateWrong { state, allowed: allowed(state, is_primary) };
        let target = what.target(state).ok_or(wrong)?;
        let mut step = Step {
            next: VersionRecord {
                state: target.code().into(),
                destroy_due_nanos: 0,
                data_keys_lost: 0,
                ..before.record.clone()
            },
            snapshot,
            cell,
            before,
            target,
            seen: None,
            counts: None,
        };
        if let StateChange::ScheduleDestroy { data_keys_lost } = what {
            let counts = counts::read(&self.store, &change.key, number).await?;
            let data_keys = counts.as_ref().map_or(0, |(_, counts)| counts.data_keys);
            if data_keys != data_keys_lost {
                return Err(KeyError::DataKeysWouldBeLost { data_keys });
            }
            let seen = self.seen.now();
            let due = seen.saturating_add(step.snapshot.settings.destroy_window());
            step.next.destroy_due_nanos = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
            step.next.data_keys_lost = data_keys;
            step.seen = Some(seen);
            step.counts = Some(counts.map(|(revision, _)| revision));
        }
        Ok(step)
    }

    fn fill_step(&self, txn: Txn, step: &Step) -> Txn {
        let KeyVersion { key, number } = &step.cell.version;
        let (name, digits) = (key.as_str().as_bytes(), number.get().to_be_bytes());
        let version = self.store.path(VERSION, &[name, &digits]);
        let txn = txn
            .at(version.clone(), step.before.revision)
            .at(self.store.path(PRIMARY, &[name]), step.snapshot.primary_revision)
            .put(version, step.next.encode_to_vec());
        let counts = counts::path(&self.store, key, *number);
        let txn = match step.counts {
            None => txn,
            Some(None) => txn.absent(counts),
            Some(Some(revision)) => txn.at(counts, revision),
        };
        match step.seen {
            None => txn,
            Some(seen) => self.see(txn, seen),
        }
    }

    fn publish_step(&self, step: &Step, committed: &Committed) -> Result<(), KeyError> {
        let kek = step.before.kek.clone();
        let next = VersionFacts { revision: committed.revision, record: step.next.clone(), kek };
        self.publish_version(&step.snapshot, &step.cell, next)
    }

    /// Makes a version's change visible: the next use sees it.
    pub(crate) fn publish_version(
        &self,
        key: &KeySnapshot,
        cell: &VersionCell,
        next: VersionFacts,
    ) -> Result<(), KeyError> {
        let revision = next.revision;
        cell.publish(next)?;
        self.registry.put(KeySnapshot { revision, ..key.clone() });
        Ok(())
    }

    /// Waits until nobody uses a version that may not be used any more, and wipes what is in memory
    /// of it. A look-up that began before the change may still bring a data key into memory: so it
    /// is wiped before, and again when those calls are over.
    pub(crate) async fn settle(&self, cell: &VersionCell) {
        if cell.state() == KeyVersionState::Enabled {
            return;
        }
        self.forget_version(cell);
        self.eras.turn().await;
        self.forget_version(cell);
    }

    fn forget_version(&self, cell: &VersionCell) {
        self.cache.retain(|entry| entry.version.version != cell.version);
    }

    fn changed_before(&self, answered: &Answered) -> Result<VersionChanged, KeyError> {
        let answer: ChangeAnswer = answered.decode()?;
        let corrupt = || KeyError::Corrupt("a request's key version");
        let key = KeyName::parse(&answer.key).map_err(|_| corrupt())?;
        let number = VersionNumber::new(answer.version).ok_or_else(corrupt)?;
        let snapshot = self.registry.key(&key)?;
        let cell = snapshot.versions.get(&number).ok_or_else(corrupt)?;
        Ok(VersionChanged {
            version: self.version_view(cell),
            name: KeyVersion { key, number },
            etag: etag(answered.revision),
            receipt: None,
        })
    }
}
