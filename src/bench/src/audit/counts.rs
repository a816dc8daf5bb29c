//! Counts over a large log, as the auditor's commands ask for them, and its verification.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fieldseal_audit::{Grouping as By, Outcome, Query, Reader, verify};
use fieldseal_model::Action;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

use super::fill::{COLUMNS, DAYS, RARE, TABLE, app, day};
use crate::error::BenchError;

/// Groups of a page, as the commands ask for them.
const PAGE: usize = 1000;

/// What the whole process has worked so far, on all cores.
pub(super) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = time.tv_sec * 1_000_000_000 + time.tv_nsec;
    Duration::from_nanos(nanos.unsigned_abs())
}

/// The first page of each count, in milliseconds, and the groups of all its pages.
pub(super) fn measure(reader: &Reader, size: u64) -> Result<Value, BenchError> {
    let mut measured = Map::new();
    for (name, query, by) in questions() {
        let begun = Instant::now();
        let found = reader.summarize(&query, by, PAGE, size, "", &AtomicBool::new(false))?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        if found.total.fields == 0 {
            return Err(BenchError::Wrong { server: "audit", what: "a count found nothing" });
        }
        let (fields, groups) = (found.total.fields, found.group_count);
        let answer = json!({ "ms": took, "fields": fields, "groups": groups });
        measured.insert(name.to_owned(), answer);
    }
    Ok(measured.into())
}

/// The queries and groups of the commands.
fn questions() -> Vec<(&'static str, Query, &'static [By])> {
    const PRINCIPAL: &[By] = &[By::Action, By::Key, By::Table, By::Column, By::Outcome];
    const BREACH: &[By] = &[By::KeyVersion, By::Table, By::Column, By::Partition, By::Row];
    const VOLUME: &[By] = &[By::Hour, By::Principal, By::Table, By::Column];
    const DENIALS: &[By] = &[By::Principal, By::Action, By::Key, By::Table, By::Column, By::Rule];
    let all = Query { omit_housekeeping: true, ..Query::default() };
    let of = |who: String| Query { principals: vec![who], ..all.clone() };
    let reads = |query: Query| Query {
        actions: vec![Action::Decrypt, Action::BatchDecrypt, Action::Recover],
        outcomes: vec![Outcome::Ok],
        ..query
    };
    let on_day =
        |query| Query { start: Some(day(DAYS / 2)), end: Some(day(DAYS / 2 + 1)), ..reads(query) };
    let table = Some(TABLE.to_owned());
    let column = COLUMNS.first().map(|column| (*column).to_owned());
    let field = Query { table, column, ..reads(all.clone()) };
    let denied = Query { outcomes: vec![Outcome::Denied], ..all.clone() };
    vec![
        ("principal", of(app(0)), PRINCIPAL),
        ("principal_rare", of(RARE.to_owned()), PRINCIPAL),
        ("field", field, &[By::Principal]),
        ("breach_day", on_day(of(app(0))), BREACH),
        ("volume_day", on_day(all.clone()), VOLUME),
        ("volume", reads(all), VOLUME),
        ("denials", denied, DENIALS),
    ]
}

/// Records a second of a verification of everything, by the clock and by what it worked.
pub(super) fn verify(log: &Path) -> Result<Value, BenchError> {
    let wrong = |what| BenchError::Wrong { server: "audit", what };
    let key = std::fs::read_to_string(log.join("log.pub"))?;
    let key = verify::public_key(&key).map_err(|_| wrong("log.pub is none"))?;
    let (begun, cpu_before) = (Instant::now(), cpu());
    let verified = verify::log(log, &key, |_| {}).map_err(|_| wrong("the log is not as signed"))?;
    let (took, worked) = (begun.elapsed(), cpu() - cpu_before);
    let records = verified.records as f64;
    Ok(json!({
        "records_per_second": records / took.as_secs_f64(),
        "records_per_cpu_second": records / worked.as_secs_f64(),
        "records_in_a_frame": records / verified.checkpoints as f64,
    }))
}
