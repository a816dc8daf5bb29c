//! Values that were sealed, one for each of some partitions, and the times that opening them took.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fieldseal_client::{EncryptionClient, v1};
use serde_json::json;
use tonic::Status;

use crate::echo::OVERHEAD_BYTES;
use crate::load::{field, reason, row, value};

/// Bytes of a value.
pub(super) const VALUE_BYTES: usize = 64;
const CIPHERTEXT_BYTES: usize = VALUE_BYTES + OVERHEAD_BYTES;

/// A sealed value. Partition, row and value follow from its number.
pub(crate) struct Sample {
    pub(super) number: usize,
    pub(super) ciphertext: Bytes,
}

pub(super) fn partition(number: usize) -> String {
    format!("person-{number:07}")
}

impl Sample {
    /// Opens it, checks the answer, and says how long that took.
    pub(super) async fn ask(&self, calls: &mut EncryptionClient) -> Result<Duration, Status> {
        let request = v1::DecryptRequest {
            field: Some(field()),
            partition: partition(self.number),
            row: row(self.number),
            ciphertext: self.ciphertext.clone(),
            reason: reason(),
        };
        let begun = Instant::now();
        let reply = calls.decrypt(request).await?.into_inner();
        let took = begun.elapsed();
        if reply.plaintext != Some(value(VALUE_BYTES, self.number)) {
            return Err(Status::data_loss("the answer is wrong"));
        }
        Ok(took)
    }
}

/// Writes samples beside the installation: number and ciphertext, one after the other.
pub(super) fn write(path: &Path, samples: &[Sample]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for sample in samples {
        file.write_all(&(sample.number as u64).to_le_bytes())?;
        file.write_all(&sample.ciphertext)?;
    }
    file.flush()
}

pub(super) fn read(path: &Path) -> io::Result<Vec<Sample>> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut samples, mut number) = (Vec::new(), [0; 8]);
    loop {
        match file.read_exact(&mut number) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(samples),
            other => other?,
        }
        let mut ciphertext = vec![0; CIPHERTEXT_BYTES];
        file.read_exact(&mut ciphertext)?;
        let number = usize::try_from(u64::from_le_bytes(number)).map_err(io::Error::other)?;
        samples.push(Sample { number, ciphertext: ciphertext.into() });
    }
}

/// How long calls took.
#[derive(Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(super) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// In microseconds.
    pub(super) fn json(&self) -> serde_json::Value {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |share: usize| {
            let place = (sorted.len() * share / 1000).min(sorted.len().saturating_sub(1));
            sorted.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e6)
        };
        json!({ "calls": sorted.len(), "p50": at(500), "p99": at(990), "p999": at(999) })
    }
}
