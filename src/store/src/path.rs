//! Where a record stands: a class and hidden names.

/// The class of a record: the first byte of its path, the only part that is in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(u8);

impl Kind {
    /// A class between 1 and 239; the others belong to the store itself.
    ///
    /// # Panics
    /// At compile time, for a number outside.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        assert!(number > 0 && number < 240, "record classes are 1 to 239");
        Self(number)
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }
}

/// The path of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(pub(crate) Vec<u8>);

/// The beginning that the paths of many records share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(pub(crate) Vec<u8>);

/// Builds the bytes of a path: the class, then one hash for each part. A part's hash covers the
/// parts before it, so the same name under two parents looks different.
pub(crate) fn encode(kind: Kind, parts: &[&[u8]], hash: impl Fn(&[&[u8]]) -> [u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 16 * parts.len());
    bytes.push(kind.number());
    let class = [kind.number()];
    let mut covered: Vec<&[u8]> = vec![&class];
    for part in parts {
        covered.push(part);
        bytes.extend_from_slice(&hash(&covered));
    }
    bytes
}
