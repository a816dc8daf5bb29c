//! Questions to a large audit log: what its index costs, and how fast it answers.

mod counts;
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
        group: None,
    };
    std::fs::create_dir_all(&arguments.dir)?;
    if !settings.directory.is_dir() {
        Journal::create(&settings, &identity())?;
    }
    let mut writer = Writer::new(open(&settings)?)?;
    let written = writer.fill(arguments.records).await?;
    drop(writer);
    let settings = &settings;
    let (journal, rebuild) = rebuild(settings)?;
    let (reader, size) = (journal.reader(), journal.checkpoint().tree_size);
    let whole = first_pages(&reader.without_index(), size, 1, |_| subject(0))?;
    let reader = journal.reader();
    // The open segment is read by the first question of a process.
    let begun = Instant::now();
    page(&reader, &subject(0), size, PAGE, "")?;
    let first_of_all = begun.elapsed();
    let counts = counts::measure(&reader, size)?;
    let mut report = json!({
        "records": size,
        "written_per_second": written,
        "log_bytes_per_record": log_bytes(&settings.directory)? as f64 / size as f64,
        "rebuild": rebuild,
        "first_question_ms": milliseconds(first_of_all),
        "subject_first_page_ms": first_pages(&reader, size, QUESTIONS, subject)?,
        "principal_first_page_ms": first_pages(&reader, size, QUESTIONS, principal)?,
        "rare_principal_first_page_ms": first_pages(&reader, size, QUESTIONS, |_| rare())?,
        "subject_without_index_ms": whole,
        "listed_day": listed_day(&reader, size)?,
        "counts_ms": counts,
        "verify": counts::verify(&settings.directory)?,
    });
    // Whoever opens the log again must be its only holder.
    drop((reader, journal));
    if let Some(fields) = report.as_object_mut() {
        let writer = Writer::new(open(settings)?)?;
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

/// How fast every index is made again, and what they take of the segments that have one. The thread of
/// the journal makes them, from the moment on at which the log is opened.
fn rebuild(settings: &Settings) -> Result<(Journal, Value), BenchError> {
    remove_indexes(settings)?;
    let (begun, cpu) = (Instant::now(), counts::cpu());
    let journal = open(settings)?;
    journal.build_indexes()?;
    let (took, cpu) = (begun.elapsed().as_secs_f64(), (counts::cpu() - cpu).as_secs_f64());
    let sealed = segments(&settings.directory)?;
    let (_, sealed) = sealed.split_last().ok_or_else(fill::unusable)?;
    let records = segments_end(&settings.directory)? as f64;
    let of: u64 = sealed.iter().map(|(_, bytes)| bytes).sum();
    let indexes = files(&settings.directory.with_file_name("audit-index"), "index-")?;
    if indexes.len() != sealed.len() {
        return Err(BenchError::Wrong { server: "audit", what: "a segment got no index" });
    }
    let bytes: u64 = indexes.iter().map(|(_, bytes)| bytes).sum();
    let rates = json!({
        "records_per_second": records / took,
        "records_per_cpu_second": records / cpu,
        "index_to_log": bytes as f64 / of as f64,
    });
    Ok((journal, rates))
}

/// How many records the segments have that get no more: the number of the last one's first record.
fn segments_end(directory: &Path) -> Result<u64, BenchError> {
    let segments = segments(directory)?;
    let name = segments.last().and_then(|(name, _)| name.to_str()).unwrap_or_default();
    let number = name.strip_prefix("segment-").and_then(|name| name.strip_suffix(".log"));
    number.and_then(|number| number.parse().ok()).ok_or_else(fill::unusable)
}

fn remove_indexes(settings: &Settings) -> Result<(), BenchError> {
    match std::fs::remove_dir_all(settings.directory.with_file_name("audit-index")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Names and lengths, in order.
fn segments(directory: &Path) -> Result<Vec<(std::ffi::OsString, u64)>, BenchError> {
    files(directory, "segment-")
}

fn files(directory: &Path, beginning: &str) -> Result<Vec<(std::ffi::OsString, u64)>, BenchError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(beginning) {
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

/// Everything that one caller opened on one day, event by event.
fn listed_day(reader: &Reader, size: u64) -> Result<Value, BenchError> {
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
