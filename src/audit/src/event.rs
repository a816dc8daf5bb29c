//! What the floors above say about a call, a change or the process; made into records here.

mod about;
mod archived;
mod by;
mod redacted;
mod refused;
mod started;
mod waiting;

use fieldseal_crypto::random;
use fieldseal_model::{
    AccessReason, Action, Column, KeyId, KeyName, Malformed, Principal, Table, Timestamp,
};
use fieldseal_policy::{Denial, Permit};
use prost::Message as _;

use crate::error::JournalError;
use crate::merkle;
use crate::record::{DetailHead, Encoded, Kind, Outcome, SALT_BYTES, decision, fill_salts};
use crate::wire;
pub use by::ChangedBy;
pub(crate) use refused::Refused;
use started::write_caller;
pub use started::{Started, StartedCertificate};

pub(crate) use waiting::Waiting;

/// What was decided about a field of a call.
#[derive(Clone, Copy)]
pub enum Verdict<'a> {
    /// Policy allowed it.
    Permit(&'a Permit),
    /// Policy refused it.
    Denial(&'a Denial),
    /// It could not be parsed, so policy was never asked.
    Malformed(&'a Malformed),
    /// The end user's token was refused for this reason, so policy was never asked.
    EndUser(&'a str),
    /// The process does it by itself, because of this rule of its own.
    Itself(&'static str),
}

/// A verdict's place in its event, and whether it is a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictIndex {
    place: u32,
    permits: bool,
}

/// How an item ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemOutcome {
    /// It was done; if the call opens values, one was opened.
    Ok,
    /// Policy refused it.
    Denied,
    /// It failed for this reason: the true one, which the caller may not know.
    Failed(&'static str),
}

/// One field of a call.
#[derive(Debug, Clone)]
pub struct Item {
    /// The partition's token; `None` for the default partition.
    pub partition: Option<[u8; 16]>,
    /// The row's token; `None` if no row was stated.
    pub row: Option<[u8; 16]>,
    /// The key version that was reached, or 0.
    pub key_version: u32,
    /// How it ended.
    pub outcome: ItemOutcome,
}

/// The event of one call, unary or batch: one record.
pub struct CallEvent {
    /// All of it but the time and how it ended.
    public: Vec<u8>,
    at: Timestamp,
    ticket: String,
    end_user: Option<[u8; 16]>,
    verdicts: u32,
    items: Vec<(VerdictIndex, Item)>,
    ok: usize,
    denied: usize,
    /// False once an item is said to be OK without a permit.
    permitted: bool,
    /// Whether policy allowed any of it.
    permits: bool,
}

impl CallEvent {
    /// An event that began at this moment.
    #[must_use]
    pub fn new(
        principal: &Principal,
        action: Action,
        reason: &AccessReason,
        at: Timestamp,
    ) -> Self {
        let mut public = Vec::with_capacity(256);
        wire::number(&mut public, 1, Kind::Call.code().into());
        write_caller(&mut public, principal);
        wire::number(&mut public, 4, action.code().into());
        wire::bytes(&mut public, 6, reason.purpose.as_str().as_bytes());
        let ticket = reason.ticket.as_str().to_owned();
        let end_user = reason.end_user.as_ref().map(|user| *user.token());
        Self {
            public,
            at,
            ticket,
            end_user,
            verdicts: 0,
            items: Vec::new(),
            ok: 0,
            denied: 0,
            permitted: true,
            permits: false,
        }
    }

    /// Adds a decision and what it was about: once for each field of the call.
    pub fn verdict(
        &mut self,
        verdict: Verdict<'_>,
        key: Option<&KeyName>,
        table: Option<&Table>,
        column: Option<&Column>,
    ) -> VerdictIndex {
        write_verdict(&mut self.public, verdict, key, table, column);
        let permits = matches!(verdict, Verdict::Permit(_));
        self.permits |= permits;
        let index = VerdictIndex { place: self.verdicts, permits };
        self.verdicts = self.verdicts.saturating_add(1);
        index
    }

    /// Adds an item.
    pub fn item(&mut self, verdict: VerdictIndex, item: Item) {
        match item.outcome {
            ItemOutcome::Ok => {
                self.ok += 1;
                self.permitted &= verdict.permits;
            }
            ItemOutcome::Denied => self.denied += 1,
            ItemOutcome::Failed(_) => {}
        }
        self.items.push((verdict, item));
    }

    /// Salts the items (one call of the operating system), hashes them and makes the record.
    pub(crate) fn encode(mut self) -> Result<Encoded, JournalError> {
        let outcome = self.outcome();
        let count = u32::try_from(self.items.len()).map_err(|_| JournalError::Inconsistent)?;
        let mut salts = vec![0; SALT_BYTES * (self.items.len() + 1)];
        fill_salts(&mut salts)?;
        let (salt, salts) = salts.split_first_chunk().ok_or(JournalError::Inconsistent)?;
        let shared = self.shared_partition();
        let mut tree = merkle::Frontier::default();
        let mut items = Vec::with_capacity(self.items.len() * ITEM_BYTES);
        let mut one = Vec::with_capacity(128);
        for ((verdict, item), salt) in self.items.iter().zip(salts.chunks_exact(SALT_BYTES)) {
            // The leaf's domain byte, the salt and the item in one piece: one call of the hash.
            one.clear();
            one.push(0);
            one.extend_from_slice(salt);
            write_item(&mut one, *verdict, item, shared.is_some());
            tree.append(fieldseal_crypto::sha256(&[&one]));
            items.extend_from_slice(salt);
            let written = one.get(1 + SALT_BYTES..).unwrap_or_default();
            wire::varint(&mut items, written.len() as u64);
            items.extend_from_slice(written);
        }
        wire::fixed(&mut self.public, 2, self.at.unix_nanos());
        wire::number(&mut self.public, 5, outcome.code().into());
        wire::number(&mut self.public, 8, count.into());
        let mut head = Vec::with_capacity(96 + self.ticket.len());
        wire::bytes(&mut head, 1, self.ticket.as_bytes());
        if count > 0 {
            wire::bytes(&mut head, 2, &tree.root());
            wire::number(&mut head, 3, count.into());
        }
        wire::bytes(&mut head, 4, shared.as_ref().map_or(&[][..], |token| token));
        wire::bytes(&mut head, 5, self.end_user.as_ref().map_or(&[][..], |token| token));
        Ok(Encoded::new(self.public, salt, &head, items, 0))
    }
}

/// What an item takes with its salt and its row, about.
const ITEM_BYTES: usize = 48;

fn write_item(out: &mut Vec<u8>, verdict: VerdictIndex, item: &Item, shared_partition: bool) {
    let (outcome, cause) = match item.outcome {
        ItemOutcome::Ok => (Outcome::Ok, ""),
        ItemOutcome::Denied => (Outcome::Denied, ""),
        ItemOutcome::Failed(cause) => (Outcome::Failed, cause),
    };
    let own = item.partition.as_ref().filter(|_| !shared_partition);
    wire::number(out, 1, verdict.place.into());
    wire::bytes(out, 2, item.row.as_ref().map_or(&[][..], |token| token));
    wire::bytes(out, 3, own.map_or(&[][..], |token| token));
    wire::number(out, 4, item.key_version.into());
    wire::number(out, 5, outcome.code().into());
    wire::bytes(out, 6, cause.as_bytes());
}

fn write_verdict(
    out: &mut Vec<u8>,
    verdict: Verdict<'_>,
    key: Option<&KeyName>,
    table: Option<&Table>,
    column: Option<&Column>,
) {
    let (code, rule, cause, generation) = match verdict {
        Verdict::Permit(permit) => (decision::PERMIT, permit.rule(), "", permit.generation()),
        Verdict::Denial(denial) => {
            let rule = denial.rule().unwrap_or_default();
            (decision::DENIAL, rule, denial.cause().as_str(), denial.generation())
        }
        Verdict::Malformed(what) => (decision::MALFORMED, "", what.reason().as_str(), 0),
        Verdict::EndUser(why) => (decision::END_USER, "", why, 0),
        Verdict::Itself(rule) => (decision::ITSELF, rule, "", 0),
    };
    let key = key.map_or("", KeyName::as_str);
    let table = table.map_or("", Table::as_str);
    let column = column.map_or("", Column::as_str);
    let text = |text: &str| match text.len() {
        0 => 0,
        len => 1 + wire::varint_len(len as u64) + len,
    };
    let generation_len = if generation == 0 { 0 } else { 1 + wire::varint_len(generation) };
    let len =
        2 + text(rule) + text(key) + text(table) + text(column) + text(cause) + generation_len;
    wire::message(out, 7, len);
    wire::number(out, 1, code.into());
    wire::bytes(out, 2, rule.as_bytes());
    wire::bytes(out, 3, key.as_bytes());
    wire::bytes(out, 4, table.as_bytes());
    wire::bytes(out, 5, column.as_bytes());
    wire::bytes(out, 6, cause.as_bytes());
    wire::number(out, 7, generation);
}

/// An event of the process itself. It releases nothing.
pub struct SystemEvent {
    public: Vec<u8>,
    ticket: String,
}

impl SystemEvent {
    fn of(kind: Kind, outcome: Outcome, at: Timestamp) -> Self {
        let mut public = Vec::with_capacity(256);
        wire::number(&mut public, 1, kind.code().into());
        wire::fixed(&mut public, 2, at.unix_nanos());
        wire::number(&mut public, 5, outcome.code().into());
        Self { public, ticket: String::new() }
    }

    /// The process started: its version, and SHA-256 over schema and policies.
    #[must_use]
    pub fn start(at: Timestamp, version: &str, policy_digest: [u8; 32]) -> Self {
        let mut event = Self::of(Kind::Start, Outcome::Ok, at);
        wire::bytes(&mut event.public, 13, version.as_bytes());
        wire::bytes(&mut event.public, 14, &policy_digest);
        event
    }

    /// The process stops in an orderly way.
    #[must_use]
    pub fn stop(at: Timestamp) -> Self {
        Self::of(Kind::Stop, Outcome::Ok, at)
    }

    /// The policy's files were read again, by a caller with this permit or by the process itself:
    /// the digest of the policy before, and that of the one which decides from now on, or what is
    /// wrong with the files.
    #[must_use]
    pub fn policy_reloaded(
        at: Timestamp,
        by: Option<(&Permit, &AccessReason)>,
        previous: [u8; 32],
        ended: Result<[u8; 32], &str>,
    ) -> Self {
        let outcome = if ended.is_ok() { Outcome::Ok } else { Outcome::Failed };
        let mut event = Self::of(Kind::PolicyReloaded, outcome, at);
        let public = &mut event.public;
        // The same action whoever asked, so that one query finds every reload.
        wire::number(public, 4, Action::ReloadPolicy.code().into());
        if let Some((permit, reason)) = by {
            write_caller(public, permit.principal());
            wire::bytes(public, 6, reason.purpose.as_str().as_bytes());
            write_verdict(public, Verdict::Permit(permit), None, None, None);
            event.ticket = reason.ticket.as_str().to_owned();
        }
        match ended {
            Ok(digest) => wire::bytes(public, 14, &digest),
            Err(why) => wire::bytes(public, 13, why.as_bytes()),
        }
        wire::bytes(public, 15, &previous);
        event
    }

    /// What somebody with this permit did to a stopped installation: how it ended, how many keys it
    /// was about, and more about it in words, without any secret.
    #[must_use]
    pub fn offline(
        at: Timestamp,
        kind: Kind,
        permit: &Permit,
        ended: Result<&str, &str>,
        count: u64,
    ) -> Self {
        let outcome = if ended.is_ok() { Outcome::Ok } else { Outcome::Failed };
        let mut event = Self::of(kind, outcome, at);
        let public = &mut event.public;
        write_caller(public, permit.principal());
        wire::number(public, 4, permit.action().code().into());
        write_verdict(public, Verdict::Permit(permit), None, None, None);
        let (Ok(note) | Err(note)) = ended;
        wire::bytes(public, 13, note.as_bytes());
        wire::number(public, 16, count);
        event
    }

    /// A scrub of the store found so many things wrong, of these kinds. It names nothing.
    #[must_use]
    pub fn scrub_found(at: Timestamp, findings: u64, found: &str) -> Self {
        let mut event = Self::of(Kind::ScrubFound, Outcome::Failed, at);
        wire::bytes(&mut event.public, 13, found.as_bytes());
        wire::number(&mut event.public, 16, findings);
        event
    }

    pub(crate) fn tail_recovered(at: Timestamp, bytes: u64, aside: &str) -> Self {
        let mut event = Self::of(Kind::TailRecovered, Outcome::Ok, at);
        let note = format!("{bytes} bytes after the last whole frame are kept in {aside}");
        wire::bytes(&mut event.public, 13, note.as_bytes());
        event
    }

    pub(crate) fn encode(self) -> Result<Encoded, JournalError> {
        let head = DetailHead { ticket: self.ticket, ..DetailHead::default() }.encode_to_vec();
        let salt = random::array().map_err(|_| JournalError::Random)?;
        Ok(Encoded::new(self.public, &salt, &head, Vec::new(), 0))
    }
}

/// The event of a change of keys. It waits in the store's outbox, written by the same transaction as
/// the change, until the journal has it.
pub struct ChangeEvent {
    public: Vec<u8>,
    ticket: String,
    partition: Option<[u8; 16]>,
}

impl ChangeEvent {
    /// A change of this kind, of this key or of the whole installation.
    #[must_use]
    pub fn new(by: ChangedBy<'_>, at: Timestamp, kind: Kind, key: Option<&KeyName>) -> Self {
        let mut public = Vec::with_capacity(256);
        wire::number(&mut public, 1, kind.code().into());
        wire::fixed(&mut public, 2, at.unix_nanos());
        wire::number(&mut public, 5, Outcome::Ok.code().into());
        let ticket = by.write(&mut public, key);
        Self { public, ticket, partition: None }
    }

    /// The key version that it is about.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        wire::number(&mut self.public, 11, version.into());
        self
    }

    /// The data key that it is about.
    #[must_use]
    pub fn key_id(mut self, id: KeyId) -> Self {
        wire::bytes(&mut self.public, 12, id.as_bytes());
        self
    }

    /// The partition that it is about: its token.
    #[must_use]
    pub fn partition(mut self, token: Option<[u8; 16]>) -> Self {
        self.partition = token;
        self
    }

    /// How many data keys it is about.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        wire::number(&mut self.public, 16, count);
        self
    }

    /// The data keys that a restore from an older backup must treat in the same way.
    #[must_use]
    pub fn key_ids(mut self, ids: &[KeyId]) -> Self {
        let ids: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        wire::bytes(&mut self.public, 17, &ids);
        self
    }

    /// A data key that the partition had before it was erased an earlier time: a restore from a backup
    /// that has none of its data keys knows the partition by it.
    #[must_use]
    pub fn erased_key_id(mut self, id: Option<KeyId>) -> Self {
        wire::bytes(&mut self.public, 18, id.as_ref().map_or(&[][..], |id| id.as_bytes()));
        self
    }

    /// The key's settings as they are now, encoded: a restore from an older backup sets them again.
    #[must_use]
    pub fn settings(mut self, settings: &[u8]) -> Self {
        wire::bytes(&mut self.public, 19, settings);
        self
    }

    /// More about it, in words. No name of a partition or row, and no secret.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        wire::bytes(&mut self.public, 13, note.as_bytes());
        self
    }

    /// The bytes for the outbox: with the revision that the store gave the change, and the HMAC over
    /// the sum of the whole store after it.
    #[must_use]
    pub fn encode(mut self, revision: u64, anchor: [u8; 32]) -> Vec<u8> {
        wire::number(&mut self.public, 9, revision);
        wire::bytes(&mut self.public, 10, &anchor);
        let partition = self.partition.map_or_else(Vec::new, |token| token.to_vec());
        Waiting { public: self.public, ticket: self.ticket, partition, revision }.encode_to_vec()
    }
}
