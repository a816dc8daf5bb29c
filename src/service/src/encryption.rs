//! `EncryptionService`.

use std::ops::Range;

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_api::v1::encryption_service_server::EncryptionService;
use fieldseal_audit::Receipt;
use fieldseal_crypto::ContentType;
use fieldseal_crypto::field::OVERHEAD_BYTES;
use fieldseal_engine::{
    Caller, DecryptCall, DecryptItem, DecryptReply, EncryptCall, EncryptItem, EncryptReply, Engine,
    Refusal, Stated,
};
use fieldseal_model::{Action, EndUser, Malformed};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::caller::caller;
use crate::errors::status;
use crate::{WireLimits, parse};

/// Handles `EncryptionService`.
#[derive(Clone)]
pub struct EncryptionHandler {
    engine: Engine,
    limits: WireLimits,
}

impl EncryptionHandler {
    /// Handles calls with this engine.
    #[must_use]
    pub fn new(engine: Engine, limits: WireLimits) -> Self {
        Self { engine, limits }
    }

    async fn malformed(
        &self,
        caller: &Caller,
        action: Action,
        what: Malformed,
        stated: &Stated,
    ) -> Status {
        status(&self.engine.malformed(caller, action, what, stated).await)
    }

    /// The end user that the caller shows a token of, if it shows one.
    async fn end_user(
        &self,
        caller: &Caller,
        action: Action,
        field: Option<&v1::Field>,
        reason: Option<&v1::AccessReason>,
    ) -> Result<Option<EndUser>, Status> {
        let Some(shown) = parse::assertion(reason) else { return Ok(None) };
        let stated = parse::stated(field, reason);
        let user = self.engine.end_user(caller, action, shown, &stated).await;
        user.map(Some).map_err(|r| status(&r))
    }
}

#[tonic::async_trait]
impl EncryptionService for EncryptionHandler {
    async fn encrypt(
        &self,
        request: Request<v1::EncryptRequest>,
    ) -> Result<Response<v1::EncryptResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let (field, reason) = (wire.field.as_ref(), wire.reason.as_ref());
        let parsed = parse::field(field).and_then(|field| {
            let (partition, allow) = (&wire.partition, wire.allow_sealed_plaintext);
            let input = parse::plain(partition, wire.row, wire.plaintext, allow)?;
            let items = vec![EncryptItem { field: 0, input: Ok(input) }];
            Ok(EncryptCall { fields: vec![field], items, reason: parse::value_reason(reason)? })
        });
        let mut call = parsed.map_err(|what| status(&what.into()))?;
        call.reason.end_user = self.end_user(&caller, Action::Encrypt, field, reason).await?;
        let reply =
            self.engine.encrypt(&caller, Action::Encrypt, call).await.map_err(|r| status(&r))?;
        let EncryptReply { buffer, mut items, guard: _guard } = reply;
        let item = items.pop().ok_or_else(missing)?.map_err(|r| status(&r))?;
        Ok(Response::new(v1::EncryptResponse {
            ciphertext: Bytes::from(buffer),
            key_version: item.key_version.as_ref().to_owned(),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<v1::DecryptRequest>,
    ) -> Result<Response<v1::DecryptResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let (field, reason) = (wire.field.as_ref(), wire.reason.as_ref());
        let parsed = parse::field(field).and_then(|field| {
            let input = parse::sealed(&wire.partition, wire.row, wire.ciphertext)?;
            let items = vec![DecryptItem { field: 0, input: Ok(input) }];
            Ok(DecryptCall { fields: vec![field], items, reason: parse::value_reason(reason)? })
        });
        let mut call = match parsed {
            Ok(call) => call,
            Err(what) => {
                let stated = parse::stated(field, reason);
                return Err(self.malformed(&caller, Action::Decrypt, what, &stated).await);
            }
        };
        call.reason.end_user = self.end_user(&caller, Action::Decrypt, field, reason).await?;
        let reply =
            self.engine.decrypt(&caller, Action::Decrypt, call).await.map_err(|r| status(&r))?;
        let DecryptReply { buffer, mut items, receipt, guard: _guard } = reply;
        let item = items.pop().ok_or_else(missing)?.map_err(|r| status(&r))?;
        let buffer = shared(buffer);
        Ok(Response::new(v1::DecryptResponse {
            plaintext: Some(value(&buffer, item.content, item.range)?),
            key_version: item.key_version.as_ref().to_owned(),
            reencrypt_suggested: item.reencrypt_suggested,
            receipt: Some(wire_receipt(&receipt)),
        }))
    }

    async fn batch_encrypt(
        &self,
        request: Request<v1::BatchEncryptRequest>,
    ) -> Result<Response<v1::BatchEncryptResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let (fields, reason) = (wire.fields.as_slice(), wire.reason.as_ref());
        let call = encrypt_call(self.limits, fields, wire.items, reason);
        let mut call = call.map_err(|what| status(&what.into()))?;
        let action = Action::BatchEncrypt;
        call.reason.end_user = self.end_user(&caller, action, one(fields), reason).await?;
        let reply = self.engine.encrypt(&caller, action, call).await;
        let EncryptReply { buffer, items, guard: _guard } = reply.map_err(|r| status(&r))?;
        let buffer = Bytes::from(buffer);
        let results = items.into_iter().map(|item| {
            let result = match item {
                Ok(item) => v1::encrypt_result::Result::Ok(v1::EncryptedValue {
                    ciphertext: buffer.slice(item.range),
                    key_version: item.key_version.as_ref().to_owned(),
                }),
                Err(refusal) => v1::encrypt_result::Result::Error(item_status(&refusal)),
            };
            v1::EncryptResult { result: Some(result) }
        });
        Ok(Response::new(v1::BatchEncryptResponse { results: results.collect() }))
    }

    async fn batch_decrypt(
        &self,
        request: Request<v1::BatchDecryptRequest>,
    ) -> Result<Response<v1::BatchDecryptResponse>, Status> {
        let caller = caller(&request)?;
        let wire = request.into_inner();
        let (fields, reason) = (wire.fields.as_slice(), wire.reason.as_ref());
        let mut call = match decrypt_call(self.limits, fields, wire.items, reason) {
            Ok(call) => call,
            Err(what) => {
                let stated = parse::stated(one(fields), reason);
                return Err(self.malformed(&caller, Action::BatchDecrypt, what, &stated).await);
            }
        };
        let action = Action::BatchDecrypt;
        call.reason.end_user = self.end_user(&caller, action, one(fields), reason).await?;
        let reply = self.engine.decrypt(&caller, action, call).await;
        let DecryptReply { buffer, items, receipt, guard: _guard } =
            reply.map_err(|r| status(&r))?;
        let buffer = shared(buffer);
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            let result = match item {
                Ok(item) => v1::decrypt_result::Result::Ok(v1::DecryptedValue {
                    plaintext: Some(value(&buffer, item.content, item.range)?),
                    key_version: item.key_version.as_ref().to_owned(),
                    reencrypt_suggested: item.reencrypt_suggested,
                }),
                Err(refusal) => v1::decrypt_result::Result::Error(item_status(&refusal)),
            };
            results.push(v1::DecryptResult { result: Some(result) });
        }
        let receipt = Some(wire_receipt(&receipt));
        Ok(Response::new(v1::BatchDecryptResponse { results, receipt }))
    }
}

fn encrypt_call(
    limits: WireLimits,
    fields: &[v1::Field],
    items: Vec<v1::EncryptItem>,
    reason: Option<&v1::AccessReason>,
) -> Result<EncryptCall, Malformed> {
    let indices = items.iter().map(|item| item.field_index);
    parse::batch(limits, items.len(), fields.len(), indices)?;
    let values = items.iter().map(|item| OVERHEAD_BYTES + value_len(item.plaintext.as_ref()));
    parse::reply_fits(limits, values)?;
    let reason = parse::value_reason(reason)?;
    let items = items.into_iter().map(parse::encrypt_item).collect();
    Ok(EncryptCall { fields: parse::fields(limits, fields)?, items, reason })
}

/// The field that the record of a batch is about: with many, none of them is.
fn one(fields: &[v1::Field]) -> Option<&v1::Field> {
    if let [field] = fields { Some(field) } else { None }
}

fn decrypt_call(
    limits: WireLimits,
    fields: &[v1::Field],
    items: Vec<v1::DecryptItem>,
    reason: Option<&v1::AccessReason>,
) -> Result<DecryptCall, Malformed> {
    let indices = items.iter().map(|item| item.field_index);
    parse::batch(limits, items.len(), fields.len(), indices)?;
    parse::reply_fits(limits, items.iter().map(|item| parse::opened_len(&item.ciphertext)))?;
    let reason = parse::value_reason(reason)?;
    let items = items.into_iter().map(parse::decrypt_item).collect();
    Ok(DecryptCall { fields: parse::fields(limits, fields)?, items, reason })
}

fn value_len(value: Option<&v1::Value>) -> usize {
    match value.and_then(|v| v.kind.as_ref()) {
        Some(v1::value::Kind::BytesValue(bytes)) => bytes.len(),
        Some(v1::value::Kind::StringValue(text)) => text.len(),
        None => 0,
    }
}

/// One buffer, shared by all values of a reply, and wiped when the last is gone.
fn shared(buffer: Zeroizing<Vec<u8>>) -> Bytes {
    struct Owner(Zeroizing<Vec<u8>>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owner(buffer))
}

fn value(buffer: &Bytes, content: ContentType, range: Range<usize>) -> Result<v1::Value, Status> {
    let kind = match content {
        ContentType::Bytes => v1::value::Kind::BytesValue(buffer.slice(range)),
        ContentType::Text => {
            let text = buffer.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok());
            v1::value::Kind::StringValue(text.ok_or_else(missing)?.to_owned())
        }
    };
    Ok(v1::Value { kind: Some(kind) })
}

pub(crate) fn wire_receipt(receipt: &Receipt) -> v1::AuditReceipt {
    v1::AuditReceipt {
        log: format!("logs/{}", receipt.log()),
        index: i64::try_from(receipt.index()).unwrap_or(i64::MAX),
        leaf_hash: Bytes::copy_from_slice(receipt.leaf_hash()),
        tree_size: i64::try_from(receipt.tree_size()).unwrap_or(i64::MAX),
    }
}

/// An item's error is the status that a unary call would have had.
pub(crate) fn item_status(refusal: &Refusal) -> tonic_types::Status {
    let status = status(refusal);
    let code = status.code() as i32;
    prost::Message::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

fn missing() -> Status {
    let cause = fieldseal_engine::RefusalCause::Internal("an answer without its item");
    status(&Refusal { cause, event: None })
}
