//! What a store that takes another's place must not forget.

use fieldseal_model::KeyId;
use fieldseal_store::Import;
use prost::Message as _;

use crate::error::KeyError;
use crate::records::{SEALS, SealsRecord, decode};
use crate::sealing::SEAL_BLOCK;

/// Counts a block of seals that a data key had reserved, and that the store does not know of: so
/// that it does not seal more than it may. A data key that is not there has nothing to count.
///
/// # Errors
/// If the record cannot be read or written.
pub fn raise_seals(import: &mut Import, id: KeyId, revision: u64) -> Result<(), KeyError> {
    let path = import.path(SEALS, &[id.as_bytes()]);
    let Some(found) = import.open(&path)? else { return Ok(()) };
    let mut record: SealsRecord = decode("the seals of a data key", &found.value)?;
    record.reserved = record.reserved.saturating_add(SEAL_BLOCK);
    Ok(import.seal(&path, revision, &record.encode_to_vec())?)
}
