//! The file: JSON, format 1.

use std::collections::BTreeMap;
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

const FORMAT: u64 = 1;
/// The largest keyring that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// A keyring as it is kept: nothing in it is in clear.
pub(super) struct Document {
    pub installation: InstallationId,
    pub provider: String,
    pub provider_id: String,
    pub root: Vec<u8>,
    pub recipient: String,
    pub recovery: String,
    pub services: BTreeMap<&'static str, Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: u64,
    installation: String,
    root: WireRoot,
    recovery: WireRecovery,
    services: BTreeMap<String, String>,
    /// Finds what a disk does to the file: SHA-256 over all of the above, as JSON without blanks.
    checksum: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRoot {
    provider: String,
    id: String,
    wrapped: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRecovery {
    recipient: String,
    wrapped: String,
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
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Document {
    /// Writes the file by renaming a whole one, which is on disk before, and the name afterwards.
    pub(super) fn write(&self, path: &Path) -> Result<(), KeyringError> {
        let failed = |e: io::Error| KeyringError::io("write", path, e);
        let text = serde_json::to_string_pretty(&self.wire()).map_err(|e| failed(e.into()))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let staged = path.with_file_name(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&staged)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.write_all(b"\n")?;
                file.sync_all()
            })
            // A hard link refuses to replace what somebody else made meanwhile; a rename would not.
            .and_then(|()| std::fs::hard_link(&staged, path));
        // It is there under its own name now, or it is not wanted.
        let removed = std::fs::remove_file(&staged);
        written.and(removed).map_err(failed)?;
        let directory = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
        File::open(directory).and_then(|d| d.sync_all()).map_err(failed)
    }

    fn wire(&self) -> Wire {
        let services = self.services.iter();
        let mut wire = Wire {
            format: FORMAT,
            installation: self.installation.to_string(),
            root: WireRoot {
                provider: self.provider.clone(),
                id: self.provider_id.clone(),
                wrapped: STANDARD.encode(&self.root),
            },
            recovery: WireRecovery {
                recipient: self.recipient.clone(),
                wrapped: self.recovery.clone(),
            },
            services: services.map(|(n, w)| ((*n).to_owned(), STANDARD.encode(w))).collect(),
            checksum: String::new(),
        };
        wire.checksum = wire.sum();
        wire
    }

    /// Reads and checks the file.
    pub(super) fn read(path: &Path) -> Result<Self, KeyringError> {
        let corrupt = |what: &str| KeyringError::corrupt(path, what);
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
            return Err(corrupt("it is too large"));
        }
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
        let mut services = BTreeMap::new();
        for kind in ServiceKeyKind::ALL {
            let name = kind.as_str();
            let what = format!("its {name} key is missing");
            let text = wire.services.get(name).ok_or_else(|| corrupt(&what))?;
            services.insert(name, bytes(text, "a service key is no base64")?);
        }
        if services.len() != wire.services.len() {
            return Err(corrupt("it has service keys that are not known"));
        }
        Ok(Self {
            installation: installation.ok_or_else(|| corrupt("its installation id is none"))?,
            provider: wire.root.provider,
            provider_id: wire.root.id,
            root: bytes(&wire.root.wrapped, "its root key is no base64")?,
            recipient: wire.recovery.recipient,
            recovery: wire.recovery.wrapped,
            services,
        })
    }
}
