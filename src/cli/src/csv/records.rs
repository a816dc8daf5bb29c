//! CSV (RFC 4180) record by record, every byte kept: a file that passes through without a change is
//! the same file. The usual readers forget which fields were quoted, and a quoted `"\N"` is text
//! where a bare `\N` is a NULL.

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::ops::Range;

/// Some programs begin a file with a byte order mark (RFC 3629, section 6). It belongs to no field.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Most bytes in one record. A value has at most 1 MiB, so that several fit.
pub(crate) const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("line {line}: {what}")]
    Malformed { line: u64, what: &'static str },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A record as it stands in the file. Reuse it to save allocations.
#[derive(Default)]
pub(crate) struct Record {
    raw: Vec<u8>,
    fields: Vec<Range<usize>>,
    line: u64,
}

impl Record {
    /// The line on which it begins, counted from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn byte_len(&self) -> usize {
        self.raw.len()
    }

    /// True for an empty line.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self.fields.as_slice(), [only] if only.is_empty())
    }

    /// A field as it stands in the file, quotes included.
    pub(crate) fn raw_field(&self, index: usize) -> Option<&[u8]> {
        self.raw.get(self.fields.get(index)?.clone())
    }

    /// Whether a field stands in quotes.
    pub(crate) fn is_quoted(&self, index: usize) -> bool {
        self.raw_field(index).is_some_and(|raw| raw.first() == Some(&b'"'))
    }

    /// What a field means, without its quotes.
    pub(crate) fn value(&self, index: usize) -> Option<Cow<'_, [u8]>> {
        let raw = self.raw_field(index)?;
        let Some(inner) = raw.strip_prefix(b"\"").and_then(|r| r.strip_suffix(b"\"")) else {
            return Some(Cow::Borrowed(raw));
        };
        if !inner.contains(&b'"') {
            return Some(Cow::Borrowed(inner));
        }
        let mut value = Vec::with_capacity(inner.len());
        let mut bytes = inner.iter();
        while let Some(byte) = bytes.next() {
            value.push(*byte);
            if *byte == b'"' {
                bytes.next();
            }
        }
        Some(Cow::Owned(value))
    }

    /// Writes the record with some fields exchanged: `replaced(index)` is the new text of a field,
    /// ready for the file, or nothing to leave it as it is.
    pub(crate) fn write<'a>(
        &self,
        out: &mut impl io::Write,
        mut replaced: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> io::Result<()> {
        let mut written = 0;
        for (index, field) in self.fields.iter().enumerate() {
            let Some(new) = replaced(index) else { continue };
            out.write_all(self.raw.get(written..field.start).unwrap_or_default())?;
            out.write_all(new)?;
            written = field.end;
        }
        out.write_all(self.raw.get(written..).unwrap_or_default())
    }

    fn clear(&mut self, line: u64) {
        self.raw.clear();
        self.fields.clear();
        self.line = line;
    }

    fn end_field(&mut self, start: &mut usize, end: usize) {
        self.fields.push(*start..end);
        *start = self.raw.len();
    }
}

/// Makes a field of a value. Quoted if it was quoted before or must be: RFC 4180, and so that it is
/// not read as NULL.
pub(crate) fn encode(value: &[u8], quoted: bool, delimiter: u8, null: Option<&[u8]>) -> Vec<u8> {
    let special = |b: &u8| matches!(*b, b'"' | b'\n' | b'\r') || *b == delimiter;
    if !quoted && null != Some(value) && !value.iter().any(special) {
        return value.to_vec();
    }
    let mut field = Vec::with_capacity(value.len() + 2);
    field.push(b'"');
    for byte in value {
        if *byte == b'"' {
            field.push(b'"');
        }
        field.push(*byte);
    }
    field.push(b'"');
    field
}

/// Where in a field the reader stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Bare,
    Quoted,
    /// After a quote inside quotes: the field's end, or the first half of a doubled one.
    Quote,
    /// After the closing quote and a carriage return: only a line feed may follow.
    QuoteReturn,
}

/// Reads records. Lines end with LF or CR LF; each keeps its own ending.
pub(crate) struct Reader<R> {
    input: R,
    delimiter: u8,
    line: u64,
    consumed: u64,
    /// Whether a byte order mark may still come.
    at_beginning: bool,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(input: R, delimiter: u8) -> Self {
        Self { input, delimiter, line: 1, consumed: 0, at_beginning: true }
    }

    /// Bytes read so far.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Reads the next record; false at the end of the file.
    pub(crate) fn read(&mut self, record: &mut Record) -> Result<bool, RecordError> {
        record.clear(self.line);
        let (mut at, mut start) = (At::Start, 0);
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if available.is_empty() {
                return finish(record, at, start);
            }
            let (mut used, mut ended) = (0, false);
            for &byte in available {
                used += 1;
                record.raw.push(byte);
                self.line += u64::from(byte == b'\n');
                at = step(record, at, byte, self.delimiter, &mut start)?;
                if self.at_beginning && record.raw.len() == MARK.len() {
                    self.at_beginning = false;
                    if record.raw == MARK {
                        (at, start) = (At::Start, MARK.len());
                    }
                }
                if byte == b'\n' && at == At::Start {
                    ended = true;
                    break;
                }
            }
            self.input.consume(used);
            self.consumed += u64::try_from(used).unwrap_or(u64::MAX);
            if ended {
                self.at_beginning = false;
                return Ok(true);
            }
            if record.raw.len() > MAX_RECORD_BYTES {
                return Err(malformed(record, "the record is longer than 16 MiB"));
            }
        }
    }
}

/// One byte further. The byte stands at the end of the record already.
fn step(
    record: &mut Record,
    at: At,
    byte: u8,
    delimiter: u8,
    start: &mut usize,
) -> Result<At, RecordError> {
    let here = record.raw.len() - 1;
    let next = match (at, byte) {
        (At::Start, b'"') => At::Quoted,
        (At::Quoted, b'"') => At::Quote,
        (At::Quote, b'"') | (At::Quoted, _) => At::Quoted,
        (At::Start | At::Bare, b'\n') => {
            let content = record.raw.get(*start..here).unwrap_or_default();
            let end = if content.last() == Some(&b'\r') { here - 1 } else { here };
            record.end_field(start, end);
            At::Start
        }
        (At::Quote, b'\n') => {
            record.end_field(start, here);
            At::Start
        }
        (At::QuoteReturn, b'\n') => {
            record.end_field(start, here - 1);
            At::Start
        }
        (At::Start | At::Bare | At::Quote, b) if b == delimiter => {
            record.end_field(start, here);
            At::Start
        }
        (At::Start | At::Bare, _) => At::Bare,
        (At::Quote, b'\r') => At::QuoteReturn,
        (At::Quote | At::QuoteReturn, _) => {
            return Err(malformed(record, "text follows a closing quote"));
        }
    };
    Ok(next)
}

/// The file's last record need not end its line.
fn finish(record: &mut Record, at: At, mut start: usize) -> Result<bool, RecordError> {
    match at {
        At::Quoted => return Err(malformed(record, "a quote is never closed")),
        At::QuoteReturn => return Err(malformed(record, "text follows a closing quote")),
        At::Start if record.raw.is_empty() => return Ok(false),
        At::Start | At::Bare | At::Quote => {}
    }
    let end = record.raw.len();
    record.end_field(&mut start, end);
    Ok(true)
}

fn malformed(record: &Record, what: &'static str) -> RecordError {
    RecordError::Malformed { line: record.line, what }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(text: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, RecordError> {
        // A buffer of three bytes: no state may hide in the buffer's borders.
        let mut reader = Reader::new(io::BufReader::with_capacity(3, text), b',');
        let (mut record, mut all) = (Record::default(), Vec::new());
        while reader.read(&mut record)? {
            all.push((0..record.len()).map(|i| record.value(i).unwrap().into_owned()).collect());
        }
        assert_eq!(reader.consumed(), text.len() as u64);
        Ok(all)
    }

    #[test]
    fn broken_quoting_is_refused_with_its_line() {
        for (text, line) in [
            ("a,b\n\"open", 2),
            ("a,\"b\"c\n", 1),
            ("a\n\"x\ny\"z\n", 2),
            ("\"a\"\rb\n", 1),
            ("\"a\"\r", 1),
        ] {
            match read_all(text.as_bytes()) {
                Err(RecordError::Malformed { line: at, .. }) => assert_eq!(at, line, "{text:?}"),
                _ => panic!("{text:?} was read"),
            }
        }
    }

    #[test]
    fn fields_are_what_rfc_4180_says() {
        let text = "id,note\r\n1,\"two\nlines, \"\"quoted\"\"\"\r\n2,\n3,\"\"\n4,a\"b";
        let rows = read_all(text.as_bytes()).unwrap();
        let shown: Vec<Vec<_>> =
            rows.iter().map(|r| r.iter().map(|f| String::from_utf8_lossy(f)).collect()).collect();
        let expected: [[&str; 2]; 5] =
            [["id", "note"], ["1", "two\nlines, \"quoted\""], ["2", ""], ["3", ""], ["4", "a\"b"]];
        assert_eq!(shown, expected);
    }

    #[test]
    fn one_byte_order_mark_belongs_to_no_field_and_stays() {
        for (text, fields) in [
            ("\u{feff}\"id\",\"email\"\n", ["id", "email"]),
            ("\u{feff}id,email\n", ["id", "email"]),
            ("\u{feff}\u{feff}id,email\n", ["\u{feff}id", "email"]),
        ] {
            let mut reader = Reader::new(io::BufReader::with_capacity(2, text.as_bytes()), b',');
            let (mut record, mut out) = (Record::default(), Vec::new());
            assert!(reader.read(&mut record).unwrap());
            let found = [record.value(0).unwrap(), record.value(1).unwrap()];
            assert_eq!(found.map(|f| String::from_utf8_lossy(&f).into_owned()), fields);
            record.write(&mut out, |_| None).unwrap();
            assert_eq!(out, text.as_bytes());
        }
        let later = read_all("a,b\n\u{feff}c,d\n".as_bytes()).unwrap();
        assert_eq!(later[1][0], "\u{feff}c".as_bytes(), "in the middle it is text");
        let short = read_all(b"a\n\xef\xbb\xbfc\n").unwrap();
        assert_eq!(short[1][0], b"\xef\xbb\xbfc");
    }

    #[test]
    fn an_endless_record_is_refused() {
        let endless = io::BufReader::new(io::Read::take(io::repeat(b'x'), 1 << 26));
        let mut record = Record::default();
        assert!(Reader::new(endless, b',').read(&mut record).is_err());
        assert!(record.byte_len() < MAX_RECORD_BYTES + (1 << 20));
    }

    #[test]
    fn what_would_read_as_null_is_quoted() {
        assert_eq!(encode(b"\\N", false, b',', Some(b"\\N")), b"\"\\N\"");
        assert_eq!(encode(b"\\N", false, b',', None), b"\\N");
        assert_eq!(encode(b"", false, b',', Some(b"")), b"\"\"");
        assert_eq!(encode(b"a;b", false, b';', None), b"\"a;b\"");
        assert_eq!(encode(b"plain", true, b',', None), b"\"plain\"");
    }

    proptest! {
        #[test]
        fn any_text_that_is_read_is_written_back_as_it_was(
            text in "[a\",\r\n\\\\N]{0,40}",
        ) {
            let mut reader = Reader::new(text.as_bytes(), b',');
            let (mut record, mut out) = (Record::default(), Vec::new());
            while let Ok(true) = reader.read(&mut record) {
                record.write(&mut out, |_| None).unwrap();
            }
            prop_assert!(text.as_bytes().starts_with(&out));
            if read_all(text.as_bytes()).is_ok() {
                prop_assert_eq!(text.as_bytes(), out.as_slice());
            }
        }

        #[test]
        fn what_the_usual_writer_writes_is_read_alike(
            rows in prop::collection::vec(prop::collection::vec(".{0,12}|[\",\n\r]{0,4}", 2), 1..5),
        ) {
            let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = writer.into_inner().unwrap();
            // What reads as a byte order mark at the beginning is one.
            prop_assume!(!text.starts_with(MARK));
            let read = read_all(&text).unwrap();
            let expected: Vec<Vec<Vec<u8>>> =
                rows.iter().map(|r| r.iter().map(|f| f.clone().into_bytes()).collect()).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn an_encoded_value_reads_as_itself(value in prop::collection::vec(any::<u8>(), 0..30)) {
            let mut line = encode(&value, false, b',', Some(b"\\N"));
            line.extend_from_slice(b",x\n");
            let mut record = Record::default();
            prop_assert!(Reader::new(line.as_slice(), b',').read(&mut record).unwrap());
            let read = record.value(0).unwrap().into_owned();
            prop_assert_eq!(read, value);
        }
    }
}
