//! `encrypt` and `decrypt`: one value, from standard input to standard output.

use std::io::{IsTerminal as _, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_crypto::field::encode_text;
use fieldseal_model::hex;
use zeroize::Zeroizing;

use crate::arguments::{
    DecryptArguments, EncryptArguments, FieldArguments, PlaceArguments, ReasonArguments, ValueKind,
};
use crate::connection::{self, failure};
use crate::failure::{Exit, Failure};
use crate::output::{self, Output, note};

/// Most bytes read from standard input: more than the sidecar takes in any form.
const MAX_INPUT_BYTES: u64 = 3 * 1024 * 1024;

/// Runs `encrypt`.
pub(crate) async fn encrypt(arguments: EncryptArguments, output: &Output) -> Result<(), Failure> {
    let value = standard_input("the value")?;
    let plaintext = Some(wire_value(&value, arguments.kind)?);
    let place = arguments.place;
    let request = v1::EncryptRequest {
        field: Some(field(&place.field, &place.column)),
        partition: place.partition,
        row: place.row,
        plaintext,
        allow_sealed_plaintext: false,
        ..Default::default()
    };
    let mut client = connection::connect().await?.encryption();
    let sealed = client.encrypt(request).await.map_err(|s| failure(&s))?.into_inner();
    if arguments.binary && !output.is_json() {
        return output::bytes(&sealed.ciphertext);
    }
    let text = encode_text(&sealed.ciphertext);
    output.show(
        || serde_json::json!({ "ciphertext": text, "key_version": sealed.key_version }),
        || text.clone(),
    )
}

/// Runs `decrypt`.
pub(crate) async fn decrypt(arguments: DecryptArguments, output: &Output) -> Result<(), Failure> {
    let ciphertext = ciphertext(&standard_input("the ciphertext")?);
    let PlaceArguments { field: shared, column, row, partition } = arguments.place;
    let request = v1::DecryptRequest {
        field: Some(field(&shared, &column)),
        partition,
        row,
        ciphertext,
        reason: Some(reason(&arguments.reason)),
    };
    let mut client = connection::connect().await?.encryption();
    let opened = client.decrypt(request).await.map_err(|s| failure(&s))?.into_inner();
    let kind = opened.plaintext.and_then(|v| v.kind).ok_or_else(|| {
        Failure::new(Exit::Internal, "INTERNAL", "the sidecar answered without a value")
    })?;
    let (value, is_text) = match kind {
        v1::value::Kind::BytesValue(bytes) => (bytes, false),
        v1::value::Kind::StringValue(text) => (Bytes::from(text), true),
    };
    show_value(output, &value, is_text, |json| {
        json.insert("key_version".into(), opened.key_version.clone().into());
        json.insert("reencrypt_suggested".into(), opened.reencrypt_suggested.into());
        if let Some(receipt) = &opened.receipt {
            let event = format!("{}/events/{}", receipt.log, receipt.index);
            json.insert("event".into(), event.into());
            let kept = serde_json::json!({
                "log": receipt.log, "index": receipt.index, "tree_size": receipt.tree_size,
                "leaf_hash": hex::encode(&receipt.leaf_hash),
            });
            json.insert("receipt".into(), kept);
        }
    })
}

/// Writes an opened value: as it is, or as JSON together with what else is known of it.
pub(crate) fn show_value(
    output: &Output,
    value: &[u8],
    is_text: bool,
    more: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>),
) -> Result<(), Failure> {
    if !output.is_json() {
        output::bytes(value)?;
        // A prompt should not stand behind a value; a file gets exactly the value.
        return if output::is_terminal() { output::bytes(b"\n") } else { Ok(()) };
    }
    let mut json = serde_json::Map::new();
    match std::str::from_utf8(value) {
        Ok(text) if is_text => json.insert("text".into(), text.into()),
        _ => json.insert("bytes".into(), STANDARD.encode(value).into()),
    };
    more(&mut json);
    output.show(|| serde_json::Value::Object(json), String::new)
}

/// A field as the wire has it.
pub(crate) fn field(shared: &FieldArguments, column: &str) -> v1::Field {
    let pair = |(name, value): &(String, String)| v1::ContextPair {
        name: name.clone(),
        value: value.clone(),
    };
    v1::Field {
        key: format!("keys/{}", shared.key),
        table: shared.table.clone(),
        column: column.to_owned(),
        extra_context: shared.context.iter().map(pair).collect(),
    }
}

/// A reason as the wire has it.
pub(crate) fn reason(stated: &ReasonArguments) -> v1::AccessReason {
    v1::AccessReason {
        purpose: stated.purpose.clone(),
        ticket: stated.ticket.clone(),
        ..Default::default()
    }
}

fn wire_value(value: &[u8], kind: Option<ValueKind>) -> Result<v1::Value, Failure> {
    let text = std::str::from_utf8(value);
    let kind = match (kind, text) {
        (Some(ValueKind::Text), Err(_)) => {
            return Err(Failure::usage("VALUE_NOT_TEXT", "the value is not UTF-8 text")
                .advise("encrypt it with --type bytes"));
        }
        (Some(ValueKind::Bytes), _) | (None, Err(_)) => {
            v1::value::Kind::BytesValue(Bytes::copy_from_slice(value))
        }
        (_, Ok(text)) => v1::value::Kind::StringValue(text.to_owned()),
    };
    Ok(v1::Value { kind: Some(kind) })
}

/// `fs1.` text may end with the newline of the file that it stood in; the binary form is as it is.
pub(crate) fn ciphertext(input: &[u8]) -> Bytes {
    let text = if input.starts_with(b"fs1.") { input.trim_ascii_end() } else { input };
    Bytes::copy_from_slice(text)
}

/// Reads all of standard input.
pub(crate) fn standard_input(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let input = std::io::stdin();
    if input.is_terminal() {
        note(&format!("type {what}, then Ctrl-D"));
    }
    let mut value = Zeroizing::new(Vec::new());
    let read = input.lock().take(MAX_INPUT_BYTES + 1).read_to_end(&mut value);
    read.map_err(|e| Failure::io("cannot read", "standard input".as_ref(), &e))?;
    if value.len() as u64 > MAX_INPUT_BYTES {
        let what = format!("standard input has more than {MAX_INPUT_BYTES} bytes");
        return Err(Failure::usage("VALUE_TOO_LONG", what));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_loses_its_last_newline() {
        assert_eq!(ciphertext(b"fs1.AQ\r\n"), "fs1.AQ");
        assert_eq!(ciphertext(b"\x01binary\n"), &b"\x01binary\n"[..]);
    }

    #[test]
    fn the_type_is_what_was_asked_for() {
        let is_text = |value: &[u8], kind| {
            wire_value(value, kind)
                .map(|v| matches!(v.kind, Some(v1::value::Kind::StringValue(_))))
                .map_err(|f| f.reason().to_owned())
        };
        assert_eq!(is_text(b"a", None), Ok(true));
        assert_eq!(is_text(b"", None), Ok(true));
        assert_eq!(is_text(b"\xff", None), Ok(false));
        assert_eq!(is_text(b"a", Some(ValueKind::Bytes)), Ok(false));
        assert_eq!(is_text(b"\xff", Some(ValueKind::Text)), Err("VALUE_NOT_TEXT".to_owned()));
    }
}
