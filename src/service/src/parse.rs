//! Wire types become the floors' words, or a typed error.

use std::borrow::Cow;

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_crypto::ContentType;
use fieldseal_crypto::field::{self, Header, OVERHEAD_BYTES};
use fieldseal_engine::{Assertion, DecryptItem, EncryptItem, PlainInput, SealedInput, Stated};
use fieldseal_model::{
    AccessReason, Column, ExtraContext, Field, KeyName, Malformed, MalformedReason, Partition,
    Purpose, Row, Table, Ticket,
};

use crate::{MAX_VALUE_BYTES, WireLimits};

/// How a ciphertext in its text form begins.
const TEXT_PREFIX: &[u8] = b"fs1.";
/// What one item of a reply takes beside its value, at most: version name, tags and lengths.
const OK_BYTES: usize = 128;
/// What one item takes at most if it is refused: message, reason, event and advice to wait. A test
/// measures the longest.
pub(crate) const ERROR_BYTES: usize = 512;
/// What the rest of a reply takes at most: the receipt.
const REPLY_BYTES: usize = 256;

pub(crate) fn field(wire: Option<&v1::Field>) -> Result<Field, Malformed> {
    let wire = wire.ok_or_else(|| {
        Malformed::new(MalformedReason::TableInvalid, "field is required: key, table and column")
    })?;
    let pairs = wire.extra_context.iter().map(|p| (p.name.as_str(), p.value.as_str()));
    Ok(Field {
        key: KeyName::parse_resource(&wire.key)?,
        table: Table::parse(&wire.table)?,
        column: Column::parse(&wire.column)?,
        extra: ExtraContext::parse(pairs)?,
    })
}

pub(crate) fn fields(limits: WireLimits, wire: &[v1::Field]) -> Result<Vec<Field>, Malformed> {
    let most = limits.batch_items;
    if wire.is_empty() || wire.len() > most {
        return Err(Malformed::new(
            MalformedReason::BatchSizeInvalid,
            format!("a batch has 1 to {most} fields"),
        ));
    }
    wire.iter().map(|f| field(Some(f))).collect()
}

/// A batch's size and field indices: they are a matter of the whole RPC.
pub(crate) fn batch(
    limits: WireLimits,
    items: usize,
    fields: usize,
    indices: impl Iterator<Item = u32>,
) -> Result<(), Malformed> {
    let most = limits.batch_items;
    if items == 0 || items > most {
        return Err(Malformed::new(
            MalformedReason::BatchSizeInvalid,
            format!("a batch has 1 to {most} items, and this one has {items}"),
        ));
    }
    for index in indices {
        if usize::try_from(index).map_or(true, |i| i >= fields) {
            return Err(Malformed::new(
                MalformedReason::FieldIndexInvalid,
                format!("field_index {index} points at none of the {fields} fields"),
            ));
        }
    }
    Ok(())
}

/// Refuses a batch whose reply would pass the message limit, before anything is opened or sealed.
/// `values` are the bytes that each item's value would take. An item may also come back as an
/// error, so it counts as whichever is longer.
pub(crate) fn reply_fits(
    limits: WireLimits,
    values: impl Iterator<Item = usize>,
) -> Result<(), Malformed> {
    let most = limits.message_bytes;
    let items = values.map(|value| value.saturating_add(OK_BYTES).max(ERROR_BYTES));
    let reply = items.fold(REPLY_BYTES, usize::saturating_add);
    if reply > most {
        return Err(Malformed::new(
            MalformedReason::ReplyTooLarge,
            format!(
                "the reply could have {reply} bytes, and at most {most} are allowed; send fewer \
                 items at a time"
            ),
        ));
    }
    Ok(())
}

/// How long the value of a ciphertext is, in its binary form or as text: never more than this.
pub(crate) fn opened_len(ciphertext: &[u8]) -> usize {
    let binary = match ciphertext.strip_prefix(TEXT_PREFIX) {
        Some(text) => text.len() / 4 * 3 + text.len() % 4,
        None => ciphertext.len(),
    };
    binary.saturating_sub(OVERHEAD_BYTES)
}

/// The reason of a call about keys, the log or the process: those take no end user.
pub(crate) fn reason(wire: Option<&v1::AccessReason>) -> Result<AccessReason, Malformed> {
    if assertion(wire).is_some() {
        return Err(Malformed::new(
            MalformedReason::EndUserAssertionUnsupported,
            "only encrypts and decrypts take an end user; leave end_user_assertion and \
             end_user_query_hash empty",
        ));
    }
    value_reason(wire)
}

/// The reason of a call about values, without the end user: whether there is one, the engine says.
pub(crate) fn value_reason(wire: Option<&v1::AccessReason>) -> Result<AccessReason, Malformed> {
    let Some(wire) = wire else { return Ok(AccessReason::default()) };
    Ok(AccessReason {
        purpose: Purpose::parse(&wire.purpose)?,
        ticket: Ticket::parse(&wire.ticket)?,
        end_user: None,
    })
}

/// What a caller shows about its end user, if anything.
pub(crate) fn assertion(wire: Option<&v1::AccessReason>) -> Option<Assertion<'_>> {
    let v1::AccessReason { end_user_assertion, end_user_query_hash, .. } = wire?;
    let nothing = end_user_assertion.is_empty() && end_user_query_hash.is_empty();
    (!nothing).then_some(Assertion { token: end_user_assertion, query_hash: end_user_query_hash })
}

/// Whatever can be understood of a request that cannot be as a whole: for its record.
pub(crate) fn stated(field: Option<&v1::Field>, reason: Option<&v1::AccessReason>) -> Stated {
    let mut stated = Stated::default();
    if let Some(field) = field {
        stated.key = KeyName::parse_resource(&field.key).ok();
        stated.table = Table::parse(&field.table).ok();
        stated.column = Column::parse(&field.column).ok();
    }
    if let Some(reason) = reason {
        stated.reason.purpose = Purpose::parse(&reason.purpose).unwrap_or_default();
        stated.reason.ticket = Ticket::parse(&reason.ticket).unwrap_or_default();
    }
    stated
}

pub(crate) fn decrypt_item(wire: v1::DecryptItem) -> DecryptItem {
    DecryptItem {
        field: usize::try_from(wire.field_index).unwrap_or(usize::MAX),
        input: sealed(&wire.partition, wire.row, wire.ciphertext),
    }
}

pub(crate) fn sealed(
    partition: &str,
    row: String,
    ciphertext: Bytes,
) -> Result<SealedInput, Malformed> {
    let partition = parse_partition(partition)?;
    let row = Row::parse(row)?;
    if ciphertext.len() > (MAX_VALUE_BYTES + OVERHEAD_BYTES) * 4 / 3 + 8 {
        return Err(Malformed::new(
            MalformedReason::ValueTooLong,
            format!("a ciphertext holds at most {MAX_VALUE_BYTES} bytes"),
        ));
    }
    let ciphertext = match field::decode_text(&ciphertext)? {
        Cow::Owned(binary) => Bytes::from(binary),
        Cow::Borrowed(_) => ciphertext,
    };
    let key_id = Header::parse(&ciphertext)?.key_id;
    Ok(SealedInput { partition, row, key_id, ciphertext })
}

pub(crate) fn encrypt_item(wire: v1::EncryptItem) -> EncryptItem {
    EncryptItem {
        field: usize::try_from(wire.field_index).unwrap_or(usize::MAX),
        input: plain(&wire.partition, wire.row, wire.plaintext, wire.allow_sealed_plaintext),
    }
}

pub(crate) fn plain(
    partition: &str,
    row: String,
    plaintext: Option<v1::Value>,
    allow_sealed: bool,
) -> Result<PlainInput, Malformed> {
    let partition = parse_partition(partition)?;
    let row = Row::parse(row)?;
    let (content, value) = match plaintext.and_then(|v| v.kind) {
        Some(v1::value::Kind::BytesValue(bytes)) => (ContentType::Bytes, bytes),
        Some(v1::value::Kind::StringValue(text)) => (ContentType::Text, Bytes::from(text)),
        None => {
            return Err(Malformed::new(
                MalformedReason::ValueMissing,
                "plaintext is required; an empty value is set as empty bytes or empty text",
            ));
        }
    };
    if value.len() > MAX_VALUE_BYTES {
        return Err(Malformed::new(
            MalformedReason::ValueTooLong,
            format!(
                "a value has at most {MAX_VALUE_BYTES} bytes, and this one has {}",
                value.len()
            ),
        ));
    }
    Ok(PlainInput { partition, row, content, value, allow_sealed })
}

/// The default partition is so common that it is not made anew each time.
fn parse_partition(text: &str) -> Result<Partition, Malformed> {
    thread_local! {
        static DEFAULT: Partition = Partition::default();
    }
    if text.is_empty() {
        return Ok(DEFAULT.with(Clone::clone));
    }
    Partition::parse(text)
}
