//! `csv encrypt` and `csv decrypt`: columns of a file of any size, in flat memory. The new file
//! appears when it is complete; if one value fails there is none.

mod batch;
mod columns;
mod progress;
mod records;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use fieldseal_api::v1;
use tempfile::NamedTempFile;

use crate::arguments::{CsvArguments, CsvCommand};
use crate::connection::{self, Encryption};
use crate::failure::{Exit, Failure};
use crate::output::{Output, counted, grouped, note};
use crate::values;

use batch::Batch;
pub(crate) use batch::{Direction, Summary};
use columns::Columns;
pub(crate) use progress::Progress;
use records::Reader;
pub(crate) use records::RecordError;

/// Bytes that are read and written at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// What is to be done with a file.
pub(crate) struct Job {
    arguments: CsvArguments,
    direction: Direction,
    fields: Vec<v1::Field>,
    partition: Option<String>,
    null: Option<Vec<u8>>,
    delimiter: u8,
    output: PathBuf,
}

impl Job {
    pub(crate) fn new(arguments: CsvArguments, direction: Direction) -> Self {
        let column = |column: &String| values::field(&arguments.field, column);
        Self {
            fields: arguments.column.iter().map(column).collect(),
            partition: arguments.partition.clone(),
            null: arguments.null.clone().map(String::into_bytes),
            delimiter: arguments.delimiter,
            output: arguments.destination.clone(),
            direction,
            arguments,
        }
    }
}

/// Runs `csv …`.
pub(crate) async fn run(command: CsvCommand, output: &Output) -> Result<(), Failure> {
    let (arguments, direction) = match command {
        CsvCommand::Encrypt(arguments) => (arguments, Direction::Encrypt),
        CsvCommand::Decrypt { csv, reason } => (csv, Direction::Decrypt(values::reason(&reason))),
    };
    let done = match &direction {
        Direction::Encrypt => "encrypted",
        Direction::Decrypt(_) => "decrypted",
    };
    let job = Job::new(arguments, direction);
    let mut client = connection::connect().await?.encryption();
    let mut progress = Progress::begin(&job.arguments.input, done);
    let summary = tokio::select! {
        ended = transform(&job, &mut client, &mut progress) => ended?,
        interrupted = tokio::signal::ctrl_c() => return Err(stopped(interrupted.err())),
    };
    progress.end();
    report(output, &job, done, &summary)
}

fn stopped(error: Option<std::io::Error>) -> Failure {
    match error {
        None => Failure::new(Exit::Interrupted, "INTERRUPTED", "interrupted; nothing was written"),
        Some(error) => {
            let what = format!("signals cannot be received: {error}");
            Failure::new(Exit::Internal, "IO_ERROR", what)
        }
    }
}

fn report(output: &Output, job: &Job, done: &str, summary: &Summary) -> Result<(), Failure> {
    if output.is_json() {
        let json = || {
            serde_json::json!({
                "output": job.output, "records": summary.records, "values": summary.values,
                "empty": summary.empty, "nulls": summary.nulls, "calls": summary.calls,
            })
        };
        return output.show(json, String::new);
    }
    note(&format!(
        "{done} {} of {} in {}; {} left as they are; wrote {}",
        counted(summary.values, "value"),
        counted(summary.records, "record"),
        counted(summary.calls, "call"),
        match summary.nulls {
            0 => "no NULLs".to_owned(),
            nulls => format!("{} NULLs", grouped(nulls)),
        },
        job.output.display(),
    ));
    Ok(())
}

/// Does a job. If it fails, or is dropped half-way, there is no new file and no temporary one.
pub(crate) async fn transform(
    job: &Job,
    client: &mut Encryption,
    progress: &mut Progress,
) -> Result<Summary, Failure> {
    let input = open(&job.arguments.input)?;
    let mut staged = stage(job)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, staged.as_file_mut());
    let summary = copy(job, client, input, &mut out, progress).await?;
    let writing = |e: &std::io::Error| Failure::io("cannot write", &job.output, e);
    out.flush().map_err(|e| writing(&e))?;
    drop(out);
    publish(job, staged)?;
    Ok(summary)
}

async fn copy(
    job: &Job,
    client: &mut Encryption,
    input: impl BufRead,
    out: &mut impl std::io::Write,
    progress: &mut Progress,
) -> Result<Summary, Failure> {
    let broken = |error: RecordError| match error {
        RecordError::Io(error) => Failure::io("cannot read", &job.arguments.input, &error),
        RecordError::Malformed { .. } => Failure::usage("CSV_INVALID", error.to_string()),
    };
    let mut reader = Reader::new(input, job.delimiter);
    let mut header = records::Record::default();
    if !reader.read(&mut header).map_err(broken)? {
        return Err(Failure::usage("CSV_INVALID", "the file is empty and has no header line"));
    }
    let columns = Columns::find(&header, &job.arguments)?;
    header.write(out, |_| None).map_err(|e| Failure::io("cannot write", &job.output, &e))?;
    let mut batch = Batch::new(job, &columns);
    while reader.read(batch.next_record()).map_err(broken)? {
        batch.add()?;
        if batch.is_full() {
            batch.flush(client, out).await?;
            progress.at(reader.consumed());
        }
    }
    batch.flush(client, out).await?;
    progress.at(reader.consumed());
    Ok(batch.summary)
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).map_err(|e| Failure::io("cannot read", path, &e))?)
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, input)))
}

/// A file without a final name, in the directory of the one to write. Plaintext is for its owner.
fn stage(job: &Job) -> Result<NamedTempFile, Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    if !job.arguments.force && job.output.symlink_metadata().is_ok() {
        return Err(exists(job));
    }
    let dir = directory(&job.output);
    let mode = match job.direction {
        Direction::Encrypt => 0o666,
        Direction::Decrypt(_) => 0o600,
    };
    tempfile::Builder::new()
        .prefix(".fieldseal-")
        .suffix(".partial")
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(dir)
        .map_err(|e| Failure::io("cannot write in", dir, &e))
}

fn exists(job: &Job) -> Failure {
    let what = format!("{} exists already", job.output.display());
    Failure::new(Exit::Conflict, "FILE_EXISTS", what)
        .advise("name another file, or replace it with --force")
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Gives the complete file its name: durable first, then visible.
fn publish(job: &Job, staged: NamedTempFile) -> Result<(), Failure> {
    let writing = |e: &std::io::Error| Failure::io("cannot write", &job.output, e);
    staged.as_file().sync_all().map_err(|e| writing(&e))?;
    let renamed = if job.arguments.force {
        staged.persist(&job.output)
    } else {
        staged.persist_noclobber(&job.output)
    };
    renamed.map_err(|e| match e.error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(job),
        _ => writing(&e.error),
    })?;
    let dir = File::open(directory(&job.output)).and_then(|d| d.sync_all());
    dir.map_err(|e| writing(&e))
}

/// A record with the names of its fields.
pub(crate) struct Row {
    header: std::rc::Rc<Vec<String>>,
    record: records::Record,
}

impl Row {
    /// The field under this header.
    pub(crate) fn get(&self, header: &str) -> Option<String> {
        let place = self.header.iter().position(|name| name == header)?;
        let value = self.record.value(place)?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }
}

/// The records of a file with a header line, one after another.
pub(crate) fn rows(
    input: impl BufRead,
    delimiter: u8,
) -> impl Iterator<Item = Result<Row, RecordError>> {
    let mut reader = Reader::new(input, delimiter);
    let mut header: Option<std::rc::Rc<Vec<String>>> = None;
    std::iter::from_fn(move || {
        loop {
            let mut record = records::Record::default();
            match reader.read(&mut record) {
                Err(error) => return Some(Err(error)),
                Ok(false) => return None,
                Ok(true) => {}
            }
            if let Some(header) = &header {
                return Some(Ok(Row { header: header.clone(), record }));
            }
            let names = (0..record.len()).filter_map(|at| record.value(at));
            let names = names.map(|name| String::from_utf8_lossy(&name).into_owned()).collect();
            header = Some(std::rc::Rc::new(names));
        }
    })
}
