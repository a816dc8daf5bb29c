//! The secret keys, each a type of its own, each in a key page.

use fieldseal_memory::SecretBox;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

use crate::random::{self, RandomError};

macro_rules! secret_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(pub(crate) SecretBox<32>);

        impl $name {
            /// Makes a random key.
            ///
            /// # Errors
            /// [`RandomError`].
            pub fn generate() -> Result<Self, RandomError> {
                SecretBox::try_build(|bytes| random::fill(bytes)).map(Self)
            }

            pub(crate) fn bytes(&self) -> &[u8; 32] {
                self.0.expose()
            }
        }
    };
}

secret_key!(
    /// The root key of an installation: wraps service keys and KEKs, and is used for nothing else.
    RootKey
);
secret_key!(
    /// The key of a root provider: wraps the root key, and is used for nothing else.
    ProviderKey
);
secret_key!(
    /// The key-encryption key of one key version: wraps data keys.
    Kek
);
secret_key!(
    /// A data key: seals fields.
    DataKey
);
secret_key!(
    /// A key of the installation for one purpose of its own, see [`ServiceKeyKind`].
    ServiceKey
);

impl RootKey {
    /// Takes a root key from a root provider or a recovery, and wipes where it came from.
    #[must_use]
    pub fn from_bytes(bytes: &mut [u8; 32]) -> Self {
        let key = Self(SecretBox::build(|to| to.copy_from_slice(bytes)));
        bytes.zeroize();
        key
    }

    /// The bytes, for a root provider to wrap and for the recovery recipient. Do not copy them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl ProviderKey {
    /// Takes a provider's key from where it is kept, and wipes where it came from.
    #[must_use]
    pub fn from_bytes(bytes: &mut [u8; 32]) -> Self {
        let key = Self(SecretBox::build(|to| to.copy_from_slice(bytes)));
        bytes.zeroize();
        key
    }

    /// The bytes, for the provider to keep. Do not copy them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Tells two keys apart: the first 8 bytes of `HKDF-Expand-SHA256(key, "fsid", 32)`, from which
    /// nothing about the key can be learned.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 8] {
        let mut out = [0; 8];
        // 8 bytes are within what HKDF can give.
        if let Ok(hkdf) = hkdf::Hkdf::<sha2::Sha256>::from_prk(self.bytes()) {
            let _ = hkdf.expand(b"fsid", &mut out);
        }
        out
    }
}

impl DataKey {
    /// A data key of known bytes, for test vectors and for readers that were handed one. Wipes
    /// where it came from.
    #[must_use]
    pub fn from_bytes(bytes: &mut [u8; 32]) -> Self {
        let key = Self(SecretBox::build(|to| to.copy_from_slice(bytes)));
        bytes.zeroize();
        key
    }
}

impl ServiceKey {
    /// A service key of known bytes, for test vectors. Wipes where it came from.
    #[must_use]
    pub fn from_bytes(bytes: &mut [u8; 32]) -> Self {
        let key = Self(SecretBox::build(|to| to.copy_from_slice(bytes)));
        bytes.zeroize();
        key
    }

    /// True if both are the same key, found in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.bytes().ct_eq(other.bytes()).into()
    }
}

impl Kek {
    /// A KEK of known bytes, for test vectors. Wipes where it came from.
    #[must_use]
    pub fn from_bytes(bytes: &mut [u8; 32]) -> Self {
        let key = Self(SecretBox::build(|to| to.copy_from_slice(bytes)));
        bytes.zeroize();
        key
    }
}

/// What a service key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKeyKind {
    /// Seals the store's records.
    Storage,
    /// Hides the names in the store's paths.
    Path,
    /// Makes the log's tokens of rows and partitions.
    Token,
    /// Sums up the store, so that a store that went back in time is found.
    Anchor,
    /// The seed of the log's Ed25519 key.
    LogSigning,
}

impl ServiceKeyKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Storage, Self::Path, Self::Token, Self::Anchor, Self::LogSigning];

    /// The name, as it stands in the keyring and in the wrap's context.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Path => "path",
            Self::Token => "token",
            Self::Anchor => "anchor",
            Self::LogSigning => "log-signing",
        }
    }
}
