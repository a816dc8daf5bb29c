//! Records on their way through the sidecar, so many at a time that memory stays flat.

use std::io::Write;

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_crypto::field::encode_text;
use tonic::Code;

use super::Job;
use super::columns::Columns;
use super::records::{Record, encode};
use crate::connection::{Encryption, failure, item_failure};
use crate::failure::{Exit, Failure};

/// Most items in a call; the sidecar takes no more.
const MAX_ITEMS: usize = fieldseal_api::MAX_BATCH_ITEMS;
/// Bytes of values in a call. A reply in text form still fits a message.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of records that wait for their values.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// Which way values go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Plaintext becomes `fs1.` text.
    Encrypt,
    /// Ciphertext becomes plaintext, for this reason.
    Decrypt(v1::AccessReason),
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    pub(crate) records: u64,
    pub(crate) values: u64,
    pub(crate) empty: u64,
    pub(crate) nulls: u64,
    pub(crate) calls: u64,
    pub(crate) longest: u64,
}

/// A value that is to be exchanged.
struct Cell {
    record: usize,
    place: usize,
    /// Which of the job's columns.
    column: usize,
    value: Bytes,
    row: String,
    partition: String,
    /// The new field, ready for the file.
    new: Vec<u8>,
}

/// Records that are read, with the values that are to be exchanged.
pub(crate) struct Batch<'a> {
    job: &'a Job,
    columns: &'a Columns,
    records: Vec<Record>,
    used: usize,
    cells: Vec<Cell>,
    waiting: usize,
    pub(crate) summary: Summary,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(job: &'a Job, columns: &'a Columns) -> Self {
        let summary = Summary::default();
        Self { job, columns, records: Vec::new(), used: 0, cells: Vec::new(), waiting: 0, summary }
    }

    /// Whether the batch should be sent before another record is added.
    pub(crate) fn is_full(&self) -> bool {
        let next = self.columns.values.len();
        self.cells.len() + next > MAX_ITEMS
            || self.waiting >= MAX_WAITING
            || self.cells.iter().map(|c| c.value.len()).sum::<usize>() >= MAX_BYTES
    }

    /// A record to read into; [`Self::add`] then adds it.
    pub(crate) fn next_record(&mut self) -> &mut Record {
        if self.used == self.records.len() {
            self.records.push(Record::default());
        }
        let last = self.used;
        // A record was just pushed if there was none.
        #[expect(clippy::indexing_slicing, reason = "used is below the length")]
        &mut self.records[last]
    }

    /// Adds the record that was read into [`Self::next_record`].
    pub(crate) fn add(&mut self) -> Result<(), Failure> {
        let index = self.used;
        let Some(record) = self.records.get(index) else { return Ok(()) };
        self.used += 1;
        self.waiting += record.byte_len();
        let line = record.line();
        if record.is_blank() && self.columns.width > 1 {
            return Ok(());
        }
        if record.len() != self.columns.width {
            let (has, wanted) = (record.len(), self.columns.width);
            return Err(Failure::usage(
                "RECORD_INVALID",
                format!("line {line}: the record has {has} fields, and the header has {wanted}"),
            ));
        }
        self.summary.records += 1;
        let name = |place: Option<usize>, what| match place {
            Some(place) => self.name(record, place, what),
            None => Ok(String::new()),
        };
        let row = name(self.columns.row, "row")?;
        let partition = match &self.job.partition {
            Some(fixed) => fixed.clone(),
            None => name(self.columns.partition, "partition")?,
        };
        for (column, &place) in self.columns.values.iter().enumerate() {
            if self.is_null(record, place) {
                self.summary.nulls += 1;
                continue;
            }
            let value = Bytes::from(record.value(place).unwrap_or_default().into_owned());
            self.summary.values += 1;
            self.summary.empty += u64::from(value.is_empty());
            self.summary.longest = self.summary.longest.max(value.len().try_into().unwrap_or(0));
            let (row, partition) = (row.clone(), partition.clone());
            let new = Vec::new();
            self.cells.push(Cell { record: index, place, column, value, row, partition, new });
        }
        Ok(())
    }

    fn is_null(&self, record: &Record, place: usize) -> bool {
        !record.is_quoted(place)
            && self.job.null.as_deref().is_some_and(|null| record.raw_field(place) == Some(null))
    }

    /// The text of a row or partition column.
    fn name(&self, record: &Record, place: usize, what: &str) -> Result<String, Failure> {
        let broken = |why: &str| {
            let line = record.line();
            Failure::usage("RECORD_INVALID", format!("line {line}: the {what} column {why}"))
        };
        if self.is_null(record, place) {
            return Err(broken("is NULL, so that values cannot be bound to it"));
        }
        let value = record.value(place).unwrap_or_default().into_owned();
        let text = String::from_utf8(value).map_err(|_| broken("is not UTF-8"))?;
        if text.is_empty() && what == "row" {
            return Err(broken("is empty, so that values cannot be bound to it"));
        }
        Ok(text)
    }

    /// Has all values exchanged, writes the records, and begins anew.
    pub(crate) async fn flush(
        &mut self,
        client: &mut Encryption,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let mut cells = std::mem::take(&mut self.cells);
        let mut rest = cells.as_mut_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(call_size(rest));
            self.exchange(client, now).await?;
            self.summary.calls += 1;
            rest = later;
        }
        self.write(&cells, out).map_err(|e| Failure::io("cannot write", &self.job.output, &e))?;
        cells.clear();
        self.cells = cells;
        (self.used, self.waiting) = (0, 0);
        Ok(())
    }

    fn write(&self, cells: &[Cell], out: &mut impl Write) -> std::io::Result<()> {
        // Cells stand in the order of their records, and in each in the order of the arguments.
        let mut cells = cells;
        for (index, record) in self.records.iter().take(self.used).enumerate() {
            let count = cells.iter().take_while(|c| c.record == index).count();
            let (own, later) = cells.split_at(count);
            record.write(out, |place| {
                own.iter().find(|c| c.place == place).map(|c| c.new.as_slice())
            })?;
            cells = later;
        }
        Ok(())
    }

    /// One call.
    async fn exchange(&self, client: &mut Encryption, cells: &mut [Cell]) -> Result<(), Failure> {
        match &self.job.direction {
            Direction::Encrypt => self.encrypt(client, cells).await,
            Direction::Decrypt(reason) => self.decrypt(client, cells, reason).await,
        }
    }

    async fn encrypt(&self, client: &mut Encryption, cells: &mut [Cell]) -> Result<(), Failure> {
        let items = cells.iter().map(|cell| v1::EncryptItem {
            field_index: u32::try_from(cell.column).unwrap_or(u32::MAX),
            partition: cell.partition.clone(),
            row: cell.row.clone(),
            plaintext: Some(value(&cell.value)),
            allow_sealed_plaintext: false,
        });
        let request =
            v1::BatchEncryptRequest { fields: self.job.fields.clone(), items: items.collect() };
        let reply = client.batch_encrypt(request).await.map_err(|s| failure(&s))?.into_inner();
        same_length(cells.len(), reply.results.len())?;
        for (cell, result) in cells.iter_mut().zip(reply.results) {
            let sealed = match result.result {
                Some(v1::encrypt_result::Result::Ok(sealed)) => sealed,
                Some(v1::encrypt_result::Result::Error(e)) => {
                    return Err(self.failed(cell, item_failure(&e)));
                }
                None => return Err(self.failed(cell, no_answer())),
            };
            let text = encode_text(&sealed.ciphertext);
            cell.new = self.field(cell, text.as_bytes());
        }
        Ok(())
    }

    async fn decrypt(
        &self,
        client: &mut Encryption,
        cells: &mut [Cell],
        reason: &v1::AccessReason,
    ) -> Result<(), Failure> {
        let items = cells.iter().map(|cell| v1::DecryptItem {
            field_index: u32::try_from(cell.column).unwrap_or(u32::MAX),
            partition: cell.partition.clone(),
            row: cell.row.clone(),
            ciphertext: cell.value.clone(),
        });
        let request = v1::BatchDecryptRequest {
            fields: self.job.fields.clone(),
            items: items.collect(),
            reason: Some(reason.clone()),
        };
        let reply = client.batch_decrypt(request).await.map_err(|s| failure(&s))?.into_inner();
        same_length(cells.len(), reply.results.len())?;
        for (cell, result) in cells.iter_mut().zip(reply.results) {
            let opened = match result.result {
                Some(v1::decrypt_result::Result::Ok(opened)) => opened,
                Some(v1::decrypt_result::Result::Error(e)) => {
                    return Err(self.failed(cell, item_failure(&e)));
                }
                None => return Err(self.failed(cell, no_answer())),
            };
            let plaintext = match opened.plaintext.and_then(|v| v.kind) {
                Some(v1::value::Kind::BytesValue(bytes)) => bytes,
                Some(v1::value::Kind::StringValue(text)) => Bytes::from(text),
                None => return Err(self.failed(cell, no_answer())),
            };
            cell.new = self.field(cell, &plaintext);
        }
        Ok(())
    }

    /// A value as it stands in the new file.
    fn field(&self, cell: &Cell, value: &[u8]) -> Vec<u8> {
        let quoted = self.records.get(cell.record).is_some_and(|r| r.is_quoted(cell.place));
        encode(value, quoted, self.job.delimiter, self.job.null.as_deref())
    }

    /// Says in which line and column it was; the row's name is not told, it may name a person.
    fn failed(&self, cell: &Cell, failure: Failure) -> Failure {
        let line = self.records.get(cell.record).map_or(0, Record::line);
        let column = self.job.fields.get(cell.column).map_or("", |f| f.column.as_str());
        failure.at(format_args!("line {line}, column {column}"))
    }
}

/// How many of these cells go into one call.
fn call_size(cells: &[Cell]) -> usize {
    let mut bytes = 0;
    let fits = cells.iter().take(MAX_ITEMS).take_while(|cell| {
        bytes += cell.value.len();
        bytes <= MAX_BYTES
    });
    fits.count().max(1).min(cells.len())
}

/// Text is sealed as text, so that an application gets it back as text.
fn value(bytes: &Bytes) -> v1::Value {
    let kind = match std::str::from_utf8(bytes) {
        Ok(text) => v1::value::Kind::StringValue(text.to_owned()),
        Err(_) => v1::value::Kind::BytesValue(bytes.clone()),
    };
    v1::Value { kind: Some(kind) }
}

fn same_length(asked: usize, answered: usize) -> Result<(), Failure> {
    if asked == answered { Ok(()) } else { Err(no_answer()) }
}

fn no_answer() -> Failure {
    let mut failure = Failure::refused(Code::Internal, "", "the sidecar left an item out", None);
    failure = failure.advise("is the endpoint a Fieldseal of this version?");
    debug_assert_eq!(failure.exit(), Exit::Internal);
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(lengths: &[usize]) -> Vec<Cell> {
        let one = |&length: &usize| Cell {
            record: 0,
            place: 0,
            column: 0,
            value: Bytes::from(vec![0; length]),
            row: String::new(),
            partition: String::new(),
            new: Vec::new(),
        };
        lengths.iter().map(one).collect()
    }

    #[test]
    fn a_call_stays_within_the_limits_and_takes_at_least_one_item() {
        assert_eq!(call_size(&cells(&[1; 1500])), 1000);
        assert_eq!(call_size(&cells(&[1 << 20, 1 << 20, 1])), 2);
        assert_eq!(call_size(&cells(&[3 << 20, 1])), 1);
        assert_eq!(call_size(&cells(&[7])), 1);
    }
}
