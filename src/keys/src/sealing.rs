//! Sealing: finds the partition's newest data key, or makes it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use fieldseal_audit::{ChangeEvent, ChangeKind};
use fieldseal_crypto::field::{FieldKey, SALT_BYTES};
use fieldseal_crypto::wrap::{self, DataKeyId};
use fieldseal_crypto::{ContentType, DataKey, random};
use fieldseal_model::{AccessReason, Action, ActionKind, Field, KeyId, KeyVersion, Partition, Row};
use fieldseal_policy::Permit;
use prost::Message;

use crate::cache::{PartitionOf, PartitionRef};
use crate::data_key::DataKeyEntry;
use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::records::{
    self, DATA_KEY, DataKeyRecord, PARTITION, PartitionRecord, SEALS, SealsRecord, decode,
};
use crate::registry::{KeySnapshot, VersionCell};

/// Seals that are reserved in the store at a time, so that a crash cannot forget them.
pub(crate) const SEAL_BLOCK: u64 = 1 << 20;
/// Seals after which a data key is retired.
const SEAL_LIMIT: u64 = 1 << 32;
/// How often a lost race for a partition is tried again.
const ATTEMPTS: usize = 8;

/// The newest data key of a partition and the seals it still has in reserve.
pub(crate) struct SealSlot {
    entry: Arc<DataKeyEntry>,
    left: AtomicI64,
}

impl SealSlot {
    /// Takes `count` seals out of the reserve.
    fn take(&self, count: u32) -> bool {
        let count = i64::from(count);
        // Never below zero, not even for a moment: somebody may take out all that is left.
        let rest = |left: i64| (left >= count).then(|| left.saturating_sub(count));
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok()
    }
}

/// A data key that a permit allows to seal values of one field and partition, with the seals set
/// aside for it.
pub struct Sealer {
    entry: Arc<DataKeyEntry>,
    permit: Permit,
}

/// A data key ready to seal the values of one field. It cannot open them.
pub struct SealingKey<'a>(FieldKey<'a>);

impl SealingKey<'_> {
    /// Seals a value and appends its ciphertext to `out`.
    pub fn seal(
        &self,
        row: &Row,
        salt: &[u8; SALT_BYTES],
        content: ContentType,
        value: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.0.seal(row, salt, content, value, out);
    }
}

impl Sealer {
    /// The key version under which it seals.
    #[must_use]
    pub fn key_version(&self) -> &KeyVersion {
        &self.entry.version.version
    }

    /// The key version's name, `keys/{key}/versions/{n}`.
    #[must_use]
    pub fn version_name(&self) -> &Arc<str> {
        &self.entry.version.name
    }

    /// What seals the values of `field`: the one that the permit covers.
    ///
    /// # Errors
    /// `NotPermitted` for another field.
    pub fn sealing_key<'a>(&'a self, field: &Field) -> Result<SealingKey<'a>, KeyError> {
        let Self { entry, permit } = self;
        if entry.key != field.key
            || !permit.covers_kind(ActionKind::Encrypt, field, &entry.partition)
        {
            return Err(KeyError::NotPermitted);
        }
        let key = FieldKey::new(&entry.data_key, entry.key_id, field, &entry.partition);
        Ok(SealingKey(key))
    }
}

impl Keys {
    /// The data key that seals `count` values of this field and partition. Makes it if the
    /// partition has none, if the key was rotated, or if the newest is worn out.
    ///
    /// # Errors
    /// `NotPermitted`, `KeyNotFound`, the version's state, or trouble of journal and store.
    pub async fn sealer(
        &self,
        permit: &Permit,
        action: Action,
        reason: &AccessReason,
        field: &Field,
        partition: &Partition,
        count: u32,
    ) -> Result<Sealer, KeyError> {
        if !permit.covers(action, field, partition) {
            return Err(KeyError::NotPermitted);
        }
        let snapshot = self.inner.registry.key(&field.key)?;
        let of = PartitionRef { key: &field.key, partition };
        if let Some(entry) = self.inner.take(&of, &snapshot, count)? {
            return Ok(Sealer { entry, permit: permit.clone() });
        }
        let want = Want {
            permit: permit.clone(),
            reason: reason.clone(),
            of: PartitionOf { key: field.key.clone(), partition: partition.clone() },
            count,
        };
        let inner = Arc::clone(&self.inner);
        let entry = self.inner.finish(async move { inner.prepare(want).await }).await?;
        Ok(Sealer { entry, permit: permit.clone() })
    }
}

struct Want {
    permit: Permit,
    reason: AccessReason,
    of: PartitionOf,
    count: u32,
}

impl Want {
    fn event(&self, inner: &Inner, kind: ChangeKind, version: u32, id: KeyId) -> ChangeEvent {
        let partition = &self.of.partition;
        let token = (!partition.as_str().is_empty()).then(|| inner.tokens.partition(partition));
        let now = inner.clock.now();
        let key = &self.of.key;
        ChangeEvent::new(&self.permit, &self.reason, now, key, kind, version, Some(id), token)
    }
}

impl Inner {
    /// The remembered data key, if it is under the primary version, young, and has seals left.
    fn take(
        &self,
        of: &PartitionRef<'_>,
        snapshot: &KeySnapshot,
        count: u32,
    ) -> Result<Option<Arc<DataKeyEntry>>, KeyError> {
        let Some(slot) = self.cache.newest(of) else { return Ok(None) };
        let now = self.clock.now();
        if !self.seals_now(&slot.entry, snapshot) || !self.cache.fresh(&slot.entry, now) {
            return Ok(None);
        }
        slot.entry.version.usable()?;
        Ok(slot.take(count).then(|| Arc::clone(&slot.entry)))
    }

    fn seals_now(&self, entry: &DataKeyEntry, snapshot: &KeySnapshot) -> bool {
        let age = self.clock.now().since(entry.created_at);
        entry.version.version.number == snapshot.primary.version.number
            && age < self.settings.data_key_lifetime
    }

    async fn prepare(&self, want: Want) -> Result<Arc<DataKeyEntry>, KeyError> {
        // One before this may wait for the log to come back: nobody need queue for that.
        self.ledger.ready()?;
        let _one_at_a_time = match self.stripe(&want.of) {
            Some(stripe) => Some(stripe.lock().await),
            None => None,
        };
        for _ in 0..ATTEMPTS {
            let snapshot = self.registry.key(&want.of.key)?;
            let of = PartitionRef { key: &want.of.key, partition: &want.of.partition };
            if let Some(entry) = self.take(&of, &snapshot, want.count)? {
                return Ok(entry);
            }
            match self.renew(&want, &snapshot).await {
                Ok(slot) => self.cache.put_newest(want.of.clone(), slot),
                // Somebody else moved the partition: look again.
                Err(KeyError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(KeyError::Conflict)
    }

    fn stripe(&self, of: &PartitionOf) -> Option<&tokio::sync::Mutex<()>> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(of);
        let at = usize::try_from(hash % self.stripes.len() as u64).ok()?;
        self.stripes.get(at)
    }

    /// Reserves more seals of the partition's data key, or makes the next one.
    async fn renew(&self, want: &Want, snapshot: &KeySnapshot) -> Result<Arc<SealSlot>, KeyError> {
        let key = want.of.key.as_str().as_bytes();
        let path = self.store.path(PARTITION, &[key, want.of.partition.as_str().as_bytes()]);
        let Some(found) = self.store.get(&path).await? else {
            return self.make(want, &snapshot.primary, 1, None).await;
        };
        let record: PartitionRecord = decode("a partition's record", &found.value)?;
        let id = records::key_id(&record.key_id)
            .filter(|_| record.key == want.of.key.as_str())
            .filter(|_| record.partition == want.of.partition.as_str())
            .ok_or(KeyError::Corrupt("a partition's record"))?;
        let entry = match self.entry(id).await {
            Ok(entry) => Some(entry),
            // A version that may no longer be used: the partition goes on under the primary one.
            Err(KeyError::VersionDisabled | KeyError::VersionDestroyed) => None,
            Err(KeyError::DataKeyNotFound) => {
                return Err(KeyError::Corrupt("a partition whose data key is gone"));
            }
            Err(error) => return Err(error),
        };
        if let Some(entry) = entry.filter(|e| self.seals_now(e, snapshot)) {
            if let Some(left) = self.left_over(want, id) {
                return Ok(Arc::new(SealSlot { entry, left: AtomicI64::new(left) }));
            }
            if let Some(slot) = self.reserve(want, entry).await? {
                return Ok(slot);
            }
        }
        let generation = record
            .generation
            .checked_add(1)
            .ok_or(KeyError::TooMany { what: "generations of a partition", limit: 1 << 32 })?;
        self.make(want, &snapshot.primary, generation, Some(found.revision)).await
    }

    /// What a remembered slot of this data key still has in reserve, if that is enough: its entry
    /// was in memory for too long and is read again, and its seals are not lost with it.
    fn left_over(&self, want: &Want, id: KeyId) -> Option<i64> {
        let of = PartitionRef { key: &want.of.key, partition: &want.of.partition };
        let slot = self.cache.newest(&of).filter(|slot| slot.entry.key_id == id)?;
        // Taken out whole: whoever still holds the old slot takes nothing from it any more.
        let left = slot.left.swap(0, Ordering::Relaxed);
        (left >= i64::from(want.count)).then_some(left)
    }

    /// Reserves another block of seals; `None` if the data key has none left.
    async fn reserve(
        &self,
        want: &Want,
        entry: Arc<DataKeyEntry>,
    ) -> Result<Option<Arc<SealSlot>>, KeyError> {
        let path = self.store.path(SEALS, &[entry.key_id.as_bytes()]);
        let found = self.store.get(&path).await?;
        let found = found.ok_or(KeyError::Corrupt("a data key without a seal count"))?;
        let record: SealsRecord = decode("a data key's seal count", &found.value)?;
        let reserved = record.reserved.saturating_add(SEAL_BLOCK);
        if records::key_id(&record.key_id) != Some(entry.key_id) {
            return Err(KeyError::Corrupt("a seal count of another data key"));
        }
        if reserved > SEAL_LIMIT {
            return Ok(None);
        }
        let next = SealsRecord { key_id: entry.key_id.as_bytes().to_vec(), reserved };
        let version = entry.version.version.number.get();
        let event = want.event(self, ChangeKind::SealsReserved, version, entry.key_id);
        let fill = |txn: fieldseal_store::Txn| {
            txn.at(path.clone(), found.revision).put(path, next.encode_to_vec())
        };
        self.ledger.commit(event, fill).await?;
        Ok(Some(Arc::new(SealSlot { entry, left: AtomicI64::new(SEAL_BLOCK as i64) })))
    }

    /// Makes the partition's next data key, guarded by the partition and by its version.
    async fn make(
        &self,
        want: &Want,
        version: &Arc<VersionCell>,
        generation: u32,
        partition_revision: Option<u64>,
    ) -> Result<Arc<SealSlot>, KeyError> {
        let key_id = self.new_key_id()?;
        let data_key = DataKey::generate()?;
        let wrapping = DataKeyId {
            installation: self.keyring.installation(),
            key: &want.of.key,
            version: version.version.number,
            partition: &want.of.partition,
            generation,
            key_id,
        };
        let wrapped = wrap::wrap_data_key(version.usable()?, &wrapping, &data_key)?;
        let now = self.clock.now();
        let record = DataKeyRecord {
            key_id: key_id.as_bytes().to_vec(),
            key: want.of.key.as_str().to_owned(),
            partition: want.of.partition.as_str().to_owned(),
            version: version.version.number.get(),
            generation,
            created_at: now.unix_nanos(),
            wrapped: wrapped.to_vec(),
        };
        let pointer = PartitionRecord {
            key: record.key.clone(),
            partition: record.partition.clone(),
            generation,
            key_id: record.key_id.clone(),
        };
        let seals = SealsRecord { key_id: record.key_id.clone(), reserved: SEAL_BLOCK };
        let kind = ChangeKind::DataKeyCreated;
        let event = want.event(self, kind, version.version.number.get(), key_id);
        self.ledger
            .commit(event, |txn| {
                let key = want.of.key.as_str().as_bytes();
                let number = version.version.number.get().to_be_bytes();
                let of = self.store.path(PARTITION, &[key, want.of.partition.as_str().as_bytes()]);
                let made = self.store.path(DATA_KEY, &[key_id.as_bytes()]);
                let count = self.store.path(SEALS, &[key_id.as_bytes()]);
                let txn = match partition_revision {
                    None => txn.absent(of.clone()),
                    Some(revision) => txn.at(of.clone(), revision),
                };
                txn.at(self.store.path(crate::records::VERSION, &[key, &number]), version.revision)
                    .absent(made.clone())
                    .put(made, record.encode_to_vec())
                    .put(of, pointer.encode_to_vec())
                    .put(count, seals.encode_to_vec())
            })
            .await?;
        let entry = Arc::new(DataKeyEntry {
            key_id,
            key: want.of.key.clone(),
            partition: want.of.partition.clone(),
            created_at: now,
            loaded_at: now,
            version: Arc::clone(version),
            data_key,
        });
        self.cache.insert(&entry);
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(SealSlot { entry, left: AtomicI64::new(SEAL_BLOCK as i64) }))
    }

    /// A random id outside the range of test doubles.
    fn new_key_id(&self) -> Result<KeyId, KeyError> {
        loop {
            let id = KeyId::new(random::array()?);
            if !id.is_test() {
                return Ok(id);
            }
        }
    }
}
