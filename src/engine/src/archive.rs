//! Moving the oldest part of the audit log to the archive.

mod command;

use fieldseal_audit::{
    Archivable, Archived, CallEvent, Item, ItemOutcome, JournalError, Receipt, Verdict,
};
use fieldseal_keys::{LogSubject, OfLog};
use fieldseal_model::{AccessReason, Action, Malformed, MalformedReason, Timestamp};

use crate::approvals::{Alone, Asked};
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

impl Engine {
    /// Moves the oldest segments of the audit log to the archive, once a record names them. What was not
    /// posted to an anchor or handed on yet stays, and so does the open segment. It goes on when its
    /// caller goes away.
    ///
    /// # Errors
    /// Denied, no archive, another instance's log, a time that is not over, that a second principal must
    /// approve it (`APPROVAL_REQUIRED`; nothing moved, and the request waits), a redaction or another
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
        let (caller, at) = (caller.clone(), self.inner.clock.now());
        let asked = Asked { caller, permit, reason: reason.clone(), at };
        let engine = self.clone();
        let work = async move {
            let done = engine.archive(&asked, &request).await;
            engine.archived(&asked, done).await
        };
        let ended = tokio::spawn(work).await;
        ended.unwrap_or_else(|_| Err(RefusalCause::Internal("an archiving was cut off").into()))
    }

    /// What a second principal agreed to, once the request is used up.
    pub(crate) async fn archive_agreed(
        &self,
        asked: &Asked,
        before: Timestamp,
        alone: Alone,
    ) -> Result<Archiving, Refusal> {
        let done = match self.archivable(before) {
            Ok(what) => self.move_away(asked, &what, alone).await,
            Err(cause) => Err(cause),
        };
        self.archived(asked, done).await
    }

    async fn archived(
        &self,
        asked: &Asked,
        done: Result<Archiving, RefusalCause>,
    ) -> Result<Archiving, Refusal> {
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
        let action = Action::ArchiveAuditEvents;
        let mut event = CallEvent::new(&caller.principal, action, reason, *at);
        let verdict = event.verdict(Verdict::Permit(permit), None, None, None);
        event.item(verdict, Item { partition: None, row: None, key_version: 0, outcome });
        let receipt = self.inner.journal.record(event).await?;
        done.map_err(|cause| Refusal::recorded(cause, &receipt))
    }

    async fn archive(
        &self,
        asked: &Asked,
        request: &ArchiveRequest,
    ) -> Result<Archiving, RefusalCause> {
        let ArchiveRequest { log, before, validate_only } = request;
        self.check_log(log)?;
        let what = self.archivable(*before)?;
        if *before > asked.at {
            let what = "the time before which records move is not over yet";
            return Err(Malformed::new(MalformedReason::QueryInvalid, what).into());
        }
        let waits = self.inner.keys.log_needs_approval(Action::ArchiveAuditEvents);
        if !*validate_only && !waits {
            return self.move_away(asked, &what, self.alone()?).await;
        }
        let archived = self.would_archive(what).await?;
        // With nothing to move there is nothing to agree to.
        if !*validate_only && archived.segments > 0 {
            let what = OfLog {
                subject: LogSubject::Segments,
                end: *before,
                is_open: false,
                records: archived.end.saturating_sub(archived.first),
                parts: archived.segments,
            };
            self.inner.keys.request_of_log(&asked.permit, &asked.reason, what).await?;
        }
        Ok(Archiving { archived, receipt: None })
    }

    fn archivable(&self, before: Timestamp) -> Result<Archivable, RefusalCause> {
        let to = self.inner.retaining.settings.archive.as_ref();
        let to = to.ok_or(RefusalCause::ArchiveNotConfigured)?.place();
        Ok(Archivable { before, most: self.settled_elsewhere(), to })
    }

    async fn would_archive(&self, what: Archivable) -> Result<Archived, RefusalCause> {
        let (journal, _place) = (self.inner.journal.clone(), self.inner.queries.enter()?);
        let read = tokio::task::spawn_blocking(move || journal.would_archive(&what)).await;
        let archived = read.map_err(|_| RefusalCause::Internal("an archiving was cut off"))?;
        archived.map_err(cause)
    }

    async fn move_away(
        &self,
        asked: &Asked,
        what: &Archivable,
        alone: Alone,
    ) -> Result<Archiving, RefusalCause> {
        let (journal, by) = (&self.inner.journal, (&asked.permit, &asked.reason));
        let done = journal.archive_held(alone.held, what, by, asked.at, |_| {}).await;
        let (archived, receipt) = done.map_err(cause)?;
        Ok(Archiving { archived, receipt })
    }

    /// How many of the first records nobody elsewhere needs any more: a start compares the log with what was
    /// posted last, and an export goes on where it came to.
    pub(crate) fn settled_elsewhere(&self) -> u64 {
        // An anchor that was told of nothing yet needs everything.
        let posted = self.anchor_states().into_iter().map(|anchor| anchor.posted.unwrap_or(0));
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
