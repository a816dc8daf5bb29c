//! The load: what is asked, and how often it can be asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fieldseal_client::{Client, EncryptionClient, Failure, v1};
use prost::Message as _;
use tonic::{Code, Status};
use v1::value::Kind;

use crate::echo::OVERHEAD_BYTES;

/// The key under which everything is sealed.
pub(crate) const KEY_ID: &str = "customer-pii";
/// Bytes of a value in a unary call, and of one in a batch.
const UNARY_BYTES: usize = 137;
const ITEM_BYTES: usize = 64;
/// Items of a batch.
pub(crate) const BATCH_ITEMS: usize = 1000;
/// Different requests that callers take in turn.
const UNARY_SAMPLES: usize = 256;
const BATCH_SAMPLES: usize = 8;

/// Which RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Encrypt,
    Decrypt,
    BatchEncrypt,
    BatchDecrypt,
}

impl Call {
    pub(crate) const ALL: [Self; 4] =
        [Self::Encrypt, Self::Decrypt, Self::BatchEncrypt, Self::BatchDecrypt];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Encrypt => "Encrypt",
            Self::Decrypt => "Decrypt",
            Self::BatchEncrypt => "BatchEncrypt",
            Self::BatchDecrypt => "BatchDecrypt",
        }
    }
}

/// One value that was sealed, and how to ask for it.
struct Sample {
    encrypt: v1::EncryptRequest,
    decrypt: v1::DecryptRequest,
    value: v1::Value,
}

/// A batch of them.
struct BatchSample {
    encrypt: v1::BatchEncryptRequest,
    decrypt: v1::BatchDecryptRequest,
    values: Vec<v1::Value>,
}

/// The requests for one server: the same for all, but for the ciphertexts.
pub(crate) struct Samples {
    unary: Vec<Sample>,
    batches: Vec<BatchSample>,
}

/// Six parts: table, column and two further pairs here, partition and row with each value.
pub(crate) fn field() -> v1::Field {
    let pair = |name: &str, value: &str| v1::ContextPair { name: name.into(), value: value.into() };
    v1::Field {
        key: format!("keys/{KEY_ID}"),
        table: "customers".into(),
        column: "email".into(),
        extra_context: vec![pair("region", "eu-central"), pair("schema", "2")],
    }
}

pub(crate) fn reason() -> Option<v1::AccessReason> {
    let (purpose, ticket) = ("support".to_owned(), "CASE-4711".to_owned());
    Some(v1::AccessReason { purpose, ticket, ..Default::default() })
}

pub(crate) fn value(bytes: usize, seed: usize) -> v1::Value {
    let content = (0..bytes).map(|i| (seed.wrapping_mul(31).wrapping_add(i * 7) % 251) as u8);
    v1::Value { kind: Some(Kind::BytesValue(content.collect())) }
}

/// A UUID, as most tables have.
pub(crate) fn row(seed: usize) -> String {
    format!("6f1d1f7a-3d7b-4b0e-9c54-{seed:012x}")
}

impl Samples {
    /// Makes the requests and has the server seal their values.
    pub(crate) async fn prepare(client: &Client) -> Result<Self, Status> {
        let mut calls = client.encryption();
        let mut unary = Vec::with_capacity(UNARY_SAMPLES);
        for seed in 0..UNARY_SAMPLES {
            let (partition, row) = (format!("tenant-{:04}", seed % 16), row(seed));
            let value = value(UNARY_BYTES, seed);
            let encrypt = v1::EncryptRequest {
                field: Some(field()),
                partition: partition.clone(),
                row: row.clone(),
                plaintext: Some(value.clone()),
                allow_sealed_plaintext: false,
                ..Default::default()
            };
            let ciphertext = calls.encrypt(encrypt.clone()).await?.into_inner().ciphertext;
            let decrypt = v1::DecryptRequest {
                field: Some(field()),
                partition,
                row,
                ciphertext,
                reason: reason(),
            };
            unary.push(Sample { encrypt, decrypt, value });
        }
        let mut batches = Vec::with_capacity(BATCH_SAMPLES);
        for seed in 0..BATCH_SAMPLES {
            batches.push(BatchSample::prepare(&mut calls, seed).await?);
        }
        Ok(Self { unary, batches })
    }

    /// The bytes of a reply to each call, in the order of [`Call::ALL`].
    pub(crate) async fn reply_bytes(&self, client: &Client) -> Result<[usize; 4], Status> {
        let mut calls = client.encryption();
        let (Some(unary), Some(batch)) = (self.unary.first(), self.batches.first()) else {
            return Err(Status::internal("no samples"));
        };
        Ok([
            calls.encrypt(unary.encrypt.clone()).await?.get_ref().encoded_len(),
            calls.decrypt(unary.decrypt.clone()).await?.get_ref().encoded_len(),
            calls.batch_encrypt(batch.encrypt.clone()).await?.get_ref().encoded_len(),
            calls.batch_decrypt(batch.decrypt.clone()).await?.get_ref().encoded_len(),
        ])
    }

    /// Asks once and checks the answer.
    async fn ask(
        &self,
        calls: &mut EncryptionClient,
        call: Call,
        turn: usize,
    ) -> Result<(), Status> {
        let unary = self.unary.get(turn % UNARY_SAMPLES);
        let batch = self.batches.get(turn % BATCH_SAMPLES);
        let (Some(unary), Some(batch)) = (unary, batch) else {
            return Err(Status::internal("no samples"));
        };
        let right = match call {
            Call::Encrypt => {
                let reply = calls.encrypt(unary.encrypt.clone()).await?.into_inner();
                reply.ciphertext.len() == UNARY_BYTES + OVERHEAD_BYTES
            }
            Call::Decrypt => {
                let reply = calls.decrypt(unary.decrypt.clone()).await?.into_inner();
                reply.plaintext.as_ref() == Some(&unary.value)
            }
            Call::BatchEncrypt => {
                let reply = calls.batch_encrypt(batch.encrypt.clone()).await?.into_inner();
                let expected = ITEM_BYTES + OVERHEAD_BYTES;
                let sealed = reply.results.iter().filter_map(sealed);
                sealed.filter(|bytes| bytes.len() == expected).count() == BATCH_ITEMS
            }
            Call::BatchDecrypt => {
                let reply = calls.batch_decrypt(batch.decrypt.clone()).await?.into_inner();
                reply.results.iter().map(opened).eq(batch.values.iter().map(Some))
            }
        };
        if right { Ok(()) } else { Err(Status::data_loss("the answer is wrong")) }
    }
}

impl BatchSample {
    async fn prepare(calls: &mut EncryptionClient, seed: usize) -> Result<Self, Status> {
        let partition = format!("tenant-{seed:04}");
        let of = |item| BATCH_ITEMS.wrapping_mul(seed).wrapping_add(item);
        let values: Vec<_> = (0..BATCH_ITEMS).map(|item| value(ITEM_BYTES, of(item))).collect();
        let items = values.iter().enumerate().map(|(item, value)| v1::EncryptItem {
            field_index: 0,
            partition: partition.clone(),
            row: row(of(item)),
            plaintext: Some(value.clone()),
            allow_sealed_plaintext: false,
        });
        let encrypt = v1::BatchEncryptRequest {
            fields: vec![field()],
            items: items.collect(),
            ..Default::default()
        };
        let reply = calls.batch_encrypt(encrypt.clone()).await?.into_inner();
        let items = reply.results.iter().enumerate().map(|(item, result)| {
            let ciphertext = sealed(result).ok_or(Status::data_loss("an item was not sealed"))?;
            Ok(v1::DecryptItem {
                field_index: 0,
                partition: partition.clone(),
                row: row(of(item)),
                ciphertext: ciphertext.clone(),
            })
        });
        let items = items.collect::<Result<_, Status>>()?;
        let decrypt = v1::BatchDecryptRequest { fields: vec![field()], items, reason: reason() };
        Ok(Self { encrypt, decrypt, values })
    }
}

pub(crate) fn sealed(result: &v1::EncryptResult) -> Option<&Bytes> {
    match &result.result {
        Some(v1::encrypt_result::Result::Ok(ok)) => Some(&ok.ciphertext),
        _ => None,
    }
}

fn opened(result: &v1::DecryptResult) -> Option<&v1::Value> {
    match &result.result {
        Some(v1::decrypt_result::Result::Ok(ok)) => ok.plaintext.as_ref(),
        _ => None,
    }
}

/// What a server did.
pub(crate) struct Done {
    /// Calls answered a second, within the measured time.
    pub(crate) calls_per_second: f64,
    /// Half of the calls took at most so many microseconds.
    pub(crate) p50_us: f64,
    /// All calls, those of the warm-up too.
    pub(crate) calls: u64,
}

/// Drives a server with so many callers, each asking again as soon as it has its answer, spread
/// evenly over these connections.
pub(crate) async fn drive(
    connections: &[Client],
    samples: &Arc<Samples>,
    call: Call,
    callers: usize,
    warm_up: Duration,
    measured: Duration,
) -> Result<Done, Failure> {
    let begin = Instant::now() + warm_up;
    let end = begin + measured;
    let spread = connections.iter().cycle().take(callers).enumerate();
    let tasks: Vec<_> = spread
        .map(|(caller, connection)| {
            let (mut calls, samples) = (connection.encryption(), Arc::clone(samples));
            tokio::spawn(async move {
                let (mut times, mut count) = (Vec::with_capacity(1 << 14), 0u64);
                let mut asked = Instant::now();
                while asked < end {
                    samples.ask(&mut calls, call, caller.wrapping_add(count as usize)).await?;
                    let answered = Instant::now();
                    if answered >= begin && answered < end {
                        times.push(answered.duration_since(asked).as_nanos() as u64);
                    }
                    count += 1;
                    asked = answered;
                }
                Ok::<_, Status>((times, count))
            })
        })
        .collect();
    let (mut times, mut calls) = (Vec::new(), 0);
    for task in tasks {
        let ended = task.await.unwrap_or_else(|_| Err(Status::new(Code::Internal, "no task")));
        let (more, count) = ended.map_err(|status| Failure::from(&status))?;
        times.extend(more);
        calls += count;
    }
    times.sort_unstable();
    let p50 = times.get(times.len() / 2).copied().unwrap_or(0);
    Ok(Done {
        calls_per_second: times.len() as f64 / measured.as_secs_f64(),
        p50_us: p50 as f64 / 1000.0,
        calls,
    })
}
