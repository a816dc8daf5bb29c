//! What callers were told, and what they asked without an answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use fieldseal_client::v1;

use super::load::PEOPLE;

/// A value that a caller holds.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) key: String,
    pub(super) partition: String,
    pub(super) plaintext: String,
    pub(super) ciphertext: Vec<u8>,
    /// The version that protected it when it was sealed, `keys/{key}/versions/{n}`.
    pub(super) version: String,
}

/// What became of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Open,
    /// Its window is not over: it may be restored.
    Shredded,
    /// It had no window: its data keys go by themselves.
    Going,
    /// They are gone.
    Erased,
}

impl Fate {
    /// What a value of the partition comes to.
    fn refusal(self) -> Option<&'static str> {
        (self != Self::Open).then_some("PARTITION_SHREDDED")
    }
}

/// What was acknowledged last of each name, and what was asked since without an answer.
pub(super) struct States<T> {
    pub(super) known: BTreeMap<String, T>,
    pub(super) asked: BTreeMap<String, T>,
}

impl<T> Default for States<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), asked: BTreeMap::new() }
    }
}

impl<T> States<T> {
    fn add(&mut self, other: Self) {
        self.known.extend(other.known);
        self.asked.extend(other.asked);
    }
}

/// How often callers were told that something is done.
#[derive(Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) rotations: u32,
    pub(super) rewraps: u32,
    pub(super) shreds: u32,
    /// The part of the shreds that had no window.
    pub(super) erasures: u32,
    pub(super) restores: u32,
    pub(super) disables: u32,
    pub(super) enables: u32,
}

impl Done {
    fn add(&mut self, other: Self) {
        self.rotations += other.rotations;
        self.rewraps += other.rewraps;
        self.shreds += other.shreds;
        self.erasures += other.erasures;
        self.restores += other.restores;
        self.disables += other.disables;
        self.enables += other.enables;
    }

    /// True if there was enough of each for so many kills.
    pub(super) fn is_enough(self, kills: u32) -> bool {
        let each = [self.rotations, self.rewraps, self.shreds];
        let some = [self.erasures, self.restores, self.disables, self.enables];
        each.into_iter().all(|done| done >= kills) && some.into_iter().all(|n| n >= kills / 4)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rotations, rewraps, shreds, erasures, restores, disables, enables } = self;
        write!(
            f,
            "rotations {rotations}, rewraps {rewraps}, shreds {shreds} ({erasures} to be erased at \
             once, {restores} restored), versions disabled {disables}, enabled {enables}"
        )
    }
}

#[derive(Default)]
pub(super) struct Told {
    /// By the call's ticket, which no other call has.
    pub(super) receipts: HashMap<String, v1::AuditReceipt>,
    pub(super) sealed: Vec<Sealed>,
    /// The versions of each key.
    pub(super) versions: BTreeMap<String, BTreeSet<u32>>,
    /// By partition.
    pub(super) fates: States<Fate>,
    /// By version, whether it is enabled.
    pub(super) enabled: States<bool>,
    /// Keys of which a rewrap began.
    pub(super) rewraps: BTreeSet<String>,
    /// Tickets, and partitions that should have got a data key.
    pub(super) unanswered: HashSet<String>,
    pub(super) done: Done,
}

impl Told {
    pub(super) fn add(&mut self, other: Self) {
        self.receipts.extend(other.receipts);
        self.sealed.extend(other.sealed);
        for (key, versions) in other.versions {
            self.versions.entry(key).or_default().extend(versions);
        }
        self.fates.add(other.fates);
        self.enabled.add(other.enabled);
        self.rewraps.extend(other.rewraps);
        self.unanswered.extend(other.unanswered);
        self.done.add(other.done);
    }

    /// Each receipt, each ciphertext, and each data key that was made for one.
    pub(super) fn acknowledged(&self) -> usize {
        self.receipts.len() + self.sealed.len() + self.people().count()
    }

    /// The values whose partitions have a data key of their own.
    pub(super) fn people(&self) -> impl Iterator<Item = &Sealed> {
        self.sealed.iter().filter(|sealed| sealed.key == PEOPLE)
    }

    pub(super) fn fate(&self, partition: &str) -> Fate {
        self.fates.known.get(partition).copied().unwrap_or(Fate::Open)
    }

    /// Why a value does not open; `None` if it does.
    pub(super) fn refusal(&self, sealed: &Sealed) -> Option<&'static str> {
        let disabled = self.enabled.known.get(&sealed.version) == Some(&false);
        let refused = self.fate(&sealed.partition).refusal();
        refused.or_else(|| disabled.then_some("KEY_VERSION_DISABLED"))
    }

    pub(super) fn version(&mut self, name: &str) {
        let (key, version) = parts(name);
        let new = self.versions.entry(key.to_owned()).or_default().insert(version);
        assert!(new, "{name} was made twice");
    }
}

/// Key and number of a version's name.
pub(super) fn parts(version: &str) -> (&str, u32) {
    let (key, number) = version.strip_prefix("keys/").unwrap().split_once("/versions/").unwrap();
    (key, number.parse().unwrap())
}
