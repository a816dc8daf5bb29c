//! Rewraps and the rotation's status.

use fieldseal_api::v1;
use fieldseal_keys::{Day, KeyChange, RewrapJob, RewrapState, VersionStatus};
use fieldseal_model::{KeyName, Malformed, MalformedReason, RequestId};
use tonic::{Request, Response, Status};

use super::KeyHandler;
use crate::caller::caller;
use crate::encryption::wire_receipt;
use crate::errors::status;
use crate::parse;
use crate::wire_key::{wire_state, wire_time};

impl KeyHandler {
    pub(super) async fn start_rewrap(
        &self,
        request: Request<v1::RewrapDataKeysRequest>,
    ) -> Result<Response<v1::RewrapDataKeysResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let asked = KeyName::parse_resource(&wire.name).and_then(|key| {
            let change = KeyChange {
                key,
                etag: wire.etag,
                request_id: RequestId::parse(&wire.request_id)?,
                validate_only: wire.validate_only,
                reason: parse::reason(wire.reason.as_ref())?,
            };
            Ok((change, rate(wire.max_per_second)?))
        });
        let (change, rate) = asked.map_err(|what| status(&what.into()))?;
        let started = self.engine.start_rewrap(&caller, change, rate).await;
        let started = started.map_err(|r| status(&r))?;
        Ok(Response::new(v1::RewrapDataKeysResponse {
            job: Some(wire_job(&started.job)),
            receipt: started.receipt.as_ref().map(wire_receipt),
        }))
    }

    pub(super) async fn rewrap_job(
        &self,
        request: Request<v1::GetRewrapJobRequest>,
    ) -> Result<Response<v1::GetRewrapJobResponse>, Status> {
        let caller = caller(&request)?;
        let key = job_key(&request.get_ref().name).map_err(|what| status(&what.into()))?;
        let job = self.engine.rewrap_job(&caller, &key).await.map_err(|r| status(&r))?;
        Ok(Response::new(v1::GetRewrapJobResponse { job: Some(wire_job(&job)) }))
    }

    pub(super) async fn cancel_rewrap(
        &self,
        request: Request<v1::CancelRewrapJobRequest>,
    ) -> Result<Response<v1::CancelRewrapJobResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let change = job_key(&wire.name).and_then(|key| {
            Ok(KeyChange {
                key,
                etag: wire.etag,
                request_id: RequestId::parse(&wire.request_id)?,
                validate_only: wire.validate_only,
                reason: parse::reason(wire.reason.as_ref())?,
            })
        });
        let change = change.map_err(|what| status(&what.into()))?;
        let cancelled = self.engine.cancel_rewrap(&caller, change).await;
        let cancelled = cancelled.map_err(|r| status(&r))?;
        Ok(Response::new(v1::CancelRewrapJobResponse {
            job: Some(wire_job(&cancelled.job)),
            receipt: cancelled.receipt.as_ref().map(wire_receipt),
        }))
    }

    pub(super) async fn rotation_status(
        &self,
        request: Request<v1::GetRotationStatusRequest>,
    ) -> Result<Response<v1::GetRotationStatusResponse>, Status> {
        let caller = caller(&request)?;
        let key = KeyName::parse_resource(&request.get_ref().name);
        let key = key.map_err(|what| status(&what.into()))?;
        let found = self.engine.rotation_status(&caller, &key).await.map_err(|r| status(&r))?;
        let name = found.key.resource();
        Ok(Response::new(v1::GetRotationStatusResponse {
            primary_version: format!("{name}/versions/{}", found.primary),
            versions: found.versions.iter().map(|version| wire_use(&name, version)).collect(),
            summary: found.summary(),
            name,
        }))
    }
}

/// The key in `keys/{key}/rewrap`.
fn job_key(name: &str) -> Result<KeyName, Malformed> {
    let key = name.strip_suffix("/rewrap").ok_or_else(|| {
        let what = "a rewrap is named keys/{key}/rewrap";
        Malformed::new(MalformedReason::ResourceNameInvalid, what)
    })?;
    KeyName::parse_resource(key)
}

fn rate(per_second: i32) -> Result<u32, Malformed> {
    u32::try_from(per_second).map_err(|_| {
        let what = "max_per_second must not be negative; 0 is no limit";
        Malformed::new(MalformedReason::RateInvalid, what)
    })
}

fn wire_job(job: &RewrapJob) -> v1::RewrapJob {
    let key = job.key.resource();
    let left = job.left.iter().map(|left| v1::RewrapLeftBehind {
        version: format!("{key}/versions/{}", left.version),
        state: wire_state(left.state).into(),
        data_keys: signed(left.data_keys),
    });
    let state = match job.state {
        RewrapState::NotStarted => v1::RewrapJobState::NotStarted,
        RewrapState::Running => v1::RewrapJobState::Running,
        RewrapState::Done => v1::RewrapJobState::Done,
        RewrapState::Cancelled => v1::RewrapJobState::Cancelled,
        RewrapState::Failed => v1::RewrapJobState::Failed,
    };
    v1::RewrapJob {
        name: format!("{key}/rewrap"),
        state: state.into(),
        target_version: format!("{key}/versions/{}", job.target),
        moved_data_keys: signed(job.moved),
        remaining_data_keys: signed(job.remaining),
        left_behind: left.collect(),
        start_time: Some(wire_time(job.started_at)),
        end_time: job.ended_at.map(wire_time),
        max_per_second: i32::try_from(job.max_per_second).unwrap_or(i32::MAX),
        data_keys_per_second: signed(job.per_second),
        failure: job.failure.clone(),
    }
}

fn wire_use(key: &str, version: &VersionStatus) -> v1::KeyVersionUse {
    let date = |day: Option<Day>| day.map(|day| day.to_string()).unwrap_or_default();
    v1::KeyVersionUse {
        name: format!("{key}/versions/{}", version.number),
        state: wire_state(version.state).into(),
        create_time: Some(wire_time(version.created_at)),
        data_keys: signed(version.totals.data_keys),
        partitions: signed(version.totals.partitions),
        reserved_seals: signed(version.totals.reserved_seals),
        last_seal_date: date(version.last_sealed),
        last_open_date: date(version.last_opened),
        safe_to_destroy: version.verdict.is_safe(),
        verdict: version.verdict.to_string(),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
