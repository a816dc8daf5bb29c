//! A partition that is shredded: nothing of it opens from the answer on, and for good once its window
//! is over.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::time::Duration;

use bytes::Bytes;
use fieldseal_audit::{Kind, verify};
use fieldseal_engine::{
    AuditQuery, CopyTarget, Engine, Installation, SHRED_RECEIPT, Settings, ShredReceipt, commitment,
};
use fieldseal_keys::{PartitionChange, PartitionState};
use fieldseal_model::{AccessReason, Clock as _, KeyName, Partition, RequestId};
use kit::{Place, caller, change, events, found, open, seal, stored, why};

/// The kind of a data key's record.
const DATA_KEY: u8 = 5;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn partition(name: &str) -> PartitionChange {
    PartitionChange {
        key: KeyName::parse("pii").unwrap(),
        partition: Partition::parse(name).unwrap(),
        default_partition: false,
        window: None,
        request_id: None,
        validate_only: false,
        reason: AccessReason::default(),
    }
}

async fn state(engine: &Engine, name: &str) -> PartitionState {
    let (key, partition) = (KeyName::parse("pii").unwrap(), Partition::parse(name).unwrap());
    engine.partition(&caller("ops"), &key, &partition).await.unwrap().0.state
}

async fn shred(engine: &Engine, change: PartitionChange) -> &'static str {
    why(engine.shred_partition(&caller("ops"), change).await)
}

async fn restore(engine: &Engine, change: PartitionChange) -> &'static str {
    why(engine.restore_partition(&caller("ops"), change).await)
}

async fn reopen(engine: &Engine, change: PartitionChange) -> &'static str {
    why(engine.reopen_partition(&caller("ops"), change).await)
}

async fn restarted(place: &Place, engine: Engine) -> Engine {
    engine.stop().await.unwrap();
    drop(engine);
    place.start().await
}

/// Nothing of `ada` opens or is sealed; `bob` goes on, and whoever may use other partitions learns
/// nothing of this one.
async fn assert_shredded(engine: &Engine, ada: &Bytes, bob: &Bytes, elsewhere: &str) {
    assert_eq!(why(open(engine, "ada", "1", ada).await), "PARTITION_SHREDDED");
    assert_eq!(why(seal(engine, "ada", "2", "new").await), "PARTITION_SHREDDED");
    assert_eq!(open(engine, "bob", "1", bob).await.unwrap(), "of bob");
    for partition in ["bob", "carol", ""] {
        assert_eq!(why(open(engine, partition, "1", ada).await), elsewhere, "{partition}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_opens_from_the_answer_on_until_it_is_restored_and_for_good_once_it_is_erased() {
    let (place, engine) = Place::with_key().await;
    let (ada, _) = seal(&engine, "ada", "1", "of ada").await.unwrap();
    let (bob, _) = seal(&engine, "bob", "1", "of bob").await.unwrap();
    assert_eq!(shred(&engine, partition("ada")).await, "OK");
    assert_shredded(&engine, &ada, &bob, "DECRYPTION_FAILED").await;
    let engine = restarted(&place, engine).await;
    assert_shredded(&engine, &ada, &bob, "DECRYPTION_FAILED").await;
    assert_eq!(restore(&engine, partition("ada")).await, "OK");
    assert_eq!(open(&engine, "ada", "1", &ada).await.unwrap(), "of ada");
    seal(&engine, "ada", "2", "new").await.unwrap();
    let engine = restarted(&place, engine).await;
    assert_eq!(open(&engine, "ada", "1", &ada).await.unwrap(), "of ada");

    assert_eq!(shred(&engine, partition("ada")).await, "OK");
    place.clock.advance(7 * DAY - Duration::from_secs(1));
    engine.run_due().await;
    assert_eq!(state(&engine, "ada").await, PartitionState::Shredding);
    place.clock.advance(Duration::from_secs(1));
    engine.run_due().await;
    assert_eq!(state(&engine, "ada").await, PartitionState::Erased);
    assert_shredded(&engine, &ada, &bob, "DATA_KEY_NOT_FOUND").await;
    let engine = restarted(&place, engine).await;
    assert_shredded(&engine, &ada, &bob, "DATA_KEY_NOT_FOUND").await;
    assert_eq!(restore(&engine, partition("ada")).await, "PARTITION_STATE_INVALID");
    assert_eq!(reopen(&engine, partition("ada")).await, "OK");
    let (new, _) = seal(&engine, "ada", "1", "new").await.unwrap();
    assert_eq!(open(&engine, "ada", "1", &new).await.unwrap(), "new");
    assert_eq!(why(open(&engine, "ada", "1", &ada).await), "PARTITION_SHREDDED");
    let of_ada = AuditQuery { partition: Some(partition("ada").partition), ..Default::default() };
    let events = events(&engine, of_ada).await;
    let causes = events.iter().flat_map(|event| &event.items).map(|item| item.cause.as_str());
    assert_eq!(causes.filter(|cause| *cause == "PARTITION_SHREDDED").count(), 5, "on record");
    assert_eq!(engine.scrub().await.unwrap().report.findings(), 0);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_not_possible_is_refused_by_name_and_changes_nothing() {
    let (place, engine) = Place::with_key().await;
    seal(&engine, "ada", "1", "of ada").await.unwrap();
    seal(&engine, "", "1", "of nobody").await.unwrap();
    let with = |other: &dyn Fn(&mut PartitionChange)| {
        let mut change = partition("ada");
        other(&mut change);
        change
    };
    let cases: [(&str, PartitionChange); 6] = [
        ("KEY_NOT_FOUND", with(&|c| c.key = KeyName::parse("other").unwrap())),
        ("PARTITION_NOT_FOUND", with(&|c| c.partition = Partition::parse("bob").unwrap())),
        ("SHRED_WINDOW_INVALID", with(&|c| c.window = Some(DAY - Duration::from_secs(1)))),
        ("SHRED_WINDOW_INVALID", with(&|c| c.window = Some(91 * DAY))),
        ("DEFAULT_PARTITION_NOT_MEANT", with(&|c| c.partition = Partition::default())),
        ("DEFAULT_PARTITION_NOT_MEANT", with(&|c| c.default_partition = true)),
    ];
    for (reason, change) in cases {
        assert_eq!(shred(&engine, change).await, reason);
    }
    assert_eq!(shred(&engine, with(&|c| c.validate_only = true)).await, "OK");
    assert_eq!(restore(&engine, partition("ada")).await, "PARTITION_STATE_INVALID");
    assert_eq!(reopen(&engine, partition("ada")).await, "PARTITION_STATE_INVALID");
    assert_eq!(state(&engine, "ada").await, PartitionState::Open);
    let id = RequestId::parse("7b1f2a3c-0d4e-4f56-8a9b-0c1d2e3f4a5b").unwrap();
    let named = |window: Duration| {
        let mut change = with(&|c| c.request_id = id.clone());
        change.window = Some(window);
        change
    };
    let first = engine.shred_partition(&caller("ops"), named(DAY)).await.unwrap();
    let again = engine.shred_partition(&caller("ops"), named(DAY)).await.unwrap();
    assert!(first.receipt.is_some() && again.receipt.is_none());
    assert_eq!(first.partition, again.partition);
    assert_eq!(shred(&engine, named(2 * DAY)).await, "REQUEST_ID_REUSED");
    assert_eq!(shred(&engine, partition("ada")).await, "PARTITION_STATE_INVALID");
    assert_eq!(reopen(&engine, partition("ada")).await, "PARTITION_STATE_INVALID");
    // A clock that is set forward ends no window.
    place.clock.set(place.clock.now().plus(30 * DAY));
    engine.run_due().await;
    assert_eq!(state(&engine, "ada").await, PartitionState::Shredding);
    let mut default = partition("");
    default.default_partition = true;
    assert_eq!(shred(&engine, default).await, "OK");
    assert_eq!(why(seal(&engine, "", "2", "x").await), "PARTITION_SHREDDED");
    assert_eq!(restore(&engine, partition("")).await, "OK");
    assert_eq!(engine.measures().keys.partitions_shredding, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrapped_data_keys_leave_the_files_and_the_receipt_says_so() {
    // More than one transaction removes.
    const DATA_KEYS: usize = 45;
    let (place, engine) = Place::with_key().await;
    let (bob, _) = seal(&engine, "bob", "1", "of bob").await.unwrap();
    let mut sealed: Vec<Bytes> = Vec::new();
    for _ in 0..DATA_KEYS {
        engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
        sealed.push(seal(&engine, "ada", "1", "of ada").await.unwrap().0);
    }
    engine.stop().await.unwrap();
    drop(engine);
    let before = stored(&place, DATA_KEY).await;
    assert_eq!(before.len(), DATA_KEYS + 1);
    let engine = place.start().await;
    assert_eq!(shred(&engine, partition("ada")).await, "OK");
    assert_eq!(found(place.dir.path(), &before), before.len(), "until the window is over");
    place.clock.advance(7 * DAY);
    engine.run_due().await;
    let ops = caller("ops");
    let shown = engine.partition(&ops, &change("pii").key, &partition("ada").partition).await;
    let (view, receipt) = shown.unwrap();
    let erased = view.erased.unwrap();
    assert_eq!((view.state, view.data_keys), (PartitionState::Erased, 0));
    assert_eq!((erased.data_keys, erased.key_ids.len()), (DATA_KEYS as u64, DATA_KEYS));
    assert!(erased.left_the_files);
    for ciphertext in &sealed {
        assert_eq!(why(open(&engine, "ada", "1", ciphertext).await), "PARTITION_SHREDDED");
    }
    assert_eq!(open(&engine, "bob", "1", &bob).await.unwrap(), "of bob");
    check_receipt(&place, &engine, &receipt.signed().unwrap()).await;
    engine.stop().await.unwrap();
    drop(engine);
    assert_eq!(found(place.dir.path(), &before), 1, "that of the other partition");
    let after = stored(&place, DATA_KEY).await;
    assert_eq!(after.len(), 1, "of bob");
    assert!(before.contains(&after[0]));
}

async fn check_receipt(place: &Place, engine: &Engine, receipt: &str) {
    let document: serde_json::Value = serde_json::from_str(receipt).unwrap();
    let signed = document["receipt"].as_str().unwrap();
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    };
    let signature: [u8; 64] = bytes(document["signature"].as_str().unwrap()).try_into().unwrap();
    let key = std::fs::read_to_string(place.path("audit").join("log.pub")).unwrap();
    let key = verify::public_key(&key).unwrap();
    assert!(key.verify_statement(SHRED_RECEIPT, &[signed.as_bytes()], &signature));
    let altered = signed.replace("\"record\":", "\"record\":1");
    assert!(!key.verify_statement(SHRED_RECEIPT, &[altered.as_bytes()], &signature));
    assert!(!key.verify_statement("another", &[signed.as_bytes()], &signature));
    let statement: serde_json::Value = serde_json::from_str(signed).unwrap();
    let text = |name: &str| statement[name].as_str().unwrap();
    let r = bytes(text("r"));
    let stated = bytes(text("partition_sha256"));
    assert_eq!(stated, commitment(&r, &Partition::parse("ada").unwrap()));
    // Digits of hexadecimal may spell it.
    let mut words = signed.split(|letter: char| !letter.is_alphanumeric());
    assert!(words.all(|word| word != "ada"), "its name stands nowhere");
    // The record that it names is the last of this erasure.
    let erasures = events(engine, AuditQuery::default()).await;
    let mut erasures = erasures.iter().filter(|event| event.kind == Some(Kind::PartitionErased));
    assert_eq!(statement["record"].as_u64(), erasures.next().map(|event| event.index));
    assert!(erasures.next().is_some(), "one for each transaction");
}

/// Starts with a copy of the store beside it.
async fn start_copied(place: &Place) -> Engine {
    let copy = Some(CopyTarget::Directory(place.path("copy")));
    let settings = Settings { copy, ..place.settings() };
    Installation::new(settings, place.keyring()).start(place.clock.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_copy_of_the_store_cannot_be_looked_at_there_is_no_receipt() {
    let (place, engine) = Place::with_key().await;
    engine.stop().await.unwrap();
    drop(engine);
    std::fs::create_dir(place.path("copy")).unwrap();
    let mut engine = start_copied(&place).await;
    seal(&engine, "ada", "1", "of ada").await.unwrap();
    assert_eq!(shred(&engine, partition("ada")).await, "OK");
    place.clock.advance(7 * DAY);
    engine.run_due().await;
    for is_there in [true, false, true] {
        let (key, of) = (change("pii").key, partition("ada").partition);
        let (view, receipt) = engine.partition(&caller("ops"), &key, &of).await.unwrap();
        assert!(view.erased.unwrap().left_the_files);
        match receipt {
            ShredReceipt::Signed(receipt) => {
                assert!(is_there && receipt.contains("the copy of the store"), "{receipt}");
            }
            other => assert_eq!((is_there, other), (false, ShredReceipt::CopyPending)),
        }
        drop(engine.stop().await);
        drop(engine);
        let (from, to) = if is_there { ("copy", "away") } else { ("away", "copy") };
        std::fs::rename(place.path(from), place.path(to)).unwrap();
        engine = start_copied(&place).await;
    }
    drop(engine.stop().await);
}

/// Full segments of the log may be moved elsewhere. Then nothing signs what they said, and the
/// partition is shown all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_record_of_the_erasure_there_is_no_receipt_and_no_error() {
    let (place, engine) = Place::with_key().await;
    seal(&engine, "ada", "1", "of ada").await.unwrap();
    let shown = async || {
        let (key, of) = (change("pii").key, partition("ada").partition);
        let (view, receipt) = engine.partition(&caller("ops"), &key, &of).await.unwrap();
        (view.state, receipt)
    };
    assert_eq!(shown().await, (PartitionState::Open, ShredReceipt::NotErased));
    assert_eq!(shred(&engine, partition("ada")).await, "OK");
    place.clock.advance(7 * DAY);
    engine.run_due().await;
    let segments = || {
        let files =
            std::fs::read_dir(place.path("audit")).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect();
        files.sort();
        files
    };
    let first = segments().remove(0);
    // More than a segment of records.
    while segments().len() < 3 {
        engine.rotate_key(&caller("app"), change("pii")).await.err().unwrap();
    }
    assert!(matches!(shown().await, (PartitionState::Erased, ShredReceipt::Signed(_))));
    let moved = place.path("moved");
    std::fs::rename(&first, &moved).unwrap();
    assert_eq!(shown().await, (PartitionState::Erased, ShredReceipt::NotInLog));
    std::fs::rename(&moved, &first).unwrap();
    assert!(matches!(shown().await, (PartitionState::Erased, ShredReceipt::Signed(_))));
    engine.stop().await.unwrap();
}
