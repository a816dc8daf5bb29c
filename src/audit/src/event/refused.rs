//! Refusals that are alike, counted in one record. Nothing that tells two of them apart is left out: they
//! have everything public in common but the time, and ticket and end user too, and each row and partition
//! that was asked for is listed with its number.

use fieldseal_crypto::sha256;
use prost::Message as _;

use super::{CallEvent, write_item};
use crate::error::JournalError;
use crate::merkle;
use crate::record::{DetailHead, Encoded, Outcome, Record, SALT_BYTES, fill_salts};
use crate::wire;

/// Most different items that one record lists.
const MOST_ITEMS: usize = 256;

/// Calls that were refused, and what they have in common.
pub(crate) struct Refused {
    public: Vec<u8>,
    outcome: Outcome,
    ticket: String,
    end_user: Option<[u8; 16]>,
    calls: u64,
    first: i64,
    last: i64,
    /// Each item once. Of calls with one item: in how many of them it was; otherwise 0, and every call had
    /// all of them.
    items: Vec<(Vec<u8>, u64)>,
}

impl CallEvent {
    /// A hash of what it has in common with those that are counted together with it; `None` if it
    /// is recorded by itself, because policy allowed something of it.
    pub(crate) fn refusal(&self) -> Option<[u8; 32]> {
        if self.permits || self.ok > 0 || self.items.is_empty() {
            return None;
        }
        let mut all = Vec::with_capacity(self.public.len() + 128);
        wire::bytes(&mut all, 1, &self.public);
        wire::number(&mut all, 2, self.outcome().code().into());
        wire::bytes(&mut all, 3, self.ticket.as_bytes());
        wire::bytes(&mut all, 4, self.end_user.as_ref().map_or(&[][..], |token| token));
        // Which items a batch has tells it apart: only so can it be said later how often each was asked for,
        // and in how many calls.
        if self.items.len() > 1 {
            for item in self.written() {
                wire::message(&mut all, 5, item.len());
                all.extend_from_slice(&item);
            }
        }
        Some(sha256(&[&all]))
    }

    /// Who called.
    pub(crate) fn caller(&self) -> String {
        Record::decode(self.public.as_slice()).map(|record| record.principal).unwrap_or_default()
    }

    fn written(&self) -> impl Iterator<Item = Vec<u8>> {
        self.items.iter().map(|(verdict, item)| {
            let mut written = Vec::with_capacity(64);
            write_item(&mut written, *verdict, item, false);
            written
        })
    }
}

impl Refused {
    /// The first that is counted.
    pub(crate) fn of(event: &CallEvent) -> Self {
        let (at, is_one) = (event.at.unix_nanos(), event.items.len() == 1);
        Self {
            public: event.public.clone(),
            outcome: event.outcome(),
            ticket: event.ticket.clone(),
            end_user: event.end_user,
            calls: 1,
            first: at,
            last: at,
            items: event.written().map(|item| (item, u64::from(is_one))).collect(),
        }
    }

    /// One more; false if there is no room for another item, and it is not counted.
    pub(crate) fn add(&mut self, event: &CallEvent) -> bool {
        if event.items.len() == 1 {
            let Some(item) = event.written().next() else { return false };
            let has_room = self.items.len() < MOST_ITEMS;
            match self.items.iter_mut().find(|(known, _)| *known == item) {
                Some((_, calls)) => *calls = calls.saturating_add(1),
                None if has_room => self.items.push((item, 1)),
                None => return false,
            }
        }
        let at = event.at.unix_nanos();
        self.calls = self.calls.saturating_add(1);
        (self.first, self.last) = (self.first.min(at), self.last.max(at));
        true
    }

    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let items: usize = self.items.iter().map(|(item, _)| item.len() + 48).sum();
        self.public.len() + self.ticket.len() + items + 256
    }

    /// How many calls it stands for.
    pub(crate) const fn calls(&self) -> u64 {
        self.calls
    }

    /// The record.
    pub(crate) fn encode(&self) -> Result<Encoded, JournalError> {
        let count = u32::try_from(self.items.len()).map_err(|_| JournalError::Inconsistent)?;
        let mut public = self.public.clone();
        wire::fixed(&mut public, 2, self.last);
        wire::number(&mut public, 5, self.outcome.code().into());
        // How many items each of the calls had.
        let is_one = self.items.iter().all(|(_, calls)| *calls > 0);
        wire::number(&mut public, 8, if is_one { 1 } else { count.into() });
        wire::number(&mut public, 30, self.calls);
        wire::fixed(&mut public, 31, self.first);
        let mut salts = vec![0; SALT_BYTES * (self.items.len() + 1)];
        fill_salts(&mut salts)?;
        let (salt, salts) = salts.split_first_chunk().ok_or(JournalError::Inconsistent)?;
        let (mut tree, mut items) = (merkle::Frontier::default(), Vec::new());
        for ((item, calls), salt) in self.items.iter().zip(salts.chunks_exact(SALT_BYTES)) {
            let mut item = item.clone();
            wire::number(&mut item, 10, *calls);
            tree.append(sha256(&[&[0], salt, &item]));
            items.extend_from_slice(salt);
            wire::varint(&mut items, item.len() as u64);
            items.extend_from_slice(&item);
        }
        let head = DetailHead {
            ticket: self.ticket.clone(),
            items_root: tree.root().to_vec(),
            item_count: count,
            partition: Vec::new(),
            end_user: self.end_user.map_or_else(Vec::new, |token| token.to_vec()),
        };
        Ok(Encoded::new(public, salt, &head.encode_to_vec(), items, 0))
    }
}
