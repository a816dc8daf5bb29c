//! The row a value belongs to, as canonical text.

use std::fmt;

use crate::malformed::{Malformed, MalformedReason};
use crate::name::checked;

/// A row's primary key as text, at most 1,024 bytes; empty means "not bound to a row". Integers are
/// written in decimal, UUIDs in lower case with hyphens, composite keys as the base64url of their
/// pre-authentication encoding. Other text is opaque. A UUID written in another way is refused,
/// because the same row would then have two names and a value sealed under one would not open
/// under the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Row(String);

impl Row {
    /// Takes the text as it is, without copying it.
    ///
    /// # Errors
    /// `ROW_INVALID` past 1,024 bytes or with control characters; `ROW_NOT_CANONICAL` for a UUID in
    /// upper case, without hyphens, in braces or with `urn:uuid:`.
    pub fn parse(text: impl Into<String>) -> Result<Self, Malformed> {
        let text = text.into();
        checked(&text, "row", 1024, true, MalformedReason::RowInvalid)?;
        if is_uncanonical_uuid(&text) {
            return Err(Malformed::new(
                MalformedReason::RowNotCanonical,
                "a row that is a UUID is written in lower case with hyphens",
            ));
        }
        Ok(Self(text))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if the value is not bound to a row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// True for a UUID in one of its other spellings. Plain 32-digit hexadecimal text counts only if it
/// is not all decimal digits: a 32-digit integer is a legal row.
fn is_uncanonical_uuid(text: &str) -> bool {
    let bare = match text.len() {
        32 | 36 => text,
        38 => match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            Some(inner) => return is_hyphenated_uuid(inner),
            None => return false,
        },
        45 => match text.get(..9).filter(|p| p.eq_ignore_ascii_case("urn:uuid:")) {
            Some(_) => return text.get(9..).is_some_and(is_hyphenated_uuid),
            None => return false,
        },
        _ => return false,
    };
    if bare.len() == 32 {
        return bare.bytes().all(|b| b.is_ascii_hexdigit())
            && !bare.bytes().all(|b| b.is_ascii_digit());
    }
    // The usual row is a canonical UUID: one pass tells.
    bare.bytes().any(|b| b.is_ascii_uppercase()) && is_hyphenated_uuid(bare)
}

pub(crate) fn is_hyphenated_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_one_spelling() {
        assert!(Row::parse("6f1d1f7a-3d7b-4b0e-9c54-0a8f6a3c2b11").is_ok());
        for other in [
            "6F1D1F7A-3D7B-4B0E-9C54-0A8F6A3C2B11",
            "6f1d1f7a3d7b4b0e9c540a8f6a3c2b11",
            "{6f1d1f7a-3d7b-4b0e-9c54-0a8f6a3c2b11}",
            "urn:uuid:6f1d1f7a-3d7b-4b0e-9c54-0a8f6a3c2b11",
        ] {
            let reason = Row::parse(other).err().map(|e| e.reason());
            assert_eq!(reason, Some(MalformedReason::RowNotCanonical), "{other}");
        }
    }

    #[test]
    fn other_text_is_opaque() {
        let digits = "1".repeat(32);
        for good in ["", "42", "-7", "Ünï", "order 7", digits.as_str(), "not-a-uuid"] {
            assert!(Row::parse(good).is_ok(), "{good}");
        }
        assert!(Row::parse("a".repeat(1025)).is_err());
        assert!(Row::parse("a\nb").is_err());
    }
}
