//! Questions to a large audit log: what its index costs, and how fast it answers.

mod fill;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldseal_audit::{Event, Identity, Journal, Outcome, PageLimit, Query, Reader, Settings};
use fieldseal_crypto::ServiceKey;
use fieldseal_crypto::signing::LogSigningKey;
use fieldseal_model::{InstallationId, SystemClock};
use serde_json::{Value, json};

use crate::AuditArguments;
use crate::error::BenchError;
use fill::{DAYS, PERSONS, RARE, Writer, app, day, person};

/// Bytes of a segment: what is shipped.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// How often each question is asked, each time about somebody else.
const QUESTIONS: u64 = 20;
/// How long records are written, alone and while every index is made again.
const WRITTEN: Duration = Duration::from_secs(5);
/// Events of the first page that somebody looks at, and of one that a program asks for.
const PAGE: usize = 100;
const LARGE_PAGE: usize = 1000;

/// Fills the log if need be, and measures.
///
/// # Errors
/// If the log cannot be written or read, or a question finds nothing.
pub(crate) async fn run(arguments: &AuditArguments) -> Result<String, BenchError> {
    if cfg!(debug_assertions) {
        return Err(BenchError::Unoptimised);
    }
    let settings = Settings {
        directory: std::path::absolute(&arguments.dir)?.join("audit"),
        segment_bytes: SEGMENT_BYTES,
        reserve_bytes: 0,
    };
    std::fs::create_dir_all(&arguments.dir)?;
    if !settings.directory.is_dir() {
        Journal::create(&settings, &identity())?;
    }
    let mut writer = Writer::new(open(&settings)?)?;
    let written = writer.fill(arguments.records).await?;
    let (journal, settings) = (writer.journal.clone(), &settings);
    let (rebuild, ratio) = rebuild(&journal, settings)?;
    let (reader, size) = (journal.reader(), journal.checkpoint().tree_size);
    let whole = first_pages(&reader.without_index(), size, 1, |_| subject(0))?;
    let reader = journal.reader();
    // The open segment is read by the first question of a process.
    let begun = Instant::now();
    page(&reader, &subject(0), size, PAGE, "")?;
    let first_of_all = begun.elapsed();
    let mut report = json!({
        "records": size,
        "written_per_second": written,
        "log_bytes_per_record": log_bytes(&settings.directory)? as f64 / size as f64,
        "rebuild_records_per_second": rebuild,
        "index_to_log": ratio,
        "first_question_ms": milliseconds(first_of_all),
        "subject_first_page_ms": first_pages(&reader, size, QUESTIONS, subject)?,
        "principal_first_page_ms": first_pages(&reader, size, QUESTIONS, principal)?,
        "rare_principal_first_page_ms": first_pages(&reader, size, QUESTIONS, |_| rare())?,
        "subject_without_index_ms": whole,
        "breach_day": breach(&reader, size)?,
    });
    // Whoever opens the log again must be its only holder.
    drop((reader, journal));
    if let Some(fields) = report.as_object_mut() {
        fields.insert("writing".to_owned(), writing(writer, settings).await?);
    }
    Ok(if arguments.json { format!("{report}\n") } else { format!("{report:#}\n") })
}

fn identity() -> Identity {
    Identity {
        installation: InstallationId::new([0xbe; 16]),
        instance: "bench".to_owned(),
        signing: LogSigningKey::new(ServiceKey::from_bytes(&mut [7; 32])),
    }
}

fn open(settings: &Settings) -> Result<Journal, BenchError> {
    Ok(Journal::open(settings.clone(), identity(), Arc::new(SystemClock))?.0)
}

/// Records a second of making every index again, and what they take of the segments that have one.
fn rebuild(journal: &Journal, settings: &Settings) -> Result<(f64, f64), BenchError> {
    // What the thread began is ended first.
    journal.build_indexes()?;
    remove_indexes(settings)?;
    let begun = Instant::now();
    let made = journal.build_indexes()?;
    let took = begun.elapsed().as_secs_f64();
    let mut segments = segments(&settings.directory)?;
    segments.pop();
    let sealed: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
    Ok((made.records as f64 / took, made.bytes as f64 / sealed as f64))
}

fn remove_indexes(settings: &Settings) -> Result<(), BenchError> {
    Ok(std::fs::remove_dir_all(settings.directory.with_file_name("audit-index"))?)
}

/// Names and lengths, in order.
fn segments(directory: &Path) -> Result<Vec<(std::ffi::OsString, u64)>, BenchError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("segment-") {
            found.push((entry.file_name(), entry.metadata()?.len()));
        }
    }
    found.sort();
    Ok(found)
}

fn log_bytes(directory: &Path) -> Result<u64, BenchError> {
    Ok(segments(directory)?.iter().map(|(_, bytes)| bytes).sum())
}

fn subject(number: u64) -> Query {
    let partition = Some(Some(person(number * (PERSONS / QUESTIONS))));
    Query { partition, ..Query::default() }
}

fn principal(number: u64) -> Query {
    Query { principals: vec![app(number)], ..Query::default() }
}

fn rare() -> Query {
    Query { principals: vec![RARE.to_owned()], ..Query::default() }
}

fn page(
    reader: &Reader,
    query: &Query,
    size: u64,
    events: usize,
    token: &str,
) -> Result<(Vec<Event>, Option<String>), BenchError> {
    let limit = PageLimit { events, ..PageLimit::default() };
    let page = reader.page(query, limit, size, token)?;
    Ok((page.events, page.next))
}

/// The median and the slowest of many first pages.
fn first_pages(
    reader: &Reader,
    size: u64,
    times: u64,
    query: impl Fn(u64) -> Query,
) -> Result<Value, BenchError> {
    let mut took = Vec::new();
    for number in 0..times {
        let (query, begun) = (query(number), Instant::now());
        let (mut events, mut next) = page(reader, &query, size, PAGE, "")?;
        // Without an index a page looks at so many records and ends.
        while let (Some(token), true) = (&next, events.len() < PAGE) {
            let (more, after) = page(reader, &query, size, PAGE - events.len(), token)?;
            events.extend(more);
            next = after;
        }
        took.push(begun.elapsed());
        if events.is_empty() {
            return Err(BenchError::Wrong { server: "audit", what: "a question found nothing" });
        }
    }
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    let slowest = took.last().copied().unwrap_or_default();
    Ok(json!({ "median": milliseconds(median), "slowest": milliseconds(slowest) }))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Everything that one caller opened on one day.
fn breach(reader: &Reader, size: u64) -> Result<Value, BenchError> {
    let middle = DAYS / 2;
    let query = Query {
        start: Some(day(middle)),
        end: Some(day(middle + 1)),
        outcomes: vec![Outcome::Ok],
        oldest_first: true,
        ..principal(0)
    };
    let (mut found, mut pages, mut token) = (0, 0, String::new());
    let begun = Instant::now();
    loop {
        let (events, next) = page(reader, &query, size, LARGE_PAGE, &token)?;
        (found, pages) = (found + events.len(), pages + 1);
        match next {
            Some(next) => token = next,
            None => break,
        }
    }
    let took = milliseconds(begun.elapsed());
    if found == 0 {
        return Err(BenchError::Wrong { server: "audit", what: "the day is empty" });
    }
    Ok(json!({ "events": found, "pages": pages, "all_pages_ms": took }))
}

/// Records a second, alone and while a thread makes every index again.
async fn writing(mut writer: Writer, settings: &Settings) -> Result<Value, BenchError> {
    let alone = writer.rate(WRITTEN).await?;
    drop(writer);
    remove_indexes(settings)?;
    // Its thread begins at once.
    let mut writer = Writer::new(open(settings)?)?;
    let during = writer.rate(WRITTEN).await?;
    let directory = settings.directory.with_file_name("audit-index");
    let made = std::fs::read_dir(directory).map_or(0, Iterator::count);
    let sealed = segments(&settings.directory)?.len() - 1;
    Ok(json!({
        "alone_per_second": alone, "during_rebuild_per_second": during,
        "indexes_made_meanwhile": made, "of": sealed,
    }))
}
