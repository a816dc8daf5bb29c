//! A second principal for what cannot be taken back.

mod of_log;

use fieldseal_keys::{Approval, Decided};
use fieldseal_model::{AccessReason, Action};
use fieldseal_policy::{Denial, Permit};

use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::Refusal;

pub(crate) use self::of_log::{Alone, Asked, redactable, waiting};

impl Engine {
    /// The changes that wait for a second principal, and what became of those that did; the newest
    /// first. No partition has a name there. With an id only that one, and its partition has one if the
    /// caller may do the change himself.
    ///
    /// # Errors
    /// Denied, or the store's trouble.
    pub async fn approvals(
        &self,
        caller: &Caller,
        id: Option<&str>,
    ) -> Result<Vec<Approval>, Refusal> {
        let permit = self.permit_read(caller, Action::ListApprovals, None).await?;
        let mut all = self.inner.keys.approvals(&permit).await?;
        match id {
            Some(id) => {
                all.retain(|approval| approval.id == id);
                all.iter_mut().for_each(|approval| self.hide(caller, approval));
            }
            None => all.iter_mut().filter(|a| a.partition_token.is_some()).for_each(nameless),
        }
        Ok(all)
    }

    /// The name of a partition may be a person's: it is for whoever may do, in the words of whoever
    /// asked, what is asked for.
    fn hide(&self, caller: &Caller, approval: &mut Approval) {
        let is_named = approval.partition_token.is_some();
        if is_named && self.decide_approval(caller, approval, &approval.reason).is_err() {
            nameless(approval);
        }
    }

    /// Does what somebody else asked for. The caller must be allowed to approve, and to do it
    /// himself; and whoever asked must still be.
    ///
    /// # Errors
    /// Denied, not found, decided or expired before, asked for by the caller himself, another etag,
    /// outdated, or what the change itself is refused for.
    pub async fn approve_change(
        &self,
        caller: &Caller,
        id: &str,
        etag: &str,
        reason: &AccessReason,
    ) -> Result<Decided, Refusal> {
        let (gate, asked) = self.asked_for(caller, Action::ApproveChange, id, reason).await?;
        let permit = match self.decide_approval(caller, &asked, reason) {
            Ok(permit) => permit,
            Err(denial) => {
                let (action, key) = (asked.action, asked.key.as_ref());
                return Err(self.denied(caller, action, key, reason, &denial).await);
            }
        };
        let requester = Caller { principal: asked.requester.clone() };
        let result = match self.decide_approval(&requester, &asked, &asked.reason) {
            Ok(_) if asked.log.is_some() => {
                let (caller, reason, at) = (caller.clone(), reason.clone(), self.inner.clock.now());
                let by = Asked { caller, permit, reason, at };
                return self.approve_of_log(by, gate, id, etag).await;
            }
            Ok(_) => self.inner.keys.approve(&gate, &permit, id, etag, reason).await,
            Err(_) => Err(fieldseal_keys::KeyError::ApprovalOutdated(
                "whoever made it may not do this any more",
            )),
        };
        self.changed(caller, &gate, reason, result).await
    }

    /// Lets a change that waits go.
    ///
    /// # Errors
    /// Denied, not found, decided or expired before, or trouble of journal and store.
    pub async fn reject_change(
        &self,
        caller: &Caller,
        id: &str,
        reason: &AccessReason,
    ) -> Result<Decided, Refusal> {
        let (gate, _) = self.asked_for(caller, Action::RejectChange, id, reason).await?;
        let result = self.inner.keys.reject(&gate, id, reason).await;
        let mut decided = self.changed(caller, &gate, reason, result).await?;
        self.hide(caller, &mut decided.approval);
        Ok(decided)
    }

    /// The permit to decide at all, and what is asked for.
    async fn asked_for(
        &self,
        caller: &Caller,
        action: Action,
        id: &str,
        reason: &AccessReason,
    ) -> Result<(Permit, Approval), Refusal> {
        self.journal_ready()?;
        let gate = match self.decide_key(caller, action, None, reason) {
            Ok(gate) => gate,
            Err(denial) => return Err(self.denied(caller, action, None, reason, &denial).await),
        };
        let asked = self.inner.keys.approval(&gate, id).await;
        let asked = self.changed(caller, &gate, reason, asked).await?;
        Ok((gate, asked))
    }

    fn decide_approval(
        &self,
        caller: &Caller,
        asked: &Approval,
        reason: &AccessReason,
    ) -> Result<Permit, Denial> {
        match (&asked.key, &asked.partition) {
            (Some(key), Some(partition)) => {
                self.decide_partition(caller, asked.action, key, partition, reason)
            }
            (key, _) => self.decide_key(caller, asked.action, key.as_ref(), reason),
        }
    }
}

fn nameless(approval: &mut Approval) {
    approval.partition = None;
}
