//! `csv encrypt` and `csv decrypt`: columns of a file of any size, in flat memory. The new file
//! appears when it is complete; if one value fails there is none.

mod batch;
mod columns;
mod progress;
mod records;
mod source;

use std::fs::File;
use std::io::{BufRead, BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fieldseal_api::v1;
use tempfile::NamedTempFile;

use crate::arguments::{CsvArguments, CsvCommand};
use crate::connection::{self, Encryption};
use crate::failure::{Exit, Failure};
use crate::output::{Output, counted, grouped, note};
use crate::signals::{StopSignals, interrupted};
use crate::values;

use batch::Batch;
pub(crate) use batch::{Direction, Summary};
use columns::Columns;
pub(crate) use progress::Progress;
use records::Reader;
pub(crate) use records::RecordError;
use source::Source;

/// Bytes that are read and written at a time.
const BUFFER_BYTES: usize = 256 * 1024;
/// How a file is called that is not complete.
const PARTIAL: (&str, &str) = (".fieldseal-", ".partial");

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
    refuse_destination(&job)?;
    // Before anything is written: a signal that ends the process would leave half a file behind.
    let mut signals = StopSignals::listen_with_hangup()?;
    let mut progress = Progress::begin(&job.arguments.input, done);
    let work = async {
        let mut client = connection::connect().await?.encryption();
        transform(&job, &mut client, &mut progress).await
    };
    let summary = tokio::select! {
        biased;
        () = signals.received() => return Err(interrupted("nothing was written")),
        ended = work => ended?,
    };
    progress.end();
    report(output, &job, done, &summary)
}

/// A file appears whole or not at all, which standard output cannot.
fn refuse_destination(job: &Job) -> Result<(), Failure> {
    if is_standard(&job.output) {
        let what = "the result cannot be written to standard output: it must be complete first";
        return Err(Failure::usage("DESTINATION_INVALID", what)
            .advise("name a file; one that is called `-` is written ./-"));
    }
    if !job.arguments.force && job.output.symlink_metadata().is_ok() {
        return Err(exists(job));
    }
    Ok(())
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether a file of this name is what a killed process left of one that was not complete.
pub(crate) fn is_partial(name: &str) -> bool {
    let (prefix, suffix) = PARTIAL;
    name.starts_with(prefix) && name.ends_with(suffix)
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
    let mut source = Source::open(&job.arguments.input, job.delimiter)?;
    let Some(header) = source.next().await? else {
        return Err(Failure::usage("CSV_INVALID", "the file is empty and has no header line"));
    };
    let columns = Columns::find(&header, &job.arguments)?;
    let mut staged = stage(job)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, staged.as_file_mut());
    let writing = |e: &std::io::Error| Failure::io("cannot write", &job.output, e);
    header.write(&mut out, |_| None).map_err(|e| writing(&e))?;
    let mut batch = Batch::new(job, &columns);
    while let Some(record) = source.next().await? {
        batch.add(record)?;
        if batch.is_full() {
            batch.flush(client, &mut out).await?;
            progress.at(source.consumed());
        }
    }
    batch.flush(client, &mut out).await?;
    progress.at(source.consumed());
    out.flush().map_err(|e| writing(&e))?;
    drop(out);
    let summary = batch.summary;
    publish(job, staged)?;
    Ok(summary)
}

/// A file without a final name, in the directory of the one to write. Plaintext is for its owner; a
/// ciphertext's neighbours may be read by those who could read them in the input.
fn stage(job: &Job) -> Result<NamedTempFile, Failure> {
    let dir = directory(&job.output);
    let failed = |e: &std::io::Error| Failure::io("cannot write in", dir, e);
    let input = source::access(&job.arguments.input);
    // The umask may take away from this.
    let (mode, group) = match (&job.direction, input) {
        (Direction::Decrypt(_), _) => (0o600, None),
        (Direction::Encrypt, None) => (0o666, None),
        (Direction::Encrypt, Some(access)) => (access.mode & 0o666 | 0o600, Some(access.group)),
    };
    let staged = tempfile::Builder::new()
        .prefix(PARTIAL.0)
        .suffix(PARTIAL.1)
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(dir)
        .map_err(|e| failed(&e))?;
    let made = staged.as_file().metadata().map_err(|e| failed(&e))?;
    if group.is_some_and(|group| group != made.gid()) {
        // The bits were for another group.
        let mode = std::fs::Permissions::from_mode(made.mode() & 0o707);
        staged.as_file().set_permissions(mode).map_err(|e| failed(&e))?;
    }
    Ok(staged)
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
