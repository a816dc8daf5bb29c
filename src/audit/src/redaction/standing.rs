//! Whether a detail is the one that its leaf commits to, and what of it was erased.

use fieldseal_crypto::sha256;
use prost::Message as _;

use crate::merkle::Frontier;
use crate::record::{DetailHead, DetailParts};

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
    let head = DetailHead::decode(parts.head).map_err(|_| "a record's detail is none")?;
    let (mut tree, mut gone) = (Frontier::default(), Vec::new());
    for (item, number) in parts.items().zip(0..) {
        let item = item.ok_or("an item is cut off")?;
        if item.message.is_none() {
            gone.push(number);
        }
        tree.append(item.leaf_hash().ok_or("an item is cut off")?);
    }
    let root = &head.items_root;
    let is_root = if tree.size() == 0 { root.is_empty() } else { *root == tree.root() };
    if !is_root || tree.size() != u64::from(head.item_count) {
        return Err("a record's items are not those it commits to");
    }
    Ok(if gone.is_empty() { Standing::Whole } else { Standing::Without(gone) })
}
