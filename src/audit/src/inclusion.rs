//! Inclusion proofs: RFC 6962, section 2.1.1; in files as C2SP tlog-proof.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::merkle::{Frontier, Hash, node_hash};

const FORMAT: &str = "c2sp.org/tlog-proof@v1";
/// A path of more hashes is none: no tree is so high.
const MOST_HASHES: usize = 64;

/// The path from a leaf to the root of a tree, as its leaves come by in their order. It keeps one
/// [`Frontier`] for each subtree beside the path, and no leaf.
pub(crate) struct Path {
    /// The subtrees beside the path, from the leaf up.
    beside: Vec<(Range<u64>, Frontier)>,
}

impl Path {
    /// The path of leaf `index` in a tree of `size` leaves; empty if it has no such leaf.
    pub(crate) fn new(index: u64, size: u64) -> Self {
        let beside = subtrees(index, size).into_iter();
        Self { beside: beside.map(|range| (range, Frontier::default())).collect() }
    }

    /// The next leaf.
    pub(crate) fn leaf(&mut self, index: u64, hash: &Hash) {
        let of = self.beside.iter_mut().find(|(range, _)| range.contains(&index));
        if let Some((_, subtree)) = of {
            subtree.append(*hash);
        }
    }

    pub(crate) fn hashes(&self) -> Vec<Hash> {
        self.beside.iter().map(|(_, subtree)| subtree.root()).collect()
    }
}

/// The subtrees beside the path of leaf `index` in a tree of `size` leaves, from the leaf up; none if
/// it has no such leaf.
pub(crate) fn subtrees(index: u64, size: u64) -> Vec<Range<u64>> {
    let (mut all, mut beside) = (0..size, Vec::new());
    while all.contains(&index) && all.end - all.start > 1 {
        let half = (all.end - all.start).next_power_of_two() / 2;
        let middle = all.start + half;
        let (left, right) = (all.start..middle, middle..all.end);
        let (other, own) = if index < middle { (right, left) } else { (left, right) };
        beside.push(other);
        all = own;
    }
    beside.reverse();
    beside
}

/// The root to which a path leads from a leaf; `None` if its length does not fit.
pub(crate) fn root_of_path(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    let (mut at, mut last) = (index, size.checked_sub(1).filter(|last| index <= *last)?);
    let mut node = *leaf;
    for hash in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            node = node_hash(hash, &node);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            node = node_hash(&node, hash);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(node)
}

/// That a leaf is in the tree of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The record.
    pub index: u64,
    /// The hashes beside its path, from the leaf up.
    pub path: Vec<Hash>,
    /// The checkpoint, a signed note.
    pub checkpoint: String,
}

impl Inclusion {
    /// The proof as a C2SP tlog-proof.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{FORMAT}\nindex {}\n", self.index);
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        format!("{text}\n{}", self.checkpoint)
    }

    /// Reads a C2SP tlog-proof; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (proof, checkpoint) = text.split_once("\n\n")?;
        let mut lines = proof.lines().peekable();
        if lines.next()? != FORMAT {
            return None;
        }
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next()?.strip_prefix("index ")?.parse().ok()?;
        let hash = |line: &str| STANDARD.decode(line).ok()?.try_into().ok();
        let path: Vec<Hash> = lines.map(hash).collect::<Option<_>>()?;
        (path.len() <= MOST_HASHES).then(|| Self { index, path, checkpoint: checkpoint.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{leaf_hash, root};

    /// PATH of RFC 6962, section 2.1.1, word for word.
    fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut own, other) = match m < left.len() {
            true => (path(m, left), right),
            false => (path(m - left.len(), right), left),
        };
        own.push(root(other.iter().copied()));
        own
    }

    #[test]
    fn paths_are_those_of_the_definition_and_lead_to_the_root_from_their_leaf_only() {
        for size in 1..70_u64 {
            let leaves: Vec<Hash> = (0..size).map(|i| leaf_hash(&i.to_le_bytes())).collect();
            let root = Some(root(leaves.iter().copied()));
            for (index, leaf) in (0..size).zip(&leaves) {
                let mut built = Path::new(index, size);
                (0..size).zip(&leaves).for_each(|(at, leaf)| built.leaf(at, leaf));
                let built = built.hashes();
                assert_eq!(built, path(index as usize, &leaves), "{index} of {size}");
                assert_eq!(root_of_path(leaf, index, size, &built), root, "{index} of {size}");
                let other = leaf_hash(b"another");
                assert_ne!(root_of_path(&other, index, size, &built), root);
                for wrong in [index ^ 1, index + 2] {
                    assert_ne!(root_of_path(leaf, wrong, size, &built), root, "{wrong} {size}");
                }
                if let Some((_, short)) = built.split_last() {
                    assert_ne!(root_of_path(leaf, index, size, short), root);
                }
                let long: Vec<Hash> = built.iter().copied().chain([other]).collect();
                assert_eq!(root_of_path(leaf, index, size, &long), None);
            }
        }
        assert_eq!(root_of_path(&[0; 32], 0, 0, &[]), None);
    }

    /// A published proof: leaf 0 of the first eight leaves of Certificate Transparency's reference
    /// code, whose root is published too (see `merkle`).
    #[test]
    fn a_published_path_leads_to_the_published_root() {
        let hash = |text: &str| -> Hash {
            let bytes: Vec<u8> =
                (0..32).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect();
            bytes.try_into().unwrap()
        };
        let path = [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ];
        let path: Vec<Hash> = path.into_iter().map(hash).collect();
        let root = hash("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
        assert_eq!(root_of_path(&leaf_hash(b""), 0, 8, &path), Some(root));
    }

    #[test]
    fn proofs_are_read_as_they_are_written() {
        let proof = Inclusion {
            index: 73_894,
            path: vec![[1; 32], [2; 32]],
            checkpoint: "o\n9\nroot\n\n\u{2014} o sig\n".to_owned(),
        };
        assert_eq!(Inclusion::parse(&proof.text()), Some(proof.clone()));
        let extra = proof.text().replace("index", "extra AAAA\nindex");
        assert_eq!(Inclusion::parse(&extra), Some(proof.clone()));
        for (from, to) in [("@v1", "@v2"), ("index ", "index -"), ("\n\n", "\n"), ("AQEB", "!")] {
            assert_eq!(Inclusion::parse(&proof.text().replace(from, to)), None, "{to}");
        }
    }
}
