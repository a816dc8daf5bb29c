//! An installation that is put back from a backup after its store was lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod kit;
mod restored;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use age::x25519;
use fieldseal_engine::backup::{self, BackupError, LogSource, Restore, Restored, Unlock};
use fieldseal_engine::offline::root::{self, Task};
use fieldseal_engine::{CopyTarget, Engine, Installation, Settings, ShredReceipt};
use fieldseal_keys::StateChange;
use fieldseal_keys::keyring::FileProvider;
use fieldseal_model::{Principal, VersionNumber};
use kit::{Place, caller, change, open, seal, why};
use restored::{
    back_up, backed, backups, open_keyring, restore, settings_in, shred, start, start_restored,
    states, stop,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_version_that_the_backup_has_not_stays_destroyed_whatever_became_of_it() {
    let destroy = StateChange::ScheduleDestroy { data_keys_lost: 0 };
    for what in [StateChange::Disable, destroy] {
        let identity = x25519::Identity::generate();
        let (place, engine) = backed(&identity).await;
        let sealed = seal(&engine, "t", "1", "ada@example.com").await.unwrap().0;
        let backup = back_up(&engine).await;
        for _ in 0..2 {
            engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
        }
        let second = VersionNumber::new(2).unwrap();
        engine.change_key_version(&caller("ops"), change("pii"), second, what).await.unwrap();
        stop(engine).await;
        let restored = restore(&place, &identity, &backup, None).await.unwrap();
        assert_eq!(restored.replayed.lost_versions, 2);
        let engine = start_restored(&place).await;
        assert_eq!(states(&engine).await, ["ENABLED", "DESTROYED", "DESTROYED"]);
        assert_eq!(open(&engine, "t", "1", &sealed).await.unwrap(), "ada@example.com");
        seal(&engine, "u", "1", "x").await.unwrap();
        stop(engine).await;
    }
}

#[tokio::test]
async fn a_restore_never_shortens_the_window_of_a_shred() {
    let identity = x25519::Identity::generate();
    let (place, engine) = backed(&identity).await;
    let sealed = seal(&engine, "t", "1", "ada@example.com").await.unwrap().0;
    let backup = back_up(&engine).await;
    engine.shred_partition(&caller("ops"), shred(Some(90 * DAY))).await.unwrap();
    stop(engine).await;
    restore(&place, &identity, &backup, None).await.unwrap();
    let engine = start_restored(&place).await;
    assert_eq!(why(open(&engine, "t", "1", &sealed).await), "PARTITION_SHREDDED");
    place.clock.advance(90 * DAY - HOUR);
    engine.run_due().await;
    engine.restore_partition(&caller("ops"), shred(None)).await.unwrap();
    assert_eq!(open(&engine, "t", "1", &sealed).await.unwrap(), "ada@example.com");
    stop(engine).await;
}

/// The settings of an installation that is backed up and copied.
fn copied(place: &Place, identity: &x25519::Identity) -> Settings {
    let copy = Some(CopyTarget::Directory(place.path("copy")));
    Settings { backup: backups(place, identity), copy, ..place.settings() }
}

/// An installation that is copied, with a value that its backup has.
async fn copied_and_backed(identity: &x25519::Identity) -> (Place, bytes::Bytes, PathBuf) {
    let place = Place::new().await;
    std::fs::create_dir(place.path("copy")).unwrap();
    let engine = start(&place, copied(&place, identity)).await;
    engine.create_key(&caller("ops"), change("pii")).await.unwrap();
    let sealed = seal(&engine, "t", "1", "ada@example.com").await.unwrap().0;
    let backup = back_up(&engine).await;
    stop(engine).await;
    (place, sealed, backup)
}

#[tokio::test]
async fn a_copy_opens_that_is_wrapped_by_a_younger_root_key_than_the_backup() {
    let identity = x25519::Identity::generate();
    let (place, before, backup) = copied_and_backed(&identity).await;
    let task = Task {
        settings: place.settings(),
        keyring: place.keyring(),
        clock: place.clock.clone(),
        principal: Principal::parse("local:1000").unwrap(),
    };
    let provider = FileProvider::open(&place.path("root.key"), &place.path("state"), false);
    let provider = Arc::new(provider.unwrap());
    root::rotate(task, place.path("keyring.json"), provider, |_| ()).await.unwrap();
    let engine = start(&place, copied(&place, &identity)).await;
    let after = seal(&engine, "u", "1", "bob@example.com").await.unwrap().0;
    stop(engine).await;
    std::fs::remove_dir_all(place.path("store")).unwrap();
    std::fs::remove_file(place.path("keyring.json")).unwrap();
    // The copy alone, without the keyring beside it, is wrapped by a root key that is lost.
    let alone = place.path("copy").join("store.copy");
    assert!(restore(&place, &identity, &backup, Some(alone)).await.is_err());
    let restored = restore(&place, &identity, &backup, Some(place.path("copy"))).await.unwrap();
    assert!(restored.copied.is_some());
    let engine = start_restored(&place).await;
    assert_eq!(open(&engine, "t", "1", &before).await.unwrap(), "ada@example.com");
    assert_eq!(open(&engine, "u", "1", &after).await.unwrap(), "bob@example.com");
    stop(engine).await;
}

#[tokio::test]
async fn a_copy_of_another_history_is_refused() {
    let identity = x25519::Identity::generate();
    let (place, _, backup) = copied_and_backed(&identity).await;
    for name in ["store", "audit"] {
        kit::copy(&place.path(name), &place.path(&format!("{name}-then")));
    }
    let engine = start(&place, copied(&place, &identity)).await;
    seal(&engine, "a", "1", "x").await.unwrap();
    stop(engine).await;
    let reason = |result: Result<Restored, BackupError>| result.err().map(|e| e.reason());
    // What the backup says of its life is another than the copy's.
    let manifest = backup.with_extension("json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let other = text.replace(&"0".repeat(32), &"1".repeat(32));
    assert_ne!(other, text);
    std::fs::write(&manifest, other).unwrap();
    let copy = || Some(place.path("copy"));
    let refused = reason(restore(&place, &identity, &backup, copy()).await);
    assert_eq!(refused, Some("STORE_COPY_FOREIGN"));
    std::fs::write(&manifest, text).unwrap();
    // The store and the log as they were, which then go another way.
    for name in ["store", "audit"] {
        std::fs::remove_dir_all(place.path(name)).unwrap();
        std::fs::rename(place.path(&format!("{name}-then")), place.path(name)).unwrap();
    }
    let engine = start(&place, place.settings()).await;
    for partition in ["b", "c", "d"] {
        seal(&engine, partition, "1", "x").await.unwrap();
    }
    stop(engine).await;
    let refused = reason(restore(&place, &identity, &backup, copy()).await);
    assert_eq!(refused, Some("STORE_COPY_FOREIGN"));
    restore(&place, &identity, &backup, None).await.unwrap();
}

#[tokio::test]
async fn a_backup_that_was_moved_away_is_named_until_its_time_is_over() {
    let identity = x25519::Identity::generate();
    let (place, engine) = backed(&identity).await;
    seal(&engine, "t", "1", "ada@example.com").await.unwrap();
    let moved = back_up(&engine).await;
    let name = moved.file_stem().unwrap().to_str().unwrap();
    std::fs::rename(place.path("backups"), place.path("elsewhere")).unwrap();
    place.clock.advance(HOUR);
    back_up(&engine).await;
    engine.shred_partition(&caller("ops"), shred(None)).await.unwrap();
    place.clock.advance(7 * DAY);
    engine.run_due().await;
    let receipt = async || {
        let of = shred(None);
        let shown = engine.partition(&caller("ops"), &of.key, &of.partition).await;
        shown.unwrap().1.signed().unwrap()
    };
    assert!(receipt().await.contains(name));
    place.clock.advance(400 * DAY);
    back_up(&engine).await;
    assert!(!receipt().await.contains(name));
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receipt_of_an_erasure_outlives_a_restore_and_not_its_log() {
    let identity = x25519::Identity::generate();
    let (place, engine) = backed(&identity).await;
    seal(&engine, "t", "1", "ada@example.com").await.unwrap();
    let of = shred(None);
    let receipt = async |engine: &Engine| {
        engine.partition(&caller("ops"), &of.key, &of.partition).await.unwrap().1
    };
    engine.shred_partition(&caller("ops"), of.clone()).await.unwrap();
    place.clock.advance(7 * DAY);
    engine.run_due().await;
    let record = |receipt: ShredReceipt| {
        let receipt = receipt.signed().unwrap();
        let (_, record) = receipt.split_once("\\\"record\\\":").unwrap();
        record.split(',').next().unwrap().to_owned()
    };
    let before = record(receipt(&engine).await);
    let untouched = back_up(&engine).await;
    // This change is done again on the store that is put back: what it replaces is in its files.
    let first = VersionNumber::new(1).unwrap();
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    let rotated = back_up(&engine).await;
    let disable = StateChange::Disable;
    engine.change_key_version(&caller("ops"), change("pii"), first, disable).await.unwrap();
    stop(engine).await;
    for backup in [&untouched, &rotated] {
        restore(&place, &identity, backup, None).await.unwrap();
        let engine = start_restored(&place).await;
        engine.run_due().await;
        assert_eq!(record(receipt(&engine).await), before);
        stop(engine).await;
        std::fs::remove_dir_all(place.path("restored")).unwrap();
    }
    // The log is lost, and begun anew.
    let into = place.path("restored");
    let instance = "second".to_owned();
    let settings = Settings { instance: instance.clone(), ..settings_in(&place, &into) };
    let plan = Restore {
        backup: untouched,
        unlock: Unlock::identity(identity.to_string().expose_secret()).unwrap(),
        log: LogSource::Lost { instance, key: None },
        copy: None,
        into: into.clone(),
        settings: settings.clone(),
        local: Principal::parse("local:1000").unwrap(),
    };
    let open = async |directory: &Path| open_keyring(&place, directory);
    backup::restore(plan, place.clock.clone(), open).await.unwrap();
    let installation = Installation::new(settings, open_keyring(&place, &into).unwrap());
    let engine = installation.start(place.clock.clone()).await.unwrap();
    engine.run_due().await;
    assert_eq!(receipt(&engine).await, ShredReceipt::NotInLog);
    stop(engine).await;
}
