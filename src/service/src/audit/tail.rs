//! `TailAuditEvents`: what is asked, and the stream that answers.

use std::pin::Pin;

use fieldseal_api::v1;
use fieldseal_engine::{AuditQuery, AuditTail};
use fieldseal_model::{AccessReason, Malformed, MalformedReason};
use futures_util::stream;
use prost::Message as _;
use tonic::Status;

use super::{query, too_large, wire_event, wire_index};
use crate::caller::Leaving;
use crate::errors::status;
use crate::parse;
use crate::wire_key::wire_time;

type Reply = Result<v1::TailAuditEventsResponse, Status>;

/// The answer: a message for each look that found something.
pub(super) type Stream = Pin<Box<dyn futures_util::Stream<Item = Reply> + Send>>;

/// The request, parsed.
pub(super) struct Asked {
    pub(super) query: AuditQuery,
    /// The first record to look at.
    pub(super) start: Option<u64>,
    pub(super) reason: AccessReason,
}

pub(super) fn asked(wire: v1::TailAuditEventsRequest) -> Result<Asked, Malformed> {
    let invalid = |what: &'static str| Malformed::new(MalformedReason::QueryInvalid, what);
    let start = wire.start_index.map(u64::try_from).transpose();
    let start = start.map_err(|_| invalid("start_index is the number of a record"))?;
    let mut query = query(wire.query.unwrap_or_default(), wire.parent, "event_time")?;
    if query.end.is_some() {
        return Err(invalid("end_time has no meaning here: a tail goes on until it is ended"));
    }
    query.omit_batch_items = !wire.include_items;
    query.matching_items_only = wire.matching_items_only;
    Ok(Asked { query, start, reason: parse::reason(wire.reason.as_ref())? })
}

/// Reads on only when the one before was taken, so that a slow reader holds one message.
pub(super) fn stream(tail: AuditTail, leaving: Leaving, message_bytes: usize) -> Stream {
    Box::pin(stream::unfold(Some(tail), move |tail| {
        let leaving = leaving.clone();
        async move {
            let mut tail = tail?;
            let found = tokio::select! {
                biased;
                () = leaving.begun() => None,
                found = tail.next() => Some(found),
            };
            match found {
                None => Some((Ok(message(&tail, Vec::new())), None)),
                Some(Err(refusal)) => Some((Err(status(&refusal)), None)),
                Some(Ok(events)) => {
                    let events = events.into_iter().map(|event| wire_event(tail.log(), event));
                    let message = message(&tail, events.collect());
                    if message.encoded_len() > message_bytes {
                        return Some((Err(too_large()), None));
                    }
                    Some((Ok(message), Some(tail)))
                }
            }
        }
    }))
}

fn message(tail: &AuditTail, audit_events: Vec<v1::AuditEvent>) -> v1::TailAuditEventsResponse {
    let begins = tail.begins();
    v1::TailAuditEventsResponse {
        audit_events,
        next_index: wire_index(tail.position()),
        log_first_index: wire_index(begins.index),
        log_start_time: begins.time.map(wire_time),
    }
}
