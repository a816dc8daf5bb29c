//! The record of a redaction.

use fieldseal_model::{AccessReason, Timestamp};
use fieldseal_policy::Permit;
use prost::Message as _;

use super::{SystemEvent, Verdict, write_caller, write_verdict};
use crate::record::{Kind, Outcome, Redaction};
use crate::wire;

impl SystemEvent {
    /// A caller with this permit has details of records erased. It names nobody: only records and the
    /// numbers of their items.
    pub(crate) fn details_redacted(
        at: Timestamp,
        permit: &Permit,
        reason: &AccessReason,
        redactions: &[Redaction],
    ) -> Self {
        let mut event = Self::of(Kind::DetailsRedacted, Outcome::Ok, at);
        let public = &mut event.public;
        write_caller(public, permit.principal());
        wire::number(public, 4, permit.action().code().into());
        wire::bytes(public, 6, reason.purpose.as_str().as_bytes());
        write_verdict(public, Verdict::Permit(permit), None, None, None);
        for redaction in redactions {
            wire::message(public, 45, redaction.encoded_len());
            public.extend_from_slice(&redaction.encode_to_vec());
        }
        event.ticket = reason.ticket.as_str().to_owned();
        event
    }
}
