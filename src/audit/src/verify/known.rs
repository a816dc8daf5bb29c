//! Public parts of records that differ in nothing but their time: one of them was decoded.

use crate::record::{Kind, LastChange, Record};
use crate::wire;

/// Different ones that are remembered, at most: a power of two. Two have the same place; of more than two
/// the last two are remembered.
const PLACES: usize = 2048;
/// Longer ones are decoded each time.
const LONGEST: usize = 4096;
/// The tag of the time, and the bytes behind it: field 2 of the message.
const TIME: u8 = 0x11;
const TIME_BYTES: usize = 8;

/// Calls that change nothing and erase nothing.
#[derive(Default)]
pub(super) struct Known {
    calls: Vec<[Box<[u8]>; 2]>,
}

/// A public part without its time.
struct Timeless<'a> {
    before: &'a [u8],
    behind: &'a [u8],
}

impl Known {
    /// True if a public part like this one was decoded and is a call.
    pub(super) fn is_call(&self, public: &[u8]) -> bool {
        let Some(one) = Timeless::of(public) else { return false };
        let place = self.calls.get(one.place());
        let mut alike = place.into_iter().flatten().filter_map(|like| Timeless::of(like));
        alike.any(|like| like.before == one.before && like.behind == one.behind)
    }

    /// Remembers one that was decoded.
    pub(super) fn remember(&mut self, public: &[u8], record: &Record) {
        let is_call = Kind::from_code(record.kind) == Some(Kind::Call);
        if !is_call || LastChange::of(record, 0).is_some() {
            return;
        }
        let Some(one) = Timeless::of(public) else { return };
        self.calls.resize_with(PLACES, Default::default);
        if let Some([last, before]) = self.calls.get_mut(one.place()) {
            *before = std::mem::replace(last, public.into());
        }
    }
}

impl<'a> Timeless<'a> {
    /// `None` if it has none, or has fields in front of it that this program would not write there.
    fn of(public: &'a [u8]) -> Option<Self> {
        let mut rest = Some(public).filter(|public| public.len() <= LONGEST)?;
        loop {
            let (tag, after) = rest.split_first()?;
            rest = after;
            if *tag == TIME {
                let before = public.get(..public.len().checked_sub(rest.len())?)?;
                return Some(Self { before, behind: rest.get(TIME_BYTES..)? });
            }
            // One byte of tag, for a number or for bytes.
            let number = match *tag {
                0..=0x7f if matches!(tag & 7, 0 | 2) => wire::read_varint(&mut rest)?,
                _ => return None,
            };
            if tag & 7 == 2 {
                rest = rest.get(usize::try_from(number).ok()?..)?;
            }
        }
    }

    /// Where it is remembered. Nothing depends on it but how soon another one takes its place.
    fn place(&self) -> usize {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = |hash: u64, word: u64| (hash ^ word).wrapping_mul(ODD).rotate_left(29);
        let of = |hash: u64, bytes: &[u8]| {
            let (words, rest) = bytes.as_chunks::<8>();
            let hash = words.iter().fold(hash, |hash, word| mixed(hash, u64::from_le_bytes(*word)));
            rest.iter().fold(hash, |hash, byte| mixed(hash, (*byte).into()))
        };
        of(of(ODD, self.before), self.behind) as usize % PLACES
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// As the writer does it: the time stands behind the purpose.
    fn call(time: i64, purpose: &str) -> Vec<u8> {
        let mut out = Vec::new();
        wire::number(&mut out, 1, Kind::Call.code().into());
        wire::bytes(&mut out, 6, purpose.as_bytes());
        wire::fixed(&mut out, 2, time);
        wire::number(&mut out, 5, 1);
        out
    }

    #[test]
    fn only_the_time_of_a_call_may_differ() {
        let mut known = Known::default();
        let first = call(1_700_000_000_000_000_000, "support");
        assert!(!known.is_call(&first));
        known.remember(&first, &Record::decode(first.as_slice()).unwrap());
        assert!(known.is_call(&first));
        assert!(known.is_call(&call(-5, "support")));
        let cut = (0..first.len()).map(|len| first[..len].to_vec());
        for other in cut.chain([call(-5, "fraud"), call(0, "support")]) {
            assert!(!known.is_call(&other), "{other:02x?}");
        }
        // In the first bytes of a purpose this is no time.
        let purpose = "support\u{11}12345678";
        known.remember(&call(1, purpose), &Record::decode(&*call(1, purpose)).unwrap());
        assert!(
            known.is_call(&call(2, purpose)) && !known.is_call(&call(2, "support\u{11}12345679"))
        );
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
