//! What stands in a record. `proto/fieldseal/log/v1/log.proto` says the same for other readers.

use fieldseal_crypto::{random, sha256};

use crate::error::JournalError;
use crate::merkle::{self, Hash};
use crate::wire;

/// Bytes of a detail's commitment, the last bytes of every leaf. All zero: there is no detail.
pub(crate) const COMMITMENT_BYTES: usize = 32;
/// Bytes of the random salt of a detail and of each item.
pub(crate) const SALT_BYTES: usize = 16;
/// In the place of a redacted item's salt. A salt is random and never so.
pub(crate) const REDACTED: [u8; SALT_BYTES] = [0; SALT_BYTES];
const HASH_BYTES: usize = 32;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The number in the log. Never reused.
            #[must_use]
            pub const fn code(self) -> u32 { match self { $(Self::$variant => $code,)* } }
            /// The meaning of a number.
            #[must_use]
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
            /// The name, as it is shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}

codes! {
    /// What kind of record it is.
    Kind {
        /// A call.
        Call = 1, "CALL";
        /// A key came into being.
        KeyCreated = 2, "KEY_CREATED";
        /// A key has a new primary version.
        KeyRotated = 3, "KEY_ROTATED";
        /// A partition has a new data key.
        DataKeyCreated = 4, "DATA_KEY_CREATED";
        /// A data key may seal so many more values.
        SealsReserved = 5, "SEALS_RESERVED";
        /// A key's settings changed.
        KeyUpdated = 6, "KEY_UPDATED";
        /// A key version may be used again.
        VersionEnabled = 7, "VERSION_ENABLED";
        /// Nothing opens under a key version until it is enabled again.
        VersionDisabled = 8, "VERSION_DISABLED";
        /// A key version is destroyed once its window is over.
        VersionDestroyScheduled = 9, "VERSION_DESTROY_SCHEDULED";
        /// A key version is not destroyed: it is disabled.
        VersionRestored = 10, "VERSION_RESTORED";
        /// The key material of a key version is gone.
        VersionDestroyed = 11, "VERSION_DESTROYED";
        /// A rewrap began.
        RewrapStarted = 12, "REWRAP_STARTED";
        /// Data keys moved under the primary version.
        DataKeysRewrapped = 13, "DATA_KEYS_REWRAPPED";
        /// A rewrap is over: complete, or cancelled.
        RewrapEnded = 14, "REWRAP_ENDED";
        /// The installation has seen more time pass.
        ClockTicked = 15, "CLOCK_TICKED";
        /// The process started.
        Start = 16, "START";
        /// The process stopped in an orderly way.
        Stop = 17, "STOP";
        /// The torn end of the log, never acknowledged to anybody, was cut off and kept aside.
        TailRecovered = 18, "TAIL_RECOVERED";
        /// The policy's files were read again: another policy decides from here on, or the files
        /// were no policy and nothing changed.
        PolicyReloaded = 19, "POLICY_RELOADED";
        /// Nothing of a partition opens any more; its data keys go once a window is over.
        PartitionShredded = 20, "PARTITION_SHREDDED";
        /// A partition opens again: its window was not over.
        PartitionRestored = 21, "PARTITION_RESTORED";
        /// The data keys of a partition are gone.
        PartitionErased = 22, "PARTITION_ERASED";
        /// A partition whose data keys are gone takes new values.
        PartitionReopened = 23, "PARTITION_REOPENED";
        /// The days on which key versions were used last.
        VersionUsed = 24, "VERSION_USED";
        /// The recovery identity opened every key.
        RootDrilled = 25, "ROOT_DRILLED";
        /// Another root key wraps the keys.
        RootRotated = 26, "ROOT_ROTATED";
        /// Another root provider wraps the root key.
        RootRewrapped = 27, "ROOT_REWRAPPED";
        /// A backup was made.
        BackupCreated = 28, "BACKUP_CREATED";
        /// The store was put back from a backup, and what came later was applied to it.
        BackupRestored = 29, "BACKUP_RESTORED";
        /// A scrub found something wrong.
        ScrubFound = 30, "SCRUB_FOUND";
        /// A backup was restored to a scratch place and opened.
        BackupDrilled = 31, "BACKUP_DRILLED";
        /// Store and log were made to fit by an operator.
        Repaired = 32, "REPAIRED";
        /// A backup's time was over, and it was removed.
        BackupPruned = 33, "BACKUP_PRUNED";
        /// Personal detail of records before it is erased.
        DetailsRedacted = 45, "DETAILS_REDACTED";
        /// Segments before they are removed: they stand in an archive.
        SegmentsArchived = 46, "SEGMENTS_ARCHIVED";
        /// A change waits for a second principal.
        ApprovalRequested = 60, "APPROVAL_REQUESTED";
        /// A second principal agreed to a change of the log, which comes next.
        ApprovalGranted = 70, "APPROVAL_GRANTED";
        /// A change that waited for a second principal was rejected.
        ApprovalRejected = 61, "APPROVAL_REJECTED";
        /// Nobody decided in time about a change that waited for a second principal.
        ApprovalExpired = 62, "APPROVAL_EXPIRED";
        /// Requests for approval that were over are not kept any more.
        ApprovalsRemoved = 63, "APPROVALS_REMOVED";
    }
}

codes! {
    /// How a call or an item ended.
    Outcome {
        /// It was done.
        Ok = 1, "OK";
        /// Policy refused it.
        Denied = 2, "DENIED";
        /// It was allowed and failed, or it was malformed.
        Failed = 3, "FAILED";
        /// Some items of a batch were done.
        Partial = 4, "PARTIAL";
    }
}

/// What a verdict of a call says.
pub(crate) mod decision {
    pub(crate) const PERMIT: u32 = 1;
    pub(crate) const DENIAL: u32 = 2;
    pub(crate) const MALFORMED: u32 = 3;
    pub(crate) const ITSELF: u32 = 4;
    pub(crate) const END_USER: u32 = 5;
}

/// The public part of a record.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Record {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(sfixed64, tag = "2")]
    pub time: i64,
    #[prost(string, tag = "3")]
    pub principal: String,
    #[prost(uint32, tag = "4")]
    pub action: u32,
    #[prost(uint32, tag = "5")]
    pub outcome: u32,
    #[prost(string, tag = "6")]
    pub purpose: String,
    #[prost(message, repeated, tag = "7")]
    pub verdicts: Vec<RecordVerdict>,
    #[prost(uint32, tag = "8")]
    pub item_count: u32,
    /// Of a change: the store's revision.
    #[prost(uint64, tag = "9")]
    pub revision: u64,
    /// Of a change: the HMAC over the sum of the whole store after it.
    #[prost(bytes = "vec", tag = "10")]
    pub anchor: Vec<u8>,
    /// Of a change: the key's version.
    #[prost(uint32, tag = "11")]
    pub key_version: u32,
    /// Of a data key: its id.
    #[prost(bytes = "vec", tag = "12")]
    pub key_id: Vec<u8>,
    /// Of a start: the program's version. Of a recovered tail: what was done. Of a policy that was
    /// refused: what is wrong with it.
    #[prost(string, tag = "13")]
    pub note: String,
    /// Of a start and of a reload that succeeded: SHA-256 over schema and policies.
    #[prost(bytes = "vec", tag = "14")]
    pub policy_digest: Vec<u8>,
    /// Of a reload: the digest of the policy before.
    #[prost(bytes = "vec", tag = "15")]
    pub previous_policy_digest: Vec<u8>,
    /// Of a change of data keys: how many.
    #[prost(uint64, tag = "16")]
    pub count: u64,
    /// Of a change of data keys that a restore must repeat: their ids, 8 bytes each.
    #[prost(bytes = "vec", tag = "17")]
    pub key_ids: Vec<u8>,
    /// Of a change of a partition that was erased before: the oldest of the data keys it had then.
    #[prost(bytes = "vec", tag = "18")]
    pub erased_key_id: Vec<u8>,
    /// Of a change of a key's settings: all of them as they are now, a message of their own.
    #[prost(bytes = "vec", tag = "19")]
    pub settings: Vec<u8>,
    /// Of refusals that were counted: how many calls.
    #[prost(uint64, tag = "30")]
    pub calls: u64,
    /// Of refusals that were counted: when the first of these calls began; `time` is the last one's.
    #[prost(sfixed64, tag = "31")]
    pub first_time: i64,
    /// Of a redaction: what it erases.
    #[prost(message, repeated, tag = "45")]
    pub redactions: Vec<Redaction>,
    /// Of segments that are archived: which.
    #[prost(message, repeated, tag = "46")]
    pub archived: Vec<ArchivedSegment>,
    /// The beginning of the SHA-256 of the certificate that the caller showed.
    #[prost(bytes = "vec", tag = "80")]
    pub certificate: Vec<u8>,
    /// Of a start: SHA-256 over all settings.
    #[prost(bytes = "vec", tag = "81")]
    pub settings_digest: Vec<u8>,
    /// Of a start: some of them.
    #[prost(message, repeated, tag = "82")]
    pub settings_told: Vec<ProcessSetting>,
    /// Of a start: the certificates of the process.
    #[prost(message, repeated, tag = "83")]
    pub certificates: Vec<ProcessCertificate>,
}

/// A setting of the process.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProcessSetting {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A certificate of the process.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProcessCertificate {
    /// `server` or `client_ca`.
    #[prost(string, tag = "1")]
    pub usage: String,
    /// Over its DER form.
    #[prost(bytes = "vec", tag = "2")]
    pub sha256: Vec<u8>,
    /// Seconds since 1970.
    #[prost(sfixed64, tag = "3")]
    pub not_after: i64,
}

/// A segment that is archived.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ArchivedSegment {
    /// Its first record.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// How many records it has.
    #[prost(uint64, tag = "2")]
    pub count: u64,
    /// Bytes of its file.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// SHA-256 over them.
    #[prost(bytes = "vec", tag = "4")]
    pub sha256: Vec<u8>,
}

/// Details that a redaction erases: the whole details of `count` records, or some items of one.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Redaction {
    /// The first record.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// How many records.
    #[prost(uint64, tag = "2")]
    pub count: u64,
    /// The first item of the one record.
    #[prost(uint32, tag = "3")]
    pub item: u32,
    /// How many items of it; 0: the whole details.
    #[prost(uint32, tag = "4")]
    pub item_count: u32,
}

/// One decision, and what it was about.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RecordVerdict {
    #[prost(uint32, tag = "1")]
    pub decision: u32,
    #[prost(string, tag = "2")]
    pub rule: String,
    #[prost(string, tag = "3")]
    pub key: String,
    #[prost(string, tag = "4")]
    pub table: String,
    #[prost(string, tag = "5")]
    pub column: String,
    /// Of a denial its cause, of something malformed its reason, of a refused token of an end user its
    /// reason and which check it failed.
    #[prost(string, tag = "6")]
    pub cause: String,
    #[prost(uint64, tag = "7")]
    pub generation: u64,
}

/// The head of a detail: what the commitment in the leaf covers.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DetailHead {
    #[prost(string, tag = "1")]
    pub ticket: String,
    /// RFC 6962 root over `salt | item` of every item; empty if there is none.
    #[prost(bytes = "vec", tag = "2")]
    pub items_root: Vec<u8>,
    #[prost(uint32, tag = "3")]
    pub item_count: u32,
    /// The partition of every item, if they all have the same named one; items have none then.
    #[prost(bytes = "vec", tag = "4")]
    pub partition: Vec<u8>,
    /// The end user behind the call.
    #[prost(bytes = "vec", tag = "5")]
    pub end_user: Vec<u8>,
}

/// One field of a call.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RecordItem {
    /// Which of the record's verdicts.
    #[prost(uint32, tag = "1")]
    pub verdict: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub row: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub partition: Vec<u8>,
    #[prost(uint32, tag = "4")]
    pub key_version: u32,
    #[prost(uint32, tag = "5")]
    pub outcome: u32,
    #[prost(string, tag = "6")]
    pub cause: String,
    /// Of refusals that were counted: in how many of the calls; 0 if in all of them.
    #[prost(uint64, tag = "10")]
    pub calls: u64,
}

/// A record that is ready for the log.
pub(crate) struct Encoded {
    /// The public part and the commitment.
    pub leaf: Vec<u8>,
    /// `salt | head length | head`; empty if there is no detail.
    pub detail: Vec<u8>,
    /// `(salt | item length | item)*`, which follow.
    pub items: Vec<u8>,
    /// RFC 6962, over the leaf.
    pub leaf_hash: [u8; 32],
    /// Of a change: the store's revision, otherwise 0.
    pub revision: u64,
    /// Of a change: the HMAC over the sum of the whole store after it.
    pub anchor: [u8; 32],
}

/// The newest change that a log tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastChange {
    /// The store's revision.
    pub revision: u64,
    /// The HMAC over the sum of the whole store after it.
    pub anchor: [u8; 32],
    /// Which record of the log tells of it.
    pub index: u64,
}

impl LastChange {
    /// That of a record, if it tells of a change.
    pub(crate) fn of(record: &Record, index: u64) -> Option<Self> {
        let anchor = record.anchor.as_slice().try_into().ok()?;
        let revision = Some(record.revision).filter(|revision| *revision > 0)?;
        Some(Self { revision, anchor, index })
    }
}

impl Encoded {
    /// Puts public part and detail together. `head` is what the commitment covers, `items` follow.
    pub(crate) fn new(
        mut leaf: Vec<u8>,
        salt: &[u8; SALT_BYTES],
        head: &[u8],
        items: Vec<u8>,
        revision: u64,
    ) -> Self {
        let mut detail = Vec::new();
        if head.is_empty() {
            leaf.extend_from_slice(&[0; COMMITMENT_BYTES]);
        } else {
            leaf.extend_from_slice(&sha256(&[salt, head]));
            detail.reserve_exact(SALT_BYTES + wire::varint_len(head.len() as u64) + head.len());
            detail.extend_from_slice(salt);
            wire::varint(&mut detail, head.len() as u64);
            detail.extend_from_slice(head);
        }
        let leaf_hash = merkle::leaf_hash(&leaf);
        Self { leaf, detail, items, leaf_hash, revision, anchor: [0; 32] }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.leaf.len() + self.detail.len() + self.items.len() + 8
    }
}

/// A detail, cut into its parts and not yet checked.
pub(crate) struct DetailParts<'a> {
    pub salt: &'a [u8],
    pub head: &'a [u8],
    items: &'a [u8],
}

impl<'a> DetailParts<'a> {
    /// Cuts a detail; `None` if it is too short.
    pub(crate) fn cut(detail: &'a [u8]) -> Option<Self> {
        let (salt, mut rest) = detail.split_at_checked(SALT_BYTES)?;
        let len = usize::try_from(wire::read_varint(&mut rest)?).ok()?;
        let (head, items) = rest.split_at_checked(len)?;
        Some(Self { salt, head, items })
    }

    /// Every item; `None` instead of one that is cut off.
    pub(crate) fn items(&self) -> impl Iterator<Item = Option<ItemPart<'a>>> + use<'a> {
        let mut rest = self.items;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let item = ItemPart::cut(&mut rest);
            if item.is_none() {
                rest = &[];
            }
            Some(item)
        })
    }
}

/// An item of a detail: `salt 16 | varint length | message`. One that was redacted is 16 zero bytes in
/// place of the salt, and its leaf hash.
pub(crate) struct ItemPart<'a> {
    /// All of its bytes.
    pub raw: &'a [u8],
    /// The message; `None` if it was redacted.
    pub message: Option<&'a [u8]>,
}

impl<'a> ItemPart<'a> {
    fn cut(rest: &mut &'a [u8]) -> Option<Self> {
        let whole = *rest;
        let (salt, mut after) = whole.split_at_checked(SALT_BYTES)?;
        let message = if salt == REDACTED {
            after = after.get(HASH_BYTES..)?;
            None
        } else {
            let len = usize::try_from(wire::read_varint(&mut after)?).ok()?;
            let (message, behind) = after.split_at_checked(len)?;
            after = behind;
            Some(message)
        };
        let raw = whole.get(..whole.len().checked_sub(after.len())?)?;
        *rest = after;
        Some(Self { raw, message })
    }

    /// RFC 6962, over `salt | message`.
    pub(crate) fn leaf_hash(&self) -> Option<Hash> {
        let (salt, rest) = self.raw.split_at_checked(SALT_BYTES)?;
        match self.message {
            None => rest.try_into().ok(),
            Some(message) => Some(sha256(&[&[0], salt, message])),
        }
    }
}

/// Fills in salts, none of them that of a redacted item.
pub(crate) fn fill_salts(salts: &mut [u8]) -> Result<(), JournalError> {
    random::fill(salts).map_err(|_| JournalError::Random)?;
    let are_salts = salts.chunks(SALT_BYTES).all(|salt| salt != REDACTED);
    are_salts.then_some(()).ok_or(JournalError::Random)
}
