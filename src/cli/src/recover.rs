//! `recover`: a value of a stopped installation, with the recovery identity alone.

use std::sync::Arc;

use fieldseal_crypto::ContentType;
use fieldseal_crypto::field::{self, Header};
use fieldseal_engine::SealedInput;
use fieldseal_engine::offline::{self, RecoverError};
use fieldseal_keys::keyring;
use fieldseal_model::{
    AccessReason, Column, ExtraContext, Field, KeyName, Partition, Principal, PrincipalKind,
    Purpose, Row, SystemClock, Table, Ticket,
};
use fieldseal_server::Config;
use zeroize::Zeroizing;

use crate::arguments::{PlaceArguments, RecoverArguments};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::serve;
use crate::values::{ciphertext, show_value, standard_input};

/// Runs `recover`.
pub(crate) async fn run(arguments: RecoverArguments, output: &Output) -> Result<(), Failure> {
    let config = Config::load(&arguments.config).map_err(|e| serve::config_failure(&e))?;
    let identity = std::fs::read_to_string(&arguments.identity).map(Zeroizing::new);
    let identity = identity.map_err(|e| Failure::io("cannot read", &arguments.identity, &e))?;
    let keyring = keyring::open_with_identity(&config.state.keyring(), &identity);
    let keyring = keyring.map_err(|e| serve::keyring_failure(&e))?;
    let value = ciphertext(&standard_input("the ciphertext")?);
    let (of, input) = parse(&arguments.place, &value)?;
    let reason = AccessReason {
        purpose: Purpose::parse(&arguments.reason.purpose)?,
        ticket: Ticket::parse(&arguments.reason.ticket)?,
    };
    let user = rustix::process::getuid().as_raw().to_string();
    let local = Principal::new(PrincipalKind::Local, &user)?;
    let call = offline::single(of, input, reason);
    let settings = fieldseal_server::engine_settings(&config);
    let reply = offline::recover(settings, keyring, Arc::new(SystemClock), local, call).await;
    let reply = reply.map_err(|error| match &error {
        RecoverError::Boot(boot) => serve::boot_failure(boot),
        _ => Failure::new(Exit::Tampered, "DECRYPTION_FAILED", error.to_string()),
    })?;
    let Some(Ok(item)) = reply.items.first() else {
        let what = "the value does not open under this key, partition and context";
        return Err(Failure::new(Exit::Tampered, "DECRYPTION_FAILED", what)
            .advise("state exactly what was stated to encrypt; the audit record has the cause"));
    };
    let opened = reply.buffer.get(item.range.clone()).unwrap_or_default();
    show_value(output, opened, item.content == ContentType::Text, |json| {
        json.insert("key_version".into(), item.key_version.to_string().into());
        let (log, index) = (reply.receipt.log(), reply.receipt.index());
        json.insert("event".into(), format!("logs/{log}/events/{index}").into());
    })
}

fn parse(place: &PlaceArguments, value: &bytes::Bytes) -> Result<(Field, SealedInput), Failure> {
    let pairs = place.field.context.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let of = Field {
        key: KeyName::parse(&place.field.key)?,
        table: Table::parse(&place.field.table)?,
        column: Column::parse(&place.column)?,
        extra: ExtraContext::parse(pairs)?,
    };
    let ciphertext = bytes::Bytes::from(field::decode_text(value)?.into_owned());
    let input = SealedInput {
        partition: Partition::parse(&place.partition)?,
        row: Row::parse(&place.row)?,
        key_id: Header::parse(&ciphertext)?.key_id,
        ciphertext,
    };
    Ok((of, input))
}
