//! Sealing: finds the partition's newest data key, or makes it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind};
use fieldseal_crypto::field::{FieldKey, SALT_BYTES};
use fieldseal_crypto::wrap::{self, DataKeyId};
use fieldseal_crypto::{ContentType, DataKey, random};
use fieldseal_model::{
    AccessReason, Action, ActionKind, Field, KeyId, KeyVersion, Partition, Row, SEAL_BLOCK,
    VersionNumber,
};
use fieldseal_policy::Permit;
use fieldseal_store::{Path, Txn};
use prost::Message;

use crate::cache::{PartitionOf, PartitionRef};
use crate::counts::{Delta, count};
use crate::data_key::DataKeyEntry;
use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::records::{
    DATA_KEY, DataKeyFacts, DataKeyRecord, PARTITION, PRIMARY, PartitionRecord, PartitionState,
    VERSION, decode,
};
use crate::registry::{KeySnapshot, VersionCell};

/// How often a lost race is tried again, each time after twice the pause: for four seconds at most.
const ATTEMPTS: usize = 12;

/// The newest data key of a partition and the seals it still has in reserve.
pub(crate) struct SealSlot {
    entry: Arc<DataKeyEntry>,
    left: AtomicI64,
}

impl SealSlot {
    pub(crate) fn entry(&self) -> &DataKeyEntry {
        &self.entry
    }

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
    fn event(&self, inner: &Inner, kind: Kind, version: VersionNumber, id: KeyId) -> ChangeEvent {
        let partition = &self.of.partition;
        let token = (!partition.as_str().is_empty()).then(|| inner.tokens.partition(partition));
        let by = ChangedBy::Caller(&self.permit, &self.reason);
        ChangeEvent::new(by, inner.clock.now(), kind, Some(&self.of.key))
            .version(version.get())
            .key_id(id)
            .partition(token)
    }
}

/// A partition's record as the store has it.
pub(crate) struct PartitionFound {
    pub(crate) revision: u64,
    pub(crate) record: PartitionRecord,
}

/// A partition before its next data key is made.
struct Before {
    revision: u64,
    record: PartitionRecord,
    /// `None` if its data keys were erased.
    newest: Option<DataKeyFacts>,
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
        if !slot.entry.cell.is_open() {
            return Err(KeyError::PartitionShredded);
        }
        slot.entry.version.usable()?;
        let taken = slot.take(count);
        if taken {
            slot.entry.version.used.sealed(now);
        }
        Ok(taken.then(|| Arc::clone(&slot.entry)))
    }

    fn seals_now(&self, entry: &DataKeyEntry, snapshot: &KeySnapshot) -> bool {
        let age = self.clock.now().since(entry.created_at);
        entry.made_under == snapshot.primary.version.number
            && age < snapshot.settings.data_key_lifetime()
    }

    async fn prepare(&self, want: Want) -> Result<Arc<DataKeyEntry>, KeyError> {
        // One before this may wait for the log to come back: nobody need queue for that.
        self.ledger.ready()?;
        let _one_at_a_time = match self.stripe(&want.of) {
            Some(stripe) => Some(stripe.lock().await),
            None => None,
        };
        let mut changes = self.registry.changes();
        for attempt in 0..ATTEMPTS {
            changes.mark_unchanged();
            let snapshot = self.registry.key(&want.of.key)?;
            let of = PartitionRef { key: &want.of.key, partition: &want.of.partition };
            if let Some(entry) = self.take(&of, &snapshot, want.count)? {
                return Ok(entry);
            }
            match self.renew(&want, &snapshot).await {
                Ok(slot) => self.cache.put_newest(want.of.clone(), slot),
                // Somebody else moved the partition, or changed the key: look again. A change of the
                // key is in the store a while before it is on record and visible.
                Err(KeyError::Conflict) => {
                    let pause = Duration::from_millis(1 << attempt);
                    let _either = tokio::time::timeout(pause, changes.changed()).await;
                }
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
        let Some(PartitionFound { revision, record }) = self.partition(&want.of).await? else {
            return self.make(want, snapshot, None).await;
        };
        if record.state()? != PartitionState::Open {
            return Err(KeyError::PartitionShredded);
        }
        let Some(id) = record.newest()? else {
            let before = Before { revision, record, newest: None };
            return self.make(want, snapshot, Some(before)).await;
        };
        let facts = self.facts(id).await.map_err(|error| match error {
            KeyError::DataKeyNotFound => KeyError::Corrupt("a partition whose data key is gone"),
            other => other,
        })?;
        if facts.made_under == snapshot.primary.version.number && self.is_young(&facts, snapshot) {
            let entry = self.entry(id).await?;
            if let Some(left) = self.left_over(want, id) {
                return Ok(Arc::new(SealSlot { entry, left: AtomicI64::new(left) }));
            }
            let found = PartitionFound { revision, record: record.clone() };
            if let Some(slot) = self.reserve(want, snapshot, &entry, found, &facts).await? {
                return Ok(slot);
            }
        }
        let before = Before { revision, record, newest: Some(facts) };
        self.make(want, snapshot, Some(before)).await
    }

    /// A partition's record, checked to be under its own name.
    pub(crate) async fn partition(
        &self,
        of: &PartitionOf,
    ) -> Result<Option<PartitionFound>, KeyError> {
        let Some(found) = self.store.get(&self.partition_path(of)).await? else { return Ok(None) };
        let record: PartitionRecord = decode("a partition's record", &found.value)?;
        if record.key != of.key.as_str() || record.partition != of.partition.as_str() {
            return Err(KeyError::Corrupt("a partition's record"));
        }
        Ok(Some(PartitionFound { revision: found.revision, record }))
    }

    pub(crate) fn partition_path(&self, of: &PartitionOf) -> Path {
        let parts = [of.key.as_str().as_bytes(), of.partition.as_str().as_bytes()];
        self.store.path(PARTITION, &parts)
    }

    fn is_young(&self, facts: &DataKeyFacts, snapshot: &KeySnapshot) -> bool {
        self.clock.now().since(facts.created_at) < snapshot.settings.data_key_lifetime()
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
        snapshot: &KeySnapshot,
        entry: &Arc<DataKeyEntry>,
        of: PartitionFound,
        facts: &DataKeyFacts,
    ) -> Result<Option<Arc<SealSlot>>, KeyError> {
        let left = snapshot.settings.seal_limit().saturating_sub(facts.reserved);
        let block = left.min(SEAL_BLOCK);
        if block < u64::from(want.count) {
            return Ok(None);
        }
        let reserved = facts.reserved.saturating_add(block);
        let (id, version) = (entry.key_id, facts.version);
        let next = DataKeyRecord { reserved, ..facts.record() };
        let event = want.event(self, Kind::SealsReserved, version, id);
        let fill = |txn: Txn| {
            let partition = self.partition_path(&want.of);
            let data_key = self.store.path(DATA_KEY, &[id.as_bytes()]);
            let txn = txn
                .at(partition, of.revision)
                .at(data_key.clone(), facts.revision)
                .put(data_key, next.encode_to_vec());
            let delta = Delta { reserved: block as i64, ..Delta::default() };
            count(txn, &self.store, &want.of.key, version, delta)
        };
        self.ledger.commit(event, fill).await?;
        let left = AtomicI64::new(block as i64);
        Ok(Some(Arc::new(SealSlot { entry: Arc::clone(entry), left })))
    }

    /// Makes the partition's next data key under the primary version. Guarded by the partition, by
    /// the version and by the pointer to it: once a rotation, a disable or a shred is in the store,
    /// nothing is made that did not see it.
    async fn make(
        &self,
        want: &Want,
        snapshot: &KeySnapshot,
        before: Option<Before>,
    ) -> Result<Arc<SealSlot>, KeyError> {
        // Before the transaction: a shred that comes after it closes this cell.
        let cell = self.partitions.cell(want.of.clone());
        let version = &snapshot.primary;
        let version_facts = version.facts();
        let (made, data_key) = self.new_data_key(want, version, before.as_ref())?;
        let id = made.key_id;
        let pointer = PartitionRecord {
            key: want.of.key.as_str().to_owned(),
            partition: want.of.partition.as_str().to_owned(),
            generation: made.generation,
            key_id: id.as_bytes().to_vec(),
            ..before.as_ref().map_or_else(PartitionRecord::default, |b| b.record.clone())
        };
        let newest = before.as_ref().and_then(|before| before.newest.as_ref());
        let is_first = self.is_first(&want.of, before.as_ref(), made.version).await?;
        let event = want.event(self, Kind::DataKeyCreated, made.version, id);
        let fill = |txn: Txn| {
            let key = want.of.key.as_str().as_bytes();
            let number = made.version.get().to_be_bytes();
            let of = self.partition_path(&want.of);
            let record = self.store.path(DATA_KEY, &[id.as_bytes()]);
            let txn = match &before {
                None => txn.absent(of.clone()),
                Some(before) => txn.at(of.clone(), before.revision),
            };
            // Whether it is the partition's first under its version depends on the one before.
            let txn = match newest {
                None => txn,
                Some(newest) => {
                    txn.at(self.store.path(DATA_KEY, &[newest.key_id.as_bytes()]), newest.revision)
                }
            };
            let txn = txn
                .at(self.store.path(VERSION, &[key, &number]), version_facts.revision)
                .at(self.store.path(PRIMARY, &[key]), snapshot.primary_revision)
                .absent(record.clone())
                .put(record, made.record().encode_to_vec())
                .put(of, pointer.encode_to_vec());
            let delta = Delta {
                data_keys: 1,
                partitions: i64::from(is_first),
                reserved: SEAL_BLOCK as i64,
            };
            count(txn, &self.store, &want.of.key, made.version, delta)
        };
        self.ledger.commit(event, fill).await?;
        let entry = Arc::new(DataKeyEntry {
            key_id: id,
            key: made.key,
            partition: made.partition,
            created_at: made.created_at,
            loaded_at: made.created_at,
            version: Arc::clone(version),
            cell,
            made_under: made.made_under,
            data_key,
        });
        self.cache.insert(&entry);
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(SealSlot { entry, left: AtomicI64::new(SEAL_BLOCK as i64) }))
    }

    /// Whether none of the partition's data keys is under this version.
    async fn is_first(
        &self,
        of: &PartitionOf,
        before: Option<&Before>,
        version: VersionNumber,
    ) -> Result<bool, KeyError> {
        match before {
            Some(Before { record, newest: Some(newest), .. }) if newest.version != version => {
                // A rewrap may have moved an older one there, and left the newest where it was.
                let chain = self.chain(of, record).await?;
                Ok(!chain.iter().any(|facts| facts.version == version))
            }
            Some(Before { newest: Some(_), .. }) => Ok(false),
            _ => Ok(true),
        }
    }

    fn new_data_key(
        &self,
        want: &Want,
        version: &VersionCell,
        before: Option<&Before>,
    ) -> Result<(DataKeyFacts, DataKey), KeyError> {
        let generation = before.map_or(0, |before| before.record.generation).checked_add(1);
        let generation = generation
            .ok_or(KeyError::TooMany { what: "generations of a partition", limit: 1 << 32 })?;
        let (key_id, data_key) = (self.new_key_id()?, DataKey::generate()?);
        let wrapping = DataKeyId {
            installation: self.keyring.installation(),
            key: &want.of.key,
            version: version.version.number,
            partition: &want.of.partition,
            generation,
            key_id,
        };
        let wrapped = wrap::wrap_data_key(&*version.usable()?, &wrapping, &data_key)?;
        let facts = DataKeyFacts {
            revision: 0,
            key_id,
            key: want.of.key.clone(),
            partition: want.of.partition.clone(),
            version: version.version.number,
            generation,
            created_at: self.clock.now(),
            wrapped,
            reserved: SEAL_BLOCK,
            previous: before.and_then(|b| b.newest.as_ref()).map(|newest| newest.key_id),
            made_under: version.version.number,
        };
        Ok((facts, data_key))
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
