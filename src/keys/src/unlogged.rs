//! What the first record of a shred or of a restore had no room for: the ids of older data keys. They
//! follow in records of their own, whatever comes in between.

use fieldseal_audit::{ChangedBy, Kind};
use fieldseal_model::{Action, KeyId};
use prost::Message;

use crate::cache::PartitionOf;
use crate::error::KeyError;
use crate::keys::Inner;
use crate::records::PartitionState;
use crate::shredding::{ATTEMPTS, IDS_IN_A_RECORD};

impl Inner {
    /// Logs the rest for every partition for which a failure or the end of the process cut that off.
    /// A partition that fails is noted again, and keeps no other one back.
    pub(crate) async fn log_what_was_cut_off(&self) -> Result<(), KeyError> {
        let mut outcome = Ok(());
        for of in self.partitions.take_unlogged() {
            let _one_at_a_time = self.changes.lock().await;
            if let Err(error) = self.log_rest(None, &of).await {
                self.partitions.note_unlogged(of);
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Logs the data keys that the log has yet to name: by whoever asked for the change, or by the
    /// sidecar itself if that was cut off. The caller holds the lock of changes: neither the state nor
    /// the older data keys change meanwhile, but a rewrap that moves them alone may write the record.
    pub(crate) async fn log_rest(
        &self,
        by: Option<ChangedBy<'_>>,
        of: &PartitionOf,
    ) -> Result<(), KeyError> {
        let Some(found) = self.partition(of).await? else { return Ok(()) };
        let (kind, action) = match found.record.state()? {
            PartitionState::Shredding => (Kind::PartitionShredded, Action::ShredPartition),
            PartitionState::Open => (Kind::PartitionRestored, Action::RestorePartition),
            PartitionState::Erasing | PartitionState::Erased => return Ok(()),
        };
        let by = by.unwrap_or(ChangedBy::Itself(action, "cut-off"));
        let left = usize::try_from(found.record.unlogged).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(());
        }
        let chain = self.chain(of, &found.record).await?;
        let logged = chain.len().saturating_sub(left);
        let ids: Vec<KeyId> = chain.iter().skip(logged).map(|facts| facts.key_id).collect();
        let mut left = ids.len();
        for more in ids.chunks(IDS_IN_A_RECORD) {
            left -= more.len();
            self.log_more(by, kind, of, (more, left as u64)).await?;
        }
        Ok(())
    }

    /// One record of them, and how many are left then.
    async fn log_more(
        &self,
        by: ChangedBy<'_>,
        kind: Kind,
        of: &PartitionOf,
        (more, left): (&[KeyId], u64),
    ) -> Result<(), KeyError> {
        for _ in 0..ATTEMPTS {
            let found = self.partition(of).await?;
            let found =
                found.ok_or(KeyError::Corrupt("a shredded partition without its record"))?;
            let mut record = found.record;
            record.unlogged = left;
            let event = self.partition_event(by, kind, of, more);
            let event = event.erased_key_id(record.erased_before());
            let path = self.partition_path(of);
            let committed = self.ledger.commit(event, |txn| {
                let txn = txn.at(path.clone(), found.revision).put(path, record.encode_to_vec());
                match (kind, left) {
                    // It waits for nothing any more.
                    (Kind::PartitionRestored, 0) => txn.delete(self.pending_path(of)),
                    _ => txn,
                }
            });
            match committed.await {
                Ok(_) => return Ok(()),
                // A data key moved under another version meanwhile: look again.
                Err(KeyError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(KeyError::Conflict)
    }
}
