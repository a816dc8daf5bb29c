//! How a record stands in the backend: `revision 8 | sealed`.

use crate::error::StoreError;
use crate::store::{OutboxEntry, Secrets, Versioned};

/// The first byte of the outbox: beyond every class of record.
pub(crate) const OUTBOX: u8 = 0xff;

pub(crate) fn outbox_key(revision: u64) -> Vec<u8> {
    let mut key = vec![OUTBOX];
    key.extend_from_slice(&revision.to_be_bytes());
    key
}

/// `revision 8 | sealed`: the revision is authenticated, not secret.
pub(crate) fn seal_value(
    secrets: &Secrets,
    path: &[u8],
    revision: u64,
    value: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let sealed = secrets.storage.seal(secrets.installation, path, revision, value);
    let sealed = sealed.map_err(|error| StoreError::Io(error.to_string()))?;
    let mut stored = revision.to_le_bytes().to_vec();
    stored.extend_from_slice(&sealed);
    Ok(stored)
}

/// What the outbox holds of a transaction: `HMAC of the sum before 32 | of the sum after 32 | event`.
pub(crate) fn outbox_value(anchors: [[u8; 32]; 2], event: &[u8]) -> Vec<u8> {
    let [previous, anchor] = anchors;
    [&previous[..], &anchor, event].concat()
}

pub(crate) fn open_outbox(
    secrets: &Secrets,
    key: &[u8],
    stored: &[u8],
) -> Result<OutboxEntry, StoreError> {
    let Versioned { revision, value } = open_value(secrets, key, stored)?;
    let parts = value.split_first_chunk().and_then(|(previous, rest)| {
        let (anchor, event) = rest.split_first_chunk()?;
        Some(OutboxEntry { revision, previous: *previous, anchor: *anchor, bytes: event.to_vec() })
    });
    parts.ok_or_else(|| StoreError::Corrupt("an unreadable record of the outbox".into()))
}

pub(crate) fn open_value(
    secrets: &Secrets,
    path: &[u8],
    stored: &[u8],
) -> Result<Versioned, StoreError> {
    let revision = stored_revision(stored)?;
    let sealed = stored.get(8..).unwrap_or_default();
    let value = secrets.storage.open(secrets.installation, path, revision, sealed);
    let value = value.map_err(|_| {
        StoreError::Corrupt("a record was altered, moved, or sealed by other keys".into())
    })?;
    Ok(Versioned { revision, value })
}

pub(crate) fn stored_revision(stored: &[u8]) -> Result<u64, StoreError> {
    let revision = stored.first_chunk::<8>().copied().map(u64::from_le_bytes);
    revision.ok_or_else(|| StoreError::Corrupt("a record is too short".into()))
}
