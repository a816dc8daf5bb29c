//! The keyring: one small document with the root key, wrapped by its root provider and encrypted to
//! the recovery recipient, and the service keys that the root key wraps.

mod document;
mod error;
mod provider;
mod recovery;
mod rotation;

use std::collections::BTreeMap;
use std::path::Path;

use fieldseal_crypto::wrap::{self, KekId, UnwrapError, Wrapped};
use fieldseal_crypto::{Kek, RootKey, ServiceKey, ServiceKeyKind, random};
use fieldseal_model::InstallationId;
use zeroize::Zeroizing;

pub use document::Wrapping;
use document::{Document, WrappedRoot};
pub use error::KeyringError;
pub use provider::{
    Derivation, EnvProvider, ExecProvider, FileProvider, Passphrase, PassphraseProvider,
    RootProvider, SystemdProvider, Terminal,
};
pub use recovery::age_identity;
pub use rotation::{begin_rotation, finish_rotation, rewrap};

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
    recipient: String,
    current: OpenRoot,
    /// The root key that a rotation moves to, while it is under way: both are in use then.
    pending: Option<OpenRoot>,
}

/// A root key, and the service keys under it.
struct OpenRoot {
    root: RootKey,
    services: BTreeMap<&'static str, Vec<u8>>,
}

/// What opens a keyring.
#[derive(Clone, Copy)]
pub enum Opener<'a> {
    /// Its root provider.
    Provider(&'a dyn RootProvider),
    /// The text of its recovery identity (`AGE-SECRET-KEY-1…`).
    Identity(&'a str),
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
    let services = new_services(installation, &root)?;
    let current = wrapped(installation, provider, &recipient, OpenRoot { root, services })?;
    let (current, open) = current;
    let wrapping = Wrapping::of(provider);
    let recipient_of = recipient.clone();
    let document = Document { installation, wrapping, recipient, current, pending: None };
    document.create(path)?;
    let keyring = Keyring { installation, recipient: recipient_of, current: open, pending: None };
    Ok(Created { keyring, identity })
}

/// Wraps a root key twice. A provider that does not open what it wrapped would lose it.
fn wrapped(
    installation: InstallationId,
    provider: &dyn RootProvider,
    recipient: &str,
    open: OpenRoot,
) -> Result<(WrappedRoot, OpenRoot), KeyringError> {
    let recovery = recovery::seal(recipient, &open.root)?;
    let root = provider.wrap(installation, &open.root)?;
    let again = provider.unwrap(installation, &root)?;
    if again.expose() != open.root.expose() {
        let what = format!("{} does not open what it wrapped", provider.name());
        return Err(KeyringError::ProviderBroken(what));
    }
    Ok((WrappedRoot { root, recovery, services: open.services.clone() }, open))
}

/// Who wrapped the root key of a keyring: what is needed to open it.
///
/// # Errors
/// `NotInitialized`, `FormatNewer` or `Corrupt`.
pub fn wrapping(path: &Path) -> Result<Wrapping, KeyringError> {
    Document::read(path).map(|document| document.wrapping)
}

/// Whose keyring it is.
///
/// # Errors
/// `NotInitialized`, `FormatNewer` or `Corrupt`.
pub fn installation(path: &Path) -> Result<InstallationId, KeyringError> {
    Document::read(path).map(|document| document.installation)
}

/// True if a rotation of the root key has begun and is not finished.
///
/// # Errors
/// `NotInitialized`, `FormatNewer` or `Corrupt`.
pub fn is_rotating(path: &Path) -> Result<bool, KeyringError> {
    Document::read(path).map(|document| document.pending.is_some())
}

/// Opens a keyring with its root provider.
///
/// # Errors
/// `NotInitialized`, `FormatNewer`, `Corrupt`, `WrongProvider`, or what its provider says.
pub fn open(path: &Path, provider: &dyn RootProvider) -> Result<Keyring, KeyringError> {
    open_by(path, Opener::Provider(provider))
}

/// Opens a keyring with the recovery identity, without its root provider.
///
/// # Errors
/// `NotInitialized`, `FormatNewer`, `Corrupt`, or `Identity` if the text is no identity or another's.
pub fn open_with_identity(path: &Path, identity: &str) -> Result<Keyring, KeyringError> {
    open_by(path, Opener::Identity(identity))
}

/// Opens a keyring with one or the other.
///
/// # Errors
/// As [`open`] and [`open_with_identity`].
pub fn open_by(path: &Path, opener: Opener<'_>) -> Result<Keyring, KeyringError> {
    opened(path, &Document::read(path)?, opener)
}

fn opened(path: &Path, document: &Document, by: Opener<'_>) -> Result<Keyring, KeyringError> {
    if let Opener::Provider(provider) = by {
        check_provider(path, &document.wrapping, provider)?;
    }
    let current = open_root(path, document, &document.current, by)?;
    let pending = document.pending.as_ref().map(|p| open_root(path, document, p, by));
    let pending = pending.transpose()?;
    let (installation, recipient) = (document.installation, document.recipient.clone());
    for (kind, pending) in
        ServiceKeyKind::ALL.into_iter().flat_map(|k| Some((k, pending.as_ref()?)))
    {
        let key = current.service(installation, kind)?;
        if !pending.service(installation, kind)?.is(&key) {
            return Err(KeyringError::corrupt(path, "its two root keys have other service keys"));
        }
    }
    Ok(Keyring { installation, recipient, current, pending })
}

/// Which key the program of `exec` uses, that program alone knows; it may be called otherwise now.
fn check_provider(
    path: &Path,
    wanted: &Wrapping,
    provider: &dyn RootProvider,
) -> Result<(), KeyringError> {
    let given = Wrapping::of(provider);
    let same_key = wanted.id == given.id || given.provider == "exec";
    if wanted.provider == given.provider && same_key {
        return Ok(());
    }
    let (file, wanted, given) = (path.to_owned(), wanted.to_string(), given.to_string());
    Err(KeyringError::WrongProvider { file, wanted, given })
}

/// Every service key must open: half a keyring is none.
fn open_root(
    path: &Path,
    document: &Document,
    wrapped: &WrappedRoot,
    by: Opener<'_>,
) -> Result<OpenRoot, KeyringError> {
    let root = match by {
        Opener::Provider(provider) => {
            let root = provider.unwrap(document.installation, &wrapped.root);
            root.map_err(|error| error.expecting(&document.wrapping))?
        }
        Opener::Identity(identity) => {
            recovery::open(identity, &wrapped.recovery, &document.recipient)?
        }
    };
    let open = OpenRoot { root, services: wrapped.services.clone() };
    let opens = |kind: &ServiceKeyKind| open.service(document.installation, *kind).is_ok();
    let (good, bad): (Vec<_>, Vec<_>) = ServiceKeyKind::ALL.into_iter().partition(opens);
    match (good.as_slice(), bad.as_slice()) {
        (_, []) => Ok(open),
        ([], _) if matches!(by, Opener::Provider(_)) => {
            Err(KeyringError::WrongRootKey.expecting(&document.wrapping))
        }
        (_, [kind, ..]) => {
            let what = format!("its {} key does not open", kind.as_str());
            Err(KeyringError::corrupt(path, what))
        }
    }
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

impl OpenRoot {
    fn service(
        &self,
        installation: InstallationId,
        kind: ServiceKeyKind,
    ) -> Result<ServiceKey, KeyringError> {
        let wrapped = self.services.get(kind.as_str()).ok_or(KeyringError::WrongRootKey)?;
        wrap::unwrap_service(&self.root, installation, kind, wrapped)
            .map_err(|_| KeyringError::WrongRootKey)
    }
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
        let current = OpenRoot { root, services };
        Ok(Self { installation, recipient: String::new(), current, pending: None })
    }

    /// The installation's id.
    #[must_use]
    pub fn installation(&self) -> InstallationId {
        self.installation
    }

    /// The age recipient of the recovery wrapper, which is its own fingerprint; empty for an
    /// ephemeral keyring.
    #[must_use]
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Whether the root key can be recovered by whom the configuration names. Empty is anybody.
    ///
    /// # Errors
    /// `WrongRecipient`, which names both.
    pub fn check_recipient(&self, path: &Path, wanted: &str) -> Result<(), KeyringError> {
        if wanted.is_empty() || wanted == self.recipient {
            return Ok(());
        }
        let (file, found) = (path.to_owned(), self.recipient.clone());
        Err(KeyringError::WrongRecipient { file, wanted: wanted.to_owned(), found })
    }

    /// True while a rotation of the root key has begun and is not finished.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        self.pending.is_some()
    }

    /// The root key that wraps what is made now: the new one while a rotation is under way.
    fn newest(&self) -> &OpenRoot {
        self.pending.as_ref().unwrap_or(&self.current)
    }

    /// Wraps a KEK.
    pub(crate) fn wrap_kek(&self, id: &KekId<'_>, kek: &Kek) -> Result<Wrapped, KeyringError> {
        Ok(wrap::wrap_kek(&self.newest().root, id, kek)?)
    }

    /// Unwraps a KEK, by whichever root key wrapped it: a wrap commits to its key.
    pub(crate) fn unwrap_kek(&self, id: &KekId<'_>, wrapped: &[u8]) -> Result<Kek, UnwrapError> {
        let newest = wrap::unwrap_kek(&self.newest().root, id, wrapped);
        newest.or_else(|_| wrap::unwrap_kek(&self.current.root, id, wrapped))
    }

    /// True if the newest root key wrapped this KEK.
    pub(crate) fn is_newest(&self, id: &KekId<'_>, wrapped: &[u8]) -> bool {
        wrap::unwrap_kek(&self.newest().root, id, wrapped).is_ok()
    }

    #[cfg(test)]
    fn root(&self) -> &RootKey {
        &self.newest().root
    }

    /// Unwraps a service key.
    ///
    /// # Errors
    /// `WrongRootKey` if it does not open; checked when the keyring is opened.
    pub fn service(&self, kind: ServiceKeyKind) -> Result<ServiceKey, KeyringError> {
        self.current.service(self.installation, kind)
    }
}

#[cfg(test)]
mod tests;
