//! `KeyService`.

mod partitions;
mod rewrap;
#[macro_use]
mod versions;

use fieldseal_api::v1;
use fieldseal_api::v1::key_service_server::KeyService;
use fieldseal_engine::Engine;
use fieldseal_keys::{KeyChange, NewKey, SettingsChange, StateChange};
use fieldseal_model::{KeyName, Malformed, MalformedReason, RequestId};
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::caller::caller;
use crate::encryption::wire_receipt;
use crate::errors::status;
use crate::wire_key::wire_key;
use crate::{WireLimits, key_settings, parse};

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

fn settings_change(wire: v1::UpdateKeyRequest) -> Result<SettingsChange, Malformed> {
    let key = wire.key.unwrap_or_default();
    let which = key_settings::of_mask(wire.update_mask.as_ref())?;
    let change = KeyChange {
        key: KeyName::parse_resource(&key.name)?,
        etag: key.etag.clone(),
        request_id: RequestId::parse(&wire.request_id)?,
        validate_only: wire.validate_only,
        reason: parse::reason(wire.reason.as_ref())?,
    };
    Ok(SettingsChange { change, settings: key_settings::of_update(key, &which)?, which })
}

#[tonic::async_trait]
impl KeyService for KeyHandler {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let new = KeyName::parse(&wire.key_id).and_then(|key| {
            let change = KeyChange {
                key,
                etag: String::new(),
                request_id: RequestId::parse(&wire.request_id)?,
                validate_only: wire.validate_only,
                reason: parse::reason(wire.reason.as_ref())?,
            };
            Ok(NewKey { change, settings: key_settings::of_new(wire.key.unwrap_or_default())? })
        });
        let new = new.map_err(|what| status(&what.into()))?;
        let changed = self.engine.create_key(&caller, new).await.map_err(|r| status(&r))?;
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

    async fn update_key(
        &self,
        request: Request<v1::UpdateKeyRequest>,
    ) -> Result<Response<v1::UpdateKeyResponse>, Status> {
        let caller = caller(&request)?;
        let asked = settings_change(request.into_inner()).map_err(|what| status(&what.into()))?;
        let changed = self.engine.update_key(&caller, asked).await.map_err(|r| status(&r))?;
        Ok(Response::new(v1::UpdateKeyResponse {
            key: Some(wire_key(&changed.key)),
            receipt: changed.receipt.as_ref().map(wire_receipt),
        }))
    }

    async fn enable_key_version(
        &self,
        request: Request<v1::EnableKeyVersionRequest>,
    ) -> Result<Response<v1::EnableKeyVersionResponse>, Status> {
        change_version!(self, request, wire, StateChange::Enable, EnableKeyVersionResponse)
    }

    async fn disable_key_version(
        &self,
        request: Request<v1::DisableKeyVersionRequest>,
    ) -> Result<Response<v1::DisableKeyVersionResponse>, Status> {
        change_version!(self, request, wire, StateChange::Disable, DisableKeyVersionResponse)
    }

    async fn schedule_destroy_key_version(
        &self,
        request: Request<v1::ScheduleDestroyKeyVersionRequest>,
    ) -> Result<Response<v1::ScheduleDestroyKeyVersionResponse>, Status> {
        change_version!(
            self,
            request,
            wire,
            StateChange::ScheduleDestroy { data_keys_lost: wire.data_keys_lost },
            ScheduleDestroyKeyVersionResponse
        )
    }

    async fn restore_key_version(
        &self,
        request: Request<v1::RestoreKeyVersionRequest>,
    ) -> Result<Response<v1::RestoreKeyVersionResponse>, Status> {
        change_version!(self, request, wire, StateChange::Restore, RestoreKeyVersionResponse)
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
