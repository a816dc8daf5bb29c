//! The parts an engine holds, and the two steps that every call shares.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use fieldseal_audit::{CallEvent, Health, Item, ItemOutcome, Journal, Verdict};
use fieldseal_identity::Shown;
use fieldseal_keys::Keys;
use fieldseal_model::{
    AccessReason, Action, ActionKind, Clock, Column, KeyName, Malformed, PartitionClass, Table,
};
use fieldseal_policy::{Denial, Permit, Request};
use fieldseal_store::{Generations, Store};

use crate::backup::Backups;
use crate::call::{Caller, Stated};
use crate::counting::Counting;
use crate::export::Export;
use crate::jobs::Jobs;
use crate::observe::Queries;
use crate::outside::Anchor;
use crate::policy::ActivePolicy;
use crate::refusal::{Refusal, RefusalCause};
use crate::retention::Retaining;
use crate::tail::Tails;
use crate::upkeep::Kept;
use crate::volume::Places;

/// Everything a running installation needs to answer calls. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) policy: ActivePolicy,
    pub(crate) keys: Keys,
    pub(crate) jobs: Jobs,
    pub(crate) counting: Counting,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) backups: Backups,
    pub(crate) clock: Arc<dyn Clock>,
    /// Of a store on disk: where its generations are.
    pub(crate) generations: Option<Generations>,
    /// Of a store that is copied to a directory: where both are.
    pub(crate) places: Option<Places>,
    pub(crate) upkeep: Kept,
    /// Tokens of end users, each with the caller that it belongs to.
    pub(crate) shown: Shown,
    /// Places for queries of the audit log.
    pub(crate) queries: Queries,
    /// Where checkpoints of the log are posted to.
    pub(crate) anchors: Vec<Arc<Anchor>>,
    /// Where the log is handed on to.
    pub(crate) exports: Vec<Arc<Export>>,
    /// What becomes of the log as it grows old.
    pub(crate) retaining: Retaining,
    /// Places for those who follow it.
    pub(crate) tails: Tails,
    pub(crate) started_at: fieldseal_model::Timestamp,
    /// Values sealed since the start.
    pub(crate) sealed: AtomicU64,
    /// Values opened since the start.
    pub(crate) opened: AtomicU64,
}

impl Engine {
    /// Refuses before anything begins while nothing could be recorded (I1).
    pub(crate) fn journal_ready(&self) -> Result<(), Refusal> {
        match self.inner.journal.health() {
            Health::Ok => Ok(()),
            _ => Err(RefusalCause::AuditUnavailable.into()),
        }
    }

    /// Asks the policy about a call that concerns a key as a whole, or none.
    pub(crate) fn decide_key(
        &self,
        caller: &Caller,
        action: Action,
        key: Option<&KeyName>,
        reason: &AccessReason,
    ) -> Result<Permit, Denial> {
        self.inner.policy.newest().decide(&Request {
            principal: &caller.principal,
            action,
            key,
            partition: PartitionClass::Default,
            table: None,
            column: None,
            reason,
        })
    }

    /// Records a denied call and makes its refusal.
    pub(crate) async fn denied(
        &self,
        caller: &Caller,
        action: Action,
        key: Option<&KeyName>,
        reason: &AccessReason,
        denial: &Denial,
    ) -> Refusal {
        let verdict = Verdict::Denial(denial);
        let event =
            self.single(caller, action, reason, verdict, (key, None, None), ItemOutcome::Denied);
        match self.inner.journal.record(event).await {
            Ok(receipt) => Refusal::recorded(RefusalCause::Denied, &receipt),
            Err(error) => error.into(),
        }
    }

    /// Records a permitted call that failed and makes its refusal.
    pub(crate) async fn failed(
        &self,
        caller: &Caller,
        permit: &Permit,
        reason: &AccessReason,
        cause: RefusalCause,
    ) -> Refusal {
        let outcome = ItemOutcome::Failed(cause.reason());
        let subject = (permit.key(), None, None);
        let verdict = Verdict::Permit(permit);
        let event = self.single(caller, permit.action(), reason, verdict, subject, outcome);
        match self.inner.journal.record(event).await {
            Ok(receipt) => Refusal::recorded(cause, &receipt),
            // The first trouble is what the caller can act on.
            Err(_) => cause.into(),
        }
    }

    /// Makes the refusal of a request that could not be parsed as a whole; one that asked for a
    /// plaintext is recorded with what is known of it.
    pub async fn malformed(
        &self,
        caller: &Caller,
        action: Action,
        what: Malformed,
        stated: &Stated,
    ) -> Refusal {
        if action.kind() != ActionKind::Decrypt {
            return what.into();
        }
        let outcome = ItemOutcome::Failed(what.reason().as_str());
        let Stated { key, table, column, reason } = stated;
        let subject = (key.as_ref(), table.as_ref(), column.as_ref());
        let event =
            self.single(caller, action, reason, Verdict::Malformed(&what), subject, outcome);
        match self.inner.journal.record(event).await {
            Ok(receipt) => Refusal::recorded(what, &receipt),
            Err(error) => error.into(),
        }
    }

    pub(crate) fn single(
        &self,
        caller: &Caller,
        action: Action,
        reason: &AccessReason,
        verdict: Verdict<'_>,
        (key, table, column): (Option<&KeyName>, Option<&Table>, Option<&Column>),
        outcome: ItemOutcome,
    ) -> CallEvent {
        let now = self.inner.clock.now();
        let mut event = CallEvent::new(&caller.principal, action, reason, now);
        let verdict = event.verdict(verdict, key, table, column);
        event.item(verdict, Item { partition: None, row: None, key_version: 0, outcome });
        event
    }
}
