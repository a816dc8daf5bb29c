//! One process at a time on a directory, and a process that is killed at work.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use fieldseal_store::{BackendSettings, Health, Settings, Store, StoreError};
use tokio::sync::mpsc;

use crate::place::{KEYS, OnSled, Place, secrets, txn};

/// Tells the other process what to do, and where.
const ROLE: &str = "FIELDSEAL_TEST_STORE_ROLE";
const DIRECTORY: &str = "FIELDSEAL_TEST_STORE_DIRECTORY";

/// This program again, as another process that does only `the_other_process`.
fn other_process(role: &str, place: &OnSled) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sled_process::the_other_process", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env(DIRECTORY, place.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The line before may be the test harness's own, unfinished.
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other process of the tests below, not a test"]
async fn the_other_process() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let backend = BackendSettings::Sled(PathBuf::from(directory));
    let settings = Settings { reserve_bytes: 0, ..Settings::on(backend) };
    let store = Store::open(settings, secrets(), mpsc::unbounded_channel().0).unwrap();
    match std::env::var(ROLE).unwrap().as_str() {
        "write" => {
            for writer in 0..4 {
                tokio::spawn(write_for_ever(store.clone(), writer));
            }
        }
        "lose a thread" => return lose_a_thread(store).await,
        _ => say("open"),
    }
    // Until the test lets go, or ends.
    let waiting = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    waiting.await.unwrap().unwrap();
}

/// One of sled's own threads dies.
async fn lose_a_thread(store: Store) {
    assert_eq!(store.health(), Health::Ok);
    let damaged = tokio::spawn({
        let store = store.clone();
        async move { store.damaged().await }
    });
    let dying = std::thread::Builder::new().name("sled-io-99".to_owned());
    assert!(dying.spawn(|| panic!("a fault on demand")).unwrap().join().is_err());
    damaged.await.unwrap();
    assert!(matches!(store.health(), Health::Damaged(_)), "{:?}", store.health());
    // Whether the committer still answers or waits for ever: nobody waits for it.
    store.close().await;
    say("damaged and closed");
}

async fn write_for_ever(store: Store, writer: u32) {
    for n in 0_u32.. {
        let revision = store.txn(pair(&store, writer, n)).await.unwrap();
        say(&format!("wrote {writer} {n} {revision}"));
    }
}

fn paths(store: &Store, writer: u32, n: u32) -> [fieldseal_store::Path; 2] {
    ["left", "right"]
        .map(|side| store.path(KEYS, &[side.as_bytes(), &writer.to_le_bytes(), &n.to_le_bytes()]))
}

fn pair(store: &Store, writer: u32, n: u32) -> fieldseal_store::Txn {
    let paths = paths(store, writer, n);
    paths.into_iter().fold(txn(), |txn, path| txn.put(path, n.to_le_bytes().to_vec()))
}

#[tokio::test]
async fn a_second_handle_is_refused_and_names_the_process() {
    let place = OnSled::new();
    let opened = place.create();
    let refused = place.refusal();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    // A clone holds on to it, a closed store too, as long as it reads.
    let clone = opened.store.clone();
    opened.close().await;
    assert!(matches!(place.refusal(), StoreError::Locked { .. }));
    drop(clone);
    place.open();
}

#[tokio::test]
async fn a_store_that_is_only_forgotten_finishes_and_frees_its_directory() {
    let place = OnSled::new();
    let opened = place.create();
    let path = opened.path(&["a"]);
    let store = opened.store.clone();
    let mut writing = Box::pin(store.txn(txn().put(path.clone(), b"one".to_vec())));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(writing.as_mut().poll(cx))).await;
    assert!(polled.is_pending() || matches!(polled, std::task::Poll::Ready(Ok(_))));
    drop(writing);
    drop(store);
    drop(opened);
    // Its committer finishes what was begun, and the directory is locked until then.
    let opened = loop {
        match place.try_open() {
            Ok(opened) => break opened,
            Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(opened.value(&path).await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_second_process_is_refused_and_the_first_is_named() {
    let place = OnSled::new();
    place.create().close().await;
    let mut other = other_process("hold", &place);
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"), "the other process did not open it");
    let refused = place.refusal();
    assert!(
        matches!(&refused, StoreError::Locked { holder, .. } if *holder == other.id().to_string())
    );
    assert!(refused.to_string().contains(&format!("process {}", other.id())), "{refused}");
    assert!(matches!(place.try_create().err(), Some(StoreError::AlreadyInitialized(_))));
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    place.open();
}

#[tokio::test]
async fn a_thread_of_the_database_that_dies_damages_the_store_and_keeps_nobody_waiting() {
    let place = OnSled::new();
    place.create().close().await;
    let output = other_process("lose a thread", &place).wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("\ndamaged and closed\n"));
    place.open();
}

#[tokio::test]
async fn a_killed_process_keeps_every_acknowledged_write() {
    let place = OnSled::new();
    place.create().close().await;
    let mut acknowledged: Vec<[u64; 3]> = Vec::new();
    for round in 1..=3 {
        let mut other = other_process("write", &place);
        let mut seen = Vec::new();
        for line in BufReader::new(other.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(numbers) = line.strip_prefix("wrote ") {
                let numbers: Vec<u64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
                seen.push([numbers[0], numbers[1], numbers[2]]);
            }
            // Whatever it still said before it died counts too.
            if seen.len() == 60 * round {
                other.kill().unwrap();
            }
        }
        assert!(!other.wait().unwrap().success());
        assert!(seen.len() >= 60 * round);
        // A later round writes the same paths again.
        acknowledged.retain(|[w, n, _]| !seen.iter().any(|[w2, n2, _]| (w, n) == (w2, n2)));
        acknowledged.extend(seen);
        check_after_kill(&place, &acknowledged).await;
    }
}

async fn check_after_kill(place: &OnSled, acknowledged: &[[u64; 3]]) {
    // The lock of a killed process is gone with it.
    let opened = place.open();
    opened.assert_sums_agree().await;
    for &[writer, n, revision] in acknowledged {
        let (writer, n) = (writer as u32, n as u32);
        let [left, right] = paths(&opened.store, writer, n);
        let left = opened.store.get(&left).await.unwrap().expect("an acknowledged write");
        assert!(left.revision >= revision, "{} after {revision}", left.revision);
        assert_eq!(left.value.as_slice(), n.to_le_bytes());
        assert_eq!(opened.revision(&right).await, Some(left.revision), "both or neither");
    }
    let outbox = opened.store.outbox().await.unwrap();
    let waiting: std::collections::BTreeSet<u64> = outbox.iter().map(|e| e.revision).collect();
    assert!(acknowledged.iter().all(|[_, _, revision]| waiting.contains(revision)));
    opened.close().await;
}
