//! What the keys of a call ask of it: policy has said yes before they are looked at.

use fieldseal_keys::{CallRules, Keys};
use fieldseal_model::{AccessReason, Field, Malformed, MalformedReason, Partition, Row};

/// The rules of each field's key, read once a call.
pub(crate) struct FieldRules(Vec<Rules>);

#[derive(Clone, Default)]
struct Rules {
    of_key: CallRules,
    /// What the key has against the call's reason, which is the same for every item.
    reason: Option<Malformed>,
}

impl FieldRules {
    /// The rules for a call that gives this reason; without one, nothing is asked of it.
    pub(crate) fn new(keys: &Keys, fields: &[Field], reason: Option<&AccessReason>) -> Self {
        let mut rules: Vec<Rules> = Vec::with_capacity(fields.len());
        for (at, field) in fields.iter().enumerate() {
            // The columns of a call mostly have the same key.
            let before = at.checked_sub(1).and_then(|before| fields.get(before));
            let same = before.is_some_and(|before| before.key == field.key);
            let known = rules.last().filter(|_| same).cloned();
            rules.push(known.unwrap_or_else(|| {
                let of_key = keys.call_rules(&field.key);
                let reason = reason.and_then(|reason| against(&of_key, reason).err());
                Rules { of_key, reason }
            }));
        }
        Self(rules)
    }

    /// Whether calls of this field are recorded even if they seal.
    pub(crate) fn logs_encrypts(&self, field: usize) -> bool {
        self.0.get(field).is_some_and(|rules| rules.of_key.log_encrypts)
    }

    /// Whether any field of the call is recorded even if it seals.
    pub(crate) fn any_logs_encrypts(&self) -> bool {
        self.0.iter().any(|rules| rules.of_key.log_encrypts)
    }

    /// Refuses an item that does not state what its key wants.
    ///
    /// # Errors
    /// `ROW_REQUIRED`, `PARTITION_REQUIRED`, and with a reason to look at `PURPOSE_REQUIRED`,
    /// `PURPOSE_NOT_ALLOWED`, `TICKET_REQUIRED`, `TICKET_NOT_ALLOWED` and `END_USER_REQUIRED`.
    pub(crate) fn check(
        &self,
        field: usize,
        partition: &Partition,
        row: &Row,
    ) -> Result<(), Malformed> {
        let Some(Rules { of_key, reason }) = self.0.get(field) else { return Ok(()) };
        if of_key.required.row && row.is_empty() {
            return missing(MalformedReason::RowRequired, "the key wants the row to be stated");
        }
        if of_key.required.partition && partition.as_str().is_empty() {
            let what = "the key wants the partition to be stated";
            return missing(MalformedReason::PartitionRequired, what);
        }
        reason.clone().map_or(Ok(()), Err)
    }
}

fn missing(reason: MalformedReason, what: &'static str) -> Result<(), Malformed> {
    Err(Malformed::new(reason, what))
}

/// Refuses a reason that a key does not take.
fn against(of_key: &CallRules, reason: &AccessReason) -> Result<(), Malformed> {
    if of_key.required.purpose && reason.purpose.as_str().is_empty() {
        let what = "the key wants a purpose: state it as reason.purpose";
        return missing(MalformedReason::PurposeRequired, what);
    }
    of_key.purposes.check(&reason.purpose)?;
    of_key.tickets.check(&reason.ticket)?;
    if of_key.required.end_user && reason.end_user.is_none() {
        let what = "the key wants an end user: show its token as reason.end_user_assertion";
        return missing(MalformedReason::EndUserRequired, what);
    }
    Ok(())
}
