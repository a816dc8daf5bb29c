//! Some records of a tree and what proves them: the roots of the subtrees that none of them is in.
//!
//! RFC 6962, section 2.1, splits a tree of `n` leaves behind the largest power of two that is less
//! than `n`. A subtree without any of the records is one hash of the proof; one of one record is that
//! record; any other is split again. The hashes stand in the order of that walk, from left to right,
//! so a proof needs no places: whoever knows which records there are knows where each hash belongs.

use std::ops::Range;

use crate::merkle::{Hash, node_hash};

/// What the walk asks for, from left to right.
pub(crate) trait Parts {
    /// Why there is no hash.
    type Error;
    /// The root of a subtree that none of the records is in.
    fn outside(&mut self, subtree: Range<u64>) -> Result<Hash, Self::Error>;
    /// The leaf hash of a record.
    fn leaf(&mut self, index: u64) -> Result<Hash, Self::Error>;
}

/// The root over a subtree. `wanted` are the records, in order, none of them twice.
pub(crate) fn root<P: Parts>(
    parts: &mut P,
    wanted: &[Range<u64>],
    subtree: Range<u64>,
) -> Result<Hash, P::Error> {
    if !is_touched(wanted, &subtree) {
        return parts.outside(subtree);
    }
    let Range { start, end } = subtree;
    // One that is touched has a record.
    let Some(last) = end.saturating_sub(start).checked_sub(1).filter(|last| *last > 0) else {
        return parts.leaf(start);
    };
    let middle = start.saturating_add(1_u64 << last.ilog2());
    let left = root(parts, wanted, start..middle)?;
    let right = root(parts, wanted, middle..end)?;
    Ok(node_hash(&left, &right))
}

fn is_touched(wanted: &[Range<u64>], subtree: &Range<u64>) -> bool {
    let at = wanted.partition_point(|range| range.end <= subtree.start);
    wanted.get(at).is_some_and(|range| range.start < subtree.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle;

    fn hashes(range: Range<u64>) -> Vec<Hash> {
        range.map(|at| merkle::leaf_hash(&at.to_le_bytes())).collect()
    }

    /// MTH of RFC 6962, section 2.1, word for word, over leaf hashes.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => panic!("no records"),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                node_hash(&mth(left), &mth(right))
            }
        }
    }

    /// Makes a proof from all leaves.
    struct Maker(Vec<Hash>, Vec<Hash>);

    impl Parts for Maker {
        type Error = ();
        fn outside(&mut self, subtree: Range<u64>) -> Result<Hash, ()> {
            let hash = mth(&self.0[subtree.start as usize..subtree.end as usize]);
            self.1.push(hash);
            Ok(hash)
        }
        fn leaf(&mut self, index: u64) -> Result<Hash, ()> {
            Ok(self.0[index as usize])
        }
    }

    /// Checks one: it has the wanted records and the proof, and nothing else.
    struct Checker<'a>(std::slice::Iter<'a, Hash>, std::slice::Iter<'a, Hash>);

    impl Parts for Checker<'_> {
        type Error = ();
        fn outside(&mut self, _: Range<u64>) -> Result<Hash, ()> {
            self.0.next().copied().ok_or(())
        }
        fn leaf(&mut self, _: u64) -> Result<Hash, ()> {
            self.1.next().copied().ok_or(())
        }
    }

    fn check(wanted: &[Range<u64>], size: u64) {
        let all = hashes(0..size);
        let mut maker = Maker(all.clone(), Vec::new());
        let expected = Ok(mth(&all));
        assert_eq!(root(&mut maker, wanted, 0..size), expected, "{wanted:?} of {size}");
        let records: Vec<Hash> = wanted.iter().cloned().flat_map(hashes).collect();
        let proof = maker.1;
        let most = 2 * wanted.len() * (size.ilog2() as usize + 1);
        assert!(proof.len() <= most, "{wanted:?} of {size}: {}", proof.len());
        let with = |proof: &[Hash], records: &[Hash]| {
            let mut checker = Checker(proof.iter(), records.iter());
            let found = root(&mut checker, wanted, 0..size);
            // Everything that was given was needed.
            found.ok().filter(|_| checker.0.next().is_none() && checker.1.next().is_none())
        };
        assert_eq!(with(&proof, &records), expected.ok());
        // The rest takes long and says nothing new of larger trees.
        if size > 24 {
            return;
        }
        for at in 0..records.len() {
            let mut altered = records.clone();
            altered[at][0] ^= 1;
            assert_ne!(with(&proof, &altered), expected.ok(), "{wanted:?} of {size}");
            altered.remove(at);
            assert_eq!(with(&proof, &altered), None, "{wanted:?} of {size}");
        }
        for at in 0..proof.len() {
            let mut altered = proof.clone();
            altered[at][31] ^= 1;
            assert_ne!(with(&altered, &records), expected.ok(), "{wanted:?} of {size}");
            altered.remove(at);
            assert_eq!(with(&altered, &records), None, "{wanted:?} of {size}");
        }
    }

    #[test]
    fn every_range_of_every_small_tree_is_proved() {
        for size in 1..=40 {
            for first in 0..size {
                for end in first + 1..=size {
                    check(std::slice::from_ref(&(first..end)), size);
                }
            }
        }
    }

    #[test]
    fn a_record_before_a_range_is_proved_with_it() {
        for size in [3, 16, 17, 31, 40] {
            for first in 1..size {
                for before in 0..first {
                    check(&[before..before + 1, first..size.min(first + 3)], size);
                }
            }
        }
    }
}
