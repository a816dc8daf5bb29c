//! The record of a redaction.

use fieldseal_model::Timestamp;
use prost::Message as _;

use super::{ChangedBy, SystemEvent};
use crate::record::{Kind, Outcome, Redaction};
use crate::wire;

impl SystemEvent {
    /// Details of records are erased. It names nobody: only records and the
    /// numbers of their items.
    pub(crate) fn details_redacted(
        at: Timestamp,
        by: ChangedBy<'_>,
        redactions: &[Redaction],
    ) -> Self {
        let mut event = Self::of(Kind::DetailsRedacted, Outcome::Ok, at);
        event.ticket = by.write(&mut event.public, None);
        let public = &mut event.public;
        for redaction in redactions {
            wire::message(public, 45, redaction.encoded_len());
            public.extend_from_slice(&redaction.encode_to_vec());
        }
        event
    }
}
