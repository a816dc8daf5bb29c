//! `key status`: how far a rotation is.

use fieldseal_api::v1;
use serde_json::{Value, json};

use super::{number, state_name};
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::output::{Output, Table, grouped};
use crate::times;

/// Runs `key status`.
pub(crate) async fn status(name: &str, output: &Output) -> Result<(), Failure> {
    let mut client = connection::connect().await?.keys();
    let request = v1::GetRotationStatusRequest { name: format!("keys/{name}") };
    let found = client.get_rotation_status(request).await.map_err(|s| failure(&s))?.into_inner();
    output.show(
        || {
            json!({
                "name": found.name, "primary_version": found.primary_version,
                "versions": found.versions.iter().map(use_json).collect::<Vec<_>>(),
                "summary": found.summary,
            })
        },
        || {
            let mut table = Table::new(&[
                "VERSION",
                "STATE",
                "DATA KEYS",
                "PARTITIONS",
                "SEALS",
                "LAST SEAL",
                "LAST OPEN",
                "SAFE TO DESTROY?",
            ]);
            for version in &found.versions {
                let count = |number: i64| grouped(u64::try_from(number).unwrap_or(0));
                table.row([
                    number(&version.name),
                    state_name(version.state()).to_owned(),
                    count(version.data_keys),
                    count(version.partitions),
                    at_most(version.reserved_seals),
                    day(&version.last_seal_date),
                    day(&version.last_open_date),
                    version.verdict.clone(),
                ]);
            }
            format!("{}\n{}", table.text(), found.summary)
        },
    )
}

fn day(date: &str) -> String {
    if date.is_empty() { "never".to_owned() } else { date.to_owned() }
}

/// Seals are reserved in blocks, so the number is a bound.
fn at_most(seals: i64) -> String {
    match u64::try_from(seals).unwrap_or(0) {
        0 => "0".to_owned(),
        seals => format!("≤ {}", grouped(seals)),
    }
}

fn use_json(version: &v1::KeyVersionUse) -> Value {
    let date = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "name": version.name, "state": state_name(version.state()),
        "create_time": times::json(version.create_time.as_ref()),
        "data_keys": version.data_keys, "partitions": version.partitions,
        "reserved_seals": version.reserved_seals,
        "last_seal_date": date(&version.last_seal_date),
        "last_open_date": date(&version.last_open_date),
        "safe_to_destroy": version.safe_to_destroy, "verdict": version.verdict,
    })
}
