//! Ascending numbers in blocks that are read, and found to be whole, one by one.

use std::cell::Cell;
use std::fs::File;
use std::io;
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
    file: File,
    start: u64,
    /// The operating system could not read one: nothing is known about the file.
    is_unreadable: Cell<bool>,
}

impl Blocks {
    pub(super) fn new(file: File, start: u64) -> Self {
        Self { file, start, is_unreadable: Cell::new(false) }
    }

    /// Whether a block could not be read, rather than be another one than was signed.
    pub(super) fn is_unreadable(&self) -> bool {
        self.is_unreadable.get()
    }

    /// The bytes of a block; `None` if they are not those that were signed, or cannot be read.
    pub(super) fn bytes(&self, offset: u64, bytes: u32, hash: &[u8]) -> Option<Vec<u8>> {
        let mut read = vec![0; bytes as usize];
        match self.file.read_exact_at(&mut read, self.start.checked_add(offset)?) {
            Ok(()) => {}
            // It is shorter than what was signed.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return None,
            Err(_) => {
                self.is_unreadable.set(true);
                return None;
            }
        }
        (sha256(&[&read]) == *hash).then_some(read)
    }

    fn read(&self, block: &Block) -> Option<Vec<u64>> {
        if block.bytes > MAX_BLOCK_BYTES || block.count as usize > BLOCK {
            return None;
        }
        let bytes = self.bytes(block.offset, block.bytes, &block.hash)?;
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
        (list, Blocks::new(file, 4), bytes)
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
        // That is no trouble of the operating system; neither is a file that was cut off.
        blocks.file.set_len(10).unwrap();
        assert_eq!(list.range(&blocks, 0, u64::MAX), None);
        assert!(!blocks.is_unreadable());
    }

    #[test]
    fn a_block_that_cannot_be_read_is_known_as_such() {
        let numbers: Vec<u64> = (0..100).collect();
        let mut bytes = Vec::new();
        let list = List::write(&numbers, &mut bytes);
        // Nobody reads a directory.
        let blocks = Blocks::new(File::open(".").unwrap(), 0);
        assert_eq!(list.range(&blocks, 0, u64::MAX), None);
        assert!(blocks.is_unreadable());
    }
}
