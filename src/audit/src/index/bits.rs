//! A set of records of one segment.

/// One bit for each record, counted from the segment's first.
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub(super) fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    pub(super) fn all(len: usize) -> Self {
        let mut bits = Self { words: vec![u64::MAX; len.div_ceil(64)], len };
        bits.clear(len, len.next_multiple_of(64));
        bits
    }

    /// Adds a record; false if the segment has none there.
    pub(super) fn set(&mut self, at: usize) -> bool {
        match self.words.get_mut(at / 64).filter(|_| at < self.len) {
            Some(word) => {
                *word |= 1 << (at % 64);
                true
            }
            None => false,
        }
    }

    /// Removes the records from `from` on that are before `to`.
    pub(super) fn clear(&mut self, from: usize, to: usize) {
        for at in from..to {
            if let Some(word) = self.words.get_mut(at / 64) {
                *word &= !(1 << (at % 64));
            }
        }
    }

    /// Keeps what the other has as well.
    pub(super) fn and(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The first one that is at least `from`.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let mut mask = u64::MAX << (from % 64);
        for (place, word) in self.words.iter().enumerate().skip(from / 64) {
            let found = word & std::mem::replace(&mut mask, u64::MAX);
            if found != 0 {
                return Some(place * 64 + found.trailing_zeros() as usize);
            }
        }
        None
    }

    /// The last one before `end`.
    pub(super) fn previous(&self, end: usize) -> Option<usize> {
        let last = end.min(self.len).checked_sub(1)?;
        let mut mask = u64::MAX >> (63 - last % 64);
        for (place, word) in self.words.iter().enumerate().take(last / 64 + 1).rev() {
            let found = word & std::mem::replace(&mut mask, u64::MAX);
            if found != 0 {
                return Some(place * 64 + 63 - found.leading_zeros() as usize);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_find_what_was_set() {
        let wanted = [0, 1, 63, 64, 65, 127, 128, 199];
        let mut bits = Bits::none(200);
        assert!(bits.is_empty());
        assert!(wanted.iter().all(|at| bits.set(*at)));
        assert!(!bits.set(200));
        let (mut up, mut from) = (Vec::new(), 0);
        while let Some(at) = bits.next(from) {
            up.push(at);
            from = at + 1;
        }
        assert_eq!(up, wanted);
        let (mut down, mut end) = (Vec::new(), usize::MAX);
        while let Some(at) = bits.previous(end) {
            down.push(at);
            end = at;
        }
        down.reverse();
        assert_eq!(down, wanted);
    }

    #[test]
    fn all_of_them_end_with_the_last() {
        for len in [0, 1, 63, 64, 65] {
            let mut bits = Bits::all(len);
            assert_eq!(bits.previous(usize::MAX), len.checked_sub(1));
            bits.clear(0, len);
            assert!(bits.is_empty());
        }
    }
}
