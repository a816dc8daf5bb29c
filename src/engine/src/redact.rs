//! Erasing personal detail of the audit log.

use fieldseal_audit::{
    CallEvent, Item, ItemOutcome, JournalError, Receipt, Redactable, Redacted, Verdict,
};
use fieldseal_keys::OfLog;
use fieldseal_model::{
    AccessReason, Action, Malformed, MalformedReason, Partition, Row, Table, Timestamp,
};

use crate::approvals::{Alone, Asked, redactable, waiting};
use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};

/// Whose detail goes.
#[derive(Debug, Clone)]
pub enum RedactionSubject {
    /// That of one person or tenant; not the default partition.
    Partition(Partition),
    /// That of one row.
    Row(Table, Row),
    /// That of calls behind which this end user stands: issuer and subject.
    EndUser(String, String),
    /// Everybody's, before a time.
    Everybody,
}

/// What is to be erased.
#[derive(Debug, Clone)]
pub struct RedactionRequest {
    /// `logs/{log}`; empty for the one of this instance.
    pub log: String,
    /// Whose.
    pub subject: RedactionSubject,
    /// Only of calls that began before. `Everybody` needs it.
    pub end: Option<Timestamp>,
    /// Only say what would go.
    pub validate_only: bool,
}

/// What went, or would go.
#[derive(Debug, Clone)]
pub struct Redaction {
    /// How much.
    pub redacted: Redacted,
    /// That of the last record that names what went; `None` if nothing did.
    pub receipt: Option<Receipt>,
}

impl Engine {
    /// Erases personal detail of the audit log, once a record names what goes. Neither that record nor
    /// any other about the call names whose it is. It goes on when its caller goes away.
    ///
    /// # Errors
    /// Denied, another instance's log, a time that is not over, nothing of the kind, that a second principal
    /// must approve it (`APPROVAL_REQUIRED`; nothing was erased, and the request waits), another redaction
    /// that runs, or a log that does not verify or cannot be written: nothing is erased then.
    /// `RedactionUnfinished` once it is on record: the next start goes on.
    pub async fn redact_audit(
        &self,
        caller: &Caller,
        request: RedactionRequest,
        reason: &AccessReason,
    ) -> Result<Redaction, Refusal> {
        self.journal_ready()?;
        let action = Action::RedactAuditEvents;
        let permit = match self.decide_key(caller, action, None, reason) {
            Ok(permit) => permit,
            Err(denial) => return Err(self.denied(caller, action, None, reason, &denial).await),
        };
        let asked = Asked {
            caller: caller.clone(),
            permit,
            reason: reason.clone(),
            at: self.inner.clock.now(),
        };
        let engine = self.clone();
        let ended = tokio::spawn(async move { engine.redact_now(&asked, request).await }).await;
        ended.unwrap_or_else(|_| Err(RefusalCause::Internal("a redaction was cut off").into()))
    }

    async fn redact_now(
        &self,
        asked: &Asked,
        request: RedactionRequest,
    ) -> Result<Redaction, Refusal> {
        let done = self.redact(asked, request).await;
        self.redacted(asked, done).await
    }

    /// What a second principal agreed to, once the request is used up.
    pub(crate) async fn redact_agreed(
        &self,
        asked: &Asked,
        what: &Redactable,
        alone: Alone,
    ) -> Result<Redaction, Refusal> {
        let done = self.erase(asked, what, alone).await;
        self.redacted(asked, done).await
    }

    async fn redacted(
        &self,
        asked: &Asked,
        done: Result<Redaction, RefusalCause>,
    ) -> Result<Redaction, Refusal> {
        let Asked { caller, permit, reason, at } = asked;
        // One that waits has a record of its own.
        let done = match done {
            Err(RefusalCause::Key(error)) => return self.waits(asked, error).await,
            done => done,
        };
        let outcome = match &done {
            // It has records of its own.
            Ok(done) if done.receipt.is_some() => return Ok(done.clone()),
            Ok(_) => ItemOutcome::Ok,
            Err(cause) => ItemOutcome::Failed(cause.reason()),
        };
        let action = Action::RedactAuditEvents;
        let mut event = CallEvent::new(&caller.principal, action, reason, *at);
        let verdict = event.verdict(Verdict::Permit(permit), None, None, None);
        event.item(verdict, Item { partition: None, row: None, key_version: 0, outcome });
        let receipt = self.inner.journal.record(event).await?;
        done.map_err(|cause| Refusal::recorded(cause, &receipt))
    }

    async fn redact(
        &self,
        asked: &Asked,
        request: RedactionRequest,
    ) -> Result<Redaction, RefusalCause> {
        self.check_log(&request.log)?;
        let what = self.redactable(&request, asked.at)?;
        if request.validate_only {
            return Ok(Redaction { redacted: self.would_redact(what).await?, receipt: None });
        }
        if self.inner.keys.log_needs_approval(Action::RedactAuditEvents) {
            let waiting = waiting(&what, asked.at);
            let waiting = waiting.ok_or(RefusalCause::Internal("no caller asks for that"))?;
            let would = self.would_redact(redactable(&waiting).unwrap_or(what)).await?;
            if would.records == 0 {
                return Err(RefusalCause::NothingToRedact);
            }
            let waiting = OfLog { records: would.records, parts: would.items, ..waiting };
            self.inner.keys.request_of_log(&asked.permit, &asked.reason, waiting).await?;
            return Err(RefusalCause::Internal("a request that waits was not said to"));
        }
        self.erase(asked, &what, self.alone()?).await
    }

    async fn would_redact(&self, what: Redactable) -> Result<Redacted, RefusalCause> {
        let (journal, place) = (self.inner.journal.clone(), self.inner.queries.enter()?);
        let read = tokio::task::spawn_blocking(move || {
            let _place = place;
            journal.would_redact(&what)
        });
        let redacted = read.await.map_err(|_| RefusalCause::Internal("a query was cut off"))?;
        redacted.map_err(cause)
    }

    async fn erase(
        &self,
        asked: &Asked,
        what: &Redactable,
        alone: Alone,
    ) -> Result<Redaction, RefusalCause> {
        let (journal, by) = (&self.inner.journal, (&asked.permit, &asked.reason));
        let done = journal.redact_held(alone.held, what, by, asked.at, |_| {}).await;
        let (redacted, receipt) = done.map_err(cause)?;
        match receipt {
            None => Err(RefusalCause::NothingToRedact),
            receipt => Ok(Redaction { redacted, receipt }),
        }
    }

    fn redactable(
        &self,
        request: &RedactionRequest,
        now: Timestamp,
    ) -> Result<Redactable, RefusalCause> {
        let invalid = |what| Malformed::new(MalformedReason::QueryInvalid, what);
        let (end, tokens) = (request.end, self.inner.keys.tokens());
        if end.is_some_and(|end| end > now) {
            return Err(invalid("the time until which detail goes is not over yet").into());
        }
        Ok(match &request.subject {
            RedactionSubject::Partition(partition) if partition.as_str().is_empty() => {
                return Err(invalid("the default partition is nobody's").into());
            }
            RedactionSubject::Partition(partition) => {
                Redactable::Partition { token: tokens.partition(partition), until: end }
            }
            RedactionSubject::Row(table, row) => {
                Redactable::Row { token: tokens.row(table, row), until: end }
            }
            RedactionSubject::EndUser(issuer, subject) => {
                Redactable::EndUser { token: tokens.end_user(issuer, subject), until: end }
            }
            RedactionSubject::Everybody => {
                let needs = || invalid("name a partition, a row, an end user, or a time");
                Redactable::Before(end.ok_or_else(needs)?)
            }
        })
    }
}

pub(crate) fn cause(error: JournalError) -> RefusalCause {
    match error {
        JournalError::RedactionRuns => RefusalCause::RedactionRunning,
        JournalError::RedactionUnfinished(_) => {
            tracing::error!(event = "audit_redaction_unfinished", %error,
                "a redaction of the audit log is on record and not finished");
            RefusalCause::RedactionUnfinished
        }
        JournalError::Corrupt { .. } | JournalError::Io { .. } => {
            tracing::error!(event = "audit_redaction_refused", %error,
                "the audit log does not verify or cannot be written anew, so nothing of it is erased");
            RefusalCause::AuditUnreadable
        }
        other => other.into(),
    }
}
