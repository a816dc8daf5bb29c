//! A snapshot shows one revision whatever is written meanwhile, and a store can be made of it.

use std::collections::BTreeMap;

use fieldseal_store::{Import, RawEntry, Snapshot, StoreError};

use super::on_every_backend;
use crate::place::{KEYS, OTHERS, Opened, Place, event_bytes, secrets, txn};

on_every_backend!(
    a_snapshot_is_the_store_at_its_revision,
    a_snapshot_that_would_keep_too_much_is_given_up,
    what_is_no_snapshot_makes_no_store,
);

const NAMES: u32 = 2000;
const ENOUGH: usize = 64 * 1024 * 1024;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(bound)).unwrap()
    }
}

/// What a transaction wrote: name and value.
type Writes = Vec<(u32, Option<String>)>;

fn path(opened: &Opened, name: u32) -> fieldseal_store::Path {
    let kind = if name.is_multiple_of(3) { OTHERS } else { KEYS };
    opened.path_in(kind, &["snapshot", &name.to_string()])
}

/// Puts or removes some names.
async fn write(opened: &Opened, numbers: &mut Numbers) -> (u64, Writes) {
    let mut writes = Writes::new();
    for _ in 0..=numbers.below(40) {
        let value = (numbers.below(4) > 0).then(|| format!("value {}", numbers.below(1 << 30)));
        writes.push((numbers.below(NAMES), value));
    }
    let change = writes.iter().fold(txn(), |txn, (name, value)| match value {
        Some(value) => txn.put(path(opened, *name), value.clone().into_bytes()),
        None => txn.delete(path(opened, *name)),
    });
    (opened.store.txn(change).await.unwrap(), writes)
}

fn fold(writes: impl IntoIterator<Item = Writes>) -> BTreeMap<u32, String> {
    let mut state = BTreeMap::new();
    for (name, value) in writes.into_iter().flatten() {
        match value {
            Some(value) => state.insert(name, value),
            None => state.remove(&name),
        };
    }
    state
}

fn rest(snapshot: &mut Snapshot) -> Vec<RawEntry> {
    std::iter::from_fn(|| snapshot.page().unwrap()).flatten().collect()
}

/// Makes a store of entries in a place of its own.
fn import<P: Place>(entries: Vec<RawEntry>, anchor: [u8; 32], revision: u64) -> (P, Opened) {
    let place = P::new();
    let mut import = Import::begin(&place.settings(), secrets()).unwrap();
    for entry in entries {
        import.put(entry).unwrap();
    }
    assert_eq!(import.anchor(), anchor);
    import.finish(revision).unwrap();
    let opened = place.open();
    (place, opened)
}

async fn a_snapshot_is_the_store_at_its_revision<P: Place>(_place: P) {
    for seed in 1..6 {
        let place = P::new();
        let mut opened = place.create();
        let mut numbers = Numbers(seed);
        let mut before = Vec::new();
        for _ in 0..150 {
            before.push(write(&opened, &mut numbers).await.1);
        }
        let mut snapshot = opened.store.snapshot(ENOUGH).await.unwrap();
        assert_eq!(snapshot.revision(), 150);
        let last = opened.drain().pop().unwrap();
        assert_eq!(last.bytes, event_bytes(150, snapshot.anchor()));

        // Others write between the pages: before and behind the place of reading.
        let (mut entries, mut pages) = (Vec::new(), 0);
        while let Some(page) = snapshot.page().unwrap() {
            entries.extend(page);
            pages += 1;
            for _ in 0..30 {
                write(&opened, &mut numbers).await;
            }
        }
        assert!(pages > 2, "writes came between {pages} pages");
        assert!(entries.is_sorted_by(|a, b| a.path < b.path));
        opened.assert_sums_agree().await;

        let expected = fold(before);
        assert_eq!(entries.len(), expected.len());
        let (_place, copy) = import::<P>(entries, snapshot.anchor(), 10_000);
        copy.assert_sums_agree().await;
        assert_eq!(copy.store.opened_at(), 10_000);
        for name in 0..NAMES {
            let found = copy.value(&path(&copy, name)).await;
            assert_eq!(found.as_ref(), expected.get(&name), "name {name} of seed {seed}");
        }
        let (revision, _) = write(&copy, &mut numbers).await;
        assert_eq!(revision, 10_001, "it goes on beyond its source");
    }
}

async fn a_snapshot_that_would_keep_too_much_is_given_up<P: Place>(place: P) {
    let opened = place.create();
    let mut numbers = Numbers(7);
    for _ in 0..10 {
        write(&opened, &mut numbers).await;
    }
    let mut small = opened.store.snapshot(2000).await.unwrap();
    let mut large = opened.store.snapshot(ENOUGH).await.unwrap();
    for _ in 0..10 {
        write(&opened, &mut numbers).await;
    }
    assert!(matches!(small.page(), Err(StoreError::Compacted)));
    let entries = rest(&mut large);
    import::<P>(entries, large.anchor(), large.revision());
    opened.assert_sums_agree().await;

    // What was read is not kept: any number of writes fits behind it.
    let mut small = opened.store.snapshot(2000).await.unwrap();
    let entries = rest(&mut small);
    for _ in 0..50 {
        write(&opened, &mut numbers).await;
    }
    assert!(small.page().unwrap().is_none());
    import::<P>(entries, small.anchor(), small.revision());
}

async fn what_is_no_snapshot_makes_no_store<P: Place>(place: P) {
    let opened = place.create();
    let mut numbers = Numbers(9);
    for _ in 0..20 {
        write(&opened, &mut numbers).await;
    }
    let mut snapshot = opened.store.snapshot(ENOUGH).await.unwrap();
    let entries = rest(&mut snapshot);
    let refused = Import::begin(&place.settings(), secrets()).err().unwrap();
    assert!(matches!(refused, StoreError::AlreadyInitialized(_) | StoreError::Locked { .. }));

    let altered = P::new();
    let mut import = Import::begin(&altered.settings(), secrets()).unwrap();
    for entry in entries.iter().skip(1) {
        import.put(entry.clone()).unwrap();
    }
    assert_ne!(import.anchor(), snapshot.anchor(), "an entry is missing");
    let mut first = entries[0].clone();
    *first.stored.last_mut().unwrap() ^= 1;
    import.put(first.clone()).unwrap();
    assert_ne!(import.anchor(), snapshot.anchor(), "an entry is altered");
    assert!(matches!(import.open_entry(&first), Err(StoreError::Corrupt(_))));
    import.put(entries[0].clone()).unwrap();
    assert_eq!(import.anchor(), snapshot.anchor(), "the right one in its place");
    for path in [&b""[..], b"\0state", b"\xff12345678"] {
        let no_record = RawEntry { path: path.to_vec(), stored: vec![0; 60] };
        assert!(matches!(import.put(no_record), Err(StoreError::Corrupt(_))));
    }
    assert!(import.put(RawEntry { path: vec![1], stored: vec![0; 7] }).is_err());
    let newest = import.newest();
    assert!(matches!(import.finish(newest - 1), Err(StoreError::Corrupt(_))));
    assert!(matches!(altered.refusal(), StoreError::NotInitialized(_) | StoreError::Corrupt(_)));
}
