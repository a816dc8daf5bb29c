//! Erasing personal detail of the audit log.

use fieldseal_audit::{
    CallEvent, Item, ItemOutcome, JournalError, Receipt, Redactable, Redacted, Verdict,
};
use fieldseal_model::{
    AccessReason, Action, Malformed, MalformedReason, Partition, Principal, Row, Table, Timestamp,
};
use fieldseal_policy::Permit;

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

/// A redaction on its way.
struct Asked {
    principal: Principal,
    permit: Permit,
    reason: AccessReason,
    at: Timestamp,
    validate_only: bool,
}

impl Engine {
    /// Erases personal detail of the audit log, once a record names what goes. Neither that record nor
    /// any other about the call names whose it is. It goes on when its caller goes away.
    ///
    /// # Errors
    /// Denied, another instance's log, a time that is not over, nothing of the kind, another redaction
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
            principal: caller.principal.clone(),
            permit,
            reason: reason.clone(),
            at: self.inner.clock.now(),
            validate_only: request.validate_only,
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
        let outcome = match &done {
            // It has records of its own.
            Ok(done) if !asked.validate_only => return Ok(done.clone()),
            Ok(_) => ItemOutcome::Ok,
            Err(cause) => ItemOutcome::Failed(cause.reason()),
        };
        let action = Action::RedactAuditEvents;
        let mut event = CallEvent::new(&asked.principal, action, &asked.reason, asked.at);
        let verdict = event.verdict(Verdict::Permit(&asked.permit), None, None, None);
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
        let journal = self.inner.journal.clone();
        let place = self.inner.queries.enter()?;
        if asked.validate_only {
            let read = tokio::task::spawn_blocking(move || {
                let _place = place;
                journal.would_redact(&what)
            });
            let redacted = read.await.map_err(|_| RefusalCause::Internal("a query was cut off"))?;
            return Ok(Redaction { redacted: redacted.map_err(cause)?, receipt: None });
        }
        let by = (&asked.permit, &asked.reason);
        let (redacted, receipt) =
            journal.redact(&what, by, asked.at, |_| {}).await.map_err(cause)?;
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
