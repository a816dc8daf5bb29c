//! Moving the oldest part of the audit log to the archive.

mod command;

use fieldseal_audit::{
    Archivable, Archived, CallEvent, Item, ItemOutcome, JournalError, Receipt, Verdict,
};
use fieldseal_model::{AccessReason, Action, Malformed, MalformedReason, Principal, Timestamp};
use fieldseal_policy::Permit;

use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};
pub(crate) use command::CommandArchive;

/// What is to be archived.
#[derive(Debug, Clone)]
pub struct ArchiveRequest {
    /// `logs/{log}`; empty for the one of this instance.
    pub log: String,
    /// Only segments whose records were all made before; not in the future.
    pub before: Timestamp,
    /// Only say what would move.
    pub validate_only: bool,
}

/// What moved, or would move.
#[derive(Debug, Clone)]
pub struct Archiving {
    /// How much.
    pub archived: Archived,
    /// That of the last record that names what moved; `None` if nothing did.
    pub receipt: Option<Receipt>,
}

/// An archiving on its way.
struct Asked {
    principal: Principal,
    permit: Permit,
    reason: AccessReason,
    at: Timestamp,
    request: ArchiveRequest,
}

impl Engine {
    /// Moves the oldest segments of the audit log to the archive, once a record names them. What was not
    /// posted to an anchor or handed on yet stays, and so does the open segment. It goes on when its
    /// caller goes away.
    ///
    /// # Errors
    /// Denied, no archive, another instance's log, a time that is not over, a redaction or another
    /// archiving that has not ended, a log that does not verify, an archive that cannot be written. No
    /// segment is lost: what did not move is where it was.
    pub async fn archive_audit(
        &self,
        caller: &Caller,
        request: ArchiveRequest,
        reason: &AccessReason,
    ) -> Result<Archiving, Refusal> {
        self.journal_ready()?;
        let action = Action::ArchiveAuditEvents;
        let permit = match self.decide_key(caller, action, None, reason) {
            Ok(permit) => permit,
            Err(denial) => return Err(self.denied(caller, action, None, reason, &denial).await),
        };
        let (principal, at) = (caller.principal.clone(), self.inner.clock.now());
        let asked = Asked { principal, permit, reason: reason.clone(), at, request };
        let engine = self.clone();
        let ended = tokio::spawn(async move { engine.archive_now(&asked).await }).await;
        ended.unwrap_or_else(|_| Err(RefusalCause::Internal("an archiving was cut off").into()))
    }

    async fn archive_now(&self, asked: &Asked) -> Result<Archiving, Refusal> {
        let done = self.archive(asked).await;
        let outcome = match &done {
            // It has records of its own.
            Ok(done) if done.receipt.is_some() => return Ok(done.clone()),
            Ok(_) => ItemOutcome::Ok,
            Err(cause) => ItemOutcome::Failed(cause.reason()),
        };
        let action = Action::ArchiveAuditEvents;
        let mut event = CallEvent::new(&asked.principal, action, &asked.reason, asked.at);
        let verdict = event.verdict(Verdict::Permit(&asked.permit), None, None, None);
        event.item(verdict, Item { partition: None, row: None, key_version: 0, outcome });
        let receipt = self.inner.journal.record(event).await?;
        done.map_err(|cause| Refusal::recorded(cause, &receipt))
    }

    async fn archive(&self, asked: &Asked) -> Result<Archiving, RefusalCause> {
        let ArchiveRequest { log, before, validate_only } = &asked.request;
        self.check_log(log)?;
        let to = self.inner.retaining.settings.archive.as_ref();
        let to = to.ok_or(RefusalCause::ArchiveNotConfigured)?.place();
        if *before > asked.at {
            let what = "the time before which records move is not over yet";
            return Err(Malformed::new(MalformedReason::QueryInvalid, what).into());
        }
        let what = Archivable { before: *before, most: self.settled_elsewhere(), to };
        let journal = self.inner.journal.clone();
        let _place = self.inner.queries.enter()?;
        if *validate_only {
            let read = tokio::task::spawn_blocking(move || journal.would_archive(&what)).await;
            let archived = read.map_err(|_| RefusalCause::Internal("an archiving was cut off"))?;
            return Ok(Archiving { archived: archived.map_err(cause)?, receipt: None });
        }
        let by = (&asked.permit, &asked.reason);
        let (archived, receipt) =
            journal.archive(&what, by, asked.at, |_| {}).await.map_err(cause)?;
        Ok(Archiving { archived, receipt })
    }

    /// How many of the first records nobody elsewhere needs any more: a start compares the log with what was
    /// posted last, and an export goes on where it came to.
    pub(crate) fn settled_elsewhere(&self) -> u64 {
        let posted = self.anchor_states().into_iter().filter_map(|anchor| anchor.posted);
        let exported = self.export_states().into_iter().map(|export| export.exported);
        posted.chain(exported).min().unwrap_or(u64::MAX)
    }
}

pub(crate) fn cause(error: JournalError) -> RefusalCause {
    match error {
        JournalError::RedactionRuns => RefusalCause::RedactionRunning,
        JournalError::RedactionUnfinished(_) => RefusalCause::RedactionUnfinished,
        JournalError::Corrupt { .. } => {
            tracing::error!(event = "audit_archive_failed", %error,
                "the audit log does not verify, so nothing of it is archived");
            RefusalCause::AuditUnreadable
        }
        JournalError::Io { .. } | JournalError::Foreign { .. } | JournalError::Unavailable => {
            tracing::error!(event = "audit_archive_failed", %error,
                "the audit log was not archived to the end; nothing of it is lost");
            RefusalCause::ArchiveUnavailable
        }
        other => other.into(),
    }
}
