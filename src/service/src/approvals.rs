//! The calls of `SystemService` about changes that wait for a second principal.

use fieldseal_api::v1;
use fieldseal_engine::Engine;
use fieldseal_keys::{Approval, ApprovalState, Decided, LogSubject};
use fieldseal_model::{Action, KeyName, Malformed, MalformedReason, hex};
use tonic::{Request, Response, Status};

use crate::caller::caller;
use crate::encryption::wire_receipt;
use crate::errors::status;
use crate::keys::page_size;
use crate::parse;
use crate::wire_key::wire_time;

pub(crate) async fn list(
    engine: &Engine,
    request: Request<v1::ListApprovalsRequest>,
) -> Result<Response<v1::ListApprovalsResponse>, Status> {
    let caller = caller(&request)?;
    let wire = request.into_inner();
    let size = page_size(wire.page_size).map_err(|what| status(&what.into()))?;
    let one = match wire.name.as_str() {
        "" => None,
        name => Some(id(name).map_err(|what| status(&what.into()))?),
    };
    let all = engine.approvals(&caller, one).await.map_err(|r| status(&r))?;
    // The page token is the id of the last one of the page before.
    let from = match wire.page_token.as_str() {
        "" => 0,
        token => {
            let found = all.iter().position(|approval| approval.id == token);
            let found = found.ok_or_else(|| {
                let what = "the page token is none of this list; begin anew";
                status(&Malformed::new(MalformedReason::PageInvalid, what).into())
            })?;
            found + 1
        }
    };
    let page = all.get(from..).unwrap_or_default();
    let more = page.len() > size;
    let page = page.get(..size).unwrap_or(page);
    let next = page.last().filter(|_| more).map(|last| last.id.clone());
    Ok(Response::new(v1::ListApprovalsResponse {
        approvals: page.iter().map(wire_approval).collect(),
        next_page_token: next.unwrap_or_default(),
    }))
}

pub(crate) async fn approve(
    engine: &Engine,
    request: Request<v1::ApproveChangeRequest>,
) -> Result<Response<v1::ApproveChangeResponse>, Status> {
    let caller = caller(&request)?;
    let wire = request.into_inner();
    let asked = id(&wire.name).and_then(|id| Ok((id, parse::reason(wire.reason.as_ref())?)));
    let (id, reason) = asked.map_err(|what| status(&what.into()))?;
    let decided = engine.approve_change(&caller, id, &wire.etag, &reason).await;
    let Decided { approval, receipt } = decided.map_err(|r| status(&r))?;
    Ok(Response::new(v1::ApproveChangeResponse {
        approval: Some(wire_approval(&approval)),
        receipt: Some(wire_receipt(&receipt)),
    }))
}

pub(crate) async fn reject(
    engine: &Engine,
    request: Request<v1::RejectChangeRequest>,
) -> Result<Response<v1::RejectChangeResponse>, Status> {
    let caller = caller(&request)?;
    let wire = request.into_inner();
    let asked = id(&wire.name).and_then(|id| Ok((id, parse::reason(wire.reason.as_ref())?)));
    let (id, reason) = asked.map_err(|what| status(&what.into()))?;
    let decided = engine.reject_change(&caller, id, &reason).await;
    let Decided { approval, receipt } = decided.map_err(|r| status(&r))?;
    Ok(Response::new(v1::RejectChangeResponse {
        approval: Some(wire_approval(&approval)),
        receipt: Some(wire_receipt(&receipt)),
    }))
}

/// The id in `approvals/{id}`.
fn id(name: &str) -> Result<&str, Malformed> {
    let id = name.strip_prefix("approvals/").filter(|id| {
        id.len() == 16 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    id.ok_or_else(|| {
        let what = "a change that waits is named approvals/{id}, 16 hexadecimal digits";
        Malformed::new(MalformedReason::ResourceNameInvalid, what)
    })
}

fn wire_approval(approval: &Approval) -> v1::Approval {
    let state = match approval.state {
        ApprovalState::Pending => v1::ApprovalState::Pending,
        ApprovalState::Approved => v1::ApprovalState::Approved,
        ApprovalState::Rejected => v1::ApprovalState::Rejected,
        ApprovalState::Expired => v1::ApprovalState::Expired,
    };
    let key = approval.key.as_ref().map(KeyName::resource).unwrap_or_default();
    let version = approval.version.map(|number| format!("{key}/versions/{number}"));
    let log = approval.log.as_ref();
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let of_log = |subject: fn(&LogSubject) -> Option<&[u8; 16]>| {
        log.and_then(|log| subject(&log.subject))
            .map(|token| hex::encode(token))
            .unwrap_or_default()
    };
    let is_archiving = log.is_some_and(|log| log.subject == LogSubject::Segments);
    let principal = |who: &fieldseal_model::Principal| who.as_str().to_owned();
    v1::Approval {
        name: format!("approvals/{}", approval.id),
        etag: approval.etag.clone(),
        state: state.into(),
        action: Action::as_str(approval.action).to_owned(),
        key_version: version.unwrap_or_default(),
        key,
        data_keys_lost: approval.data_keys_lost,
        partition: approval.partition.as_ref().map_or("", |p| p.as_str()).to_owned(),
        partition_token: match approval.partition_token {
            Some(token) => hex::encode(&token),
            None => of_log(|subject| match subject {
                LogSubject::Partition(token) => Some(token),
                _ => None,
            }),
        },
        window: approval.window.and_then(|window| window.try_into().ok()),
        requester: principal(&approval.requester),
        purpose: approval.reason.purpose.as_str().to_owned(),
        ticket: approval.reason.ticket.as_str().to_owned(),
        create_time: Some(wire_time(approval.created_at)),
        expire_time: Some(wire_time(approval.expires_at)),
        decider: approval.decider.as_ref().map(principal).unwrap_or_default(),
        end_time: log.map(|log| wire_time(log.end)),
        event_count: log.map_or(0, |log| number(log.records)),
        item_count: log.filter(|_| !is_archiving).map_or(0, |log| number(log.parts)),
        segment_count: log.filter(|_| is_archiving).map_or(0, |log| number(log.parts)),
        row_token: of_log(|subject| match subject {
            LogSubject::Row(token) => Some(token),
            _ => None,
        }),
        end_user_token: of_log(|subject| match subject {
            LogSubject::EndUser(token) => Some(token),
            _ => None,
        }),
    }
}
