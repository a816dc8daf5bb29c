//! What `keys` writes into the store: one small record per thing, none of them growing.
//!
//! Every value is sealed by the store's committer, and every name in a path is a keyed hash; so the
//! names stand here, inside the sealed value. Field numbers are never reused.

use fieldseal_crypto::wrap::WRAPPED_BYTES;
use fieldseal_model::{KeyId, KeyName, KeyVersionState, Partition, Timestamp, VersionNumber};
use fieldseal_store::{Kind, Versioned};
use prost::Message;

use crate::error::KeyError;

/// `[key]`: that the key exists, and its settings.
pub(crate) const KEY: Kind = Kind::new(1);
/// `[key]`: which version is primary. The only pointer that moves, by compare-and-set.
pub(crate) const PRIMARY: Kind = Kind::new(2);
/// `[key, version]`: one key version with its wrapped KEK.
pub(crate) const VERSION: Kind = Kind::new(3);
/// `[key, partition]`: the partition's newest data key.
pub(crate) const PARTITION: Kind = Kind::new(4);
/// `[key id]`: one wrapped data key.
pub(crate) const DATA_KEY: Kind = Kind::new(5);
/// `[principal, method, request id]`: what a mutation answered.
pub(crate) const REQUEST: Kind = Kind::new(7);
/// `[key, version]`: what there is under a version. Kept by the transactions that change it.
pub(crate) const COUNTS: Kind = Kind::new(8);
/// `[key, partition]`: that the partition is shredded and waits to be erased.
pub(crate) const SHREDDING: Kind = Kind::new(10);
/// `[key, version]`: the days on which a version was used last.
pub(crate) const USE: Kind = Kind::new(9);
/// `[key]`: the key's newest rewrap.
pub(crate) const JOB: Kind = Kind::new(11);
/// `[]`: how much time the installation has seen pass.
pub(crate) const CLOCK: Kind = Kind::new(12);
/// `[name]`: a backup that may still exist.
pub(crate) const BACKUP: Kind = Kind::new(13);
/// `[]`: which life of the installation this is.
pub(crate) const INCARNATION: Kind = Kind::new(14);
/// `[id]`: a change that waits for a second principal, or what became of it.
pub(crate) const APPROVAL: Kind = Kind::new(18);

/// The class of the records of data keys, for whoever counts stored entries.
pub const DATA_KEY_CLASS: u8 = 5;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyRecord {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(sfixed64, tag = "2")]
    pub(crate) created_at: i64,
    /// 0: the sidecar does not rotate by itself.
    #[prost(uint64, tag = "3")]
    pub(crate) rotation_period_seconds: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) destroy_window_seconds: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) data_key_lifetime_seconds: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) seal_limit: u64,
    #[prost(uint32, repeated, tag = "7")]
    pub(crate) suites: Vec<u32>,
    #[prost(bool, tag = "8")]
    pub(crate) log_encrypts: bool,
    #[prost(bool, tag = "9")]
    pub(crate) row_required: bool,
    #[prost(bool, tag = "10")]
    pub(crate) partition_required: bool,
    #[prost(bool, tag = "11")]
    pub(crate) purpose_required: bool,
    #[prost(message, repeated, tag = "12")]
    pub(crate) labels: Vec<LabelRecord>,
    #[prost(bool, tag = "13")]
    pub(crate) end_user_required: bool,
    #[prost(string, repeated, tag = "14")]
    pub(crate) allowed_purposes: Vec<String>,
    #[prost(string, repeated, tag = "15")]
    pub(crate) ticket_patterns: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LabelRecord {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PrimaryRecord {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(uint32, tag = "2")]
    pub(crate) version: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VersionRecord {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(uint32, tag = "2")]
    pub(crate) version: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) state: u32,
    #[prost(sfixed64, tag = "4")]
    pub(crate) created_at: i64,
    /// The KEK wrapped by the root key; empty once destroyed.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) wrapped: Vec<u8>,
    /// How much time the installation has seen when the window is over; 0 while none is open.
    #[prost(uint64, tag = "6")]
    pub(crate) destroy_due_nanos: u64,
    /// How many data keys it may wrap when it is destroyed.
    #[prost(uint64, tag = "7")]
    pub(crate) data_keys_lost: u64,
    /// 0 until it is destroyed.
    #[prost(sfixed64, tag = "8")]
    pub(crate) destroyed_at: i64,
}

/// Every transaction that adds or removes a data key of a partition writes this record too, so that
/// its revision guards their chain. What a data key says of itself is guarded by its own revision: a
/// rewrap that moves the newest writes no partition, one that moves older ones alone does.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartitionRecord {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) partition: String,
    #[prost(uint32, tag = "3")]
    pub(crate) generation: u32,
    /// Its newest data key; empty if it has none, because they were erased.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) key_id: Vec<u8>,
    /// A [`PartitionState`].
    #[prost(uint32, tag = "5")]
    pub(crate) state: u32,
    /// When it was shredded, while it waits to be erased.
    #[prost(sfixed64, tag = "6")]
    pub(crate) shredded_at: i64,
    /// When it is erased: nanoseconds that the installation will have seen pass.
    #[prost(uint64, tag = "7")]
    pub(crate) due: u64,
    /// The last time that it was erased. It stays when the partition is opened anew.
    #[prost(message, optional, tag = "8")]
    pub(crate) erased: Option<ErasedRecord>,
    /// How many of its data keys, the oldest, the log has yet to name for what made the state: a
    /// record of the log has room for so many only.
    #[prost(uint64, tag = "9")]
    pub(crate) unlogged: u64,
}

/// What a partition keeps of its data keys that were erased.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ErasedRecord {
    #[prost(sfixed64, tag = "1")]
    pub(crate) at: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) data_keys: u64,
    /// The ids of the first of them, 8 bytes each. The log has them all.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) key_ids: Vec<u8>,
    /// The transaction that removed the last of them; 0 while that is the partition's own last one.
    #[prost(uint64, tag = "4")]
    pub(crate) revision: u64,
    /// The id of the oldest: every backup that had any of them has it.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) oldest: Vec<u8>,
}

/// What can be done with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionState {
    /// Its values open, and it takes new ones.
    Open,
    /// Nothing opens; it can be restored until its window is over.
    Shredding,
    /// Its data keys are being removed.
    Erasing,
    /// Its data keys are gone for good. It takes no new values unless it is opened anew.
    Erased,
}

impl PartitionState {
    const ALL: [Self; 4] = [Self::Open, Self::Shredding, Self::Erasing, Self::Erased];

    /// The number in the store.
    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::Open => 0,
            Self::Shredding => 1,
            Self::Erasing => 2,
            Self::Erased => 3,
        }
    }

    /// The name, as it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Shredding => "SHREDDING",
            Self::Erasing => "ERASING",
            Self::Erased => "ERASED",
        }
    }
}

impl PartitionRecord {
    pub(crate) fn state(&self) -> Result<PartitionState, KeyError> {
        let known = PartitionState::ALL.into_iter().find(|state| state.code() == self.state);
        known.ok_or(KeyError::Corrupt("a partition's state"))
    }

    /// Its newest data key, if it has one.
    pub(crate) fn newest(&self) -> Result<Option<KeyId>, KeyError> {
        match self.key_id.as_slice() {
            [] => Ok(None),
            bytes => key_id(bytes).map(Some).ok_or(KeyError::Corrupt("a partition's record")),
        }
    }

    /// The oldest of the data keys that it had before it was erased the last time.
    pub(crate) fn erased_before(&self) -> Option<KeyId> {
        key_id(&self.erased.as_ref()?.oldest)
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ShreddingRecord {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) partition: String,
    /// As in the partition's record.
    #[prost(uint64, tag = "3")]
    pub(crate) due: u64,
    /// The partition does not wait any more: it is open again, and only the log has yet to name the
    /// oldest of its data keys.
    #[prost(bool, tag = "4")]
    pub(crate) restored: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DataKeyRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key_id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) key: String,
    #[prost(string, tag = "3")]
    pub(crate) partition: String,
    #[prost(uint32, tag = "4")]
    pub(crate) version: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) generation: u32,
    #[prost(sfixed64, tag = "6")]
    pub(crate) created_at: i64,
    /// The data key wrapped by the version's KEK.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) wrapped: Vec<u8>,
    /// Seals that may have been made: a multiple of the block size.
    #[prost(uint64, tag = "8")]
    pub(crate) reserved: u64,
    /// The partition's data key before this one; empty for its first.
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) previous: Vec<u8>,
    /// The version under which it was made, if it was moved since; 0: `version`.
    #[prost(uint32, tag = "10")]
    pub(crate) made_under: u32,
}

/// What there is under a key version.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CountsRecord {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(uint32, tag = "2")]
    pub(crate) version: u32,
    /// Data keys that the version wraps.
    #[prost(uint64, tag = "3")]
    pub(crate) data_keys: u64,
    /// Partitions that have at least one of them.
    #[prost(uint64, tag = "4")]
    pub(crate) partitions: u64,
    /// Seals that these data keys have reserved.
    #[prost(uint64, tag = "5")]
    pub(crate) reserved: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestRecord {
    /// SHA-256 of what was asked for, so that another question under the same id is noticed.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) digest: Vec<u8>,
    #[prost(sfixed64, tag = "2")]
    pub(crate) at: i64,
    /// What the method keeps of its answer: a message of its own.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) answer: Vec<u8>,
}

/// What a request that made a version keeps of its answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NewVersionAnswer {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(uint32, tag = "2")]
    pub(crate) version: u32,
    /// The primary version before; 0 for a new key.
    #[prost(uint32, tag = "3")]
    pub(crate) previous: u32,
}

/// What a request about a key, or one of its versions, keeps of its answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChangeAnswer {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    /// 0 if it was about the key as a whole.
    #[prost(uint32, tag = "2")]
    pub(crate) version: u32,
}

/// How much time the installation has seen pass.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ClockRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) seen_nanos: u64,
}

/// Decodes a record; a record that opened (so it is ours) but does not parse is corruption.
pub(crate) fn decode<M: Message + Default>(
    what: &'static str,
    bytes: &[u8],
) -> Result<M, KeyError> {
    M::decode(bytes).map_err(|_| KeyError::Corrupt(what))
}

/// A decoded and checked data-key record.
pub(crate) struct DataKeyFacts {
    /// Of the record: what is made of it is guarded by this. 0 where it is not known.
    pub(crate) revision: u64,
    pub(crate) key_id: KeyId,
    pub(crate) key: KeyName,
    pub(crate) partition: Partition,
    pub(crate) version: VersionNumber,
    pub(crate) generation: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) wrapped: [u8; WRAPPED_BYTES],
    pub(crate) reserved: u64,
    /// The partition's data key before this one.
    pub(crate) previous: Option<KeyId>,
    /// The version under which it was made. It seals only while that one is primary: what a
    /// rotation promises holds for a data key that a rewrap has moved, too.
    pub(crate) made_under: VersionNumber,
}

impl DataKeyFacts {
    /// The record, to be written again after a change.
    pub(crate) fn record(&self) -> DataKeyRecord {
        DataKeyRecord {
            key_id: self.key_id.as_bytes().to_vec(),
            key: self.key.as_str().to_owned(),
            partition: self.partition.as_str().to_owned(),
            version: self.version.get(),
            generation: self.generation,
            created_at: self.created_at.unix_nanos(),
            wrapped: self.wrapped.to_vec(),
            reserved: self.reserved,
            previous: self.previous.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            made_under: match self.made_under {
                made if made == self.version => 0,
                made => made.get(),
            },
        }
    }

    /// A record as it was found.
    pub(crate) fn of(found: &Versioned) -> Result<Self, KeyError> {
        Ok(Self { revision: found.revision, ..Self::decode(&found.value)? })
    }

    /// A record's value alone.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        const WHAT: &str = "a data key's record";
        let record: DataKeyRecord = decode(WHAT, bytes)?;
        let corrupt = || KeyError::Corrupt(WHAT);
        let version = VersionNumber::new(record.version).ok_or_else(corrupt)?;
        Ok(Self {
            revision: 0,
            key_id: key_id(&record.key_id).ok_or_else(corrupt)?,
            key: KeyName::parse(&record.key).map_err(|_| corrupt())?,
            partition: Partition::parse(&record.partition).map_err(|_| corrupt())?,
            version,
            generation: record.generation,
            created_at: Timestamp::from_unix_nanos(record.created_at),
            wrapped: record.wrapped.as_slice().try_into().map_err(|_| corrupt())?,
            reserved: record.reserved,
            previous: match record.previous.as_slice() {
                [] => None,
                bytes => Some(key_id(bytes).ok_or_else(corrupt)?),
            },
            made_under: VersionNumber::new(record.made_under).unwrap_or(version),
        })
    }
}

pub(crate) fn key_id(bytes: &[u8]) -> Option<KeyId> {
    bytes.try_into().ok().map(KeyId::new)
}

pub(crate) fn state(code: u32) -> Result<KeyVersionState, KeyError> {
    u8::try_from(code)
        .ok()
        .and_then(KeyVersionState::from_code)
        .ok_or(KeyError::Corrupt("a key version's state"))
}
