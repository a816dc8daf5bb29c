//! `AuditService`.

mod archive;
mod proof;
mod redact;
mod summary;
mod tail;

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_api::v1::audit_service_server::AuditService;
use fieldseal_audit::{Checkpoint, Event, EventItem, Outcome, PageLimit, StartedCertificate};
use fieldseal_engine::{AuditPage, AuditQuery, Engine};
use fieldseal_model::{
    Action, CertificateId, Column, KeyName, KeyVersion, Malformed, MalformedReason, Partition,
    Principal, Row, Table, Timestamp, hex,
};
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::caller::{Leaving, caller};
use crate::errors::status;
use crate::keys::page_size;
use crate::wire_key::wire_time;
use crate::{WireLimits, parse};

/// Most entries in one list of a query.
const MAX_LIST: usize = 100;

/// Handles `AuditService`.
#[derive(Clone)]
pub struct AuditHandler {
    engine: Engine,
    limits: WireLimits,
}

impl AuditHandler {
    /// Handles calls with this engine.
    #[must_use]
    pub fn new(engine: Engine, limits: WireLimits) -> Self {
        Self { engine, limits }
    }
}

#[tonic::async_trait]
impl AuditService for AuditHandler {
    async fn query_audit_events(
        &self,
        request: Request<v1::QueryAuditEventsRequest>,
    ) -> Result<Response<v1::QueryAuditEventsResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let parsed =
            query(wire.query.unwrap_or_default(), wire.parent, &wire.order_by).and_then(|query| {
                let reason = parse::reason(wire.reason.as_ref())?;
                Ok((query, page_size(wire.page_size)?, reason))
            });
        let (mut query, events, reason) = parsed.map_err(|what| status(&what.into()))?;
        query.omit_batch_items = !wire.include_items;
        query.matching_items_only = wire.matching_items_only;
        let limit = PageLimit { events, bytes: self.limits.message_bytes / 2 };
        let found = self.engine.query_audit(&caller, query, limit, wire.page_token, &reason).await;
        let AuditPage { page, checkpoint, log } = found.map_err(|r| status(&r))?;
        let events = page.events.into_iter().map(|event| wire_event(&log, event));
        let reply = v1::QueryAuditEventsResponse {
            audit_events: events.collect(),
            next_page_token: page.next.unwrap_or_default(),
            total_size: -1,
            checkpoints: checkpoint.as_ref().map(wire_checkpoint).into_iter().collect(),
            tree_size: wire_index(page.tree_size),
            log_first_index: wire_index(page.begins.index),
            log_start_time: page.begins.time.map(wire_time),
        };
        // A page has at least one event, and one batch may be longer than a message.
        if reply.encoded_len() > self.limits.message_bytes {
            return Err(too_large());
        }
        Ok(Response::new(reply))
    }

    type TailAuditEventsStream = tail::Stream;

    async fn tail_audit_events(
        &self,
        request: Request<v1::TailAuditEventsRequest>,
    ) -> Result<Response<Self::TailAuditEventsStream>, Status> {
        let (caller, leaving) = (caller(&request)?, Leaving::of(&request));
        let tail::Asked { query, start, reason } =
            tail::asked(request.into_inner()).map_err(|what| status(&what.into()))?;
        let limit = PageLimit { bytes: self.limits.message_bytes / 2, ..PageLimit::default() };
        let tail = self.engine.tail_audit(&caller, query, limit, start, &reason).await;
        let tail = tail.map_err(|refusal| status(&refusal))?;
        Ok(Response::new(tail::stream(tail, leaving, self.limits.message_bytes)))
    }

    async fn summarize_access(
        &self,
        request: Request<v1::SummarizeAccessRequest>,
    ) -> Result<Response<v1::SummarizeAccessResponse>, Status> {
        let caller = caller(&request)?;
        let (question, reason) =
            summary::question(request.into_inner()).map_err(|what| status(&what.into()))?;
        let found = self.engine.summarize_access(&caller, question, &reason).await;
        let reply = summary::reply(found.map_err(|r| status(&r))?);
        if reply.encoded_len() > self.limits.message_bytes {
            let what = "so many groups do not fit a message; ask for a smaller page";
            return Err(status(&Malformed::new(MalformedReason::ReplyTooLarge, what).into()));
        }
        Ok(Response::new(reply))
    }

    async fn redact_audit_events(
        &self,
        request: Request<v1::RedactAuditEventsRequest>,
    ) -> Result<Response<v1::RedactAuditEventsResponse>, Status> {
        let caller = caller(&request)?;
        let (redaction, reason) =
            redact::request(request.into_inner()).map_err(|what| status(&what.into()))?;
        let done = self.engine.redact_audit(&caller, redaction, &reason).await;
        Ok(Response::new(redact::reply(&done.map_err(|r| status(&r))?)))
    }

    async fn archive_audit_events(
        &self,
        request: Request<v1::ArchiveAuditEventsRequest>,
    ) -> Result<Response<v1::ArchiveAuditEventsResponse>, Status> {
        let caller = caller(&request)?;
        let (archiving, reason) =
            archive::request(request.into_inner()).map_err(|what| status(&what.into()))?;
        let done = self.engine.archive_audit(&caller, archiving, &reason).await;
        Ok(Response::new(archive::reply(&done.map_err(|r| status(&r))?)))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        let caller = caller(&request)?;
        let log = &request.get_ref().log;
        let found = self.engine.audit_checkpoint(&caller, log).await.map_err(|r| status(&r))?;
        Ok(Response::new(v1::GetCheckpointResponse { checkpoint: Some(wire_checkpoint(&found)) }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let proof::Asked { first, size, reason } =
            proof::inclusion(&wire).map_err(|what| status(&what.into()))?;
        let found = self.engine.inclusion_proof(&caller, wire.log, first, size, &reason).await;
        Ok(Response::new(proof::included(found.map_err(|r| status(&r))?)))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let proof::Asked { first, size, reason } =
            proof::consistency(&wire).map_err(|what| status(&what.into()))?;
        let found = self.engine.consistency_proof(&caller, wire.log, first, size, &reason).await;
        Ok(Response::new(proof::consistent(found.map_err(|r| status(&r))?)))
    }
}

fn query(wire: v1::AuditEventQuery, log: String, order_by: &str) -> Result<AuditQuery, Malformed> {
    let invalid = |what: &str| Malformed::new(MalformedReason::QueryInvalid, what.to_owned());
    let lists = [
        wire.principals.len(),
        wire.actions.len(),
        wire.keys.len(),
        wire.key_versions.len(),
        wire.outcomes.len(),
        wire.purposes.len(),
        wire.tickets.len(),
    ];
    if lists.iter().any(|len| *len > MAX_LIST) {
        return Err(invalid("a list of a query has at most 100 entries"));
    }
    let oldest_first = match order_by {
        "" | "event_time desc" => false,
        "event_time" => true,
        _ => return Err(invalid("order_by is `event_time` or `event_time desc`")),
    };
    if wire.row.is_some() && wire.table.is_empty() {
        return Err(invalid("row needs table: the row's token depends on it"));
    }
    let outcomes = wire.outcomes.iter().map(|code| {
        outcome(*code)
            .ok_or_else(|| invalid("outcomes are AUDIT_OUTCOME_OK, _DENIED, _FAILED and _PARTIAL"))
    });
    let time = |at: Option<prost_types::Timestamp>| at.map(|at| moment(&at)).transpose();
    let (start, end) = (time(wire.start_time)?, time(wire.end_time)?);
    if start.zip(end).is_some_and(|(start, end)| end < start) {
        return Err(invalid("the range of time ends before it begins"));
    }
    let versions = wire.key_versions.iter().map(|version| KeyVersion::parse_resource(version));
    Ok(AuditQuery {
        log,
        start,
        end,
        principals: wire
            .principals
            .iter()
            .map(|p| Principal::parse(p))
            .collect::<Result<_, _>>()?,
        actions: wire.actions.iter().map(|name| action(name)).collect::<Result<_, _>>()?,
        keys: wire.keys.iter().map(|k| KeyName::parse_resource(k)).collect::<Result<_, _>>()?,
        key_versions: versions.collect::<Result<_, _>>()?,
        table: named(&wire.table, Table::parse)?,
        column: named(&wire.column, Column::parse)?,
        partition: wire.partition.as_deref().map(Partition::parse).transpose()?,
        row: wire.row.map(Row::parse).transpose()?,
        outcomes: outcomes.collect::<Result<_, _>>()?,
        purposes: wire.purposes,
        tickets: wire.tickets,
        end_user: end_user(wire.end_user_issuer, wire.end_user_subject)?,
        certificate: named(&wire.certificate, certificate)?,
        administration_only: wire.administration_only,
        omit_housekeeping: wire.omit_housekeeping,
        omit_log_reads: wire.omit_log_reads,
        oldest_first,
        matching_items_only: false,
        omit_batch_items: false,
    })
}

fn action(name: &str) -> Result<Action, Malformed> {
    Action::from_name(name).ok_or_else(|| {
        let name: String = name.chars().take(64).collect();
        let what = format!("{name:?} is the name of no call; `Decrypt` is one");
        Malformed::new(MalformedReason::QueryInvalid, what)
    })
}

/// Issuer and subject; `None` if neither is stated.
fn end_user(issuer: String, subject: String) -> Result<Option<(String, String)>, Malformed> {
    match (issuer.is_empty(), subject.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some((issuer, subject))),
        _ => {
            let what = "an end user has both an issuer and a subject";
            Err(Malformed::new(MalformedReason::QueryInvalid, what))
        }
    }
}

fn certificate(text: &str) -> Result<CertificateId, Malformed> {
    CertificateId::parse(text).map_err(|what| Malformed::new(MalformedReason::QueryInvalid, what))
}

/// One event that is longer than a message.
fn too_large() -> Status {
    let what = "the next event does not fit a message; ask without include_items";
    status(&Malformed::new(MalformedReason::ReplyTooLarge, what).into())
}

fn named<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn moment(at: &prost_types::Timestamp) -> Result<Timestamp, Malformed> {
    let nanos = at.seconds.checked_mul(1_000_000_000);
    let nanos = nanos.and_then(|n| n.checked_add(at.nanos.into())).filter(|_| at.nanos >= 0);
    nanos.map(Timestamp::from_unix_nanos).ok_or_else(|| {
        Malformed::new(MalformedReason::QueryInvalid, "a time is out of range (1678 to 2262)")
    })
}

fn outcome(code: i32) -> Option<Outcome> {
    match v1::AuditOutcome::try_from(code).ok()? {
        v1::AuditOutcome::Ok => Some(Outcome::Ok),
        v1::AuditOutcome::Denied => Some(Outcome::Denied),
        v1::AuditOutcome::Failed => Some(Outcome::Failed),
        v1::AuditOutcome::Partial => Some(Outcome::Partial),
        v1::AuditOutcome::Unspecified => None,
    }
}

fn wire_outcome(outcome: Option<Outcome>) -> i32 {
    let wire = match outcome {
        Some(Outcome::Ok) => v1::AuditOutcome::Ok,
        Some(Outcome::Denied) => v1::AuditOutcome::Denied,
        Some(Outcome::Failed) => v1::AuditOutcome::Failed,
        Some(Outcome::Partial) => v1::AuditOutcome::Partial,
        _ => v1::AuditOutcome::Unspecified,
    };
    wire.into()
}

pub(crate) fn wire_event(log: &str, event: Event) -> v1::AuditEvent {
    let items = event.items.into_iter().map(wire_item);
    let settings = fieldseal_keys::settings_told(&event.settings, &event.note).into_iter();
    let settings = settings.map(|(name, value)| v1::AuditSetting { name, value });
    v1::AuditEvent {
        name: format!("logs/{log}/events/{}", event.index),
        event_time: Some(wire_time(event.time)),
        principal: event.principal,
        end_user_token: hex::encode(&event.end_user),
        action: event.action.map_or("", Action::as_str).to_owned(),
        outcome: wire_outcome(event.outcome),
        purpose: event.purpose,
        ticket: event.ticket,
        policy_rule: event.rule,
        item_count: i32::try_from(event.item_count).unwrap_or(i32::MAX),
        items: items.collect(),
        kind: event.kind.map_or("UNKNOWN", fieldseal_audit::Kind::as_str).to_owned(),
        leaf_hash: Bytes::copy_from_slice(&event.leaf_hash),
        key_settings: settings.collect(),
        note: event.note,
        policy_digest: hex::encode(&event.policy_digest),
        previous_policy_digest: hex::encode(&event.previous_policy_digest),
        data_keys: i64::try_from(event.data_keys).unwrap_or(i64::MAX),
        call_count: i64::try_from(event.calls).unwrap_or(i64::MAX),
        first_time: (event.calls > 1).then(|| wire_time(event.first)),
        redacted: event.redacted,
        certificate: hex::encode(&event.certificate),
        settings_digest: hex::encode(&event.started.settings_digest),
        settings: event.started.settings.into_iter().map(wire_setting).collect(),
        certificates: event.started.certificates.into_iter().map(wire_certificate).collect(),
    }
}

fn wire_setting((name, value): (String, String)) -> v1::ProcessSetting {
    v1::ProcessSetting { name, value }
}

fn wire_certificate(certificate: StartedCertificate) -> v1::ProcessCertificate {
    let seconds = certificate.not_after;
    v1::ProcessCertificate {
        usage: certificate.usage,
        fingerprint: hex::encode(&certificate.sha256),
        expire_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
    }
}

fn wire_item(item: EventItem) -> v1::AuditEventItem {
    let named = |suffix: String| match item.key.as_str() {
        "" => String::new(),
        key => format!("keys/{key}{suffix}"),
    };
    v1::AuditEventItem {
        key_version: match item.key_version {
            0 => String::new(),
            version => named(format!("/versions/{version}")),
        },
        key: named(String::new()),
        table: item.table,
        column: item.column,
        partition_token: hex::encode(&item.partition),
        row_token: hex::encode(&item.row),
        outcome: wire_outcome(item.outcome),
        error_reason: item.cause,
        policy_rule: item.rule,
        call_count: i64::try_from(item.calls).unwrap_or(i64::MAX),
        redacted: item.redacted,
    }
}

fn wire_index(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn wire_checkpoint(checkpoint: &Checkpoint) -> v1::AuditCheckpoint {
    wire_checkpoint_of(&checkpoint.log, checkpoint.tree_size, checkpoint.note.clone())
}

fn wire_checkpoint_of(log: &str, tree_size: u64, note: String) -> v1::AuditCheckpoint {
    v1::AuditCheckpoint {
        log: format!("logs/{log}"),
        tree_size: i64::try_from(tree_size).unwrap_or(i64::MAX),
        note,
    }
}
