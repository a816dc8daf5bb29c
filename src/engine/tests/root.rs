//! The root key of a stopped installation: a rotation that is killed at every step, and a drill.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod kit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fieldseal_audit::{Kind, Outcome};
use fieldseal_engine::AuditQuery;
use fieldseal_engine::offline::root::{self, Move, RootOpener, RotationStep, Task};
use fieldseal_keys::keyring::{self, FileProvider, Keyring};
use fieldseal_model::{Action, Principal, SystemClock};
use kit::{Place, caller, change, events, found, open, seal, stored, why};
use rustix::process::{Signal, getpid, kill_process};

/// Tells the other process where the installation is, and before which step it ends.
const DIRECTORY: &str = "FIELDSEAL_TEST_ROOT_DIRECTORY";
const STEP: &str = "FIELDSEAL_TEST_ROOT_STEP";

/// The kind of a key version's record.
const VERSION: u8 = 3;
/// Key versions of the installation: three of `pii`, one of `other`.
const VERSIONS: u64 = 4;

fn provider(dir: &Path) -> Arc<FileProvider> {
    Arc::new(FileProvider::open(&dir.join("root.key"), &dir.join("state"), false).unwrap())
}

fn task(dir: &Path, keyring: Keyring) -> Task {
    Task {
        settings: Place::settings_in(dir),
        keyring,
        clock: Arc::new(SystemClock),
        principal: Principal::parse("local:1000").unwrap(),
    }
}

/// Rotates the root key, and says before which step it is.
async fn rotate(dir: &Path, mut at: impl FnMut(usize, RotationStep)) -> root::Rotated {
    let path = dir.join("keyring.json");
    let keyring = keyring::open(&path, &*provider(dir)).unwrap();
    let mut step = 0;
    let heard = |reached| {
        at(step, reached);
        step += 1;
    };
    root::rotate(task(dir, keyring), path, provider(dir), heard).await.unwrap()
}

#[tokio::test]
#[ignore = "the other process of the test below, not a test"]
async fn the_other_process() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let last: usize = std::env::var(STEP).unwrap().parse().unwrap();
    rotate(&PathBuf::from(dir), |step, _| {
        if step == last {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    })
    .await;
}

/// An installation with values under every version; the last partition has none yet.
async fn place() -> (Place, Vec<bytes::Bytes>) {
    let (place, engine) = Place::with_key().await;
    engine.create_key(&caller("ops"), change("other")).await.unwrap();
    let mut sealed = Vec::new();
    for version in 1..=3 {
        sealed.push(seal(&engine, "t", "1", "ada@example.com").await.unwrap().0);
        if version < 3 {
            engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
        }
    }
    engine.make_generation().await.unwrap();
    engine.make_generation().await.unwrap();
    engine.stop().await.unwrap();
    (place, sealed)
}

/// The generations of the store, by name.
fn generations(place: &Place) -> Vec<String> {
    let directory = Place::settings_in(place.dir.path()).generations();
    let found = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn opens_and_takes(place: &Place, sealed: &[bytes::Bytes], partition: &str) {
    let engine = place.start().await;
    for value in sealed {
        assert_eq!(open(&engine, "t", "1", value).await.unwrap(), "ada@example.com");
    }
    seal(&engine, partition, "1", "x").await.unwrap();
    engine.stop().await.unwrap();
}

fn wrapped(place: &Place) -> (String, serde_json::Value) {
    let text = std::fs::read_to_string(place.path("keyring.json")).unwrap();
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

#[tokio::test]
async fn a_rotation_that_is_killed_at_any_step_serves_and_is_finished_by_the_next() {
    let mut killed = Vec::new();
    for last in 0.. {
        let (place, sealed) = place().await;
        let (_, old) = wrapped(&place);
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_other_process", "--ignored"])
            .env(DIRECTORY, place.dir.path())
            .env(STEP, last.to_string())
            .output()
            .unwrap();
        let (_, left) = wrapped(&place);
        opens_and_takes(&place, &sealed, "while").await;
        if ended.status.success() {
            assert!(left.get("pending").is_none());
            break;
        }
        killed.push(left.get("pending").is_some());
        let rotated = rotate(place.dir.path(), |_, _| ()).await;
        assert_eq!((rotated.key_versions, rotated.resumed), (VERSIONS, *killed.last().unwrap()));
        let (text, _) = wrapped(&place);
        for part in [&old["root"]["wrapped"], &old["recovery"]["wrapped"]] {
            assert!(
                !text.contains(&part.to_string()),
                "step {last}: the old root key is still there"
            );
        }
        assert!(!text.contains("pending"));
        assert!(keyring::open_with_identity(&place.path("keyring.json"), &place.identity).is_ok());
        opens_and_takes(&place, &sealed, "afterwards").await;
    }
    // Before the keyring has both, while it has, and once it has the new one only.
    let both = usize::try_from(VERSIONS).unwrap() + 2;
    let mut expected = vec![false];
    expected.extend(vec![true; both]);
    expected.push(false);
    assert_eq!(killed, expected);
}

#[tokio::test]
async fn what_is_done_to_the_root_key_is_on_record_and_a_drill_changes_nothing() {
    let (place, sealed) = place().await;
    let dir = place.dir.path();
    assert_eq!(generations(&place), ["gen-1", "gen-2"]);
    let keks = stored(&place, VERSION).await;
    let all = usize::try_from(VERSIONS).unwrap();
    assert_eq!((keks.len(), found(dir, &keks)), (all, all));
    rotate(dir, |_, _| ()).await;
    assert_eq!(found(dir, &keks), 0, "what the old root key wraps is in no file");
    assert_eq!(generations(&place), ["gen-3"], "none is left whose KEKs nobody opens");
    let path = place.path("keyring.json");
    let keyring = || keyring::open_with_identity(&path, &place.identity).unwrap();
    let other = Arc::new(FileProvider::create(&place.path("other.key")).unwrap());
    let by = RootOpener::Identity(place.identity.clone().into());
    let to = Move { path: path.clone(), by, to: other, recipient: None };
    root::rewrap(task(dir, keyring()), to).await.unwrap();
    std::fs::rename(place.path("other.key"), place.path("root.key")).unwrap();

    let before = std::fs::read(&path).unwrap();
    let revision = |place: &Place| {
        let files = std::fs::read_dir(place.path("store")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let stored = revision(&place);
    let drilled = root::drill(task(dir, keyring())).await.unwrap();
    let counts = (drilled.key_versions, drilled.data_keys, drilled.lost, drilled.broken);
    assert_eq!(counts, (VERSIONS, 3, 0, 0));
    assert_eq!((std::fs::read(&path).unwrap(), revision(&place)), (before, stored));

    let engine = place.start().await;
    assert_eq!(why(open(&engine, "t", "1", &sealed[0]).await), "OK");
    let all = events(&engine, AuditQuery::default()).await;
    for (action, kind, records) in [
        // The beginning, each KEK, the end.
        (Action::RootRotate, Kind::RootRotated, usize::try_from(VERSIONS).unwrap() + 2),
        (Action::RootRewrap, Kind::RootRewrapped, 1),
        (Action::RootDrill, Kind::RootDrilled, 1),
    ] {
        let found: Vec<_> = all.iter().filter(|e| e.action == Some(action)).collect();
        assert_eq!(found.len(), records, "{action:?}");
        for event in found {
            assert_eq!((event.kind, event.outcome), (Some(kind), Some(Outcome::Ok)));
            assert_eq!(event.principal, "local:1000");
        }
    }
    engine.stop().await.unwrap();
}
