//! What a caller with a permit is told of a value whose data key may not be used any more, or is not
//! there: the partition that it states decides, because the data key does not say anything.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use fieldseal_audit::ItemOutcome;
use fieldseal_keys::{KeyError, OpenCause};
use fieldseal_model::{KeyName, Partition};

use crate::engine::Engine;
use crate::refusal::RefusalCause;

/// A key and a partition as a caller states them.
pub(crate) type Stated = (KeyName, Partition);

/// Whether each of the partitions is shredded.
pub(crate) type Shredded = HashMap<Stated, Result<bool, RefusalCause>>;

/// True if the data key is gone, or is one of a shredded partition.
pub(crate) fn is_gone(cause: &RefusalCause) -> bool {
    let RefusalCause::Key(error) = cause else { return false };
    matches!(**error, KeyError::DataKeyNotFound | KeyError::PartitionShredded)
}

/// What the caller is told, and what stands in the record.
pub(crate) fn told(
    cause: &RefusalCause,
    shredded: Option<&Result<bool, RefusalCause>>,
) -> (RefusalCause, ItemOutcome) {
    let cause = match shredded {
        Some(Ok(true)) => OpenCause::PartitionShredded.into(),
        Some(Err(trouble)) => trouble.clone(),
        Some(Ok(false)) | None => {
            if cause.reason() == OpenCause::PartitionShredded.as_str() {
                // Another partition is: nobody who may not use that one learns of it.
                let outcome = ItemOutcome::Failed(OpenCause::OtherPartition.as_str());
                return (OpenCause::OtherPartition.into(), outcome);
            }
            cause.clone()
        }
    };
    let outcome = ItemOutcome::Failed(cause.reason());
    (cause, outcome)
}

impl Engine {
    /// Asks of each of these partitions once whether it is shredded.
    pub(crate) async fn shredded(&self, stated: impl Iterator<Item = Stated>) -> Shredded {
        let mut found = Shredded::new();
        for of in stated {
            if let Entry::Vacant(place) = found.entry(of) {
                let (key, partition) = place.key();
                let shredded = self.inner.keys.is_shredded(key, partition).await;
                place.insert(shredded.map_err(RefusalCause::from));
            }
        }
        found
    }
}
