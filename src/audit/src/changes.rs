//! The changes that a log tells of, for whoever must do them again on an older store.

use std::path::Path;

use fieldseal_model::Timestamp;
use prost::Message as _;

use crate::error::JournalError;
use crate::merkle::{self, Frontier, Hash};
use crate::record::{COMMITMENT_BYTES, Kind, RecordVerdict};
use crate::segment::{self, At, Segment};
use crate::verify::LogKey;

/// One change of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its record's place in the log.
    pub index: u64,
    /// The store's revision.
    pub revision: u64,
    /// What was changed; `None` for what a newer program wrote.
    pub kind: Option<Kind>,
    /// When.
    pub time: Timestamp,
    /// The key's bare name; empty if it was about none.
    pub key: String,
    /// The key's version, or 0.
    pub key_version: u32,
    /// The data key that was made.
    pub key_id: Option<[u8; 8]>,
    /// How many data keys it was about.
    pub count: u64,
    /// The data keys that it was about, where a restore must know them.
    pub key_ids: Vec<[u8; 8]>,
    /// A data key that its partition had before it was erased an earlier time.
    pub erased_key_id: Option<[u8; 8]>,
    /// The key's settings afterwards; empty if it did not change any, and in what an older program wrote.
    pub settings: Vec<u8>,
    /// The HMAC of the sum of the whole store afterwards.
    pub anchor: Vec<u8>,
}

/// The fields of a record that a change is made of.
#[derive(Clone, PartialEq, prost::Message)]
struct Facts {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(sfixed64, tag = "2")]
    time: i64,
    #[prost(message, repeated, tag = "7")]
    verdicts: Vec<RecordVerdict>,
    #[prost(uint64, tag = "9")]
    revision: u64,
    #[prost(bytes = "vec", tag = "10")]
    anchor: Vec<u8>,
    #[prost(uint32, tag = "11")]
    key_version: u32,
    #[prost(bytes = "vec", tag = "12")]
    key_id: Vec<u8>,
    #[prost(uint64, tag = "16")]
    count: u64,
    #[prost(bytes = "vec", tag = "17")]
    key_ids: Vec<u8>,
    #[prost(bytes = "vec", tag = "18")]
    erased_key_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "19")]
    settings: Vec<u8>,
}

/// Hands every change of a log to `see`, in its order; returns the root that the log had when it had
/// `size` records, `None` if it never had so many. Verify the log before.
///
/// # Errors
/// `Archived` if it is not known what it was with `size` records, because older ones are archived; a file
/// that cannot be read, or a record that is none.
pub fn changes(
    directory: &Path,
    key: &LogKey,
    size: u64,
    mut see: impl FnMut(Change),
) -> Result<Option<Hash>, JournalError> {
    let mut tree = Frontier::default();
    let mut root = (size == 0).then(|| tree.root());
    for (first, path) in segment::list(directory)? {
        let segment = Segment::open(&path, &key.key)?;
        if tree.size() == 0 && first > 0 {
            if size > 0 && size < first {
                return Err(JournalError::Archived(first));
            }
            tree = segment.frontier()?;
            root = root.or_else(|| (tree.size() == size).then(|| tree.root()));
        }
        let mut offset = segment.start;
        while let At::Frame(frame) = segment.at(offset)? {
            for leaf in frame.leaves() {
                let none = || JournalError::corrupt(&path, offset, "a record is none");
                let leaf = leaf.ok_or_else(none)?;
                let index = tree.size();
                tree.append(merkle::leaf_hash(leaf));
                if tree.size() == size {
                    root = Some(tree.root());
                }
                if let Some(change) = change(leaf, index).ok_or_else(none)? {
                    see(change);
                }
            }
            offset = frame.end;
        }
    }
    Ok(root)
}

/// The outer `None`: it is no record.
fn change(leaf: &[u8], index: u64) -> Option<Option<Change>> {
    let public = leaf.get(..leaf.len().checked_sub(COMMITMENT_BYTES)?)?;
    let facts = Facts::decode(public).ok()?;
    if facts.revision == 0 {
        return Some(None);
    }
    let (key_ids, rest) = facts.key_ids.as_chunks::<8>();
    if !rest.is_empty() {
        return None;
    }
    Some(Some(Change {
        index,
        revision: facts.revision,
        kind: Kind::from_code(facts.kind),
        time: Timestamp::from_unix_nanos(facts.time),
        key: facts.verdicts.into_iter().next().map(|verdict| verdict.key).unwrap_or_default(),
        key_version: facts.key_version,
        key_id: facts.key_id.as_slice().try_into().ok(),
        count: facts.count,
        key_ids: key_ids.to_vec(),
        erased_key_id: facts.erased_key_id.as_slice().try_into().ok(),
        settings: facts.settings,
        anchor: facts.anchor,
    }))
}
