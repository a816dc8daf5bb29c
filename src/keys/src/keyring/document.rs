//! The file: JSON, format 1.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldseal_crypto::ServiceKeyKind;
use fieldseal_model::InstallationId;
use serde::{Deserialize, Serialize};

use super::error::KeyringError;
use super::provider::{Derivation, RootProvider};

const FORMAT: u64 = 1;
/// The largest keyring that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// A keyring as it is kept: nothing in it is in clear.
#[derive(Clone)]
pub(super) struct Document {
    pub installation: InstallationId,
    pub wrapping: Wrapping,
    pub recipient: String,
    pub current: WrappedRoot,
    /// The root key that a rotation moves to, while it is under way.
    pub pending: Option<WrappedRoot>,
}

/// A root key, wrapped twice, and the service keys under it.
#[derive(Clone)]
pub(super) struct WrappedRoot {
    /// By the root provider.
    pub root: Vec<u8>,
    /// To the recovery recipient.
    pub recovery: String,
    pub services: BTreeMap<&'static str, Vec<u8>>,
}

/// Who wrapped a keyring's root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapping {
    /// The kind of root provider: `file`.
    pub provider: String,
    /// Which of its keys.
    pub id: String,
    /// How a passphrase becomes that key.
    pub derivation: Option<Derivation>,
}

impl Wrapping {
    pub(super) fn of(provider: &dyn RootProvider) -> Self {
        let derivation = provider.derivation().cloned();
        Self { provider: provider.name().to_owned(), id: provider.id(), derivation }
    }
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.provider, self.id)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: u64,
    installation: String,
    root: WireRoot,
    recovery: WireRecovery,
    services: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<WirePending>,
    /// Finds what a disk does to the file: SHA-256 over all of the above, as JSON without blanks.
    checksum: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRoot {
    provider: String,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argon2id: Option<WireDerivation>,
    wrapped: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireDerivation {
    salt: String,
    memory_kib: u32,
    passes: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRecovery {
    recipient: String,
    wrapped: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePending {
    root: String,
    recovery: String,
    services: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u64,
}

impl Wire {
    /// The checksum of a document that has none yet.
    fn sum(&self) -> String {
        // What was made of text becomes text again.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let sum = fieldseal_crypto::sha256(&[&bytes]);
        fieldseal_model::hex::encode(&sum)
    }
}

impl Document {
    /// Writes a new file: a whole one, which is on disk before it gets its name.
    pub(super) fn create(&self, path: &Path) -> Result<(), KeyringError> {
        // A hard link refuses to replace what somebody else made meanwhile; a rename would not.
        self.write(path, |staged| {
            let linked = std::fs::hard_link(staged, path);
            // It is there under its own name now, or it is not wanted.
            let removed = std::fs::remove_file(staged);
            linked.and(removed)
        })
    }

    /// Puts a whole new file, which is on disk before, in the place of the old one.
    pub(super) fn replace(&self, path: &Path) -> Result<(), KeyringError> {
        self.write(path, |staged| std::fs::rename(staged, path))
    }

    fn write(
        &self,
        path: &Path,
        name: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), KeyringError> {
        let failed = |e: io::Error| KeyringError::io("write", path, e);
        let text = serde_json::to_string_pretty(&self.wire()).map_err(|e| failed(e.into()))?;
        let mut staged = path.file_name().unwrap_or_default().to_owned();
        staged.push(".tmp");
        let staged = path.with_file_name(staged);
        // What a killed process left there. Nobody else writes it: the state has one owner.
        match std::fs::remove_file(&staged) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged);
        let written = made.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        });
        written.and_then(|()| name(&staged)).map_err(|error| {
            // Half a file is nothing; what is wrong is told either way.
            let _ = std::fs::remove_file(&staged);
            failed(error)
        })?;
        let directory = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
        File::open(directory).and_then(|d| d.sync_all()).map_err(failed)
    }

    fn wire(&self) -> Wire {
        let derivation = self.wrapping.derivation.as_ref().map(|derivation| WireDerivation {
            salt: STANDARD.encode(derivation.salt),
            memory_kib: derivation.memory_kib,
            passes: derivation.passes,
        });
        let mut wire = Wire {
            format: FORMAT,
            installation: self.installation.to_string(),
            root: WireRoot {
                provider: self.wrapping.provider.clone(),
                id: self.wrapping.id.clone(),
                argon2id: derivation,
                wrapped: STANDARD.encode(&self.current.root),
            },
            recovery: WireRecovery {
                recipient: self.recipient.clone(),
                wrapped: self.current.recovery.clone(),
            },
            services: encoded(&self.current.services),
            pending: self.pending.as_ref().map(|pending| WirePending {
                root: STANDARD.encode(&pending.root),
                recovery: pending.recovery.clone(),
                services: encoded(&pending.services),
            }),
            checksum: String::new(),
        };
        wire.checksum = wire.sum();
        wire
    }

    /// Reads and checks the file.
    pub(super) fn read(path: &Path) -> Result<Self, KeyringError> {
        let corrupt = |what: &str| KeyringError::corrupt(path, what);
        let text = text(path)?;
        let OnlyFormat { format } =
            serde_json::from_slice(&text).map_err(|_| corrupt("it is no JSON with a format"))?;
        if format != FORMAT {
            return Err(KeyringError::FormatNewer { file: path.to_owned(), format });
        }
        let mut wire: Wire = serde_json::from_slice(&text)
            .map_err(|e| KeyringError::corrupt(path, format!("line {}: {e}", e.line())))?;
        let said = std::mem::take(&mut wire.checksum);
        if said != wire.sum() {
            return Err(corrupt("its checksum does not fit: it was altered or damaged"));
        }
        let bytes = |text: &str, what: &str| STANDARD.decode(text).map_err(|_| corrupt(what));
        let installation = InstallationId::parse(&wire.installation);
        let derivation = match &wire.root.argon2id {
            None => None,
            Some(WireDerivation { salt, memory_kib, passes }) => {
                let salt = bytes(salt, "its salt is no base64")?;
                let derivation = Derivation::of(&salt, *memory_kib, *passes);
                Some(derivation.ok_or_else(|| corrupt("its argon2id parameters are none"))?)
            }
        };
        let read = |root: &str, recovery: String, keys: &BTreeMap<String, String>| {
            let root = bytes(root, "its root key is no base64")?;
            Ok::<_, KeyringError>(WrappedRoot { root, recovery, services: services(path, keys)? })
        };
        let pending = wire.pending.map(|p| read(&p.root, p.recovery, &p.services)).transpose()?;
        Ok(Self {
            installation: installation.ok_or_else(|| corrupt("its installation id is none"))?,
            wrapping: Wrapping { provider: wire.root.provider, id: wire.root.id, derivation },
            recipient: wire.recovery.recipient,
            current: read(&wire.root.wrapped, wire.recovery.wrapped, &wire.services)?,
            pending,
        })
    }
}

fn text(path: &Path) -> Result<Vec<u8>, KeyringError> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(KeyringError::NotInitialized(path.to_owned()));
        }
        other => other.map_err(|e| KeyringError::io("open", path, e))?,
    };
    let mut text = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut text);
    read.map_err(|e| KeyringError::io("read", path, e))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(KeyringError::corrupt(path, "it is too large"));
    }
    Ok(text)
}

fn encoded(services: &BTreeMap<&'static str, Vec<u8>>) -> BTreeMap<String, String> {
    services.iter().map(|(n, w)| ((*n).to_owned(), STANDARD.encode(w))).collect()
}

/// Every service key, and no other.
fn services(
    path: &Path,
    wire: &BTreeMap<String, String>,
) -> Result<BTreeMap<&'static str, Vec<u8>>, KeyringError> {
    let corrupt = |what: String| KeyringError::corrupt(path, what);
    let mut services = BTreeMap::new();
    for kind in ServiceKeyKind::ALL {
        let name = kind.as_str();
        let text = wire.get(name).ok_or_else(|| corrupt(format!("its {name} key is missing")))?;
        let wrapped = STANDARD.decode(text);
        let wrapped = wrapped.map_err(|_| corrupt(format!("its {name} key is no base64")))?;
        services.insert(name, wrapped);
    }
    if services.len() != wire.len() {
        return Err(corrupt("it has service keys that are not known".to_owned()));
    }
    Ok(services)
}
