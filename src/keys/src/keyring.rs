//! The keyring: one small document with the root key, wrapped by its root provider and encrypted to
//! the recovery recipient, and the service keys that the root key wraps.

mod document;
mod error;
mod provider;
mod recovery;

use std::collections::BTreeMap;
use std::path::Path;

use fieldseal_crypto::wrap::{self, Wrapped};
use fieldseal_crypto::{RootKey, ServiceKey, ServiceKeyKind, random};
use fieldseal_model::InstallationId;
use zeroize::Zeroizing;

use document::Document;
pub use error::KeyringError;
pub use provider::{FileProvider, RootProvider};

/// Who can recover the root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Whoever holds the identity that is made now and shown once.
    Generate,
    /// Whoever holds the identity of this recipient (`age1…`).
    Recipient(String),
}

/// A keyring that was made.
pub struct Created {
    /// It.
    pub keyring: Keyring,
    /// The recovery identity (`AGE-SECRET-KEY-1…`), if one was made. It is stored nowhere.
    pub identity: Option<Zeroizing<String>>,
}

/// An opened keyring: the only place where the root key is in clear.
pub struct Keyring {
    installation: InstallationId,
    root: RootKey,
    recipient: String,
    services: BTreeMap<&'static str, Vec<u8>>,
}

/// Makes a keyring for a new installation and writes it, for its owner alone. It appears whole or
/// not at all.
///
/// # Errors
/// `Exists` if the file does, `Recipient` if the recipient is none, or what could not be written.
pub fn create(
    path: &Path,
    provider: &dyn RootProvider,
    recovery: Recovery,
) -> Result<Created, KeyringError> {
    if path.symlink_metadata().is_ok() {
        return Err(KeyringError::Exists(path.to_owned()));
    }
    let (recipient, identity) = match recovery {
        Recovery::Recipient(recipient) => (recipient, None),
        Recovery::Generate => {
            let (recipient, identity) = recovery::generate();
            (recipient, Some(identity))
        }
    };
    let installation = InstallationId::new(random::array()?);
    let root = RootKey::generate()?;
    let recovery = recovery::seal(&recipient, &root)?;
    let services = new_services(installation, &root)?;
    let document = Document {
        installation,
        provider: provider.name().to_owned(),
        provider_id: provider.id(),
        root: provider.wrap(installation, &root)?,
        recipient: recipient.clone(),
        recovery,
        services: services.clone(),
    };
    document.write(path)?;
    let keyring = Keyring { installation, root, recipient, services };
    Ok(Created { keyring, identity })
}

/// Opens a keyring with its root provider.
///
/// # Errors
/// `NotInitialized`, `FormatNewer`, `Corrupt`, `WrongProvider` or `WrongRootKey`.
pub fn open(path: &Path, provider: &dyn RootProvider) -> Result<Keyring, KeyringError> {
    let document = Document::read(path)?;
    if document.provider != provider.name() || document.provider_id != provider.id() {
        return Err(KeyringError::WrongProvider {
            file: path.to_owned(),
            wanted: format!("{} {}", document.provider, document.provider_id),
            given: format!("{} {}", provider.name(), provider.id()),
        });
    }
    let root = provider.unwrap(document.installation, &document.root)?;
    opened(path, document, root)
}

/// Opens a keyring with the recovery identity, without its root provider.
///
/// # Errors
/// `NotInitialized`, `FormatNewer`, `Corrupt`, or `Identity` if the text is no identity or another's.
pub fn open_with_identity(path: &Path, identity: &str) -> Result<Keyring, KeyringError> {
    let document = Document::read(path)?;
    let root = recovery::open(identity, &document.recovery)?;
    opened(path, document, root)
}

/// Every service key must open: half a keyring is none.
fn opened(path: &Path, document: Document, root: RootKey) -> Result<Keyring, KeyringError> {
    let Document { installation, recipient, services, .. } = document;
    let keyring = Keyring { installation, root, recipient, services };
    for kind in ServiceKeyKind::ALL {
        keyring.service(kind).map_err(|_| KeyringError::Corrupt {
            file: path.to_owned(),
            what: format!("its {} key does not open", kind.as_str()),
        })?;
    }
    Ok(keyring)
}

fn new_services(
    installation: InstallationId,
    root: &RootKey,
) -> Result<BTreeMap<&'static str, Vec<u8>>, KeyringError> {
    let mut services = BTreeMap::new();
    for kind in ServiceKeyKind::ALL {
        let key = ServiceKey::generate()?;
        let wrapped: Wrapped = wrap::wrap_service(root, installation, kind, &key)?;
        services.insert(kind.as_str(), wrapped.to_vec());
    }
    Ok(services)
}

impl Keyring {
    /// A keyring that is never written: for an installation that lives as long as its process.
    ///
    /// # Errors
    /// If the operating system gives no randomness.
    pub fn ephemeral() -> Result<Self, KeyringError> {
        let installation = InstallationId::new(random::array()?);
        let root = RootKey::generate()?;
        let services = new_services(installation, &root)?;
        Ok(Self { installation, root, recipient: String::new(), services })
    }

    /// The installation's id.
    #[must_use]
    pub fn installation(&self) -> InstallationId {
        self.installation
    }

    /// The age recipient of the recovery wrapper; empty for an ephemeral keyring.
    #[must_use]
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    pub(crate) fn root(&self) -> &RootKey {
        &self.root
    }

    /// Unwraps a service key.
    ///
    /// # Errors
    /// `WrongRootKey` if it does not open; checked when the keyring is opened.
    pub fn service(&self, kind: ServiceKeyKind) -> Result<ServiceKey, KeyringError> {
        let wrapped = self.services.get(kind.as_str()).ok_or(KeyringError::WrongRootKey)?;
        wrap::unwrap_service(&self.root, self.installation, kind, wrapped)
            .map_err(|_| KeyringError::WrongRootKey)
    }
}

#[cfg(test)]
mod tests;
