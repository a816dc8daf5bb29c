//! The input, read on a thread of its own: a pipe that says nothing must not keep Ctrl-C from being
//! heard. Records come in portions through a channel of two, so that memory stays flat.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use rustix::fs::{FileType, fstat, stat};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::records::{Reader, Record, RecordError};
use super::{BUFFER_BYTES, is_standard};
use crate::failure::{Exit, Failure};

/// Portions that wait.
const PORTIONS: usize = 2;
/// Most records in a portion, and bytes after which it is passed on.
const PORTION_RECORDS: usize = 512;
const PORTION_BYTES: usize = 256 * 1024;

/// Records that were read together, and how many bytes of the input were read up to their end.
struct Portion {
    records: Vec<Record>,
    consumed: u64,
}

/// The records of an input, one after another.
pub(super) struct Source {
    portions: Receiver<Result<Portion, Failure>>,
    ready: std::vec::IntoIter<Record>,
    consumed: u64,
}

impl Source {
    /// Begins to read. The thread ends with the input, or when this is dropped and the next portion
    /// is complete; it never keeps the process from ending.
    pub(super) fn open(path: &Path, delimiter: u8) -> Result<Self, Failure> {
        let (sender, portions) = channel(PORTIONS);
        let path = path.to_owned();
        let thread = std::thread::Builder::new().name("csv-input".to_owned());
        thread
            .spawn(move || {
                if let Err(failure) = read(&path, delimiter, &sender) {
                    // If nobody listens any more, the command has ended for another reason.
                    let _nobody_listens = sender.blocking_send(Err(failure));
                }
            })
            .map_err(|e| Failure::new(Exit::Internal, "IO_ERROR", format!("no thread: {e}")))?;
        Ok(Self { portions, ready: Vec::new().into_iter(), consumed: 0 })
    }

    /// The next record, or nothing at the end of the input.
    pub(super) async fn next(&mut self) -> Result<Option<Record>, Failure> {
        loop {
            if let Some(record) = self.ready.next() {
                return Ok(Some(record));
            }
            match self.portions.recv().await {
                Some(portion) => {
                    let portion = portion?;
                    self.ready = portion.records.into_iter();
                    self.consumed = portion.consumed;
                }
                None => return Ok(None),
            }
        }
    }

    /// Bytes of the input that were read up to about here.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }
}

fn read(
    path: &Path,
    delimiter: u8,
    sender: &Sender<Result<Portion, Failure>>,
) -> Result<(), Failure> {
    let broken = |error: RecordError| match error {
        RecordError::Io(error) => Failure::io("cannot read", path, &error),
        RecordError::Malformed { .. } => Failure::usage("CSV_INVALID", error.to_string()),
    };
    let mut reader = Reader::new(open(path)?, delimiter);
    loop {
        let (mut records, mut bytes, mut ended) = (Vec::new(), 0, false);
        while records.len() < PORTION_RECORDS && bytes < PORTION_BYTES && !ended {
            let mut record = Record::default();
            match reader.read(&mut record).map_err(broken)? {
                false => ended = true,
                true => {
                    bytes += record.byte_len();
                    records.push(record);
                }
            }
        }
        let portion = Portion { records, consumed: reader.consumed() };
        if sender.blocking_send(Ok(portion)).is_err() || ended {
            return Ok(());
        }
    }
}

fn open(path: &Path) -> Result<impl BufRead, Failure> {
    let input: Box<dyn Read> = if is_standard(path) {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).map_err(|e| Failure::io("cannot read", path, &e))?)
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, input))
}

/// Who may use a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    /// The permission bits.
    pub(super) mode: u32,
    /// The group that the group's bits are for.
    pub(super) group: u32,
}

/// Who may read the input, if it is a file: `-` may be one too.
pub(super) fn access(path: &Path) -> Option<Access> {
    let found = if is_standard(path) { fstat(std::io::stdin()) } else { stat(path) }.ok()?;
    let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    is_file.then_some(Access { mode: found.st_mode & 0o777, group: found.st_gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.csv");
        let first = |path: &Path| {
            let mut source = Source::open(path, b',').unwrap();
            runtime().block_on(source.next()).map(|r| r.is_some())
        };
        let reason = |path: &Path| first(path).unwrap_err().reason().to_owned();
        assert_eq!(reason(&path), "FILE_NOT_FOUND");
        std::fs::write(&path, "a,b\n\"open").unwrap();
        assert_eq!(reason(&path), "CSV_INVALID");
        std::fs::write(&path, "").unwrap();
        assert!(!first(&path).unwrap());
    }

    #[test]
    fn every_record_arrives_once_and_in_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let count = 3 * PORTION_RECORDS + 7;
        let text: String = (0..count).map(|n| format!("{n},x\n")).collect();
        std::fs::write(file.path(), &text).unwrap();
        let mut source = Source::open(file.path(), b',').unwrap();
        runtime().block_on(async {
            for n in 0..count {
                let record = source.next().await.unwrap().unwrap();
                assert_eq!(record.value(0).unwrap().as_ref(), n.to_string().as_bytes());
            }
            assert!(source.next().await.unwrap().is_none());
        });
        assert_eq!(source.consumed(), text.len() as u64);
    }
}
