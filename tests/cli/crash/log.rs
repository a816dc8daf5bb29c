//! The audit log as an auditor reads it over the wire.

use std::collections::{BTreeMap, BTreeSet};

use fieldseal_client::v1;

use super::told::Told;
use crate::installation::Installation;

const PAGE: i32 = 1000;
/// The kinds of records that tell of a change of the store that somebody called for.
const CHANGES: [&str; 9] = [
    "KEY_CREATED",
    "KEY_ROTATED",
    "DATA_KEY_CREATED",
    "SEALS_RESERVED",
    "VERSION_ENABLED",
    "VERSION_DISABLED",
    "REWRAP_STARTED",
    "PARTITION_SHREDDED",
    "PARTITION_RESTORED",
];

pub(super) struct Record {
    pub(super) leaf_hash: Vec<u8>,
    pub(super) ticket: String,
    pub(super) kind: String,
    /// Of a record with one item.
    pub(super) subject: Option<Subject>,
}

pub(super) struct Subject {
    pub(super) key: String,
    pub(super) version: String,
    /// The partition's.
    pub(super) token: String,
}

/// Every record by its index.
#[derive(Default)]
pub(super) struct Log {
    records: BTreeMap<u64, Record>,
    newest: Option<fieldseal_client::v1::AuditEventQuery>,
    starts: BTreeSet<u64>,
}

impl Log {
    /// Reads what came since the last time; what is read again must be the same.
    pub(super) async fn read_on(&mut self, installation: &Installation) {
        let mut client = installation.client("auditor").await.audit();
        let query = self.newest.clone().unwrap_or_default();
        let (mut page_token, mut times) = (String::new(), Vec::new());
        loop {
            let request = v1::QueryAuditEventsRequest {
                query: Some(query.clone()),
                page_size: PAGE,
                page_token,
                order_by: "event_time".to_owned(),
                include_items: false,
                ..Default::default()
            };
            let page = client.query_audit_events(request).await.unwrap().into_inner();
            for event in page.audit_events {
                times.extend(event.event_time);
                self.take(event);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        // Times need not be in the order of the records; a second is more than they can differ.
        let newest = times.into_iter().max_by_key(|time| (time.seconds, time.nanos));
        let start_time = newest.map(|mut time| {
            time.seconds -= 1;
            time
        });
        self.newest = Some(v1::AuditEventQuery { start_time, ..Default::default() });
    }

    fn take(&mut self, event: v1::AuditEvent) {
        let index = event.name.rsplit('/').next().unwrap().parse().unwrap();
        if event.kind == "START" {
            self.starts.insert(index);
        }
        let subject = match event.items.as_slice() {
            [item] => Some(Subject {
                key: item.key.clone(),
                version: item.key_version.clone(),
                token: item.partition_token.clone(),
            }),
            _ => None,
        };
        let leaf_hash = event.leaf_hash.to_vec();
        let (ticket, kind) = (event.ticket, event.kind);
        let record = Record { leaf_hash, ticket, kind, subject };
        if let Some(before) = self.records.get(&index) {
            assert_eq!(before.leaf_hash, record.leaf_hash, "record {index} has changed");
        }
        self.records.insert(index, record);
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn get(&self, index: i64) -> Option<&Record> {
        self.records.get(&u64::try_from(index).ok()?)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    pub(super) fn assert_no_gap(&self) {
        let indices: BTreeSet<u64> = self.records.keys().copied().collect();
        assert!(indices.into_iter().eq(0..self.records.len() as u64), "records are missing");
    }

    /// The size of the tree that callers know of, and the first start behind it: everything before
    /// that start was in the files at the kill.
    fn end(&self, told: &Told) -> (u64, u64) {
        let known = told.receipts.values().map(|receipt| receipt.tree_size).max();
        let known = u64::try_from(known.unwrap_or_default()).unwrap();
        (known, self.starts.range(known..).next().copied().expect("no start since the kill"))
    }

    /// True if a start recorded changes: the life before had made them, and was killed before their
    /// records were written. Nobody has called since.
    pub(super) fn has_changes_that_a_start_recorded(&self, told: &Told) -> bool {
        let mut since = self.records.range(self.end(told).1..);
        since.any(|(_, record)| CHANGES.contains(&record.kind.as_str()))
    }

    /// True if the life that was killed left records beyond every tree that a receipt names, and one
    /// of them is of a call that got no answer. The records of a frame are answered together: this
    /// frame was written, and nobody had been told yet.
    pub(super) fn ends_with_a_frame_that_nobody_was_told_of(&self, told: &Told) -> bool {
        let (known, start) = self.end(told);
        let mut beyond = self.records.range(known..start);
        beyond.any(|(_, record)| told.unanswered.contains(&record.ticket))
    }
}
