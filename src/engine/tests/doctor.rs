//! What the doctor sees, that it touches nothing, and the repair that it offers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fieldseal_audit::Kind;
use fieldseal_engine::doctor::{self, Diagnosis, RepairError, Repaired, Source, Step};
use fieldseal_engine::{AuditQuery, BootError, CopyTarget, Engine, Installation, Settings};
use fieldseal_keys::anchor::Relation;
use fieldseal_model::{Principal, PrincipalKind};
use fieldseal_store::StoreError;
use kit::{Place, caller, change, copy, events, open, seal, why};

struct Seen {
    found: Diagnosis,
    scratch: tempfile::TempDir,
}

async fn examine(place: &Place) -> Seen {
    try_examine(place).await.unwrap_or_else(|e| panic!("{e}"))
}

/// The copy of the store is beside it, where a test makes the directory.
fn settings(place: &Place) -> Settings {
    let copy = place.path("copy");
    let copy = copy.exists().then_some(CopyTarget::Directory(copy));
    Settings { copy, ..place.settings() }
}

async fn start(place: &Place) -> Engine {
    let installation = Installation::new(settings(place), place.keyring());
    installation.start(place.clock.clone()).await.unwrap()
}

async fn try_examine(place: &Place) -> Result<Seen, BootError> {
    let scratch = tempfile::tempdir().unwrap();
    let keyring = Arc::new(place.keyring());
    let found = doctor::examine(&settings(place), &keyring, scratch.path()).await?;
    Ok(Seen { found, scratch })
}

async fn repair(place: &Place, seen: &Seen, source: Source) -> Result<Repaired, RepairError> {
    repair_and(place, seen, source, |_| {}).await
}

async fn repair_and(
    place: &Place,
    seen: &Seen,
    source: Source,
    done: impl FnMut(Step),
) -> Result<Repaired, RepairError> {
    let (keyring, clock) = (Arc::new(place.keyring()), place.clock.clone());
    let local = Principal::new(PrincipalKind::Local, "1000").unwrap();
    let of = (&seen.found, seen.scratch.path());
    doctor::repair(&settings(place), &keyring, clock, &local, of, source, done).await
}

fn relation(seen: &Seen) -> Option<Relation> {
    seen.found.relation.as_ref().unwrap().as_ref().err().map(|mismatch| mismatch.relation)
}

/// Every file of the state but the locks, which name their last holder.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.file_name() != "lock" {
            found.insert(entry.path(), std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

async fn stop(engine: Engine) {
    engine.stop().await.unwrap();
}

/// A stopped installation whose store was put back: it misses a tenant's data key.
async fn behind() -> (Place, Bytes, Bytes) {
    let (place, engine) = Place::with_key().await;
    let (early, _) = seal(&engine, "early", "1", "x").await.unwrap();
    stop(engine).await;
    copy(&place.path("store"), &place.path("older"));
    let engine = place.start().await;
    let (late, _) = seal(&engine, "late", "1", "y").await.unwrap();
    // The first seal of a run reserves more seals of the data key that is there.
    seal(&engine, "early", "1", "x").await.unwrap();
    stop(engine).await;
    std::fs::rename(place.path("store"), place.path("newer")).unwrap();
    std::fs::rename(place.path("older"), place.path("store")).unwrap();
    (place, early, late)
}

#[tokio::test]
async fn a_whole_installation_is_looked_at_and_not_touched() {
    let (place, engine) = Place::with_key().await;
    seal(&engine, "t", "1", "x").await.unwrap();
    engine.make_generation().await.unwrap();
    let running = try_examine(&place).await.err();
    assert!(matches!(running, Some(BootError::Audit(_))), "{running:?}");
    stop(engine).await;
    let before = files(place.dir.path());
    let seen = examine(&place).await;
    assert_eq!(files(place.dir.path()), before);
    let store = seen.found.store.as_ref().unwrap();
    assert_eq!((store.report.findings(), store.report.data_keys), (0, 1));
    assert_eq!(relation(&seen), None);
    assert_eq!(seen.found.last_change().unwrap().revision, store.position.revision);
    let whole = seen.found.generations.iter().all(|(_, found)| found.is_ok());
    assert!(whole && seen.found.generations.len() == 1);
}

#[tokio::test]
async fn an_older_store_can_take_the_place_once_it_is_known_what_is_lost() {
    let (place, early, late) = behind().await;
    let seen = examine(&place).await;
    assert_eq!(relation(&seen), Some(Relation::StoreBehind));
    let lost = seen.found.lost(Source::Store).unwrap();
    let missing: u64 = lost.changes.values().sum();
    assert_eq!((lost.data_keys, lost.log_revision - lost.revision), (1, missing));
    let told = |kind| lost.changes.get(kind).copied();
    assert_eq!((told("DATA_KEY_CREATED"), told("SEALS_RESERVED")), (Some(1), Some(1)));

    let repaired = repair(&place, &seen, Source::Store).await.unwrap();
    assert_eq!(repaired.lost, lost);
    assert!(repaired.kept.unwrap().join("db").exists(), "the store before is kept");
    let engine = place.start().await;
    assert_eq!(open(&engine, "early", "1", &early).await.unwrap(), "x");
    assert_eq!(why(open(&engine, "late", "1", &late).await), "DATA_KEY_NOT_FOUND");
    let found = engine.scrub().await.unwrap();
    assert_eq!(found.report.findings(), 0, "{}", found.report);
    let all = events(&engine, AuditQuery::default()).await;
    let told: Vec<_> = all.iter().filter(|event| event.kind == Some(Kind::Repaired)).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].index, repaired.record);
    assert_eq!(told[0].principal, "local:1000");
    assert_eq!(told[0].action.map(|action| action.as_str()), Some("Repair"));
    // It goes on: what is made now is recorded and found.
    let (new, _) = seal(&engine, "new", "1", "z").await.unwrap();
    stop(engine).await;
    let engine = place.start().await;
    assert_eq!(open(&engine, "new", "1", &new).await.unwrap(), "z");
    stop(engine).await;
    let seen = examine(&place).await;
    assert_eq!((relation(&seen), seen.found.store.unwrap().report.findings()), (None, 0));
}

/// The files as a process leaves them that is killed at each step of a repair.
async fn cut_off(source: Source, prepare: impl AsyncFnOnce() -> (Place, Bytes)) -> Vec<CutOff> {
    let (place, early) = prepare().await;
    let seen = examine(&place).await;
    let mut steps = Vec::new();
    let lost = seen.found.lost(source).unwrap();
    let killed = |step| {
        let dir = tempfile::tempdir().unwrap();
        copy(place.dir.path(), &dir.path().join("then"));
        steps.push((step, dir));
    };
    repair_and(&place, &seen, source, killed).await.unwrap();
    let found = steps.into_iter().map(|(step, dir)| {
        let then = dir.path().join("then");
        for entry in std::fs::read_dir(&then).unwrap().map(Result::unwrap) {
            std::fs::rename(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        std::fs::remove_dir(then).unwrap();
        let (clock, identity) = (place.clock.clone(), place.identity.clone());
        let place = Place { dir, clock, identity };
        CutOff { step, place, early: early.clone(), revision: lost.log_revision + 1 }
    });
    found.collect()
}

struct CutOff {
    step: Step,
    place: Place,
    early: Bytes,
    /// Of the repair's record.
    revision: u64,
}

/// What is left of a repair that ended at this step comes to its end, whatever the next one names,
/// and the log has one record of it.
async fn goes_on(cut: CutOff, again: Source) {
    let CutOff { step, place, early, revision } = cut;
    let seen = examine(&place).await;
    let on_record = matches!(step, Step::Recorded | Step::MovedAway);
    let unfinished = seen.found.unfinished.map(|unfinished| unfinished.revision);
    assert_eq!(unfinished, on_record.then_some(revision), "{step:?}");
    if step != Step::InPlace {
        let repaired = repair(&place, &seen, again).await.unwrap();
        assert_eq!(repaired.kept.is_some(), step != Step::MovedAway, "{step:?}");
    }
    assert!(!place.path("store.rebuilt").exists(), "{step:?}");
    let engine = start(&place).await;
    assert_eq!(open(&engine, "early", "1", &early).await.unwrap(), "x", "{step:?}");
    let found = engine.scrub().await.unwrap();
    assert_eq!(found.report.findings(), 0, "{step:?}: {}", found.report);
    let all = events(&engine, AuditQuery::default()).await;
    let told = all.iter().filter(|event| event.kind == Some(Kind::Repaired)).count();
    assert_eq!(told, 1, "{step:?}");
    stop(engine).await;
    assert_eq!(relation(&examine(&place).await), None, "{step:?}");
}

const STEPS: [Step; 4] = [Step::Made, Step::Recorded, Step::MovedAway, Step::InPlace];

#[tokio::test]
async fn a_repair_that_is_killed_at_any_step_is_finished_by_the_next() {
    let prepare = async || {
        let (place, early, _) = behind().await;
        (place, early)
    };
    let all = cut_off(Source::Store, prepare).await;
    assert_eq!(all.iter().map(|cut| cut.step).collect::<Vec<_>>(), STEPS);
    for cut in all {
        goes_on(cut, Source::Store).await;
    }
}

#[tokio::test]
async fn the_only_store_that_is_left_is_never_removed_by_a_repair() {
    // The store is gone, and the only generation too once the repair was on record.
    let prepare = async || {
        let (place, engine) = Place::with_key().await;
        let (early, _) = seal(&engine, "early", "1", "x").await.unwrap();
        engine.make_generation().await.unwrap();
        stop(engine).await;
        std::fs::remove_dir_all(place.path("store")).unwrap();
        (place, early)
    };
    for mut cut in cut_off(Source::Generation(1), prepare).await {
        if cut.step == Step::Made || cut.step == Step::InPlace {
            continue;
        }
        std::fs::remove_dir_all(cut.place.path("generations")).unwrap();
        // There is no store before it that could be kept.
        cut.step = Step::MovedAway;
        goes_on(cut, Source::Generation(1)).await;
    }
}

#[tokio::test]
async fn what_a_repair_left_that_is_not_the_log_s_newest_change_takes_no_place() {
    let (place, _, _) = behind().await;
    let seen = examine(&place).await;
    let nothing = seen.found.lost(Source::Rebuilt).unwrap_err();
    assert!(nothing.to_string().contains("no repair was cut off"), "{nothing}");
    repair(&place, &seen, Source::Store).await.unwrap();
    copy(&place.path("store"), &place.path("store.rebuilt"));
    // The store in the place fits the log already.
    assert!(examine(&place).await.found.unfinished.is_none());
    let engine = place.start().await;
    seal(&engine, "new", "1", "z").await.unwrap();
    stop(engine).await;
    std::fs::remove_dir_all(place.path("store")).unwrap();
    // The log went on: the store of that repair is an old one by now.
    let seen = examine(&place).await;
    assert!(seen.found.unfinished.is_none());
    // One that is damaged is none, either.
    let (place, early, _) = behind().await;
    let seen = examine(&place).await;
    let repaired = repair(&place, &seen, Source::Store).await.unwrap();
    std::fs::rename(place.path("store"), place.path("store.rebuilt")).unwrap();
    std::fs::rename(repaired.kept.unwrap(), place.path("store")).unwrap();
    assert!(examine(&place).await.found.unfinished.is_some());
    std::fs::write(place.path("store.rebuilt/db"), [0xa5; 4096]).unwrap();
    let seen = examine(&place).await;
    assert!(seen.found.unfinished.is_none());
    repair(&place, &seen, Source::Store).await.unwrap();
    let engine = place.start().await;
    assert_eq!(open(&engine, "early", "1", &early).await.unwrap(), "x");
    stop(engine).await;
}

#[tokio::test]
async fn a_generation_stands_in_for_a_store_that_is_gone_or_damaged() {
    for harm in ["gone", "damaged"] {
        let (place, engine) = Place::with_key().await;
        let (early, _) = seal(&engine, "early", "1", "x").await.unwrap();
        engine.make_generation().await.unwrap();
        let (late, _) = seal(&engine, "late", "1", "y").await.unwrap();
        stop(engine).await;
        let db = place.path("store/db");
        match harm {
            "gone" => std::fs::remove_dir_all(place.path("store")).unwrap(),
            _ => std::fs::write(&db, [0xa5; 4096]).unwrap(),
        }
        let seen = examine(&place).await;
        let expected = matches!(
            (harm, &seen.found.store),
            ("gone", Err(StoreError::NotInitialized(_))) | ("damaged", Err(StoreError::Corrupt(_)))
        );
        assert!(expected, "{harm}: {:?}", seen.found.store.as_ref().err());
        let lost = seen.found.lost(Source::Generation(1)).unwrap();
        assert_eq!((lost.revision, lost.data_keys), (2, 1));
        assert!(lost.log_revision > lost.revision);
        repair(&place, &seen, Source::Generation(1)).await.unwrap();
        let engine = place.start().await;
        assert_eq!(open(&engine, "early", "1", &early).await.unwrap(), "x");
        assert_eq!(why(open(&engine, "late", "1", &late).await), "DATA_KEY_NOT_FOUND");
        stop(engine).await;
    }
}

/// A repair that must not be: nothing changes, and the error says why.
async fn refused(place: &Place, source: Source, expected: &str) {
    let before = files(place.dir.path());
    let seen = examine(place).await;
    let error = repair(place, &seen, source).await.unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert_eq!(files(place.dir.path()), before);
}

#[tokio::test]
async fn what_would_undo_a_change_of_a_key_or_is_from_elsewhere_is_refused() {
    let (place, engine) = Place::with_key().await;
    engine.make_generation().await.unwrap();
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    stop(engine).await;
    // A version's number would be given away a second time.
    refused(&place, Source::Generation(1), "it would undo 1 × KEY_ROTATED").await;
    refused(&place, Source::Generation(7), "there is no generation 7").await;

    // A generation that is newer than the log is not from its past.
    let (place, engine) = Place::with_key().await;
    stop(engine).await;
    copy(&place.path("audit"), &place.path("older-log"));
    let engine = place.start().await;
    seal(&engine, "t", "1", "x").await.unwrap();
    engine.make_generation().await.unwrap();
    stop(engine).await;
    std::fs::rename(place.path("audit"), place.path("newer-log")).unwrap();
    std::fs::rename(place.path("older-log"), place.path("audit")).unwrap();
    assert_eq!(relation(&examine(&place).await), Some(Relation::LogBehind));
    refused(&place, Source::Generation(1), "it is not from this log's past").await;
    refused(&place, Source::Store, "it is not from this log's past").await;

    // Without the log nobody knows what would be lost.
    let log = place.path("audit/segment-00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    refused(&place, Source::Generation(1), "the audit log is damaged itself").await;
}

#[tokio::test]
async fn what_waits_in_the_outbox_and_a_torn_end_are_no_harm() {
    let (place, engine) = Place::with_key().await;
    seal(&engine, "t", "1", "x").await.unwrap();
    stop(engine).await;
    let log = place.path("audit/segment-00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end + 32..end + 40].fill(7);
    std::fs::write(&log, bytes).unwrap();
    let seen = examine(&place).await;
    assert!(seen.found.log.as_ref().unwrap().torn.is_some());
    assert_eq!(relation(&seen), None);
}

#[tokio::test]
async fn with_the_copy_of_the_store_nothing_is_lost_and_nothing_else_takes_the_place() {
    let place = Place::new().await;
    std::fs::create_dir(place.path("copy")).unwrap();
    let engine = start(&place).await;
    engine.create_key(&caller("ops"), change("pii")).await.unwrap();
    let (early, _) = seal(&engine, "early", "1", "x").await.unwrap();
    engine.make_generation().await.unwrap();
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    let (late, _) = seal(&engine, "late", "1", "y").await.unwrap();
    stop(engine).await;
    let seen = examine(&place).await;
    let copied = seen.found.copy.as_ref().unwrap().as_ref().unwrap();
    let position = seen.found.store.as_ref().unwrap().position;
    assert_eq!((copied.revision, copied.anchor), (position.revision, position.anchor));

    std::fs::remove_dir_all(place.path("store")).unwrap();
    let seen = examine(&place).await;
    // The next start would write over what only the copy has.
    let other = seen.found.lost(Source::Generation(1)).unwrap_err();
    assert!(matches!(other, RepairError::CopyIsNewer { .. }), "{other}");
    let lost = seen.found.lost(Source::Copy).unwrap();
    assert_eq!((lost.data_keys, lost.changes.len()), (0, 0));
    repair(&place, &seen, Source::Copy).await.unwrap();
    let engine = start(&place).await;
    assert_eq!(open(&engine, "early", "1", &early).await.unwrap(), "x");
    assert_eq!(open(&engine, "late", "1", &late).await.unwrap(), "y");
    let found = engine.scrub().await.unwrap();
    assert_eq!(found.report.findings(), 0, "{}", found.report);
    stop(engine).await;

    let file = place.path("copy/store.copy");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let seen = examine(&place).await;
    assert!(seen.found.copy.as_ref().unwrap().is_err(), "it was altered where it was whole");
    let refused = seen.found.lost(Source::Copy).unwrap_err();
    assert!(matches!(refused, RepairError::Source(_)), "{refused}");
}
