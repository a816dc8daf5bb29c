//! Signed checkpoints: C2SP tlog-checkpoint in a C2SP signed note.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldseal_crypto::sha256;
use fieldseal_crypto::signing::LogPublicKey;

use crate::merkle::Hash;
use crate::verify::{LogKey, VerifyError};

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

/// A checkpoint that was kept outside the log, signed by the log's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// How many records it covers.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Reads a checkpoint: a signed note as it is, or its four parts in one line, as [`line()`] writes
/// them.
///
/// # Errors
/// `Checkpoint` if it is none; `CheckpointForeign` if it is another log's, or this key did not
/// sign it.
pub fn remembered(text: &str, key: &LogKey) -> Result<Remembered, VerifyError> {
    let (body, signatures) = parts(text).ok_or(VerifyError::Checkpoint)?;
    let mut lines = body.lines();
    let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(VerifyError::Checkpoint);
    };
    let decoded = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok());
    let decimal =
        size.bytes().all(|b| b.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
    let (Some(root), Some(size)) = (decoded, size.parse().ok().filter(|_| decimal)) else {
        return Err(VerifyError::Checkpoint);
    };
    let hash = key_hash(&key.origin, &key.key);
    let is_signed = signatures.iter().any(|(name, signed)| {
        let signature = signed.strip_prefix(&hash).and_then(|s| s.try_into().ok());
        let verified = signature.map(|signature| key.key.verify(body.as_bytes(), &signature));
        *name == key.origin && verified.is_some_and(|verified| verified.is_ok())
    });
    if !is_signed || origin != key.origin {
        let (found, expected) = (origin.to_owned(), key.origin.clone());
        return Err(VerifyError::CheckpointForeign { found, expected });
    }
    Ok(Remembered { size, root })
}

/// A signature of a note, with the name before it.
type Named = (String, Vec<u8>);

/// The text that a note signs, and its signatures.
fn parts(text: &str) -> Option<(String, Vec<Named>)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if let ([origin, size, root, signature], 1) = (words.as_slice(), text.trim().lines().count()) {
        let signed = STANDARD.decode(signature).ok()?;
        return Some((format!("{origin}\n{size}\n{root}\n"), vec![((*origin).to_owned(), signed)]));
    }
    let (body, signatures) = text.split_once("\n\n")?;
    let signature = |line: &str| {
        let (name, signed) = line.strip_prefix("\u{2014} ")?.rsplit_once(' ')?;
        Some((name.to_owned(), STANDARD.decode(signed).ok()?))
    };
    let signatures: Option<Vec<_>> = signatures.lines().map(signature).collect();
    Some((format!("{body}\n"), signatures?))
}

/// A note with one signature in one line: origin, size, root and signature; `None` if it is none.
#[must_use]
pub fn line(note: &str) -> Option<String> {
    let (body, signatures) = parts(note)?;
    let (_, signed) = signatures.first()?;
    let mut words: Vec<&str> = body.lines().collect();
    let signature = STANDARD.encode(signed);
    words.push(&signature);
    (words.len() == 4).then(|| words.join(" "))
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
    fn a_checkpoint_is_read_as_a_note_and_as_a_line_and_only_under_its_own_key() {
        use fieldseal_crypto::{ServiceKey, signing::LogSigningKey};
        let signing = LogSigningKey::new(ServiceKey::from_bytes(&mut [5; 32]));
        let origin = "fieldseal.dev/ab/main";
        let key = LogKey::new(origin.to_owned(), signing.public());
        let body = body(origin, 12, &[9; 32]);
        let note = note(origin, &body, &key.key, &signing.sign(body.as_bytes()));
        let one = line(&note).unwrap();
        assert_eq!(one.lines().count(), 1);
        let expected = Ok(Remembered { size: 12, root: [9; 32] });
        let cosigned = format!("{note}\u{2014} witness.example AAAAAAAA\n");
        for text in [&note, &one, &format!("{one}\n"), &cosigned] {
            assert_eq!(remembered(text, &key), expected, "{text}");
        }
        for text in ["", "a b c d", &note.replace("\n12\n", "\n012\n"), &note.replace("\n\n", "\n")]
        {
            assert_eq!(remembered(text, &key), Err(VerifyError::Checkpoint), "{text}");
        }
        let stranger = LogKey::new(origin.to_owned(), LogPublicKey::new([7; 32]));
        let other = LogKey::new("fieldseal.dev/ab/second".to_owned(), signing.public());
        let altered = note.replace("\n12\n", "\n11\n");
        for (text, key) in [(&note, &stranger), (&note, &other), (&altered, &key), (&one, &other)] {
            let refused = remembered(text, key).unwrap_err();
            assert_eq!(refused.reason(), "CHECKPOINT_FOREIGN", "{refused}");
        }
    }

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
