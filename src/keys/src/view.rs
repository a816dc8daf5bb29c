//! What an operator sees of keys and versions.

use std::time::Duration;

use fieldseal_crypto::{pae, sha256};
use fieldseal_model::{KeyVersionState, Timestamp};

use crate::keys::Inner;
use crate::records::VersionRecord;
use crate::registry::{KeySnapshot, KeyView, VersionCell, VersionView, etag};

/// How much later than its period a key is rotated, at most: keys of one age are not rotated at the
/// same moment.
const JITTER: Duration = Duration::from_secs(3600);

impl Inner {
    pub(crate) fn view(&self, key: &KeySnapshot) -> KeyView {
        KeyView {
            name: key.name.clone(),
            created_at: key.created_at,
            primary: key.primary.version.number,
            versions: key.versions.values().map(|cell| self.version_view(cell)).collect(),
            etag: etag(key.revision),
            settings: (*key.settings).clone(),
            next_rotation: self.next_rotation(key),
        }
    }

    pub(crate) fn version_view(&self, cell: &VersionCell) -> VersionView {
        let facts = cell.facts();
        self.shown(cell, cell.state(), &facts.record)
    }

    /// A version as it is, or would be, with this record.
    pub(crate) fn shown(
        &self,
        cell: &VersionCell,
        state: KeyVersionState,
        record: &VersionRecord,
    ) -> VersionView {
        let due = Duration::from_nanos(record.destroy_due_nanos);
        let waits = state == KeyVersionState::DestroyScheduled;
        let gone = state == KeyVersionState::Destroyed;
        VersionView {
            number: cell.version.number,
            state,
            created_at: cell.created_at,
            destroy_at: waits.then(|| self.seen.expected(due)),
            destroyed_at: gone.then(|| Timestamp::from_unix_nanos(record.destroyed_at)),
        }
    }

    /// When the key is rotated by schedule: its period after its primary version was made, and a
    /// little later, which is always the same for the same version.
    pub(crate) fn next_rotation(&self, key: &KeySnapshot) -> Option<Timestamp> {
        let period = key.settings.rotation_period()?;
        let installation = self.keyring.installation();
        let version = key.primary.version.number.get().to_be_bytes();
        let parts = [
            b"rotation".as_slice(),
            installation.as_bytes(),
            key.name.as_str().as_bytes(),
            &version,
        ];
        let [a, b, c, d, ..] = sha256(&[&pae::encode(&parts)]);
        let most = JITTER.min(period / 10).as_secs();
        let later = Duration::from_secs(u64::from(u32::from_be_bytes([a, b, c, d])) % (most + 1));
        Some(key.primary.created_at.plus(period).plus(later))
    }
}
