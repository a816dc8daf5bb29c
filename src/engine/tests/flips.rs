//! A bit that flips on the disk is never silent: it is found when the installation is opened or by
//! the scrub, or it stands where nothing is read. That last is not assumed: every record is compared.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fieldseal_crypto::ServiceKeyKind;
use fieldseal_crypto::record::{AnchorKey, PathKey, StorageKey};
use fieldseal_engine::{CopyTarget, Installation};
use fieldseal_keys::anchor;
use fieldseal_keys::keyring::{self, FileProvider, Keyring, KeyringError};
use fieldseal_keys::{PartitionChange, scrub};
use fieldseal_model::{AccessReason, KeyName, Partition};
use fieldseal_store::{
    BackendSettings, CopyError, CopyPart, CopyReader, Generations, Health, RawEntry, Secrets,
    Settings, Store, StoreError,
};
use kit::{Place, caller, change, copy, seal};
use tokio::sync::mpsc;

/// How many there are, unless this variable says another number; `tests/foreign/run` has all 2,000.
const FLIPS: &str = "FIELDSEAL_BIT_FLIPS";
const SHARE: usize = 200;
/// Tells the other process where the installation is and where it goes on.
const PLACE: &str = "FIELDSEAL_TEST_FLIPS_PLACE";
const FROM: &str = "FIELDSEAL_TEST_FLIPS_FROM";

fn flips() -> usize {
    std::env::var(FLIPS).map_or(SHARE, |number| number.parse().unwrap())
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn of(seed: usize) -> Self {
        let mut numbers = Self(0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1));
        for _ in 0..8 {
            numbers.below(2);
        }
        numbers
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// An installation that was used in several runs, in a directory: it is stopped.
async fn prepare() -> Place {
    let (place, engine) = Place::with_key().await;
    engine.stop().await.unwrap();
    drop(engine);
    for run in 0..4 {
        let engine = place.start().await;
        for tenant in 0..12 {
            seal(&engine, &format!("t{run}-{tenant}"), "1", "x").await.unwrap();
        }
        seal(&engine, "t0-0", "1", "x").await.unwrap();
        engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
        engine.make_generation().await.unwrap();
        engine.stop().await.unwrap();
    }
    // What was erased has left its files: the store was written anew. And it has a copy.
    std::fs::create_dir(place.path("copy")).unwrap();
    let copy = Some(CopyTarget::Directory(place.path("copy")));
    let settings = fieldseal_engine::Settings { copy, ..place.settings() };
    let installation = Installation::new(settings, place.keyring());
    let engine = installation.start(place.clock.clone()).await.unwrap();
    let shredded = PartitionChange {
        key: KeyName::parse("pii").unwrap(),
        partition: Partition::parse("t3-1").unwrap(),
        default_partition: false,
        window: None,
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    };
    engine.shred_partition(&caller("ops"), shredded).await.unwrap();
    place.clock.advance(Duration::from_secs(8 * 24 * 3600));
    engine.run_due().await;
    assert!(place.path("store/live").exists());
    for tenant in 0..12 {
        seal(&engine, &format!("t4-{tenant}"), "1", "x").await.unwrap();
        engine.make_generation().await.unwrap();
    }
    engine.stop().await.unwrap();
    place
}

fn opened_keyring(place: &Path) -> Result<Keyring, KeyringError> {
    let provider = FileProvider::open(&place.join("root.key"), &place.join("state"), false)?;
    keyring::open(&place.join("keyring.json"), &provider)
}

fn secrets(keyring: &Keyring) -> Secrets {
    Secrets {
        installation: keyring.installation(),
        storage: StorageKey::new(keyring.service(ServiceKeyKind::Storage).unwrap()),
        path: PathKey::new(keyring.service(ServiceKeyKind::Path).unwrap()),
        anchor: AnchorKey::new(keyring.service(ServiceKeyKind::Anchor).unwrap()),
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.file_name() != "lock" {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Flips one bit of one of the files: seven times of eight where something stands, otherwise
/// anywhere.
fn flip(files: &[PathBuf], numbers: &mut Numbers) {
    let not_empty: Vec<_> = files.iter().filter(|f| f.metadata().unwrap().len() > 0).collect();
    // By size: the database is most of it.
    let sizes = not_empty.iter().map(|f| f.metadata().unwrap().len() as usize);
    let mut at = numbers.below(sizes.clone().sum());
    let file = not_empty.iter().zip(sizes).find_map(|(file, size)| {
        let here = at < size;
        at = at.saturating_sub(size);
        here.then_some(file)
    });
    let file = file.unwrap();
    let mut bytes = std::fs::read(file).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let at = match numbers.below(8) {
        0 => numbers.below(bytes.len()),
        _ if used.is_empty() => 0,
        _ => used[numbers.below(used.len())],
    };
    bytes[at] ^= 1 << numbers.below(8);
    std::fs::write(file, bytes).unwrap();
}

/// What an installation is that nothing happened to.
struct Right {
    keyring: Arc<Keyring>,
    log: Option<fieldseal_audit::LastChange>,
    entries: Vec<RawEntry>,
}

impl Right {
    fn position(&self) -> Option<(u64, [u8; 32])> {
        self.log.map(|log| (log.revision, log.anchor))
    }
}

/// How a flip was found.
type How = &'static str;
const NOTHING_READS_IT: How = "nothing reads it";

async fn store_flip(place: &Path, right: &Right, numbers: &mut Numbers) -> How {
    let copied = tempfile::tempdir().unwrap();
    let store = copied.path().join("store");
    copy(&place.join("store"), &store);
    flip(&files(&store), numbers);
    let backend = BackendSettings::Sled(store);
    let settings = Settings { reserve_bytes: 0, ..Settings::on(backend) };
    let secrets = secrets(&right.keyring);
    let opening = tokio::task::spawn_blocking(move || {
        Store::open(settings, secrets, mpsc::unbounded_channel().0)
    });
    let store = match opening.await.expect("opening panicked") {
        Ok(store) => store,
        Err(
            StoreError::Corrupt(_) | StoreError::FormatNewer { .. } | StoreError::NotInitialized(_),
        ) => return "refused",
        Err(other) => panic!("neither opened nor corrupt: {other}"),
    };
    let how = look(&store, right).await;
    // A thread of the database that is gone is gone for the whole process.
    let damaged = matches!(store.health(), Health::Damaged(_));
    store.close().await;
    if damaged && how == NOTHING_READS_IT { "database" } else { how }
}

async fn look(store: &Store, right: &Right) -> How {
    let outbox = match store.outbox().await {
        Ok(outbox) => outbox,
        Err(StoreError::Corrupt(_)) => return "read",
        Err(other) => panic!("{other}"),
    };
    if anchor::compare(store.opened_position(), &outbox, right.log).is_err() {
        return "anchor";
    }
    match scrub(store, &right.keyring, 0).await {
        Ok(report) if report.findings() > 0 => return "scrub",
        Ok(_) => {}
        Err(StoreError::Corrupt(_) | StoreError::Io(_)) => return "read",
        Err(other) => panic!("{other}"),
    }
    assert!(entries(store).await == right.entries, "a record changed and nothing shows it");
    NOTHING_READS_IT
}

async fn entries(store: &Store) -> Vec<RawEntry> {
    let mut snapshot = store.snapshot(1024 * 1024).await.unwrap();
    std::iter::from_fn(|| snapshot.page().unwrap()).flatten().collect()
}

fn keyring_flip(place: &Path, numbers: &mut Numbers) -> How {
    let copied = tempfile::tempdir().unwrap();
    for name in ["keyring.json", "root.key"] {
        std::fs::copy(place.join(name), copied.path().join(name)).unwrap();
    }
    flip(&[copied.path().join("keyring.json")], numbers);
    match opened_keyring(copied.path()) {
        Err(_) => "keyring",
        Ok(_) => panic!("a keyring with a flipped bit opens"),
    }
}

fn generation_flip(place: &Path, right: &Right, numbers: &mut Numbers) -> How {
    let copied = tempfile::tempdir().unwrap();
    let all = Generations::new(copied.path().join("generations"));
    copy(&place.join("generations"), &copied.path().join("generations"));
    flip(&files(&copied.path().join("generations")), numbers);
    let secrets = secrets(&right.keyring);
    let of = all.numbers().unwrap();
    assert_eq!(of.len(), 3);
    let damaged = of.iter().filter(|of| match all.read(**of, &secrets, |_| Ok(())) {
        Ok(_) => false,
        Err(StoreError::Corrupt(_)) => true,
        Err(other) => panic!("{other}"),
    });
    assert_eq!(damaged.count(), 1, "the one with the flipped bit");
    "generation"
}

/// As whoever restores it reads it: the store, as far as it came.
fn copy_flip(place: &Path, right: &Right, numbers: &mut Numbers) -> How {
    let copied = tempfile::tempdir().unwrap();
    copy(&place.join("copy"), &copied.path().join("copy"));
    flip(&files(&copied.path().join("copy")), numbers);
    match read_copy(&copied.path().join("copy"), right) {
        Err(CopyError::Altered { .. } | CopyError::Foreign { .. }) => "copy",
        Err(other) => panic!("{other}"),
        // It ends before the log does: whoever restores it is told.
        Ok((position, _)) if Some(position) != right.position() => "copy",
        Ok((_, entries)) => {
            assert!(entries == right.entries, "a record of the copy changed and nothing shows it");
            NOTHING_READS_IT
        }
    }
}

/// Where a copy ends, and every record of it.
type Copied = ((u64, [u8; 32]), Vec<RawEntry>);

fn read_copy(place: &Path, right: &Right) -> Result<Copied, CopyError> {
    let mut reader = CopyReader::open(place)?;
    let found = reader.owner().installation;
    if found != right.keyring.installation() {
        let (place, found) = (String::new(), found.to_string());
        return Err(CopyError::Foreign { place, found, expected: String::new() });
    }
    let (mut all, mut position) = (BTreeMap::new(), (0, [0; 32]));
    while let Some(part) = reader.part()? {
        match part {
            CopyPart::Base(entries) => {
                all.extend(entries.into_iter().map(|entry| (entry.path, entry.stored)));
            }
            CopyPart::BaseEnd { revision, anchor } => position = (revision, anchor),
            CopyPart::Group { revision, anchor, writes } => {
                position = (revision, anchor);
                for (path, stored) in writes {
                    match stored {
                        Some(stored) => all.insert(path, stored),
                        None => all.remove(&path),
                    };
                }
            }
        }
    }
    let entries = all.into_iter().map(|(path, stored)| RawEntry { path, stored });
    Ok((position, entries.filter(|entry| !entry.is_event()).collect()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other process of the test below, not a test"]
async fn the_other_process() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let place = PathBuf::from(place);
    let from: usize = std::env::var(FROM).unwrap().parse().unwrap();
    let keyring = Arc::new(opened_keyring(&place).unwrap());
    let copied = tempfile::tempdir().unwrap();
    copy(&place.join("store"), &copied.path().join("store"));
    let backend = BackendSettings::Sled(copied.path().join("store"));
    let settings = Settings { reserve_bytes: 0, ..Settings::on(backend) };
    let store = Store::open(settings, secrets(&keyring), mpsc::unbounded_channel().0).unwrap();
    let position = store.opened_position();
    let (revision, anchor) = (position.revision, position.anchor);
    let log = Some(fieldseal_audit::LastChange { revision, anchor, index: 0 });
    let right = Right { keyring, log, entries: entries(&store).await };
    assert!(right.entries.len() > 100);
    // What nothing happened to is whole.
    assert_eq!(look(&store, &right).await, NOTHING_READS_IT);
    let (position, copied) = read_copy(&place.join("copy"), &right).unwrap();
    assert!(Some(position) == right.position() && copied == right.entries);
    store.close().await;
    for number in from..flips() {
        let mut numbers = Numbers::of(number);
        let how = match numbers.below(10) {
            0 => keyring_flip(&place, &mut numbers),
            1 => generation_flip(&place, &right, &mut numbers),
            2 => copy_flip(&place, &right, &mut numbers),
            _ => store_flip(&place, &right, &mut numbers).await,
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nflip {number} {how}").unwrap();
        out.flush().unwrap();
        if how == "database" {
            return;
        }
    }
}

/// In processes of their own: one in which a thread of the database died is damaged for good.
#[tokio::test]
async fn no_flipped_bit_is_silent() {
    let place = prepare().await;
    let (mut done, mut found) = (0, BTreeMap::<String, usize>::new());
    while done < flips() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_other_process", "--ignored", "--nocapture"]);
        command.env(PLACE, place.dir.path()).env(FROM, done.to_string());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let before = done;
        for line in said.lines().filter_map(|line| line.strip_prefix("flip ")) {
            let (number, how) = line.split_once(' ').unwrap();
            assert_eq!(number, done.to_string());
            *found.entry(how.to_owned()).or_default() += 1;
            done += 1;
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(done > before, "nothing was done from {done} on: {said}\n{errors}");
        assert!(output.status.success(), "flip {done}: {errors}");
    }
    writeln!(std::io::stdout(), "{done} flips: {found:?}").unwrap();
    assert_eq!(found.values().sum::<usize>(), flips());
    let harmless = found.get(NOTHING_READS_IT).copied().unwrap_or_default();
    assert!(harmless < flips() / 2, "most hit what is read: {found:?}");
    for how in ["refused", "keyring", "generation", "copy"] {
        assert!(found.contains_key(how), "{how}: {found:?}");
    }
}
