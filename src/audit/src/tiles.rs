//! The log as C2SP tlog-tiles: its tree in tiles of 256 hashes, and its leaves in bundles of 256.

use crate::merkle::{self, Frontier, Hash, node_hash};

/// Hashes of a full tile, and leaves of a full bundle.
const WIDTH: usize = 256;

/// A file of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Its name under the log's prefix.
    pub path: String,
    pub bytes: Vec<u8>,
    /// The record behind the last one that it covers.
    pub end: u64,
}

/// One level of the tree: full tiles that are done, and the hashes of the one that grows.
#[derive(Default)]
struct Level {
    done: u64,
    hashes: Vec<Hash>,
}

/// Makes the files of a tree as its leaves come by, from the first on.
#[derive(Default)]
pub(crate) struct Tiles {
    levels: Vec<Level>,
    /// The bundle that grows: each leaf with its length in front, as 2 bytes, big-endian.
    bundle: Vec<u8>,
    /// True if a leaf of it is longer than such a length can say.
    is_too_long: bool,
    /// The bundles that could not be made, for such a leaf.
    left_out: Vec<u64>,
}

impl Tiles {
    /// The next leaf; `put` takes the files that it completes.
    pub(crate) fn leaf(&mut self, leaf: &[u8], hash: Hash, put: &mut dyn FnMut(File)) {
        match u16::try_from(leaf.len()) {
            Ok(len) => {
                self.bundle.extend_from_slice(&len.to_be_bytes());
                self.bundle.extend_from_slice(leaf);
            }
            Err(_) => self.is_too_long = true,
        }
        let (mut node, mut at) = (hash, 0);
        loop {
            if at == self.levels.len() {
                self.levels.push(Level::default());
            }
            let Some(level) = self.levels.get_mut(at) else { return };
            level.hashes.push(node);
            if level.hashes.len() < WIDTH {
                return;
            }
            node = merkle::root(level.hashes.iter().copied());
            put(tile(at, level));
            let done = level.done;
            (level.done, level.hashes) = (done.saturating_add(1), Vec::new());
            if at == 0 {
                self.bundle(done, 0, put);
            }
            at += 1;
        }
    }

    /// Makes the partial tiles and the partial bundle, and gives the root over all leaves with the
    /// numbers of the bundles that were left out.
    pub(crate) fn finish(mut self, put: &mut dyn FnMut(File)) -> (Option<Hash>, Vec<u64>) {
        let mut root: Option<Hash> = None;
        for (at, level) in self.levels.iter().enumerate() {
            if level.hashes.is_empty() {
                continue;
            }
            put(tile(at, level));
            let mut tree = Frontier::default();
            level.hashes.iter().for_each(|hash| tree.append(*hash));
            for peak in tree.peaks().iter().rev() {
                root = Some(root.map_or(*peak, |right| node_hash(peak, &right)));
            }
        }
        let first = self.levels.first().map(|level| (level.done, level.hashes.len()));
        if let Some((done, width)) = first.filter(|(_, width)| *width > 0) {
            self.bundle(done, width, put);
        }
        (root, self.left_out)
    }

    /// The bundle that grew is whole: of `width` leaves, or full (0).
    fn bundle(&mut self, number: u64, width: usize, put: &mut dyn FnMut(File)) {
        let bytes = std::mem::take(&mut self.bundle);
        if std::mem::take(&mut self.is_too_long) {
            self.left_out.push(number);
            return;
        }
        let path = format!("tile/entries/{}", name(number, width));
        put(File { path, bytes, end: end(0, number, width) });
    }
}

/// The tile of the hashes that a level has.
fn tile(at: usize, level: &Level) -> File {
    let width = level.hashes.len() % WIDTH;
    let path = format!("tile/{at}/{}", name(level.done, width));
    File { path, bytes: level.hashes.concat(), end: end(at, level.done, width) }
}

/// The record behind the last one of a tile of `width` hashes, or a full one (0).
fn end(level: usize, number: u64, width: usize) -> u64 {
    let hashes = if width == 0 { WIDTH } else { width } as u64;
    let each = (0..level).fold(1_u64, |each, _| each.saturating_mul(WIDTH as u64));
    number.saturating_mul(WIDTH as u64).saturating_add(hashes).saturating_mul(each)
}

/// `x001/x234/067` for 1234067; behind it `.p/` and the width of a partial one.
fn name(number: u64, width: usize) -> String {
    let mut name = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        name = format!("x{:03}/{name}", rest % 1000);
        rest /= 1000;
    }
    if width > 0 { format!("{name}.p/{width}") } else { name }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn made(leaves: &[Vec<u8>]) -> (BTreeMap<String, Vec<u8>>, Option<Hash>, Vec<u64>) {
        let (mut files, mut tiles) = (BTreeMap::new(), Tiles::default());
        let mut put = |file: File| {
            assert!(file.end <= leaves.len() as u64, "{}", file.path);
            assert_eq!(files.insert(file.path.clone(), file.bytes), None, "{}", file.path);
        };
        for leaf in leaves {
            tiles.leaf(leaf, merkle::leaf_hash(leaf), &mut put);
        }
        let (root, left_out) = tiles.finish(&mut put);
        (files, root, left_out)
    }

    #[test]
    fn indices_are_written_as_the_specification_says() {
        for (number, width, written) in [
            (0, 0, "000"),
            (7, 112, "007.p/112"),
            (999, 0, "999"),
            (1000, 1, "x001/000.p/1"),
            (1_234_067, 0, "x001/x234/067"),
        ] {
            assert_eq!(name(number, width), written);
        }
    }

    /// The example of the specification: a tree of 70,000.
    #[test]
    fn a_tree_has_the_tiles_of_the_specification_s_example() {
        let leaves: Vec<Vec<u8>> = (0..70_000_u32).map(|i| i.to_le_bytes().to_vec()).collect();
        let (files, root, left_out) = made(&leaves);
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| merkle::leaf_hash(leaf)).collect();
        assert_eq!((root, left_out), (Some(merkle::root(hashes.iter().copied())), vec![]));
        let count = |start: &str, full: bool| {
            let files = files.keys().filter(|name| name.starts_with(start));
            files.filter(|name| name.contains(".p/") != full).count()
        };
        for (level, full, partial) in [("0", 273, "273.p/112"), ("1", 1, "001.p/17")] {
            let start = format!("tile/{level}/");
            assert_eq!((count(&start, true), count(&start, false)), (full, 1), "{level}");
            assert!(files.contains_key(&format!("{start}{partial}")));
        }
        assert_eq!((count("tile/2/", true), count("tile/2/", false)), (0, 1));
        assert_eq!((count("tile/entries/", true), count("tile/entries/", false)), (273, 1));
        let of = |range: std::ops::Range<usize>| merkle::root(hashes[range].iter().copied());
        assert_eq!(files["tile/0/272"], hashes[272 * 256..273 * 256].concat());
        assert_eq!(files["tile/1/001.p/17"][..32], of(65_536..65_792));
        assert_eq!(files["tile/2/000.p/1"], of(0..65_536));
        assert_eq!(files["tile/entries/273.p/112"].len(), 112 * 6);
        assert_eq!(files["tile/entries/000"][..8], [0, 4, 0, 0, 0, 0, 0, 4]);
    }

    #[test]
    fn every_size_has_its_root_and_a_full_tile_is_no_partial_one() {
        for size in [1, 2, 255, 256, 257, 511, 512, 513] {
            let leaves: Vec<Vec<u8>> = (0..size).map(|i: u32| i.to_le_bytes().to_vec()).collect();
            let (files, root, _) = made(&leaves);
            let expected = merkle::root(leaves.iter().map(|leaf| merkle::leaf_hash(leaf)));
            assert_eq!(root, Some(expected), "{size}");
            assert_eq!(files.keys().any(|name| name.starts_with("tile/1/")), size >= 256);
        }
        assert_eq!(made(&[]), (BTreeMap::new(), None, vec![]));
    }

    #[test]
    fn a_bundle_with_a_leaf_that_has_no_length_is_left_out_and_no_hash_is() {
        let mut leaves: Vec<Vec<u8>> = (0..600_u32).map(|i| i.to_le_bytes().to_vec()).collect();
        leaves[0] = vec![1; usize::from(u16::MAX)];
        leaves[300] = vec![1; usize::from(u16::MAX) + 1];
        let (files, root, left_out) = made(&leaves);
        assert_eq!(left_out, [1]);
        let bundles: Vec<&String> = files.keys().filter(|name| name.contains("entries")).collect();
        assert_eq!(bundles, ["tile/entries/000", "tile/entries/002.p/88"]);
        assert_eq!(files["tile/entries/002.p/88"].len(), 88 * 6);
        assert_eq!(root, Some(merkle::root(leaves.iter().map(|leaf| merkle::leaf_hash(leaf)))));
    }
}
