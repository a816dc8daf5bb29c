//! What is wrong, in words, and the way out.

use fieldseal_audit::JournalError;
use fieldseal_audit::verify::VerifyError;
use fieldseal_engine::doctor::{Source, Unfinished};
use fieldseal_engine::{AnchorError, ExportError, ExportTarget};
use fieldseal_keys::anchor::Relation;
use fieldseal_store::{CopyError, StoreError};
use serde_json::json;

use super::{Seen, lost_text};
use crate::failure::Exit;
use crate::output::counted;

/// One thing that is wrong, or that is worth to know.
pub(super) struct Finding {
    /// How the command ends because of it; `None` for a note.
    pub exit: Option<Exit>,
    /// The stable reason.
    pub reason: &'static str,
    /// What it is.
    pub what: String,
    /// What to do, the first first.
    pub todo: Vec<String>,
}

impl Finding {
    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "reason": self.reason,
            "what": self.what,
            "to_do": self.todo,
            "exit_code": self.exit.map_or(0, |exit| exit as u8),
        })
    }
}

const BACKUP: &str =
    "restore keyring, store and log from one backup (docs/operations.md, \"Lost disk\")";

/// Everything, the store first.
pub(super) fn findings(seen: &Seen<'_>) -> Vec<Finding> {
    let mut all = Vec::new();
    match unfinished(seen) {
        // What is in the store's place is not what counts.
        Some(finding) => all.push(finding),
        None => all.extend(store(seen)),
    }
    all.extend(log(seen));
    all.extend(seen.found.redaction_unfinished.then(redaction));
    all.extend(seen.found.anchors.iter().map(anchor));
    for (target, exported) in &seen.found.exports {
        all.extend(export(seen, target, exported));
    }
    if seen.found.unfinished.is_none() {
        all.extend(relation(seen));
        all.extend(outbox(seen));
    }
    for (number, generation) in &seen.found.generations {
        if let Err(error) = generation {
            all.push(Finding {
                exit: Some(Exit::Corrupt),
                reason: "GENERATION_CORRUPT",
                what: format!("generation {number}: {error}"),
                todo: vec!["move it away: the sidecar makes a new one when it starts".to_owned()],
            });
        }
    }
    all.extend(copy(seen));
    all.extend(seen.found.copy_shares_volume.then(|| {
        Finding {
        exit: None,
        reason: "STORE_COPY_SHARES_VOLUME",
        what: "the copy of the store is on the volume of the state directory: whatever takes that \
               takes the copy too"
            .to_owned(),
        todo: vec!["name a directory on another volume in store.copy".to_owned()],
    }
    }));
    for error in seen.found.backups.iter().filter_map(|backup| backup.as_ref().err()) {
        all.push(Finding {
            exit: Some(Exit::Corrupt),
            reason: error.reason(),
            what: error.to_string(),
            todo: vec!["keep it aside, and make another: fieldseal backup create".to_owned()],
        });
    }
    all
}

fn unfinished(seen: &Seen<'_>) -> Option<Finding> {
    let Unfinished { revision, record } = seen.found.unfinished?;
    Some(Finding {
        exit: Some(Exit::Corrupt),
        reason: "REPAIR_UNFINISHED",
        what: format!(
            "a repair was cut off after its record {record}: the store that it made, of revision \
             {revision}, is whole and waits in store.rebuilt"
        ),
        todo: vec![
            "leave store.rebuilt where it is: the log goes on from no other store".to_owned(),
            format!("finish it:  {}", seen.repair_command(Source::Rebuilt)),
        ],
    })
}

fn redaction() -> Finding {
    Finding {
        exit: None,
        reason: "REDACTION_UNFINISHED",
        what: "a redaction of the audit log began and did not end: what its records name may still be there, and \
               `audit verify` counts it"
            .to_owned(),
        todo: vec![
            "start the sidecar: it goes on with what records name".to_owned(),
            "if whoever asked for it had no answer, ask again: fieldseal audit redact".to_owned(),
        ],
    }
}

fn copy(seen: &Seen<'_>) -> Option<Finding> {
    let recorded = seen.found.last_change().map_or(0, |last| last.revision);
    match seen.found.copy.as_ref()? {
        Err(error) => {
            let (exit, todo) = match error {
                CopyError::Unavailable { .. } => (
                    Exit::Unavailable,
                    "mount the volume that holds it: until it is back, nothing is changed",
                ),
                _ => (Exit::Corrupt, "move it away: the next start begins a new one"),
            };
            let (reason, what) = (error.reason(), error.to_string());
            Some(Finding { exit: Some(exit), reason, what, todo: vec![todo.to_owned()] })
        }
        Ok(copy) if copy.is_torn || copy.revision < recorded => Some(Finding {
            exit: None,
            reason: "STORE_COPY_BEHIND",
            what: format!(
                "the copy ends with revision {}, and the audit log tells of {recorded}: its end is \
                 torn, or it is from another time",
                copy.revision
            ),
            todo: vec!["nothing, if the store is whole: the next start begins it anew".to_owned()],
        }),
        Ok(_) => None,
    }
}

fn store(seen: &Seen<'_>) -> Option<Finding> {
    let (exit, reason, what) = match &seen.found.store {
        Ok(store) if store.report.findings() == 0 => return None,
        Ok(store) => (Exit::Corrupt, "STORE_DAMAGED", format!("in the store: {}", store.report)),
        Err(error @ StoreError::NotInitialized(_)) => {
            (Exit::NotFound, "STORE_NOT_INITIALIZED", error.to_string())
        }
        Err(error @ StoreError::Corrupt(_)) => (Exit::Corrupt, "STORE_CORRUPT", error.to_string()),
        Err(error @ StoreError::FormatNewer { .. }) => {
            (Exit::Usage, "FORMAT_NEWER", error.to_string())
        }
        Err(error) => (Exit::Unavailable, "STORE_UNAVAILABLE", error.to_string()),
    };
    let mut todo = Vec::new();
    if exit == Exit::NotFound {
        todo.push("mount the volume that holds it, if it is on one of its own".to_owned());
    }
    if exit == Exit::Corrupt || exit == Exit::NotFound {
        todo.extend(ways_out(seen, false));
    }
    if let Ok(store) = &seen.found.store
        && !store.report.is_serious()
    {
        todo.push(
            "or leave it: only values of the damaged data keys do not open, and it serves all others"
                .to_owned(),
        );
    }
    Some(Finding { exit: Some(exit), reason, what, todo })
}

fn log(seen: &Seen<'_>) -> Option<Finding> {
    let error = match &seen.found.log {
        Ok(log) => {
            let torn = log.torn.as_ref()?;
            return Some(Finding {
                exit: None,
                reason: torn.reason(),
                what: "the end of the audit log is torn: its process was killed".to_owned(),
                todo: vec![
                    "nothing: the next start keeps it aside, cuts it off and records that"
                        .to_owned(),
                ],
            });
        }
        Err(error) => error,
    };
    let (exit, reason) = match error {
        VerifyError::Unreadable(JournalError::NotInitialized(_)) => {
            (Exit::NotFound, "AUDIT_LOG_NOT_INITIALIZED")
        }
        VerifyError::Unreadable(JournalError::FormatNewer { .. }) => (Exit::Usage, "FORMAT_NEWER"),
        VerifyError::Unreadable(_) => (Exit::Unavailable, error.reason()),
        VerifyError::Foreign { .. } => (Exit::Corrupt, error.reason()),
        _ => (Exit::Corrupt, "AUDIT_LOG_CORRUPT"),
    };
    let todo = vec![
        "keep the files as they are: they are evidence".to_owned(),
        BACKUP.to_owned(),
        "if there is none, `fieldseal recover` opens single values all the same".to_owned(),
    ];
    Some(Finding { exit: Some(exit), reason, what: error.to_string(), todo })
}

/// The log does not go on from a checkpoint that was posted elsewhere.
fn anchor(error: &AnchorError) -> Finding {
    let (exit, todo) = match error {
        AnchorError::Unreadable { .. } => (
            Exit::Unavailable,
            vec![
                "bring the place back: without its answer nobody can say whether the log is whole",
            ],
        ),
        AnchorError::Foreign { .. } => (
            Exit::Conflict,
            vec![
                "name a place of this installation's own in audit.anchor_file, audit.anchor_command or \
                 audit.anchor_url",
            ],
        ),
        _ => (
            Exit::Corrupt,
            vec![
                "put back the newest keyring, store and log, if they are still somewhere",
                "if an older backup was restored with intent: keep what the place has as evidence, move it \
                 and state/audit/anchored away, and start; the next checkpoint is posted there",
            ],
        ),
    };
    let todo = todo.into_iter().map(str::to_owned).collect();
    Finding { exit: Some(exit), reason: error.reason(), what: error.to_string(), todo }
}

/// What was exported is not of this log, or nothing more can be.
fn export(
    seen: &Seen<'_>,
    target: &ExportTarget,
    exported: &Result<u64, ExportError>,
) -> Option<Finding> {
    let aside = "move the cursor away, and its file: all records are exported anew";
    let error = match exported {
        Ok(next) => return behind(seen, target, *next),
        Err(error) => error,
    };
    let (exit, todo) = match error {
        ExportError::Unreadable { .. } => {
            (Exit::Unavailable, vec!["bring back the volume that holds it, if it is on one", aside])
        }
        ExportError::NoCursor { .. } => (Exit::Conflict, vec!["put its cursor back", aside]),
        ExportError::Foreign { .. } => (
            Exit::Conflict,
            vec![
                "name a target of this installation's own in audit.export_file or audit.export_otlp",
                aside,
            ],
        ),
        _ => (
            Exit::Corrupt,
            vec![
                "put back the newest keyring, store and log, if they are still somewhere",
                "if an older backup was restored with intent: keep what was exported as evidence, move \
                 the cursor away, and its file, and start; all records are exported anew",
            ],
        ),
    };
    let todo = todo.into_iter().map(str::to_owned).collect();
    Some(Finding { exit: Some(exit), reason: error.reason(), what: error.to_string(), todo })
}

/// Something waits to be exported. A stop leaves nothing behind unless it cannot be written.
fn behind(seen: &Seen<'_>, target: &ExportTarget, next: u64) -> Option<Finding> {
    let records = seen.found.log.as_ref().map_or(0, |log| log.verified.records);
    let behind = records.saturating_sub(next);
    let trouble = target.trouble();
    if behind == 0 && trouble.is_none() {
        return None;
    }
    let behind = counted(behind, "record");
    let what = format!("{behind} of the audit log not exported yet ({})", target.kind());
    let (what, todo) = match trouble {
        Some(trouble) => (
            format!("{what}, and none can be: {trouble}"),
            "mend it: the sidecar serves all the same, and exports the rest then",
        ),
        None => (what, "nothing: the next start exports them"),
    };
    let todo = vec![todo.to_owned()];
    Some(Finding { exit: None, reason: "AUDIT_EXPORT_BEHIND", what, todo })
}

fn relation(seen: &Seen<'_>) -> Option<Finding> {
    let mismatch = seen.found.relation.as_ref()?.as_ref().err()?;
    let todo = match mismatch.relation {
        Relation::StoreBehind => {
            let mut todo = vec!["put back the store that was here before, if it is whole".to_owned()];
            todo.extend(ways_out(seen, true));
            todo
        }
        Relation::LogBehind | Relation::Diverged => vec![
            "put back the log that goes with this store, or the store that goes with this log: what \
             the log does not tell of cannot be recorded afterwards"
                .to_owned(),
            BACKUP.to_owned(),
            "if there is none, `fieldseal recover` opens single values all the same".to_owned(),
        ],
    };
    Some(Finding {
        exit: Some(Exit::Corrupt),
        reason: mismatch.relation.reason(),
        what: mismatch.to_string(),
        todo,
    })
}

fn outbox(seen: &Seen<'_>) -> Option<Finding> {
    let waiting = seen.found.store.as_ref().ok()?.outbox.len() as u64;
    let recorded = seen.found.last_change().map_or(0, |last| last.revision);
    let store = seen.found.store.as_ref().ok()?;
    let left = store.outbox.iter().filter(|entry| entry.revision > recorded).count() as u64;
    (left > 0).then(|| Finding {
        exit: None,
        reason: "OUTBOX_WAITING",
        what: format!(
            "{} of {waiting} in the outbox not in the audit log yet",
            counted(left, "change")
        ),
        todo: vec!["nothing: the next start writes the records first".to_owned()],
    })
}

/// What can take the store's place, the one that loses least first.
fn ways_out(seen: &Seen<'_>, store_opens: bool) -> Vec<String> {
    let generations = seen.found.generations.iter().rev();
    let generations = generations.map(|(number, _)| Source::Generation(*number));
    let all = store_opens.then_some(Source::Store).into_iter().chain(generations);
    let all = std::iter::once(Source::Copy).chain(all);
    let mut possible: Vec<_> =
        all.filter_map(|source| Some((seen.found.lost(source).ok()?, source))).collect();
    possible.sort_by_key(|(lost, _)| std::cmp::Reverse(lost.revision));
    let newest = seen.found.backups.iter().flatten().next_back();
    let backup = newest.map_or_else(
        || BACKUP.to_owned(),
        |newest| format!("{BACKUP}; the newest is {}", newest.name),
    );
    let mut todo = vec![backup];
    for (lost, source) in possible {
        todo.push(format!("or  {}  ({})", seen.repair_command(source), lost_text(&lost)));
    }
    todo
}
