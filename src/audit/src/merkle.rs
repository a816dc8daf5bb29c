//! The tree over the records: RFC 6962, section 2.1, with SHA-256.

use fieldseal_crypto::sha256;

/// A node or leaf hash.
pub type Hash = [u8; 32];

/// `SHA-256(0x00 | leaf)`.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf])
}

/// `SHA-256(0x01 | left | right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// A growing tree, of which only the roots of its complete subtrees are kept: one for each bit that
/// is set in the size, the largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The tree of these peaks; `None` if their number does not fit the size.
    #[must_use]
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// How many leaves it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its complete subtrees, the largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf: Hash) {
        let mut node = leaf;
        let mut complete = self.size;
        while complete & 1 == 1 {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
            complete >>= 1;
        }
        self.peaks.push(node);
        self.size = self.size.saturating_add(1);
    }

    /// The root over all leaves; of an empty tree SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => sha256(&[]),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// The root over these leaf hashes.
pub fn root(leaves: impl IntoIterator<Item = Hash>) -> Hash {
    let mut tree = Frontier::default();
    leaves.into_iter().for_each(|leaf| tree.append(leaf));
    tree.root()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MTH of RFC 6962, section 2.1, word for word.
    fn mth(leaves: &[&[u8]]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [one] => leaf_hash(one),
            many => {
                let k = many.len().next_power_of_two() / 2;
                let (left, right) = many.split_at(k);
                node_hash(&mth(left), &mth(right))
            }
        }
    }

    #[test]
    fn the_frontier_agrees_with_the_definition() {
        let leaves: Vec<Vec<u8>> = (0..130_u8).map(|i| vec![i; usize::from(i)]).collect();
        let mut tree = Frontier::default();
        for size in 0..leaves.len() {
            let slices: Vec<&[u8]> = leaves.iter().take(size).map(Vec::as_slice).collect();
            assert_eq!(tree.root(), mth(&slices), "{size}");
            let same = Frontier::from_parts(tree.size(), tree.peaks().to_vec());
            assert_eq!(same.as_ref(), Some(&tree));
            tree.append(leaf_hash(&leaves[size]));
        }
    }

    /// The published roots of the eight test leaves of Certificate Transparency's reference code.
    #[test]
    fn the_roots_are_those_of_certificate_transparency() {
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
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Frontier::default();
        for (leaf, expected) in leaves.iter().zip(roots) {
            let bytes: Vec<u8> = (0..leaf.len() / 2)
                .map(|i| u8::from_str_radix(&leaf[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            tree.append(leaf_hash(&bytes));
            let root: String = tree.root().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(root, expected);
        }
    }
}
