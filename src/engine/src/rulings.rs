//! What policy says of the fields of a call, each asked once, and where it stands in the event.

use std::collections::HashMap;
use std::sync::Arc;

use fieldseal_audit::{CallEvent, Verdict, VerdictIndex};
use fieldseal_model::{
    AccessReason, Action, Field, Malformed, MalformedReason, Partition, PartitionClass,
};
use fieldseal_policy::{Denial, Permit, Policy, Request};

use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::RefusalCause;

/// The decision for one field and partition class, and its place in the event.
struct Ruling {
    decision: Result<Permit, Denial>,
    verdict: VerdictIndex,
}

/// The decisions of a call: at most two for each field, made when first needed.
pub(crate) struct Rulings<'a> {
    /// The policy at the beginning of the call decides all of it.
    policy: Arc<Policy>,
    caller: &'a Caller,
    action: Action,
    reason: &'a AccessReason,
    fields: &'a [Field],
    made: Vec<[Option<Ruling>; 2]>,
    malformed: HashMap<(Option<usize>, MalformedReason), VerdictIndex>,
}

impl<'a> Rulings<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        caller: &'a Caller,
        action: Action,
        reason: &'a AccessReason,
        fields: &'a [Field],
    ) -> Self {
        let made = fields.iter().map(|_| [None, None]).collect();
        let policy = engine.inner.policy.newest();
        Self { policy, caller, action, reason, fields, made, malformed: HashMap::new() }
    }

    /// The decision for a field and partition; an index that points nowhere is a refusal.
    pub(crate) fn decide(
        &mut self,
        event: &mut CallEvent,
        field: usize,
        partition: &Partition,
    ) -> Result<(&Result<Permit, Denial>, VerdictIndex), RefusalCause> {
        const LOST: RefusalCause = RefusalCause::Internal("an item of a field that does not exist");
        let class = partition.class();
        let of = self.fields.get(field).ok_or(LOST)?;
        let place = self.made.get_mut(field).ok_or(LOST)?;
        let [default, named] = place;
        let slot = if class == PartitionClass::Default { default } else { named };
        let ruling = slot.get_or_insert_with(|| {
            let decision = self.policy.decide(&Request {
                principal: &self.caller.principal,
                action: self.action,
                key: Some(&of.key),
                partition: class,
                table: Some(&of.table),
                column: Some(&of.column),
                reason: self.reason,
            });
            let verdict = match &decision {
                Ok(permit) => Verdict::Permit(permit),
                Err(denial) => Verdict::Denial(denial),
            };
            let verdict = event.verdict(verdict, Some(&of.key), Some(&of.table), Some(&of.column));
            Ruling { decision, verdict }
        });
        Ok((&ruling.decision, ruling.verdict))
    }

    /// The place in the event of what is malformed, once for each field and reason: whoever may
    /// not decrypt must not fill the log with a field's names by sending many bad items.
    pub(crate) fn malformed(
        &mut self,
        event: &mut CallEvent,
        field: usize,
        what: &Malformed,
    ) -> VerdictIndex {
        let of = self.fields.get(field);
        let place = (of.map(|_| field), what.reason());
        *self.malformed.entry(place).or_insert_with(|| {
            let (key, table) = (of.map(|f| &f.key), of.map(|f| &f.table));
            event.verdict(Verdict::Malformed(what), key, table, of.map(|f| &f.column))
        })
    }
}
