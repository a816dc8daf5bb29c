//! Pre-authentication encoding: `PAE(parts) = le32(count) | (le32(len) | bytes)*`.
//!
//! Two different lists of parts never encode alike, so nothing can be moved from one part to the
//! next. (The idea is PASETO's and DSSE's; the lengths here have 32 bits.)

use sha2::{Digest, Sha256};

/// The encoding of `parts`. Parts are shorter than 4 GiB: every input is limited long before.
#[must_use]
pub fn encode(parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.iter().map(|p| p.len() + 4).sum::<usize>() + 4;
    let mut out = Vec::with_capacity(bytes);
    out.extend_from_slice(&le32(parts.len()));
    for part in parts {
        out.extend_from_slice(&le32(part.len()));
        out.extend_from_slice(part);
    }
    out
}

/// The encoding of a list whose parts come one at a time, straight into a hash.
#[derive(Clone)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    /// A list of `count` parts. Exactly as many calls of [`Hasher::part`] must follow.
    pub(crate) fn new(count: usize) -> Self {
        Self(Sha256::new_with_prefix(le32(count)))
    }

    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update(le32(bytes.len()));
        self.0.update(bytes);
    }

    /// The last part of the list and the hash of it all; the state before is kept for the next.
    pub(crate) fn finish_with(&self, last: &[u8]) -> [u8; 32] {
        let mut hash = self.0.clone();
        hash.update(le32(last.len()));
        hash.update(last);
        hash.finalize().into()
    }
}

pub(crate) fn le32(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_between_parts_counts() {
        assert_eq!(encode(&[]), [0, 0, 0, 0]);
        assert_eq!(encode(&[b"ab"]), [1, 0, 0, 0, 2, 0, 0, 0, b'a', b'b']);
        assert_ne!(encode(&[b"ab", b"c"]), encode(&[b"a", b"bc"]));
        assert_ne!(encode(&[b""]), encode(&[]));
    }

    #[test]
    fn the_streamed_form_is_the_same() {
        let mut hasher = Hasher::new(3);
        hasher.part(b"one");
        hasher.part(b"");
        let streamed = hasher.finish_with(b"three");
        assert_eq!(streamed, crate::sha256(&[&encode(&[b"one", b"", b"three"])]));
    }
}
