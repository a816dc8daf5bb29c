//! Partitions whose data keys are gone, as the log tells: what it has about them before that may go too.

use std::collections::HashMap;

use prost::Message as _;

use crate::record::{DetailHead, DetailParts, Kind, Outcome, Record, RecordItem};

/// Partitions under a key, and the last record that says that data keys of them are gone.
#[derive(Debug, Default)]
pub(super) struct Erased(HashMap<(Vec<u8>, String), u64>);

impl Erased {
    /// Takes note of a record that says so. One whose detail is erased names nobody any more.
    pub(super) fn add(&mut self, index: u64, record: &Record, detail: &[u8]) {
        if Kind::from_code(record.kind) != Some(Kind::PartitionErased)
            || Outcome::from_code(record.outcome) != Some(Outcome::Ok)
        {
            return;
        }
        let Some(parts) = DetailParts::cut(detail) else { return };
        for item in parts.items().flatten().filter_map(|item| item.message) {
            let Ok(item) = RecordItem::decode(item) else { continue };
            if !item.partition.is_empty() {
                self.0.insert((item.partition, key_of(record, 0).to_owned()), index);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an item is about one of them, and was recorded before its data keys were gone, or says so.
    pub(super) fn has(
        &self,
        index: u64,
        record: &Record,
        head: &DetailHead,
        item: &RecordItem,
    ) -> bool {
        let token = if item.partition.is_empty() { &head.partition } else { &item.partition };
        if token.is_empty() {
            return false;
        }
        let key = key_of(record, item.verdict);
        let until = |key: &str| self.0.get(&(token.clone(), key.to_owned()));
        until(key).is_some_and(|until| index <= *until)
    }
}

fn key_of(record: &Record, verdict: u32) -> &str {
    let verdict = usize::try_from(verdict).ok().and_then(|at| record.verdicts.get(at));
    verdict.map_or("", |verdict| verdict.key.as_str())
}
