//! What the summary tells, counted while the records go by.

use std::collections::{BTreeMap, BTreeSet};

use fieldseal_audit::verify::{Detail, Entry, Field};
use fieldseal_audit::{Kind, Outcome, Started};
use fieldseal_model::{Action, ActionKind, Timestamp};
use serde_json::{Value, json};

use super::rows;

/// The most different things that are counted one by one; what comes after them is counted together.
/// Callers who are refused choose names, too.
const MOST_KINDS: usize = 50_000;
/// The most changes that are kept to be listed.
const MOST_CHANGES: usize = 400;
const HOUR: i64 = 3_600_000_000_000;

/// Counts of things, so many of them that a reader's memory holds them.
pub(super) struct Tally<K, V> {
    pub(super) counted: BTreeMap<K, V>,
    /// How often something came that was not counted by itself.
    pub(super) others: u64,
}

impl<K: Ord, V: Default> Tally<K, V> {
    fn add(&mut self, key: K, count: impl FnOnce(&mut V)) {
        if self.counted.len() >= MOST_KINDS && !self.counted.contains_key(&key) {
            self.others = self.others.saturating_add(1);
            return;
        }
        count(self.counted.entry(key).or_default());
    }
}

impl<K, V> Default for Tally<K, V> {
    fn default() -> Self {
        Self { counted: BTreeMap::new(), others: 0 }
    }
}

/// From when to when something happened, and how often.
#[derive(Default, Clone)]
pub(super) struct Span {
    pub(super) count: u64,
    pub(super) times: Option<(Timestamp, Timestamp)>,
}

impl Span {
    fn add(&mut self, at: Timestamp) {
        self.count = self.count.saturating_add(1);
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
    }
}

/// What a caller did with a field.
#[derive(Default)]
pub(super) struct Access {
    pub(super) read: Span,
    pub(super) sealed: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
}

/// A caller and a field: principal, key, table, column.
pub(super) type Place = (String, String, String, String);
/// Why something was refused: rule, cause, principal, action.
pub(super) type Refusal = (String, String, String, String);

/// A change, as it is listed.
pub(super) struct Change {
    pub(super) index: u64,
    pub(super) time: Timestamp,
    pub(super) what: String,
    pub(super) who: String,
    pub(super) about: String,
    pub(super) why: String,
    pub(super) outcome: String,
}

/// A policy that was in force from a record on: another one than before.
pub(super) struct InForce {
    pub(super) record: u64,
    pub(super) time: Timestamp,
    pub(super) kind: String,
    pub(super) digest: Vec<u8>,
}

/// Settings and certificates that a start told of, other ones than the start before.
pub(super) struct Configured {
    pub(super) record: u64,
    pub(super) time: Timestamp,
    pub(super) started: Started,
}

#[derive(Default)]
pub(super) struct Facts {
    /// Records between the times.
    pub(super) records: u64,
    pub(super) read: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) calls_refused: u64,
    pub(super) redacted: u64,
    pub(super) callers: BTreeSet<String>,
    pub(super) access: Tally<Place, Access>,
    /// Purposes of calls that read, as stated.
    pub(super) purposes: Tally<String, Span>,
    pub(super) refusals: Tally<Refusal, Span>,
    pub(super) changes: Vec<Change>,
    pub(super) change_count: u64,
    pub(super) starts: u64,
    pub(super) stops: u64,
    /// Who read this log: principal and action.
    pub(super) readers: Tally<(String, String), Span>,
    /// Fields that were read, and that were refused or failed, by hours since 1970.
    pub(super) hours: BTreeMap<i64, (u64, u64)>,
    /// Of all records, between the times or not.
    pub(super) policies: Vec<InForce>,
    /// The same; not of a process that serves nobody.
    pub(super) configured: Vec<Configured>,
    /// When the first and the last of the records between the times happened.
    pub(super) times: Option<(Timestamp, Timestamp)>,
}

impl Facts {
    /// The next record.
    pub(super) fn add(&mut self, entry: &Entry, in_scope: bool) {
        let kind = Kind::from_code(entry.kind);
        let done = entry.outcome == Outcome::Ok.code();
        let decides = kind == Some(Kind::Start) || kind == Some(Kind::PolicyReloaded) && done;
        let is_new = self.policies.last().is_none_or(|last| last.digest != entry.policy_digest);
        if decides && is_new && !entry.policy_digest.is_empty() {
            let (record, time, digest) = (entry.index, entry.time, entry.policy_digest.clone());
            self.policies.push(InForce { record, time, kind: rows::kind(entry.kind), digest });
        }
        let is_other = self.configured.last().is_none_or(|last| last.started != entry.started);
        if is_other && !entry.started.certificates.is_empty() {
            let (record, time, started) = (entry.index, entry.time, entry.started.clone());
            self.configured.push(Configured { record, time, started });
        }
        if !in_scope {
            return;
        }
        let (first, last) = self.times.unwrap_or((entry.time, entry.time));
        self.times = Some((first.min(entry.time), last.max(entry.time)));
        self.records = self.records.saturating_add(1);
        let is_redacted = matches!(entry.detail, Detail::Gone | Detail::Partly);
        self.redacted = self.redacted.saturating_add(u64::from(is_redacted));
        if !entry.principal.is_empty() {
            self.callers.insert(entry.principal.clone());
        }
        match kind {
            Some(Kind::Call) => self.call(entry),
            Some(Kind::Start) => self.starts = self.starts.saturating_add(1),
            Some(Kind::Stop) => self.stops = self.stops.saturating_add(1),
            Some(
                Kind::DataKeyCreated | Kind::SealsReserved | Kind::ClockTicked | Kind::VersionUsed,
            ) => {}
            _ => self.change(entry),
        }
    }

    fn call(&mut self, entry: &Entry) {
        if entry.outcome == Outcome::Denied.code() {
            self.calls_refused = self.calls_refused.saturating_add(1);
            let field = entry.fields.first().cloned().unwrap_or_default();
            let who = (entry.principal.clone(), rows::action(entry.action));
            self.refusals.add((field.rule, field.cause, who.0, who.1), |span| span.add(entry.time));
        }
        let action = u8::try_from(entry.action).ok().and_then(Action::from_code);
        match action.map(|action| (action, action.kind())) {
            Some((_, ActionKind::Decrypt)) => {
                self.purposes.add(entry.purpose.clone(), |span| span.add(entry.time));
                self.fields(entry, true);
            }
            Some((_, ActionKind::Encrypt)) => self.fields(entry, false),
            Some((action, _)) if reads_the_log(action) => {
                let reader = (entry.principal.clone(), action.as_str().to_owned());
                self.readers.add(reader, |span| span.add(entry.time));
            }
            _ => {}
        }
    }

    fn fields(&mut self, entry: &Entry, is_read: bool) {
        let none = [Field { outcome: entry.outcome, ..Field::default() }];
        let fields = if entry.fields.is_empty() { &none[..] } else { &entry.fields };
        for field in fields {
            // Of an item that was redacted nothing is known.
            let Some(outcome) = Outcome::from_code(field.outcome) else { continue };
            let place = (
                entry.principal.clone(),
                field.key.clone(),
                field.table.clone(),
                field.column.clone(),
            );
            self.access.add(place, |access| match outcome {
                Outcome::Ok if is_read => access.read.add(entry.time),
                Outcome::Ok => access.sealed = access.sealed.saturating_add(1),
                Outcome::Denied => access.refused = access.refused.saturating_add(1),
                Outcome::Failed => access.failed = access.failed.saturating_add(1),
                _ => {}
            });
            if is_read {
                self.count(entry.time, outcome);
            }
        }
    }

    /// A field of a decrypt.
    fn count(&mut self, at: Timestamp, outcome: Outcome) {
        let hour = self.hours.entry(at.unix_nanos().div_euclid(HOUR)).or_default();
        let (total, of_hour) = match outcome {
            Outcome::Ok => (&mut self.read, &mut hour.0),
            Outcome::Denied => (&mut self.refused, &mut hour.1),
            Outcome::Failed => (&mut self.failed, &mut hour.1),
            _ => return,
        };
        (*total, *of_hour) = (total.saturating_add(1), of_hour.saturating_add(1));
    }

    fn change(&mut self, entry: &Entry) {
        self.change_count = self.change_count.saturating_add(1);
        if self.changes.len() >= MOST_CHANGES {
            return;
        }
        let about = entry.fields.first().map(about).unwrap_or_default();
        let parts = [about, entry.note.clone()];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let why = [&entry.purpose, &entry.ticket].into_iter().filter(|text| !text.is_empty());
        let rule = entry.fields.first().map(|field| field.rule.clone()).unwrap_or_default();
        let who = if entry.principal.is_empty() && !rule.is_empty() {
            format!("the sidecar itself ({rule})")
        } else if entry.principal.is_empty() {
            "the sidecar itself".to_owned()
        } else {
            entry.principal.clone()
        };
        self.changes.push(Change {
            index: entry.index,
            time: entry.time,
            what: rows::kind(entry.kind),
            who,
            about: parts.join(" · "),
            why: why.cloned().collect::<Vec<_>>().join(" · "),
            outcome: rows::outcome(entry.outcome),
        });
    }

    /// The numbers that `verify.py` counts as well.
    pub(super) fn figures(&self) -> Value {
        json!({
            "records": self.records, "fields_read": self.read, "fields_refused": self.refused,
            "fields_failed": self.failed, "calls_refused": self.calls_refused,
            "callers": self.callers.len(), "changes": self.change_count,
            "records_redacted": self.redacted,
        })
    }
}

/// `customer-pii/2`, or the key alone.
fn about(field: &Field) -> String {
    match (field.key.as_str(), field.key_version) {
        (key, 0) => key.to_owned(),
        (key, version) => format!("{key}/{version}"),
    }
}

fn reads_the_log(action: Action) -> bool {
    matches!(
        action,
        Action::QueryAuditEvents
            | Action::GetCheckpoint
            | Action::SummarizeAccess
            | Action::GetInclusionProof
            | Action::GetConsistencyProof
            | Action::TailAuditEvents
            | Action::RedactAuditEvents
    )
}
