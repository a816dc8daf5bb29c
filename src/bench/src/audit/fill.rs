//! A log of decrypts, written by the journal itself: frames that are signed and synced.

use std::time::{Duration, Instant};

use fieldseal_audit::{CallEvent, Item, ItemOutcome, Journal, Verdict};
use fieldseal_crypto::sha256;
use fieldseal_model::{
    AccessReason, Action, Column, KeyName, PartitionClass, Principal, Purpose, Table, Ticket,
    Timestamp,
};
use fieldseal_policy::{Denial, Permit, Policy, Request, Role, default_files};
use tokio::task::JoinSet;

use crate::error::BenchError;
use crate::ratios::tell;

/// Who is read about, and for how many days.
pub(super) const PERSONS: u64 = 100_000;
pub(super) const DAYS: u64 = 30;
/// Who calls once in a while: once in [`RARELY`] records.
pub(super) const RARE: &str = "spiffe://bench.example/rare";
const RARELY: u64 = 100_000;
/// Who calls all the time, who must not, and what is read.
const APPS: u64 = 12;
const STRANGER: &str = "spiffe://bench.example/stranger";
pub(super) const COLUMNS: [&str; 4] = ["email", "iban", "name", "phone"];
pub(super) const TABLE: &str = "users";
const KEY: &str = "customer-pii";
/// One in so many calls is a batch, of so many fields of different persons.
const BATCHES: u8 = 16;
const BATCH: u64 = 8;
/// Callers at the same time.
const GROUP: u64 = 64;
/// 2026-01-01T00:00:00Z.
const BEGIN: i64 = 1_767_225_600_000_000_000;
const DAY: i64 = 86_400_000_000_000;

/// The token of a person's partition.
pub(super) fn person(number: u64) -> [u8; 16] {
    token("person", number % PERSONS)
}

fn token(what: &str, number: u64) -> [u8; 16] {
    let hash = sha256(&[what.as_bytes(), &number.to_le_bytes()]);
    hash.first_chunk().copied().unwrap_or_default()
}

/// The name of a caller.
pub(super) fn app(number: u64) -> String {
    format!("spiffe://bench.example/app-{}", number % APPS)
}

/// When a day begins.
pub(super) fn day(number: u64) -> Timestamp {
    Timestamp::from_unix_nanos(BEGIN.saturating_add_unsigned(number.saturating_mul(DAY as u64)))
}

/// What policy said once; it says the same of each record.
struct Decided {
    principal: Principal,
    column: Column,
    verdict: Result<Permit, Denial>,
}

/// Writes records.
pub(super) struct Writer {
    pub(super) journal: Journal,
    decided: Vec<Decided>,
    table: Table,
    key: KeyName,
}

impl Writer {
    pub(super) fn new(journal: Journal) -> Result<Self, BenchError> {
        let mut names: Vec<_> = (0..APPS).map(app).collect();
        names.extend([RARE.to_owned(), STRANGER.to_owned()]);
        let principals = names.iter().map(|name| Principal::parse(name).map_err(|_| unusable()));
        let principals = principals.collect::<Result<Vec<_>, _>>()?;
        let members: Vec<_> = principals
            .iter()
            .filter(|who| who.as_str() != STRANGER)
            .map(|who| (Role::App, who.clone()))
            .collect();
        let policy = Policy::from_texts(default_files(&members)).map_err(|_| unusable())?;
        let table = Table::parse(TABLE).map_err(|_| unusable())?;
        let key = KeyName::parse(KEY).map_err(|_| unusable())?;
        let mut decided = Vec::new();
        for principal in principals {
            for column in COLUMNS {
                let column = Column::parse(column).map_err(|_| unusable())?;
                let verdict = policy.decide(&Request {
                    principal: &principal,
                    action: Action::Decrypt,
                    key: Some(&key),
                    partition: PartitionClass::Named,
                    table: Some(&table),
                    column: Some(&column),
                    reason: &reason(0)?,
                });
                decided.push(Decided { principal: principal.clone(), column, verdict });
            }
        }
        Ok(Self { journal, decided, table, key })
    }

    /// Writes until the log has so many records, spread over the days. Records a second; none if it
    /// had them already.
    pub(super) async fn fill(&mut self, records: u64) -> Result<Option<f64>, BenchError> {
        let had = self.journal.checkpoint().tree_size;
        let begun = Instant::now();
        let mut next = had;
        while next < records {
            next = self.group(next, records).await?;
            if next % 500_000 < GROUP {
                tell(&format!("{next} records after {:.0?}", begun.elapsed()));
            }
        }
        let written = next.saturating_sub(had);
        Ok((written > 0).then(|| written as f64 / begun.elapsed().as_secs_f64()))
    }

    /// Writes for so long; records a second.
    pub(super) async fn rate(&mut self, time: Duration) -> Result<f64, BenchError> {
        let begun = Instant::now();
        let first = self.journal.checkpoint().tree_size;
        let mut next = first;
        while begun.elapsed() < time {
            next = self.group(next, next).await?;
        }
        Ok((next - first) as f64 / begun.elapsed().as_secs_f64())
    }

    /// Writes as many records as callers wait at the same time; the number of the next one.
    async fn group(&self, first: u64, of: u64) -> Result<u64, BenchError> {
        let next = first + GROUP;
        let events = (first..next).map(|number| self.event(number, of));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        // Tasks of their own, as calls are: while one writes the others can queue.
        let mut callers = JoinSet::new();
        for event in events {
            let journal = self.journal.clone();
            callers.spawn(async move { journal.record(event).await });
        }
        while let Some(written) = callers.join_next().await {
            written.map_err(|_| unusable())??;
        }
        Ok(next)
    }

    fn event(&self, number: u64, of: u64) -> Result<CallEvent, BenchError> {
        let dice = token("dice", number);
        let [who, column, end, batch, ..] = dice;
        let who = match number {
            n if n % RARELY == RARELY / 2 => APPS,
            _ if end == 0 => APPS + 1,
            _ => u64::from(who) % APPS,
        };
        let columns = COLUMNS.len();
        let place = who as usize * columns + usize::from(column) % columns;
        let decided = self.decided.get(place).ok_or_else(unusable)?;
        let into = u128::from(DAYS) * DAY as u128 * u128::from(number) / u128::from(of.max(1));
        let at = Timestamp::from_unix_nanos(BEGIN.saturating_add(into as i64));
        let reason = reason(number)?;
        let is_batch = batch % BATCHES == 0;
        let action = if is_batch { Action::BatchDecrypt } else { Action::Decrypt };
        let mut event = CallEvent::new(&decided.principal, action, &reason, at);
        let (verdict, outcome) = match &decided.verdict {
            Ok(permit) if end == 1 => {
                (Verdict::Permit(permit), ItemOutcome::Failed("DECRYPTION_FAILED"))
            }
            Ok(permit) => (Verdict::Permit(permit), ItemOutcome::Ok),
            Err(denial) => (Verdict::Denial(denial), ItemOutcome::Denied),
        };
        let (key, table) = (Some(&self.key), Some(&self.table));
        let verdict = event.verdict(verdict, key, table, Some(&decided.column));
        let about = u64::from_le_bytes(*dice.last_chunk().ok_or_else(unusable)?) % PERSONS;
        for about in about..about + if is_batch { BATCH } else { 1 } {
            let (partition, row) = (Some(person(about)), Some(token("row", about % PERSONS)));
            event.item(verdict, Item { partition, row, key_version: 1, outcome: outcome.clone() });
        }
        Ok(event)
    }
}

fn reason(number: u64) -> Result<AccessReason, BenchError> {
    let ticket = format!("SUP-{}", number / 10);
    Ok(AccessReason {
        purpose: Purpose::parse("customer-support").map_err(|_| unusable())?,
        ticket: Ticket::parse(&ticket).map_err(|_| unusable())?,
        end_user: None,
    })
}

pub(super) fn unusable() -> BenchError {
    BenchError::Wrong { server: "audit", what: "a name or policy of the bench is not usable" }
}
