//! Key versions, data-key ids and installations.

use std::fmt;

use crate::malformed::{Malformed, MalformedReason};
use crate::name::KeyName;

/// The number of a key version: 1 and up, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionNumber(u32);

impl VersionNumber {
    /// The first version of a key.
    pub const FIRST: Self = Self(1);

    /// The version of this number; `None` for 0.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next number; `None` after the last that 32 bits hold.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A version of a key: `keys/{key}/versions/{n}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyVersion {
    /// The key.
    pub key: KeyName,
    /// The number.
    pub number: VersionNumber,
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys/{}/versions/{}", self.key, self.number)
    }
}

impl KeyVersion {
    /// Parses the resource name.
    ///
    /// # Errors
    /// `RESOURCE_NAME_INVALID` unless it is `keys/{key}/versions/{n}` with a legal key.
    pub fn parse_resource(text: &str) -> Result<Self, Malformed> {
        let invalid = || {
            Malformed::new(
                MalformedReason::ResourceNameInvalid,
                "a key version is named keys/{key}/versions/{n}",
            )
        };
        let (key, number) = text.split_once("/versions/").ok_or_else(invalid)?;
        let plain = !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse().ok().filter(|_| plain).and_then(VersionNumber::new);
        Ok(Self { key: KeyName::parse_resource(key)?, number: number.ok_or_else(invalid)? })
    }
}

/// What may be done with a key version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyVersionState {
    /// Its data keys seal (if it is primary) and open.
    Enabled,
    /// Nothing opens; it can be enabled again.
    Disabled,
    /// Nothing opens; it can be restored until its window is over.
    DestroyScheduled,
    /// The key material is gone; the tombstone stays.
    Destroyed,
}

impl KeyVersionState {
    /// Every state.
    pub const ALL: [Self; 4] =
        [Self::Enabled, Self::Disabled, Self::DestroyScheduled, Self::Destroyed];

    /// The name on the wire and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::DestroyScheduled => "DESTROY_SCHEDULED",
            Self::Destroyed => "DESTROYED",
        }
    }

    /// The number that stands in the store. Never reused.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Enabled => 1,
            Self::Disabled => 2,
            Self::DestroyScheduled => 3,
            Self::Destroyed => 4,
        }
    }

    /// The state of a number in the store.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Enabled),
            2 => Some(Self::Disabled),
            3 => Some(Self::DestroyScheduled),
            4 => Some(Self::Destroyed),
            _ => None,
        }
    }
}

/// The random id of a data key: 8 bytes, unique in the store, in the clear in every ciphertext.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The id of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// True for ids that begin with 0xff: test doubles make them, real installations refuse them.
    #[must_use]
    pub const fn is_test(&self) -> bool {
        let [first, ..] = self.0;
        first == 0xff
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The random id of an installation: 16 bytes, public.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstallationId([u8; 16]);

impl InstallationId {
    /// The id of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses 32 digits of hexadecimal in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 32
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !plain {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|n| Self(n.to_be_bytes()))
    }
}

impl fmt::Display for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstallationId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_names_lead_back() -> Result<(), Malformed> {
        let version = KeyVersion::parse_resource("keys/customer-pii/versions/12")?;
        assert_eq!(version.to_string(), "keys/customer-pii/versions/12");
        for bad in ["keys/a", "keys/a/versions/0", "keys/a/versions/01", "keys/a/versions/+1", "a"]
        {
            assert!(KeyVersion::parse_resource(bad).is_err(), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn ids_lead_back() {
        let id = InstallationId::new([0x0a; 16]);
        assert_eq!(InstallationId::parse(&id.to_string()), Some(id));
        assert_eq!(InstallationId::parse("0A"), None);
        assert!(KeyId::new([0xff, 0, 0, 0, 0, 0, 0, 0]).is_test());
        for state in KeyVersionState::ALL {
            assert_eq!(KeyVersionState::from_code(state.code()), Some(state));
        }
    }
}
