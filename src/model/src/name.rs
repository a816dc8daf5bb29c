//! Names: keys, tables, columns, partitions and the pairs of an extra context.

use std::fmt;
use std::sync::Arc;

use crate::malformed::{Malformed, MalformedReason};

/// Most bytes in the name of a table, a column, a pair, a purpose or a ticket.
pub(crate) const MAX_LABEL_BYTES: usize = 128;

/// True if `text` has an ASCII or Unicode control character.
pub(crate) fn has_control(text: &str) -> bool {
    text.bytes().any(|b| !(0x20..0x7f).contains(&b)) && text.chars().any(char::is_control)
}

pub(crate) fn checked(
    text: &str,
    what: &str,
    max_bytes: usize,
    may_be_empty: bool,
    reason: MalformedReason,
) -> Result<(), Malformed> {
    if text.is_empty() && !may_be_empty {
        return Err(Malformed::new(reason, format!("{what} is required")));
    }
    if text.len() > max_bytes {
        let message =
            format!("{what} has {} bytes, and at most {max_bytes} are allowed", text.len());
        return Err(Malformed::new(reason, message));
    }
    if has_control(text) {
        return Err(Malformed::new(reason, format!("{what} must not have control characters")));
    }
    Ok(())
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $empty:literal, $reason:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the text.
            ///
            /// # Errors
            /// `Malformed` with the limit that was passed.
            pub fn parse(text: &str) -> Result<Self, Malformed> {
                checked(text, $what, $max, $empty, MalformedReason::$reason)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label!(
    /// A database table, 1 to 128 bytes, no control characters.
    Table, "table", MAX_LABEL_BYTES, false, TableInvalid
);
label!(
    /// A database column, 1 to 128 bytes, no control characters.
    Column, "column", MAX_LABEL_BYTES, false, ColumnInvalid
);
label!(
    /// The name of an extra context pair, 1 to 128 bytes, no control characters.
    PairName, "the name of an extra context pair", MAX_LABEL_BYTES, false, ExtraContextInvalid
);
label!(
    /// The value of an extra context pair, at most 1,024 bytes, no control characters.
    PairValue, "the value of an extra context pair", 1024, true, ExtraContextInvalid
);
label!(
    /// The unit that can be crypto-shredded: a tenant or one person. At most 256 bytes; empty is the
    /// default partition.
    Partition, "partition", 256, true, PartitionInvalid
);

impl Default for Partition {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl Partition {
    /// The class that policy sees: policy never sees a partition itself.
    #[must_use]
    pub fn class(&self) -> PartitionClass {
        if self.0.is_empty() { PartitionClass::Default } else { PartitionClass::Named }
    }
}

/// What policy knows of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionClass {
    /// The empty partition.
    Default,
    /// Any other partition.
    Named,
}

impl PartitionClass {
    /// `default` or `named`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Named => "named",
        }
    }
}

/// The name of a key: `[a-z][a-z0-9-]{0,62}`. On the wire it is written `keys/{key}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// Parses the bare name.
    ///
    /// # Errors
    /// `KEY_NAME_INVALID` unless it matches `[a-z][a-z0-9-]{0,62}`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut bytes = text.bytes();
        let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !head || !tail || text.len() > 63 {
            return Err(Malformed::new(
                MalformedReason::KeyNameInvalid,
                "a key's name is 1 to 63 characters of a-z, 0-9 and -, beginning with a letter",
            ));
        }
        Ok(Self(Arc::from(text)))
    }

    /// Parses the resource name `keys/{key}`.
    ///
    /// # Errors
    /// `RESOURCE_NAME_INVALID` without the prefix, `KEY_NAME_INVALID` if the rest is no key name.
    pub fn parse_resource(text: &str) -> Result<Self, Malformed> {
        let bare = text.strip_prefix("keys/").ok_or_else(|| {
            Malformed::new(
                MalformedReason::ResourceNameInvalid,
                "a key is named keys/{key}, for example keys/customer-pii",
            )
        })?;
        Self::parse(bare)
    }

    /// The bare name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The resource name `keys/{key}`.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("keys/{}", self.0)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_names_follow_their_pattern() {
        let longest = format!("a{}", "b".repeat(62));
        for good in ["a", "customer-pii", "k0", "a-", longest.as_str()] {
            assert!(KeyName::parse(good).is_ok(), "{good}");
        }
        let too_long = format!("a{}", "b".repeat(63));
        for bad in ["", "A", "0a", "-a", "a_b", "a.b", "ä", "a b", "a/b", too_long.as_str()] {
            let error = KeyName::parse(bad).err().map(|e| e.reason());
            assert_eq!(error, Some(MalformedReason::KeyNameInvalid), "{bad}");
        }
        let error = KeyName::parse_resource("customer-pii").err().map(|e| e.reason());
        assert_eq!(error, Some(MalformedReason::ResourceNameInvalid));
    }

    #[test]
    fn labels_have_their_limits() {
        assert!(Table::parse(&"t".repeat(128)).is_ok());
        assert!(Table::parse(&"t".repeat(129)).is_err());
        assert!(Table::parse("").is_err());
        assert!(Column::parse("a\u{0}b").is_err());
        assert!(Column::parse("a\u{85}b").is_err(), "C1 controls are control characters too");
        assert!(Column::parse("größe").is_ok());
        assert!(Partition::parse("").is_ok());
        assert!(Partition::parse(&"p".repeat(257)).is_err());
        assert_eq!(Partition::default().class(), PartitionClass::Default);
    }
}
