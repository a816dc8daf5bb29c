//! `breach`: whom to notify.

use std::path::Path;

use fieldseal_api::v1::{self, AccessGrouping as By};

use super::asked::{Asked, Groups};
use super::bare;
use super::counts::{counts, reads, totals};
use super::names::Names;
use super::report::{Cell, Report};
use crate::arguments::BreachQuestion;
use crate::failure::Failure;
use crate::output::Output;

/// Names that one command asks about, each in a call.
const MAX_CANDIDATES: usize = 1000;
/// A file with so many names is not longer.
const MAX_BYTES: u64 = 1024 * 1024;

pub(super) async fn run(question: BreachQuestion, output: &Output) -> Result<(), Failure> {
    let names = question.candidates.as_deref().map(candidates).transpose()?;
    let mut asked = Asked::new(question.ask).await?;
    let about = Names {
        principal: question.principal.clone(),
        key_version: question.key_version.clone(),
        ..Names::default()
    };
    let query = v1::AuditEventQuery {
        principals: question.principal.into_iter().collect(),
        key_versions: question.key_version.into_iter().collect(),
        ..reads(asked.query())
    };
    match names {
        Some(names) => affected(&mut asked, &query, names, about, output).await,
        None => read(&mut asked, &query, about, output).await,
    }
}

/// What was read, by partition, row and field.
async fn read(
    asked: &mut Asked,
    query: &v1::AuditEventQuery,
    about: Names,
    output: &Output,
) -> Result<(), Failure> {
    let by = [By::KeyVersion, By::Table, By::Column, By::Partition, By::Row];
    let found = asked.groups(query, &by).await?;
    let unnamed = asked.unnamed(&found, about).await?;
    let unknown = unknown(asked, &found).await?;
    let rows = found.groups.iter().map(|group| {
        let version = bare(&group.key_version).replace("/versions/", "/");
        let named = [&version, &group.table, &group.column].map(|text| Cell::Text(text.clone()));
        let tokens =
            [&group.partition_token, &group.row_token].map(|text| Cell::Token(text.clone()));
        let [fields, events, _, first, last] = counts(group);
        named.into_iter().chain(tokens).chain([fields, events, first, last]).collect()
    });
    let report = asked
        .report()
        .columns(&[
            "key_version",
            "table",
            "column",
            "partition_token",
            "row_token",
            "field_count",
            "event_count",
            "first_time",
            "last_time",
        ])
        .rows(rows)
        .redacted(
            found.redacted,
            "their partitions, rows and key versions are missing here: more may be affected",
        )
        .remark("this is what was read; what a policy would have allowed as well is not listed");
    let report = unknown.into_iter().fold(report, Report::remark);
    totals(report, &found).remarks(unnamed).next(found.next).show(output)
}

/// What to say of an answer that is empty because of its certificate: an error of typing looks like nobody.
async fn unknown(asked: &mut Asked, found: &Groups) -> Result<Option<&'static str>, Failure> {
    let query = asked.query();
    if query.certificate.is_empty() || found.total.event_count > 0 {
        return Ok(None);
    }
    let any = asked.all_groups(&query, &[]).await?.total;
    Ok((any.event_count == 0).then_some(
        "no call of this time showed this certificate, whatever became of it; compare the fingerprint",
    ))
}

/// Which of these are affected.
async fn affected(
    asked: &mut Asked,
    query: &v1::AuditEventQuery,
    names: Vec<String>,
    about: Names,
    output: &Output,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let (mut hit, mut redacted) = (0, 0);
    let asked_about = names.len();
    for name in names {
        let query = v1::AuditEventQuery { partition: Some(name.clone()), ..query.clone() };
        let Groups { total, redacted: events, .. } = asked.all_groups(&query, &[]).await?;
        redacted = redacted.max(events);
        hit += i64::from(total.field_count > 0);
        let [fields, events, _, first, last] = counts(&total);
        let is_hit = Cell::Flag(total.field_count > 0);
        rows.push(vec![Cell::Text(name), is_hit, fields, events, first, last]);
    }
    // Without any that is affected there may be something to say of what was asked about.
    let found = Groups {
        total: v1::AccessGroup { event_count: hit, ..Default::default() },
        ..Groups::default()
    };
    let unnamed = asked.unnamed(&found, about).await?;
    asked
        .report()
        .remarks(unnamed)
        .columns(&[
            "partition",
            "affected",
            "field_count",
            "event_count",
            "first_time",
            "last_time",
        ])
        .rows(rows)
        .redacted(redacted, "more of these may be affected")
        .total("asked_count", Cell::Number(i64::try_from(asked_about).unwrap_or(i64::MAX)))
        .total("affected_count", Cell::Number(hit))
        .show(output)
}

/// The names in a file, one a line, each once; empty lines are none.
fn candidates(path: &Path) -> Result<Vec<String>, Failure> {
    let failed = |e: &std::io::Error| Failure::io("cannot read", path, e);
    let length = std::fs::metadata(path).map_err(|e| failed(&e))?.len();
    let too_many = || {
        let what = format!("{} has more than {MAX_CANDIDATES} names", path.display());
        Failure::usage("CANDIDATES_TOO_MANY", what).advise("split the file")
    };
    if length > MAX_BYTES {
        return Err(too_many());
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    let mut names: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for name in text.lines().filter(|name| !name.is_empty()) {
        if seen.insert(name) {
            names.push(name.to_owned());
        }
    }
    if names.len() > MAX_CANDIDATES { Err(too_many()) } else { Ok(names) }
}
