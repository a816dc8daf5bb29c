//! What was changed after a backup is so again once that is restored: each kind of change by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;
mod restored;

use std::path::Path;
use std::time::Duration;

use age::x25519;
use bytes::Bytes;
use fieldseal_engine::Engine;
use fieldseal_keys::{KeyView, PartitionState, Replayed, SettingsChange, StateChange};
use fieldseal_model::{KeySettings, Labels, Required, Setting, VersionNumber};
use kit::{Place, caller, change, open, seal, why};
use restored::{back_up, backed, restore, shred, start_restored, states, stop};

const DAY: Duration = Duration::from_secs(24 * 3600);
const WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);

/// An installation that is backed up; its log goes on, and its store is lost.
struct Lost {
    identity: x25519::Identity,
    place: Place,
    engine: Engine,
    /// Sealed under version 1, in the partition `t`.
    sealed: Bytes,
}

impl Lost {
    /// With two versions of the key.
    async fn new() -> Self {
        let identity = x25519::Identity::generate();
        let (place, engine) = backed(&identity).await;
        let sealed = seal(&engine, "t", "1", "ada@example.com").await.unwrap().0;
        engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
        Self { identity, place, engine, sealed }
    }

    async fn set(&self, what: StateChange) {
        let first = VersionNumber::new(1).unwrap();
        let ops = caller("ops");
        self.engine.change_key_version(&ops, change("pii"), first, what).await.unwrap();
    }

    /// The store is put back from this backup, with the log that survived.
    async fn back(self, backup: &Path) -> (Self, Replayed) {
        let Self { identity, place, engine, sealed } = self;
        stop(engine).await;
        let restored = restore(&place, &identity, backup, None).await.unwrap();
        let engine = start_restored(&place).await;
        let found = engine.scrub().await.unwrap();
        assert_eq!(found.report.findings(), 0, "{}", found.report);
        (Self { identity, place, engine, sealed }, restored.replayed)
    }

    async fn first(&self) -> &'static str {
        states(&self.engine).await[0]
    }

    async fn opens(&self) -> &'static str {
        why(open(&self.engine, "t", "1", &self.sealed).await)
    }

    async fn key(&self) -> KeyView {
        self.engine.key(&caller("ops"), &change("pii").key).await.unwrap()
    }

    async fn partition(&self) -> PartitionState {
        let of = shred(None);
        let shown = self.engine.partition(&caller("ops"), &of.key, &of.partition).await;
        shown.unwrap().0.state
    }

    async fn shred(&self) {
        self.engine.shred_partition(&caller("ops"), shred(None)).await.unwrap();
    }

    async fn erase(&self) {
        self.place.clock.advance(8 * DAY);
        self.engine.run_due().await;
        assert_eq!(self.partition().await, PartitionState::Erased);
    }

    async fn reopen(&self) {
        self.engine.reopen_partition(&caller("ops"), shred(None)).await.unwrap();
    }

    async fn seals(&self) -> &'static str {
        why(seal(&self.engine, "t", "1", "bob@example.com").await)
    }
}

const DESTROY: StateChange = StateChange::ScheduleDestroy { data_keys_lost: 1 };

#[tokio::test]
async fn a_version_that_was_disabled_is_disabled() {
    let lost = Lost::new().await;
    let backup = back_up(&lost.engine).await;
    lost.set(StateChange::Disable).await;
    let (back, replayed) = lost.back(&backup).await;
    assert_eq!((back.first().await, replayed.applied), ("DISABLED", 1));
    assert_eq!(back.opens().await, "KEY_VERSION_DISABLED");
    back.set(StateChange::Enable).await;
    assert_eq!(back.opens().await, "OK");
    stop(back.engine).await;
}

#[tokio::test]
async fn a_version_that_was_enabled_is_enabled() {
    let lost = Lost::new().await;
    lost.set(StateChange::Disable).await;
    let backup = back_up(&lost.engine).await;
    lost.set(StateChange::Enable).await;
    let (back, replayed) = lost.back(&backup).await;
    assert_eq!((back.first().await, replayed.applied), ("ENABLED", 1));
    assert_eq!(back.opens().await, "OK");
    stop(back.engine).await;
}

#[tokio::test]
async fn a_destruction_that_was_scheduled_is_scheduled_for_its_whole_window() {
    let lost = Lost::new().await;
    let backup = back_up(&lost.engine).await;
    lost.set(DESTROY).await;
    lost.place.clock.advance(WINDOW / 2);
    lost.engine.run_due().await;
    let (back, replayed) = lost.back(&backup).await;
    assert_eq!((back.first().await, replayed.applied), ("DESTROY_SCHEDULED", 1));
    assert_eq!(back.opens().await, "KEY_VERSION_DISABLED");
    back.place.clock.advance(WINDOW - DAY);
    back.engine.run_due().await;
    assert_eq!(back.first().await, "DESTROY_SCHEDULED", "it lasts longer and never shorter");
    back.place.clock.advance(DAY);
    back.engine.run_due().await;
    assert_eq!(back.first().await, "DESTROYED", "the number of lost data keys is known too");
    assert_eq!(back.opens().await, "KEY_VERSION_DESTROYED");
    stop(back.engine).await;
}

#[tokio::test]
async fn a_destruction_that_was_taken_back_is_taken_back() {
    let lost = Lost::new().await;
    lost.set(DESTROY).await;
    let backup = back_up(&lost.engine).await;
    lost.set(StateChange::Restore).await;
    let (back, replayed) = lost.back(&backup).await;
    assert_eq!((back.first().await, replayed.applied), ("DISABLED", 1));
    // Nothing is left of its window.
    back.place.clock.advance(2 * WINDOW);
    back.engine.run_due().await;
    back.set(StateChange::Enable).await;
    assert_eq!(back.opens().await, "OK");
    stop(back.engine).await;
}

#[tokio::test]
async fn a_version_that_was_destroyed_is_destroyed_for_good() {
    let lost = Lost::new().await;
    let backup = back_up(&lost.engine).await;
    lost.set(DESTROY).await;
    lost.place.clock.advance(WINDOW);
    lost.engine.run_due().await;
    assert_eq!(lost.first().await, "DESTROYED");
    let (back, replayed) = lost.back(&backup).await;
    assert_eq!((back.first().await, replayed.applied), ("DESTROYED", 2));
    assert_eq!(back.opens().await, "KEY_VERSION_DESTROYED");
    let first = VersionNumber::new(1).unwrap();
    let enable = StateChange::Enable;
    let again = back.engine.change_key_version(&caller("ops"), change("pii"), first, enable).await;
    assert_eq!(why(again), "KEY_VERSION_STATE_WRONG");
    stop(back.engine).await;
}

#[tokio::test]
async fn the_last_of_several_changes_counts() {
    let lost = Lost::new().await;
    let backup = back_up(&lost.engine).await;
    for what in [StateChange::Disable, DESTROY, StateChange::Restore, StateChange::Enable] {
        lost.set(what).await;
    }
    let (back, replayed) = lost.back(&backup).await;
    assert_eq!((back.first().await, replayed.applied), ("ENABLED", 4));
    assert_eq!(back.opens().await, "OK");
    stop(back.engine).await;
}

#[tokio::test]
async fn settings_are_what_they_were_set_to() {
    let lost = Lost::new().await;
    let backup = back_up(&lost.engine).await;
    let set = async |which: &[Setting], to: &dyn Fn(&mut KeySettings)| {
        let mut settings = KeySettings::default();
        to(&mut settings);
        let asked = SettingsChange { change: change("pii"), which: which.to_vec(), settings };
        lost.engine.update_key(&caller("ops"), asked).await.unwrap();
    };
    let labels = |value: &str| {
        let pairs = [("team".to_owned(), value.to_owned())];
        Labels::parse(pairs).unwrap()
    };
    set(&[Setting::RotationPeriod, Setting::SealLimit, Setting::Labels], &|settings| {
        settings.set_rotation_period(9 * DAY).unwrap();
        settings.set_seal_limit(1 << 21).unwrap();
        settings.set_labels(labels("first"));
    })
    .await;
    set(&[Setting::DataKeyLifetime, Setting::PurposeRequired, Setting::Labels], &|settings| {
        settings.set_data_key_lifetime(7 * DAY).unwrap();
        settings.set_required(Required { purpose: true, ..Required::default() });
        settings.set_labels(labels("second"));
    })
    .await;
    let before = lost.key().await;
    assert_eq!(before.settings.labels(), &labels("second"));
    let (back, replayed) = lost.back(&backup).await;
    assert_eq!((replayed.applied, replayed.unknown_settings.len()), (2, 0));
    let after = back.key().await;
    assert_eq!(after.settings, before.settings);
    assert_eq!((&after.name, after.created_at), (&before.name, before.created_at));
    // They hold: a rotation is due by the new period.
    back.place.clock.advance(10 * DAY);
    back.engine.run_due().await;
    assert_eq!(states(&back.engine).await.len(), 3);
    stop(back.engine).await;
}

#[tokio::test]
async fn a_partition_that_was_opened_anew_takes_values_and_its_old_ones_stay_gone() {
    for erased_before in [false, true] {
        let lost = Lost::new().await;
        // The backup is from before the shred, or from between the erasure and the opening.
        let early = back_up(&lost.engine).await;
        lost.shred().await;
        lost.erase().await;
        let late = back_up(&lost.engine).await;
        lost.reopen().await;
        let backup = if erased_before { &late } else { &early };
        let (back, _) = lost.back(backup).await;
        assert_eq!(back.partition().await, PartitionState::Open, "{erased_before}");
        assert_eq!(back.opens().await, "PARTITION_SHREDDED");
        assert_eq!(back.seals().await, "OK");
        stop(back.engine).await;
    }
}

/// The data keys of every later life of the partition are younger than the backup.
#[tokio::test]
async fn what_becomes_of_a_partition_is_known_though_its_data_keys_are_lost() {
    for erased_before in [false, true] {
        for (lives, then, expected) in [
            (1, "shredded", "PARTITION_SHREDDED"),
            (2, "erased", "PARTITION_SHREDDED"),
            (2, "restored", "OK"),
            (3, "open", "OK"),
        ] {
            let case = format!("{erased_before} {lives} {then}");
            let lost = Lost::new().await;
            let early = back_up(&lost.engine).await;
            lost.shred().await;
            lost.erase().await;
            let late = back_up(&lost.engine).await;
            for life in 1..=lives {
                lost.reopen().await;
                assert_eq!(lost.seals().await, "OK");
                if then == "open" && life == lives {
                    break;
                }
                lost.shred().await;
                if life < lives || then == "erased" {
                    lost.erase().await;
                }
            }
            if then == "restored" {
                lost.engine.restore_partition(&caller("ops"), shred(None)).await.unwrap();
            }
            assert_eq!(lost.seals().await, expected, "{case}: before");
            let (back, _) = lost.back(if erased_before { &late } else { &early }).await;
            assert_eq!(back.seals().await, expected, "{case}");
            assert_eq!(back.opens().await, "PARTITION_SHREDDED", "{case}");
            if expected != "OK" {
                back.reopen().await;
                assert_eq!(back.seals().await, "OK", "{case}");
            }
            stop(back.engine).await;
        }
    }
}
