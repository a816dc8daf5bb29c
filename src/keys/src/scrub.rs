//! The scrub: every record of the store opened, decoded, and held against the others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldseal_crypto::Kek;
use fieldseal_crypto::wrap::{self, DataKeyId, KekId};
use fieldseal_model::{KeyName, KeyVersionState, VersionNumber};
use fieldseal_store::{Found, Kind, Pass, Path, Store, StoreError};

use crate::error::KeyError;
use crate::keyring::Keyring;
use crate::records::{
    self, COUNTS, CountsRecord, DATA_KEY, DataKeyFacts, JOB, KEY, KeyRecord, PARTITION, PRIMARY,
    PartitionRecord, PartitionState, PrimaryRecord, REQUEST, RequestRecord, SHREDDING,
    ShreddingRecord, USE, VERSION, VersionRecord, decode,
};

/// Bytes of what is overwritten meanwhile that a scrub keeps. Where more is, it begins again.
const KEPT_BYTES: usize = 32 * 1024 * 1024;

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// It does not open: altered, moved to another place, or cut.
    Altered,
    /// It opens and is no record of its class.
    Unreadable,
    /// It stands where another should.
    Misplaced,
    /// What it names does not exist.
    Dangling,
    /// What it names belongs to another.
    Foreign,
    /// The key in it does not open under the one that wraps it.
    Unwrapped,
    /// It says another number than there is.
    Count,
    /// The database contradicts itself.
    Database,
    /// The records do not add up to the sum that the store keeps: some are missing, or older ones
    /// were put back.
    Sum,
}

impl Damage {
    const fn says(self) -> &'static str {
        match self {
            Self::Altered => "altered, moved or cut off",
            Self::Unreadable => "unreadable",
            Self::Misplaced => "in another's place",
            Self::Dangling => "without what it names",
            Self::Foreign => "names what belongs to another",
            Self::Unwrapped => "its wrapped key does not open",
            Self::Count => "says another number than there is",
            Self::Database => "the database contradicts itself",
            Self::Sum => "records are missing, or older ones were put back",
        }
    }
}

/// The class of a damaged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The store as a whole.
    Store,
    /// A key and its settings.
    Key,
    /// The pointer to a key's primary version.
    Primary,
    /// A key version.
    Version,
    /// A partition's newest data key.
    Partition,
    /// A data key.
    DataKey,
    /// What there is under a key version.
    Counts,
    /// What a request was answered.
    Request,
    /// When a key version was used last.
    Use,
    /// A rewrap.
    Rewrap,
    /// A partition that waits to be erased.
    Shredding,
    /// Anything else.
    Other,
}

impl Class {
    const ALL: [(Kind, Self); 10] = [
        (KEY, Self::Key),
        (PRIMARY, Self::Primary),
        (VERSION, Self::Version),
        (PARTITION, Self::Partition),
        (DATA_KEY, Self::DataKey),
        (COUNTS, Self::Counts),
        (REQUEST, Self::Request),
        (USE, Self::Use),
        (JOB, Self::Rewrap),
        (SHREDDING, Self::Shredding),
    ];

    fn of(found: &Found) -> Self {
        let class = Self::ALL.iter().find(|(kind, _)| found.is(*kind));
        class.map_or(Self::Other, |(_, class)| *class)
    }

    const fn says(self) -> &'static str {
        match self {
            Self::Store => "the whole store",
            Self::Key => "key",
            Self::Primary => "primary pointer",
            Self::Version => "key version",
            Self::Partition => "partition",
            Self::DataKey => "data key",
            Self::Counts => "count of a key version",
            Self::Request => "answered request",
            Self::Use => "last use of a key version",
            Self::Rewrap => "rewrap",
            Self::Shredding => "shredded partition",
            Self::Other => "other record",
        }
    }
}

/// What a scrub found. It names no key, partition or data key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// The revision of the store that it looked at.
    pub revision: u64,
    /// How many records it opened.
    pub records: u64,
    /// How many of them are data keys.
    pub data_keys: u64,
    damage: BTreeMap<(Class, Damage), u64>,
}

impl ScrubReport {
    /// How many records are damaged.
    #[must_use]
    pub fn findings(&self) -> u64 {
        self.damage.values().sum()
    }

    /// Whether more is damaged than what belongs to single values: then nothing that the store says
    /// can be relied on.
    #[must_use]
    pub fn is_serious(&self) -> bool {
        let single = [
            Class::Partition,
            Class::DataKey,
            Class::Counts,
            Class::Request,
            Class::Use,
            Class::Rewrap,
        ];
        self.damage.keys().any(|(class, _)| !single.contains(class))
    }

    pub(crate) fn has(&self, class: Class) -> bool {
        self.damage.keys().any(|(of, _)| *of == class)
    }

    fn add(&mut self, class: Class, damage: Damage) {
        let count = self.damage.entry((class, damage)).or_default();
        *count = count.saturating_add(1);
    }
}

/// `2 × data key: altered, moved or cut off; …`. There are so few kinds of damage that it is short.
impl fmt::Display for ScrubReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, ((class, damage), count)) in self.damage.iter().enumerate() {
            let between = if place > 0 { "; " } else { "" };
            write!(f, "{between}{count} × {}: {}", class.says(), damage.says())?;
        }
        Ok(())
    }
}

/// Opens and checks every record of the store as it is now, a page at a time on threads that may
/// block. Between two pages it rests `rest` times as long as the page took.
///
/// # Errors
/// `Compacted` if too much is written meanwhile; `Corrupt` if the database itself is; or the
/// trouble of the disk.
pub async fn scrub(
    store: &Store,
    keyring: &Arc<Keyring>,
    rest: u32,
) -> Result<ScrubReport, StoreError> {
    let pass = store.pass(KEPT_BYTES).await?;
    let report = ScrubReport { revision: pass.revision(), ..ScrubReport::default() };
    let keyring = Arc::clone(keyring);
    let mut scrub = Scrub {
        pass,
        store: store.clone(),
        keyring,
        primaries: HashMap::new(),
        versions: HashMap::new(),
        counted: HashMap::new(),
        partitions: HashSet::default(),
        hasher: RandomState::new(),
        report,
    };
    loop {
        let began = Instant::now();
        let step = tokio::task::spawn_blocking(move || (scrub.step(), scrub));
        let (more, back) =
            step.await.map_err(|_| StoreError::Corrupt("a scrub did not finish".to_owned()))?;
        scrub = back;
        let more = match more {
            Err(StoreError::Corrupt(_)) => {
                scrub.report.add(Class::Store, Damage::Database);
                false
            }
            other => other?,
        };
        if !more {
            return Ok(scrub.report);
        }
        match rest {
            0 => tokio::task::yield_now().await,
            rest => tokio::time::sleep(rested(began.elapsed(), rest)).await,
        }
    }
}

fn rested(took: Duration, rest: u32) -> Duration {
    took.saturating_mul(rest).min(Duration::from_secs(1))
}

/// A scrub under way. Records come class by class: keys, pointers and versions before what they
/// wrap.
struct Scrub {
    pass: Pass,
    store: Store,
    keyring: Arc<Keyring>,
    /// Of each key the primary version, once it is known.
    primaries: HashMap<KeyName, Option<VersionNumber>>,
    /// Of each version the KEK, unless it is destroyed or does not open.
    versions: HashMap<(KeyName, VersionNumber), Option<Kek>>,
    /// What there is under each version.
    counted: HashMap<(KeyName, VersionNumber), Counted>,
    /// A hash of every version with each of its partitions: eight bytes for each of a million.
    partitions: HashSet<u64, BuildHasherDefault<Hashed>>,
    hasher: RandomState,
    report: ScrubReport,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    data_keys: u64,
    partitions: u64,
    reserved: u64,
}

/// What is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (hash, _) = bytes.split_first_chunk().unwrap_or((&[0; 8], &[]));
        self.0 = u64::from_ne_bytes(*hash);
    }
}

/// What is wrong with a record that opened.
type Checked = Result<(), Damage>;

impl Scrub {
    /// Checks a page; false after the last.
    fn step(&mut self) -> Result<bool, StoreError> {
        let Some(page) = self.pass.page()? else {
            self.finish();
            return Ok(false);
        };
        for found in page {
            self.report.records = self.report.records.saturating_add(1);
            let class = Class::of(&found);
            if let Err(damage) = self.record(class, found)? {
                self.report.add(class, damage);
            }
        }
        Ok(true)
    }

    fn record(&mut self, class: Class, found: Found) -> Result<Checked, StoreError> {
        let Found { path, value } = found;
        let value = match value {
            Ok(value) => value,
            Err(StoreError::Corrupt(_)) => return Ok(Err(Damage::Altered)),
            Err(other) => return Err(other),
        };
        let bytes = value.value.as_slice();
        Ok(match class {
            Class::Key => self.key(&path, bytes),
            Class::Primary => self.primary(&path, bytes),
            Class::Version => self.version(&path, bytes),
            Class::Partition => return self.partition(&path, value.revision, bytes),
            Class::DataKey => self.data_key(&path, bytes),
            Class::Counts => self.counts(&path, bytes),
            Class::Request => read::<RequestRecord>(bytes).map(drop),
            Class::Shredding => return self.shredding(&path, bytes),
            Class::Store | Class::Other | Class::Use | Class::Rewrap => Ok(()),
        })
    }

    fn key(&mut self, path: &Path, bytes: &[u8]) -> Checked {
        let name = name(&read::<KeyRecord>(bytes)?.name)?;
        self.stands(path, KEY, &[name.as_str().as_bytes()])?;
        self.primaries.insert(name, None);
        Ok(())
    }

    fn primary(&mut self, path: &Path, bytes: &[u8]) -> Checked {
        let record: PrimaryRecord = read(bytes)?;
        let name = name(&record.key)?;
        self.stands(path, PRIMARY, &[name.as_str().as_bytes()])?;
        let number = VersionNumber::new(record.version).ok_or(Damage::Unreadable)?;
        *self.primaries.get_mut(&name).ok_or(Damage::Dangling)? = Some(number);
        Ok(())
    }

    fn version(&mut self, path: &Path, bytes: &[u8]) -> Checked {
        let record: VersionRecord = read(bytes)?;
        let name = name(&record.key)?;
        let number = VersionNumber::new(record.version).ok_or(Damage::Unreadable)?;
        self.stands(path, VERSION, &[name.as_str().as_bytes(), &number.get().to_be_bytes()])?;
        let state = records::state(record.state).map_err(|_| Damage::Unreadable)?;
        let id = KekId { installation: self.keyring.installation(), key: &name, version: number };
        let kek = match state {
            KeyVersionState::Destroyed => Ok(None),
            _ => self.keyring.unwrap_kek(&id, &record.wrapped).map(Some),
        };
        let checked = if kek.is_ok() { Ok(()) } else { Err(Damage::Unwrapped) };
        let of_key = self.primaries.contains_key(&name);
        self.versions.insert((name, number), kek.unwrap_or_default());
        if of_key { checked } else { Err(Damage::Dangling) }
    }

    /// The data key that it names is looked up as it is now. Where it is not, the partition may have
    /// changed meanwhile.
    fn partition(
        &mut self,
        path: &Path,
        revision: u64,
        bytes: &[u8],
    ) -> Result<Checked, StoreError> {
        let parsed = read::<PartitionRecord>(bytes).and_then(|record| {
            let id = record.newest().map_err(|_| Damage::Unreadable)?;
            let parts = [record.key.as_bytes(), record.partition.as_bytes()];
            self.stands(path, PARTITION, &parts)?;
            record.state().map_err(|_| Damage::Unreadable)?;
            Ok((record, id))
        });
        let (record, id) = match parsed {
            Ok((record, Some(id))) => (record, id),
            // Only one whose data keys were erased has none.
            Ok((record, None)) if record.erased.is_some() => return Ok(Ok(())),
            Ok((_, None)) => return Ok(Err(Damage::Unreadable)),
            Err(damage) => return Ok(Err(damage)),
        };
        let found = match self.pass.now(&self.store.path(DATA_KEY, &[id.as_bytes()])) {
            Ok(found) => found,
            // It is counted where it stands.
            Err(StoreError::Corrupt(_)) => return Ok(Ok(())),
            Err(other) => return Err(other),
        };
        let Some(found) = found else {
            let now = self.pass.now(path)?.map(|now| now.revision);
            return Ok(if now == Some(revision) { Err(Damage::Dangling) } else { Ok(()) });
        };
        let Ok(facts) = DataKeyFacts::of(&found) else { return Ok(Ok(())) };
        // While they are removed, the newest first, it names the next one; no number is used again.
        let is_named = match record.state() {
            Ok(PartitionState::Erasing) => facts.generation <= record.generation,
            _ => facts.generation == record.generation,
        };
        let own = facts.key.as_str() == record.key
            && facts.partition.as_str() == record.partition
            && is_named;
        Ok(if own { Ok(()) } else { Err(Damage::Foreign) })
    }

    fn data_key(&mut self, path: &Path, bytes: &[u8]) -> Checked {
        self.report.data_keys = self.report.data_keys.saturating_add(1);
        let facts = DataKeyFacts::decode(bytes).map_err(|_| Damage::Unreadable)?;
        self.stands(path, DATA_KEY, &[facts.key_id.as_bytes()])?;
        let version = (facts.key, facts.version);
        let counted = self.counted.entry(version.clone()).or_default();
        counted.data_keys = counted.data_keys.saturating_add(1);
        counted.reserved = counted.reserved.saturating_add(facts.reserved);
        let partition = (&version.0, version.1, facts.partition.as_str());
        if self.partitions.insert(self.hasher.hash_one(partition)) {
            counted.partitions = counted.partitions.saturating_add(1);
        }
        let kek = self.versions.get(&version).ok_or(Damage::Dangling)?;
        let id = DataKeyId {
            installation: self.keyring.installation(),
            key: &version.0,
            version: facts.version,
            partition: &facts.partition,
            generation: facts.generation,
            key_id: facts.key_id,
        };
        match kek {
            Some(kek) => {
                let opened = wrap::unwrap_data_key(kek, &id, &facts.wrapped);
                opened.map(drop).map_err(|_| Damage::Unwrapped)
            }
            // Nobody can open it any more, or the version is counted itself.
            None => Ok(()),
        }
    }

    /// The counts come after all that is counted.
    fn counts(&mut self, path: &Path, bytes: &[u8]) -> Checked {
        let record: CountsRecord = read(bytes)?;
        let name = name(&record.key)?;
        let number = VersionNumber::new(record.version).ok_or(Damage::Unreadable)?;
        self.stands(path, COUNTS, &[name.as_str().as_bytes(), &number.get().to_be_bytes()])?;
        let counted = self.counted.remove(&(name, number)).unwrap_or_default();
        let said = Counted {
            data_keys: record.data_keys,
            partitions: record.partitions,
            reserved: record.reserved,
        };
        // What could not be read could not be counted.
        if said == counted || self.report.has(Class::DataKey) { Ok(()) } else { Err(Damage::Count) }
    }

    /// The partition says itself that it waits. Both change together, so what is seen later is later.
    fn shredding(&self, path: &Path, bytes: &[u8]) -> Result<Checked, StoreError> {
        let record = match read::<ShreddingRecord>(bytes) {
            Ok(record) => record,
            Err(damage) => return Ok(Err(damage)),
        };
        let parts = [record.key.as_bytes(), record.partition.as_bytes()];
        if let Err(damage) = self.stands(path, SHREDDING, &parts) {
            return Ok(Err(damage));
        }
        let found = match self.pass.now(&self.store.path(PARTITION, &parts)) {
            Ok(found) => found,
            Err(StoreError::Corrupt(_)) => return Ok(Ok(())),
            Err(other) => return Err(other),
        };
        let state = found.and_then(|found| read::<PartitionRecord>(&found.value).ok());
        let waits = state.is_some_and(|of| match of.state() {
            Ok(PartitionState::Shredding | PartitionState::Erasing) => true,
            Ok(PartitionState::Open) => of.unlogged > 0,
            Ok(PartitionState::Erased) | Err(_) => false,
        });
        let is_over = !waits && self.pass.now(path)?.is_none();
        Ok(if waits || is_over { Ok(()) } else { Err(Damage::Dangling) })
    }

    fn stands(&self, path: &Path, kind: Kind, parts: &[&[u8]]) -> Checked {
        if self.store.path(kind, parts) == *path { Ok(()) } else { Err(Damage::Misplaced) }
    }

    /// What only shows when everything was read.
    fn finish(&mut self) {
        for (key, primary) in &self.primaries {
            let version = primary.map(|number| (key.clone(), number));
            if !version.is_some_and(|version| self.versions.contains_key(&version)) {
                self.report.add(Class::Primary, Damage::Dangling);
            }
        }
        if !self.report.has(Class::DataKey) {
            for _ in self.counted.values().filter(|counted| counted.data_keys > 0) {
                self.report.add(Class::Counts, Damage::Count);
            }
        }
        let altered = |(_, damage): &(Class, Damage)| *damage == Damage::Altered;
        if !self.report.damage.keys().any(altered) && !self.pass.sum_agrees() {
            self.report.add(Class::Store, Damage::Sum);
        }
    }
}

fn read<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, Damage> {
    decode("a record", bytes).map_err(|_: KeyError| Damage::Unreadable)
}

fn name(text: &str) -> Result<KeyName, Damage> {
    KeyName::parse(text).map_err(|_| Damage::Unreadable)
}
