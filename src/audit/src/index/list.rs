//! Ascending numbers in blocks that are read, and found to be whole, one by one.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use fieldseal_crypto::sha256;

use crate::wire;

/// Numbers of a block, at most.
const BLOCK: usize = 8192;
/// The longest block that a reader believes in: each number has at most ten bytes.
const MAX_BLOCK_BYTES: u32 = 10 * BLOCK as u32;

/// Where the blocks of a list are. It is part of what is signed.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct List {
    #[prost(message, repeated, tag = "1")]
    blocks: Vec<Block>,
}

/// One block: its first number stands here, the others as varints of their distances.
#[derive(Clone, PartialEq, prost::Message)]
struct Block {
    #[prost(fixed64, tag = "1")]
    first: u64,
    #[prost(uint32, tag = "2")]
    count: u32,
    /// From the end of the index's signature on.
    #[prost(uint64, tag = "3")]
    offset: u64,
    #[prost(uint32, tag = "4")]
    bytes: u32,
    /// SHA-256.
    #[prost(bytes = "vec", tag = "5")]
    hash: Vec<u8>,
}

impl List {
    /// Appends the blocks of these numbers, each greater than the one before, to `out`.
    pub(super) fn write(numbers: &[u64], out: &mut Vec<u8>) -> Self {
        let mut blocks = Vec::with_capacity(numbers.len().div_ceil(BLOCK));
        for chunk in numbers.chunks(BLOCK) {
            let Some((first, rest)) = chunk.split_first() else { break };
            let start = out.len();
            let mut before = *first;
            for number in rest {
                wire::varint(out, number.saturating_sub(before));
                before = *number;
            }
            let bytes = out.get(start..).unwrap_or_default();
            blocks.push(Block {
                first: *first,
                count: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
                offset: start as u64,
                bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                hash: sha256(&[bytes]).to_vec(),
            });
        }
        Self { blocks }
    }

    /// The numbers from `low` to `high`; `None` if a block is not the one that was signed.
    pub(super) fn range(&self, blocks: &Blocks, low: u64, high: u64) -> Option<Vec<u64>> {
        let mut found = Vec::new();
        let from = self.blocks.partition_point(|block| block.first <= low).saturating_sub(1);
        for block in self.blocks.iter().skip(from).take_while(|block| block.first <= high) {
            let numbers = blocks.read(block)?;
            let start = numbers.partition_point(|number| *number < low);
            let end = numbers.partition_point(|number| *number <= high);
            found.extend_from_slice(numbers.get(start..end).unwrap_or_default());
        }
        Some(found)
    }

    /// Which block holds the greatest number that is at most `number`.
    pub(super) fn place(&self, number: u64) -> Option<usize> {
        self.blocks.partition_point(|block| block.first <= number).checked_sub(1)
    }

    /// The numbers of a block; `None` if it is not the one that was signed.
    pub(super) fn block(&self, blocks: &Blocks, place: usize) -> Option<Vec<u64>> {
        blocks.read(self.blocks.get(place)?)
    }
}

/// The part of an index's file that the blocks are in.
pub(super) struct Blocks {
    pub(super) file: File,
    pub(super) start: u64,
}

impl Blocks {
    fn read(&self, block: &Block) -> Option<Vec<u64>> {
        if block.bytes > MAX_BLOCK_BYTES || block.count as usize > BLOCK {
            return None;
        }
        let mut bytes = vec![0; block.bytes as usize];
        self.file.read_exact_at(&mut bytes, self.start.checked_add(block.offset)?).ok()?;
        if sha256(&[&bytes]) != *block.hash {
            return None;
        }
        let mut numbers = Vec::with_capacity(block.count as usize);
        let (mut rest, mut number) = (bytes.as_slice(), block.first);
        numbers.push(number);
        for _ in 1..block.count {
            number = number.checked_add(wire::read_varint(&mut rest)?)?;
            numbers.push(number);
        }
        rest.is_empty().then_some(numbers)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn written(numbers: &[u64]) -> (List, Blocks, Vec<u8>) {
        let mut bytes = Vec::new();
        let list = List::write(numbers, &mut bytes);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"head").unwrap();
        file.write_all(&bytes).unwrap();
        (list, Blocks { file, start: 4 }, bytes)
    }

    #[test]
    fn every_range_comes_back_and_no_more() {
        let numbers: Vec<u64> = (0..20_000).map(|n| 5 + n * (1 + n % 7) * 7).collect();
        let mut numbers = numbers;
        numbers.sort_unstable();
        numbers.dedup();
        let (list, blocks, _) = written(&numbers);
        for (low, high) in [(0, u64::MAX), (0, 4), (5, 5), (6, 4_000), (90_000, 500_000)] {
            let expected: Vec<u64> =
                numbers.iter().copied().filter(|n| (low..=high).contains(n)).collect();
            assert_eq!(list.range(&blocks, low, high), Some(expected), "{low} {high}");
        }
        assert_eq!(list.place(4), None);
        assert_eq!(list.block(&blocks, list.place(5).unwrap()).unwrap()[0], 5);
    }

    #[test]
    fn an_empty_list_has_no_numbers() {
        let (list, blocks, bytes) = written(&[]);
        assert!(bytes.is_empty());
        assert_eq!(list.range(&blocks, 0, u64::MAX), Some(Vec::new()));
        assert_eq!(list.place(u64::MAX), None);
    }

    #[test]
    fn an_altered_block_is_none() {
        let numbers: Vec<u64> = (0..100).map(|n| n * 1_000).collect();
        let (list, blocks, bytes) = written(&numbers);
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            blocks.file.write_all_at(&altered, 4).unwrap();
            assert_eq!(list.range(&blocks, 0, u64::MAX), None, "{at}");
        }
    }
}
