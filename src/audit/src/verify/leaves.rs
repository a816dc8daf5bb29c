//! The records of one frame, before it is known whether it is proved.

use fieldseal_model::KeyId;
use prost::Message as _;

use super::Change;
use super::known::Known;
use super::report::Verdict;
use super::walk::SeeDetail;
use crate::merkle::{Frontier, Hash};
use crate::record::{COMMITMENT_BYTES, Kind, LastChange, Record};
use crate::redaction::{NO_DETAIL, Named, Standing, standing};

const REDACTED: &str = "personal detail was erased, and a record says so";
const NO_ITEM: &str = "an item is missing that no record names";

/// A frame whose leaves could be read.
pub(super) struct Leaves {
    pub(super) tree: Frontier,
    pub(super) changes: Vec<(Change, LastChange)>,
    /// Records whose detail is erased, or is not the one that they commit to.
    pub(super) wrong: Vec<(u64, Verdict, &'static str)>,
    pub(super) said: Named,
    pub(super) absent: Named,
    pub(super) archived: Named,
    pub(super) compared: u64,
    /// The root at the size that is remembered, if the frame reaches it.
    pub(super) root_then: Option<Hash>,
    /// What is wrong with the frame as a whole, apart from its leaves.
    pub(super) damage: Option<&'static str>,
}

impl Leaves {
    /// What is not there of a record's detail must be named.
    fn stands(&mut self, index: u64, found: &Standing, redactions: Option<&Named>) {
        let what = match found {
            Standing::Whole => return,
            Standing::Gone => NO_DETAIL,
            Standing::Without(_) => NO_ITEM,
        };
        self.absent.add_standing(index, found);
        let is_allowed = redactions.is_none_or(|named| named.allows(index, found));
        let verdict = if is_allowed { Verdict::Redacted } else { Verdict::Tampered };
        let what = if is_allowed { REDACTED } else { what };
        self.wrong.push((index, verdict, what));
    }

    /// Looks at the next record, before its leaf is appended.
    pub(super) fn record(
        &mut self,
        leaf: &[u8],
        detail: &[u8],
        redactions: Option<&Named>,
        see: &mut Option<SeeDetail<'_>>,
        known: &mut Known,
    ) {
        let index = self.tree.size();
        self.compared += u64::from(!detail.is_empty());
        let (public, commitment) = match cut(leaf) {
            Ok(both) => both,
            Err(what) => return self.wrong.push((index, Verdict::Tampered, what)),
        };
        // Most records are calls like one before, of which nothing but the detail is wanted.
        if see.is_none() && known.is_call(public) {
            return match standing(commitment, detail) {
                Err(what) => self.wrong.push((index, Verdict::Tampered, what)),
                Ok(found) => self.stands(index, &found, redactions),
            };
        }
        let Ok(record) = Record::decode(public) else {
            return self.wrong.push((index, Verdict::Tampered, "a record is none"));
        };
        known.remember(public, &record);
        match standing(commitment, detail) {
            Err(what) => self.wrong.push((index, Verdict::Tampered, what)),
            Ok(found) => {
                self.stands(index, &found, redactions);
                if let Some(see) = see {
                    see(index, &record, detail);
                }
            }
        }
        self.said.add_record(index, &record);
        self.archived.add_archived(index, &record);
        if let Some(last) = LastChange::of(&record, index) {
            let kind = Kind::from_code(record.kind);
            let key_id = record.key_id.as_slice().try_into().ok().map(KeyId::new);
            let LastChange { revision, anchor, .. } = last;
            self.changes.push((Change { revision, anchor, kind, key_id }, last));
        }
    }
}

/// The public part of a leaf, and the commitment to its detail.
fn cut(leaf: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let public = leaf.len().checked_sub(COMMITMENT_BYTES);
    public.and_then(|len| leaf.split_at_checked(len)).ok_or("a record is too short")
}
