//! What is true of sled's files: nothing in clear, for their owner alone, and damage is a clear
//! error.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fieldseal_store::{BackendSettings, Health, Settings, Store, StoreError, Sums, TxnError};
use tokio::sync::mpsc;

use crate::place::{OnSled, Place, secrets, txn};

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[tokio::test]
async fn no_name_and_no_value_stands_in_the_files() {
    let place = OnSled::new();
    let opened = place.create();
    let names = ["customer-pii", "tenant-of-somebody", "a-row-of-theirs"];
    for n in 0..50 {
        let path = opened.path(&[names[0], names[1], &format!("{}-{n}", names[2])]);
        opened.put(&path, "the-value-of-this-record").await;
    }
    opened.close().await;
    let mut scanned = 0;
    for file in files(&place.directory()) {
        let bytes = fs::read(&file).unwrap();
        scanned += bytes.len();
        for secret in names.iter().chain(&["the-value-of-this-record"]) {
            assert!(!contains(&bytes, secret), "{secret} in {}", file.display());
        }
    }
    // The scan finds what is there: the class and the format's own name are in clear.
    assert!(scanned > 50 * 100, "{scanned} bytes");
    let db = fs::read(place.directory().join("db")).unwrap();
    assert!(contains(&db, "format"));
}

#[tokio::test]
async fn the_files_belong_to_their_owner_alone() {
    let place = OnSled::new();
    place.create().close().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.directory()), 0o700);
    assert_eq!(mode(&place.directory().join("db")), 0o600);
    assert_eq!(mode(&place.directory().join("lock")), 0o600);
}

#[tokio::test]
async fn a_store_whose_files_are_gone_or_replaced_refuses_until_they_are_back() {
    let place = OnSled::new();
    let opened = place.create();
    let (path, away) = (opened.path(&["a"]), place.directory().with_extension("away"));
    opened.put(&path, "one").await;
    let refused = || opened.store.txn(txn().put(path.clone(), b"two".to_vec()));
    for replaced in [false, true] {
        fs::rename(place.directory(), &away).unwrap();
        if replaced {
            copy(&away, &place.directory());
        }
        assert_eq!(opened.store.health(), Health::Missing);
        let refused = refused().await;
        assert!(matches!(refused, Err(TxnError::Missing)), "{refused:?}");
        assert_eq!(opened.value(&path).await.as_deref(), Some("one"), "reads go on");
        if replaced {
            fs::remove_dir_all(place.directory()).unwrap();
        }
        fs::rename(&away, place.directory()).unwrap();
        assert_eq!(opened.store.health(), Health::Ok);
        opened.put(&path, "one").await;
    }
    opened.close().await;
    let opened = place.open();
    assert_eq!(opened.value(&path).await.as_deref(), Some("one"));
    opened.assert_sums_agree().await;
}

#[tokio::test]
async fn a_snapshot_that_was_never_finished_is_no_damage() {
    let place = OnSled::new();
    let opened = place.create();
    let path = opened.path(&["a"]);
    opened.put(&path, "one").await;
    opened.close().await;
    for unfinished in [&b""[..], b"half a snapshot"] {
        let name = place.directory().join("snap.00000000FFFFFFFF.generating");
        fs::write(&name, unfinished).unwrap();
        let opened = place.open();
        assert_eq!(opened.value(&path).await.as_deref(), Some("one"));
        assert!(!name.exists());
        opened.close().await;
    }
}

/// Opens a store in a directory on a thread that may take a minute at most.
async fn open_within_a_minute(directory: PathBuf) -> Result<Store, StoreError> {
    let opening = tokio::task::spawn_blocking(move || {
        let backend = BackendSettings::Sled(directory);
        let settings = Settings { reserve_bytes: 0, ..Settings::on(backend) };
        Store::open(settings, secrets(), mpsc::unbounded_channel().0)
    });
    let opened = tokio::time::timeout(Duration::from_secs(60), opening).await;
    opened.expect("opening hangs").expect("opening panicked")
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}

/// What became of a damaged store.
#[derive(Debug, Default)]
struct Outcomes {
    refused: usize,
    refused_records: usize,
    found_by_the_sum: usize,
    gone_back: usize,
    unharmed: usize,
}

/// Opens a copy of the store with one file changed, and reads everything.
async fn damage(
    place: &OnSled,
    file: &str,
    change: impl FnOnce(&mut Vec<u8>),
    right: &Right,
    outcomes: &mut Outcomes,
) {
    let damaged = tempfile::tempdir().unwrap();
    copy(&place.directory(), damaged.path());
    let file = damaged.path().join(file);
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(&file, bytes).unwrap();
    let store = match open_within_a_minute(damaged.path().to_owned()).await {
        Ok(store) => store,
        Err(StoreError::Corrupt(_)) => return outcomes.refused += 1,
        Err(other) => panic!("neither opened nor corrupt: {other}"),
    };
    let mut intact = true;
    for path in &right.paths {
        match store.get(path).await {
            Ok(found) => intact &= found.is_some_and(|v| v.value.as_slice() == VALUE),
            Err(StoreError::Corrupt(_)) => return outcomes.refused_records += 1,
            Err(other) => panic!("neither read nor corrupt: {other}"),
        }
    }
    match store.recount().await {
        Err(StoreError::Corrupt(_)) => outcomes.refused_records += 1,
        Err(other) => panic!("neither read nor corrupt: {other}"),
        Ok(sums) if sums.kept != sums.counted => outcomes.found_by_the_sum += 1,
        // The audit log remembers the right sum.
        Ok(sums) if sums != right.sums => outcomes.gone_back += 1,
        Ok(_) => {
            assert!(intact, "a record changed and nothing shows it");
            outcomes.unharmed += 1;
        }
    }
}

const VALUE: &[u8] = &[1; 4096];

/// What a store holds that was not damaged.
struct Right {
    paths: Vec<fieldseal_store::Path>,
    sums: Sums,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_are_an_error_or_found_by_the_sum_and_never_a_panic() {
    let place = OnSled::new();
    place.create().close().await;
    let mut paths = Vec::new();
    // Several segments of sled's log, written by several runs.
    for run in 0..3 {
        let opened = place.open();
        for group in 0..5 {
            let made: Vec<_> =
                (0..20).map(|n| opened.path(&[&format!("{run}/{group}/{n}")])).collect();
            let changes =
                made.iter().fold(txn(), |txn, path| txn.put(path.clone(), VALUE.to_vec()));
            opened.store.txn(changes).await.unwrap();
            paths.extend(made);
        }
        opened.close().await;
    }
    let opened = place.open();
    let right = Right { paths, sums: opened.store.recount().await.unwrap() };
    opened.close().await;

    let mut outcomes = Outcomes::default();
    damage(&place, "db", |_| {}, &right, &mut outcomes).await;
    assert_eq!(outcomes.unharmed, 1, "the copy itself is whole");
    const FLIPS: usize = 32;
    for flip in 0..FLIPS {
        // Spread over everything that is not empty; every bit has its turn.
        let change = |bytes: &mut Vec<u8>| {
            let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            bytes[used[flip * used.len() / FLIPS]] ^= 1 << (flip % 8);
        };
        damage(&place, "db", change, &right, &mut outcomes).await;
    }
    for file in files(&place.directory()) {
        let file = file.strip_prefix(place.directory()).unwrap().to_str().unwrap().to_owned();
        if file != "lock" {
            damage(&place, &file, |bytes| bytes.truncate(bytes.len() / 2), &right, &mut outcomes)
                .await;
            damage(&place, &file, |bytes| bytes[0] ^= 1, &right, &mut outcomes).await;
        }
    }
    let harmed = outcomes.refused
        + outcomes.refused_records
        + outcomes.found_by_the_sum
        + outcomes.gone_back;
    assert!(harmed > 0 && outcomes.refused > 0, "{outcomes:?}");
}

#[tokio::test]
async fn a_file_of_noise_is_a_clear_error() {
    let place = OnSled::new();
    place.create().close().await;
    for noise in [vec![0xa5; 600 * 1024], b"not a database".to_vec()] {
        let damaged = tempfile::tempdir().unwrap();
        copy(&place.directory(), damaged.path());
        fs::write(damaged.path().join("db"), noise).unwrap();
        let refused = open_within_a_minute(damaged.path().to_owned()).await.err().unwrap();
        assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
        assert!(refused.to_string().starts_with("the store is damaged: "), "{refused}");
    }
}
