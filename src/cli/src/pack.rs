//! `audit pack`: the records between two times, in one archive for somebody who has nothing else.
//!
//! docs/evidence.md describes the archive; `verify.py`, which is in it, checks it.

mod archive;
mod chart;
mod facts;
mod html;
mod inventory;
mod policies;
mod rows;
mod summary;
mod tables;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldseal_audit::merkle::Hash;
use fieldseal_audit::verify::{self, Evidence, LogKey, Times, VerifyError};
use fieldseal_model::{Timestamp, hex};
use serde_json::{Map, Value, json};

use crate::arguments::AuditPackArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, grouped};
use crate::questions::Zone;
use crate::verify as verifying;
use archive::{Growing, Packed, Written};
use facts::Facts;
use inventory::Inventory;
use policies::Files;
use summary::Summary;

const VERIFIER: &str = include_str!("pack/verify.py");
const README: &str = include_str!("pack/README.txt");
/// The number of the archive's format.
const FORMAT: u32 = 1;

/// Runs `audit pack`.
pub(crate) async fn run(arguments: AuditPackArguments, output: &Output) -> Result<(), Failure> {
    let key_text = verifying::read(&arguments.public_key)?;
    let key = verify::public_key(&key_text).map_err(|e| verifying::failure(&e))?;
    let times = times(&arguments)?;
    let to = &arguments.to;
    if to.symlink_metadata().is_ok() {
        let what = format!("{} exists already", to.display());
        return Err(Failure::new(Exit::Conflict, "FILE_EXISTS", what));
    }
    let policies = arguments.policy.iter().map(|dir| policies::read(dir));
    let policies = policies.collect::<Result<Vec<_>, _>>()?;
    let keys = if arguments.with_keys { Some(inventory::ask().await?) } else { None };
    let bar = verifying::progress();
    let files = verify::Files { directory: &arguments.log, archives: &arguments.archive };
    let evidence = verify::evidence(files, &key, &times, |at| bar.set_position(at));
    bar.finish_and_clear();
    let evidence = evidence.map_err(|e| verifying::failure(&e))?.ok_or_else(empty)?;
    let read = read(&evidence, &times, archive::parent(to))?;
    let policies = policies::check(policies, &read.facts.policies)?;
    let pack = Pack { key: &key, key_text, evidence, times, read, policies, keys };
    let (rows, mut told) = (pack.rows(), pack.manifest());
    told.insert("checkpoint".into(), pack.evidence.verified.checkpoint_note.as_str().into());
    let written = pack.write(to)?;
    told.insert("archive".into(), json!(to));
    told.insert("bytes".into(), written.bytes.into());
    told.insert("sha256".into(), hex::encode(&written.sha256).into());
    output.show(|| told.into(), || text(rows, to, &written))
}

/// What a person is told.
fn text(rows: Vec<[String; 2]>, to: &Path, written: &Written) -> String {
    let mut table = Table::bare();
    rows.into_iter().for_each(|row| table.row(row));
    table.row(["archive", &to.display().to_string()]);
    table.row(["bytes", &grouped(written.bytes)]);
    table.row(["sha256", &hex::encode(&written.sha256)]);
    table.text()
}

fn empty() -> Failure {
    Failure::new(Exit::NotFound, "PACK_EMPTY", "the log has no record of that time")
        .advise("times without an offset are UTC; --local takes them as local time")
}

fn times(arguments: &AuditPackArguments) -> Result<Times, Failure> {
    let zone = Zone::new(arguments.local);
    let moment = |at: prost_types::Timestamp| {
        let nanos = at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into());
        Timestamp::from_unix_nanos(nanos)
    };
    let since = moment(zone.since(&arguments.since)?);
    let until = arguments.until.as_deref().map(|text| zone.until(text)).transpose()?.map(moment);
    if until.is_some_and(|until| until <= since) {
        return Err(Failure::usage("QUERY_INVALID", "the time ends before it begins"));
    }
    Ok(Times { since, until })
}

/// Ends a reading: what is wrong with the log, or trouble with writing.
struct Stopped(Failure);

impl From<VerifyError> for Stopped {
    fn from(error: VerifyError) -> Self {
        Self(verifying::failure(&error))
    }
}

/// What one reading of the records makes.
struct Read {
    records: Packed,
    csv: Packed,
    facts: Facts,
    proof: Vec<Hash>,
}

fn read(evidence: &Evidence<'_>, times: &Times, beside: &Path) -> Result<Read, Failure> {
    let failed = |error: &std::io::Error| Failure::io("cannot write in", beside, error);
    let growing = |name| Growing::new(name, beside).map_err(|e| failed(&e));
    let (mut records, mut csv) = (growing("records.bin")?, growing("records.csv")?);
    csv.write(rows::HEADER.as_bytes()).map_err(|e| failed(&e))?;
    let mut facts = Facts::default();
    let proof = evidence.read(|proved| {
        let entry = proved.entry;
        let in_scope = evidence.records.contains(&entry.index) && times.contain(entry.time);
        facts.add(&entry, in_scope);
        for part in [proved.leaf, proved.detail] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
            let written = records.write(&length).and_then(|()| records.write(part));
            written.map_err(|e| Stopped(failed(&e)))?;
        }
        let rows = rows::rows(&entry, in_scope);
        csv.write(rows.as_bytes()).map_err(|e| Stopped(failed(&e)))
    });
    let proof = proof.map_err(|Stopped(failure)| failure)?;
    let records = records.finish().map_err(|e| failed(&e))?;
    let csv = csv.finish().map_err(|e| failed(&e))?;
    Ok(Read { records, csv, facts, proof })
}

/// Everything that goes into an archive.
struct Pack<'a> {
    key: &'a LogKey,
    key_text: String,
    evidence: Evidence<'a>,
    times: Times,
    read: Read,
    policies: Vec<Files>,
    keys: Option<Inventory>,
}

impl Pack<'_> {
    fn write(self, to: &Path) -> Result<Written, Failure> {
        let top = format!(
            "fieldseal-evidence-{}-{}",
            self.evidence.records.start, self.evidence.records.end
        );
        // The same log and the same question make the same archive.
        let time = self.read.facts.times.map_or(0, |(_, last)| last.unix_nanos() / 1_000_000_000);
        let time = u64::try_from(time).unwrap_or(0);
        let page = self.summary().page();
        let readme = README.replace("{top}", &top).replace("{origin}", self.key.origin());
        let mut manifest = self.manifest();
        let mut files = vec![
            Packed::new("README.txt", readme),
            Packed::new("summary.html", page),
            Packed::new("verify.py", VERIFIER),
            Packed::new("log.pub", format!("{}\n", self.key_text.trim())),
            Packed::new("checkpoint", self.evidence.verified.checkpoint_note.as_str()),
            Packed::new("proof.json", format!("{:#}\n", self.proof())),
        ];
        files.extend(policies::packed(&self.policies, &self.read.facts.policies));
        if let Some(keys) = &self.keys {
            files.push(Packed::new("keys.json", format!("{:#}\n", keys.json())));
        }
        files.extend([self.read.records, self.read.csv]);
        let listed = files.iter().map(|file| {
            let digest = hex::encode(&file.sha256);
            json!({ "name": file.name, "bytes": file.bytes, "sha256": digest })
        });
        manifest.insert("files".into(), listed.collect());
        let manifest = Value::from(manifest);
        files.insert(3, Packed::new("manifest.json", format!("{manifest:#}\n")));
        archive::write(to, &top, time, files)
    }

    fn proof(&self) -> Value {
        let ranges = self.evidence.ranges();
        json!({
            "tree_size": self.evidence.verified.records,
            "ranges": ranges.iter().map(|range| [range.start, range.end]).collect::<Vec<_>>(),
            "hashes": self.read.proof.iter().map(|hash| STANDARD.encode(hash)).collect::<Vec<_>>(),
        })
    }

    fn manifest(&self) -> Map<String, Value> {
        let (evidence, times) = (&self.evidence, &self.times);
        let records = evidence.records.end.saturating_sub(evidence.records.start);
        let members: [(&str, Value); 13] = [
            ("format", FORMAT.into()),
            ("made_by", concat!("fieldseal ", env!("CARGO_PKG_VERSION")).into()),
            ("origin", self.key.origin().into()),
            ("since", rows::instant(times.since).into()),
            ("until", times.until.map(rows::instant).into()),
            ("first", evidence.records.start.into()),
            ("end", evidence.records.end.into()),
            ("records", records.into()),
            ("policy_record", evidence.policy.into()),
            ("redaction_records", evidence.redactions.clone().into()),
            ("tree_size", evidence.verified.records.into()),
            ("root", hex::encode(&evidence.verified.root).into()),
            ("figures", self.read.facts.figures()),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn summary(&self) -> Summary<'_> {
        Summary {
            origin: self.key.origin(),
            times: &self.times,
            records: self.evidence.records.clone(),
            tree_size: self.evidence.verified.records,
            root: hex::encode(&self.evidence.verified.root),
            facts: &self.read.facts,
            policies: &self.policies,
            keys: self.keys.as_ref(),
        }
    }

    /// What the command tells of the records.
    fn rows(&self) -> Vec<[String; 2]> {
        let (records, facts) = (&self.evidence.records, &self.read.facts);
        let last = records.end.saturating_sub(1);
        let size = grouped(self.evidence.verified.records);
        let mut rows = vec![
            ["log".to_owned(), self.key.origin().to_owned()],
            ["records".to_owned(), format!("{}-{last} of {size}", records.start)],
            ["in that time".to_owned(), grouped(facts.records)],
        ];
        if facts.redacted > 0 {
            rows.push(["redacted".to_owned(), grouped(facts.redacted)]);
        }
        rows
    }
}
