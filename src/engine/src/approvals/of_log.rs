//! A second principal for changes of the audit log.
//!
//! The request is used up before the first record of the change: if that then fails, it is asked for anew.
//! Meanwhile nothing else changes the log, so that no request is used up because something else runs.

use std::sync::Arc;

use fieldseal_audit::{Held, Redactable};
use fieldseal_keys::{Approval, Decided, KeyError, LogSubject, OfLog};
use fieldseal_model::{AccessReason, Timestamp};
use fieldseal_policy::Permit;
use tokio::sync::OwnedSemaphorePermit;

use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};

/// A change of the audit log on its way: whose it is.
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    pub(crate) permit: Permit,
    pub(crate) reason: AccessReason,
    pub(crate) at: Timestamp,
}

/// The right to change the log now, and the query's place.
pub(crate) struct Alone {
    pub(crate) held: Held,
    pub(crate) _place: OwnedSemaphorePermit,
}

impl Engine {
    /// Uses the request up and changes the log. It goes on when its caller goes away.
    pub(super) async fn approve_of_log(
        &self,
        by: Asked,
        gate: Permit,
        id: &str,
        etag: &str,
    ) -> Result<Decided, Refusal> {
        let (engine, id, etag) = (self.clone(), id.to_owned(), etag.to_owned());
        let work = async move { engine.agree(by, &gate, &id, &etag).await };
        let ended = tokio::spawn(work).await;
        ended.unwrap_or_else(|_| Err(RefusalCause::Internal("an approval was cut off").into()))
    }

    async fn agree(
        &self,
        by: Asked,
        gate: &Permit,
        id: &str,
        etag: &str,
    ) -> Result<Decided, Refusal> {
        let alone = match self.alone() {
            Ok(alone) => alone,
            Err(cause) => return Err(self.failed(&by.caller, gate, &by.reason, cause).await),
        };
        let result = self.inner.keys.approve(gate, &by.permit, id, etag, &by.reason).await;
        let Decided { approval, receipt } =
            self.changed(&by.caller, gate, &by.reason, result).await?;
        let changed = match approval.log {
            Some(log) => {
                let alone = alone.agreed(&approval);
                match redactable(&log) {
                    Some(what) => self.redact_agreed(&by, &what, alone).await?.receipt,
                    None => self.archive_agreed(&by, log.end, alone).await?.receipt,
                }
            }
            None => None,
        };
        // Where nothing was left to do, the record says that it was agreed to.
        Ok(Decided { approval, receipt: changed.unwrap_or(receipt) })
    }

    /// The refusal of a change that waits, or that could not be made to.
    pub(crate) async fn waits<T>(&self, by: &Asked, error: Arc<KeyError>) -> Result<T, Refusal> {
        let Asked { caller, permit, reason, .. } = by;
        match Arc::try_unwrap(error) {
            Ok(error) => self.changed(caller, permit, reason, Err(error)).await,
            Err(error) => Err(self.failed(caller, permit, reason, RefusalCause::Key(error)).await),
        }
    }

    pub(crate) fn alone(&self) -> Result<Alone, RefusalCause> {
        let held = self.inner.journal.hold().map_err(|_| RefusalCause::RedactionRunning)?;
        Ok(Alone { held, _place: self.inner.queries.enter()? })
    }
}

impl Alone {
    fn agreed(self, to: &Approval) -> Self {
        let note = format!("approvals/{}, requested by {}", to.id, to.requester);
        Self { held: self.held.agreed(note), ..self }
    }
}

/// What a redaction is that waits: without an end it is about what had begun when it was asked for, so that
/// nobody gets the traces erased of what he does afterwards. `None` for what no caller asks for.
pub(crate) fn waiting(what: &Redactable, at: Timestamp) -> Option<OfLog> {
    let (subject, end) = match what {
        Redactable::Partition { token, until } => (LogSubject::Partition(*token), *until),
        Redactable::Row { token, until } => (LogSubject::Row(*token), *until),
        Redactable::EndUser { token, until } => (LogSubject::EndUser(*token), *until),
        Redactable::Before(end) => (LogSubject::Everybody, Some(*end)),
        // The sidecar does that by itself.
        Redactable::Aged { .. } | Redactable::Erased { .. } => return None,
    };
    let (end, is_open) = (end.unwrap_or(at), end.is_none());
    Some(OfLog { subject, end, is_open, records: 0, parts: 0 })
}

/// What goes with a request; `None` if segments move.
pub(crate) fn redactable(log: &OfLog) -> Option<Redactable> {
    let until = Some(log.end);
    Some(match log.subject {
        LogSubject::Partition(token) => Redactable::Partition { token, until },
        LogSubject::Row(token) => Redactable::Row { token, until },
        LogSubject::EndUser(token) => Redactable::EndUser { token, until },
        LogSubject::Everybody => Redactable::Before(log.end),
        LogSubject::Segments => return None,
    })
}
