//! What a store that takes another's place must not forget.

use fieldseal_model::{KeyId, SEAL_BLOCK};
use fieldseal_store::Import;
use prost::Message as _;

use crate::error::KeyError;
use crate::records::{COUNTS, CountsRecord, DATA_KEY, DataKeyFacts, DataKeyRecord, decode};

/// Counts a block of seals that a data key had reserved and that the store does not know of, so that
/// it never seals more than it may. A data key that is not there has nothing to count.
///
/// # Errors
/// If a record cannot be read or written.
pub fn raise_seals(import: &mut Import, id: KeyId, revision: u64) -> Result<(), KeyError> {
    let path = import.path(DATA_KEY, &[id.as_bytes()]);
    let Some(found) = import.open(&path)? else { return Ok(()) };
    let facts = DataKeyFacts::of(&found)?;
    let reserved = facts.reserved.saturating_add(SEAL_BLOCK);
    let record = DataKeyRecord { reserved, ..facts.record() };
    import.seal(&path, revision, &record.encode_to_vec())?;
    let version = facts.version.get().to_be_bytes();
    let path = import.path(COUNTS, &[facts.key.as_str().as_bytes(), &version]);
    let Some(found) = import.open(&path)? else { return Ok(()) };
    let mut counts: CountsRecord = decode("the counts of a key version", &found.value)?;
    counts.reserved = counts.reserved.saturating_add(SEAL_BLOCK);
    Ok(import.seal(&path, revision, &counts.encode_to_vec())?)
}
