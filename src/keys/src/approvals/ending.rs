//! How requests end by themselves: what is late, what is kept, and for whom there is room.

use std::sync::atomic::Ordering;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind};
use fieldseal_model::Action;
use fieldseal_store::Txn;

use super::{ApprovalRecord, ApprovalState};
use super::{Approved, EXPIRED, Found, KEPT, MOST, Moment, PAGE, PENDING, PENDING_OF_ONE};
use crate::error::KeyError;
use crate::keys::Inner;

/// Closed ones that make room for a request that comes.
const REMOVED_AT_ONCE: usize = 8;

/// Whether there is room for a request.
pub(super) enum Room<'a> {
    /// The same waits already.
    Waits(&'a ApprovalRecord),
    /// There is, once these are gone.
    For(Vec<Found>),
}

/// Those that wait have their limits, and so have those that are closed; these are never in the way: the
/// oldest go.
pub(super) fn room<'a>(
    all: &'a [Found],
    record: &ApprovalRecord,
    now: &Moment,
) -> Result<Room<'a>, KeyError> {
    let (mut pending, mut of_one, mut closed) = (0, 0, Vec::new());
    for found in all {
        let other = &found.record;
        if other.state(now)? != ApprovalState::Pending {
            closed.push(found);
            continue;
        }
        if other.is_same(record) {
            return Ok(Room::Waits(other));
        }
        pending += 1;
        of_one += usize::from(other.requester == record.requester);
    }
    if of_one >= PENDING_OF_ONE {
        let what = "requests of one caller that wait for approval";
        return Err(KeyError::TooMany { what, limit: PENDING_OF_ONE });
    }
    if pending >= MOST {
        let what = "requests that wait for approval";
        return Err(KeyError::TooMany { what, limit: MOST });
    }
    closed.sort_by_key(|found| (found.record.created_at, found.record.id.clone()));
    let too_many = (closed.len() + 1).saturating_sub(MOST).min(REMOVED_AT_ONCE);
    Ok(Room::For(closed.into_iter().take(too_many).cloned().collect()))
}

/// Removes them, unless something else became of one.
pub(super) fn removing(txn: Txn, all: &[Found]) -> Txn {
    all.iter().fold(txn, |txn, found| {
        txn.at(found.path.clone(), found.revision).delete(found.path.clone())
    })
}

impl Inner {
    pub(super) async fn moment(&self) -> Result<Moment, KeyError> {
        let incarnation = self.incarnation().await?.id;
        Ok(Moment { at: self.clock.now(), seen: self.seen.now(), incarnation })
    }

    /// Ends what is late, and removes what was over long ago.
    pub(crate) async fn end_approvals(&self) -> Result<(), KeyError> {
        let now = self.moment().await?;
        let (mut waits, mut over) = (false, Vec::new());
        for found in self.all_approvals().await? {
            let is_pending = found.record.state == PENDING;
            let is_late = found.record.is_late(&now);
            waits |= is_pending && !is_late;
            if found.record.is_late_by(KEPT, &now) {
                over.push(found);
            } else if is_pending && is_late {
                self.expire(&found).await?;
            }
        }
        self.approvals_wait.store(waits, Ordering::Relaxed);
        for some in over.chunks(PAGE) {
            let by = ChangedBy::Itself(Action::RejectChange, "expired");
            let event = ChangeEvent::new(by, now.at, Kind::ApprovalsRemoved, None);
            let event = event.note(&format!("{} that were over", some.len()));
            settled(self.ledger.commit(event, |txn| removing(txn, some)).await)?;
        }
        Ok(())
    }

    /// Closes one that is late, so that no clock opens it again. The caller runs in a task of its own.
    pub(super) async fn expire(&self, found: &Found) -> Result<(), KeyError> {
        let now = self.moment().await?;
        let record = ApprovalRecord { state: EXPIRED, ..found.record.clone() };
        let seen = record.view(&now, &self.tokens)?;
        let by = ChangedBy::Itself(Action::RejectChange, "expired");
        let event = ChangeEvent::new(by, now.at, Kind::ApprovalExpired, seen.key.as_ref());
        let expired = Approved { path: found.path.clone(), revision: found.revision, record };
        let event = Approved::note(Some(&expired), Self::about(event, &seen));
        settled(self.ledger.commit(event, |txn| Approved::fill(Some(&expired), txn)).await)
    }
}

/// If something else became of it meanwhile, that stands.
fn settled<T>(done: Result<T, KeyError>) -> Result<(), KeyError> {
    match done {
        Ok(_) | Err(KeyError::Conflict) => Ok(()),
        Err(error) => Err(error),
    }
}
