//! Public parts of records that differ in nothing but their time: one of them was decoded.

use std::collections::HashSet;

use crate::record::{Kind, LastChange, Record};

/// Different ones that are remembered, at most.
const MOST: usize = 4096;
/// Longer ones are decoded each time.
const LONGEST: usize = 4096;
/// Where the time stands: behind the kind, a varint of one byte. Both are fields 1 and 2 of the message.
const TIME: std::ops::Range<usize> = 3..11;

/// Calls that change nothing and erase nothing, without their time.
#[derive(Default)]
pub(super) struct Known {
    calls: HashSet<Vec<u8>>,
    one: Vec<u8>,
}

impl Known {
    /// True if a public part like this one was decoded and is a call.
    pub(super) fn is_call(&mut self, public: &[u8]) -> bool {
        self.blank(public) && self.calls.contains(&self.one)
    }

    /// Remembers one that was decoded.
    pub(super) fn remember(&mut self, public: &[u8], record: &Record) {
        let is_call = Kind::from_code(record.kind) == Some(Kind::Call);
        if is_call && LastChange::of(record, 0).is_none() && self.blank(public) {
            if self.calls.len() >= MOST {
                self.calls.clear();
            }
            self.calls.insert(self.one.clone());
        }
    }

    /// Takes it without its time; false if it does not begin as this program writes it.
    fn blank(&mut self, public: &[u8]) -> bool {
        let begins = matches!(public, [0x08, 0..=0x7f, 0x11, ..]);
        let rest = public.get(TIME.end..).filter(|_| begins && public.len() <= LONGEST);
        let Some(rest) = rest else { return false };
        self.one.clear();
        self.one.extend_from_slice(public.get(..TIME.start).unwrap_or_default());
        self.one.extend_from_slice(rest);
        true
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn call(time: i64, purpose: &str) -> Vec<u8> {
        let purpose = purpose.to_owned();
        Record { kind: Kind::Call.code(), time, purpose, ..Record::default() }.encode_to_vec()
    }

    #[test]
    fn only_the_time_of_a_call_may_differ() {
        let mut known = Known::default();
        let first = call(1_700_000_000_000_000_000, "support");
        assert!(!known.is_call(&first));
        known.remember(&first, &Record::decode(first.as_slice()).unwrap());
        assert!(known.is_call(&first));
        assert!(known.is_call(&call(-5, "support")));
        for other in [call(-5, "fraud"), call(0, "support"), Vec::new(), first[..9].to_vec()] {
            assert!(!known.is_call(&other), "{other:02x?}");
        }
        let mut change = Record::decode(first.as_slice()).unwrap();
        change.purpose = "other".to_owned();
        (change.revision, change.anchor) = (1, vec![3; 32]);
        known.remember(&change.encode_to_vec(), &change);
        assert!(!known.is_call(&change.encode_to_vec()));
        let start = Record { kind: Kind::Start.code(), time: 7, ..Record::default() };
        known.remember(&start.encode_to_vec(), &start);
        assert!(!known.is_call(&start.encode_to_vec()));
    }
}
