//! `key shred`, `key unshred`, `key reopen` and `key partition`. No name of a partition is shown: it
//! may be a person's.

use fieldseal_api::v1;
use serde_json::{Value, json};

use super::event;
use crate::arguments::{
    PartitionArguments, PartitionChangeArguments, ShowPartitionArguments, ShredArguments,
};
use crate::confirm;
use crate::connection::{self, failure};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, counted};
use crate::times;
use crate::values;

pub(super) async fn shred(arguments: ShredArguments, output: &Output) -> Result<(), Failure> {
    let ShredArguments { change, window_hours, confirm: given } = arguments;
    let key = change.place.key.clone();
    let window = window_hours
        .map(|hours| prost_types::Duration { seconds: i64::from(hours) * 3600, nanos: 0 });
    let request = |validate_only| v1::ShredPartitionRequest {
        name: name(&change.place),
        partition: partition(&change.place),
        default_partition: change.place.default_partition,
        window,
        request_id: change.request_id.clone(),
        validate_only,
        reason: Some(values::reason(&change.reason)),
    };
    let mut client = connection::connect().await?.keys();
    // What would go is said before it is asked for.
    let would = client.shred_partition(request(true)).await.map_err(|s| failure(&s))?;
    let would = would.into_inner().partition.ok_or_else(no_partition)?;
    let goes = format!(
        "nothing of this partition will open any more, and its {} will be gone for good from {} on",
        counted(would.data_keys, "data key"),
        times::shown(would.due_time.as_ref())
    );
    if change.validate_only {
        return output.show(
            || json!({ "valid": true, "partition": partition_json(&would) }),
            || format!("{goes}; nothing was changed"),
        );
    }
    confirm::by_name(&key, given.as_deref(), &goes)?;
    let shredded = client.shred_partition(request(false)).await.map_err(|s| failure(&s))?;
    let v1::ShredPartitionResponse { partition, receipt } = shredded.into_inner();
    let partition = partition.ok_or_else(no_partition)?;
    shown(&partition, receipt.as_ref(), output, || {
        let data_keys = counted(partition.data_keys, "data key");
        let due = times::shown(partition.due_time.as_ref());
        match window_hours {
            Some(0) => format!(
                "shredded: nothing of the partition opens any more, and no time is left to restore its {data_keys}: \
                 fieldseal key partition {key} … says when there is a receipt"
            ),
            _ => format!(
                "shredded: nothing of the partition opens any more. Until {due} its {data_keys} can \
                 be restored: fieldseal key unshred {key} …"
            ),
        }
    })
}

pub(super) async fn unshred(
    change: PartitionChangeArguments,
    output: &Output,
) -> Result<(), Failure> {
    let request = v1::RestorePartitionRequest {
        name: name(&change.place),
        partition: partition(&change.place),
        request_id: change.request_id,
        validate_only: change.validate_only,
        reason: Some(values::reason(&change.reason)),
    };
    let mut client = connection::connect().await?.keys();
    let restored = client.restore_partition(request).await.map_err(|s| failure(&s))?.into_inner();
    let partition = restored.partition.ok_or_else(no_partition)?;
    if change.validate_only {
        return could(&partition, output, "the partition could be restored");
    }
    shown(&partition, restored.receipt.as_ref(), output, || {
        "restored: the values of the partition open again".to_owned()
    })
}

pub(super) async fn reopen(
    change: PartitionChangeArguments,
    output: &Output,
) -> Result<(), Failure> {
    let request = v1::ReopenPartitionRequest {
        name: name(&change.place),
        partition: partition(&change.place),
        request_id: change.request_id,
        validate_only: change.validate_only,
        reason: Some(values::reason(&change.reason)),
    };
    let mut client = connection::connect().await?.keys();
    let reopened = client.reopen_partition(request).await.map_err(|s| failure(&s))?.into_inner();
    let partition = reopened.partition.ok_or_else(no_partition)?;
    if change.validate_only {
        return could(&partition, output, "the partition could be opened anew");
    }
    shown(&partition, reopened.receipt.as_ref(), output, || {
        "opened anew: the partition takes new values; those from before never open again".to_owned()
    })
}

pub(super) async fn show(
    arguments: ShowPartitionArguments,
    output: &Output,
) -> Result<(), Failure> {
    let request = v1::GetPartitionRequest {
        name: name(&arguments.place),
        partition: partition(&arguments.place),
    };
    let mut client = connection::connect().await?.keys();
    let found = client.get_partition(request).await.map_err(|s| failure(&s))?.into_inner();
    let partition = found.partition.ok_or_else(no_partition)?;
    if let Some(path) = &arguments.receipt {
        super::receipts::write(path, &found)?;
    }
    let receipt: Option<Value> = serde_json::from_str(&found.shred_receipt).ok();
    output.show(
        || {
            json!({
                "partition": partition_json(&partition), "shred_receipt": receipt,
                "shred_receipt_state": receipt_state(&found),
            })
        },
        || {
            let mut table = Table::bare();
            table.row(["state", state(&partition)]);
            table.row(["data keys", &partition.data_keys.to_string()]);
            for (what, at) in [
                ("shredded", &partition.shred_time),
                ("data keys go", &partition.due_time),
                ("erased", &partition.erase_time),
            ] {
                if at.is_some() {
                    table.row([what, &times::shown(at.as_ref())]);
                }
            }
            if partition.erase_time.is_some() {
                table.row(["data keys erased", &partition.erased_data_keys.to_string()]);
                let there = match &arguments.receipt {
                    Some(path) => format!("written to {}", path.display()),
                    None => super::receipts::said(found.shred_receipt_state()).to_owned(),
                };
                table.row(["receipt", &there]);
            }
            table.text()
        },
    )
}

fn shown(
    partition: &v1::Partition,
    receipt: Option<&v1::AuditReceipt>,
    output: &Output,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    output.show(|| json!({ "partition": partition_json(partition), "event": event(receipt) }), text)
}

fn could(partition: &v1::Partition, output: &Output, what: &str) -> Result<(), Failure> {
    output.show(
        || json!({ "valid": true, "partition": partition_json(partition) }),
        || format!("{what}; nothing was changed"),
    )
}

fn name(place: &PartitionArguments) -> String {
    format!("keys/{}", place.key)
}

fn partition(place: &PartitionArguments) -> String {
    place.partition.clone().unwrap_or_default()
}

fn partition_json(partition: &v1::Partition) -> Value {
    json!({
        "state": state(partition),
        "data_keys": partition.data_keys,
        "shred_time": times::json(partition.shred_time.as_ref()),
        "due_time": times::json(partition.due_time.as_ref()),
        "erase_time": times::json(partition.erase_time.as_ref()),
        "erased_data_keys": partition.erased_data_keys,
    })
}

fn state(partition: &v1::Partition) -> &'static str {
    let name = partition.state().as_str_name();
    name.strip_prefix("PARTITION_STATE_").unwrap_or(name)
}

fn receipt_state(found: &v1::GetPartitionResponse) -> &'static str {
    let name = found.shred_receipt_state().as_str_name();
    name.strip_prefix("SHRED_RECEIPT_STATE_").unwrap_or(name)
}

fn no_partition() -> Failure {
    Failure::new(Exit::Internal, "INTERNAL", "the sidecar answered without a partition")
}
