//! SHA-256 (FIPS 180-4) and HMAC (RFC 2104) of short messages, padded in place.
//!
//! Nodes, tokens and the infos of suite 1 fit two blocks, most leaves of the log four. For them the buffer of
//! a streaming hash, and its copy for each message, cost as much as the compression itself.

use sha2::block_api::compress256;
use zeroize::Zeroizing;

const BLOCK_BYTES: usize = 64;
/// Of the mark behind a message and its length.
const END_BYTES: usize = 9;

/// FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A message that fits so many blocks.
#[derive(Clone)]
pub(crate) struct Short<const BLOCKS: usize = 2> {
    blocks: [[u8; BLOCK_BYTES]; BLOCKS],
    len: usize,
}

impl<const BLOCKS: usize> Short<BLOCKS> {
    /// The longest message.
    pub(crate) const MAX_BYTES: usize = BLOCKS * BLOCK_BYTES - END_BYTES;

    pub(crate) fn new() -> Self {
        Self { blocks: [[0; BLOCK_BYTES]; BLOCKS], len: 0 }
    }

    /// The parts, one after the other; `None` if they are too long.
    pub(crate) fn of(parts: &[&[u8]]) -> Option<Self> {
        let mut message = Self::new();
        parts.iter().try_for_each(|part| message.push(part))?;
        Some(message)
    }

    /// Appends a part; `None` if it does not fit any more.
    pub(crate) fn push(&mut self, part: &[u8]) -> Option<()> {
        let end = self.len.checked_add(part.len()).filter(|end| *end <= Self::MAX_BYTES)?;
        self.blocks.as_flattened_mut().get_mut(self.len..end)?.copy_from_slice(part);
        self.len = end;
        Some(())
    }

    pub(crate) fn hash(&mut self) -> [u8; 32] {
        let mut state = INITIAL;
        self.finish(&mut state, 0);
        bytes(&state)
    }

    /// Pads the message and hashes it into a state that has seen `before` whole blocks.
    fn finish(&mut self, state: &mut [u32; 8], before: usize) {
        // FIPS 180-4, section 5.1.1: one bit, zeroes, and the length in bits in the last 8 bytes.
        // `push` leaves room for both, so every place below exists.
        let blocks = (self.len + END_BYTES).div_ceil(BLOCK_BYTES);
        if let Some(mark) = self.blocks.as_flattened_mut().get_mut(self.len) {
            *mark = 0x80;
        }
        let bits = 8 * (before * BLOCK_BYTES + self.len) as u64;
        let whole = self.blocks.get_mut(..blocks).unwrap_or_default();
        if let Some(length) = whole.last_mut().and_then(|last| last.last_chunk_mut::<8>()) {
            *length = bits.to_be_bytes();
        }
        compress256(state, whole);
    }
}

/// HMAC-SHA256 under one key, whose two blocks are hashed once. Wiped when dropped.
pub(crate) struct ShortHmac {
    inner: Zeroizing<[u32; 8]>,
    outer: Zeroizing<[u32; 8]>,
}

impl ShortHmac {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let keyed = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK_BYTES]);
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            let mut state = Zeroizing::new(INITIAL);
            compress256(&mut state, std::slice::from_ref(&*block));
            state
        };
        Self { inner: keyed(0x36), outer: keyed(0x5c) }
    }

    /// The authenticator of a message.
    pub(crate) fn mac(&self, mut message: Short) -> Zeroizing<[u8; 32]> {
        let mut inner = self.inner.clone();
        message.finish(&mut inner, 1);
        let mut hash = Short::<2>::new();
        // 32 bytes fit.
        let _ = hash.push(&*Zeroizing::new(bytes(&inner)));
        let mut outer = self.outer.clone();
        hash.finish(&mut outer, 1);
        Zeroizing::new(bytes(&outer))
    }
}

fn bytes(state: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest, Sha256};

    use super::*;

    fn hashed<const BLOCKS: usize>(parts: &[&[u8]]) -> Option<[u8; 32]> {
        Short::<BLOCKS>::of(parts).map(|mut message| message.hash())
    }

    #[test]
    fn a_short_hash_is_the_hash_and_a_long_one_is_refused() {
        let message: Vec<u8> = (0..300).map(|at| (at % 251) as u8).collect();
        for len in 0..=message.len() {
            let (first, second) = message[..len].split_at(len / 3);
            let expected: [u8; 32] = Sha256::digest(&message[..len]).into();
            let [two, four] = [hashed::<2>(&[first, second]), hashed::<4>(&[first, second])];
            assert_eq!(two, (len <= 119).then_some(expected), "{len} bytes");
            assert_eq!(four, (len <= 247).then_some(expected), "{len} bytes");
            assert_eq!(crate::sha256(&[first, second]), expected, "{len} bytes");
        }
    }

    #[test]
    fn a_short_mac_is_the_mac() {
        let message: Vec<u8> = (0..=200).collect();
        for len in 0..=Short::<2>::MAX_BYTES {
            let key = [u8::try_from(len).unwrap(); 32];
            let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap();
            mac.update(&message[..len]);
            let expected: [u8; 32] = mac.finalize().into_bytes().into();
            let short = ShortHmac::new(&key).mac(Short::of(&[&message[..len]]).unwrap());
            assert_eq!(*short, expected, "{len} bytes");
        }
    }
}
