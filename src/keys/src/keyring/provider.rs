//! Root providers: who wraps the root key. None hands its own key out.
//!
//! Four of them hold a key of their own and differ in where it comes from; `exec` asks a program.

mod env;
mod exec;
mod file;
mod passphrase;
mod systemd;

use fieldseal_crypto::wrap;
use fieldseal_crypto::{ProviderKey, RootKey};
use fieldseal_model::InstallationId;

pub use env::EnvProvider;
pub use exec::ExecProvider;
pub use file::FileProvider;
pub use passphrase::{Derivation, Passphrase, PassphraseProvider, Terminal};
pub use systemd::SystemdProvider;

use super::error::KeyringError;

/// Bytes of a provider's key.
const KEY_BYTES: usize = 32;

/// Wraps and unwraps the root key of an installation.
pub trait RootProvider: Send + Sync {
    /// The kind of provider, as it stands in keyring and configuration: `file`.
    fn name(&self) -> &'static str;

    /// Tells two keys of the same kind apart; not secret.
    fn id(&self) -> String;

    /// What the keyring has to remember beside the id: how a passphrase becomes a key.
    fn derivation(&self) -> Option<&Derivation> {
        None
    }

    /// Wraps the root key. It may wait for a program.
    ///
    /// # Errors
    /// If the provider cannot.
    fn wrap(&self, installation: InstallationId, root: &RootKey) -> Result<Vec<u8>, KeyringError>;

    /// Unwraps the root key. It may wait for a program.
    ///
    /// # Errors
    /// `WrongRootKey` if it was wrapped by another key or for another installation, `Provider…` if
    /// the provider cannot be asked.
    fn unwrap(&self, installation: InstallationId, wrapped: &[u8])
    -> Result<RootKey, KeyringError>;
}

/// A provider with a key of its own.
trait HoldsKey: Send + Sync {
    const NAME: &'static str;

    fn key(&self) -> &ProviderKey;

    fn derivation(&self) -> Option<&Derivation> {
        None
    }
}

impl<T: HoldsKey> RootProvider for T {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn id(&self) -> String {
        fieldseal_model::hex::encode(&self.key().fingerprint())
    }

    fn derivation(&self) -> Option<&Derivation> {
        HoldsKey::derivation(self)
    }

    fn wrap(&self, installation: InstallationId, root: &RootKey) -> Result<Vec<u8>, KeyringError> {
        Ok(wrap::wrap_root(self.key(), installation, root)?.to_vec())
    }

    fn unwrap(
        &self,
        installation: InstallationId,
        wrapped: &[u8],
    ) -> Result<RootKey, KeyringError> {
        wrap::unwrap_root(self.key(), installation, wrapped).map_err(|_| KeyringError::WrongRootKey)
    }
}
