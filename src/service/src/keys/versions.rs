//! The changes of a key version's state. Their requests have the same fields, and so do their
//! answers.

use fieldseal_api::v1;
use fieldseal_engine::Caller;
use fieldseal_keys::{KeyChange, StateChange};
use fieldseal_model::{KeyVersion, RequestId};
use tonic::Status;

use super::KeyHandler;
use crate::encryption::wire_receipt;
use crate::errors::status;
use crate::parse;
use crate::wire_key::wire_version;

/// Handles one of the four: `$what` may look at the request as `$wire`.
macro_rules! change_version {
    ($handler:ident, $request:ident, $wire:ident, $what:expr, $response:ident) => {{
        let caller = caller(&$request)?;
        let $wire = $request.into_inner();
        let what = $what;
        let asked = versions::Asked {
            name: $wire.name,
            etag: $wire.etag,
            request_id: $wire.request_id,
            validate_only: $wire.validate_only,
            reason: $wire.reason,
        };
        let versions::Answer { key_version, etag, receipt } =
            $handler.change_version(&caller, asked, what).await?;
        Ok(Response::new(v1::$response { key_version, etag, receipt }))
    }};
}

/// What the four changes of a version's state are asked with.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) etag: String,
    pub(super) request_id: String,
    pub(super) validate_only: bool,
    pub(super) reason: Option<v1::AccessReason>,
}

/// What they are answered with.
pub(super) struct Answer {
    pub(super) key_version: Option<v1::KeyVersion>,
    pub(super) etag: String,
    pub(super) receipt: Option<v1::AuditReceipt>,
}

impl KeyHandler {
    pub(super) async fn change_version(
        &self,
        caller: &Caller,
        asked: Asked,
        what: StateChange,
    ) -> Result<Answer, Status> {
        let parsed = KeyVersion::parse_resource(&asked.name).and_then(|version| {
            let change = KeyChange {
                key: version.key,
                etag: asked.etag,
                request_id: RequestId::parse(&asked.request_id)?,
                validate_only: asked.validate_only,
                reason: parse::reason(asked.reason.as_ref())?,
            };
            Ok((change, version.number))
        });
        let (change, number) = parsed.map_err(|what| status(&what.into()))?;
        let changed = self.engine.change_key_version(caller, change, number, what).await;
        let changed = changed.map_err(|refusal| status(&refusal))?;
        Ok(Answer {
            key_version: Some(wire_version(&changed.name.key.resource(), &changed.version)),
            etag: changed.etag,
            receipt: changed.receipt.as_ref().map(wire_receipt),
        })
    }
}
