//! The record of segments that are archived.

use fieldseal_model::Timestamp;
use prost::Message as _;

use super::{ChangedBy, SystemEvent};
use crate::record::{ArchivedSegment, Kind, Outcome};
use crate::wire;

impl SystemEvent {
    /// Segments are archived. Each stands whole in the archive by now.
    pub(crate) fn segments_archived(
        at: Timestamp,
        by: ChangedBy<'_>,
        segments: &[ArchivedSegment],
    ) -> Self {
        let mut event = Self::of(Kind::SegmentsArchived, Outcome::Ok, at);
        event.ticket = by.write(&mut event.public, None);
        let public = &mut event.public;
        for segment in segments {
            wire::message(public, 46, segment.encoded_len());
            public.extend_from_slice(&segment.encode_to_vec());
        }
        event
    }
}
