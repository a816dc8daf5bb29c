//! `KeyService`.

mod partitions;
mod rewrap;

use fieldseal_api::v1;
use fieldseal_api::v1::key_service_server::KeyService;
use fieldseal_engine::Engine;
use fieldseal_keys::{KeyChange, KeyView};
use fieldseal_model::{KeyName, KeyVersionState, Malformed, MalformedReason, RequestId, Timestamp};
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::caller::caller;
use crate::encryption::wire_receipt;
use crate::errors::status;
use crate::{WireLimits, parse};

/// Default and greatest number of keys on a page.
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// Handles `KeyService`.
#[derive(Clone)]
pub struct KeyHandler {
    engine: Engine,
    limits: WireLimits,
}

impl KeyHandler {
    /// Handles calls with this engine.
    #[must_use]
    pub fn new(engine: Engine, limits: WireLimits) -> Self {
        Self { engine, limits }
    }
}

#[tonic::async_trait]
impl KeyService for KeyHandler {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let change = KeyName::parse(&wire.key_id).and_then(|key| {
            Ok(KeyChange {
                key,
                etag: String::new(),
                request_id: RequestId::parse(&wire.request_id)?,
                validate_only: wire.validate_only,
                reason: parse::reason(wire.reason.as_ref())?,
            })
        });
        let change = change.map_err(|what| status(&what.into()))?;
        let changed = self.engine.create_key(&caller, change).await.map_err(|r| status(&r))?;
        Ok(Response::new(v1::CreateKeyResponse {
            key: Some(wire_key(&changed.key)),
            receipt: changed.receipt.as_ref().map(wire_receipt),
        }))
    }

    async fn get_key(
        &self,
        request: Request<v1::GetKeyRequest>,
    ) -> Result<Response<v1::GetKeyResponse>, Status> {
        let caller = caller(&request)?;
        let name = KeyName::parse_resource(&request.get_ref().name);
        let name = name.map_err(|what| status(&what.into()))?;
        let key = self.engine.key(&caller, &name).await.map_err(|r| status(&r))?;
        Ok(Response::new(v1::GetKeyResponse { key: Some(wire_key(&key)) }))
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let size = page_size(wire.page_size).map_err(|what| status(&what.into()))?;
        let keys = self.engine.keys(&caller).await.map_err(|r| status(&r))?;
        // The page token is the last name of the page before.
        let after = keys.iter().filter(|k| k.name.as_str() > wire.page_token.as_str());
        let mut after = after.peekable();
        let (mut page, mut bytes) = (Vec::new(), 0);
        while let Some(key) = after.peek().filter(|_| page.len() < size) {
            let shown = wire_key(key);
            // A key may have thousands of versions; a page has one key at least.
            bytes += shown.encoded_len();
            if bytes > self.limits.message_bytes / 2 && !page.is_empty() {
                break;
            }
            page.push(shown);
            after.next();
        }
        let last = page.last().filter(|_| after.peek().is_some());
        let last = last.and_then(|key| key.name.strip_prefix("keys/")).unwrap_or_default();
        Ok(Response::new(v1::ListKeysResponse {
            next_page_token: last.to_owned(),
            keys: page,
            total_size: i32::try_from(keys.len()).unwrap_or(i32::MAX),
        }))
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let change = KeyName::parse_resource(&wire.name).and_then(|key| {
            Ok(KeyChange {
                key,
                etag: wire.etag,
                request_id: RequestId::parse(&wire.request_id)?,
                validate_only: wire.validate_only,
                reason: parse::reason(wire.reason.as_ref())?,
            })
        });
        let change = change.map_err(|what| status(&what.into()))?;
        let changed = self.engine.rotate_key(&caller, change).await.map_err(|r| status(&r))?;
        let version = |n: fieldseal_model::VersionNumber| {
            format!("{}/versions/{n}", changed.key.name.resource())
        };
        Ok(Response::new(v1::RotateKeyResponse {
            primary_version: version(changed.primary),
            previous_primary_version: changed.previous.map(version).unwrap_or_default(),
            etag: changed.etag,
            receipt: changed.receipt.as_ref().map(wire_receipt),
        }))
    }

    async fn shred_partition(
        &self,
        request: Request<v1::ShredPartitionRequest>,
    ) -> Result<Response<v1::ShredPartitionResponse>, Status> {
        self.shred(request).await
    }

    async fn restore_partition(
        &self,
        request: Request<v1::RestorePartitionRequest>,
    ) -> Result<Response<v1::RestorePartitionResponse>, Status> {
        self.restore(request).await
    }

    async fn reopen_partition(
        &self,
        request: Request<v1::ReopenPartitionRequest>,
    ) -> Result<Response<v1::ReopenPartitionResponse>, Status> {
        self.reopen(request).await
    }

    async fn get_partition(
        &self,
        request: Request<v1::GetPartitionRequest>,
    ) -> Result<Response<v1::GetPartitionResponse>, Status> {
        self.partition(request).await
    }

    async fn rewrap_data_keys(
        &self,
        request: Request<v1::RewrapDataKeysRequest>,
    ) -> Result<Response<v1::RewrapDataKeysResponse>, Status> {
        self.start_rewrap(request).await
    }

    async fn get_rewrap_job(
        &self,
        request: Request<v1::GetRewrapJobRequest>,
    ) -> Result<Response<v1::GetRewrapJobResponse>, Status> {
        self.rewrap_job(request).await
    }

    async fn cancel_rewrap_job(
        &self,
        request: Request<v1::CancelRewrapJobRequest>,
    ) -> Result<Response<v1::CancelRewrapJobResponse>, Status> {
        self.cancel_rewrap(request).await
    }

    async fn get_rotation_status(
        &self,
        request: Request<v1::GetRotationStatusRequest>,
    ) -> Result<Response<v1::GetRotationStatusResponse>, Status> {
        self.rotation_status(request).await
    }
}

pub(crate) fn page_size(asked: i32) -> Result<usize, Malformed> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => {
            Err(Malformed::new(MalformedReason::PageInvalid, "page_size must not be negative"))
        }
    }
}

fn wire_key(key: &KeyView) -> v1::Key {
    let name = key.name.resource();
    let versions = key.versions.iter().map(|version| v1::KeyVersion {
        name: format!("{name}/versions/{}", version.number),
        state: wire_state(version.state).into(),
        create_time: Some(wire_time(version.created_at)),
    });
    v1::Key {
        primary_version: format!("{name}/versions/{}", key.primary),
        versions: versions.collect(),
        create_time: Some(wire_time(key.created_at)),
        etag: key.etag.clone(),
        name,
    }
}

fn wire_state(state: KeyVersionState) -> v1::KeyVersionState {
    match state {
        KeyVersionState::Enabled => v1::KeyVersionState::Enabled,
        KeyVersionState::Disabled => v1::KeyVersionState::Disabled,
        KeyVersionState::DestroyScheduled => v1::KeyVersionState::DestroyScheduled,
        KeyVersionState::Destroyed => v1::KeyVersionState::Destroyed,
    }
}

pub(crate) fn wire_time(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.unix_nanos();
    prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        // The remainder is below 10^9 and fits.
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}
