//! Records on their way through the sidecar, so many at a time that memory stays flat.

use std::io::Write;

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_crypto::field::{OVERHEAD_BYTES, encode_text};
use fieldseal_service::MAX_VALUE_BYTES;
use tonic::Code;

use super::Job;
use super::columns::Columns;
use super::records::{Record, encode};
use crate::connection::{Encryption, failure, item_failure};
use crate::failure::{Exit, Failure};

/// Most items in a call; the sidecar takes no more.
const MAX_ITEMS: usize = fieldseal_api::MAX_BATCH_ITEMS;
/// Bytes of values, rows and partitions in a call. With the last value that goes over it, and in
/// text form, a message still fits its limit.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// What an item takes in a message apart from these, about.
const ITEM_BYTES: usize = 32;
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

/// What a call failed with: as a whole, or one item, which says itself where it stands.
enum Trouble {
    Call(Failure),
    Item(Failure),
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

impl Cell {
    /// What it takes in a call, about: the values are not all of it.
    fn byte_len(&self) -> usize {
        self.value.len() + self.row.len() + self.partition.len() + ITEM_BYTES
    }
}

/// Records that are read, with the values that are to be exchanged.
pub(crate) struct Batch<'a> {
    job: &'a Job,
    columns: &'a Columns,
    records: Vec<Record>,
    cells: Vec<Cell>,
    /// Bytes of the records that wait, and of the cells in a call.
    waiting: usize,
    bytes: usize,
    pub(crate) summary: Summary,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(job: &'a Job, columns: &'a Columns) -> Self {
        let (records, cells, summary) = (Vec::new(), Vec::new(), Summary::default());
        Self { job, columns, records, cells, waiting: 0, bytes: 0, summary }
    }

    /// Whether the batch should be sent before another record is added.
    pub(crate) fn is_full(&self) -> bool {
        let next = self.columns.values.len();
        self.cells.len() + next > MAX_ITEMS
            || self.waiting >= MAX_WAITING
            || self.bytes >= MAX_BYTES
    }

    /// Adds a record.
    pub(crate) fn add(&mut self, record: Record) -> Result<(), Failure> {
        self.waiting += record.byte_len();
        let added = self.add_cells(&record, self.records.len());
        self.records.push(record);
        added
    }

    fn add_cells(&mut self, record: &Record, index: usize) -> Result<(), Failure> {
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
            let value = record.value(place).unwrap_or_default();
            if value.len() > self.longest() {
                let name = self.job.fields.get(column).map_or("", |f| f.column.as_str());
                let what = format!(
                    "line {line}, column {name}: a value has at most {MAX_VALUE_BYTES} bytes, and \
                     this field has {}",
                    value.len()
                );
                return Err(Failure::usage("VALUE_TOO_LONG", what));
            }
            let value = Bytes::from(value.into_owned());
            self.summary.values += 1;
            self.summary.empty += u64::from(value.is_empty());
            self.summary.longest = self.summary.longest.max(value.len().try_into().unwrap_or(0));
            let (row, partition) = (row.clone(), partition.clone());
            let new = Vec::new();
            let cell = Cell { record: index, place, column, value, row, partition, new };
            self.bytes += cell.byte_len();
            self.cells.push(cell);
        }
        Ok(())
    }

    /// Most bytes of a field: a value, or its ciphertext as base64url text.
    fn longest(&self) -> usize {
        match self.job.direction {
            Direction::Encrypt => MAX_VALUE_BYTES,
            Direction::Decrypt(_) => {
                "fs1.".len() + (MAX_VALUE_BYTES + OVERHEAD_BYTES).div_ceil(3) * 4
            }
        }
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
        if text.is_empty() {
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
            let lines = self.lines(now);
            self.exchange(client, now).await.map_err(|e| match e {
                Trouble::Item(failure) => failure,
                Trouble::Call(failure) => failure.at(lines),
            })?;
            self.summary.calls += 1;
            rest = later;
        }
        self.write(&cells, out).map_err(|e| Failure::io("cannot write", &self.job.output, &e))?;
        cells.clear();
        self.cells = cells;
        self.records.clear();
        (self.waiting, self.bytes) = (0, 0);
        Ok(())
    }

    /// Where the records of these cells stand in the file.
    fn lines(&self, cells: &[Cell]) -> String {
        let line = |cell: Option<&Cell>| {
            cell.and_then(|c| self.records.get(c.record)).map_or(0, Record::line)
        };
        format!("lines {} to {}", line(cells.first()), line(cells.last()))
    }

    fn write(&self, cells: &[Cell], out: &mut impl Write) -> std::io::Result<()> {
        // Cells stand in the order of their records, and in each in the order of the arguments.
        let mut cells = cells;
        for (index, record) in self.records.iter().enumerate() {
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
    async fn exchange(&self, client: &mut Encryption, cells: &mut [Cell]) -> Result<(), Trouble> {
        match &self.job.direction {
            Direction::Encrypt => self.encrypt(client, cells).await,
            Direction::Decrypt(reason) => self.decrypt(client, cells, reason).await,
        }
    }

    async fn encrypt(&self, client: &mut Encryption, cells: &mut [Cell]) -> Result<(), Trouble> {
        let items = cells.iter().map(|cell| v1::EncryptItem {
            field_index: u32::try_from(cell.column).unwrap_or(u32::MAX),
            partition: cell.partition.clone(),
            row: cell.row.clone(),
            plaintext: Some(value(&cell.value)),
            allow_sealed_plaintext: false,
        });
        let request = v1::BatchEncryptRequest {
            fields: self.job.fields.clone(),
            items: items.collect(),
            ..Default::default()
        };
        let reply = client.batch_encrypt(request).await;
        let reply = reply.map_err(|s| Trouble::Call(failure(&s)))?.into_inner();
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
    ) -> Result<(), Trouble> {
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
        let reply = client.batch_decrypt(request).await;
        let reply = reply.map_err(|s| Trouble::Call(failure(&s)))?.into_inner();
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
    fn failed(&self, cell: &Cell, failure: Failure) -> Trouble {
        let line = self.records.get(cell.record).map_or(0, Record::line);
        let column = self.job.fields.get(cell.column).map_or("", |f| f.column.as_str());
        Trouble::Item(failure.at(format_args!("line {line}, column {column}")))
    }
}

/// How many of these cells go into one call.
fn call_size(cells: &[Cell]) -> usize {
    let mut bytes = 0;
    let fits = cells.iter().take(MAX_ITEMS).take_while(|cell| {
        bytes += cell.byte_len();
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

fn same_length(asked: usize, answered: usize) -> Result<(), Trouble> {
    if asked == answered { Ok(()) } else { Err(Trouble::Call(no_answer())) }
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
        assert_eq!(call_size(&cells(&[1 << 20, (1 << 20) - 64, 1])), 2);
        assert_eq!(call_size(&cells(&[3 << 20, 1])), 1);
        assert_eq!(call_size(&cells(&[7])), 1);
    }

    #[test]
    fn rows_and_partitions_count_too() {
        let mut cells = cells(&[0; 1000]);
        for cell in &mut cells {
            cell.row = "r".repeat(1024);
            cell.partition = "p".repeat(1024);
        }
        assert!(call_size(&cells) * 2048 <= MAX_BYTES);
        assert!(call_size(&cells) > 900);
    }

    /// What becomes of these lines; the columns are id, tenant and value.
    fn added(lines: &str, direction: Direction) -> Result<usize, String> {
        use clap::Parser as _;

        use crate::arguments::{Arguments, Command, CsvCommand};
        use crate::csv::records::Reader;

        let line = "fieldseal csv encrypt in out --key k --table t --column value --row-column id \
                    --partition-column tenant";
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Csv(CsvCommand::Encrypt(csv)) = arguments.command else { panic!() };
        let columns = Columns { width: 3, values: vec![2], row: Some(0), partition: Some(1) };
        let job = Job::new(csv, direction);
        let mut batch = Batch::new(&job, &columns);
        let mut reader = Reader::new(lines.as_bytes(), b',');
        loop {
            let mut record = Record::default();
            if !reader.read(&mut record).unwrap() {
                assert_eq!(batch.bytes, batch.cells.iter().map(Cell::byte_len).sum::<usize>());
                return Ok(batch.cells.len());
            }
            batch.add(record).map_err(|f| format!("{}: {}", f.reason(), f.what()))?;
        }
    }

    #[test]
    fn what_a_value_cannot_be_bound_to_is_refused_with_its_line() {
        for (lines, said) in [
            ("1,a,x\n2,,x\n", "RECORD_INVALID: line 2: the partition column is empty"),
            ("1,a,x\n,b,x\n", "RECORD_INVALID: line 2: the row column is empty"),
            ("1,a,\"x\ny\"\n2,a\n", "RECORD_INVALID: line 3: the record has 2 fields"),
        ] {
            let refused = added(lines, Direction::Encrypt).unwrap_err();
            assert!(refused.starts_with(said), "{refused}");
        }
        assert_eq!(added("1,a,x\n2,b,\n", Direction::Encrypt), Ok(2));
    }

    #[test]
    fn a_value_that_is_too_long_is_refused_with_its_line_before_any_call() {
        let lines = |length: usize| format!("1,a,x\n2,a,{}\n", "v".repeat(length));
        assert_eq!(added(&lines(MAX_VALUE_BYTES), Direction::Encrypt), Ok(2));
        let refused = added(&lines(MAX_VALUE_BYTES + 1), Direction::Encrypt).unwrap_err();
        assert!(refused.starts_with("VALUE_TOO_LONG: line 2, column value: "), "{refused}");
        let decrypt = || Direction::Decrypt(v1::AccessReason::default());
        let longest = encode_text(&vec![0; MAX_VALUE_BYTES + OVERHEAD_BYTES]).len();
        assert_eq!(added(&lines(longest), decrypt()), Ok(2));
        let refused = added(&lines(2 * MAX_VALUE_BYTES), decrypt()).unwrap_err();
        assert!(refused.starts_with("VALUE_TOO_LONG: line 2"), "{refused}");
    }
}
