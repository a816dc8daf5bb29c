//! The yardsticks: an `EncryptionService` that answers what it was sent, in replies of the same shape
//! and size as a sidecar's. FROZEN, like [`crate::durable`].
//!
//! A "ciphertext" is the value with so many zero bytes before and after it as suite 1 adds. So what
//! this encrypts it also decrypts, and the load that drives it is the one that drives the sidecar.

use std::future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use fieldseal_api::MAX_MESSAGE_BYTES;
use fieldseal_api::v1::encryption_service_server::{EncryptionService, EncryptionServiceServer};
use fieldseal_api::v1::{self, value::Kind};
use fieldseal_model::PrincipalKind;
use fieldseal_server::transport::{Limits, Tls, TlsSettings, serve};
use fieldseal_server::{AddressFile, CallLimits, LimitedServices, Services};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use crate::certificates;
use crate::durable::GroupCommit;
use crate::error::BenchError;

/// What stands before and after the content in suite 1 (docs/ciphertext.md), the type included.
const BEFORE_BYTES: usize = 58;
const AFTER_BYTES: usize = 16;
pub(crate) const OVERHEAD_BYTES: usize = BEFORE_BYTES + AFTER_BYTES;
/// The name of a sidecar's log.
const LOG: &str = "logs/main";

#[derive(Clone)]
struct Echo {
    /// Absent: the bare echo.
    log: Option<GroupCommit>,
}

impl Echo {
    /// One record a call, if this echo has a log.
    async fn record(&self, content: &[u8]) -> Result<i64, Status> {
        let Some(log) = &self.log else { return Ok(1 << 16) };
        let number = log.record(content).await.map_err(|e| Status::internal(e.to_string()))?;
        Ok(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

#[tonic::async_trait]
impl EncryptionService for Echo {
    async fn encrypt(
        &self,
        request: Request<v1::EncryptRequest>,
    ) -> Result<Response<v1::EncryptResponse>, Status> {
        let request = request.into_inner();
        let value = bytes_of(request.plaintext)?;
        self.record(&value).await?;
        let mut buffer = BytesMut::with_capacity(value.len().saturating_add(OVERHEAD_BYTES));
        Ok(Response::new(v1::EncryptResponse {
            ciphertext: wrap(&mut buffer, &value),
            key_version: version(&request.field.unwrap_or_default()),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<v1::DecryptRequest>,
    ) -> Result<Response<v1::DecryptResponse>, Status> {
        let request = request.into_inner();
        let index = self.record(&request.ciphertext).await?;
        Ok(Response::new(v1::DecryptResponse {
            plaintext: Some(unwrap(&request.ciphertext)?),
            key_version: version(&request.field.unwrap_or_default()),
            reencrypt_suggested: false,
            receipt: Some(receipt(index)),
        }))
    }

    async fn batch_encrypt(
        &self,
        request: Request<v1::BatchEncryptRequest>,
    ) -> Result<Response<v1::BatchEncryptResponse>, Status> {
        let v1::BatchEncryptRequest { fields, items, .. } = request.into_inner();
        let version = version(&fields.into_iter().next().unwrap_or_default());
        self.record(version.as_bytes()).await?;
        let values: Result<Vec<_>, _> =
            items.into_iter().map(|item| bytes_of(item.plaintext)).collect();
        let values = values?;
        let bytes = values.iter().map(|value| value.len().saturating_add(OVERHEAD_BYTES)).sum();
        let mut buffer = BytesMut::with_capacity(bytes);
        let results = values.iter().map(|value| {
            let ciphertext = wrap(&mut buffer, value);
            let ok = v1::EncryptedValue { ciphertext, key_version: version.clone() };
            v1::EncryptResult { result: Some(v1::encrypt_result::Result::Ok(ok)) }
        });
        Ok(Response::new(v1::BatchEncryptResponse { results: results.collect() }))
    }

    async fn batch_decrypt(
        &self,
        request: Request<v1::BatchDecryptRequest>,
    ) -> Result<Response<v1::BatchDecryptResponse>, Status> {
        let v1::BatchDecryptRequest { fields, items, .. } = request.into_inner();
        let version = version(&fields.into_iter().next().unwrap_or_default());
        let index = self.record(version.as_bytes()).await?;
        let results = items.iter().map(|item| {
            let ok = v1::DecryptedValue {
                plaintext: Some(unwrap(&item.ciphertext)?),
                key_version: version.clone(),
                reencrypt_suggested: false,
            };
            Ok(v1::DecryptResult { result: Some(v1::decrypt_result::Result::Ok(ok)) })
        });
        Ok(Response::new(v1::BatchDecryptResponse {
            results: results.collect::<Result<_, Status>>()?,
            receipt: Some(receipt(index)),
        }))
    }
}

fn bytes_of(value: Option<v1::Value>) -> Result<Bytes, Status> {
    match value.and_then(|value| value.kind) {
        Some(Kind::BytesValue(bytes)) => Ok(bytes),
        Some(Kind::StringValue(text)) => Ok(Bytes::from(text)),
        None => Err(Status::invalid_argument("a value is required")),
    }
}

/// Appends to a buffer that has room for it, and shares what was appended.
fn wrap(buffer: &mut BytesMut, value: &[u8]) -> Bytes {
    buffer.extend_from_slice(&[0; BEFORE_BYTES]);
    buffer.extend_from_slice(value);
    buffer.extend_from_slice(&[0; AFTER_BYTES]);
    buffer.split().freeze()
}

fn unwrap(ciphertext: &Bytes) -> Result<v1::Value, Status> {
    if ciphertext.len() < OVERHEAD_BYTES {
        return Err(Status::invalid_argument("the ciphertext is too short"));
    }
    let value = ciphertext.slice(BEFORE_BYTES..ciphertext.len().saturating_sub(AFTER_BYTES));
    Ok(v1::Value { kind: Some(Kind::BytesValue(value)) })
}

fn version(field: &v1::Field) -> String {
    format!("{}/versions/1", field.key)
}

fn receipt(index: i64) -> v1::AuditReceipt {
    v1::AuditReceipt {
        log: LOG.to_owned(),
        index,
        leaf_hash: Bytes::from_static(&[7; 32]),
        tree_size: index.saturating_add(1),
    }
}

/// Serves an echo on a free loopback port, behind the sidecar's own listener with its default
/// limits, until standard input ends: so it goes when its parent goes.
pub(crate) async fn run(
    durable: bool,
    directory: &Path,
    tls: &Path,
    address_file: &Path,
) -> Result<(), BenchError> {
    let log = if durable { Some(GroupCommit::create(directory)?) } else { None };
    let service = EncryptionServiceServer::new(Echo { log })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let services = LimitedServices::new(Services::new().with(service), CallLimits::default());
    let settings = TlsSettings::from_files(
        &tls.join(certificates::SERVER),
        &tls.join(certificates::SERVER_KEY),
        &tls.join(certificates::CA),
        PrincipalKind::Spiffe,
    );
    let tls = settings.and_then(|settings| Tls::new(&settings)).map_err(io::Error::other)?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = AddressFile::write(address_file, listener.local_addr()?)?;
    serve(listener, tls, Limits::default(), services, end_of_input()).await;
    drop(address);
    Ok(())
}

async fn end_of_input() {
    let mut input = tokio::io::stdin();
    let mut bytes = [0; 64];
    loop {
        match input.read(&mut bytes).await {
            Ok(0) => return,
            Ok(_) => {}
            // Whoever started this has no standard input to close, and stops it otherwise.
            Err(_) => return future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ciphertext_is_refused() {
        assert!(unwrap(&Bytes::from_static(&[0; OVERHEAD_BYTES - 1])).is_err());
        assert!(bytes_of(None).is_err());
    }

    #[test]
    fn a_value_comes_back() {
        let mut buffer = BytesMut::new();
        for value in [&b""[..], b"x", b"a longer value"] {
            let wrapped = wrap(&mut buffer, value);
            assert_eq!(wrapped.len(), value.len() + OVERHEAD_BYTES);
            let kind = unwrap(&wrapped).expect("value").kind;
            assert_eq!(kind, Some(Kind::BytesValue(Bytes::from_static(value))));
        }
    }
}
