//! An installation that is backed up, lost and put back.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use age::x25519;
use fieldseal_engine::backup::{
    self, BackupError, Keep, LogSource, Recipients, Restore, Restored, Unlock,
};
use fieldseal_engine::{Engine, Installation, Settings};
use fieldseal_keys::PartitionChange;
use fieldseal_keys::keyring::{self, FileProvider};
use fieldseal_model::{AccessReason, KeyName, Partition, Principal};

use crate::kit::{Place, caller, change};

/// Backs up in this directory to an identity of its own.
pub(crate) fn backups(place: &Place, identity: &x25519::Identity) -> Option<backup::Settings> {
    let recipient = identity.to_public().to_string();
    Some(backup::Settings {
        directory: place.path("backups"),
        recipients: Recipients::parse([recipient.as_str()]).unwrap(),
        keep: Keep::default(),
        keyring: place.path("keyring.json"),
    })
}

pub(crate) async fn start(place: &Place, settings: Settings) -> Engine {
    let installation = Installation::new(settings, place.keyring());
    installation.start(place.clock.clone()).await.unwrap()
}

/// An installation with the key `pii` that can be backed up.
pub(crate) async fn backed(identity: &x25519::Identity) -> (Place, Engine) {
    let place = Place::new().await;
    let settings = Settings { backup: backups(&place, identity), ..place.settings() };
    let engine = start(&place, settings).await;
    engine.create_key(&caller("ops"), change("pii")).await.unwrap();
    (place, engine)
}

pub(crate) async fn back_up(engine: &Engine) -> PathBuf {
    engine.create_backup(&caller("ops"), &AccessReason::default()).await.unwrap().path
}

pub(crate) async fn stop(engine: Engine) {
    engine.stop().await.unwrap();
}

/// The settings of the place that it is restored to.
pub(crate) fn settings_in(place: &Place, into: &Path) -> Settings {
    Settings { policy: place.settings().policy, ..Place::settings_in(into) }
}

pub(crate) fn open_keyring(
    place: &Place,
    directory: &Path,
) -> Result<keyring::Keyring, keyring::KeyringError> {
    let provider =
        FileProvider::open(&place.path("root.key"), &place.path("state"), false).unwrap();
    keyring::open(&directory.join("keyring.json"), &provider)
}

/// Restores with the log that survived.
pub(crate) async fn restore(
    place: &Place,
    identity: &x25519::Identity,
    backup: &Path,
    copy: Option<PathBuf>,
) -> Result<Restored, BackupError> {
    let into = place.path("restored");
    let plan = Restore {
        backup: backup.to_owned(),
        unlock: Unlock::identity(identity.to_string().expose_secret()).unwrap(),
        log: LogSource::Surviving(place.path("audit")),
        copy,
        into: into.clone(),
        settings: settings_in(place, &into),
        local: Principal::parse("local:1000").unwrap(),
    };
    let open = async |directory: &Path| open_keyring(place, directory);
    backup::restore(plan, place.clock.clone(), open).await
}

pub(crate) async fn start_restored(place: &Place) -> Engine {
    let into = place.path("restored");
    let keyring = open_keyring(place, &into).unwrap();
    let installation = Installation::new(settings_in(place, &into), keyring);
    installation.start(place.clock.clone()).await.unwrap()
}

pub(crate) async fn states(engine: &Engine) -> Vec<&'static str> {
    let key = engine.key(&caller("ops"), &change("pii").key).await.unwrap();
    key.versions.iter().map(|version| version.state.as_str()).collect()
}

/// A change of the partition `t`.
pub(crate) fn shred(window: Option<Duration>) -> PartitionChange {
    PartitionChange {
        key: KeyName::parse("pii").unwrap(),
        partition: Partition::parse("t").unwrap(),
        default_partition: false,
        window,
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}
