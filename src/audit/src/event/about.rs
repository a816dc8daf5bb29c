//! What is asked of an event, and whom a question of the log is about.

use super::{CallEvent, SystemEvent};
use crate::record::Outcome;
use crate::wire;

impl SystemEvent {
    /// Notes the request that a second principal agreed to, and who made it; nothing if nobody was asked.
    #[must_use]
    pub(crate) fn agreed(mut self, note: &str) -> Self {
        wire::bytes(&mut self.public, 13, note.as_bytes());
        self
    }
}

impl CallEvent {
    /// Notes the token of the end user that a question is about, in place of one behind the call.
    pub fn about_end_user(&mut self, token: [u8; 16]) {
        self.end_user = Some(token);
    }

    /// Makes room for so many items.
    pub fn reserve(&mut self, items: usize) {
        self.items.reserve(items);
    }

    /// How many items are said to be OK; `None` if one of them has no permit.
    pub(crate) fn released(&self) -> Option<usize> {
        self.permitted.then_some(self.ok)
    }

    pub(super) fn outcome(&self) -> Outcome {
        let all = self.items.len();
        match (self.ok, self.denied) {
            (ok, _) if ok == all => Outcome::Ok,
            (0, denied) if denied == all => Outcome::Denied,
            (0, _) => Outcome::Failed,
            _ => Outcome::Partial,
        }
    }

    /// The partition of every item, if they all have the same and it is a named one: it stands once
    /// in the detail's head then.
    pub(super) fn shared_partition(&self) -> Option<[u8; 16]> {
        let (_, first) = self.items.first()?;
        let same = self.items.iter().all(|(_, item)| item.partition == first.partition);
        first.partition.filter(|_| same)
    }
}
