//! Who is behind a change.

use fieldseal_model::{AccessReason, Action, KeyName};
use fieldseal_policy::Permit;

use super::{Verdict, write_caller, write_verdict};
use crate::wire;

/// Who made a change, and why it was allowed.
#[derive(Clone, Copy)]
pub enum ChangedBy<'a> {
    /// A caller with this permit, for this reason.
    Caller(&'a Permit, &'a AccessReason),
    /// The process itself, as the action that a caller would have asked for, because of this rule
    /// of its own (`schedule`, `window-over`).
    Itself(Action, &'static str),
}

impl<'a> From<(&'a Permit, &'a AccessReason)> for ChangedBy<'a> {
    fn from((permit, reason): (&'a Permit, &'a AccessReason)) -> Self {
        Self::Caller(permit, reason)
    }
}

impl ChangedBy<'_> {
    /// Writes principal, action, purpose and verdict of a record; gives the ticket.
    pub(super) fn write(self, public: &mut Vec<u8>, key: Option<&KeyName>) -> String {
        match self {
            Self::Caller(permit, reason) => {
                write_caller(public, permit.principal());
                wire::number(public, 4, permit.action().code().into());
                wire::bytes(public, 6, reason.purpose.as_str().as_bytes());
                let verdict = Verdict::Permit(permit);
                write_verdict(public, verdict, key, permit.table(), permit.column());
                reason.ticket.as_str().to_owned()
            }
            Self::Itself(action, rule) => {
                wire::number(public, 4, action.code().into());
                write_verdict(public, Verdict::Itself(rule), key, None, None);
                String::new()
            }
        }
    }
}
