//! Which records are old enough that their personal detail goes: a time for each class of them.

use fieldseal_model::{Action, ActionKind, Timestamp};

use crate::record::{Kind, Record, decision};

/// What a record is to whoever decides how long its personal detail is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordClass {
    /// A call that encrypts or decrypts, of which anything was allowed.
    Calls,
    /// A call of any kind of which nothing was allowed.
    Refusals,
    /// A question to the log, a proof of it, or a tail.
    Questions,
    /// All else: changes of keys, partitions, policy, backups and the log, and calls about them.
    Changes,
}

impl RecordClass {
    pub(crate) fn of(record: &Record) -> Self {
        use decision::{DENIAL, END_USER, MALFORMED};
        let refused = [DENIAL, END_USER, MALFORMED];
        let is_call = Kind::from_code(record.kind) == Some(Kind::Call);
        let mut verdicts = record.verdicts.iter();
        if is_call && verdicts.len() > 0 && verdicts.all(|v| refused.contains(&v.decision)) {
            return Self::Refusals;
        }
        let action = u8::try_from(record.action).ok().and_then(Action::from_code);
        match action.filter(|_| is_call) {
            Some(
                Action::QueryAuditEvents
                | Action::SummarizeAccess
                | Action::GetCheckpoint
                | Action::GetInclusionProof
                | Action::GetConsistencyProof
                | Action::TailAuditEvents,
            ) => Self::Questions,
            Some(action) if matches!(action.kind(), ActionKind::Encrypt | ActionKind::Decrypt) => {
                Self::Calls
            }
            _ => Self::Changes,
        }
    }
}

/// What is over: for each class a time before which its details go; `None` keeps all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aged {
    /// Of calls that encrypt or decrypt.
    pub calls: Option<Timestamp>,
    /// Of refusals.
    pub refusals: Option<Timestamp>,
    /// Of questions to the log.
    pub questions: Option<Timestamp>,
    /// Of everything else.
    pub changes: Option<Timestamp>,
}

impl Aged {
    /// The time of a class.
    #[must_use]
    pub const fn of(&self, class: RecordClass) -> Option<Timestamp> {
        match class {
            RecordClass::Calls => self.calls,
            RecordClass::Refusals => self.refusals,
            RecordClass::Questions => self.questions,
            RecordClass::Changes => self.changes,
        }
    }

    /// The latest of the times: before it something may be over.
    #[must_use]
    pub fn latest(&self) -> Option<Timestamp> {
        let Self { calls, refusals, questions, changes } = *self;
        [calls, refusals, questions, changes].into_iter().flatten().max()
    }

    pub(super) fn is_over(&self, record: &Record) -> bool {
        let before = self.of(RecordClass::of(record));
        before.is_some_and(|before| Timestamp::from_unix_nanos(record.time) < before)
    }
}
