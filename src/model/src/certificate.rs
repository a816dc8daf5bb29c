//! Which certificate a caller showed.

use std::fmt;

use crate::hex;

/// The beginning of a certificate's fingerprint: the first 16 bytes of the SHA-256 of its DER form, which
/// `openssl x509 -fingerprint -sha256` prints as a whole. So many tell all certificates of an
/// installation apart, and nobody finds another one that begins so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateId([u8; 16]);

impl CertificateId {
    /// Of the whole fingerprint.
    #[must_use]
    pub const fn of(fingerprint: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *fingerprint;
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads a fingerprint, whole or its first 16 bytes: hexadecimal digits in either case, with colons
    /// between all bytes or none. Of a whole one the first 16 bytes count.
    ///
    /// # Errors
    /// What is expected, if it is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "a certificate is named by the SHA-256 of its DER form, as `openssl x509 \
            -fingerprint -sha256` prints it: 64 digits of hexadecimal, or the first 32 of them, with or \
            without colons between the bytes";
        let mut pairs = text.split(':');
        let digits = match text.contains(':') {
            true if pairs.all(|pair| pair.len() == 2) => text.replace(':', ""),
            true => return Err(EXPECTED),
            false => text.to_owned(),
        };
        let bytes = hex::decode(&digits).filter(|bytes| matches!(bytes.len(), 16 | 32));
        let first = bytes.as_ref().and_then(|bytes| bytes.first_chunk());
        first.map(|first| Self(*first)).ok_or(EXPECTED)
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_printed_and_nothing_else_is() {
        let whole: [u8; 32] = std::array::from_fn(|at| 0xa0 + at as u8);
        let id = CertificateId::of(&whole);
        assert_eq!(id.as_bytes()[..], whole[..16]);
        let plain = hex::encode(&whole);
        let pairs: Vec<_> = whole.iter().map(|byte| format!("{byte:02X}")).collect();
        for good in [
            &plain,
            &plain.to_uppercase(),
            &pairs.join(":"),
            &pairs[..16].join(":"),
            &id.to_string(),
        ] {
            assert_eq!(CertificateId::parse(good), Ok(id), "{good}");
        }
        for bad in [
            "",
            ":",
            "a0",
            &plain[..31],
            &plain[..34],
            &plain[..63],
            &format!("{plain}00"),
            &format!("{}g", &plain[..63]),
            &format!("{}:", pairs.join(":")),
            &pairs.join("::"),
            &pairs.join(" "),
            &format!("{}:{}", &plain[..32], &plain[32..]),
            "SHA256:AAAA",
        ] {
            assert!(CertificateId::parse(bad).is_err(), "{bad}");
        }
    }
}
