//! Signed checkpoints: C2SP tlog-checkpoint in a C2SP signed note.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldseal_crypto::sha256;
use fieldseal_crypto::signing::LogPublicKey;

use crate::merkle::Hash;

/// C2SP signed-note: the signature type of Ed25519.
const ED25519: u8 = 1;

/// A signed statement of how long the log is and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The instance that names the log.
    pub log: Arc<str>,
    /// How many records it covers.
    pub tree_size: u64,
    /// The root over them.
    pub root: Hash,
    /// The signed note.
    pub note: String,
}

/// The text that is signed: origin, size and root.
pub(crate) fn body(origin: &str, size: u64, root: &Hash) -> String {
    format!("{origin}\n{size}\n{}\n", STANDARD.encode(root))
}

/// The note: the text and its signature.
pub(crate) fn note(origin: &str, body: &str, key: &LogPublicKey, signature: &[u8; 64]) -> String {
    let mut signed = key_hash(origin, key).to_vec();
    signed.extend_from_slice(signature);
    format!("{body}\n\u{2014} {origin} {}\n", STANDARD.encode(signed))
}

/// The verifier key, as it stands in `log.pub`: `origin+hash+key`.
pub(crate) fn verifier_key(origin: &str, key: &LogPublicKey) -> String {
    let mut typed = vec![ED25519];
    typed.extend_from_slice(key.as_bytes());
    let hash = u32::from_be_bytes(key_hash(origin, key));
    format!("{origin}+{hash:08x}+{}", STANDARD.encode(typed))
}

/// Reads a verifier key; `None` if it is none or its hash does not fit.
pub(crate) fn parse_verifier_key(text: &str) -> Option<(String, LogPublicKey)> {
    let mut parts = text.trim().splitn(3, '+');
    let (origin, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
    let typed = STANDARD.decode(key).ok()?;
    let (ED25519, bytes) = typed.split_first().map(|(kind, rest)| (*kind, rest))? else {
        return None;
    };
    let key = LogPublicKey::new(bytes.try_into().ok()?);
    let expected = u32::from_be_bytes(key_hash(origin, &key));
    (u32::from_str_radix(hash, 16).ok()? == expected).then(|| (origin.to_owned(), key))
}

/// The first 4 bytes of `SHA-256(name | 0x0a | type | key)`.
fn key_hash(origin: &str, key: &LogPublicKey) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[origin.as_bytes(), &[0x0a, ED25519], key.as_bytes()]);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifier_keys_lead_back_and_others_are_refused() {
        let key = LogPublicKey::new([7; 32]);
        let own = verifier_key("fieldseal.dev/ab/main", &key);
        assert_eq!(parse_verifier_key(&own), Some(("fieldseal.dev/ab/main".to_owned(), key)));
        for bad in ["", "a", "a+b", "a+00000000+AA==", &own.replace("main", "mine")] {
            assert_eq!(parse_verifier_key(bad), None, "{bad}");
        }
    }
}
