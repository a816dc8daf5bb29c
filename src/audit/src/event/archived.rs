//! The record of segments that are archived.

use fieldseal_model::{AccessReason, Timestamp};
use fieldseal_policy::Permit;
use prost::Message as _;

use super::{SystemEvent, Verdict, write_caller, write_verdict};
use crate::record::{ArchivedSegment, Kind, Outcome};
use crate::wire;

impl SystemEvent {
    /// A caller with this permit has segments archived. Each stands whole in the archive by now.
    pub(crate) fn segments_archived(
        at: Timestamp,
        permit: &Permit,
        reason: &AccessReason,
        segments: &[ArchivedSegment],
    ) -> Self {
        let mut event = Self::of(Kind::SegmentsArchived, Outcome::Ok, at);
        let public = &mut event.public;
        write_caller(public, permit.principal());
        wire::number(public, 4, permit.action().code().into());
        wire::bytes(public, 6, reason.purpose.as_str().as_bytes());
        write_verdict(public, Verdict::Permit(permit), None, None, None);
        for segment in segments {
            wire::message(public, 46, segment.encoded_len());
            public.extend_from_slice(&segment.encode_to_vec());
        }
        event.ticket = reason.ticket.as_str().to_owned();
        event
    }
}
