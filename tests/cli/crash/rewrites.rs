//! The store is written anew after an erasure, and the process is killed while it is: the next start
//! serves from one whole store, the old or the new one, and nothing that was erased comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fieldseal_client::{Client, Failure, v1};

use super::load::field;
use crate::installation::Installation;
use crate::process::{PATIENCE, program, text};

/// Enough that a rewrite takes some time: several pages of the copy, several batches.
const DATA_KEYS: usize = 3_000;
const BATCH: usize = 1_000;
const KEY: &str = "customer-pii";
/// So many kills of each sort are wanted, and so many are tried at most.
const OF_EACH: u32 = 4;
const MOST: usize = 60;
/// The class of a data key's record: the first byte of its path.
const DATA_KEY: u8 = 5;

/// Where a rewrite was when the process died.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Caught {
    None,
    /// The new files do not count yet.
    Begun,
    /// They count, and the old ones are still there.
    Renamed,
}

impl Caught {
    /// By what is in the store's directory.
    pub(super) fn at(installation: &Installation) -> Self {
        let store = installation.home().join("state/store");
        let live = live(&store);
        let entries = std::fs::read_dir(&store).unwrap();
        // One may be removed while it is looked at.
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let names: Vec<String> = names.collect();
        let numbers = names.iter().filter_map(|name| number(name));
        let others: Vec<u64> = numbers.filter(|number| *number != live).collect();
        if others.iter().any(|other| *other > live) {
            Self::Begun
        } else if !others.is_empty() || (live > 0 && names.iter().any(|name| name == "db")) {
            Self::Renamed
        } else {
            Self::None
        }
    }
}

/// The number of the database that counts; 0 for the first.
fn live(store: &Path) -> u64 {
    let pointer = std::fs::read_to_string(store.join("live"));
    pointer.map_or(0, |name| number(name.trim_end()).unwrap())
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("live-")?.parse().ok()
}

fn partition(number: usize) -> String {
    format!("tenant-{number}")
}

fn plain(partition: &str) -> Option<v1::Value> {
    let kind = Some(v1::value::Kind::StringValue(format!("of {partition}")));
    Some(v1::Value { kind })
}

/// What is known of the values: each partition has one.
#[derive(Default)]
pub(super) struct Values(BTreeMap<String, Vec<u8>>);

impl Values {
    /// Seals one value in each of so many new partitions.
    pub(super) async fn fill(&mut self, client: &Client, partitions: usize) {
        let names: Vec<String> = (0..partitions).map(partition).collect();
        for names in names.chunks(BATCH) {
            let items = names.iter().map(|partition| v1::EncryptItem {
                partition: partition.clone(),
                plaintext: plain(partition),
                ..Default::default()
            });
            let request = v1::BatchEncryptRequest {
                fields: vec![field(KEY)],
                items: items.collect(),
                ..Default::default()
            };
            let answer = client.encryption().batch_encrypt(request).await.unwrap().into_inner();
            for (name, result) in names.iter().zip(answer.results) {
                let Some(v1::encrypt_result::Result::Ok(ok)) = result.result else {
                    panic!("{name}")
                };
                self.0.insert(name.clone(), ok.ciphertext.to_vec());
            }
        }
    }

    /// Every value opens, or is refused if its partition was shredded.
    pub(super) async fn check(&self, installation: &Installation, shredded: &BTreeSet<String>) {
        let mut client = installation.client("app").await.encryption();
        let values: Vec<_> = self.0.iter().collect();
        for some in values.chunks(BATCH) {
            let items = some.iter().map(|(partition, ciphertext)| v1::DecryptItem {
                partition: (*partition).clone(),
                ciphertext: (*ciphertext).clone().into(),
                ..Default::default()
            });
            let (fields, items) = (vec![field(KEY)], items.collect());
            let request = v1::BatchDecryptRequest { fields, items, reason: None };
            let answer = client.batch_decrypt(request).await.unwrap().into_inner();
            for ((partition, _), result) in some.iter().zip(answer.results) {
                use v1::decrypt_result::Result::{Error, Ok};
                match result.result.unwrap() {
                    Ok(opened) => {
                        assert!(!shredded.contains(*partition), "{partition} has come back");
                        assert_eq!(opened.plaintext, plain(partition));
                    }
                    Error(status) => {
                        let failure = Failure::from(&status);
                        assert_eq!(failure.reason(), "PARTITION_SHREDDED", "{partition}");
                        assert!(shredded.contains(*partition), "{partition} is lost");
                    }
                }
            }
        }
    }
}

/// Seals values in new partitions until the sidecar is gone; those that were acknowledged.
async fn seal_on(client: Client, round: usize) -> Vec<(String, Vec<u8>)> {
    let mut sealed = Vec::new();
    loop {
        let partition = format!("new-{round}-{}", sealed.len());
        let request = v1::EncryptRequest {
            field: Some(field(KEY)),
            partition: partition.clone(),
            plaintext: plain(&partition),
            ..Default::default()
        };
        match client.encryption().encrypt(request).await {
            Ok(answer) => sealed.push((partition, answer.into_inner().ciphertext.to_vec())),
            Err(_) => return sealed,
        }
    }
}

/// Waits until a rewrite has come so far, and then as many looks more. One that was over before it was
/// seen is not waited for.
fn until(installation: &Installation, from: u64, wanted: Caught, more: usize) {
    let (store, began) = (installation.home().join("state/store"), Instant::now());
    while Caught::at(installation) < wanted {
        if live(&store) > from && Caught::at(installation) == Caught::None {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the store is not written anew");
    }
    for _ in 0..more {
        if Caught::at(installation) != wanted {
            return;
        }
    }
}

/// Every record of a generation: its path, and what is stored there behind the revision.
fn entries(file: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let bytes = std::fs::read(file).unwrap();
    let length = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    // Behind the header and its checksum; each frame has one, too.
    let (mut at, mut found) = (8 + 16 + 8 + 32 + 8 + 4, BTreeMap::new());
    while length(at) > 0 {
        let end = at + 4 + length(at);
        at += 4;
        while at < end {
            let path = at + 4..at + 4 + length(at);
            let stored = path.end + 4..path.end + 4 + length(path.end);
            at = stored.end;
            found.insert(bytes[path].to_vec(), bytes[stored][8..].to_vec());
        }
        at = end + 4;
    }
    found
}

/// Every record of the newest generation.
fn newest_generation(installation: &Installation) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let generations = std::fs::read_dir(installation.home().join("state/generations")).unwrap();
    let numbers = generations.map(|entry| entry.unwrap().path());
    let number = |path: &PathBuf| -> Option<u64> {
        path.file_name()?.to_str()?.strip_prefix("gen-")?.parse().ok()
    };
    entries(&numbers.max_by_key(number).unwrap())
}

/// How many of these are somewhere in the files below.
fn in_the_files(directory: &Path, stored: &[&Vec<u8>]) -> usize {
    let (mut directories, mut files) = (vec![directory.to_owned()], Vec::new());
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => files.push(std::fs::read(entry.path()).unwrap()),
            }
        }
    }
    let is_there = |stored: &&&Vec<u8>| {
        files.iter().any(|file| memchr::memmem::find(file, &stored[..32]).is_some())
    };
    stored.iter().filter(is_there).count()
}

/// A whole generation of everything: the next start makes it, because there is none.
fn with_a_generation(installation: &mut Installation) {
    assert_eq!(installation.stop(), 0);
    std::fs::remove_dir_all(installation.home().join("state/generations")).unwrap();
    installation.serve();
    let whole = installation.home().join("state/generations/gen-1");
    let (_, lines) = installation.sidecar.as_mut().unwrap();
    lines.until(|| whole.exists().then_some(()));
}

/// Shreds a partition without a window, and kills the sidecar at some moment of the rewrite.
async fn round(installation: &mut Installation, number: usize, values: &mut Values) -> Caught {
    let from = live(&installation.home().join("state/store"));
    let sealing = tokio::spawn(seal_on(installation.client("app").await, number));
    let request = v1::ShredPartitionRequest {
        name: format!("keys/{KEY}"),
        partition: partition(number),
        window: Some(Default::default()),
        ..Default::default()
    };
    installation.client("ops").await.keys().shred_partition(request).await.unwrap();
    let wanted = if number.is_multiple_of(2) { Caught::Begun } else { Caught::Renamed };
    until(installation, from, wanted, number / 2 * 7 % 40);
    installation.sidecar.take().unwrap().0.kill();
    let caught = Caught::at(installation);
    let sealed = sealing.await.unwrap();
    values.0.extend(sealed);
    installation.serve();
    caught
}

/// Waits for the receipts: then nothing of what was erased is in the files.
async fn receipts(installation: &Installation, shredded: &BTreeSet<String>) {
    let mut client = installation.client("ops").await.keys();
    let began = Instant::now();
    for partition in shredded {
        loop {
            let (name, partition) = (format!("keys/{KEY}"), partition.clone());
            let request = v1::GetPartitionRequest { name, partition };
            let shown = client.get_partition(request).await.unwrap().into_inner();
            if !shown.shred_receipt.is_empty() {
                let partition = shown.partition.unwrap();
                assert_eq!(partition.state(), v1::PartitionState::Erased);
                assert_eq!((partition.data_keys, partition.erased_data_keys), (0, 1));
                break;
            }
            assert!(began.elapsed() < PATIENCE * 2, "{:?} is not erased", shown.partition);
            tokio::task::yield_now().await;
        }
    }
}

#[test]
fn a_rewrite_that_is_killed_leaves_one_whole_store_and_what_was_erased_stays_gone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut installation = Installation::new();
    installation.set("shred_window_least_hours = 24", "shred_window_least_hours = 0");
    installation.serve();
    installation.ok("ops", &["key", "create", KEY], b"");
    let (mut values, mut shredded) = (Values::default(), BTreeSet::new());
    runtime.block_on(async { values.fill(&installation.client("app").await, DATA_KEYS).await });
    with_a_generation(&mut installation);
    let before = newest_generation(&installation);
    assert!(before.keys().filter(|path| path[0] == DATA_KEY).count() == DATA_KEYS);
    let (mut begun, mut renamed) = (0, 0);
    for number in 0..MOST {
        if begun >= OF_EACH && renamed >= OF_EACH {
            break;
        }
        let caught = runtime.block_on(round(&mut installation, number, &mut values));
        begun += u32::from(caught == Caught::Begun);
        renamed += u32::from(caught == Caught::Renamed);
        shredded.insert(partition(number));
        runtime.block_on(values.check(&installation, &shredded));
    }
    let report = format!(
        "killed while the store was written anew: {begun} before the new files counted, {renamed} \
         after, of {} kills; {} values were acknowledged meanwhile",
        shredded.len(),
        values.0.len() - DATA_KEYS,
    );
    // Past the test harness, which keeps to itself what a test that passed has printed.
    writeln!(std::io::stderr(), "{report}").unwrap();
    assert!(begun >= OF_EACH && renamed >= OF_EACH && values.0.len() > DATA_KEYS, "{report}");
    runtime.block_on(receipts(&installation, &shredded));
    let after = newest_generation(&installation);
    let gone = before.iter().filter(|(path, _)| path[0] == DATA_KEY && !after.contains_key(*path));
    let gone: Vec<_> = gone.map(|(_, stored)| stored).collect();
    assert_eq!(gone.len(), shredded.len(), "those that were erased, and no others");
    // Once more, when nothing goes on.
    installation.sidecar.take().unwrap().0.kill();
    installation.serve();
    runtime.block_on(values.check(&installation, &shredded));
    assert_eq!(installation.stop(), 0);
    let state = installation.home().join("state");
    assert_eq!(in_the_files(&state, &gone), 0, "what was erased is in the files");
    let others = before.iter().filter(|(path, stored)| {
        path[0] == DATA_KEY && after.get(*path).is_some_and(|still| still == *stored)
    });
    let others: Vec<_> = others.map(|(_, stored)| stored).take(3).collect();
    assert_eq!(in_the_files(&state, &others), others.len(), "the search finds what is there");
    let mut doctor = program();
    doctor.arg("doctor").arg("--config").arg(installation.config());
    let seen = doctor.output().unwrap();
    assert!(seen.status.success(), "{}\n{}", text(&seen.stdout), text(&seen.stderr));
}
