//! What the keys of a call ask of it: policy has said yes before they are looked at.

use fieldseal_keys::{CallRules, Keys};
use fieldseal_model::{AccessReason, Field, Malformed, MalformedReason, Partition, Row};

/// The rules of each field's key, read once a call.
pub(crate) struct FieldRules(Vec<CallRules>);

impl FieldRules {
    pub(crate) fn new(keys: &Keys, fields: &[Field]) -> Self {
        let mut rules: Vec<CallRules> = Vec::with_capacity(fields.len());
        for (at, field) in fields.iter().enumerate() {
            // The columns of a call mostly have the same key.
            let before = at.checked_sub(1).and_then(|before| fields.get(before));
            let same = before.is_some_and(|before| before.key == field.key);
            let known = rules.last().copied().filter(|_| same);
            rules.push(known.unwrap_or_else(|| keys.call_rules(&field.key)));
        }
        Self(rules)
    }

    /// Whether calls of this field are recorded even if they seal.
    pub(crate) fn logs_encrypts(&self, field: usize) -> bool {
        self.0.get(field).is_some_and(|rules| rules.log_encrypts)
    }

    /// Whether any field of the call is recorded even if it seals.
    pub(crate) fn any_logs_encrypts(&self) -> bool {
        self.0.iter().any(|rules| rules.log_encrypts)
    }

    /// Refuses an item that does not state what its key wants.
    ///
    /// # Errors
    /// `ROW_REQUIRED`, `PARTITION_REQUIRED`, and with a reason to look at `PURPOSE_REQUIRED` and
    /// `END_USER_REQUIRED`.
    pub(crate) fn check(
        &self,
        field: usize,
        partition: &Partition,
        row: &Row,
        reason: Option<&AccessReason>,
    ) -> Result<(), Malformed> {
        let Some(CallRules { required, .. }) = self.0.get(field) else { return Ok(()) };
        let missing = |reason, what: &'static str| Err(Malformed::new(reason, what));
        if required.row && row.is_empty() {
            return missing(MalformedReason::RowRequired, "the key wants the row to be stated");
        }
        if required.partition && partition.as_str().is_empty() {
            let what = "the key wants the partition to be stated";
            return missing(MalformedReason::PartitionRequired, what);
        }
        let Some(reason) = reason else { return Ok(()) };
        if required.purpose && reason.purpose.as_str().is_empty() {
            let what = "the key wants a purpose: state it as reason.purpose";
            return missing(MalformedReason::PurposeRequired, what);
        }
        if required.end_user && reason.end_user.is_none() {
            let what = "the key wants an end user: show its token as reason.end_user_assertion";
            return missing(MalformedReason::EndUserRequired, what);
        }
        Ok(())
    }
}
