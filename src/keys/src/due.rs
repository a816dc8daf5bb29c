//! What the process does by itself when its time has come: it rotates keys that are due, destroys
//! versions whose window is over, and keeps the clock of those windows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind};
use fieldseal_model::{Action, KeyName, KeyVersionState, VersionNumber};
use fieldseal_store::Txn;
use prost::Message;

use crate::counts;
use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::new_version::NewVersionOf;
use crate::records::{VERSION, VersionRecord};
use crate::registry::{KeySnapshot, VersionCell, VersionFacts};

/// How long a stop waits for the last record of the clock.
const LAST_TICK: Duration = Duration::from_secs(5);

impl Keys {
    /// Does everything that is due, one after the other, and never twice at the same time. What
    /// fails is a log line, and due again the next time.
    pub async fn run_due(&self) {
        let _one_at_a_time = self.inner.due.lock().await;
        for key in self.inner.registry.all() {
            if self.inner.is_rotation_due(&key) {
                let (inner, name) = (Arc::clone(&self.inner), key.name.clone());
                self.job("rotation", async move { inner.rotate_by_schedule(&name).await }).await;
            }
            for (number, cell) in &key.versions {
                if self.inner.is_destroy_due(cell) {
                    let (inner, name, number) =
                        (Arc::clone(&self.inner), key.name.clone(), *number);
                    self.job("destroy", async move { inner.destroy(&name, number).await }).await;
                }
            }
        }
        let inner = Arc::clone(&self.inner);
        self.job("approvals", async move { inner.end_approvals().await }).await;
        let inner = Arc::clone(&self.inner);
        self.job("clock", async move { inner.tick().await }).await;
        let inner = Arc::clone(&self.inner);
        self.job("erase", async move { inner.erase_due().await }).await;
        self.keep_use().await;
    }

    /// Waits until something may be due earlier than expected.
    pub async fn woken(&self) {
        self.inner.wake.notified().await;
    }

    /// Stores what must not be lost with the process: before journal and store are closed.
    pub async fn stopping(&self) {
        let inner = Arc::clone(&self.inner);
        let job = self.job("clock", async move { inner.last_tick().await });
        // A log that has just gone away must not keep the process from stopping.
        if tokio::time::timeout(LAST_TICK, job).await.is_err() {
            tracing::error!(event = "job_failed", job = "clock", "the audit log does not answer");
        }
    }

    /// Runs one job to its end even if whoever waits for it goes away.
    async fn job(
        &self,
        job: &'static str,
        work: impl Future<Output = Result<(), KeyError>> + Send + 'static,
    ) {
        if let Err(error) = self.inner.finish(work).await {
            tracing::error!(event = "job_failed", job, %error, "tried again later");
        }
    }
}

impl Inner {
    /// Whether a window is open, or a request waits, that the installation's clock will end.
    pub(crate) fn is_waiting(&self) -> bool {
        let scheduled = |state| state == KeyVersionState::DestroyScheduled;
        self.registry.any_version(|version| scheduled(version.state()))
            || self.partitions.waiting_count() > 0
            || self.approvals_wait.load(Ordering::Relaxed)
    }

    fn is_rotation_due(&self, key: &KeySnapshot) -> bool {
        self.next_rotation(key).is_some_and(|at| self.clock.now() >= at)
    }

    /// Rotates once, however many periods have passed: the new version's age counts from now.
    async fn rotate_by_schedule(&self, name: &KeyName) -> Result<(), KeyError> {
        self.ledger.ready()?;
        let _one_at_a_time = self.changes.lock().await;
        let key = self.registry.key(name)?;
        // Somebody may have rotated it meanwhile.
        if !self.is_rotation_due(&key) {
            return Ok(());
        }
        let of = NewVersionOf::Key(key);
        let number = of.number()?;
        let by = ChangedBy::Itself(Action::RotateKey, "schedule");
        let changed = self.make_version(by, of, number, None).await?;
        let record = changed.receipt.map(|receipt| receipt.index());
        tracing::info!(event = "key_rotated", record, "rotated a key by schedule");
        Ok(())
    }

    fn is_destroy_due(&self, cell: &VersionCell) -> bool {
        // The state first: it costs nothing.
        cell.state() == KeyVersionState::DestroyScheduled && {
            let due = Duration::from_nanos(cell.facts().record.destroy_due_nanos);
            self.seen.now() >= due
        }
    }

    /// Destroys the key material of a version whose window is over: it leaves memory, the record,
    /// and by the rewrite that follows the files and generations. The tombstone stays.
    async fn destroy(&self, name: &KeyName, number: VersionNumber) -> Result<(), KeyError> {
        self.ledger.ready()?;
        let _one_at_a_time = self.changes.lock().await;
        let key = self.registry.key(name)?;
        let Some(cell) = key.versions.get(&number) else { return Ok(()) };
        // Somebody may have restored it meanwhile.
        if !self.is_destroy_due(cell) {
            return Ok(());
        }
        let before = cell.facts();
        let counts = counts::read(&self.store, name, number).await?;
        let lost = counts.as_ref().map_or(0, |(_, counts)| counts.data_keys);
        // No data key is made under a version that is not enabled: so more than were agreed to be
        // lost means that something is wrong, and nothing is destroyed.
        if lost > before.record.data_keys_lost {
            return Err(KeyError::DataKeysWouldBeLost { data_keys: lost });
        }
        let now = self.clock.now();
        let next = VersionRecord {
            state: KeyVersionState::Destroyed.code().into(),
            wrapped: Vec::new(),
            destroy_due_nanos: 0,
            destroyed_at: now.unix_nanos(),
            ..before.record
        };
        let by = ChangedBy::Itself(Action::ScheduleDestroyKeyVersion, "window-over");
        let event = ChangeEvent::new(by, now, Kind::VersionDestroyed, Some(name))
            .version(number.get())
            .count(lost);
        let path =
            self.store.path(VERSION, &[name.as_str().as_bytes(), &number.get().to_be_bytes()]);
        let counted = counts::path(&self.store, name, number);
        let fill = |txn: Txn| {
            let txn = match &counts {
                None => txn.absent(counted),
                Some((revision, _)) => txn.at(counted, *revision),
            };
            txn.at(path.clone(), before.revision).put(path, next.encode_to_vec()).erasing()
        };
        let committed = self.ledger.commit(event, fill).await?;
        let next = VersionFacts { revision: committed.revision, record: next, kek: None };
        self.publish_version(&key, cell, next)?;
        self.settle(cell).await;
        let record = committed.receipt.index();
        tracing::info!(event = "version_destroyed", record, data_keys = lost, "its window is over");
        Ok(())
    }
}
