//! Consistency proofs: RFC 6962, section 2.1.2, verified as RFC 9162, section 2.1.4.2, says.

use std::ops::Range;

use crate::checkpoint::Remembered;
use crate::merkle::{Hash, node_hash};

/// The path from one tree to a longer one, as its hashes stand in a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// The hashes, in the order of the definition; none between trees of the same size.
    pub path: Vec<Hash>,
    /// The checkpoint of the longer tree, a signed note.
    pub checkpoint: String,
}

/// The subtrees whose roots are the proof between the trees of the first `old` and of all `size`
/// leaves, in its order. Nothing if there is none: `old` is 0, `size`, or more.
pub(crate) fn subtrees(old: u64, size: u64) -> Vec<Range<u64>> {
    let (mut all, mut is_old_tree, mut found) = (0..size, true, Vec::new());
    if old == 0 || old >= size {
        return found;
    }
    while all.end != old {
        let middle = all.start + (all.end - all.start).next_power_of_two() / 2;
        if old <= middle {
            found.push(middle..all.end);
            all.end = middle;
        } else {
            found.push(all.start..middle);
            (all.start, is_old_tree) = (middle, false);
        }
    }
    // The root of the old tree itself is known to whoever asks.
    if !is_old_tree {
        found.push(all);
    }
    found.reverse();
    found
}

/// True if the path proves that the tree of `new` begins with that of `old`. An empty tree is the
/// beginning of nothing.
#[must_use]
pub fn extends(old: &Remembered, new: &Remembered, path: &[Hash]) -> bool {
    if old.size == 0 || old.size > new.size {
        return false;
    }
    if old.size == new.size {
        return path.is_empty() && old.root == new.root;
    }
    let mut path = path.iter();
    let first = match old.size.is_power_of_two() {
        true => Some(&old.root),
        false => path.next(),
    };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old.size - 1, new.size - 1);
    let skipped = at.trailing_ones();
    (at, last) = (at >> skipped, last >> skipped);
    let (mut old_root, mut new_root) = (*first, *first);
    for hash in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (old_root, new_root) = (node_hash(hash, &old_root), node_hash(hash, &new_root));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new_root = node_hash(&new_root, hash);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old_root == old.root && new_root == new.root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{leaf_hash, root};

    /// SUBPROOF of RFC 6962, section 2.1.2, word for word.
    fn subproof(m: usize, leaves: &[Hash], is_old_tree: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if is_old_tree { Vec::new() } else { vec![root(leaves.iter().copied())] };
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut inner, other) = match m <= left.len() {
            true => (subproof(m, left, is_old_tree), right),
            false => (subproof(m - left.len(), right, false), left),
        };
        inner.push(root(other.iter().copied()));
        inner
    }

    fn tree(leaves: &[Hash]) -> Remembered {
        Remembered { size: leaves.len() as u64, root: root(leaves.iter().copied()) }
    }

    fn proof(old: u64, leaves: &[Hash]) -> Vec<Hash> {
        let of = |range: &Range<u64>| {
            let part = &leaves[range.start as usize..range.end as usize];
            root(part.iter().copied())
        };
        subtrees(old, leaves.len() as u64).iter().map(of).collect()
    }

    #[test]
    fn proofs_are_those_of_the_definition_and_prove_nothing_else() {
        let leaves: Vec<Hash> = (0..70_u64).map(|i| leaf_hash(&i.to_le_bytes())).collect();
        let other = leaf_hash(b"another");
        for size in 1..leaves.len() {
            let (leaves, new) = (&leaves[..size], tree(&leaves[..size]));
            for old in 1..=size {
                let path = proof(old as u64, leaves);
                assert_eq!(path, subproof(old, leaves, true), "{old} of {size}");
                let then = tree(&leaves[..old]);
                assert!(extends(&then, &new, &path), "{old} of {size}");
                let altered = Remembered { root: other, ..then.clone() };
                assert!(!extends(&altered, &new, &path), "another beginning: {old} of {size}");
                let altered = Remembered { root: other, ..new.clone() };
                assert!(!extends(&then, &altered, &path), "another log: {old} of {size}");
                let long: Vec<Hash> = path.iter().copied().chain([other]).collect();
                assert!(!extends(&then, &new, &long), "{old} of {size}");
                for left_out in 0..path.len() {
                    let mut wrong = path.clone();
                    wrong.remove(left_out);
                    assert!(!extends(&then, &new, &wrong), "{left_out}: {old} of {size}");
                    let mut wrong = path.clone();
                    wrong[left_out] = other;
                    assert!(!extends(&then, &new, &wrong), "{left_out}: {old} of {size}");
                }
                if old < size {
                    assert!(!extends(&new, &then, &path), "backwards: {old} of {size}");
                }
            }
        }
        let empty = tree(&[]);
        for (old, new) in [(&empty, &empty), (&empty, &tree(&leaves)), (&tree(&leaves), &empty)] {
            assert!(!extends(old, new, &[]));
        }
        assert!(
            subtrees(0, 5).is_empty() && subtrees(6, 5).is_empty() && subtrees(5, 5).is_empty()
        );
    }

    /// The published proofs between trees of the eight leaves of Certificate Transparency's reference
    /// code, whose roots are published too (see `merkle`).
    #[test]
    fn the_published_proofs_are_made_and_believed() {
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let bytes = |text: &str| -> Vec<u8> {
            let byte = |i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
            (0..text.len() / 2).map(byte).collect()
        };
        let leaves: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(&bytes(leaf))).collect();
        let published: [(usize, usize, &[&str]); 4] = [
            (1, 1, &[]),
            (
                1,
                8,
                &[
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ],
            ),
            (
                6,
                8,
                &[
                    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (
                2,
                5,
                &[
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                ],
            ),
        ];
        for (old, size, expected) in published {
            let expected: Vec<Hash> =
                expected.iter().map(|hash| bytes(hash).try_into().unwrap()).collect();
            assert_eq!(proof(old as u64, &leaves[..size]), expected, "{old} of {size}");
            assert!(extends(&tree(&leaves[..old]), &tree(&leaves[..size]), &expected));
        }
    }
}
