//! Whether a detail is the one that its leaf commits to, and what of it was erased.

use std::borrow::Cow;

use fieldseal_crypto::sha256;
use prost::Message as _;

use crate::merkle::{Frontier, Hash};
use crate::record::{DetailHead, DetailParts};
use crate::wire;

/// Fields of [`DetailHead`], with their wire types in front of them.
const TICKET: u8 = 0x0a;
const ITEMS_ROOT: u8 = 0x12;
const ITEM_COUNT: u8 = 0x18;
const PARTITION: u8 = 0x22;
const END_USER: u8 = 0x2a;
/// Bytes of a number of 32 bits.
const LONGEST_NUMBER: usize = 5;

pub(crate) const NO_DETAIL: &str = "a record's detail is missing";

/// What there is of a detail that fits its commitment as far as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// All of it, or the record has none.
    Whole,
    /// Nothing.
    Gone,
    /// All but these items.
    Without(Vec<u32>),
}

/// Compares a detail with the commitment in its leaf.
pub(crate) fn standing(commitment: &[u8], detail: &[u8]) -> Result<Standing, &'static str> {
    if detail.is_empty() {
        let none = commitment.iter().all(|b| *b == 0);
        return Ok(if none { Standing::Whole } else { Standing::Gone });
    }
    let parts = DetailParts::cut(detail).ok_or("a record's detail is cut off")?;
    if sha256(&[parts.salt, parts.head]) != commitment {
        return Err("a record's detail is not the one it commits to");
    }
    let head = ItemsHead::read(parts.head).ok_or("a record's detail is none")?;
    let (mut tree, mut gone) = (Items::default(), Vec::new());
    for (item, number) in parts.items().zip(0..) {
        let item = item.ok_or("an item is cut off")?;
        if item.message.is_none() {
            gone.push(number);
        }
        tree.append(item.leaf_hash().ok_or("an item is cut off")?);
    }
    if !tree.has_root(&head.root) || tree.size() != u64::from(head.count) {
        return Err("a record's items are not those it commits to");
    }
    Ok(if gone.is_empty() { Standing::Whole } else { Standing::Without(gone) })
}

/// The tree over the items of a record. Most records have one, which is its own root.
#[derive(Default)]
struct Items {
    first: Option<Hash>,
    /// Of all, once there are two.
    tree: Frontier,
}

impl Items {
    fn append(&mut self, leaf: Hash) {
        match self.first {
            None => self.first = Some(leaf),
            Some(first) => {
                if self.tree.size() == 0 {
                    self.tree.append(first);
                }
                self.tree.append(leaf);
            }
        }
    }

    fn size(&self) -> u64 {
        self.tree.size().max(self.first.is_some().into())
    }

    fn has_root(&self, root: &[u8]) -> bool {
        match self.first {
            None => root.is_empty(),
            Some(first) if self.tree.size() == 0 => root == first,
            Some(_) => root == self.tree.root(),
        }
    }
}

/// What the head of a detail says of its items.
struct ItemsHead<'a> {
    root: Cow<'a, [u8]>,
    count: u32,
}

impl<'a> ItemsHead<'a> {
    /// `None` if it is no head.
    fn read(head: &'a [u8]) -> Option<Self> {
        Self::skim(head).or_else(|| {
            let DetailHead { items_root, item_count, .. } = DetailHead::decode(head).ok()?;
            Some(Self { root: items_root.into(), count: item_count })
        })
    }

    /// The same without a copy of what else it says. `None` as well for one that this program would not
    /// have written.
    fn skim(mut head: &'a [u8]) -> Option<Self> {
        let mut found = Self { root: Cow::default(), count: 0 };
        while let Some((tag, rest)) = head.split_first() {
            head = rest;
            let number = wire::read_varint(&mut head)?;
            // Prost refuses numbers that are too long, and reads those of more than 32 bits as others.
            if rest.len().saturating_sub(head.len()) > LONGEST_NUMBER {
                return None;
            }
            if *tag == ITEM_COUNT {
                found.count = u32::try_from(number).ok()?;
                continue;
            }
            let bytes;
            (bytes, head) = head.split_at_checked(usize::try_from(number).ok()?)?;
            match *tag {
                TICKET if bytes.is_ascii() => {}
                ITEMS_ROOT => found.root = bytes.into(),
                PARTITION | END_USER => {}
                _ => return None,
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> DetailHead {
        DetailHead {
            ticket: "SUP-1".to_owned(),
            items_root: vec![7; 32],
            item_count: 300,
            partition: vec![8; 16],
            end_user: vec![9; 16],
        }
    }

    #[test]
    fn a_head_that_is_skimmed_says_what_it_says_decoded() {
        let whole = head().encode_to_vec();
        let skimmed = ItemsHead::skim(&whole).unwrap();
        assert_eq!((&*skimmed.root, skimmed.count), (&[7; 32][..], 300));
        // Every head of it that is cut off, and every one with one byte altered.
        let cut = (0..=whole.len()).map(|len| whole[..len].to_vec());
        let altered = (0..whole.len()).flat_map(|at| {
            let with = |by| {
                let mut altered = head().encode_to_vec();
                altered[at] ^= by;
                altered
            };
            [1, 2, 8, 0x80, 0xff].map(with)
        });
        let mut skimmed = 0;
        for bytes in cut.chain(altered) {
            let decoded = DetailHead::decode(bytes.as_slice()).ok();
            let decoded = decoded.map(|head| (head.items_root, head.item_count));
            if let Some(found) = ItemsHead::skim(&bytes) {
                assert_eq!(Some((found.root.to_vec(), found.count)), decoded, "{bytes:02x?}");
                skimmed += 1;
            }
            let read = ItemsHead::read(&bytes).map(|head| (head.root.to_vec(), head.count));
            assert_eq!(read, decoded, "{bytes:02x?}");
        }
        assert!(skimmed > 100, "{skimmed}");
    }

    #[test]
    fn the_root_of_items_is_that_of_their_tree() {
        let (mut items, mut tree) = (Items::default(), Frontier::default());
        assert!(items.has_root(&[]) && !items.has_root(&tree.root()));
        for number in 0..9 {
            items.append([number; 32]);
            tree.append([number; 32]);
            assert_eq!(items.size(), tree.size());
            assert!(items.has_root(&tree.root()) && !items.has_root(&[]), "{number}");
            assert!(!items.has_root(&[0xff; 32]));
        }
    }
}
