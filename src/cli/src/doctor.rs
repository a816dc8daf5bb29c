//! `doctor`: looks at a stopped installation, changes nothing, and says what to do.

mod finding;

use std::path::Path;
use std::sync::Arc;

use fieldseal_engine::doctor::{self, Diagnosis, Lost, RepairError, Repaired, Source, Step};
use fieldseal_keys::keyring::Keyring;
use fieldseal_model::{InstallationId, Principal, PrincipalKind, SystemClock};
use fieldseal_server::Config;
use serde_json::json;

use crate::arguments::DoctorArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, counted, grouped, note};
use crate::{recover, serve};
use finding::{Finding, findings};

/// Runs `doctor`.
pub(crate) async fn run(arguments: DoctorArguments, output: &Output) -> Result<(), Failure> {
    let config = Config::load(&arguments.config).map_err(|e| serve::config_failure(&e))?;
    recover::refuse_other_user(&config.state.directory, "doctor")?;
    let keyring = Arc::new(opened(&config).await?);
    let place = arguments.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = tempfile::Builder::new().prefix("fieldseal-doctor-").tempdir_in(&place);
    let scratch = scratch.map_err(|e| {
        Failure::io("cannot make a directory in", &place, &e)
            .advise("name one with more space: --scratch DIR")
    })?;
    let settings = fieldseal_server::engine_settings(&config);
    let found = doctor::examine(&settings, &keyring, scratch.path()).await;
    let found = found.map_err(|e| serve::boot_failure(&e))?;
    let seen = Seen { found, id: keyring.installation(), config: &arguments.config };
    let Some(source) = arguments.repair else { return seen.show(output) };

    let lost = seen.found.lost(source).map_err(|e| impossible(&e))?;
    confirmed(&seen, &lost, source, arguments.confirm.as_deref())?;
    let user = rustix::process::getuid().as_raw().to_string();
    let local = Principal::new(PrincipalKind::Local, &user)?;
    let clock = Arc::new(SystemClock);
    let of = (&seen.found, scratch.path());
    let repaired = doctor::repair(&settings, &keyring, clock, &local, of, source, said).await;
    let repaired = repaired.map_err(|e| impossible(&e))?;
    output.show(|| repaired_json(&repaired), || repaired_table(&repaired))
}

/// A step that takes its time, or that changes what a start finds.
fn said(step: Step) {
    note(match step {
        Step::Made => "the new store is made; its record comes next",
        Step::Recorded => "it is on record; from here on the same command finishes it",
        Step::MovedAway => "the store before is kept under another name",
        Step::InPlace => "the new store is in its place",
    });
}

async fn opened(config: &Config) -> Result<Keyring, Failure> {
    let opened = async {
        let provider = fieldseal_server::provider(config).await?;
        fieldseal_server::open_with(config, provider).await
    };
    opened.await.map_err(|error| {
        let failure = serve::advise_missing(serve::keyring_failure(&error), &config.state);
        match failure.exit() {
            Exit::Corrupt => failure.advise(
                "put back keyring.json from a backup of this installation; store and log can stay \
                 as they are",
            ),
            _ => failure,
        }
    })
}

/// A repair loses something, so it is confirmed with the installation's own id.
fn confirmed(
    seen: &Seen<'_>,
    lost: &Lost,
    source: Source,
    said: Option<&str>,
) -> Result<(), Failure> {
    let id = seen.id.to_string();
    if said == Some(id.as_str()) {
        return Ok(());
    }
    note(&format!("nothing was changed yet; {}", lost_text(lost)));
    let what = match said {
        None => "a repair must be confirmed with the installation's id".to_owned(),
        Some(_) => "this is not the installation's id".to_owned(),
    };
    let command = seen.repair_command(source);
    Err(Failure::usage("CONFIRMATION_REQUIRED", what).advise(command))
}

fn impossible(error: &RepairError) -> Failure {
    match error {
        RepairError::Boot(error) => serve::boot_failure(error),
        other => Failure::new(Exit::Corrupt, "REPAIR_IMPOSSIBLE", other.to_string()).advise(
            "restore a backup of keyring, store and log; nothing was changed (docs/operations.md)",
        ),
    }
}

/// What was found, and where.
struct Seen<'a> {
    found: Diagnosis,
    id: InstallationId,
    config: &'a Path,
}

impl Seen<'_> {
    fn repair_command(&self, source: Source) -> String {
        let source = match source {
            Source::Store => "store".to_owned(),
            Source::Copy => "copy".to_owned(),
            Source::Rebuilt => "rebuilt".to_owned(),
            Source::Generation(number) => format!("gen-{number}"),
        };
        let config = crate::connection::quoted_path(self.config);
        format!("fieldseal doctor --config {config} --repair {source} --confirm {}", self.id)
    }

    /// Shows everything; a finding ends the command with the code of its kind.
    fn show(&self, output: &Output) -> Result<(), Failure> {
        let findings = findings(self);
        output.show(|| self.json(&findings), || self.table(&findings))?;
        let worst = findings.iter().filter_map(|finding| finding.exit.map(|exit| (exit, finding)));
        match worst.max_by_key(|(exit, _)| *exit as u8) {
            None => Ok(()),
            Some((exit, finding)) => {
                let count = findings.iter().filter(|finding| finding.exit.is_some()).count();
                let what = format!(
                    "{} found; the worst: {}",
                    counted(count as u64, "problem"),
                    finding.what
                );
                Err(Failure::new(exit, finding.reason, what)
                    .advise(finding.todo.first().cloned().unwrap_or_default()))
            }
        }
    }

    fn table(&self, findings: &[Finding]) -> String {
        let mut table = Table::bare();
        table.row(["installation", &self.id.to_string()]);
        table.row(["keyring", "opens with its root key"]);
        match &self.found.store {
            Ok(store) => {
                let (revision, records) = (store.position.revision, store.report.records);
                let data_keys = counted(store.report.data_keys, "data key");
                let text =
                    format!("revision {revision}, {} records, {data_keys}", grouped(records));
                table.row(["store", &text]);
            }
            Err(error) => table.row(["store", &error.to_string()]),
        }
        match &self.found.log {
            Ok(log) => {
                let records = grouped(log.verified.records);
                let text = match log.last_change {
                    None => format!("{records} records, no change of keys"),
                    Some(last) => format!(
                        "{records} records, newest change: revision {} in record {}",
                        last.revision, last.index
                    ),
                };
                table.row(["audit log", &text]);
            }
            Err(error) => table.row(["audit log", &error.to_string()]),
        }
        for (number, generation) in &self.found.generations {
            let text = match generation {
                Ok(found) => {
                    format!("revision {}, {} records", found.revision, grouped(found.entries))
                }
                Err(error) => error.to_string(),
            };
            table.row([format!("gen-{number}"), text]);
        }
        if let Some(Ok(copy)) = &self.found.copy {
            table.row(["copy", &format!("revision {}, {}", copy.revision, copy.place.display())]);
        }
        let whole = self.found.backups.iter().flatten();
        if let Some(newest) = whole.clone().next_back() {
            let all = counted(whole.count() as u64, "backup");
            let text = format!("{all}, the newest {} at revision {}", newest.name, newest.revision);
            table.row(["backups", &text]);
        }
        let mut text = table.text();
        for finding in findings {
            let kind = if finding.exit.is_some() { "problem" } else { "note" };
            text.push_str(&format!("\n{kind}  {}\n  {}\n", finding.reason, finding.what));
            for todo in &finding.todo {
                text.push_str(&format!("  to do  {todo}\n"));
            }
        }
        if findings.is_empty() {
            text.push_str("\nnothing is wrong\n");
        }
        text
    }

    fn json(&self, findings: &[Finding]) -> serde_json::Value {
        let findings: Vec<_> = findings.iter().map(Finding::json).collect();
        let store = self.found.store.as_ref().ok().map(|store| {
            json!({
                "revision": store.position.revision,
                "records": store.report.records,
                "data_keys": store.report.data_keys,
                "damaged_records": store.report.findings(),
                "outbox": store.outbox.len(),
            })
        });
        let log = self.found.log.as_ref().ok().map(|log| {
            json!({
                "records": log.verified.records,
                "revision": log.last_change.map_or(0, |last| last.revision),
                "record": log.last_change.map(|last| last.index),
            })
        });
        let generations = self.found.generations.iter().map(|(number, found)| {
            json!({
                "number": number,
                "whole": found.is_ok(),
                "revision": found.as_ref().ok().map(|found| found.revision),
                "records": found.as_ref().ok().map(|found| found.entries),
            })
        });
        json!({
            "installation": self.id.to_string(),
            "store": store,
            "audit_log": log,
            "generations": generations.collect::<Vec<_>>(),
            "copy": self.found.copy.as_ref().map(|copy| json!({
                "whole": copy.is_ok(),
                "revision": copy.as_ref().ok().map(|copy| copy.revision),
            })),
            "backups": self.found.backups.iter().map(|backup| json!({
                "whole": backup.is_ok(),
                "name": backup.as_ref().ok().map(|backup| &backup.name),
                "revision": backup.as_ref().ok().map(|backup| backup.revision),
            })).collect::<Vec<_>>(),
            "findings": findings,
        })
    }
}

fn lost_text(lost: &Lost) -> String {
    if lost.changes.is_empty() {
        return format!("nothing is lost: it is at revision {}, as the log", lost.revision);
    }
    let changes = lost.changes.iter().map(|(kind, count)| format!("{count} × {kind}"));
    format!(
        "it is at revision {} and the log at {}; lost are {}: {}, and what they sealed does not open \
         any more",
        lost.revision,
        lost.log_revision,
        changes.collect::<Vec<_>>().join(", "),
        counted(lost.data_keys, "data key"),
    )
}

fn repaired_table(repaired: &Repaired) -> String {
    let mut table = Table::bare();
    table.row(["repaired", "start it: the store goes on where the log is"]);
    table.row(["lost", &lost_text(&repaired.lost)]);
    if let Some(kept) = &repaired.kept {
        table.row(["kept", &kept.display().to_string()]);
    }
    table.row(["record", &event_of(repaired)]);
    table.text()
}

fn repaired_json(repaired: &Repaired) -> serde_json::Value {
    json!({
        "revision": repaired.lost.revision,
        "log_revision": repaired.lost.log_revision,
        "lost_data_keys": repaired.lost.data_keys,
        "lost_changes": repaired.lost.changes,
        "kept": repaired.kept,
        "event": event_of(repaired),
    })
}

fn event_of(repaired: &Repaired) -> String {
    format!("logs/{}/events/{}", repaired.log, repaired.record)
}
