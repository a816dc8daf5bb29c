//! The calls of `KeyService` about partitions.

use std::time::Duration;

use fieldseal_api::v1;
use fieldseal_engine::ShredReceipt;
use fieldseal_keys::{PartitionChange, PartitionState, PartitionView};
use fieldseal_model::{KeyName, Malformed, Partition, RequestId};
use tonic::{Request, Response, Status};

use super::KeyHandler;
use crate::caller::caller;
use crate::encryption::wire_receipt;
use crate::errors::status;
use crate::parse;
use crate::wire_key::wire_time;

impl KeyHandler {
    pub(super) async fn shred(
        &self,
        request: Request<v1::ShredPartitionRequest>,
    ) -> Result<Response<v1::ShredPartitionResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let change = PartitionChange {
            default_partition: wire.default_partition,
            window: wire.window.map(window),
            ..change(
                &wire.name,
                &wire.partition,
                &wire.request_id,
                wire.validate_only,
                wire.reason.as_ref(),
            )
            .map_err(|what| status(&what.into()))?
        };
        let changed = self.engine.shred_partition(&caller, change).await.map_err(|r| status(&r))?;
        Ok(Response::new(v1::ShredPartitionResponse {
            partition: Some(wire_partition(&changed.partition)),
            receipt: changed.receipt.as_ref().map(wire_receipt),
        }))
    }

    pub(super) async fn restore(
        &self,
        request: Request<v1::RestorePartitionRequest>,
    ) -> Result<Response<v1::RestorePartitionResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let (name, partition, id) = (&wire.name, &wire.partition, &wire.request_id);
        let change = change(name, partition, id, wire.validate_only, wire.reason.as_ref())
            .map_err(|what| status(&what.into()))?;
        let changed = self.engine.restore_partition(&caller, change).await;
        let changed = changed.map_err(|r| status(&r))?;
        Ok(Response::new(v1::RestorePartitionResponse {
            partition: Some(wire_partition(&changed.partition)),
            receipt: changed.receipt.as_ref().map(wire_receipt),
        }))
    }

    pub(super) async fn reopen(
        &self,
        request: Request<v1::ReopenPartitionRequest>,
    ) -> Result<Response<v1::ReopenPartitionResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let (name, partition, id) = (&wire.name, &wire.partition, &wire.request_id);
        let change = change(name, partition, id, wire.validate_only, wire.reason.as_ref())
            .map_err(|what| status(&what.into()))?;
        let changed = self.engine.reopen_partition(&caller, change).await;
        let changed = changed.map_err(|r| status(&r))?;
        Ok(Response::new(v1::ReopenPartitionResponse {
            partition: Some(wire_partition(&changed.partition)),
            receipt: changed.receipt.as_ref().map(wire_receipt),
        }))
    }

    pub(super) async fn partition(
        &self,
        request: Request<v1::GetPartitionRequest>,
    ) -> Result<Response<v1::GetPartitionResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let asked = KeyName::parse_resource(&wire.name)
            .and_then(|key| Ok((key, Partition::parse(&wire.partition)?)));
        let (key, partition) = asked.map_err(|what| status(&what.into()))?;
        let found = self.engine.partition(&caller, &key, &partition).await;
        let (view, receipt) = found.map_err(|r| status(&r))?;
        Ok(Response::new(v1::GetPartitionResponse {
            partition: Some(wire_partition(&view)),
            shred_receipt_state: receipt_state(&receipt).into(),
            shred_receipt: receipt.signed().unwrap_or_default(),
        }))
    }
}

fn change(
    name: &str,
    partition: &str,
    request_id: &str,
    validate_only: bool,
    reason: Option<&v1::AccessReason>,
) -> Result<PartitionChange, Malformed> {
    Ok(PartitionChange {
        key: KeyName::parse_resource(name)?,
        partition: Partition::parse(partition)?,
        default_partition: false,
        window: None,
        request_id: RequestId::parse(request_id)?,
        validate_only,
        reason: parse::reason(reason)?,
    })
}

/// A negative one is as far out of the limits as one can be, and they stand in the answer.
fn window(wire: prost_types::Duration) -> Duration {
    Duration::try_from(wire).unwrap_or(Duration::MAX)
}

fn receipt_state(receipt: &ShredReceipt) -> v1::ShredReceiptState {
    match receipt {
        ShredReceipt::NotErased => v1::ShredReceiptState::NotErased,
        ShredReceipt::StorePending => v1::ShredReceiptState::StorePending,
        ShredReceipt::CopyPending => v1::ShredReceiptState::CopyPending,
        ShredReceipt::NotInLog => v1::ShredReceiptState::NotInLog,
        ShredReceipt::Signed(_) => v1::ShredReceiptState::Signed,
    }
}

fn wire_partition(view: &PartitionView) -> v1::Partition {
    let state = match view.state {
        PartitionState::Open => v1::PartitionState::Open,
        PartitionState::Shredding => v1::PartitionState::Shredding,
        PartitionState::Erasing => v1::PartitionState::Erasing,
        PartitionState::Erased => v1::PartitionState::Erased,
    };
    v1::Partition {
        state: state.into(),
        data_keys: view.data_keys,
        shred_time: view.shredded_at.map(wire_time),
        due_time: view.due_at.map(wire_time),
        erase_time: view.erased.as_ref().map(|erased| wire_time(erased.at)),
        erased_data_keys: view.erased.as_ref().map_or(0, |erased| erased.data_keys),
    }
}
