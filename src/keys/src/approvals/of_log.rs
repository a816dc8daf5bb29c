//! Requests about the audit log itself: a redaction, or an archiving.
//!
//! They change nothing in the store. So that such a request is used up, with its record, is a transaction of
//! its own, and comes first: whatever becomes of the log then, nobody does it again with the same request.
//! Nothing here names anybody: a request keeps the token of whoever it is about, and its records not even that.

use std::sync::Arc;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind, Receipt};
use fieldseal_model::{AccessReason, Action, Timestamp};
use fieldseal_policy::Permit;

use super::record::ApprovalRecord;
use super::{Approval, Approved, WHAT, Wanted, covers};
use crate::error::KeyError;
use crate::keys::Keys;

const ACTIONS: [Action; 2] = [Action::RedactAuditEvents, Action::ArchiveAuditEvents];

/// What of the audit log a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfLog {
    /// Whose detail goes, or that segments move.
    pub subject: LogSubject,
    /// Only of calls that began before.
    pub end: Timestamp,
    /// Whether its requester stated no end, and has the moment at which he asked.
    pub is_open: bool,
    /// Records that it was about when it was asked for.
    pub records: u64,
    /// Fields of these records, of a redaction; segments, of an archiving.
    pub parts: u64,
}

/// Whom it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSubject {
    /// The partition with this token.
    Partition([u8; 16]),
    /// The row with this token.
    Row([u8; 16]),
    /// The end user with this token.
    EndUser([u8; 16]),
    /// Everybody.
    Everybody,
    /// Whole segments, which move to the archive.
    Segments,
}

impl LogSubject {
    /// Of everything that a request keeps: 0 for a request about a key.
    const fn code(&self) -> u32 {
        match self {
            Self::Partition(_) => 1,
            Self::Row(_) => 2,
            Self::EndUser(_) => 3,
            Self::Everybody => 4,
            Self::Segments => 5,
        }
    }

    /// The token, if it is about one.
    const fn token(&self) -> Option<&[u8; 16]> {
        match self {
            Self::Partition(token) | Self::Row(token) | Self::EndUser(token) => Some(token),
            Self::Everybody | Self::Segments => None,
        }
    }
}

impl OfLog {
    pub(super) fn write(&self, record: &mut ApprovalRecord) {
        record.log_subject = self.subject.code();
        record.log_token = self.subject.token().map_or_else(Vec::new, |token| token.to_vec());
        record.log_end = self.end.unix_nanos();
        record.log_end_is_open = self.is_open;
        record.log_records = self.records;
        record.log_parts = self.parts;
    }

    pub(super) fn read(record: &ApprovalRecord) -> Result<Option<Self>, KeyError> {
        let corrupt = || KeyError::Corrupt(WHAT);
        let token = || record.log_token.as_slice().try_into().map_err(|_| corrupt());
        let subject = match record.log_subject {
            0 => return Ok(None),
            1 => LogSubject::Partition(token()?),
            2 => LogSubject::Row(token()?),
            3 => LogSubject::EndUser(token()?),
            4 => LogSubject::Everybody,
            5 => LogSubject::Segments,
            _ => return Err(corrupt()),
        };
        Ok(Some(Self {
            subject,
            end: Timestamp::from_unix_nanos(record.log_end),
            is_open: record.log_end_is_open,
            records: record.log_records,
            parts: record.log_parts,
        }))
    }
}

impl Keys {
    /// Whether this change of the audit log needs a second principal.
    #[must_use]
    pub fn log_needs_approval(&self, action: Action) -> bool {
        let approving = self.inner.settings.approving;
        match action {
            Action::RedactAuditEvents => approving.redact,
            Action::ArchiveAuditEvents => approving.archive,
            _ => false,
        }
    }

    /// Has a change of the audit log wait for a second principal, and says so. The same again is told of the
    /// one that waits.
    ///
    /// # Errors
    /// `ApprovalRequired` if it waits now; `NotPermitted`, `TooMany`, or trouble of journal and store.
    pub async fn request_of_log(
        &self,
        permit: &Permit,
        reason: &AccessReason,
        what: OfLog,
    ) -> Result<(), KeyError> {
        covers(permit, &ACTIONS)?;
        let (inner, permit, reason) = (Arc::clone(&self.inner), permit.clone(), reason.clone());
        let work = async move {
            let _one_at_a_time = inner.changes.lock().await;
            inner.ledger.ready()?;
            Err(inner.request_approval(&permit, &reason, Wanted::of_log(what)).await?)
        };
        self.inner.finish(work).await
    }

    /// Uses a request about the log up; the change itself is for whoever holds the log.
    pub(super) async fn grant(
        &self,
        permit: &Permit,
        seen: &Approval,
        reason: &AccessReason,
        approved: Approved,
    ) -> Result<Receipt, KeyError> {
        covers(permit, &[seen.action])?;
        let inner = Arc::clone(&self.inner);
        let by = ChangedBy::Caller(permit, reason);
        let event = ChangeEvent::new(by, inner.clock.now(), Kind::ApprovalGranted, None);
        let event = Approved::note(Some(&approved), event);
        let work = async move {
            let _one_at_a_time = inner.changes.lock().await;
            let fill = |txn| Approved::fill(Some(&approved), txn);
            Ok(inner.ledger.commit(event, fill).await?.receipt)
        };
        self.inner.finish(work).await
    }
}
