//! What a count needs of each record, ordered so that a count reads only what it counts.
//!
//! Items of one kind have everything in common that a count tells apart but hour, partition and row. For
//! each kind the records follow that have such items, in the order of the log:
//!
//! ```text
//! varint record | varint time | varint items << 1 | has a partition [| partition 8]
//! ```
//!
//! Record and time are distances from the row before, that of the time in zigzag; a block begins anew
//! with both from 0. Of a partition's token the first 8 bytes stand here: enough to count distinct ones.

use std::collections::HashMap;

use fieldseal_crypto::sha256;

use super::list::Blocks;
use crate::wire;

/// Rows of a block, at most.
const BLOCK: usize = 4096;
/// A row has two varints of at most ten bytes, one of at most five, and a partition.
const MAX_BLOCK_BYTES: u32 = 33 * BLOCK as u32;
/// More rows, or more kinds, than a segment of usual calls has: such a segment is counted by reading it.
const MAX_ROWS: usize = 1 << 19;
const MAX_KINDS: usize = 1 << 14;

/// What items have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub(crate) struct Kind {
    /// Which of the index's shapes their records have.
    #[prost(uint32, tag = "1")]
    pub(crate) shape: u32,
    /// Which of the record's verdicts.
    #[prost(uint32, tag = "2")]
    pub(crate) verdict: u32,
    /// How they ended.
    #[prost(uint32, tag = "3")]
    pub(crate) outcome: u32,
    /// The key version that was reached.
    #[prost(uint32, tag = "4")]
    pub(crate) key_version: u32,
    /// False of a record that has no items: it is counted all the same.
    #[prost(bool, tag = "5")]
    pub(crate) is_item: bool,
    /// True if their records have items of other kinds as well.
    #[prost(bool, tag = "6")]
    pub(crate) is_split: bool,
}

/// Items of one kind, one record and one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// The record's place in the segment.
    pub(crate) record: u32,
    pub(crate) time: i64,
    pub(crate) items: u32,
    /// The beginning of the partition's token.
    pub(crate) partition: Option<u64>,
}

/// An item as a record says it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) verdict: u32,
    /// 0 if it is the record's.
    pub(super) outcome: u32,
    pub(super) key_version: u32,
    pub(super) partition: Option<u64>,
}

/// The beginning of a partition's token; none of the default partition.
pub(crate) fn partition(token: &[u8]) -> Option<u64> {
    token.first_chunk().map(|first| u64::from_le_bytes(*first))
}

/// The rows of a segment while it is read.
#[derive(Default)]
pub(super) struct Rows {
    kinds: Vec<Kind>,
    places: HashMap<Kind, u32>,
    /// With the place of its kind, in the order of the records.
    rows: Vec<(u32, Row)>,
    /// There were too many, or not everything is known.
    is_left_out: bool,
}

impl Rows {
    /// Takes the items of a record of this shape.
    pub(super) fn add(
        &mut self,
        shape: u32,
        record: u32,
        time: i64,
        items: &[Item],
        is_item: bool,
    ) {
        let kind = |item: &Item, is_split| Kind {
            shape,
            verdict: item.verdict,
            outcome: item.outcome,
            key_version: item.key_version,
            is_item,
            is_split,
        };
        let is_split = items.windows(2).any(|pair| match pair {
            [one, other] => kind(one, false) != kind(other, false),
            _ => false,
        });
        for item in items {
            if self.is_left_out {
                return;
            }
            self.item(kind(item, is_split), record, time, item.partition);
        }
    }

    fn item(&mut self, kind: Kind, record: u32, time: i64, partition: Option<u64>) {
        let next = u32::try_from(self.kinds.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry(kind).or_insert(next);
        if place == next {
            self.kinds.push(kind);
        }
        match self.rows.last_mut() {
            Some((last, row))
                if *last == place && row.record == record && row.partition == partition =>
            {
                row.items = row.items.saturating_add(1);
            }
            _ => self.rows.push((place, Row { record, time, items: 1, partition })),
        }
        if self.rows.len() > MAX_ROWS || self.kinds.len() > MAX_KINDS {
            self.leave_out();
        }
    }

    /// The segment has to be read to be counted.
    pub(super) fn leave_out(&mut self) {
        *self = Self { is_left_out: true, ..Self::default() };
    }

    /// The kinds and where their rows are, which are appended to `out`; none if there were too many, or
    /// if they would take more than `most` bytes.
    pub(super) fn write(mut self, out: &mut Vec<u8>, most: usize) -> Option<Vec<Written>> {
        let start = out.len();
        self.rows.sort_by_key(|(place, _)| *place);
        let mut written = Vec::with_capacity(self.kinds.len());
        for rows in self.rows.chunk_by(|(one, _), (other, _)| one == other) {
            let (place, _) = rows.first()?;
            let kind = *self.kinds.get(*place as usize)?;
            let chunks = rows.chunks(BLOCK).map(|rows| Chunk::write(rows, out)).collect();
            written.push(Written { kind, chunks });
        }
        let fits = !self.is_left_out && out.len().saturating_sub(start) <= most;
        if !fits {
            out.truncate(start);
        }
        fits.then_some(written)
    }

    pub(super) fn kinds(&self) -> Option<&[Kind]> {
        (!self.is_left_out).then_some(&self.kinds)
    }

    /// The rows of some kinds, with the place of their kind.
    pub(super) fn of(
        &self,
        is_wanted: impl Fn(usize) -> bool,
    ) -> impl Iterator<Item = (usize, Row)> {
        let rows = self.rows.iter().map(|(place, row)| (*place as usize, *row));
        rows.filter(move |(place, _)| is_wanted(*place))
    }
}

/// A kind in a file.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Written {
    #[prost(message, required, tag = "1")]
    pub(super) kind: Kind,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<Chunk>,
}

/// A block of rows.
#[derive(Clone, PartialEq, prost::Message)]
struct Chunk {
    #[prost(uint32, tag = "1")]
    count: u32,
    /// From the end of the index's signature on.
    #[prost(uint64, tag = "2")]
    offset: u64,
    #[prost(uint32, tag = "3")]
    bytes: u32,
    /// SHA-256.
    #[prost(bytes = "vec", tag = "4")]
    hash: Vec<u8>,
}

impl Chunk {
    fn write(rows: &[(u32, Row)], out: &mut Vec<u8>) -> Self {
        let start = out.len();
        let (mut record, mut time) = (0, 0_i64);
        for (_, row) in rows {
            wire::varint(out, u64::from(row.record.saturating_sub(record)));
            wire::varint(out, zigzag(row.time.wrapping_sub(time)));
            let items = u64::from(row.items) << 1 | u64::from(row.partition.is_some());
            wire::varint(out, items);
            out.extend(row.partition.iter().flat_map(|partition| partition.to_le_bytes()));
            (record, time) = (row.record, row.time);
        }
        let bytes = out.get(start..).unwrap_or_default();
        Self {
            count: u32::try_from(rows.len()).unwrap_or(u32::MAX),
            offset: start as u64,
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            hash: sha256(&[bytes]).to_vec(),
        }
    }
}

impl Written {
    /// Shows each row; `None` if a block is not the one that was signed.
    pub(super) fn read(&self, blocks: &Blocks, see: &mut dyn FnMut(Row)) -> Option<()> {
        for chunk in &self.chunks {
            if chunk.bytes > MAX_BLOCK_BYTES {
                return None;
            }
            let bytes = blocks.bytes(chunk.offset, chunk.bytes, &chunk.hash)?;
            let (mut rest, mut record, mut time) = (bytes.as_slice(), 0_u32, 0_i64);
            for _ in 0..chunk.count {
                let distance = u32::try_from(wire::read_varint(&mut rest)?).ok()?;
                record = record.checked_add(distance)?;
                time = time.wrapping_add(unzigzag(wire::read_varint(&mut rest)?));
                let items = wire::read_varint(&mut rest)?;
                let partition = if items & 1 == 1 {
                    let (token, after) = rest.split_first_chunk()?;
                    rest = after;
                    Some(u64::from_le_bytes(*token))
                } else {
                    None
                };
                see(Row { record, time, items: u32::try_from(items >> 1).ok()?, partition });
            }
            rest.is_empty().then_some(())?;
        }
        Some(())
    }
}

fn zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_come_back() {
        for number in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(number)), number);
        }
        assert_eq!([zigzag(0), zigzag(-1), zigzag(1)], [0, 1, 2]);
    }

    fn item(verdict: u32, partition: u64) -> Item {
        Item { verdict, outcome: 1, key_version: 1, partition: Some(partition) }
    }

    #[test]
    fn rows_that_take_too_much_are_left_out_whole() {
        let mut rows = Rows::default();
        rows.add(0, 7, -5, &[item(0, 1), item(0, 1), item(1, 2)], true);
        rows.add(0, 9, 5, &[item(0, 3)], true);
        let mut out = vec![1, 2, 3];
        assert_eq!(rows.kinds().map(<[_]>::len), Some(3));
        assert!(rows.write(&mut out, 10).is_none());
        assert_eq!(out, [1, 2, 3]);
        let mut rows = Rows::default();
        for record in 0..=u32::try_from(MAX_ROWS).unwrap() {
            rows.add(0, record, 0, &[item(0, 1)], true);
        }
        assert!(rows.kinds().is_none());
        assert!(rows.write(&mut out, usize::MAX).is_none());
    }
}
