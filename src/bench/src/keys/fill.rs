//! Filling an installation through the front door: one value for each partition, which makes its
//! data key.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fieldseal_client::{EncryptionClient, v1};
use tonic::Status;

use super::samples::{self, Sample, VALUE_BYTES, partition};
use super::{connections, failed, joined};
use crate::error::BenchError;
use crate::load::{KEY_ID, field, row, sealed, value};
use crate::process::Server;
use crate::ratios::tell;

/// Batches on their way.
const CALLERS: usize = 16;
/// Values of a batch: few enough for a slow disk to make their data keys within a call's deadline.
const BATCH: u64 = 100;
/// How many values are kept to be opened later.
const KEPT: u64 = 40_000;

/// Fills it, unless an earlier run did, and gives the values that were kept.
pub(super) async fn fill(
    server: &Server,
    dir: &Path,
    count: u64,
) -> Result<Arc<Vec<Sample>>, BenchError> {
    let path = dir.join(format!("samples-{count}"));
    if path.is_file() {
        return Ok(Arc::new(samples::read(&path)?));
    }
    let connections = connections(server).await?;
    let first = connections.first().ok_or(BenchError::Interrupted)?;
    let create = v1::CreateKeyRequest { key_id: KEY_ID.to_owned(), ..Default::default() };
    first.keys().create_key(create).await.map_err(|s| failed(&s))?;
    let (next, begun) = (Arc::<AtomicU64>::default(), Instant::now());
    let callers = connections.iter().cycle().take(CALLERS).map(|client| {
        let (mut calls, next) = (client.encryption(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let from = next.fetch_add(BATCH, Ordering::Relaxed);
                if from >= count {
                    return Ok::<_, Status>(kept);
                }
                let to = count.min(from + BATCH);
                batch(&mut calls, from..to, count.div_ceil(KEPT), &mut kept).await?;
                if from.is_multiple_of(50_000) {
                    tell(&format!("{from} data keys after {:.0?}", begun.elapsed()));
                }
            }
        })
    });
    let mut kept = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        kept.extend(joined(caller.await)?);
    }
    samples::write(&path, &kept)?;
    Ok(Arc::new(kept))
}

async fn batch(
    calls: &mut EncryptionClient,
    numbers: std::ops::Range<u64>,
    every: u64,
    kept: &mut Vec<Sample>,
) -> Result<(), Status> {
    let numbers: Vec<_> = numbers.filter_map(|number| usize::try_from(number).ok()).collect();
    let items = numbers.iter().map(|number| v1::EncryptItem {
        field_index: 0,
        partition: partition(*number),
        row: row(*number),
        plaintext: Some(value(VALUE_BYTES, *number)),
        allow_sealed_plaintext: false,
    });
    let request = v1::BatchEncryptRequest {
        fields: vec![field()],
        items: items.collect(),
        ..Default::default()
    };
    let reply = calls.batch_encrypt(request).await?.into_inner();
    for (number, result) in numbers.into_iter().zip(&reply.results) {
        let ciphertext = sealed(result).ok_or(Status::data_loss("an item was not sealed"))?;
        if (number as u64).is_multiple_of(every) {
            kept.push(Sample { number, ciphertext: ciphertext.clone() });
        }
    }
    Ok(())
}
